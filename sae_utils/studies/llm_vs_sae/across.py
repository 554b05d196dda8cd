"""Correlations of the neurons of two models with different tokenizers, summed while the models run.

In: two models, each with its own rows of tokens; the positions that they share. Out: as `crossed`, over positions.
Never: a stored activation; a token that ends no word in both.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from sae_utils import pipeline
from sae_utils.engine.lms import batching, models
from sae_utils.engine.params import Profile
from sae_utils.engine.saes import activations, aligned, correlations
from sae_utils.store import Artefact, artefacts
from sae_utils.studies.llm_vs_sae import crossed
from sae_utils.studies.llm_vs_sae.crossed import SPLITS, Hooks, Sums


class Read(NamedTuple):
    """What one model reads on each text: its rows, and their tokens as sites; and its side of the positions."""

    rows: list[Artefact]
    sites: list[Artefact]
    side: aligned.Side


def read(profile: Profile, name: str, readings: Sequence[int | None]) -> Read:
    """What the model of a dictionary reads; `readings`: seeds of exchanged words, None for the text itself."""
    of = pipeline.origin(profile.dictionaries, name).model
    rows = [pipeline.read_rows(profile, of, exchanged) for exchanged in readings]
    return Read(rows, [activations.sites(x, profile.common.skip) for x in rows], pipeline.side_of(profile, name))


def windows(
    bridge: Any, x: Read, number: int, positions: Artefact, split: str, hooks: Sequence[str], skip: int
) -> Iterator[dict[str, torch.Tensor]]:
    """Activations at the positions in documents of a split, `aligned.CHUNK` at a time; `number` is that of the text."""
    chosen = batching.rows_in(x.rows[number], split)
    stream = models.stream(bridge, x.rows[number], chosen, list(dict.fromkeys(hooks)), skip, label="neurons")
    return aligned.at_places(stream, aligned.places(positions, x.sites[number], x.side, split))


def first(bridge: Any, x: Read, positions: Artefact, hook: str, skip: int, rows: int) -> dict[str, torch.Tensor]:
    """Activations at the positions in the first matching rows of side A; both sides give the same positions."""
    own = positions.array("rows")[correlations.in_split(positions, "matching")]
    count = int(np.isin(own, np.unique(own)[:rows]).sum())
    chosen = batching.rows_in(x.rows[0], "matching")
    places = aligned.places(positions, x.sites[0], x.side, "matching")[:count]
    stream = models.stream(bridge, x.rows[0], chosen, [hook], skip)
    return next(aligned.at_places(stream, places, count))


@artefacts
@torch.no_grad()
def correlated(
    folders: dict[Hooks, Path], a: Artefact, b: Artefact, read_a: Read, read_b: Read, positions: Sequence[Artefact],
    skip: int,
) -> Iterator[tuple[Hooks, dict[str, Any]]]:  # fmt: skip
    """`crossed.crossed` at positions that two models share, on the text and perhaps with words exchanged."""
    bridges = models.load(a), models.load(b)
    sums = [_summed(list(folders), bridges, (read_a, read_b), positions, split, skip) for split in SPLITS]
    for hooks, folder in folders.items():
        crossed.save(folder, [of[hooks] for of in sums])
        yield hooks, {"arms": len(positions)}


def _summed(
    pairs: list[Hooks], bridges: tuple[Any, Any], sides: tuple[Read, Read], positions: Sequence[Artefact], split: str,
    skip: int,
) -> dict[Hooks, Sums]:  # fmt: skip
    streams = [
        windows(bridge, side, number, where, split, hooks, skip)
        for bridge, side, hooks in zip(bridges, sides, zip(*pairs, strict=True), strict=True)
        for number, where in enumerate(positions)
    ]
    return crossed.summed(pairs, streams, crossed.content(positions[0], split))
