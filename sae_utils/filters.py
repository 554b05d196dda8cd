"""Filters of a matching: which pairs are kept, and in which order filters apply.

In: ``matching.Pairs`` and, for some filters, facts about the features: ``firings_a`` (features_a,) tokens on which each
fires, ``top_a`` (features_a, k) its top tokens as text, "" where it has fewer, and the same of b.
Out: the pairs kept; features that lose their last pair carry the filter's reason. Filters are functions, and their
order is a parameter: one-to-one first and the strongest after differs from the reverse.

Every filter raises ValueError for pairs as ``matching.check`` does, and for facts of another length than the features.
"""

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sae_utils import arrays, matching
from sae_utils.engine.kernels.keys import Array
from sae_utils.engine.pairs import CUT, HUB, NO_CONCEPT, NO_SHARED_TOKEN, RARE, TAKEN, WEAK, Pairs, taken_in_order

FACTS = ("firings_a", "firings_b", "top_a", "top_b")


def rare(pairs: Pairs, firings_a: ArrayLike, firings_b: ArrayLike, minimum: int) -> Pairs:
    """Keep pairs whose features both fire on at least ``minimum`` tokens; 1 drops dead features."""
    minimum = arrays.count(minimum, "minimum")
    matching.check(pairs)
    often_a = arrays.numbers(firings_a, "firings_a", 1) >= minimum
    often_b = arrays.numbers(firings_b, "firings_b", 1) >= minimum
    _check_one_each(pairs, "firings", often_a, often_b)
    return pairs.subset(often_a[pairs.a] & often_b[pairs.b], RARE)


def weak(pairs: Pairs, r: float) -> Pairs:
    """Keep pairs that correlate by at least ``r``."""
    matching.check(pairs)
    matching.check_r(r, "r")
    return pairs.subset(pairs.r >= r, WEAK)


def hubs(
    pairs: Pairs, more_than: int, keep: Literal["best", "first", "none"] = "best", side: Literal["a", "b"] = "b"
) -> Pairs:
    """Limit features of ``side`` that more than ``more_than`` pairs share to their best pair, their first, or none.

    "first" is the lowest feature of the other side; with ``more_than=1`` it is the published one-to-one rule.
    """
    matching.check(pairs)
    if keep not in ("best", "first", "none") or side not in ("a", "b"):
        raise ValueError(f"keep = {keep!r}, side = {side!r}: keep is 'best', 'first' or 'none', side 'a' or 'b'")
    shared, other = (pairs.b, pairs.a) if side == "b" else (pairs.a, pairs.b)
    kept = np.bincount(shared, minlength=1)[shared] <= more_than
    if keep != "none" and len(pairs):
        order = np.lexsort((other, -pairs.r, shared)) if keep == "best" else np.lexsort((other, shared))
        kept[order[np.append(True, np.diff(shared[order]) != 0)]] = True
    return pairs.subset(kept, HUB)


def non_concept(
    pairs: Pairs, top_a: ArrayLike, top_b: ArrayLike, tokens: Collection[str], top: int, most: int = 0
) -> Pairs:
    """Drop pairs if either feature has more than ``most`` of ``tokens`` among its ``top`` tokens."""
    listed = list(tokens)
    odd_a, odd_b = (np.isin(side, listed).sum(1) > most for side in _tops(pairs, top_a, top_b, top))
    return pairs.subset(~(odd_a[pairs.a] | odd_b[pairs.b]), NO_CONCEPT)


def no_shared_token(pairs: Pairs, top_a: ArrayLike, top_b: ArrayLike, top: int) -> Pairs:
    """Keep pairs that have at least one of their ``top`` tokens in common."""
    one, two = _tops(pairs, top_a, top_b, top)
    x, y = one[pairs.a], two[pairs.b]
    shared = ((x[:, :, None] == y[:, None, :]) & (x != "")[:, :, None]).any(axis=(1, 2))
    return pairs.subset(shared, NO_SHARED_TOKEN)


