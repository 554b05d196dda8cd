"""Who is paired with whom: features of side a with features of side b, from their correlation.

In: a ``Correlation`` (activations, or directions as from ``directions.cosines``): candidates of every feature both
ways, and ``block`` for exact correlations of the rest. Out: ``Pairs``, with every feature that was left out and why.

It never looks at activations, never holds the whole matrix unless asked for it, and never breaks a tie by chance:
the larger correlation first, then the lower feature of a, then the lower feature of b.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sae_utils import arrays, correlate, nulls
from sae_utils.correlate import Candidates, Correlation
from sae_utils.engine.kernels import assignment
from sae_utils.engine.kernels.assignment import Edges, Proof
from sae_utils.engine.kernels.keys import Array
from sae_utils.engine.kernels.sides import Codes, Side

(PAIRED, NOT_LIVE, NO_PARTNER, NOT_CHOSEN, NOT_MUTUAL, TAKEN, RARE, WEAK, HUB, NO_CONCEPT, NO_SHARED_TOKEN, CUT,
 NOT_SELECTED) = range(13)  # fmt: skip
REASONS = (
    "paired",
    "not live: dead or constant",
    "no live partner",
    "chosen by nobody",
    "best partner prefers another",
    "every partner above the threshold taken",
    "rare",
    "correlation below the threshold",
    "partner is a hub",
    "not a concept",
    "no shared top token",
    "not among the strongest",
    "not selected",
)


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs in the order of a, then b, and the reason of every feature that is in none."""

    a: NDArray[np.int32]  # (pairs,) feature of side a; repeats where several pairs share it
    b: NDArray[np.int32]  # (pairs,) feature of side b
    r: NDArray[np.float32]  # (pairs,) their correlation
    why_a: NDArray[np.int8]  # (features_a,) index into REASONS, 0 for features in a pair
    why_b: NDArray[np.int8]  # (features_b,) the same for side b

    @classmethod
    def of(cls, a: ArrayLike, b: ArrayLike, r: ArrayLike, features_a: int, features_b: int) -> Pairs:
        """Pairs (a[p], b[p]) of sides of such widths; every other feature is left out as ``NOT_SELECTED``."""
        a, b, r = np.asarray(a, np.int32), np.asarray(b, np.int32), np.asarray(r, np.float32)
        why = (np.full(n, NOT_SELECTED, np.int8) for n in (features_a, features_b))
        return Pairs(a, b, r, *(_paired(w, side) for w, side in zip(why, (a, b), strict=True)))

    def __len__(self) -> int:
        return len(self.a)

    def subset(self, places: ArrayLike, reason: int = NOT_SELECTED) -> Pairs:
        """The pairs at ``places``, positions or a mask; features that lose their last pair get ``reason``."""
        a, b, r = (side[np.asarray(places)] for side in (self.a, self.b, self.r))
        why = (np.where(old == PAIRED, np.int8(reason), old) for old in (self.why_a, self.why_b))
        return Pairs(a, b, r, *(_paired(w, side) for w, side in zip(why, (a, b), strict=True)))

    def union(self, *others: Pairs) -> Pairs:
        """The pairs of these matchings, each once and with its first correlation; the reasons are this one's.

        Raises ValueError for pairs of sides of other widths.
        """
        _, n_b = widths(self, *others)
        a, b, r = (np.concatenate([getattr(pairs, field) for pairs in (self, *others)]) for field in "abr")
        _, first = np.unique(a.astype(np.int64) * n_b + b, return_index=True)
        return Pairs(a[first], b[first], r[first], _paired(self.why_a.copy(), a), _paired(self.why_b.copy(), b))

    def without(self, other: Pairs) -> Pairs:
        """The pairs that share no feature with ``other``."""
        return self.subset(~(np.isin(self.a, other.a) | np.isin(self.b, other.b)))

    def held_out(self, side_a: Codes | Side, side_b: Codes | Side) -> NDArray[np.float32]:
        """Correlations (pairs,) on other tokens than those that chose; NaN where a feature is dead or constant."""
        return correlate.pairs(side_a, side_b, self.a, self.b)


