"""Linear comparison of paired rows: one decomposition a side, one small product a permutation.

In: centred singular value decompositions of two sets of rows. Out: canonical correlations, CKA and Procrustes scores
for a batch of pairings. Every one of them is a function of the same cross product `U_a^T U_b[p]`, so that a pairing
costs one product however many measures are asked for. This module never draws permutations and never checks pairs.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from sae_utils import arrays

_ROWS = 256
_NOTHING = 1e-6  # share of a sum below which what is left of it is rounding


class Undefined(ValueError):
    """These rows have no such score; by other measures they may have one."""


class LinearSide(NamedTuple):
    """What a permutation of the rows leaves unchanged up to their order.

    `basis` (n, rank): orthonormal left singular vectors of the centred rows, strongest first.
    `spectrum` (rank,): their singular values. `axes` (rank, d): right singular vectors.
    `energy` (n,): squared length of every centred row. Rows are scaled by a power of two, the largest entry near 1.
    """

    basis: Tensor
    spectrum: Tensor
    axes: Tensor
    energy: Tensor


Score = Callable[[LinearSide, LinearSide, Tensor, Tensor], Tensor]


def _rounded_to(given: np.ndarray) -> np.dtype[np.floating[Any]]:
    """The dtype to which rows are rounded; float32 is found also where it has been widened to float64."""
    with np.errstate(over="ignore", under="ignore"):
        widened = given.dtype == np.float64 and (given == given.astype(np.float32)).all()
    return np.dtype(np.float32) if widened else given.dtype


def side(rows: np.ndarray) -> LinearSide:
    """Centre and decompose `rows` (n, d) in float64; O(n d min(n, d)). Raises Undefined if all rows are equal.

    Directions are left out which rounding alone can make: of the entries, in the dtype in which they came, and of the
    decomposition.
    """
    given = arrays.rows(rows, "rows", 2)
    kind, down = np.finfo(_rounded_to(given)), -arrays.exponent(given)
    wide = np.ldexp(given.astype(np.float64, copy=False), down)
    length = float(np.linalg.norm(wide))
    noise = float(kind.eps) * length + float(np.ldexp(float(kind.smallest_subnormal), down)) * math.sqrt(wide.size)
    centred = wide - wide.mean(axis=0)
    basis, spectrum, axes = torch.linalg.svd(torch.from_numpy(centred), full_matrices=False)
    rank = int((spectrum > max(noise, float(spectrum[0]) * max(wide.shape) * np.finfo(np.float64).eps)).sum())
    if rank == 0 or float(spectrum[0]) <= 1e-12 * length:
        raise Undefined(f"all {len(wide)} rows are equal, so they span no direction: leave this set of rows out")
    return LinearSide(
        basis[:, :rank].contiguous(),
        spectrum[:rank],
        axes[:rank].contiguous(),
        torch.from_numpy((centred**2).sum(axis=1)),
    )


def cross(a: LinearSide, b: LinearSide, permutations: Tensor) -> Tensor:
    """`U_a^T U_b[p]` (batch, rank_a, rank_b) for `permutations` (batch, n); O(n rank_a rank_b) each."""
    return product_of_rows(a.basis, b.basis, permutations)


def product_of_rows(x: Tensor, y: Tensor, permutations: Tensor) -> Tensor:
    """`x^T y[p]` (batch, d_x, d_y) for `x` (n, d_x), `y` (n, d_y); rows are gathered in blocks that stay in cache."""
    products = x.new_zeros(len(permutations), x.shape[1], y.shape[1])
    gathered = y.new_empty(min(_ROWS, len(y)), y.shape[1])
    for product, permutation in zip(products, permutations, strict=True):
        for block, rows in zip(x.split(_ROWS), permutation.split(_ROWS), strict=True):
            product.addmm_(block.T, torch.index_select(y, 0, rows, out=gathered[: len(rows)]))
    return products


def components(spectrum: Tensor, variance: float) -> int:
    """Smallest number of components whose squared singular values hold `variance` of their total."""
    share = torch.cumsum(spectrum.double() ** 2, 0)
    return int((share < share[-1] * variance * (1 - 1e-12)).sum()) + 1


def nuclear(cosines: Tensor) -> Tensor:
    """Sum of singular values (batch,) of matrices with none above 1.

    Exact in float64. In float32 by the eigenvalues of the smaller Gram matrix, twice as fast: singular values below
    3e-4 of the largest are lost in rounding, which a mean of canonical correlations does not notice.
    """
    if cosines.dtype == torch.float64:
        return torch.linalg.svdvals(cosines).sum(-1)
    if cosines.shape[-2] < cosines.shape[-1]:
        cosines = cosines.mT
    return torch.linalg.eigvalsh(cosines.mT @ cosines).clamp_min(0).sqrt().sum(-1)


def svcca(variance: float) -> Score:
    """Mean canonical correlation of the components that hold `variance` of either side."""

    def score(a: LinearSide, b: LinearSide, product: Tensor, _: Tensor) -> Tensor:
        k_a, k_b = components(a.spectrum, variance), components(b.spectrum, variance)
        return nuclear(product[:, :k_a, :k_b]) / min(k_a, k_b)

    return score


def first_component(a: LinearSide, b: LinearSide, product: Tensor, _: Tensor) -> Tensor:
    """Absolute Pearson correlation of the two first principal components."""
    return product[:, 0, 0].abs()


def mean_cca(a: LinearSide, b: LinearSide, product: Tensor, _: Tensor) -> Tensor:
    """Mean canonical correlation of all components."""
    return nuclear(product) / min(product.shape[-2:])


def mean_square_cca(a: LinearSide, b: LinearSide, product: Tensor, _: Tensor) -> Tensor:
    """Mean squared canonical correlation: the squared norm of the cross product, no decomposition."""
    return product.square().sum((-2, -1)) / min(product.shape[-2:])


def pwcca(a: LinearSide, b: LinearSide, product: Tensor, _: Tensor) -> Tensor:
    """Canonical correlations weighted by how much of side a its canonical variates carry."""
    count = min(product.shape[-2:])
    if product.dtype == torch.float64:
        left, correlations, _axes = torch.linalg.svd(product, full_matrices=False)
    else:
        squares, left = torch.linalg.eigh(product @ product.mT)
        left, correlations = left[..., -count:], squares[..., -count:].clamp_min(0).sqrt()
    weights = (left.mT @ (a.spectrum[:, None] * a.axes)).abs().sum(-1)
    return (weights * correlations).sum(-1) / weights.sum(-1)


def cka(a: LinearSide, b: LinearSide, product: Tensor, _: Tensor) -> Tensor:
    """Biased linear CKA: the Gram matrices' inner product over their norms."""
    return _inner(a, b, product) / (a.spectrum.square().norm() * b.spectrum.square().norm())


