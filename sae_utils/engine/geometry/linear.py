"""Linear measures of paired rows: canonical correlations, CKA, Procrustes.

In: two sets of rows, each decomposed once. Out: scores for a batch of pairings. All but held-out Procrustes are
functions of the same cross product `U_a^T U_b[p]`, so that all measures of a pairing share one product. This module
never draws permutations and never checks pairs.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from scipy.linalg import eigvalsh

from sae_utils import arrays
from sae_utils.engine.geometry import moments
from sae_utils.engine.geometry.moments import Moments
from sae_utils.engine.geometry.registry import Batched, Family, Floats, Measure, Undefined

_NOTHING = 1e-6  # share of a sum below which what is left of it is rounding


class LinearSide(NamedTuple):
    """The decomposition of one side; a permutation of the rows only reorders it.

    `basis` (n, rank): orthonormal left singular vectors of the centred rows, strongest first.
    `spectrum` (rank,): their singular values. `axes` (rank, d): right singular vectors.
    `energy` (n,): squared length of every centred row. Rows are scaled by a power of two, the largest entry near 1.
    """

    basis: np.ndarray
    spectrum: np.ndarray
    axes: np.ndarray
    energy: np.ndarray


Score = Callable[[LinearSide, LinearSide, np.ndarray, np.ndarray], np.ndarray]


def _rounded_to(given: np.ndarray) -> np.dtype[np.floating[Any]]:
    """The precision of the rows; float32 is recognised also after conversion to float64."""
    with np.errstate(over="ignore", under="ignore"):
        widened = given.dtype == np.float64 and (given == given.astype(np.float32)).all()
    return np.dtype(np.float32) if widened else given.dtype


def side(rows: np.ndarray) -> LinearSide:
    """Centre and decompose `rows` (n, d) in float64; O(n d min(n, d)). Raises Undefined if all rows are equal.

    Directions that rounding alone can produce are left out: rounding of the entries in their original dtype, and of
    the decomposition.
    """
    given = arrays.rows(rows, "rows", 2)
    kind, down = np.finfo(_rounded_to(given)), -arrays.exponent(given)
    wide = np.ldexp(given.astype(np.float64, copy=False), down)
    length = float(np.linalg.norm(wide))
    noise = float(kind.eps) * length + float(np.ldexp(float(kind.smallest_subnormal), down)) * math.sqrt(wide.size)
    centred = wide - wide.mean(axis=0)
    basis, spectrum, axes = np.linalg.svd(centred, full_matrices=False)
    rank = int((spectrum > max(noise, spectrum[0] * max(wide.shape) * np.finfo(np.float64).eps)).sum())
    if rank == 0 or spectrum[0] <= 1e-12 * length:
        raise Undefined(f"all {len(wide)} rows are equal, so they span no direction: leave this set of rows out")
    basis = np.ascontiguousarray(basis[:, :rank])
    return LinearSide(basis, spectrum[:rank], np.ascontiguousarray(axes[:rank]), (centred**2).sum(axis=1))


def _cross(a: LinearSide, b: LinearSide, permutations: np.ndarray) -> np.ndarray:
    """`U_a^T U_b[p]` (batch, rank_a, rank_b); O(n rank_a rank_b) each."""
    return np.asarray(a.basis.T @ b.basis[permutations])


def components(spectrum: np.ndarray, variance: float) -> int:
    """Smallest number of components whose squared singular values hold `variance` of their total."""
    share = np.cumsum(spectrum.astype(np.float64) ** 2)
    return int((share < share[-1] * variance * (1 - 1e-12)).sum()) + 1


def nuclear(cosines: np.ndarray) -> np.ndarray:
    """Sum of singular values (batch,) of matrices with none above 1.

    Exact in float64. In float32 by the eigenvalues of the smaller Gram matrix, twice as fast: singular values below
    3e-4 of the largest are lost in rounding, which a mean of canonical correlations does not notice.
    """
    if cosines.dtype == np.float64:
        return _singular_values(cosines).sum(-1)
    if cosines.shape[-2] < cosines.shape[-1]:
        cosines = cosines.mT
    grams = cosines.mT @ cosines
    # LAPACK's evr is faster than numpy's driver, and slower to call
    values = np.stack([_eigenvalues(x) for x in grams]) if grams.shape[-1] > 100 else np.linalg.eigvalsh(grams)
    return np.asarray(np.sqrt(values.clip(0)).sum(-1))


_eigenvalues = partial(eigvalsh, driver="evr", check_finite=False, overwrite_a=True)


def _singular_values(matrices: np.ndarray) -> np.ndarray:
    """Singular values in float64, which OpenBLAS computes faster than in float32."""
    return np.linalg.svd(matrices.astype(np.float64, copy=False), compute_uv=False)


def _svcca_score(variance: float) -> Score:
    def score(a: LinearSide, b: LinearSide, product: np.ndarray, _: np.ndarray) -> np.ndarray:
        k_a, k_b = components(a.spectrum, variance), components(b.spectrum, variance)
        return nuclear(product[:, :k_a, :k_b]) / min(k_a, k_b)

    return score


def _first_component(a: LinearSide, b: LinearSide, product: np.ndarray, _: np.ndarray) -> np.ndarray:
    return np.abs(product[:, 0, 0])


def _mean_cca(a: LinearSide, b: LinearSide, product: np.ndarray, _: np.ndarray) -> np.ndarray:
    return nuclear(product) / min(product.shape[-2:])


def _mean_square_cca(a: LinearSide, b: LinearSide, product: np.ndarray, _: np.ndarray) -> np.ndarray:
    """Mean squared canonical correlation, from the squared norm of the cross product."""
    return (product**2).sum((-2, -1)) / min(product.shape[-2:])


def _pwcca(a: LinearSide, b: LinearSide, product: np.ndarray, _: np.ndarray) -> np.ndarray:
    """Canonical correlations weighted by how much of side a its canonical variates carry."""
    count = min(product.shape[-2:])
    if product.dtype == np.float64:
        left, correlations, _axes = np.linalg.svd(product, full_matrices=False)
    else:
        squares, left = np.linalg.eigh(product @ product.mT)
        left, correlations = left[..., -count:], np.sqrt(squares[..., -count:].clip(0))
    weights = np.abs(left.mT @ (a.spectrum[:, None] * a.axes)).sum(-1)
    return np.asarray((weights * correlations).sum(-1) / weights.sum(-1))


def _cka(a: LinearSide, b: LinearSide, product: np.ndarray, _: np.ndarray) -> np.ndarray:
    return _inner(a, b, product) / (np.linalg.norm(a.spectrum**2) * np.linalg.norm(b.spectrum**2))


def _cka_debiased(a: LinearSide, b: LinearSide, product: np.ndarray, permutations: np.ndarray) -> np.ndarray:
    """Debiased CKA (batch,); NaN where a side's own estimate is 0 up to rounding, as for orthonormal rows."""

    def hsic(inner: Any, energies: Any, total: Any) -> Any:
        n = permutations.shape[1]
        return inner - energies * n / (n - 2) + total / ((n - 1) * (n - 2))

    def own(s: LinearSide) -> float:
        inner = (s.spectrum**4).sum()
        unbiased = hsic(inner, (s.energy**2).sum(), s.energy.sum() ** 2)
        return float(unbiased) if unbiased > _NOTHING * inner else math.nan

    energies = b.energy[permutations] @ a.energy
    found = hsic(_inner(a, b, product), energies, a.energy.sum() * b.energy.sum())
    return np.asarray(found / math.sqrt(own(a) * own(b)))


