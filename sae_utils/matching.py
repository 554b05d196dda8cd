"""Matchings: pairs of features of side a with features of side b, from their correlations.

In: a ``Correlation`` (of activations, or of directions: ``correlate.cosines``): candidates of every feature both ways,
and ``block`` for exact correlations of the rest. Out: ``Pairs``, with the reason for every feature left out; scores of
two dictionaries by a matching.

Ties are broken by order: the larger correlation first, then the lower feature of a, then the lower feature of b. The
whole matrix is held by ``soft`` and ``permutation`` only.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sae_utils import arrays, nulls
from sae_utils.correlate import Candidates, Correlation
from sae_utils.engine.kernels import assignment
from sae_utils.engine.kernels.assignment import Edges, Proof
from sae_utils.engine.kernels.keys import Array
from sae_utils.engine.pairs import (
    NO_PARTNER,
    NOT_CHOSEN,
    NOT_LIVE,
    NOT_MUTUAL,
    REASONS,
    TAKEN,
    Clusters,
    Pairs,
    check,
    clusters,
    common,
    left_out,
    marked,
    places,
    taken_in_order,
)  # fmt: skip

__all__ = [
    "REASONS", "Clusters", "Optimal", "Pairs", "Permutation", "Soft", "align", "check", "clusters", "common",
    "correlations", "greedy", "identity", "left_out", "many_to_one", "mmcs", "mutual", "optimal", "permutation",
    "places", "pw_mcc", "random", "soft",
]  # fmt: skip

Scale = Literal["feature", "matrix"]


@dataclass(frozen=True, eq=False)
class Optimal(Pairs):
    """The one-to-one pairs of the largest total correlation, and the proof over the full matrix."""

    proof: Proof


@dataclass(frozen=True, eq=False)
class Permutation(Pairs):
    """The one-to-one pairs with the least distance between centred activations, and that distance."""

    distance: float


@dataclass(frozen=True, eq=False)
class Soft(Pairs):
    """A many-to-many matching: every pair that carries weight; features repeat."""

    weight: NDArray[np.float64]  # (pairs,) share of the total mass 1; live features of one side have equal mass
    marginal_error: float  # largest difference between a feature's mass and what its pairs carry
    distance: float  # soft-matching distance

    def heaviest(self) -> Pairs:
        """One-to-one pairs, greedily: the heaviest pair first, then the higher correlation."""
        order = np.lexsort((self.b, self.a, -self.r, -self.weight))
        return self.subset(taken_in_order(self.a, self.b, order), TAKEN)


def many_to_one(correlation: Correlation, direction: Literal["a_to_b", "b_to_a"] = "a_to_b") -> Pairs:
    """Every live feature of one side with its best on the other; many may choose the same."""
    if direction not in ("a_to_b", "b_to_a"):
        raise ValueError(f"direction {direction!r}: 'a_to_b' or 'b_to_a'")
    best, r = _best(getattr(correlation, direction))
    chooser = np.flatnonzero(best >= 0)
    if direction == "a_to_b":
        return _collected(correlation, chooser, best[chooser], r[chooser], NO_PARTNER, NOT_CHOSEN)
    return _collected(correlation, best[chooser], chooser, r[chooser], NOT_CHOSEN, NO_PARTNER)


def mutual(correlation: Correlation) -> Pairs:
    """Pairs of features that are each other's best partner; one-to-one."""
    best, r = _best(correlation.a_to_b)
    back, _ = _best(correlation.b_to_a)
    a = np.flatnonzero(best >= 0)
    a = a[back[best[a]] == a]
    return _collected(correlation, a, best[a], r[a], NOT_MUTUAL, NOT_MUTUAL)


def greedy(correlation: Correlation, minimum: float = -1.0, *, among: tuple[Array, Array] | None = None) -> Pairs:
    """One-to-one: the globally best remaining pair first, until none of at least ``minimum`` is left.

    Equal to sorting the full matrix of live features; ``block`` is asked for features whose candidates run out.
    ``among``, masks of the features of a and of b, lets only these take part.
    Raises ValueError for a ``minimum`` outside [-1, 1].
    """
    check_r(minimum, "minimum")
    free_a, free_b, k = correlation.a.live, correlation.b.live, correlation.a_to_b.index.shape[1]
    if among is None:
        edges = _edges(correlation.a_to_b)
    else:
        free_a, free_b = free_a & among[0], free_b & among[1]
        rows, columns = np.flatnonzero(free_a), np.flatnonzero(free_b)
        k = len(columns)
        block = correlation.block(rows, columns) if len(rows) and k else np.zeros((len(rows), k), np.float32)
        edges = Edges(np.repeat(rows, k), np.tile(columns, len(rows)), block.ravel())
    a, b, r = assignment.greedy(edges, correlation.block, free_a, free_b, minimum, k)
    return _collected(correlation, a, b, r, TAKEN, TAKEN)


