"""Distances between two sets of codes that may permute features, but not mix them.

In: a ``Correlation`` of activations, whose whole matrix of live features must fit. Out: one number, and the pairs that
reach it. Activations are centred; features that are not live count as columns of zeros. It never rotates.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from sae_utils import matching
from sae_utils.correlate import Correlation
from sae_utils.engine.kernels.keys import Array
from sae_utils.matching import Pairs

Scale = Literal["feature", "matrix"]


class Distance(NamedTuple):
    """A distance, and the matching that reaches it."""

    distance: float
    pairs: Pairs  # of live features; features may repeat in a soft matching


def permutation_procrustes(correlation: Correlation, scale: Scale = "matrix") -> Distance:
    """The least Frobenius norm of X - Y P over permutations P, X and Y (tokens, features) centred.

    The narrower side is widened by columns of zeros. ``scale``: "matrix" divides X and Y by their Frobenius norms, so
    that it lies in [0, sqrt 2]; "feature" divides every feature by its standard deviation and both by the root of the
    tokens. Source: A. Williams et al., Generalized shape metrics on neural representations (2021).
    """
    live_a, live_b, r, x, y = _spread(correlation, scale)
    cross = r * x[:, None] * y
    i, j = linear_sum_assignment(cross, maximize=True)
    square = (x * x).sum() + (y * y).sum() - 2 * cross[i, j].sum()
    pairs = matching.collect(correlation, live_a[i], live_b[j], r[i, j], matching.TAKEN, matching.TAKEN)
    return Distance(float(np.sqrt(max(square, 0.0))), pairs)


def soft_matching(correlation: Correlation, scale: Scale = "feature") -> Distance:
    """The least root of sum_ij P_ij |x_i - y_j|^2 over plans P that spread the mass 1 evenly over either side.

    Exact optimal transport; on sides of one width it is the permutation distance / sqrt(width). ``scale`` as in
    ``permutation_procrustes``. Raises RuntimeError as ``matching.transport``. Source: M. Khosla and A. Williams, Soft
    matching distance (2024).
    """
    live_a, live_b, r, x, y = _spread(correlation, scale)
    cost = np.maximum((x * x)[:, None] + y * y - 2 * r * x[:, None] * y, 0.0)
    plan, _ = matching.transport(cost)
    i, j = np.nonzero(plan)
    pairs = matching.collect(correlation, live_a[i], live_b[j], r[i, j], matching.NO_PARTNER, matching.NO_PARTNER)
    return Distance(float(np.sqrt((plan * cost).sum())), pairs)


def _spread(correlation: Correlation, scale: Scale) -> tuple[Array, Array, Array, Array, Array]:
    """Live features of both sides, their correlations, and the norms of their centred activations over root tokens."""
    if scale not in ("feature", "matrix"):
        raise ValueError(f"scale {scale!r}: 'feature' or 'matrix'")
    live_a, live_b = np.flatnonzero(correlation.a.live), np.flatnonzero(correlation.b.live)
    r = correlation.block(live_a, live_b).astype(np.float64)
    x, y = correlation.a.sd[live_a], correlation.b.sd[live_b]
    if scale == "feature":
        return live_a, live_b, r, np.ones_like(x), np.ones_like(y)
    return live_a, live_b, r, x / np.linalg.norm(x), y / np.linalg.norm(y)