def _inner(a: LinearSide, b: LinearSide, product: np.ndarray) -> np.ndarray:
    """Inner product (batch,) of the centred Gram matrices."""
    return np.asarray(((a.spectrum[:, None] * product * b.spectrum) ** 2).sum((-2, -1)))


def _procrustes(a: LinearSide, b: LinearSide, product: np.ndarray, _: np.ndarray) -> np.ndarray:
    aligned = _singular_values(a.spectrum[:, None] * product * b.spectrum).sum(-1)
    return np.asarray(aligned / (np.linalg.norm(a.spectrum) * np.linalg.norm(b.spectrum)))


# --- held-out Procrustes


class HalvesSide(NamedTuple):
    """Rows (n, rank), centred, in the axes of their decomposition; `length` (n,) int64: their share of the energy.

    The lengths are integers, so that rounding does not change their order.
    """

    rows: np.ndarray
    length: np.ndarray


def _halves_side(rows: np.ndarray) -> HalvesSide:
    found = side(rows)
    return HalvesSide(found.basis * found.spectrum, (found.energy / found.energy.sum() * 1e12).round().astype(np.int64))


def _halves_cross(a: HalvesSide, b: HalvesSide, permutations: np.ndarray) -> np.ndarray:
    """Procrustes alignment (batch,) on rows that the rotation was not fitted on, both ways averaged.

    Pairs are sorted by their squared length (the sum of both sides' shares) and cut into two halves at random, always
    the same way for a given n; so neither a rotation nor the stored order changes the score. Rows are centred by the
    means of the fitted half.
    """
    n = permutations.shape[1]
    order = np.argsort(a.length + b.length[permutations], axis=1, kind="stable")  # (batch, n)
    cut = np.random.default_rng(n).permutation(n)
    x, y = a.rows[order], b.rows[np.take_along_axis(permutations, order, 1)]  # (batch, n, rank)
    first, second = cut[: n // 2], cut[n // 2 :]
    return (_held_out(x, y, first, second) + _held_out(x, y, second, first)) / 2


def _held_out(x: np.ndarray, y: np.ndarray, fitted: np.ndarray, held: np.ndarray) -> np.ndarray:
    """Cosine (batch,) of `x[:, held] Q` and `y[:, held]`, with the rotation Q fitted on the other rows."""
    x_mean, y_mean = (side[:, fitted].mean(1, keepdims=True) for side in (x, y))
    left, _, right = np.linalg.svd((x[:, fitted] - x_mean).mT @ (y[:, fitted] - y_mean), full_matrices=False)
    x_held, y_held = x[:, held] - x_mean, y[:, held] - y_mean
    inner = ((x_held @ left @ right) * y_held).sum((-2, -1))
    return np.asarray(inner / (np.linalg.norm(x_held, axis=(-2, -1)) * np.linalg.norm(y_held, axis=(-2, -1))))


# --- debiased CKA of many subsets, from Gram matrices without their diagonals


def _gram(rows: np.ndarray) -> Floats:
    """Gram matrix of the centred rows; centring keeps debiased CKA, and saves digits where rows share a direction."""
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


def _debiased(one: Floats, other: Floats) -> Floats:
    return _hsic(one, other) / np.sqrt(_hsic(one, one) * _hsic(other, other))


# --- entries of the registry


def _ranks(a: LinearSide, b: LinearSide) -> tuple[int, ...]:
    return len(a.spectrum), len(b.spectrum)


def _mean_square_moments(a: LinearSide, b: LinearSide) -> Moments:
    return moments.combined(moments.of_gram(a.basis), moments.of_gram(b.basis), scale=1 / min(_ranks(a, b)))


def _cka_debiased_moments(a: LinearSide, b: LinearSide) -> Moments:
    """What only n decides: the unbiased Gram matrices have sums of 0 in every row, and zeros on the diagonal."""
    n = len(a.energy)
    return Moments(0.0, math.sqrt(2 / (n * (n - 3))))


def _cka_moments(a: LinearSide, b: LinearSide) -> Moments:
    scaled = (s.basis * s.spectrum / math.sqrt(np.linalg.norm(s.spectrum**2)) for s in (a, b))
    return moments.combined(*map(moments.of_gram, scaled))


LINEAR = Family(side, _cross, lambda s: s.basis.shape[1])
_HALVES = Family(_halves_side, _halves_cross, lambda s: 4 * s.rows.shape[1])
_SINGULAR = "singular value of U_a^T U_b, U: left singular vectors of the centred rows"
_HOTELLING = "Hotelling 1936, doi:10.2307/2333955"


def _svcca(variance: float = 0.99) -> Measure:
    if not 0 < variance <= 1:
        raise ValueError(f"variance = {variance}: give the share of variance to keep, above 0 and at most 1")
    name, label = ("svcca", "SVCCA") if variance == 0.99 else (f"svcca_{variance:g}", f"SVCCA ({variance:g})")
    return Measure(
        name, label, f"mean {_SINGULAR}, of the components that hold 99% of the variance or the named share",
        "Raghu et al. 2017, arXiv 1706.05806", "global", LINEAR, _svcca_score(variance),
        k=lambda a, b: (components(a.spectrum, variance), components(b.spectrum, variance)), variant=_svcca,
    )  # fmt: skip


MEASURES = [
    _svcca(),
    Measure(
        "svcca_first_component", "first component", "|Pearson r| of the first principal components of a and of b",
        "Lan et al. 2024, arXiv 2410.06981", "global", LINEAR, _first_component, k=lambda a, b: (1, 1),
    ),
    Measure("cca", "mean CCA", f"mean {_SINGULAR}", _HOTELLING, "global", LINEAR, _mean_cca, k=_ranks),
    Measure(
        "cca_squared", "mean squared CCA", f"mean squared {_SINGULAR}", _HOTELLING,
        "global", LINEAR, _mean_square_cca, k=_ranks, moments=_mean_square_moments,
    ),
    Measure(
        "pwcca", "PWCCA",
        "sum_i w_i rho_i / sum_i w_i, w_i = sum_j |<h_i, x_j>|, rho_i: canonical correlations, h_i: canonical variates "
        "of a, x_j: centred columns of a",
        "Morcos et al. 2018, arXiv 1806.05759", "global", LINEAR, _pwcca, k=_ranks, symmetric=False,
    ),
    Measure(
        "cka", "CKA", "|A^T B|^2 / (|A^T A| |B^T B|), A and B with centred columns",
        "Kornblith et al. 2019, arXiv 1905.00414", "global", LINEAR, _cka, moments=_cka_moments,
    ),
    Measure(
        "cka_debiased", "debiased CKA", "HSIC(a, b) / sqrt(HSIC(a, a) HSIC(b, b)), HSIC: its unbiased estimate",
        "Song et al. 2012, JMLR 13, 1393", "global", LINEAR, _cka_debiased, least=4,
        moments=_cka_debiased_moments, batched=Batched(_gram, _hollow, _debiased),
    ),
    Measure(
        "procrustes", "Procrustes", "nuclear norm of A^T B, A and B with centred columns and of norm 1",
        "Schoenemann 1966, doi:10.1007/BF02289451", "global", LINEAR, _procrustes,
    ),
    Measure(
        "procrustes_half", "held-out Procrustes",
        "cosine of A Q and B on half of the pairs, Q: the best rotation of the other half; mean of both halves",
        "Williams et al. 2021, arXiv 2110.14739", "global", _HALVES, least=6,
    ),
]  # fmt: skip
