"""The type of pairs: features of side a with features of side b, and why other features are unpaired.

In: features of both sides and their correlations. Out: `Pairs`, which are never changed in place: a subset or a union
is a new object; and the clusters of the graph whose edges are pairs. `matching` finds pairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from sae_utils import arrays, correlate
from sae_utils.engine.kernels.keys import Array
from sae_utils.engine.kernels.sides import Codes, Side

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
(PAIRED, NOT_LIVE, NO_PARTNER, NOT_CHOSEN, NOT_MUTUAL, TAKEN, RARE, WEAK, HUB, NO_CONCEPT, NO_SHARED_TOKEN, CUT,
 NOT_SELECTED) = range(len(REASONS))  # fmt: skip


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs sorted by a, then b, and for every unpaired feature the reason."""

    a: NDArray[np.int32]  # (pairs,) feature of side a; repeats where several pairs share it
    b: NDArray[np.int32]  # (pairs,) feature of side b
    r: NDArray[np.float32]  # (pairs,) their correlation
    why_a: NDArray[np.int8]  # (features_a,) index into REASONS, 0 for features in a pair
    why_b: NDArray[np.int8]  # (features_b,) the same for side b

    @classmethod
    def of(cls, a: ArrayLike, b: ArrayLike, r: ArrayLike, features_a: int, features_b: int) -> Pairs:
        """Pairs (a[p], b[p]) of sides of such widths; every other feature is left out as ``NOT_SELECTED``."""
        a, b, r = np.asarray(a, np.int32), np.asarray(b, np.int32), np.asarray(r, np.float32)
        why_a, why_b = (np.full(n, NOT_SELECTED, np.int8) for n in (features_a, features_b))
        return Pairs(a, b, r, marked(why_a, a), marked(why_b, b))

    def __len__(self) -> int:
        return len(self.a)

    def subset(self, places: ArrayLike, reason: int = NOT_SELECTED) -> Pairs:
        """The pairs at ``places``, positions or a mask; features that lose their last pair get ``reason``."""
        a, b, r = (field[np.asarray(places)] for field in (self.a, self.b, self.r))
        why_a, why_b = (np.where(why == PAIRED, np.int8(reason), why) for why in (self.why_a, self.why_b))
        return Pairs(a, b, r, marked(why_a, a), marked(why_b, b))

    def union(self, *others: Pairs) -> Pairs:
        """The pairs of these matchings, each once and with its first correlation; the reasons are this one's.

        Raises ValueError for pairs of sides of other widths.
        """
        _, n_b = widths(self, *others)
        a, b, r = (np.concatenate([getattr(pairs, field) for pairs in (self, *others)]) for field in "abr")
        _, first = np.unique(a.astype(np.int64) * n_b + b, return_index=True)
        return Pairs(a[first], b[first], r[first], marked(self.why_a.copy(), a), marked(self.why_b.copy(), b))

    def without(self, other: Pairs) -> Pairs:
        """The pairs that share no feature with ``other``."""
        return self.subset(~(np.isin(self.a, other.a) | np.isin(self.b, other.b)))

    def held_out(self, side_a: Codes | Side, side_b: Codes | Side) -> NDArray[np.float32]:
        """Correlations (pairs,) on tokens that did not choose the pairs; NaN where a feature is dead or constant."""
        return correlate.pairs(side_a, side_b, self.a, self.b)


def marked(why: NDArray[np.int8], features: Array) -> NDArray[np.int8]:
    """``why``, changed in place: these features are paired."""
    why[features] = PAIRED
    return why


