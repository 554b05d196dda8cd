"""Representational similarity: whether two sets of paired rows have the same pairwise dissimilarities.

In: rows, or dissimilarity matrices. Out: correlations of the off-diagonal entries for a batch of pairings.
Pearson and cosine dissimilarities compared by Pearson need no (n, n) matrix: with unit rows less their mean, `y`, they
are `d_ij = (e_i + e_j) / 2 - y_i y_j`, e_i = |y_i|^2, and `sum_ij d_ij d'_ij` needs only `Y^T Y'` and `e e'`. Nothing
large cancels then, even where all rows share a direction. All others hold one matrix a side.
This module never draws permutations.
"""

import math
import os
from collections.abc import Sequence
from functools import partial
from typing import Literal, NamedTuple

import numba
import numpy as np
from scipy.spatial.distance import squareform

from sae_utils import arrays
from sae_utils.engine.geometry import moments
from sae_utils.engine.geometry.moments import Moments, Parts
from sae_utils.engine.geometry.registry import Batched, Family, Floats, Measure, Undefined

Dissimilarity = Literal["pearson", "cosine", "euclidean"]
Comparison = Literal["pearson", "spearman"]
_NOTHING = 1e-24  # 1 - cosine of rows that are equal but for rounding


# --- dissimilarities


def unit_rows(rows: np.ndarray, dissimilarity: Dissimilarity) -> Floats:
    """Rows of length one, centred within themselves for Pearson. Raises Undefined where a row has no direction."""
    rows = arrays.rows(rows, "rows", 2).astype(np.float64, copy=False)
    rows = np.ldexp(rows, -arrays.exponent(rows, axis=1))
    centred = rows - rows.mean(axis=1, keepdims=True) if dissimilarity == "pearson" else rows
    flat = np.flatnonzero(np.linalg.norm(centred, axis=1) <= 1e-12 * np.linalg.norm(rows, axis=1))
    if len(flat):
        kind = "constant" if dissimilarity == "pearson" else "zero"
        raise Undefined(
            f"{len(flat)} of {len(rows)} rows are {kind} (first: row {flat[0]}), so their {dissimilarity} "
            "dissimilarity is undefined: leave these pairs out"
        )
    return arrays.unit(centred)


def _centred_units(rows: np.ndarray, dissimilarity: Dissimilarity) -> tuple[Floats, Floats]:
    """Unit rows less their mean, y (n, d), and their squared lengths e (n,): `(e_i + e_j) / 2 - y_i y_j` = 1 - cosine.

    The first row is subtracted before, so that their mean too is rounded only as they themselves are.
    """
    unit = unit_rows(rows, dissimilarity)
    unit = unit - unit[0]
    unit -= unit.mean(axis=0)
    return unit, (unit**2).sum(axis=1)


def nearness(rows: np.ndarray) -> tuple[Floats, Floats]:
    """y (n, d) and h (n,): `y_i y_k - h_k` ranks all rows k by their cosine with row i, rounded to some 1e-16."""
    unit, energy = _centred_units(rows, "cosine")
    spread = max(math.sqrt(energy.mean()), _NOTHING)
    return unit / math.sqrt(spread), energy / (2 * spread)


def dissimilarities(rows: np.ndarray, dissimilarity: Dissimilarity) -> Floats:
    """Pairwise dissimilarities (n, n) float64: 1 - Pearson, 1 - cosine or Euclidean distance over the largest.

    They are rounded to 12 decimals (more where rows share a direction), so that equal rows tie. Raises ValueError where
    such matrices do not fit in memory.
    """
    rows = arrays.rows(rows, "rows", 2)
    need, memory = 48 * len(rows) ** 2, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if need > memory:
        raise ValueError(
            f"dissimilarities of n = {len(rows)} rows take {need / 1e9:.0f} GB of this machine's {memory / 1e9:.0f}: "
            "compare Pearson or cosine dissimilarities by Pearson, which needs no matrix, or take fewer pairs"
        )
    if dissimilarity == "euclidean":
        matrix = _distances(rows.astype(np.float64, copy=False))
    else:
        unit, energy = _centred_units(rows, dissimilarity)
        matrix = (energy[:, None] + energy) / 2 - unit @ unit.T
        # unit rows are rounded to 1e-16 or so, and a dissimilarity is a square
        matrix = np.round(matrix, 12 - round(math.log10(max(matrix.max(), _NOTHING)) / 2))
    np.fill_diagonal(matrix, 0.0)
    return matrix


