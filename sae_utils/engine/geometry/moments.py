"""Mean and SD of a matrix correlation over all pairings, in closed form.

In: for either side, a few sums over its matrix. Out: the moments of `T = sum_ij A_ij B_{p_i p_j}` over uniform
permutations p. RSA, kNN overlap, biased CKA and mean squared CCA are such T. This module draws no permutations.

Permutations act on matrices, and split them into parts that do not mix: constants, effects of rows and columns,
and what is left of the symmetric and of the antisymmetric part. Constants give the mean. Each other part adds to the
variance the product of its squared norms over its dimension (Schur's orthogonality; for RSA in Mantel 1967). Of
effects there are three, which can mix: of the diagonal, of symmetric and of antisymmetric entries.
"""

import math
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_array


class Moments(NamedTuple):
    """Mean and SD of a score over all n! pairings."""

    mean: float
    sd: float


class Parts(NamedTuple):
    """The sums over a matrix (n, n) that its moments depend on.

    `diagonal`, `off`: sums of the entries on and off the diagonal. `effects` (3, n): effects of the diagonal, of
    symmetric and of antisymmetric entries, scaled so that their squares are those of the matrix. `symmetric`,
    `antisymmetric`: squared norms of what is left off the diagonal.
    """

    diagonal: float
    off: float
    effects: np.ndarray
    symmetric: float
    antisymmetric: float


def parts(
    diagonal: np.ndarray, rows: np.ndarray, columns: np.ndarray, squares: float, transposed: float | None = None
) -> Parts:
    """Parts of a matrix from its diagonal (n,) and, of the entries off it, the sums of rows and columns (n,) each.

    `squares`: sum of their squares; `transposed`: of their products with those of the transpose, the same if the matrix
    is symmetric. O(n).
    """
    n, off = len(diagonal), float(rows.sum())
    one_side, other = (rows + columns) / 2 - off / n, (rows - columns) / 2
    effects = np.stack(
        [
            diagonal - diagonal.mean(),
            one_side * math.sqrt(2 / (n - 2)),  # of entries x_i + x_j, whose sums over a row are (n - 2) x_i
            other * math.sqrt(2 / n),  # of entries x_i - x_j, whose sums over a row are n x_i
        ]
    )
    transposed = squares if transposed is None else transposed
    symmetric = (squares + transposed) / 2 - off**2 / (n * (n - 1)) - float(effects[1] @ effects[1])
    antisymmetric = (squares - transposed) / 2 - float(effects[2] @ effects[2])
    return Parts(float(diagonal.sum()), off, effects, max(symmetric, 0.0), max(antisymmetric, 0.0))


def of_matrix(matrix: np.ndarray | csr_array) -> Parts:
    """Parts of a dense or sparse matrix (n, n), symmetric or not; O(entries)."""
    diagonal = np.asarray(matrix.diagonal())
    rows, columns = (np.asarray(matrix.sum(axis=axis)).ravel() - diagonal for axis in (1, 0))
    on = float(diagonal @ diagonal)
    squares, transposed = (float((matrix * other).sum()) - on for other in (matrix, matrix.T))
    return parts(diagonal, rows, columns, squares, transposed)


def of_gram(rows: np.ndarray) -> Parts:
    """Parts of `rows rows^T` for `rows` (n, r) whose columns sum to 0, without the (n, n) matrix; O(n r^2)."""
    energy = (rows**2).sum(axis=1)
    square = rows.T @ rows
    return parts(energy, -energy, -energy, float((square**2).sum() - energy @ energy))


def combined(a: Parts, b: Parts, *, scale: float = 1.0) -> Moments:
    """Moments of `scale * T` over the permutations of n rows, from the parts of either side."""
    n = a.effects.shape[1]
    mean = a.diagonal * b.diagonal / n + a.off * b.off / (n * (n - 1))
    variance = float(((a.effects @ a.effects.T) * (b.effects @ b.effects.T)).sum()) / (n - 1)
    variance += 2 * a.symmetric * b.symmetric / (n * (n - 3)) if n > 3 else 0.0
    variance += 2 * a.antisymmetric * b.antisymmetric / ((n - 1) * (n - 2))
    if variance <= 1e-14 * max(variance + mean**2, 1e-14):
        return Moments(mean * scale, 0.0)
    return Moments(mean * scale, abs(scale) * math.sqrt(variance))
