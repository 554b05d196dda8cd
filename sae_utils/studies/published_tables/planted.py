"""Two models with SAEs that were never trained, because all about them was planted: who is whose partner, and whether
partners are arranged alike.

In: a world of `synthetic`, which gives the paired directions; sizes. Out: `ladder.Sides`, and the true partners.
Never: a model, a store.

Words express concepts; either model writes each concept along a direction of its own, more concepts than dimensions.
Its SAE holds the true directions of most of them. The input of the block holds the same concepts along other
directions. At the beginning of sequence and at padding all activations are one large vector.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse
from tqdm import tqdm

from sae_utils.engine.core.spec import Count, Rate, Spec
from sae_utils.engine.pairing.directions import unit
from sae_utils.matching import Pairs
from sae_utils.store import artefact
from sae_utils.studies.known_truth.synthetic import World
from sae_utils.studies.published_tables import ladder, views
from sae_utils.studies.published_tables.ladder import Sides

SPECIAL = ("<pad>", "<bos>", ".")
THRESHOLD = 0.1  # taken off before the ReLU
MASSIVE = 8.0  # length of the activations at beginning of sequence and padding, where a concept has about 1
TURNED = 0.6  # cosine of a concept's direction at the input of the block with that at its output
NOISE = 0.3  # length of what is in activations beside concepts


class Sizes(Spec):
    """How large a planted pair is."""

    concepts: Count
    """directions in either model"""
    kept: Rate
    """share of them in either SAE; the rest has no feature"""
    words: Count
    expressed: Count
    """concepts a word expresses, and features active at a token after TopK"""
    documents: Count
    length: Count
    """of the longest document, beginning of sequence included"""
    d_a: Count
    d_b: Count


class PlantedPair(NamedTuple):
    """A planted pair."""

    sides: Sides
    partner: np.ndarray
    """(features_a,) the true partner of every feature of A, -1 where B has none"""

    def true(self, pairs: Pairs) -> float:
        """Share of the pairs that were planted; NaN of none."""
        return float(np.mean(self.partner[pairs.a] == pairs.b)) if len(pairs.a) else np.nan


class Text(NamedTuple):
    """PlantedPair tokens, every array (positions,)."""

    tokens: np.ndarray
    documents: np.ndarray
    inside: np.ndarray
    """neither beginning of sequence nor padding"""


def draw(world: World, sizes: Sizes, top: int, seed: int) -> PlantedPair:
    """A planted pair whose partners are arranged as `world` says; features have `top` top tokens."""
    rng = np.random.default_rng(seed)
    text = _text(rng, sizes)
    express = _expressed(rng, sizes)[text.tokens]
    express.data *= rng.lognormal(sigma=0.3, size=express.nnz)
    directions = world.draw(rng, sizes.concepts, sizes.d_a, sizes.d_b)
    number = int(sizes.kept * sizes.concepts)
    held_a, held_b = (rng.permutation(sizes.concepts)[:number] for _ in range(2))
    a = _codes(rng, unit(directions.a), held_a, text, express, sizes.expressed)
    b = _codes(rng, unit(directions.b), held_b, text, express, sizes.expressed)
    everywhere, inside = np.arange(len(text.tokens)), np.flatnonzero(text.inside)
    seen = {
        step: views.see(a[of], b[of], at, text.tokens, text.documents, top)
        for step, of, at in (
            (ladder.PUBLISHED, ladder.MASK, everywhere),
            (ladder.MASK, ladder.MASK, inside),
            (ladder.HOOK, ladder.HOOK, inside),
            (ladder.CODES, ladder.CODES, inside),
        )
    }
    words = [*SPECIAL, *(f"w{number}" for number in range(len(SPECIAL), sizes.words))]
    place = np.full(sizes.concepts, -1)
    place[held_b] = np.arange(number)
    return PlantedPair(Sides(seen, words, (unit(directions.a)[held_a], unit(directions.b)[held_b])), place[held_a])


def _codes(
    rng: np.random.Generator, output: np.ndarray, held: np.ndarray, text: Text, express: sparse.csr_array, k: int
) -> dict[str, sparse.csr_array]:
    """Codes of one model's SAE at every position: at the wrong hook, at the right one, and after TopK."""
    before = unit(TURNED * output + np.sqrt(1 - TURNED**2) * unit(rng.normal(size=output.shape)))
    constant = MASSIVE * unit(rng.normal(size=(1, output.shape[1])))
    found = []
    for along in (before, output):
        noise = NOISE / np.sqrt(output.shape[1]) * rng.normal(size=(len(text.tokens), output.shape[1]))
        x = np.where(text.inside[:, None], express @ along, constant) + noise
        found.append(np.maximum(x @ output[held].T - THRESHOLD, 0).astype(np.float32))
    least = np.partition(found[1], -k, axis=1)[:, -k][:, None]
    found.append(np.where(found[1] >= least, found[1], 0))
    return dict(zip((ladder.MASK, ladder.HOOK, ladder.CODES), map(sparse.csr_array, found), strict=True))


@artefact
def repeated(
    folder: Path,
    world: World,
    sizes: Sizes,
    tokens: list[str],
    top: int,
    least_r: float,
    draws: int,
    permutations: int,
    repeats: int,
    seed: int,
) -> dict[str, Any]:
    """Ladders of `repeats` planted pairs: how often the p of each step is below 0.05.

    `found`: score ("SVCCA", "RSA") -> step -> [times below, times scored], p as the step reports it.
    """
    found: dict[str, dict[str, list[int]]] = {
        name: {step: [0, 0] for step in ladder.STEPS if step != ladder.EXCESS} for name in ("SVCCA", "RSA")
    }
    for repeat in tqdm(range(repeats), "planted pairs", leave=False):
        number = seed + 1 + repeat
        settings = ladder.Settings(tokens, top, least_r, draws, permutations, number)
        for rung in ladder.climb(draw(world, sizes, top, number).sides, settings):
            for measure, x in rung.scores.items():
                if rung.step != ladder.EXCESS:  # the p of the step before
                    count = found["RSA" if measure == ladder.RSA else "SVCCA"][rung.step]
                    count[0] += x.p < 0.05
                    count[1] += 1
    return {"found": found}


def _text(rng: np.random.Generator, sizes: Sizes) -> Text:
    """Documents of different length, padded; words by Zipf's law, the full stop the most frequent."""
    frequency = 1 / np.arange(1, sizes.words - 1)  # all but <pad> and <bos>
    shape = sizes.documents, sizes.length
    tokens = rng.choice(np.arange(2, sizes.words), size=shape, p=frequency / frequency.sum())
    place, lengths = np.arange(sizes.length), rng.integers(sizes.length // 2, sizes.length + 1, sizes.documents)
    tokens[:, 0], tokens[place >= lengths[:, None]] = 1, 0
    tokens = tokens.ravel()
    return Text(tokens, np.repeat(np.arange(sizes.documents), sizes.length), tokens > 1)


def _expressed(rng: np.random.Generator, sizes: Sizes) -> sparse.csr_array:
    """Which concepts a word expresses: (words, concepts)."""
    concepts = np.argsort(rng.random((sizes.words, sizes.concepts)), axis=1)[:, : sizes.expressed]
    word = np.repeat(np.arange(sizes.words), sizes.expressed)
    return sparse.csr_array((np.ones(len(word)), (word, concepts.ravel())), (sizes.words, sizes.concepts))