def _distances(rows: np.ndarray) -> Floats:
    rows = np.ldexp(rows, -arrays.exponent(rows))
    centred = rows - rows.mean(axis=0)
    energy = (centred**2).sum(axis=1)
    squares = energy[:, None] + energy - 2 * centred @ centred.T
    squares[squares < 1e-12 * energy.max(initial=0.0)] = 0.0
    matrix = np.sqrt(squares)
    return np.round(matrix / max(matrix.max(), np.finfo(float).tiny), 12)


# --- RSA without a matrix


class UnitSide(NamedTuple):
    """Rows whose dissimilarities deviate from their mean by 1 in all, over ordered pairs, without the (n, n) matrix.

    `rows` (n, r): y, of mean 0; `energy` (n,): |y_i|^2 less its mean; `mean` of the off-diagonal dissimilarities.
    """

    rows: Floats
    energy: Floats
    mean: float


def _unit_side(rows: np.ndarray, dissimilarity: Dissimilarity) -> UnitSide:
    """O(n d min(n, d))."""
    unit, energy = _centred_units(rows, dissimilarity)
    n, d = unit.shape
    if d > n:  # the same inner products in n columns
        unit = np.asarray(np.linalg.qr(unit.T, mode="r")).T
    mean, energy = float(energy.sum()) / (n - 1), energy - energy.mean()
    squares = float(np.sum((unit.T @ unit) ** 2) + n / 2 * energy @ energy) - (n - 1) * mean**2
    _refuse_flat(squares if mean > _NOTHING else 0.0, n * (n - 1) * mean**2, n)
    norm = math.sqrt(squares)
    return UnitSide(np.ascontiguousarray(unit) / math.sqrt(norm), energy / norm, mean / norm)


def _unit_scores(a: UnitSide, b: UnitSide, permutations: np.ndarray) -> np.ndarray:
    """Pearson RSA (batch,); O(n r_a r_b) each."""
    n = permutations.shape[1]
    squares = np.square(a.rows.T @ b.rows[permutations], dtype=np.float64).sum((-2, -1))
    energies = (b.energy[permutations] @ a.energy).astype(np.float64)
    return np.asarray(squares + n / 2 * energies - (n - 1) * a.mean * b.mean)


# --- RSA with a matrix


class MatrixSide(NamedTuple):
    """Off-diagonal dissimilarities or their ranks: `matrix` (n, n), diagonal 0, the rest with sum 0 and norm 1."""

    matrix: Floats


def _matrix_side(matrix: np.ndarray, comparison: Comparison) -> MatrixSide:
    """A symmetric dissimilarity matrix (n, n) standardised, ranked for Spearman."""
    values = squareform(matrix, checks=False).astype(np.float64)
    if comparison == "spearman":
        values = _ranks(values)
    total = 2 * float(values @ values)
    values -= values.mean()
    squares = 2 * float(values @ values)
    _refuse_flat(squares, total, len(matrix))
    return MatrixSide(squareform(values / np.sqrt(squares), checks=False))


def _ranks(values: np.ndarray) -> Floats:
    """Ranks along the last axis; ties share their mean rank."""
    from scipy.stats import rankdata  # imported here: it takes half a second

    return np.asarray(rankdata(values, axis=-1))


def _refuse_flat(squares: float, total: float, n: int) -> None:
    """Raise Undefined where the deviations from the mean are negligible in the `total` sum of squares."""
    if n * squares <= 1e-12 * total:
        raise Undefined(
            f"all pairs of the {n} rows are equally dissimilar, so a correlation over them is undefined: "
            "leave this set of rows out"
        )


def _matrix_scores(a: MatrixSide, b: MatrixSide, permutations: np.ndarray) -> np.ndarray:
    """Correlation (batch,) of the standardised matrices; O(n^2) each."""
    return _mantel(a.matrix, b.matrix, permutations.astype(np.int32))


@numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def _mantel(a: np.ndarray, b: np.ndarray, permutations: np.ndarray) -> np.ndarray:
    """Twice the sum over i > j of `a[i, j] b[p_i, p_j]`: a row of b stays in cache while it is gathered from."""
    scores = np.zeros(len(permutations))
    for s, p in enumerate(permutations):
        for i in range(len(a)):
            row_a, row_b = a[i], b[p[i]]
            partial = row_a[0] * 0
            for j in range(i):
                partial += row_a[j] * row_b[p[j]]
            scores[s] += 2 * partial
    return scores


def mantel(x: np.ndarray, y: np.ndarray, *, comparison: Comparison = "pearson") -> float:
    """Correlation of the off-diagonal entries of two symmetric dissimilarity matrices (n, n), in [-1, 1]; Mantel 1967.

    Unchanged by one scale and shift of either matrix, for Spearman by any increasing map. O(n^2 log n).
    """
    return float(_correlations([x, y], comparison)[0, 1])


