"""Local measures: whether paired rows have the same nearest neighbours.

In: rows. Out: overlaps of neighbour lists, second-order cosines, the spectral distance of neighbour graphs.
Neighbours are by cosine. A row is never its own neighbour; where the last places are tied (equal rows), the tied
rows share them equally, so that the stored order does not matter. This module never draws permutations.
"""

from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import numba
import numpy as np
from scipy.sparse import csr_array

from sae_utils import arrays
from sae_utils.engine.geometry import moments
from sae_utils.engine.geometry.moments import Moments
from sae_utils.engine.geometry.registry import FEWEST, NEIGHBOURS, Batched, Family, Floats, Measure, Undefined
from sae_utils.engine.geometry.relational import nearness, unit_rows

_TIE = 1e-12  # neighbours whose nearness differs by less are equally near
_TIES = 100  # places that ties may add however few the rows
_BLOCK_BYTES = 1 << 26


class NeighbourSide(NamedTuple):
    """Nearest neighbours of every row.

    `near` (n, width) int64: their rows; `weight` (n, width): 1, a share of the last places where they are tied, 0 for
    padding; every row sums to k. `k`: neighbours asked for. `cosine` (n, n): similarities, (0, 0) unless asked for.
    """

    near: np.ndarray
    weight: np.ndarray
    k: int
    cosine: np.ndarray