@dataclass(frozen=True, eq=False)
class Optimal(Pairs):
    """The one-to-one pairs of the largest total correlation, and the proof over the full matrix."""

    proof: Proof


@dataclass(frozen=True, eq=False)
class Soft(Pairs):
    """A many-to-many matching: every pair that carries weight; features repeat."""

    weight: NDArray[np.float64]  # (pairs,) share of the total mass 1; live features of one side have equal mass
    marginal_error: float  # largest difference between a feature's mass and what its pairs carry

    def heaviest(self) -> Pairs:
        """One pair a feature: the heaviest first, then the higher correlation, until no pair has two free features."""
        return self.subset(one_to_one(self.a, self.b, np.lexsort((self.b, self.a, -self.r, -self.weight))), TAKEN)


def _paired(why: NDArray[np.int8], features: Array) -> NDArray[np.int8]:
    why[features] = PAIRED
    return why


def widths(*matchings: Pairs) -> tuple[int, int]:
    """How many features the sides of the matchings have. Raises ValueError where they differ, and as ``check``."""
    for pairs in matchings:
        check(pairs)
    found = {(len(pairs.why_a), len(pairs.why_b)) for pairs in matchings}
    if len(found) != 1:
        raise ValueError(f"matchings of sides of widths {sorted(found)}: all must be of the same two sides")
    return found.pop()


def one_to_one(a: Array, b: Array, order: Array) -> NDArray[np.int64]:
    """Places of the pairs (a[p], b[p]) that are kept when they are taken in this ``order`` while both ends are free."""
    free_a, free_b = (np.ones(int(side.max(initial=-1)) + 1, bool) for side in (a, b))
    _, at = assignment.walk(a[order], b[order], np.zeros(len(order), bool), free_a, free_b)
    return np.sort(order[at])


def common(first: Pairs, second: Pairs) -> NDArray[np.int64]:
    """Places in ``first`` of the pairs that ``second`` holds too."""
    width = 1 + max([int(side.max()) for side in (first.b, second.b) if len(side)], default=0)
    mine, yours = (pairs.a.astype(np.int64) * width + pairs.b for pairs in (first, second))
    return np.flatnonzero(np.isin(mine, yours))


