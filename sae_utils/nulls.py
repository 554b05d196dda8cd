"""Nulls: rules that pair the rows of two sides at random.

In: labels of rows (strata, families, groups), or a function that repeats a selection. Out: a `Null` or a `Selection`
for `significance.test`. A null must break only what it tests: shuffle one-to-one pairs, exchange families of
near-duplicates as a block, keep strata, reassign the groups of many-to-one pairs. This module computes no scores.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sae_utils import arrays

LEVEL = 0.05  # of tests
Rng = np.random.Generator
Ints = NDArray[np.int64]
RELATED = "hub size goes with geometry"
_REMEDY = "this null rejects too often; keep one pair of each hub"


class Null(NamedTuple):
    """A rule for drawing pairings.

    `name`: printed with every z and p. `draw(rng, m, n)`: int64 (m, n); row t of side a is paired with row
    `draw[s, t]` of side b. `movable`: share of rows that can move. `uniform`: all permutations are equally likely, as
    closed-form moments need. `permutes`: False where rows of b may repeat. `caution(rows)`: a note where the rows
    (n, d) of side b contradict the assumption of the null, else "".
    """

    name: str
    draw: Callable[[Rng, int, int], Ints]
    movable: float = 1.0
    uniform: bool = False
    permutes: bool = True
    caution: Callable[[np.ndarray], str] = lambda rows: ""


class Selection(NamedTuple):
    """A null that repeats the selection: `select(rng)` returns paired rows (n, d_a), (n, d_b) chosen at random."""

    name: str
    select: Callable[[Rng], tuple[np.ndarray, np.ndarray]]


def permutations(rng: Rng, m: int, n: int) -> Ints:
    """Uniform permutations of n, one a row (m, n); several calls draw the same ones as one call."""
    return rng.permuted(np.tile(np.arange(n), (m, 1)), axis=1)


def shuffled() -> Null:
    """Uniform permutations of the pairing: for one-to-one pairs whose rows are exchangeable."""
    return Null("shuffled pairing", permutations, uniform=True)


def strata(labels: np.ndarray, *, name: str = "shuffled within strata") -> Null:
    """Permutations within strata: rows keep partners of their own label, such as firing frequency or top token.

    `labels` (n,): of side a's features, any sortable type. A row without another in its stratum cannot move.
    Raises ValueError for no labels or missing ones.
    """
    rank, sizes = _ranked(labels)
    order = np.argsort(rank, kind="stable")

    def draw(rng: Rng, m: int, n: int) -> Ints:
        _check_length(len(rank), n, name)
        index = np.empty((m, n), dtype=np.int64)
        for row in index:
            row[order] = np.lexsort((rng.random(n), rank))
        return index

    return Null(name, draw, float((sizes[rank] > 1).mean()))


def within_documents(document: np.ndarray) -> Null:
    """Permutations of token rows within documents, for activations: `document` (tokens,) int, nondecreasing.

    Permute the rows of one side's activations, match again, and pass the statistics to `significance.summarise`.
    Used alone, it mistakes features that fire in runs for related ones; see `feature_matching.both_nulls`.
    """
    return strata(document, name="tokens permuted within documents")


def blocks(families: np.ndarray) -> Null:
    """Feature families change places, as blocks, with families of their own size; rows keep their order within.

    `families` (n,): label of every pair. Near-duplicates stay together, so that the families are the units tested.
    A family cannot move if no other has its size.
    """
    name = "shuffled in blocks of feature families"
    family, sizes = _ranked(families)
    order = np.argsort(family, kind="stable")
    starts = np.cumsum(sizes) - sizes
    offset = np.arange(len(family)) - np.repeat(starts, sizes)
    of_sizes = strata(sizes)

    def draw(rng: Rng, m: int, n: int) -> Ints:
        _check_length(len(family), n, name)
        index = np.empty((m, n), dtype=np.int64)
        for row, moved in zip(index, of_sizes.draw(rng, m, len(sizes)), strict=True):
            row[order] = order[np.repeat(starts[moved], sizes) + offset]
        return index

    same_size = np.bincount(sizes)[sizes]
    return Null(name, draw, float((same_size[family] > 1).mean()))


def reassigned(groups: np.ndarray) -> Null:
    """For many-to-one pairs: all features of A that share a partner are given another feature of B together.

    `groups` (n,): the feature of B in every pair; its rows on side b are equal. Shuffling rows instead would separate
    features of A that are alike because they chose the same partner, and report that as shared geometry.
    Unlike a permutation it changes how often a row of b occurs, so that side b is prepared anew in every draw.
    It is valid only where the size of a group is unrelated to where its row of b lies: of unrelated rows of which the
    larger groups lie further out, CKA rejects .83 at .10, and .98 where they lie to one side. `caution` tests that by
    `size_and_place`; it notes all of these cases, but only one in four where .28 are rejected.
    """
    group, sizes = _ranked(groups)
    first = np.unique(group, return_index=True)[1]

    def draw(rng: Rng, m: int, n: int) -> Ints:
        _check_length(len(group), n, "reassigned among groups")
        return first[permutations(rng, m, len(first))][:, group]

    def caution(rows: np.ndarray) -> str:
        p = size_and_place(sizes, rows[first])
        return f"{RELATED} (p = {p:.3f}): {_REMEDY}" if p <= LEVEL else ""

    return Null("reassigned among groups", draw, float(len(first) > 1), permutes=False, caution=caution)


def size_and_place(sizes: np.ndarray, rows: np.ndarray, *, m: int = 199) -> float:
    """p of the hypothesis that the size of a group is unrelated to where its row lies; 1 where all sizes are equal.

    `sizes` (groups,), `rows` (groups, d). The statistic adds the squared covariances of log size with the centred rows
    and with their distances from the mean row, both of norm 1; `m` shuffles of the sizes make its null.
    """
    place = np.asarray(rows, np.float64)
    place = place - place.mean(axis=0)
    distance = np.linalg.norm(place, axis=1, keepdims=True)
    traits = [x / max(float(np.linalg.norm(x)), 1e-12) for x in (place, distance - distance.mean())]
    size = np.log(sizes)
    size = size - size.mean()
    moved = size[permutations(np.random.default_rng(0), m + 1, len(size))]
    moved[0] = size
    found = ((moved @ np.hstack(traits)) ** 2).sum(axis=1)
    return float(np.mean(found >= found[0] * (1 - 1e-9)))


def _ranked(labels: np.ndarray) -> tuple[Ints, Ints]:
    """Rank of every row's label (n,), and how many rows have each label."""
    labels = arrays.plain(labels, "labels")
    if labels.ndim != 1 or len(labels) == 0:
        raise ValueError(f"labels of shape {labels.shape} make no strata: give one label a row, (n,)")
    missing = labels != labels if labels.dtype.kind == "f" else np.array([v is None or v != v for v in labels.flat])
    if missing.any():
        raise ValueError(f"{int(missing.sum())} of {len(labels)} labels are missing: label every row, or drop it")
    rank = np.unique(labels, return_inverse=True)[1].astype(np.int64)
    return rank, np.bincount(rank)


def _check_length(labels: int, n: int, name: str) -> None:
    if labels != n:
        raise ValueError(f"the null {name!r} was built from {labels} labels, but there are {n} rows: label every row")