def one_to_one(pairs: Pairs) -> Pairs:
    """Keep pairs greedily one-to-one: the best pair first, then the best that shares no feature with those kept."""
    matching.check(pairs)
    return pairs.subset(taken_in_order(pairs.a, pairs.b, _best_first(pairs)), TAKEN)


def strongest(pairs: Pairs, share: float) -> Pairs:
    """Keep the ``share`` of the pairs with the highest correlations, rounded up."""
    matching.check(pairs)
    if not 0 <= share <= 1:
        raise ValueError(f"share = {share}: between 0 and 1")
    return pairs.subset(np.sort(_best_first(pairs)[: int(np.ceil(share * len(pairs)))]), CUT)


FILTERS: dict[str, Callable[..., Pairs]] = {
    f.__name__: f for f in (rare, weak, hubs, non_concept, no_shared_token, one_to_one, strongest)
}


def options(name: str) -> dict[str, inspect.Parameter]:
    """The parameters of a filter, without the pairs and the facts."""
    found = inspect.signature(FILTERS[name]).parameters
    return {key: value for key, value in found.items() if key != "pairs" and key not in FACTS}


class Step(NamedTuple):
    """The effect of one filter in a sequence."""

    name: str
    before: int  # pairs it was given
    a: NDArray[np.int32]  # (removed,) features of side a of the pairs it took
    b: NDArray[np.int32]  # (removed,) of side b
    r: NDArray[np.float32]  # (removed,) their correlations

    @property
    def removed(self) -> int:
        """Number of pairs that it removed."""
        return len(self.a)


def apply(pairs: Pairs, steps: Sequence[tuple[str, Mapping[str, Any]]], **facts: Any) -> tuple[Pairs, list[Step]]:
    """Apply the filters ``steps`` in order, each a name in FILTERS with its options; a filter gets the facts it needs.

    Raises ValueError for a name that is no filter, and for facts that are missing.
    """
    taken = []
    for name, chosen in steps:
        if name not in FILTERS:
            raise ValueError(f"filter {name!r} is not known: one of {', '.join(FILTERS)}")
        asked = [fact for fact in FACTS if fact in inspect.signature(FILTERS[name]).parameters]
        if missing := [fact for fact in asked if fact not in facts]:
            raise ValueError(f"filter {name!r} asks for {' and '.join(missing)}: give them")
        kept = FILTERS[name](pairs, **{fact: facts[fact] for fact in asked}, **chosen)
        gone = np.delete(np.arange(len(pairs)), matching.common(pairs, kept))
        taken.append(Step(name, len(pairs), pairs.a[gone], pairs.b[gone], pairs.r[gone]))
        pairs = kept
    return pairs, taken


def _best_first(pairs: Pairs) -> NDArray[np.intp]:
    """Places of the pairs: the highest correlation first, then the lower feature of a, then of b."""
    return np.lexsort((pairs.b, pairs.a, -pairs.r))


def _tops(pairs: Pairs, top_a: ArrayLike, top_b: ArrayLike, top: int) -> tuple[Array, Array]:
    """The first ``top`` tokens of the features of both sides."""
    matching.check(pairs)
    sides = arrays.plain(top_a, "top_a"), arrays.plain(top_b, "top_b")
    _check_one_each(pairs, "top", *sides)
    for tokens in sides:
        if not 1 <= arrays.count(top, "top") <= tokens.shape[1]:
            raise ValueError(f"top = {top}: features have 1 to {tokens.shape[1]} top tokens")
    return sides[0][:, :top], sides[1][:, :top]


def _check_one_each(pairs: Pairs, name: str, of_a: Array, of_b: Array) -> None:
    for side, given, why in (("a", of_a, pairs.why_a), ("b", of_b, pairs.why_b)):
        if len(given) != len(why) or given.ndim != (2 if name == "top" else 1):
            raise ValueError(f"side {side} has {len(why)} features, {name}_{side} is {given.shape}: give those of each")
