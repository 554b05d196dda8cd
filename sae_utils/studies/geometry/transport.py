"""Optimal transport between two feature spaces: by what features fire on, and by their geometry alone.

In: correlations of features and partners, or rows of both sides. Out: distances and plans.
Never: a pairing that is given to Gromov-Wasserstein, which sees distances within either side only.

Gromov-Wasserstein is not convex. It starts from the uniform plan and from one that sends every point to the point
with the most similar distances to all others (F. Memoli 2011, third lower bound); the better end counts.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sae_utils import arrays

Floats = NDArray[np.float64]
GRID = 32  # quantiles by which the distances of two points to all others are compared


class Plan(NamedTuple):
    """A transport plan of mass 1 from points of A to points of B."""

    distance: float
    mass: Floats  # (n_a, n_b)

    @property
    def on_partners(self) -> float:
        """The mass that goes from point i to point i."""
        return float(np.trace(self.mass))


def by_correlation(r: Floats) -> float:
    """The least mean of 1 - r over plans between features of A and of B, `r` (n_a, n_b): Wasserstein-1."""
    import ot

    return float(ot.emd2(uniform(r.shape[0]), uniform(r.shape[1]), 1 - r))


def uniform(n: int) -> Floats:
    """(n,) equal masses that sum to 1."""
    return np.full(n, 1 / n)


def cosine_distances(rows: np.ndarray) -> Floats:
    """(n, n) 1 - cosine of all rows."""
    unit = arrays.unit(rows)
    return np.asarray(1 - unit @ unit.T)


def gromov(a: Floats, b: Floats) -> Plan:
    """Gromov-Wasserstein between distances within A (n_a, n_a) and within B (n_b, n_b); squared loss, root taken.

    Source: F. Memoli, Gromov-Wasserstein distances and the metric approach to object matching (2011); POT solves it.
    """
    import ot

    p, q = uniform(len(a)), uniform(len(b))
    found = []
    for start in _starts(p, q, _profiles(a, b)):
        plan = ot.gromov.gromov_wasserstein(a, b, p, q, "square_loss", symmetric=True, G0=start)
        found.append(Plan(_root(ot.gromov.gwloss(*_tensor(a, b, p, q), plan)), plan))
    return min(found, key=lambda x: x.distance)


def fused(a: Floats, b: Floats, cost: Floats, weight: float) -> Plan:
    """Fused Gromov-Wasserstein: `weight` times the squared loss of distances, and 1 - weight times the mean `cost`.

    `cost` (n_a, n_b): of a node of A in the place of one of B. Source: T. Vayer et al. (2020); POT solves it.
    """
    import ot

    p, q = uniform(len(a)), uniform(len(b))
    found = []
    for start in _starts(p, q, cost):
        plan = ot.gromov.fused_gromov_wasserstein(
            cost, a, b, p, q, "square_loss", alpha=weight, symmetric=True, G0=start
        )
        structure = ot.gromov.gwloss(*_tensor(a, b, p, q), plan)
        found.append(Plan(float(weight * max(structure, 0) + (1 - weight) * (cost * plan).sum()), plan))
    return min(found, key=lambda x: x.distance)


def _starts(p: Floats, q: Floats, cost: Floats) -> Sequence[Floats]:
    import ot

    return np.outer(p, q), ot.emd(p, q, cost)


def _tensor(a: Floats, b: Floats, p: Floats, q: Floats) -> tuple[Floats, Floats, Floats]:
    import ot

    found: tuple[Floats, Floats, Floats] = ot.gromov.init_matrix(a, b, p, q, "square_loss")
    return found


def _profiles(a: Floats, b: Floats) -> Floats:
    """(n_a, n_b) how different the distances of two points to all others are."""
    at = (np.arange(GRID) + 0.5) / GRID
    one, two = (np.quantile(x, at, axis=1).T for x in (a, b))
    return np.asarray(((one[:, None] - two[None]) ** 2).mean(axis=2))


def _root(loss: float) -> float:
    return float(np.sqrt(max(loss, 0.0)))
