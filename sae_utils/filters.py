"""Filters of a matching: which pairs are kept, how many each removes, and in which order.

In: ``matching.Pairs`` and what is known of the features (firings, top tokens). Out: the pairs kept, and of every
filter what it removed. Filters are functions; their order is a parameter, because one-to-one first and the strongest
after differs from the reverse. None looks at activations or directions.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import wraps
from typing import Any, Concatenate, Literal, NamedTuple, ParamSpec

import numpy as np
from numpy.typing import NDArray

from sae_utils import arrays, matching
from sae_utils.engine.kernels.keys import Array
from sae_utils.matching import Pairs

Options = ParamSpec("Options")


class Facts(NamedTuple):
    """What filters may ask about the features."""

    firings_a: NDArray[np.int64]  # (features_a,) tokens on which each fires
    firings_b: NDArray[np.int64]  # (features_b,)
    top_a: NDArray[np.str_]  # (features_a, k) its top tokens as text, "" where it has fewer
    top_b: NDArray[np.str_]  # (features_b, k)


class Filtered(NamedTuple):
    """What a filter left, and what it took."""

    pairs: Pairs  # the pairs kept; features that lost their last pair carry the filter's reason
    removed: int  # number of pairs removed
    dropped: NDArray[np.int64]  # (removed,) their places among the pairs the filter was given


class Step(NamedTuple):
    """One filter of a sequence."""

    name: str
    before: int  # pairs it was given
    removed: int  # pairs it took
    a: NDArray[np.int32]  # (removed,) their features of side a
    b: NDArray[np.int32]  # (removed,) of side b
    r: NDArray[np.float32]  # (removed,) their correlations


def _gated(rule: Callable[Concatenate[Pairs, Facts, Options], Filtered]) -> Callable[..., Filtered]:
    """A filter that refuses pairs as ``matching.check`` does, and facts that are not one a feature."""

    @wraps(rule)
    def gated(pairs: Pairs, facts: Facts, *args: Options.args, **options: Options.kwargs) -> Filtered:
        matching.check(pairs)
        _check_facts("a", facts.firings_a, facts.top_a, len(pairs.why_a))
        _check_facts("b", facts.firings_b, facts.top_b, len(pairs.why_b))
        return rule(pairs, facts, *args, **options)

    return gated


def _check_facts(side: str, firings: Array, top: Array, features: int) -> None:
    firings, top = arrays.numbers(firings, f"firings_{side}", 1), arrays.plain(top, f"top_{side}")
    if len(firings) != features or top.ndim != 2 or len(top) != features:
        raise ValueError(
            f"side {side} has {features} features, firings {firings.shape}, top tokens {top.shape}: give those of each"
        )


@_gated
def rare(pairs: Pairs, facts: Facts, *, minimum: int) -> Filtered:
    """Keep pairs of which both features fire on at least ``minimum`` tokens; 1 drops the dead."""
    minimum = arrays.whole(minimum, "minimum")
    keep = (facts.firings_a[pairs.a] >= minimum) & (facts.firings_b[pairs.b] >= minimum)
    return _filtered(pairs, keep, matching.RARE)


@_gated
def weak(pairs: Pairs, facts: Facts, *, r: float) -> Filtered:
    """Keep pairs that correlate by at least ``r``."""
    matching.check_r(r, "r")
    return _filtered(pairs, pairs.r >= r, matching.WEAK)


@_gated
def hubs(
    pairs: Pairs,
    facts: Facts,
    *,
    more_than: int,
    keep: Literal["best", "first", "none"] = "best",
    side: Literal["a", "b"] = "b",
) -> Filtered:
    """Of features of ``side`` that more than ``more_than`` pairs share keep the best pair, the first, or none.

    "first" is the lowest feature of the other side; with ``more_than=1`` it is the published one-to-one rule.
    """
    if keep not in ("best", "first", "none") or side not in ("a", "b"):
        raise ValueError(f"keep = {keep!r}, side = {side!r}: keep is 'best', 'first' or 'none', side 'a' or 'b'")
    shared, other = (pairs.b, pairs.a) if side == "b" else (pairs.a, pairs.b)
    spared = np.bincount(shared, minlength=1)[shared] <= more_than
    if keep != "none" and len(shared):
        order = np.lexsort((other, -pairs.r, shared)) if keep == "best" else np.lexsort((other, shared))
        spared[order[np.append(True, np.diff(shared[order]) != 0)]] = True
    return _filtered(pairs, spared, matching.HUB)


@_gated
def non_concept(pairs: Pairs, facts: Facts, *, tokens: Collection[str], top: int, most: int = 0) -> Filtered:
    """Keep pairs of which neither feature has more than ``most`` of ``tokens`` among its ``top`` tokens."""
    listed = list(tokens)
    odd_a = np.isin(_top(facts.top_a, top), listed).sum(1) > most
    odd_b = np.isin(_top(facts.top_b, top), listed).sum(1) > most
    return _filtered(pairs, ~(odd_a[pairs.a] | odd_b[pairs.b]), matching.NO_CONCEPT)


@_gated
def no_shared_token(pairs: Pairs, facts: Facts, *, top: int) -> Filtered:
    """Keep pairs that have at least one of their ``top`` tokens in common."""
    x, y = _top(facts.top_a, top)[pairs.a], _top(facts.top_b, top)[pairs.b]
    shared = ((x[:, :, None] == y[:, None, :]) & (x != "")[:, :, None]).any(axis=(1, 2))
    return _filtered(pairs, shared, matching.NO_SHARED_TOKEN)


@_gated
def one_to_one(pairs: Pairs, facts: Facts) -> Filtered:
    """Keep the best pair, then the best with neither of its features, and so on: greedy among the pairs."""
    keep = np.zeros(len(pairs.r), bool)
    keep[matching.one_to_one(pairs.a, pairs.b, np.lexsort((pairs.b, pairs.a, -pairs.r)))] = True
    return _filtered(pairs, keep, matching.TAKEN)


@_gated
def strongest(pairs: Pairs, facts: Facts, *, share: float) -> Filtered:
    """Keep the ``share`` of the pairs with the highest correlations, rounded up."""
    if not 0 <= share <= 1:
        raise ValueError(f"share = {share}: between 0 and 1")
    keep = np.zeros(len(pairs.r), bool)
    keep[np.lexsort((pairs.b, pairs.a, -pairs.r))[: int(np.ceil(share * len(keep)))]] = True
    return _filtered(pairs, keep, matching.CUT)


FILTERS = {f.__name__: f for f in (rare, weak, hubs, non_concept, no_shared_token, one_to_one, strongest)}


def apply(pairs: Pairs, facts: Facts, steps: Sequence[tuple[str, Mapping[str, Any]]]) -> tuple[Pairs, list[Step]]:
    """Filter in the order of ``steps``, each a name of FILTERS and its parameters.

    Raises ValueError for a name that is no filter.
    """
    taken = []
    for name, parameters in steps:
        if name not in FILTERS:
            raise ValueError(f"filter {name!r} is not known: one of {', '.join(FILTERS)}")
        found = FILTERS[name](pairs, facts, **parameters)
        gone = found.dropped
        taken.append(Step(name, len(pairs.r), found.removed, pairs.a[gone], pairs.b[gone], pairs.r[gone]))
        pairs = found.pairs
    return pairs, taken


def _top(tokens: Array, top: int) -> Array:
    if not 1 <= arrays.whole(top, "top") <= tokens.shape[1]:
        raise ValueError(f"top = {top}: features have 1 to {tokens.shape[1]} top tokens")
    return tokens[:, :top]


def _filtered(pairs: Pairs, keep: Array, reason: int) -> Filtered:
    return Filtered(pairs.subset(keep, reason), int((~keep).sum()), np.flatnonzero(~keep))
