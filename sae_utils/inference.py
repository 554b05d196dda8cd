"""From many results to one statement: corrected p-values of a family of tests, intervals, and verdicts.

In: results of `significance.test`, sampled p-values, values of replicates, or a statistic as a function of the rows
that are kept. Out: adjusted p-values in the same order, an `Interval`, a `Replicated` and its verdict, or places of
pairs that correlate equally. Use the maximum of z wherever draws are at hand; Holm only where the draws are many enough
for the family. The jackknife leaves out whole families, documents or replicates, and draws nothing twice: a duplicated
row is its own nearest neighbour and manufactures similarity.
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from sae_utils import arrays, significance
from sae_utils.engine.chance.intervals import (
    Interval,
    Replicated,
    jackknife,
    over_replicates,
    over_seeds_and_documents,
    sign_flip,
)
from sae_utils.engine.chance.results import FLAT, ROUNDING
from sae_utils.engine.chance.verdicts import (
    Chances,
    Detectable,
    Verdict,
    chances,
    detectable,
    false_at_most,
    in_order,
    replicates_needed,
    size,
    verdict,
)
from sae_utils.nulls import LEVEL  # of tests; intervals hold 1 - LEVEL
from sae_utils.significance import Result, Rows

__all__ = [
    "GROUPS", "LEVEL", "Chances", "Detectable", "Interval", "Replicated", "Verdict", "alike", "chances",
    "detectable", "excess_interval", "false_at_most", "families", "grouped", "holm", "in_order", "jackknife",
    "maximum_of_z", "over_replicates", "over_seeds_and_documents", "replicates_needed", "sign_flip", "size", "verdict",
]  # fmt: skip

GROUPS = 20  # of documents or of small families: so many that Student's t is narrow, so few that each is worth its cost
_DRAWS_A_TEST = 20
BLOCK = 1024  # pairs whose cosines with all others are held at once

Key = TypeVar("Key", bound=Hashable)


# --- families of tests


def maximum_of_z(pair_sets: Mapping[Key, Mapping[str, Result]]) -> dict[Key, dict[str, float]]:
    """Family-wise p of every measure of every pair set: how often the largest z of the family's draws reaches its z.

    `pair_sets`: for every set of pairs its results by measure, as `significance.test` returns them. Permutations are
    shared within a set and must be independent across sets (a seed each). Every score is standardised by its own null,
    the observed one counted in, so that observed and draws are exchangeable. An undefined result is NaN and no test of
    the family. O(tests x m). Single step: Westfall & Young 1993, ch. 2.
    Raises ValueError where the numbers of draws differ.
    """
    results = {(key, name): result for key, of in pair_sets.items() for name, result in of.items()}
    counts = {len(result.draws) for result in results.values()}
    if len(counts) > 1:
        raise ValueError(f"the family's tests have {sorted(counts)} draws: draw all of them equally often")
    m = max(counts, default=0)
    adjusted = {key: dict.fromkeys(of, math.nan) for key, of in pair_sets.items()}
    largest = np.full(m, -np.inf)
    reached = {}
    for test, result in results.items():
        if result.undefined:
            continue
        scores = np.append(result.draws, result.observed)
        sd = max(float(scores.std()), FLAT)
        standard = (scores - scores.mean()) / sd
        largest = np.maximum(largest, standard[:-1])
        reached[test] = standard[-1] - ROUNDING / sd
    for (key, name), z in reached.items():
        adjusted[key][name] = float((largest >= z).sum() + 1) / (m + 1)
    return adjusted


def holm(p: Sequence[float] | np.ndarray, *, m: int) -> np.ndarray:
    """Family-wise p (tests,) by Holm's step-down rule (1979), from sampled `p` with `m` draws each.

    A NaN stays, and is no test of the family. Raises ValueError where m < 20 x tests: the least p then cannot survive
    its own family.
    """
    p = arrays.numbers(p, "p", 1).astype(np.float64)
    if len(p) == 0 or ((p <= 0) | (p > 1)).any():
        raise ValueError(f"p-values of shape {p.shape}: give at least one, each above 0 and at most 1")
    order = np.argsort(p, kind="stable")[: (~np.isnan(p)).sum()]  # NaN last
    if m < (least := _DRAWS_A_TEST * len(order)):
        raise ValueError(f"m = {m} draws for {len(order)} tests: at least {least} are needed, or use maximum_of_z")
    adjusted = np.full(len(p), np.nan)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)), 1.0)
    return adjusted


# --- intervals


def grouped(units: ArrayLike, groups: int = GROUPS) -> NDArray[np.int64]:
    """Group of every row (n,): whole documents or families in at most `groups` groups of nearly as many rows.

    `units` (n,): label of every row. The largest unit comes first, and each goes to the group with fewest rows (Graham
    1969), equal ones in the order of their labels. Where there are no more units than groups, every unit is a group.
    """
    _, unit = np.unique(arrays.plain(units, "units"), return_inverse=True)
    sizes, rows = np.bincount(unit), np.zeros(groups, np.int64)
    group = np.empty(len(sizes), np.int64)
    for place in np.argsort(-sizes, kind="stable"):
        group[place] = rows.argmin()
        rows[group[place]] += sizes[place]
    return group[unit]


# --- the excess of paired rows, and pairs of equal correlation


def families(rows: Rows, near: float) -> NDArray[np.int32]:
    """The family of every pair (n,), for `nulls.blocks`: a connected component of the graph of near pairs.

    Two pairs are near if their rows have a cosine of at least `near` on either side.
    """
    units = [arrays.unit(side) for side in rows]
    blocks = (
        np.logical_or(*(unit[first : first + BLOCK] @ unit.T >= near for unit in units))
        for first in range(0, len(units[0]), BLOCK)
    )
    graph = sparse.vstack([sparse.csr_array(block) for block in blocks])
    found: NDArray[np.int32] = connected_components(graph, directed=False)[1]
    return found


def excess_interval(rows: Rows, measure: str, near: float) -> Interval[float]:
    """The excess of all pairs, with a jackknife interval over `families` of near rows.

    More than `GROUPS` families are left out in groups. Rows are sorted first, so that the order of pairs does
    not matter. With fewer than 3 families only the estimate is not NaN. The null mean must be known in closed form
    (`rsa_*`, `mutual_knn`, `cka`); ValueError for other measures.
    The interval held the expected excess in 92% to 98% of 300 data sets of 60 pairs in five or twelve families (cosines
    of .7 or .9 within; with 12 Ward clusters in place of five, 86%), and in 89% for five families of cosine .5.
    """
    order = np.lexsort(np.hstack(rows).T[::-1])
    a, b = (side[order] for side in rows)

    def excess(kept: np.ndarray) -> float:
        return significance.test(a[kept], b[kept], [measure], m_of={measure: 0})[measure].excess

    family = families((a, b), near)
    if (count := len(np.unique(family))) < 3:
        return Interval(excess(np.arange(len(a))), math.nan, math.nan, math.nan, count)
    return jackknife(excess, grouped(family))


def alike(
    one: np.ndarray, two: np.ndarray, calipers: float | Sequence[float]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Places in two sets of pairs of nearly equal correlation, or other quantities: nearest first, without replacement.

    `one` (n,) or (n, q), `two` (m,) or (m, q); `calipers`, one or (q,): the most by which two may differ in each
    quantity. The distance is the largest difference in units of its caliper; of equal ones the first row is taken. A
    row with NaN has no neighbour. Both results have the same length.
    """
    rows = [side[:, None] if side.ndim == 1 else side for side in (one, two)]
    difference = np.abs(rows[0][:, None].astype(np.float64) - rows[1][None])  # (n, m, q)
    row, column = np.nonzero((difference <= calipers).all(axis=2))  # in row order, which decides between equals
    distance = (difference[row, column] / np.maximum(calipers, np.finfo(float).tiny)).max(axis=1, initial=0.0)
    free_one, free_two = np.ones(len(one), bool), np.ones(len(two), bool)
    found: list[tuple[int, int]] = []
    for place in np.argsort(distance, kind="stable"):
        i, j = int(row[place]), int(column[place])
        if free_one[i] and free_two[j]:
            free_one[i] = free_two[j] = False
            found.append((i, j))
    left, right = np.array(found, np.int64).reshape(-1, 2).T
    return left, right
