"""What chance would give: rules that hold the rows of side a against other rows of side b.

In: labels of rows (strata, families, groups), or a function that repeats a selection. Out: a `Null` or a `Selection`
for `significance.test`. A null must leave alone what it does not test: shuffle one-to-one pairs, move families of
near-duplicates as wholes, keep strata, reassign groups of many-to-one pairs. Nothing here computes a score.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from sae_utils import arrays

Rng = np.random.Generator
RELATED = "hub size goes with geometry"
_REMEDY = "this null rejects too often; keep one pair of each hub"


class Null(NamedTuple):
    """A rule for drawing pairings.

    `name`: quoted beside every z and p. `draw(rng, m, n)`: int64 (m, n); row t of side a is held against row
    `draw[s, t]` of side b. `movable`: share of rows that can move. `uniform`: all
    permutations are equally likely, as closed-form moments need. `permutes`: False where rows of b may repeat.
    `caution(rows)`: what the rows (n, d) of side b say against the null's own assumption, "" for nothing.
    """

    name: str
    draw: Callable[[Rng, int, int], np.ndarray]
    movable: float = 1.0
    uniform: bool = False
    permutes: bool = True
    caution: Callable[[np.ndarray], str] = lambda rows: ""


class Selection(NamedTuple):
    """A null that repeats a whole selection: `select(rng)` returns paired rows (n, d_a), (n, d_b) chosen by chance."""

    name: str
    select: Callable[[Rng], tuple[np.ndarray, np.ndarray]]


def shuffled() -> Null:
    """Uniform permutations of the pairing: for one-to-one pairs whose rows are exchangeable."""

    def draw(rng: Rng, m: int, n: int) -> np.ndarray:
        return rng.permuted(np.tile(np.arange(n), (m, 1)), axis=1)

    return Null("shuffled pairing", draw, uniform=True)


def strata(labels: np.ndarray, *, name: str = "shuffled within strata") -> Null:
    """Permutations within strata: rows keep partners of their own label, such as firing frequency or top token.

    `labels` (n,): of side a's features, any sortable type. Strata of one row cannot move.
    Raises ValueError for no labels or missing ones.
    """
    rank = _ranks(labels)
    sizes = np.bincount(rank)
    order = np.argsort(rank, kind="stable")

    def draw(rng: Rng, m: int, n: int) -> np.ndarray:
        _expect(len(rank), n, name)
        index = np.empty((m, n), dtype=np.int64)
        for row in index:
            row[order] = np.lexsort((rng.random(n), rank))
        return index

    return Null(name, draw, float((sizes[rank] > 1).mean()))


def within_documents(document: np.ndarray) -> Null:
    """Permutations of token rows within documents, for activations: `document` (tokens,) int, nondecreasing.

    Permute the rows of one side's activations, match again, and hold the statistic against `significance.summarise`.
    Alone it takes for a relation that two features fire in runs; see `feature_matching.both_nulls`.
    """
    return strata(document, name="tokens permuted within documents")


def blocks(families: np.ndarray) -> Null:
    """Whole feature families change places with families of their own size; rows keep their order within.

    `families` (n,): label of every pair. Near-duplicates stay together, so that the families are the units tested.
    A family that alone has its size cannot move.
    """
    family = _ranks(families)
    sizes = np.bincount(family)
    order = np.argsort(family, kind="stable")
    starts = np.cumsum(sizes) - sizes
    offset = np.arange(len(family)) - np.repeat(starts, sizes)
    shuffle = strata(sizes)

    def draw(rng: Rng, m: int, n: int) -> np.ndarray:
        _expect(len(family), n, "shuffled in blocks of feature families")
        index = np.empty((m, n), dtype=np.int64)
        for row, moved in zip(index, shuffle.draw(rng, m, len(sizes)), strict=True):
            row[order] = order[np.repeat(starts[moved], sizes) + offset]
        return index

    alike = np.bincount(sizes)[sizes]
    return Null("shuffled in blocks of feature families", draw, float((alike[family] > 1).mean()))


def reassigned(groups: np.ndarray) -> Null:
    """For many-to-one pairs: all of A's features that share a feature of B are given another one of B's together.

    `groups` (n,): the feature of B in every pair; its rows on side b are equal. Shuffling rows instead would tear
    apart features of A that are alike because they chose the same partner, and report that as shared geometry.
    Unlike a permutation it changes how often a row of b occurs, so that side b is prepared anew in every draw.
    Holds only where the size of a group has nothing to do with where its row of b lies: of unrelated rows of which the
    larger groups lie further out, CKA rejects .83 at .10, and .98 where they lie to one side. `caution` tests that
    (`size_and_place`), and tells all of these, but only one in four where .28 are rejected.
    """
    group = _ranks(groups)
    first = np.unique(group, return_index=True)[1]

    def draw(rng: Rng, m: int, n: int) -> np.ndarray:
        _expect(len(group), n, "reassigned among groups")
        moved = rng.permuted(np.tile(first, (m, 1)), axis=1)
        return np.asarray(moved[:, group])

    def caution(rows: np.ndarray) -> str:
        p = size_and_place(np.bincount(group), rows[first])
        return f"{RELATED} (p = {p:.3f}): {_REMEDY}" if p <= 0.05 else ""

    return Null("reassigned among groups", draw, float(len(first) > 1), permutes=False, caution=caution)


def size_and_place(sizes: np.ndarray, rows: np.ndarray, *, m: int = 199) -> float:
    """p of "the size of a group has nothing to do with where its row lies": `sizes` (groups,), `rows` (groups, d).

    The squared covariance of log size with the centred rows and, of as much weight, with their distances from the
    mean row, against `m` shuffles of the sizes. 1 where all sizes are equal.
    """
    size, place = np.log(sizes), np.asarray(rows, np.float64)
    place = place - place.mean(axis=0)
    distance = np.linalg.norm(place, axis=1, keepdims=True)
    blocks = [x / max(float(np.linalg.norm(x)), 1e-12) for x in (place, distance - distance.mean())]
    shuffled_sizes = np.random.default_rng(0).permuted(np.tile(size - size.mean(), (m + 1, 1)), axis=1)
    shuffled_sizes[0] = size - size.mean()
    found = (shuffled_sizes @ np.hstack(blocks)) ** 2
    return float(np.mean(found.sum(axis=1) >= found[0].sum() * (1 - 1e-9)))


def one_per_group(groups: np.ndarray, *, seed: int) -> np.ndarray:
    """Rows, sorted, that keep one pair of every group, drawn at random: the one-to-one part of many-to-one pairs."""
    group = _ranks(groups)
    order = arrays.generator(seed).permutation(len(group))
    return np.sort(order[np.unique(group[order], return_index=True)[1]])


def _ranks(labels: np.ndarray) -> np.ndarray:
    labels = arrays.plain(labels, "labels")
    if labels.ndim != 1 or len(labels) == 0:
        raise ValueError(f"labels of shape {labels.shape} make no strata: give one label a row, (n,)")
    missing = labels != labels if labels.dtype.kind == "f" else np.array([v is None or v != v for v in labels.flat])
    if missing.any():
        raise ValueError(f"{int(missing.sum())} of {len(labels)} labels are missing: label every row, or drop it")
    return np.unique(labels, return_inverse=True)[1].astype(np.int64)


def _expect(labels: int, n: int, name: str) -> None:
    if labels != n:
        raise ValueError(f"the null {name!r} was built from {labels} labels, but there are {n} rows: label every row")