def partial_rsa(
    x: np.ndarray, y: np.ndarray, controls: Sequence[np.ndarray], *, comparison: Comparison = "pearson"
) -> float:
    """Correlation of two dissimilarity matrices (n, n) that no linear use of `controls` (n, n) explains, in [-1, 1].

    Partial correlation from the inverse of the correlation matrix, of ranks for Spearman. An effect size: permutations
    break the controls' own ties to either side, so that no p is offered (Guillot & Rousset 2013).
    Raises ValueError where a control holds all of a side.
    """
    r = _correlations([x, y, *controls], comparison)
    if np.linalg.eigvalsh(r)[0] < 1e-10:
        raise ValueError(f"x, y and the {len(controls)} controls are linearly dependent: drop a control")
    precision = np.linalg.inv(r)
    return float(-precision[0, 1] / np.sqrt(precision[0, 0] * precision[1, 1]))


def _correlations(matrices: Sequence[np.ndarray], comparison: Comparison) -> Floats:
    """Correlations (count, count) of the off-diagonal entries."""
    matrices = [arrays.rows(m, f"dissimilarity matrix {number}") for number, m in enumerate(matrices, 1)]
    shapes = {m.shape for m in matrices}
    n = len(matrices[0])
    if shapes != {(n, n)} or n < 3:
        raise ValueError(f"dissimilarity matrices of shapes {sorted(shapes)}: give square ones, all of one n >= 3")
    for matrix in matrices:
        if not np.allclose(matrix, matrix.T, atol=1e-8 * np.abs(matrix).max()):
            raise ValueError("a dissimilarity matrix is not symmetric")
    matrices = [np.ldexp(m, -arrays.exponent(m)) for m in matrices]  # their squares fit
    flat = np.stack([_matrix_side(m, comparison).matrix.ravel() for m in matrices])
    return flat @ flat.T


# --- many subsets: vectors (m, n (n - 1) / 2) of mean 0 and norm 1


def _vectors(blocks: Floats, neighbours: int, *, comparison: Comparison) -> Floats:
    """NaN where all dissimilarities are equal."""
    above = np.triu_indices(blocks.shape[1], 1)
    values = blocks[:, above[0], above[1]]
    if comparison == "spearman":
        values = _ranks(values)
    least = 1e-12 * np.linalg.norm(values, axis=1, keepdims=True)
    values = values - values.mean(1, keepdims=True)
    norm = np.linalg.norm(values, axis=1, keepdims=True)
    return np.divide(values, norm, out=np.full_like(values, np.nan), where=norm > least)


def _inner(one: Floats, other: Floats) -> Floats:
    return np.asarray((one * other).sum(1))


# --- entries of the registry


def _parts(side: UnitSide | MatrixSide) -> Parts:
    """Parts of the standardised matrix, with the opposite sign for `UnitSide`."""
    n = len(side[0])
    sums = -n / 2 * side.energy if isinstance(side, UnitSide) else side.matrix.sum(axis=1)
    return moments.parts(np.zeros(n), sums, sums, 1.0)


def _moments(a: UnitSide | MatrixSide, b: UnitSide | MatrixSide) -> Moments:
    return moments.combined(_parts(a), _parts(b))


def _rsa(dissimilarity: Dissimilarity, comparison: Comparison) -> Measure:
    name, label, correlation = f"rsa_{comparison}", f"{comparison.title()} RSA", comparison.title()
    if dissimilarity != "pearson":
        name, label = f"rsa_{dissimilarity}_{comparison}", f"{label} ({dissimilarity})"
    distance = {"pearson": "1 - Pearson r", "cosine": "1 - cosine", "euclidean": "Euclidean distance"}[dissimilarity]
    prepare, vectors = partial(dissimilarities, dissimilarity=dissimilarity), partial(_vectors, comparison=comparison)
    if comparison == "pearson" and dissimilarity != "euclidean":
        side = partial(_unit_side, dissimilarity=dissimilarity)
        family = Family(side, _unit_scores, lambda s: s.rows.shape[1])
    else:
        family = Family(lambda rows: _matrix_side(prepare(rows), comparison), _matrix_scores, lambda s: len(s.matrix))
    return Measure(
        name, label,
        f"{correlation} correlation, over all pairs of rows, of their dissimilarities ({distance}) in a and in b",
        "Kriegeskorte et al. 2008, doi:10.3389/neuro.06.004.2008",
        "global", family, moments=_moments, batched=Batched(prepare, vectors, _inner),
    )  # fmt: skip


_KINDS: tuple[Dissimilarity, ...] = ("pearson", "cosine", "euclidean")
_COMPARISONS: tuple[Comparison, ...] = ("pearson", "spearman")
MEASURES = [_rsa(kind, comparison) for kind in _KINDS for comparison in _COMPARISONS]
