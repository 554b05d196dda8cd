"""Matchings side by side: each set of pairs scored against the null that fits it, and at one n.

In: pairs and the decoder rows of both sides. Out: `significance.Result`s, and their means over subsets of one size.
Never: a matching of its own; scores of different n compared; a shuffle of many-to-one pairs, which would take features
that chose the same partner for shared geometry.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sae_utils import arrays, filters, matching, nulls, significance
from sae_utils.matching import Pairs, Soft
from sae_utils.significance import Result

Rows = tuple[np.ndarray, np.ndarray]  # (n, d_a) and (n, d_b): row t of either is pair t
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
    rows_a, rows_b = arrays.numbers(rows_a, "rows_a", 2), arrays.numbers(rows_b, "rows_b", 2)
    at_a, at_b = matching.places(pairs, len(rows_a), len(rows_b))
    if not enough(pairs):
        why = f"{len(pairs.a)} pairs hold fewer than {FEWEST} features of a side: too few to be scored"
        return significance.undefined(why, measure=measure, null="none", n=len(pairs.a), m=m)
    repeats_a, repeats_b = (len(np.unique(side)) < len(side) for side in (pairs.a, pairs.b))
    if repeats_a and repeats_b:
        raise ValueError("features of both sides repeat, for which no null is known: keep one pair a feature")
    x, y = rows_a[at_a], rows_b[at_b]
    if repeats_a:  # b chooses: the groups are a's
        found = significance.test(y, x, [measure], null=nulls.reassigned(pairs.a), m=m, seed=seed)
    else:
        null = nulls.reassigned(pairs.b) if repeats_b else nulls.shuffled()
        found = significance.test(x, y, [measure], null=null, m=m, seed=seed)
    return found[measure]


def hub_size(found: Result) -> str:
    """For a table: whether hub size goes with geometry, so that p is too small (`nulls.reassigned`)."""
    return "goes with geometry" if nulls.RELATED in found.note else ""


def excess(pairs: Pairs, rows_a: np.ndarray, rows_b: np.ndarray, measure: str, *, m: int, seed: int) -> float:
    """The excess of ``geometry``; NaN where there are too few features."""
    return geometry(pairs, rows_a, rows_b, measure, m=m, seed=seed).excess


class AtN(NamedTuple):
    """A score at `n` pairs; all but p are means over random subsets of that size. NaN of what was not computed."""

    n: int
    observed: float
    null_mean: float
    null_sd: float
    """of the score of one subset, of which the mean over subsets varies less"""
    low: float
    """lowest 2.5% of the null of one subset"""
    high: float
    """highest 2.5% of it"""
    excess: float
    excess_sd: float
    """over subsets; they overlap, so that it is no standard error"""
    z: float
    p: float
    """twice the mean of the subsets' p, at most 1: valid however they depend (Rueschendorf 1982); with one subset its
    own p"""


UNSCORED = AtN(0, *[math.nan] * 9)
"""of a set that has too few pairs"""


def at_n(
    pairs: int,
    n: int,
    test: Callable[[NDArray[np.int64], int], Mapping[str, Result]],
    *,
    subsets: int,
    seed: int | Sequence[int],
) -> dict[str, AtN]:
    """Scores of random ``n`` of so many ``pairs``, drawn ``subsets`` times, by what ``test`` names them.

    ``test(places, number)`` holds the pairs at ``places`` against their own null; ``number`` counts the subsets. A
    subset in which a score is undefined does not enter its mean: `UNSCORED` where it is in all. All pairs are tested
    once where there are just ``n``. Raises ValueError where there are fewer.
    """
    if n > pairs:
        raise ValueError(f"{pairs} pairs cannot be cut to n = {n}: choose at most as many as there are")
    generator = arrays.generator(seed)
    found: dict[str, list[Result]] = {}
    for number in range(1 if n == pairs else subsets):
        for name, result in test(np.sort(generator.choice(pairs, n, replace=False)), number).items():
            found.setdefault(name, []).extend([] if result.undefined else [result])
    return {name: _mean(n, results) if results else UNSCORED for name, results in found.items()}


def _mean(n: int, results: Sequence[Result]) -> AtN:
    spans = [np.quantile(x.draws, [0.025, 0.975]) if x.m else np.full(2, np.nan) for x in results]
    low, high = np.mean(spans, axis=0)
    excesses, p = np.array([x.excess for x in results]), np.array([x.p for x in results])
    return AtN(
        n=n,
        observed=float(np.mean([x.observed for x in results])),
        null_mean=float(np.mean([x.null_mean for x in results])),
        null_sd=float(np.mean([x.null_sd for x in results])),
        low=float(low),
        high=float(high),
        excess=float(excesses.mean()),
        excess_sd=float(excesses.std()),
        z=float(np.mean([x.z for x in results])),
        p=float(np.minimum(1.0, (2 if len(p) > 1 else 1) * p.mean())),
    )


def rows_at_n(rows: Rows, measure: str, n: int, *, subsets: int, m: int, seed: int) -> AtN:
    """`at_n` of paired rows, each subset against ``m`` shuffled pairings of its own."""

    def test(places: NDArray[np.int64], number: int) -> dict[str, Result]:
        return significance.test(rows[0][places], rows[1][places], [measure], m=m, seed=(seed, number))

    return at_n(len(rows[0]), n, test, subsets=subsets, seed=seed)[measure]


def pairs_at_n(
    pairs: Pairs, rows_a: np.ndarray, rows_b: np.ndarray, measure: str, n: int, *, subsets: int, m: int, seed: int
) -> AtN:
    """`at_n` of the pairs of any matching, each subset by `geometry`; `UNSCORED` where none has enough features."""

    def test(places: NDArray[np.int64], number: int) -> dict[str, Result]:
        return {measure: geometry(chosen(pairs, places), rows_a, rows_b, measure, m=m, seed=seed)}

    return at_n(len(pairs.a), n, test, subsets=subsets, seed=seed)[measure]


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


def span(counts: Iterable[int]) -> str:
    """The least and the largest of some counts, in words for a sentence: "36 to 51", "36" if they are one, "none"."""
    found = list(counts)
    if not found:
        return "none"
    low, high = min(found), max(found)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def among_tested(names: Sequence[Any], tested: Collection[Any], holding: Collection[Any]) -> str:
    """`among` of those that were tested, and how many were not: "1 of 2 tested (1 more with too few ...)"."""
    asked = [name for name in names if name in tested]
    few = len(names) - len(asked)
    if few and not asked:
        return f"none of {few} (all with too few pairs of features to be tested)"
    return among(asked, holding) + (f" tested ({few} more with too few pairs of features)" if few else "")


def among(names: Sequence[Any], holding: Collection[Any]) -> str:
    """How many of ``names`` are in ``holding``, in words for a sentence: "all 6", "none of 6", "4 of 6", "1 of 1".

    "none (none could be tested)" where there are no names: 0 of 0 would read as a finding.
    """
    if not names:
        return "none (none could be tested)"
    n = sum(name in holding for name in names)
    if n == 0:
        return f"none of {len(names)}"
    return f"all {n}" if n == len(names) > 1 else f"{n} of {len(names)}"