def places(pairs: Pairs, features_a: int, features_b: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Features of both sides of every pair. Raises ValueError for ones outside, or not as many of a as of b."""
    a = arrays.positions(pairs.a, features_a, "pairs.a", "feature")
    b = arrays.positions(pairs.b, features_b, "pairs.b", "feature")
    if len(a) != len(b):
        raise ValueError(f"{len(a)} features of a, {len(b)} of b: a pair needs one of each")
    return a, b


def check(pairs: Pairs) -> None:
    """Refuse pairs whose features their own sides do not have, or without a correlation each."""
    a, _ = places(pairs, len(pairs.why_a), len(pairs.why_b))
    r = arrays.numbers(pairs.r, "pairs.r", 1)
    if len(r) != len(a):
        raise ValueError(f"{len(a)} pairs, {len(r)} correlations: a pair needs one")
    for name, why in (("why_a", pairs.why_a), ("why_b", pairs.why_b)):
        arrays.positions(why, len(REASONS), f"pairs.{name}", "reason")


def left_out(pairs: Pairs) -> dict[str, dict[str, int]]:
    """How many features of either side are left out, by reason: {"a": {reason: count}, "b": ...}."""
    check(pairs)
    counts = {"a": np.bincount(pairs.why_a), "b": np.bincount(pairs.why_b)}
    return {side: {REASONS[why]: int(n) for why, n in enumerate(c) if n and why} for side, c in counts.items()}


def many_to_one(correlation: Correlation, direction: Literal["a_to_b", "b_to_a"] = "a_to_b") -> Pairs:
    """Every live feature of one side with its best on the other; many may choose the same."""
    if direction not in ("a_to_b", "b_to_a"):
        raise ValueError(f"direction {direction!r}: 'a_to_b' or 'b_to_a'")
    forward = direction == "a_to_b"
    best, r = _best(correlation.a_to_b if forward else correlation.b_to_a)
    chooser = np.flatnonzero(best >= 0)
    a, b = (chooser, best[chooser]) if forward else (best[chooser], chooser)
    return collect(correlation, a, b, r[chooser], *((NO_PARTNER, NOT_CHOSEN) if forward else (NOT_CHOSEN, NO_PARTNER)))


def mutual(correlation: Correlation) -> Pairs:
    """Pairs that are each other's best; one-to-one."""
    best, r = _best(correlation.a_to_b)
    back, _ = _best(correlation.b_to_a)
    a = np.flatnonzero(best >= 0)
    a = a[back[best[a]] == a]
    return collect(correlation, a, best[a], r[a], NOT_MUTUAL, NOT_MUTUAL)


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
        free_a, free_b = (live & mask for live, mask in zip((free_a, free_b), among, strict=True))
        rows, columns = np.flatnonzero(free_a), np.flatnonzero(free_b)
        k = len(columns)
        block = correlation.block(rows, columns) if len(rows) and k else np.zeros((len(rows), k), np.float32)
        edges = Edges(np.repeat(rows, k), np.tile(columns, len(rows)), block.ravel())
    a, b, r = assignment.greedy(edges, correlation.block, free_a, free_b, minimum, k)
    return collect(correlation, a, b, r, TAKEN, TAKEN)


def optimal(correlation: Correlation) -> Optimal:
    """One-to-one with the largest sum of correlations: every live feature of the smaller side has a partner.

    Solved on the candidates of both sides, then proven: the full matrix is held against the dual solution and
    solved again with the edges that break it, until none does.
    """
    live_a, live_b = np.flatnonzero(correlation.a.live), np.flatnonzero(correlation.b.live)
    one, two = _edges(correlation.a_to_b), _edges(correlation.b_to_a)
    row = (np.cumsum(correlation.a.live) - 1)[np.concatenate([one.row, two.column])]
    column = (np.cumsum(correlation.b.live) - 1)[np.concatenate([one.column, two.row])]
    weight = np.concatenate([one.weight, two.weight])
    if len(live_a) <= len(live_b):
        edges = Edges(row, column, weight)
        partner, r, proof = assignment.optimal(
            edges, lambda i, j: correlation.block(live_a[i], live_b[j]), len(live_a), len(live_b)
        )
        a, b = live_a, live_b[partner]
    else:
        edges = Edges(column, row, weight)
        partner, r, proof = assignment.optimal(
            edges, lambda j, i: correlation.block(live_a[i], live_b[j]).T, len(live_b), len(live_a)
        )
        a, b = live_a[partner], live_b
    pairs = collect(correlation, a, b, r, TAKEN, TAKEN)
    return Optimal(**vars(pairs), proof=proof)


def with_leftovers(correlation: Correlation, pairs: Pairs, minimum: float) -> Pairs:
    """``pairs``, and every live feature in none with its best, already taken or not, at ``minimum`` or above."""
    check_r(minimum, "minimum")
    check(pairs)
    parts: list[tuple[Array, Array, Array]] = [(pairs.a, pairs.b, pairs.r)]
    for candidates, why, forward in (
        (correlation.a_to_b, pairs.why_a, True),
        (correlation.b_to_a, pairs.why_b, False),
    ):
        best, r = _best(candidates)
        left = np.flatnonzero((why != PAIRED) & (best >= 0) & (r >= minimum))
        parts.append((left, best[left], r[left]) if forward else (best[left], left, r[left]))
    a, b, r = (np.concatenate(part) for part in zip(*parts, strict=True))
    _, first = np.unique(a.astype(np.int64) * len(pairs.why_b) + b, return_index=True)
    return collect(correlation, a[first], b[first], r[first], WEAK, WEAK)


def identity(correlation: Correlation) -> Pairs:
    """Feature i with feature i, for sides that share their indices; pairs with a feature that is not live are out.

    Raises ValueError for sides of different width.
    """
    n = len(correlation.a.live)
    if n != len(correlation.b.live):
        raise ValueError(f"side a has {n} features, side b {len(correlation.b.live)}: they cannot share indices")
    same = np.flatnonzero(correlation.a.live & correlation.b.live)
    return collect(correlation, same, same, correlations(correlation, same, same), NO_PARTNER, NO_PARTNER)


def random(correlation: Correlation, pairs: Pairs, seed: int) -> Pairs:
    """The same features, each as often, paired at random: the partners of ``pairs`` shuffled among its pairs."""
    check(pairs)
    b = pairs.b[nulls.permutations(arrays.generator(seed), 1, len(pairs.b))[0]]
    r = correlations(correlation, pairs.a, b)
    order = np.lexsort((b, pairs.a))
    return Pairs(pairs.a[order], b[order], r[order], pairs.why_a, pairs.why_b)


def soft(correlation: Correlation) -> Soft:
    """Optimal transport between the live features of both sides, of equal mass each, at cost 1 - r.

    Exact, by the network simplex of POT, on the whole matrix of live features, which must fit. At most
    features_a + features_b - 1 pairs carry weight. Raises RuntimeError where the plan misses its marginals.
    """
    live_a, live_b = np.flatnonzero(correlation.a.live), np.flatnonzero(correlation.b.live)
    r = correlation.block(live_a, live_b)
    plan, error = transport(1.0 - r.astype(np.float64))
    i, j = np.nonzero(plan)
    pairs = collect(correlation, live_a[i], live_b[j], r[i, j], NO_PARTNER, NO_PARTNER)
    return Soft(**vars(pairs), weight=plan[i, j], marginal_error=error)


def transport(cost: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """The cheapest plan (rows, columns) that spreads the mass 1 evenly over rows and over columns, and its error.

    The error is by how much the plan misses a marginal. Raises RuntimeError where that is more than rounding, and
    ValueError as ``arrays.rows``.
    """
    import ot

    cost = arrays.rows(cost, "cost", 1).astype(np.float64, copy=False)
    mass = [np.full(size, 1 / size) for size in cost.shape]
    plan = ot.emd(*mass, cost, numItermax=100_000_000)
    error = max(float(np.abs(plan.sum(axis) - mass[1 - axis]).max()) for axis in (0, 1))
    if error > 1e-9:
        raise RuntimeError(f"the transport plan misses its marginals by {error:.1e}: correlate fewer features")
    return plan, error


def correlations(correlation: Correlation, a: Array, b: Array) -> NDArray[np.float32]:
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


def collect(correlation: Correlation, a: Array, b: Array, r: Array, why_a: int, why_b: int) -> Pairs:
    """Pairs in order; features in none are not live, or left out for ``why_a`` and ``why_b``."""
    order = np.lexsort((b, a))
    a, b, r = a[order].astype(np.int32), b[order].astype(np.int32), r[order].astype(np.float32)
    why = (np.where(side.live, reason, NOT_LIVE) for side, reason in ((correlation.a, why_a), (correlation.b, why_b)))
    return Pairs(a, b, r, *(_paired(w.astype(np.int8), side) for w, side in zip(why, (a, b), strict=True)))


def _best(candidates: Candidates) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    return candidates.index[:, 0], candidates.r[:, 0]


def _edges(candidates: Candidates) -> Edges:
    row, rank = np.nonzero(candidates.index >= 0)
    return Edges(row, candidates.index[row, rank].astype(np.int64), candidates.r[row, rank])