def optimal(correlation: Correlation) -> Optimal:
    """One-to-one with the largest sum of correlations: every live feature of the smaller side has a partner.

    The problem is solved on the candidates of both sides, then proven: edges of the full matrix that violate the dual
    solution are added, and the problem is solved again, until there are none.
    """
    live = np.flatnonzero(correlation.a.live), np.flatnonzero(correlation.b.live)
    one, two = _edges(correlation.a_to_b), _edges(correlation.b_to_a)
    ends = [
        (np.cumsum(correlation.a.live) - 1)[np.concatenate([one.row, two.column])],
        (np.cumsum(correlation.b.live) - 1)[np.concatenate([one.column, two.row])],
    ]
    narrow = 0 if len(live[0]) <= len(live[1]) else 1  # the side of which every feature gets a partner

    def block(i: Array, j: Array) -> Array:
        return correlation.block(live[0][i], live[1][j]) if narrow == 0 else correlation.block(live[0][j], live[1][i]).T

    edges = Edges(ends[narrow], ends[1 - narrow], np.concatenate([one.weight, two.weight]))
    partner, r, proof = assignment.optimal(edges, block, len(live[narrow]), len(live[1 - narrow]))
    a, b = (live[0], live[1][partner]) if narrow == 0 else (live[0][partner], live[1])
    return Optimal(**vars(_collected(correlation, a, b, r, TAKEN, TAKEN)), proof=proof)


def identity(correlation: Correlation) -> Pairs:
    """Feature i with feature i, for sides that share their indices; pairs with a feature that is not live are left out.

    Raises ValueError for sides of different width.
    """
    n = len(correlation.a.live)
    if n != len(correlation.b.live):
        raise ValueError(f"side a has {n} features, side b {len(correlation.b.live)}: they cannot share indices")
    same = np.flatnonzero(correlation.a.live & correlation.b.live)
    r = correlations(correlation, same, same)
    return _collected(correlation, same, same, r, NO_PARTNER, NO_PARTNER)


def random(correlation: Correlation, pairs: Pairs, seed: int) -> Pairs:
    """``pairs`` with shuffled partners; every feature occurs as often as before."""
    check(pairs)
    b = pairs.b[nulls.permutations(arrays.generator(seed), 1, len(pairs.b))[0]]
    r = correlations(correlation, pairs.a, b)
    order = np.lexsort((b, pairs.a))
    return Pairs(pairs.a[order], b[order], r[order], pairs.why_a, pairs.why_b)


def soft(correlation: Correlation, scale: Scale = "feature") -> Soft:
    """The many-to-many matching of the soft-matching distance, the least root of sum_ij P_ij |x_i - y_j|^2.

    The plan P spreads the mass 1 evenly over the live features of either side: exact optimal transport on the whole
    matrix, which must fit. At most features_a + features_b - 1 pairs carry weight. On sides of one width the distance
    is that of ``permutation`` / sqrt(width); ``scale`` as there. Raises RuntimeError as ``assignment.transport``.
    Source: M. Khosla and A. Williams, Soft matching distance (2024).
    """
    live_a, live_b, r, x, y = _scaled(correlation, scale)
    cost = (x[:, None] ** 2 + y**2) / 2 - r * x[:, None] * y
    plan, error = assignment.transport(cost)
    i, j = np.nonzero(plan)
    pairs = _collected(correlation, live_a[i], live_b[j], r[i, j], NO_PARTNER, NO_PARTNER)
    distance = float(np.sqrt(2 * max((plan * cost).sum(), 0.0)))
    return Soft(**vars(pairs), weight=plan[i, j], marginal_error=error, distance=distance)


def permutation(correlation: Correlation, scale: Scale = "matrix") -> Permutation:
    """The pairs of permutation Procrustes, the least Frobenius norm of X - Y P over permutations P.

    X and Y (tokens, features) are centred, and the narrower side is widened by columns of zeros. ``scale``: "matrix"
    divides X and Y by their Frobenius norms, so that the distance lies in [0, sqrt 2]; "feature" divides every feature
    by its standard deviation and both by the root of the tokens. The whole matrix of live features must fit.
    Source: A. Williams et al., Generalized shape metrics on neural representations (2021).
    """
    from scipy.optimize import linear_sum_assignment

    live_a, live_b, r, x, y = _scaled(correlation, scale)
    cross = r * x[:, None] * y
    i, j = linear_sum_assignment(cross, maximize=True)
    square = (x * x).sum() + (y * y).sum() - 2 * cross[i, j].sum()
    pairs = _collected(correlation, live_a[i], live_b[j], r[i, j], TAKEN, TAKEN)
    return Permutation(**vars(pairs), distance=float(np.sqrt(max(square, 0.0))))


