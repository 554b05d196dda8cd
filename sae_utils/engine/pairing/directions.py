"""Matching by direction: cosines of decoder or encoder rows in the place of correlations of activations.

In: rows (features, d) of two dictionaries. Out: a ``Correlation`` whose r is the cosine, so that every matching works
on it; scores of two dictionaries; an orthogonal map between spaces of different models.
It never centres rows, and never fits the map and scores it on the same pairs unless told to.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sae_utils import arrays, correlate, matching
from sae_utils.correlate import Candidates, Correlation, Moments
from sae_utils.engine.kernels import keys, tiles
from sae_utils.engine.kernels.keys import Array, Keys
from sae_utils.engine.kernels.sides import Side
from sae_utils.matching import Pairs


def cosines(
    a: Array, b: Array, *, k: int = 64, live_a: Array | None = None, live_b: Array | None = None
) -> Correlation:
    """Cosines between all rows of ``a`` (features_a, d) and of ``b`` (features_b, d), in the shape of a correlation.

    ``live_a`` and ``live_b`` are masks of the features that take part (all by default; rows of norm 0 never do).
    Moments are over the d coordinates.
    Raises ValueError for rows of different d (align them first), not finite, or k larger than a side.
    """
    a, b = arrays.rows(a, "side a"), arrays.rows(b, "side b")
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"rows of a have {a.shape[1]} coordinates, of b {b.shape[1]}: align them first")
    one, two = _side(a, live_a, "a"), _side(b, live_b, "b")
    correlate.check_k(k, one, two)
    by_row, by_column = tiles.rank(one, two, k, firings=False)
    block = correlate.blocks_of(one, two, 1, "cpu")
    return Correlation(one.moments, two.moments, _candidates(by_row), _candidates(by_column), block)


def _candidates(rank: Keys) -> Candidates:
    return Candidates(*keys.decode(rank[0]))


def align(a: Array, b: Array, pairs: Pairs) -> NDArray[np.float32]:
    """``a`` (features_a, d_a) carried into b's space (features_a, d_b) by the best orthogonal map of the pairs.

    The map is the orthogonal Procrustes solution on unit rows (P. Schoenemann, Psychometrika 31, 1966); where the
    spaces differ in d it is the best map with orthonormal rows or columns. Fit it on other pairs than those scored.
    """
    a, b = arrays.rows(a, "side a"), arrays.rows(b, "side b")
    at_a, at_b = matching.places(pairs, len(a), len(b))
    x, y = arrays.unit(a[at_a]), arrays.unit(b[at_b])
    if len(x) < min(x.shape[1], y.shape[1]):
        raise ValueError(f"{len(x)} pairs for a map between {x.shape[1]} and {y.shape[1]} dimensions: give more pairs")
    left, _, right = np.linalg.svd(x.T @ y, full_matrices=False)
    return np.asarray(a @ (left @ right), np.float32)


def mmcs(found: Correlation) -> float:
    """Mean over live features of side a of the largest cosine (mean max cosine similarity); not symmetric.

    Source: L. Sharkey, D. Braun, B. Millidge, Taking features out of superposition with sparse autoencoders (2022).
    """
    return float(np.mean(found.a_to_b.r[found.a.live, 0], dtype=np.float64))


def pw_mcc(found: Correlation) -> float:
    """Mean cosine over the optimal one-to-one pairs (pairwise dictionary mean correlation coefficient); symmetric.

    Source: X. Song et al., Mechanistic interpretability should prioritize feature consistency in SAEs (2025).
    """
    return float(np.mean(matching.optimal(found).r, dtype=np.float64))


def _side(rows: Array, live: Array | None, name: str) -> Side:
    """Directions as a side whose tokens are coordinates: not shifted, not centred, scaled by the norm."""
    wide = rows.astype(np.float64)
    norm = np.linalg.norm(wide, axis=1)
    taking = norm > 0
    if live is not None:
        taking &= arrays.mask(live, len(rows), f"live_{name}", "feature")
    if not taking.any():
        raise ValueError(f"side {name} has no live row")
    zero, scale = np.zeros(len(rows)), np.zeros(len(rows))
    np.divide(1.0, norm, out=scale, where=taking)
    moments = Moments(wide.mean(1), wide.std(1), np.count_nonzero(rows, axis=1), taking)
    return Side(rows.T, np.arange(rows.shape[1]), moments, zero, zero, scale)
