"""Maps from the activations of one model to those of another at the same places.

In: activations (n, d_a) and (n, d_b) whose rows belong together. Out: an affine map by ridge regression, or an
orthogonal one by Procrustes; how much of the variance a map misses.
Never: a model; a choice of places.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
EACH = 4  # contexts a dimension of A that a map needs: with fewer, ridge mostly carries noise


class Map(NamedTuple):
    """y = x @ weights + offset."""

    weights: Floats  # (d_a, d_b)
    offset: Floats  # (d_b,)

    def carry(self, directions: Floats) -> Floats:
        """Directions (..., d_a), such as differences of activations, in the other space: (..., d_b)."""
        return np.asarray(directions @ self.weights)

    def missed(self, x: Floats, y: Floats) -> float:
        """The share of the variance of y (n, d_b) that the map does not explain from x (n, d_a)."""
        error = y - (x @ self.weights + self.offset)
        return float((error**2).sum() / ((y - y.mean(axis=0)) ** 2).sum())


def affine(x: Floats, y: Floats, ridge: float) -> Map:
    """The affine map from x (n, d_a) to y (n, d_b) of least squares, shrunk by `ridge` times the mean variance of x.

    Hoerl & Kennard 1970. Raises ValueError as `refuse_few`.
    """
    mean_x, mean_y, centred_x, centred_y = _centred(x, y)
    gram = centred_x.T @ centred_x
    penalty = ridge * np.trace(gram) / len(gram)
    weights = np.linalg.solve(gram + penalty * np.eye(len(gram)), centred_x.T @ centred_y)
    return Map(weights, mean_y - mean_x @ weights)


def orthogonal(x: Floats, y: Floats) -> Map:
    """The map with orthonormal rows or columns, whichever are fewer, that takes centred x nearest to centred y.

    Schoenemann 1966. Raises ValueError as `refuse_few`.
    """
    mean_x, mean_y, centred_x, centred_y = _centred(x, y)
    left, _, right = np.linalg.svd(centred_x.T @ centred_y, full_matrices=False)
    weights = left @ right
    return Map(weights, mean_y - mean_x @ weights)


def needed(d: int) -> int:
    """Contexts that a map from `d` dimensions needs."""
    return EACH * d


def refuse_few(n: int, d: int) -> None:
    """Raise ValueError where `n` contexts are too few for a map from `d` dimensions."""
    if n < needed(d):
        raise ValueError(
            f"{n} contexts are too few for a map from {d} dimensions: it needs {needed(d)}; read more documents"
        )


def _centred(x: Floats, y: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Means and centred rows of both sides."""
    if len(x) != len(y):
        raise ValueError(f"{len(x)} rows of A and {len(y)} of B: they belong together row by row")
    refuse_few(len(x), x.shape[1])
    x, y = x.astype(np.float64), y.astype(np.float64)
    mean_x, mean_y = x.mean(axis=0), y.mean(axis=0)
    return mean_x, mean_y, x - mean_x, y - mean_y
