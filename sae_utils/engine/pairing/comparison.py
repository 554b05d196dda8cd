"""Matchings side by side: each set of pairs scored against the null that fits it, and at one n.

In: pairs and the decoder rows of both sides. Out: `significance.Result`s, and their means over subsets of one size.
Never: a matching of its own; scores of different n compared; a shuffle of many-to-one pairs, which would take features
that chose the same partner for shared geometry.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sae_utils import arrays, matching, nulls, significance
from sae_utils.matching import Pairs
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
    Undefined for too few features. Raises ValueError where features of both sides repeat: see ``Soft.heaviest``.
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
        return {measure: geometry(pairs.subset(places), rows_a, rows_b, measure, m=m, seed=seed)}

    return at_n(len(pairs.a), n, test, subsets=subsets, seed=seed)[measure]
