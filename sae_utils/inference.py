"""From many results to one statement: corrected p-values of a family of tests, and intervals by the jackknife.

In: results of `significance.test`, sampled p-values, or a statistic as a function of the rows that are kept. Out:
adjusted p-values in the same order, or an `Interval`. Use the maximum of z wherever draws are at hand; Holm or
Benjamini-Hochberg only where the draws are many enough for the family. The jackknife leaves out whole families or whole
documents, and draws nothing twice: a duplicated row is its own nearest neighbour and manufactures similarity.
"""

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sae_utils import arrays
from sae_utils.engine.chance.results import FLAT, ROUNDING
from sae_utils.engine.core.progress import tqdm
from sae_utils.nulls import LEVEL as LEVEL  # of tests; intervals hold 1 - LEVEL
from sae_utils.significance import Result

GROUPS = 20  # of documents or of small families: so many that Student's t is narrow, so few that each is worth its cost
_DRAWS_A_TEST = 20

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value", float, NDArray[np.float64])


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
    return _corrected(p, m, lambda ascending: np.maximum.accumulate(ascending * np.arange(len(ascending), 0, -1)))


def benjamini_hochberg(p: Sequence[float] | np.ndarray, *, m: int) -> np.ndarray:
    """False discovery rate at which every test is found (tests,), from sampled `p` with `m` draws each (1995).

    Valid under independence or positive dependence. NaN and ValueError as in `holm`.
    """

    def stepped(ascending: np.ndarray) -> np.ndarray:
        scaled: np.ndarray = ascending * len(ascending) / (1 + np.arange(len(ascending)))
        return np.minimum.accumulate(scaled[::-1])[::-1]

    return _corrected(p, m, stepped)


def _corrected(p: Sequence[float] | np.ndarray, m: int, step: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """`step` of the defined p in ascending order, in their places."""
    p = arrays.numbers(p, "p", 1).astype(np.float64)
    if len(p) == 0 or ((p <= 0) | (p > 1)).any():
        raise ValueError(f"p-values of shape {p.shape}: give at least one, each above 0 and at most 1")
    order = np.argsort(p, kind="stable")[: (~np.isnan(p)).sum()]  # NaN last
    if m < (least := _DRAWS_A_TEST * len(order)):
        raise ValueError(f"m = {m} draws for {len(order)} tests: at least {least} are needed, or use maximum_of_z")
    adjusted = np.full(len(p), np.nan)
    adjusted[order] = np.minimum(step(p[order]), 1.0)
    return adjusted


# --- intervals


class Interval(NamedTuple, Generic[Value]):
    """`estimate` of the statistic on all rows, its `se`, and a 95% interval, `low` to `high`, from `units`."""

    estimate: Value
    se: Value
    low: Value
    high: Value
    units: int


def jackknife(statistic: Callable[[np.ndarray], Value], families: np.ndarray) -> Interval[Value]:
    """Delete-one-family jackknife (Efron & Tibshirani 1993, ch. 11), the families being what was sampled.

    `statistic(rows)`: of the pairs or tokens at `rows`, an excess or several shares for example. `families` (n,): label
    of every row. The interval is Student's with families - 1 degrees of freedom around the estimate. Costs one
    statistic a family. Raises ValueError below 3 families.
    """
    from scipy.stats import t as student  # imported here: it takes half a second

    labels, family = np.unique(arrays.plain(families, "families"), return_inverse=True)
    n, count = len(family), len(labels)
    if count < 3:
        raise ValueError(f"{count} families of {n} rows: too few to leave one out")
    estimate = statistic(np.arange(n))
    deleted = np.stack(
        [statistic(np.flatnonzero(family != f)) for f in tqdm(range(count), "jackknife", leave=False, disable=None)]
    )
    se = np.sqrt((count - 1) / count * ((deleted - deleted.mean(axis=0)) ** 2).sum(axis=0))
    half = student.ppf(1 - LEVEL / 2, count - 1) * se
    return Interval(estimate, se, estimate - half, estimate + half, count)


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
