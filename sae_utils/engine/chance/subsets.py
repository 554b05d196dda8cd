"""Scores of many subsets of pairs at once: what a null needs that draws pairs anew, or gives them other partners.

In: decoder rows of both sides, and the features of every draw's pairs. Out: one score a draw and measure, the same as
`similarity` gives. Never: a draw of its own, p-values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from sae_utils import arrays
from sae_utils.engine.geometry import relational

Floats = NDArray[np.float64]
_NUMBERS = 1 << 22  # of one batch of n x n matrices


def score(
    rows_a: np.ndarray, rows_b: np.ndarray, a: np.ndarray, b: np.ndarray, measures: Sequence[str], neighbours: int
) -> dict[str, Floats]:
    """Scores (m,) by measure of m sets of n pairs: feature a[s, i] of side a with b[s, i] of side b.

    Args:
        rows_a: (features_a, d_a) decoder rows.
        rows_b: (features_b, d_b)
        a: (m, n), or (1, n) where it is the same in every draw; features may repeat.
        b: (m, n)
        measures: names of `MEASURES`.
        neighbours: of `mutual_knn`.

    Raises:
        ValueError: unknown measure, or fewer rows than one needs; rows and features as `arrays` refuses them.
    """
    rows_a, rows_b = arrays.rows(rows_a, "rows_a"), arrays.rows(rows_b, "rows_b")
    a, b = _features(a, len(rows_a), "a"), _features(b, len(rows_b), "b")
    if unknown := set(measures) - set(MEASURES):
        raise ValueError(f"measures {sorted(unknown)} cannot be scored in subsets: known are {', '.join(MEASURES)}")
    n = a.shape[1]
    if n < max(4, neighbours + 1):
        raise ValueError(f"n = {n} pairs: subsets need at least {max(4, neighbours + 1)}")
    size = max(1, _NUMBERS // n**2)
    parts: dict[str, list[Floats]] = {name: [] for name in measures}
    used_a, used_b = (np.unique(side, return_inverse=True) for side in (a, b))
    for name in measures:
        prepare, side, compare = MEASURES[name]
        matrix_a, matrix_b = prepare(rows_a[used_a[0]]), prepare(rows_b[used_b[0]])
        index_a, index_b = used_a[1].reshape(a.shape), used_b[1].reshape(b.shape)
        fixed = side(_blocks(matrix_a, index_a), neighbours) if len(a) == 1 else None
        for start in range(0, len(b), size):
            one = side(_blocks(matrix_a, index_a[start : start + size]), neighbours) if fixed is None else fixed
            other = side(_blocks(matrix_b, index_b[start : start + size]), neighbours)
            parts[name].append(compare(one, other))
    return {name: np.concatenate(found) for name, found in parts.items()}


def _features(index: np.ndarray, n: int, name: str) -> NDArray[np.int64]:
    """(m, n) features of so many. Raises ValueError for other numbers, shapes, and features outside."""
    found = arrays.numbers(index, name, 2)
    return arrays.positions(found.ravel(), n, name, "feature").reshape(found.shape)


def _blocks(matrix: Floats, index: np.ndarray) -> Floats:
    """(m, n, n) of the (features, features) matrix."""
    return matrix[index[:, :, None], index[:, None, :]]


# --- RSA


def _pearson_dissimilarities(rows: np.ndarray) -> Floats:
    return relational.dissimilarities(rows, "pearson")


def _standardised(blocks: Floats, neighbours: int, *, ranked: bool) -> Floats:
    """(m, n (n - 1) / 2) of mean 0 and norm 1; NaN where all are equal."""
    above = np.triu_indices(blocks.shape[1], 1)
    values = blocks[:, above[0], above[1]]
    if ranked:
        values = rankdata(values, axis=1)
    least = 1e-12 * np.linalg.norm(values, axis=1, keepdims=True)
    values = values - values.mean(1, keepdims=True)
    norm = np.linalg.norm(values, axis=1, keepdims=True)
    return np.divide(values, norm, out=np.full_like(values, np.nan), where=norm > least)


def _ranks(blocks: Floats, neighbours: int) -> Floats:
    return _standardised(blocks, neighbours, ranked=True)


def _values(blocks: Floats, neighbours: int) -> Floats:
    return _standardised(blocks, neighbours, ranked=False)


def _inner(one: Floats, other: Floats) -> Floats:
    return np.asarray((one * other).sum(1))


# --- debiased CKA, from the Gram matrices without their diagonals (Song et al. 2012)


def _gram(rows: np.ndarray) -> Floats:
    """Of rows less their mean, which debiased CKA does not see: else it cancels where rows share a direction."""
    rows = np.asarray(rows, np.float64)
    rows = rows - rows.mean(axis=0)
    return rows @ rows.T


def _hollow(blocks: Floats, neighbours: int) -> Floats:
    n = blocks.shape[1]
    blocks[:, np.arange(n), np.arange(n)] = 0
    return blocks


def _hsic(one: Floats, other: Floats) -> Floats:
    n = one.shape[1]
    sums_one, sums_other = one.sum(2), other.sum(2)
    inner = (one * other).sum((1, 2))
    totals = sums_one.sum(1) * sums_other.sum(1) / ((n - 1) * (n - 2))
    return np.asarray(inner + totals - 2 * (sums_one * sums_other).sum(1) / (n - 2)) / (n * (n - 3))


def _cka(one: Floats, other: Floats) -> Floats:
    return _hsic(one, other) / np.sqrt(_hsic(one, one) * _hsic(other, other))


# --- overlap of nearest neighbours by cosine; the tied share the last places


def _nearness(rows: np.ndarray) -> Floats:
    unit, half = relational.nearness(rows)
    return np.asarray(unit @ unit.T - half)


def _nearest(blocks: Floats, neighbours: int) -> Floats:
    """(m, n, n) weight of every row as a neighbour; every row's sum to `neighbours`."""
    n = blocks.shape[1]
    blocks[:, np.arange(n), np.arange(n)] = -np.inf
    last = np.partition(blocks, n - neighbours, axis=2)[:, :, n - neighbours, None]
    nearer, tied = blocks > last + 1e-12, np.abs(blocks - last) <= 1e-12
    return nearer + tied * ((neighbours - nearer.sum(2, keepdims=True)) / tied.sum(2, keepdims=True))


def _overlap(one: Floats, other: Floats) -> Floats:
    n, neighbours = one.shape[1], one[0, 0].sum()
    return np.asarray((one * other).sum((1, 2))) / (n * neighbours)


class _Measure(NamedTuple):
    prepare: Callable[[np.ndarray], Floats]  # rows -> (features, features)
    side: Callable[[Floats, int], Floats]  # (m, n, n) and the number of neighbours -> what is compared
    compare: Callable[[Floats, Floats], Floats]  # -> (m,)


MEASURES: dict[str, _Measure] = {
    "rsa_spearman": _Measure(_pearson_dissimilarities, _ranks, _inner),
    "rsa_pearson": _Measure(_pearson_dissimilarities, _values, _inner),
    "cka_debiased": _Measure(_gram, _hollow, _cka),
    "mutual_knn": _Measure(_nearness, _nearest, _overlap),
}