def cka_debiased(a: LinearSide, b: LinearSide, product: Tensor, permutations: Tensor) -> Tensor:
    """Linear CKA from unbiased estimates of HSIC, whose mean over shuffles is 0.

    NaN where nothing but rounding is left of a side's own estimate, by which it divides: of orthonormal rows.
    """

    def hsic(inner: Tensor, energies: Tensor, total: Tensor) -> Tensor:
        n = permutations.shape[1]
        return inner - energies * n / (n - 2) + total / ((n - 1) * (n - 2))

    def own(s: LinearSide) -> Tensor:
        inner = s.spectrum.pow(4).sum()
        unbiased = hsic(inner, s.energy.square().sum(), s.energy.sum().square())
        return unbiased.where(unbiased > _NOTHING * inner, torch.nan)

    energies = b.energy[permutations] @ a.energy
    found = hsic(_inner(a, b, product), energies, a.energy.sum() * b.energy.sum())
    return found / (own(a) * own(b)).sqrt()


def _inner(a: LinearSide, b: LinearSide, product: Tensor) -> Tensor:
    """Inner product (batch,) of the centred Gram matrices."""
    return ((a.spectrum[:, None] * product * b.spectrum) ** 2).sum((-2, -1))


def procrustes(a: LinearSide, b: LinearSide, product: Tensor, _: Tensor) -> Tensor:
    """Alignment after the best rotation: nuclear norm of the cross product of centred rows of norm one."""
    aligned = torch.linalg.svdvals(a.spectrum[:, None] * product * b.spectrum).sum(-1)
    return aligned / (a.spectrum.norm() * b.spectrum.norm())


class HalvesSide(NamedTuple):
    """Rows (n, rank), centred, in the axes of their decomposition; `length` (n,) int64: their share of the energy.

    The lengths are whole numbers, so that float32 and rounding do not change which row is the longer.
    """

    rows: Tensor
    length: Tensor


def halves_side(rows: np.ndarray) -> HalvesSide:
    """Centre and decompose `rows` as `side` does, with its error."""
    found = side(rows)
    return HalvesSide(found.basis * found.spectrum, (found.energy / found.energy.sum() * 1e12).round().long())


def halves_cross(a: HalvesSide, b: HalvesSide, permutations: Tensor) -> Tensor:
    """Procrustes alignment (batch,) on rows that the rotation was not fitted on, both ways averaged.

    Pairs are put in the order of their squared length, of both sides in shares of their sum, and cut into two halves at
    random, always the same way for a given n: the order in which they are stored decides nothing, nor does a rotation.
    Rows are centred by the means of the half that was fitted.
    """
    n = permutations.shape[1]
    order = torch.argsort(a.length + b.length[permutations], dim=1, stable=True)  # (batch, n)
    cut = torch.from_numpy(np.random.default_rng(n).permutation(n)).to(order.device)
    x, y = a.rows[order], b.rows[permutations.gather(1, order)]  # (batch, n, rank)
    first, second = cut[: n // 2], cut[n // 2 :]
    return (_held_out(x, y, first, second) + _held_out(x, y, second, first)) / 2


def _held_out(x: Tensor, y: Tensor, fitted: Tensor, held: Tensor) -> Tensor:
    """Cosine (batch,) of `x[:, held] Q` and `y[:, held]`, with the rotation Q fitted on the other rows."""
    x_mean, y_mean = (side[:, fitted].mean(1, keepdim=True) for side in (x, y))
    left, _, right = torch.linalg.svd((x[:, fitted] - x_mean).mT @ (y[:, fitted] - y_mean), full_matrices=False)
    x_held, y_held = x[:, held] - x_mean, y[:, held] - y_mean
    together = ((x_held @ left @ right) * y_held).sum((-2, -1))
    return together / (x_held.flatten(1).norm(dim=1) * y_held.flatten(1).norm(dim=1))
