"""Two models whose SAEs were planted, not trained: the true partners are known, and whether they are arranged alike.

In: a world of `synthetic`, which gives the paired directions; sizes. Out: `views.Sides`, and the true partners.
Never: a model.

Words express concepts. Each model has one direction for each concept, and more concepts than
dimensions. Its SAE holds the true directions of most concepts. The input of the block holds the same concepts along
other directions. At the beginning of sequence and at padding all activations are one large vector.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import sparse

from sae_utils.arrays import unit
from sae_utils.engine.core.progress import tqdm
from sae_utils.engine.core.spec import Count, Rate, Spec
from sae_utils.inference import LEVEL
from sae_utils.matching import Pairs
from sae_utils.store import artefact
from sae_utils.studies.known_truth.synthetic import World
from sae_utils.studies.published_tables import ladder, views
from sae_utils.studies.published_tables.views import CODES, HOOK, MASK, PUBLISHED, Sides

SPECIAL = ("<pad>", "<bos>", ".")
THRESHOLD = 0.1  # subtracted before the ReLU
MASSIVE = 8.0  # length of the activations at beginning of sequence and padding, where a concept has about 1
INPUT_COSINE = 0.6  # of a concept's direction at the input of the block with that at its output
NOISE = 0.3  # length of the noise in activations


class Sizes(Spec):
    """Sizes of a planted pair."""

    concepts: Count  # directions in either model
    kept: Rate  # share of them that has a feature in either SAE
    words: Count
    expressed: Count  # concepts that a word expresses, and features active at a token after TopK
    documents: Count
    length: Count  # of the longest document, beginning of sequence included
    d_a: Count
    d_b: Count


class PlantedPair(NamedTuple):
    """Two planted sides."""

    sides: Sides
    partner: np.ndarray  # (features_a,) the true partner of every feature of A, -1 where B has none

    def true(self, pairs: Pairs) -> float:
        """Share of the pairs that were planted; NaN without pairs."""
        return float(np.mean(self.partner[pairs.a] == pairs.b)) if len(pairs) else np.nan


class Text(NamedTuple):
    """Planted tokens, every array (positions,)."""

    tokens: np.ndarray
    documents: np.ndarray
    inside: np.ndarray  # neither beginning of sequence nor padding


def draw(world: World, sizes: Sizes, top: int, seed: int) -> PlantedPair:
    """A planted pair whose partners are arranged as `world` says; features have `top` top tokens."""
    rng = np.random.default_rng(seed)
    text = _text(rng, sizes)
    express = _expressed(rng, sizes)[text.tokens]
    express.data *= rng.lognormal(sigma=0.3, size=express.nnz)
    directions = world.draw(rng, sizes.concepts, sizes.d_a, sizes.d_b)
    rows_a, rows_b = unit(directions.a), unit(directions.b)
    number = int(sizes.kept * sizes.concepts)
    held_a, held_b = (rng.permutation(sizes.concepts)[:number] for _ in range(2))
    a = _codes(rng, rows_a, held_a, text, express, sizes.expressed)
    b = _codes(rng, rows_b, held_b, text, express, sizes.expressed)
    seen = {}
    for name, codes, inside in ((PUBLISHED, MASK, False), (MASK, MASK, True), (HOOK, HOOK, True), (CODES, CODES, True)):
        at = np.flatnonzero(text.inside) if inside else np.arange(len(text.tokens))
        seen[name] = views.view(a[codes], b[codes], at, text.tokens, text.documents, top)
    words = [*SPECIAL, *(f"w{number}" for number in range(len(SPECIAL), sizes.words))]
    place = np.full(sizes.concepts, -1)
    place[held_b] = np.arange(number)
    return PlantedPair(Sides(seen, words, (rows_a[held_a], rows_b[held_b])), place[held_a])


def _codes(
    rng: np.random.Generator, output: np.ndarray, held: np.ndarray, text: Text, express: sparse.csr_array, k: int
) -> dict[str, sparse.csr_array]:
    """Codes of one SAE at every position: from the block's input, from its output, and after TopK."""
    before = unit(INPUT_COSINE * output + np.sqrt(1 - INPUT_COSINE**2) * unit(rng.normal(size=output.shape)))
    constant = MASSIVE * unit(rng.normal(size=(1, output.shape[1])))
    found = []
    for along in (before, output):
        noise = NOISE / np.sqrt(output.shape[1]) * rng.normal(size=(len(text.tokens), output.shape[1]))
        x = np.where(text.inside[:, None], express @ along, constant) + noise
        found.append(np.maximum(x @ output[held].T - THRESHOLD, 0).astype(np.float32))
    least = np.partition(found[1], -k, axis=1)[:, -k][:, None]
    found.append(np.where(found[1] >= least, found[1], 0))
    return dict(zip((MASK, HOOK, CODES), map(sparse.csr_array, found), strict=True))


@artefact
def repeated(folder: Path, world: World, sizes: Sizes, settings: ladder.Settings, repeats: int) -> dict[str, Any]:
    """Ladders of `repeats` planted pairs, with the seeds after that of the settings: how often p is below LEVEL.

    `found`: score ("SVCCA", "RSA") -> step -> [times below, times scored], by the p that the step reports. The step
    that shows the excess is left out, because its p is that of the step before.
    """
    steps = [step for step in ladder.STEPS if step != ladder.EXCESS]
    found = {name: {step: [0, 0] for step in steps} for name in ("SVCCA", "RSA")}
    for repeat in tqdm(range(1, repeats + 1), "planted pairs", leave=False):
        mine = settings.model_copy(update={"seed": settings.seed + repeat})
        sides = draw(world, sizes, mine.top, mine.seed).sides
        for step in steps:
            for measure, x in ladder.rung(sides, step, mine).scores.items():
                count = found["RSA" if measure == ladder.RSA else "SVCCA"][step]
                count[0] += x.p < LEVEL
                count[1] += 1
    return {"found": found}


def rates(found: Mapping[str, Mapping[str, Sequence[int]]]) -> pd.DataFrame:
    """`repeated`, one row a step and one column a score: "times below of times scored"."""
    rows = [
        {"step": f"{number} {step}"}
        | {name: "too few pairs" if not times[step][1] else f"{times[step][0]} of {times[step][1]}"
           for name, times in found.items()}
        for number, step in enumerate(ladder.STEPS) if step in found["RSA"]
    ]  # fmt: skip
    return pd.DataFrame(rows)


def _text(rng: np.random.Generator, sizes: Sizes) -> Text:
    """Documents of several lengths, padded; words by Zipf's law, the full stop the most frequent."""
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
