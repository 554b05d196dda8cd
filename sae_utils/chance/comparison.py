"""Matchings side by side: each set of pairs scored against the null that fits it, and at one n.

In: pairs and the decoder rows of both sides. Out: `significance.Result`s and excesses.
Never: a matching of its own; a shuffle of many-to-one pairs, which would take features that chose the same partner for
shared geometry.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sae_utils.chance import nulls, significance
from sae_utils.chance.significance import Result
from sae_utils.pairing import filters
from sae_utils.pairing.matching import Pairs, Soft

FEWEST = 10  # distinct features of either side; with fewer, no score


def enough(pairs: Pairs) -> bool:
    """Whether there are features enough on both sides to score their arrangement."""
    return min(len(np.unique(pairs.a)), len(np.unique(pairs.b))) >= FEWEST


def geometry(pairs: Pairs, rows_a: np.ndarray, rows_b: np.ndarray, measure: str, *, m: int, seed: int) -> Result:
    """Similarity of the decoder rows of paired features against the null that fits the pairs.

    One-to-one pairs are shuffled; where many share a partner, they are given another partner together.
    ``rows_a`` (features_a, d_a), ``rows_b`` (features_b, d_b); ``m`` draws.
    Undefined for too few features. Raises ValueError where features of both sides repeat: see ``heaviest``.
    """
    if not enough(pairs):
        why = f"{len(pairs.a)} pairs hold fewer than {FEWEST} features of a side: too few to be scored"
        return significance.undefined(why, measure=measure, null="none", n=len(pairs.a), m=m)
    repeats_a, repeats_b = (len(np.unique(side)) < len(side) for side in (pairs.a, pairs.b))
    if repeats_a and repeats_b:
        raise ValueError("features of both sides repeat, for which no null is known: keep one pair a feature")
    x, y = rows_a[pairs.a], rows_b[pairs.b]
    if repeats_a:  # b chooses: the groups are a's
        found = significance.test(y, x, [measure], null=nulls.reassigned(pairs.a), m=m, seed=seed)
    else:
        null = nulls.reassigned(pairs.b) if repeats_b else nulls.shuffled()
        found = significance.test(x, y, [measure], null=null, m=m, seed=seed)
    return found[measure]


def excess(pairs: Pairs, rows_a: np.ndarray, rows_b: np.ndarray, measure: str, *, m: int, seed: int) -> float:
    """The excess of ``geometry``; NaN where there are too few features."""
    return geometry(pairs, rows_a, rows_b, measure, m=m, seed=seed).excess


class AtOneN(NamedTuple):
    """Excess over random subsets of one size: what is left of a difference when n is the same."""

    mean: float  # of the subsets with enough features to be scored; NaN if there is none
    sd: float  # over subsets; they overlap, so that it is no standard error
    n: int


def at_one_n(
    pairs: Pairs, rows_a: np.ndarray, rows_b: np.ndarray, measure: str, n: int, *, subsets: int, m: int, seed: int
) -> AtOneN:
    """Mean excess of ``subsets`` random ``n`` of the pairs, each against its own null of ``m`` draws."""
    generator = np.random.default_rng(seed)
    drawn = [chosen(pairs, np.sort(generator.choice(len(pairs.a), n, replace=False))) for _ in range(subsets)]
    scores = np.array([excess(part, rows_a, rows_b, measure, m=m, seed=seed) for part in drawn if enough(part)])
    return AtOneN(average(scores), float(scores.std()) if len(scores) else math.nan, n)


def chosen(pairs: Pairs, places: np.ndarray) -> Pairs:
    """The pairs at ``places``; the reasons of features left out stay as they were."""
    return pairs._replace(a=pairs.a[places], b=pairs.b[places], r=pairs.r[places])


def heaviest(soft: Soft, facts: filters.Facts) -> Pairs:
    """Of a soft matching one pair a feature: the heaviest first, the higher correlation where weights are equal."""
    rank = np.empty(len(soft.weight), np.float32)
    rank[np.lexsort((soft.pairs.b, soft.pairs.a, -soft.pairs.r, -soft.weight))] = -np.arange(len(rank))
    dropped = filters.one_to_one(soft.pairs._replace(r=rank), facts).dropped
    return chosen(soft.pairs, np.setdiff1d(np.arange(len(rank)), dropped))


def common(first: Pairs, second: Pairs) -> NDArray[np.int64]:
    """Places in ``first`` of the pairs that ``second`` holds too."""
    width = 1 + max([int(side.max()) for side in (first.b, second.b) if len(side)], default=0)
    mine, yours = (pairs.a.astype(np.int64) * width + pairs.b for pairs in (first, second))
    return np.flatnonzero(np.isin(mine, yours))


def average(values: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Mean of the values that are defined, weighted if weights are given; NaN of none."""
    known = np.isfinite(values)
    if not known.any():
        return math.nan
    return float(np.average(values[known], weights=None if weights is None else weights[known]))


def among(names: Sequence[str], holding: Collection[str]) -> str:
    """How many of ``names`` are in ``holding``, in words for a sentence: "all 6", "none of 6", "4 of 6", "1 of 1"."""
    n = sum(name in holding for name in names)
    if n == 0:
        return f"none of {len(names)}"
    return f"all {n}" if n == len(names) > 1 else f"{n} of {len(names)}"
