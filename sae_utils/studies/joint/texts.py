"""What two models activate at the same tokens: of a text, of the text with exchanged words, and of other documents.

In: a profile, the dictionaries of a replicate, which name models and hooks. Out: `Texts` in an arm; the same
dictionaries' own codes at these tokens.
Never: a training, a score.

Exchanged words still correspond one to one: where A reads a word, B always reads the same other word. Features of
single words keep a partner, those of classes lose theirs. At tokens of other documents nothing corresponds.

With one tokenizer a row is a token, with two the last token of a word that both end; `pipeline.positions` decides.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy import sparse

from sae_utils import pipeline, replicates
from sae_utils.engine.core.spec import Count, Spec
from sae_utils.engine.lms import batching, models
from sae_utils.engine.params import Profile
from sae_utils.engine.saes import activations, aligned, correlations
from sae_utils.store import Artefact, artefact

TRUE, EXCHANGED, APART = "same words", "words exchanged", "other documents"


class Sizes(Spec):
    """How many tokens of each text are read, the first ones; a split without that many gives all."""

    matching: Count  # that train, and choose partners
    held_out: Count  # that judge


class Texts(NamedTuple):
    """Activations of two models, an artefact of `activated` a reading; reading i of both has the same rows."""

    a: tuple[Artefact, ...]
    b: tuple[Artefact, ...]
    apart: bool = False  # B is at tokens of other documents

    def activations(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Both models (tokens, d) on the documents of a split, one reading after the other, float32.

        Raises ValueError for different numbers of readings or of tokens.
        """
        of_a, of_b = ([x.array(f"{split}/values") for x in own] for own in (self.a, self.b))
        if [len(x) for x in of_a] != [len(x) for x in of_b]:
            counts = " and ".join(str([len(x) for x in own]) for own in (of_a, of_b))
            raise ValueError(f"{counts} tokens of A and B by reading: give both models at the same tokens")
        if self.apart:
            of_b = [np.roll(x, len(x) // 2, axis=0) for x in of_b]
        return np.concatenate(of_a, dtype=np.float32), np.concatenate(of_b, dtype=np.float32)

    def classes(self, split: str) -> list[list[np.ndarray]]:
        """Of both models the class of every token by reading, -1 where it is unknown."""
        return [[x.array(f"{split}/classes") for x in own] for own in (self.a, self.b)]


@artefact
@torch.no_grad()
def activated(
    folder: Path, model: Artefact, hook: str, rows: Artefact, sites: Artefact, where: Artefact, side: aligned.Side,
    skip: int, sizes: Sizes,
) -> dict[str, Any]:  # fmt: skip
    """What a model activates at a hook at the first tokens of both splits: `matching/values`, `held_out/values`.

    float16 (tokens, d), and beside them the `classes` of the tokens, -1 where unknown. `where`: the sites of the rows,
    or the positions of which they are a side. Raises ValueError for a split without a token, ProfileError if an
    activation is beyond float16.
    """
    bridge = models.load(model)
    for split, most in sizes.model_dump().items():
        chosen = _places(where, sites, side, split)[:most]
        if not len(chosen):
            raise ValueError(f"no token of the {split} documents is compared: give the corpus more documents")
        last = sites.array("rows")[np.flatnonzero(correlations.in_split(sites, split))[chosen[-1]]]
        read = batching.rows_in(rows, split)
        windows = models.stream(bridge, rows, read[read <= last], [hook], skip, models.HALF)
        (folder / split).mkdir()
        classes = where.array("classes")[correlations.in_split(where, split)]
        np.save(folder / split / "classes.npy", classes[:most])
        with activations.Dense(folder / split) as out:
            for window in aligned.at_places(windows, chosen):
                out.append(window[hook])
    return {"hook": hook}


def _places(where: Artefact, sites: Artefact, side: aligned.Side, split: str) -> np.ndarray:
    """(positions of a split,) their numbers among the sites of the split."""
    if "sites_a" in where.meta:
        return aligned.places(where, sites, side, split)
    return np.arange(correlations.in_split(sites, split).sum())


def readings(run: Profile, names: Sequence[str]) -> list[int | None]:
    """The texts of a replicate: None is the text itself, a seed the text with exchanged words, where words can be."""
    return [None, replicates.seed(run, names[0])] if run.common.replicates else [None]


def arms(run: Profile) -> list[str]:
    """The arms of a profile: without `replicates` no words change places."""
    return [TRUE, EXCHANGED, APART] if run.common.replicates else [TRUE, APART]


def texts(run: Profile, names: Sequence[str], arm: str, sizes: Sizes) -> Texts:
    """What the models of two dictionaries activate at the dictionaries' hooks. Raises ValueError for another arm."""
    if arm not in arms(run):
        raise ValueError(f"no arm is called {arm!r}: one of {', '.join(arms(run))}")
    seeds = readings(run, names)
    a, b = (tuple(_activated(run, name, seed, sizes) for seed in seeds) for name in names)
    return Texts(a, b[::-1] if arm == EXCHANGED else b, arm == APART)


def _activated(run: Profile, name: str, seed: int | None, sizes: Sizes) -> Artefact:
    own = pipeline.reader(run, name)
    one, of, rows = pipeline.one_tokenizer(run), pipeline.origin(run.dictionaries, name).model, own.rows
    if seed is not None:
        rows = (pipeline.exchanged_rows if one else pipeline.read_rows)(run, of, seed)
    sites = activations.sites(rows, own.skip)
    where = sites if one else pipeline.positions(run, seed)
    assert where is not None
    side: aligned.Side = "a" if one else pipeline.side_of(run, name)
    return activated(own.model, own.hook, rows, sites, where, side, own.skip, sizes)


def own_sides(
    run: Profile, names: Sequence[str], arm: str, sizes: Sizes
) -> tuple[replicates.Side, replicates.Side]:  # fmt: skip
    """The two dictionaries' own codes at the same tokens as `texts`."""
    found = [[pipeline.features(run, name, seed) for seed in readings(run, names)] for name in names]
    a, b = (_cut(replicates.side(of), sizes.model_dump()) for of in found)
    blocks = {split: _in_arm(x, arm) for split, x in b.blocks.items()}
    return a, b._replace(blocks=blocks)


def _in_arm(blocks: Sequence[Any], arm: str) -> list[Any]:
    """Codes of B by reading, at the tokens that an arm puts beside those of A."""
    if arm != APART:
        return list(blocks[::-1] if arm == EXCHANGED else blocks)
    return [sparse.csr_array(sparse.vstack([x[-(x.shape[0] // 2) :], x[: -(x.shape[0] // 2)]])) for x in blocks]


def _cut(side: replicates.Side, sizes: Mapping[str, int]) -> replicates.Side:
    blocks, classes = (
        {split: [x[: sizes[split]] for x in of] for split, of in held.items()} for held in (side.blocks, side.classes)
    )
    return side._replace(blocks=blocks, classes=classes)