def _scaled(correlation: Correlation, scale: Scale) -> tuple[Array, Array, Array, Array, Array]:
    """Live features of both sides, their correlations, and the norms of their centred activations over root tokens."""
    if scale not in ("feature", "matrix"):
        raise ValueError(f"scale {scale!r}: 'feature' or 'matrix'")
    live_a, live_b = np.flatnonzero(correlation.a.live), np.flatnonzero(correlation.b.live)
    r = correlation.block(live_a, live_b).astype(np.float64)
    x, y = correlation.a.sd[live_a], correlation.b.sd[live_b]
    if scale == "feature":
        return live_a, live_b, r, np.ones_like(x), np.ones_like(y)
    return live_a, live_b, r, x / np.linalg.norm(x), y / np.linalg.norm(y)


def mmcs(cosines: Correlation) -> float:
    """Mean over live features of side a of the largest cosine (mean max cosine similarity); not symmetric.

    ``cosines`` as ``correlate.cosines`` gives them, of spaces of different models after ``align``.
    Source: L. Sharkey, D. Braun, B. Millidge, Taking features out of superposition with sparse autoencoders (2022).
    """
    return float(np.mean(cosines.a_to_b.r[cosines.a.live, 0], dtype=np.float64))


def pw_mcc(cosines: Correlation) -> float:
    """Mean cosine over the optimal one-to-one pairs (pairwise dictionary mean correlation coefficient); symmetric.

    Source: X. Song et al., Mechanistic interpretability should prioritize feature consistency in SAEs (2025).
    """
    return float(np.mean(optimal(cosines).r, dtype=np.float64))


def align(a: ArrayLike, b: ArrayLike, pairs: Pairs) -> NDArray[np.float32]:
    """``a`` (features_a, d_a) mapped into b's space (features_a, d_b) by the best orthogonal map of the pairs.

    The map is the orthogonal Procrustes solution on unit rows (P. Schoenemann, Psychometrika 31, 1966); where the
    spaces differ in d it is the best map with orthonormal rows or columns. Fit it on other pairs than those scored.
    Raises ValueError for fewer pairs than dimensions.
    """
    a, b = arrays.rows(a, "side a"), arrays.rows(b, "side b")
    at_a, at_b = places(pairs, len(a), len(b))
    x, y = arrays.unit(a[at_a]), arrays.unit(b[at_b])
    if len(x) < min(x.shape[1], y.shape[1]):
        raise ValueError(f"{len(x)} pairs for a map between {x.shape[1]} and {y.shape[1]} dimensions: give more pairs")
    left, _, right = np.linalg.svd(x.T @ y, full_matrices=False)
    return np.asarray(a @ (left @ right), np.float32)


def correlations(correlation: Correlation, a: ArrayLike, b: ArrayLike) -> NDArray[np.float32]:
    """Exact correlations of the pairs (a[p], b[p]), from blocks that hold every feature of a once."""
    a = arrays.positions(a, len(correlation.a.live), "a", "feature")
    b = arrays.positions(b, len(correlation.b.live), "b", "feature")
    if len(a) != len(b):
        raise ValueError(f"{len(a)} features of a, {len(b)} of b: a pair needs one of each")
    r = np.empty(len(a), np.float32)
    order = np.argsort(a, kind="stable")
    for chunk in np.array_split(order, max(len(order) // 512, 1)):
        rows, at_a = np.unique(a[chunk], return_inverse=True)
        columns, at_b = np.unique(b[chunk], return_inverse=True)
        r[chunk] = correlation.block(rows, columns)[at_a, at_b] if len(chunk) else 0
    return r


def check_r(r: float, name: str) -> None:
    """Refuse a correlation outside [-1, 1]."""
    if not -1 <= r <= 1:
        raise ValueError(f"{name} = {r}: a correlation lies between -1 and 1")


def _collected(correlation: Correlation, a: Array, b: Array, r: Array, why_a: int, why_b: int) -> Pairs:
    """Sorted pairs; unpaired features are not live, or left out for the reasons ``why_a`` and ``why_b``."""
    order = np.lexsort((b, a))
    a, b, r = a[order].astype(np.int32), b[order].astype(np.int32), r[order].astype(np.float32)
    of_a, of_b = (
        np.where(side.live, reason, NOT_LIVE).astype(np.int8)
        for side, reason in ((correlation.a, why_a), (correlation.b, why_b))
    )
    return Pairs(a, b, r, marked(of_a, a), marked(of_b, b))


def _best(candidates: Candidates) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    return candidates.index[:, 0], candidates.r[:, 0]


def _edges(candidates: Candidates) -> Edges:
    row, rank = np.nonzero(candidates.index >= 0)
    return Edges(row, candidates.index[row, rank].astype(np.int64), candidates.r[row, rank])