def places(pairs: Pairs, features_a: int, features_b: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Features of both sides of every pair. Raises ValueError for positions outside, or unequal numbers."""
    a = arrays.positions(pairs.a, features_a, "pairs.a", "feature")
    b = arrays.positions(pairs.b, features_b, "pairs.b", "feature")
    if len(a) != len(b):
        raise ValueError(f"{len(a)} features of a, {len(b)} of b: a pair needs one of each")
    return a, b


def check(pairs: Pairs) -> None:
    """Refuse pairs with features that their sides do not have, or another number of correlations."""
    a, _ = places(pairs, len(pairs.why_a), len(pairs.why_b))
    r = arrays.numbers(pairs.r, "pairs.r", 1)
    if len(r) != len(a):
        raise ValueError(f"{len(a)} pairs, {len(r)} correlations: a pair needs one")
    for name, why in (("why_a", pairs.why_a), ("why_b", pairs.why_b)):
        arrays.positions(why, len(REASONS), f"pairs.{name}", "reason")


def widths(*matchings: Pairs) -> tuple[int, int]:
    """Numbers of features of both sides. Raises ValueError where the matchings differ in them, and as ``check``."""
    for pairs in matchings:
        check(pairs)
    found = {(len(pairs.why_a), len(pairs.why_b)) for pairs in matchings}
    if len(found) != 1:
        raise ValueError(f"matchings of sides of widths {sorted(found)}: all must be of the same two sides")
    return found.pop()


def left_out(pairs: Pairs) -> dict[str, dict[str, int]]:
    """Number of features left out of either side, by reason: {"a": {reason: count}, "b": ...}."""
    check(pairs)
    counts = {"a": np.bincount(pairs.why_a), "b": np.bincount(pairs.why_b)}
    return {side: {REASONS[why]: int(n) for why, n in enumerate(c) if n and why} for side, c in counts.items()}


def common(first: Pairs, second: Pairs) -> NDArray[np.int64]:
    """Places in ``first`` of the pairs that ``second`` holds too."""
    width = 1 + max([int(side.max()) for side in (first.b, second.b) if len(side)], default=0)
    mine, yours = (pairs.a.astype(np.int64) * width + pairs.b for pairs in (first, second))
    return np.flatnonzero(np.isin(mine, yours))


def taken_in_order(a: Array, b: Array, order: Array) -> NDArray[np.int64]:
    """Places of the pairs (a[p], b[p]) kept one-to-one: taken in ``order`` while both features are free."""
    from sae_utils.engine.kernels import auction

    free_a, free_b = (np.ones(int(side.max(initial=-1)) + 1, bool) for side in (a, b))
    _, taken = auction.walk(a[order], b[order], np.zeros(len(order), bool), free_a, free_b)
    return np.sort(order[taken])


class Clusters(NamedTuple):
    """Connected components of the graph whose nodes are features and whose edges are pairs, the largest first."""

    of_a: NDArray[np.int64]  # (features_a,) cluster of every feature of side a, -1 for those in no pair
    of_b: NDArray[np.int64]  # (features_b,) the same for side b
    size_a: NDArray[np.int64]  # (clusters,) features of side a in each
    size_b: NDArray[np.int64]  # (clusters,) features of side b in each
    edges: NDArray[np.int64]  # (clusters,) pairs in each, a pair found twice counted once


def clusters(*matchings: Pairs) -> Clusters:
    """Clusters of the union of matchings, as of both many-to-one directions; one-to-one pairs are clusters of 1 and 1.

    Raises ValueError for matchings of sides of different widths, and as ``check``.
    """
    from scipy.sparse.csgraph import connected_components

    n_a, n_b = widths(*matchings)
    union = Pairs.union(*matchings)
    graph = sparse.coo_array((np.ones(len(union)), (union.a, n_a + union.b)), shape=(n_a + n_b, n_a + n_b))
    _, component = connected_components(graph, directed=False)
    # number the components that hold a pair: most features first, then the lowest feature
    members = np.bincount(component)
    held, first = np.unique(component[union.a], return_index=True)
    order = held[np.lexsort((first, -members[held]))]
    number = np.full(len(members), -1)
    number[order] = np.arange(len(order))
    of_a, of_b = number[component[:n_a]], number[component[n_a:]]
    count = [np.bincount(of[of >= 0], minlength=len(order)) for of in (of_a, of_b, number[component[union.a]])]
    return Clusters(of_a, of_b, *count)
