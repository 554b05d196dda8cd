"""Correlations of two sets of activations, kept in the store for all notebooks that compare the two.

In: two artefacts of codes or neurons with the same sites, a split of the documents. Out: a `Correlation`.
Never: a whole matrix of features x features.
"""

import functools
from pathlib import Path
from typing import Any

import numpy as np

from sae_utils import correlate, store
from sae_utils.correlate import Block, Candidates, Correlation, Moments
from sae_utils.engine.kernels import sides
from sae_utils.engine.kernels.sides import Side
from sae_utils.engine.saes import activations
from sae_utils.engine.text import corpora
from sae_utils.store import Artefact, artefact


@artefact
def correlated(folder: Path, a: Artefact, b: Artefact, sites: Artefact, split: str, k: int) -> dict[str, Any]:
    """Moments and the `k` best candidates in both directions on the documents of `split`; k is cut to the features."""
    one, two = side(a, sites, split), side(b, sites, split)
    k = min(k, one.features, two.features)
    found = correlate.features(one, two, k=k, threads=store.threads(), device=store.device())
    for part in ("a", "b", "a_to_b", "b_to_a"):
        for field, values in getattr(found, part)._asdict().items():
            np.save(folder / f"{part}-{field}.npy", values)
    return {"k": k}


def in_split(sites: Artefact, split: str) -> np.ndarray:
    """Mask of the sites that are in documents of `split`: (tokens,)."""
    return np.asarray(sites.array("split") == corpora.SPLITS.index(split))


def side(stored: Artefact, sites: Artefact, split: str) -> Side:
    """Activations on the documents of `split`, prepared for correlations once in a process."""
    return _prepared(stored, sites, split)._replace(codes=activations.matrix(stored))


@functools.cache
def _prepared(stored: Artefact, sites: Artefact, split: str) -> Side:
    made = sides.prepare(activations.matrix(stored), _places(sites, split), stored.path.name)
    return made._replace(codes=np.empty((0, made.features)))  # the file would stay mapped


@functools.cache
def _places(sites: Artefact, split: str) -> np.ndarray:
    return np.flatnonzero(in_split(sites, split)).astype(np.int64)


def correlation(a: Artefact, b: Artefact, sites: Artefact, split: str, k: int) -> Correlation:
    """`correlate.features` of two artefacts on the documents of `split`, from the store."""
    kept = correlated(a, b, sites, split, k)
    arrays = {file.stem: np.array(kept.array(file.stem)) for file in kept.path.glob("*.npy")}

    @functools.cache
    def block() -> Block:  # prepared only when it is called, as that passes over both sides
        one, two = side(a, sites, split), side(b, sites, split)
        return correlate.blocks(one, two, threads=store.threads(), device=store.device())

    return Correlation(
        a=Moments(*(arrays[f"a-{field}"] for field in Moments._fields)),
        b=Moments(*(arrays[f"b-{field}"] for field in Moments._fields)),
        a_to_b=Candidates(*(arrays[f"a_to_b-{field}"] for field in Candidates._fields)),
        b_to_a=Candidates(*(arrays[f"b_to_a-{field}"] for field in Candidates._fields)),
        block=lambda rows=None, columns=None: block()(rows, columns),
    )