def side(rows: np.ndarray, k: int, *, keep_cosines: bool = False) -> NeighbourSide:
    """Neighbour lists of `rows` (n, d); O(n^2 d), memory O(n k), with `keep_cosines` O(n^2).

    Raises Undefined unless n > k >= 1, for rows of zero, and where ties make lists of over n / 2.
    """
    n = len(arrays.rows(rows, "rows"))
    if not 1 <= arrays.count(k, "k") < n:
        raise Undefined(f"n = {n} rows, k = {k} neighbours: k must be at least 1 and below n")
    close, half = nearness(rows)
    height = max(1, _BLOCK_BYTES // (8 * n))
    found = [_nearest(close, half, start, height, k) for start in range(0, n, height)]
    width = max(index.shape[1] for index, _ in found)
    if width > max(n // 2, k + _TIES):
        raise Undefined(
            f"ties: some row has {width} equally near neighbours among n = {n} rows for k = {k}; drop equal rows first"
        )
    index, weight = (
        np.concatenate([np.pad(part, ((0, 0), (0, width - part.shape[1]))) for part in parts])
        for parts in zip(*found, strict=True)
    )
    unit = unit_rows(rows, "cosine") if keep_cosines else np.zeros((0, 0))
    return NeighbourSide(index, weight, k, unit @ unit.T)


def _nearest(close: np.ndarray, half: np.ndarray, start: int, height: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Neighbours (height, width) and weights of a block of rows, nearest first; see `relational.nearness`."""
    block = close[start : start + height]
    near = block @ close.T - half
    near[np.arange(len(block)), np.arange(start, start + len(block))] = -np.inf
    last = np.partition(near, -k, axis=1)[:, [-k]]
    width = int((near >= last - _TIE).sum(1).max())
    index = np.argpartition(near, -width, axis=1)[:, -width:]
    values = np.take_along_axis(near, index, 1)
    order = np.argsort(-values, axis=1, kind="stable")
    index, values = np.take_along_axis(index, order, 1), np.take_along_axis(values, order, 1)
    nearer, tied = values > last + _TIE, np.abs(values - last) <= _TIE
    return index, nearer + tied * ((k - nearer.sum(1, keepdims=True)) / tied.sum(1, keepdims=True))


def _overlap_cross(a: NeighbourSide, b: NeighbourSide, permutations: np.ndarray) -> np.ndarray:
    """Overlaps (2, batch, n) of every row's two lists: sum of products, and of minima, of the weights."""
    return _overlaps(a.near, a.weight, b.near, b.weight, permutations)


@numba.njit(cache=True, nogil=True)
def _overlaps(
    near_a: np.ndarray, weight_a: np.ndarray, near_b: np.ndarray, weight_b: np.ndarray, permutations: np.ndarray
) -> np.ndarray:
    m, n = permutations.shape
    found = np.zeros((2, m, n), weight_a.dtype)
    weight, row = np.zeros(n, weight_a.dtype), np.empty(n, np.int64)
    for s in range(m):
        p = permutations[s]
        for i in range(n):
            row[p[i]] = i  # rows of b by the rows of a that they are paired with
        for i in range(n):
            for place in range(near_a.shape[1]):
                weight[near_a[i, place]] += weight_a[i, place]
            for place in range(near_b.shape[1]):
                ours, theirs = weight[row[near_b[p[i], place]]], weight_b[p[i], place]
                found[0, s, i] += ours * theirs
                found[1, s, i] += min(ours, theirs)
            for place in range(near_a.shape[1]):
                weight[near_a[i, place]] = 0
    return found


def _mutual(a: NeighbourSide, b: NeighbourSide, overlaps: np.ndarray, _: np.ndarray) -> np.ndarray:
    return np.asarray(overlaps[0].mean(-1) / a.k)


def _jaccard(a: NeighbourSide, b: NeighbourSide, overlaps: np.ndarray, _: np.ndarray) -> np.ndarray:
    return np.asarray((overlaps[1] / (a.k + b.k - overlaps[1])).mean(-1))


def _second_order_cross(a: NeighbourSide, b: NeighbourSide, permutations: np.ndarray) -> np.ndarray:
    """Mean second-order cosine (batch,): of the two rows of cosines to all neighbours on either side."""
    return _second_order(a.near, a.weight, a.cosine, b.near, b.weight, b.cosine, permutations)


@numba.njit(cache=True, nogil=True)
def _second_order(
    near_a: np.ndarray, weight_a: np.ndarray, cosine_a: np.ndarray, near_b: np.ndarray, weight_b: np.ndarray,
    cosine_b: np.ndarray, permutations: np.ndarray,
) -> np.ndarray:  # fmt: skip
    m, n = permutations.shape
    found = np.zeros(m)
    row, seen = np.empty(n, np.int64), np.full(n, -1)
    for s in range(m):
        p = permutations[s]
        for i in range(n):
            row[p[i]] = i
        for i in range(n):
            inner, square_a, square_b = 0.0, 0.0, 0.0
            for place in range(near_a.shape[1] + near_b.shape[1]):
                if place < near_a.shape[1]:
                    j, weight = near_a[i, place], weight_a[i, place]
                else:
                    other = place - near_a.shape[1]
                    j, weight = row[near_b[p[i], other]], weight_b[p[i], other]
                if weight > 0 and seen[j] != s * n + i:  # a neighbour of both sides counts once
                    seen[j] = s * n + i
                    x, y = cosine_a[i, j], cosine_b[p[i], p[j]]
                    inner += x * y
                    square_a += x * x
                    square_b += y * y
            found[s] += inner / np.sqrt(max(square_a * square_b, 1e-16)) / n
    return found


def _as_graph(side: NeighbourSide) -> csr_array:
    """The weighted directed neighbour graph (n, n)."""
    n, width = side.near.shape
    graph = csr_array((side.weight.ravel(), side.near.ravel(), np.arange(0, n * width + 1, width)), (n, n), copy=True)
    graph.sum_duplicates()
    graph.eliminate_zeros()
    return graph


def imd(a: np.ndarray, b: np.ndarray, *, k: int = 5) -> float:
    """Intrinsic multi-scale distance of two sets of rows, which need no pairing (Tsitsulin et al. 2020).

    `max_t exp(-2 (t + 1/t)) |h_a(t) - h_b(t)|` over 256 t from 0.1 to 10, with h the mean of exp(-t lambda) over the
    eigenvalues of the normalised Laplacian of the symmetric k nearest neighbour graph (arXiv 1905.11141; exact
    eigenvalues, neighbours by cosine). 0 for alike; unchanged by rotation, by a scale of every row, and by the order
    of rows, so that only random rows make a baseline. `a` (n_a, d_a), `b` (n_b, d_b). O(n^3).
    """
    times = np.logspace(-1, 1, 256)
    one, other = (
        _heat_trace(arrays.rows(rows, f"side {name}", FEWEST), k, times) for name, rows in (("a", a), ("b", b))
    )
    return float((np.exp(-2 * (times + 1 / times)) * np.abs(one - other)).max())


def _heat_trace(rows: np.ndarray, k: int, times: np.ndarray) -> np.ndarray:
    """Heat kernel trace (times,) a row, of the symmetric neighbour graph's normalised Laplacian; O(n^3)."""
    graph = _as_graph(side(rows, k))
    linked = ((graph + graph.T).toarray() > 0).astype(np.float64)
    degree = linked.sum(axis=1)
    values = np.linalg.eigvalsh(np.eye(len(linked)) - linked / np.sqrt(degree[:, None] * degree))
    return np.asarray(np.exp(-times[:, None] * values).mean(axis=1))


# --- overlap of the neighbours in many subsets


def _nearness(rows: np.ndarray) -> Floats:
    unit, half = nearness(rows)
    return np.asarray(unit @ unit.T - half)


def _weights(blocks: Floats, neighbours: int) -> Floats:
    """(m, n, n) weight of every row as a neighbour; every row's sum to `neighbours`."""
    n = blocks.shape[1]
    blocks[:, np.arange(n), np.arange(n)] = -np.inf
    last = np.partition(blocks, n - neighbours, axis=2)[:, :, n - neighbours, None]
    nearer, tied = blocks > last + _TIE, np.abs(blocks - last) <= _TIE
    return nearer + tied * ((neighbours - nearer.sum(2, keepdims=True)) / tied.sum(2, keepdims=True))


def _shared(one: Floats, other: Floats) -> Floats:
    n, neighbours = one.shape[1], one[0, 0].sum()
    return np.asarray((one * other).sum((1, 2))) / (n * neighbours)


# --- entries of the registry


def _overlap_moments(a: NeighbourSide, b: NeighbourSide) -> Moments:
    one, other = (moments.of_matrix(_as_graph(s)) for s in (a, b))
    return moments.combined(one, other, scale=1 / (len(a.near) * a.k))


@cache
def _overlap_family(k: int) -> Family:
    return Family(partial(side, k=k), _overlap_cross, lambda s: 2 * s.near.shape[1])


@cache
def _second_order_family(k: int) -> Family:
    return Family(partial(side, k=k, keep_cosines=True), _second_order_cross, lambda s: 2 * s.near.shape[1])


def _local(
    name: str, label: str, formula: str, source: str, family: Callable[[int], Family], k: int, **more: Any
) -> Measure:
    """A measure of `k` neighbours. Raises ValueError for fewer than 1."""
    if arrays.count(k, "k") < 1:
        raise ValueError(f"k = {k}: a row needs at least 1 neighbour")
    if k != NEIGHBOURS:
        name, label = f"{name}_{k}", f"{label} (k = {k})"
    formula = f"{formula}, N: the k = {k} nearest neighbours by cosine"
    more |= {"k": lambda a, b: (a.k, b.k), "least": max(FEWEST, k + 1), "neighbours": k}
    return Measure(name, label, formula, source, "local", family(k), **more)


def _mutual_knn(k: int = NEIGHBOURS) -> Measure:
    return _local(
        "mutual_knn", "mutual kNN", "mean over rows of |N_a & N_b| / k", "Huh et al. 2024, arXiv 2405.07987",
        _overlap_family, k, score=_mutual, moments=_overlap_moments, batched=Batched(_nearness, _weights, _shared),
        variant=_mutual_knn,
    )  # fmt: skip


def _jaccard_knn(k: int = NEIGHBOURS) -> Measure:
    return _local(
        "jaccard_knn", "Jaccard kNN", "mean over rows of |N_a & N_b| / |N_a or N_b|",
        "Klabunde et al. 2023, arXiv 2305.06329", _overlap_family, k, score=_jaccard, variant=_jaccard_knn,
    )  # fmt: skip


def _second_order_cosine(k: int = NEIGHBOURS) -> Measure:
    return _local(
        "second_order_cosine", "second-order cosine",
        "mean over rows i of the cosine of (cos_a(i, j))_J and (cos_b(i, j))_J, J: N_a(i) or N_b(i)",
        "Hamilton et al. 2016, arXiv 1606.02821", _second_order_family, k, variant=_second_order_cosine,
    )  # fmt: skip


MEASURES = [_mutual_knn(), _jaccard_knn(), _second_order_cosine()]
