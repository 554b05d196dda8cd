"""Intervals by the jackknife: over families of rows, over documents, over replicates, and over SAE seeds.

In: a statistic of the rows or replicates that are kept, or the values of the replicates. Out: an `Interval`, or a
`Replicated`, which has the sign-flip p beside it. Nothing is drawn twice.
Never: a verdict (`verdicts` has them).
"""

import math
from collections.abc import Callable, Sequence
from typing import Generic, NamedTuple, TypeAlias, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sae_utils import arrays
from sae_utils.engine.core.progress import tqdm
from sae_utils.nulls import LEVEL

LEAST = 3  # units or replicates; with fewer there is no interval
EXACT_UP_TO = 20  # replicates; the sign flips of more are too many

Value = TypeVar("Value", float, NDArray[np.float64])
Statistic: TypeAlias = Callable[[NDArray[np.int64]], float]


class Interval(NamedTuple, Generic[Value]):
    """`estimate` of the statistic on all rows, its `se`, and a 95% interval, `low` to `high`, from `units`."""

    estimate: Value
    se: Value
    low: Value
    high: Value
    units: int


class Replicated(NamedTuple):
    """`estimate` over `n` replicates, its `se`, a 95% interval, `low` to `high`, and the `p` of `sign_flip`."""

    estimate: float
    se: float
    low: float
    high: float
    n: int
    p: float

    @property
    def sd(self) -> float:
        """The spread over replicates, as `inference.detectable` takes it."""
        return self.se * math.sqrt(self.n)


def jackknife(statistic: Callable[[np.ndarray], Value], families: np.ndarray) -> Interval[Value]:
    """Delete-one-family jackknife (Efron & Tibshirani 1993, ch. 11); families are the sampling units.

    `statistic(rows)`: a statistic of the pairs or tokens at `rows`, for example an excess or several shares. `families`
    (n,): label of every row. The interval is Student's with families - 1 degrees of freedom around the estimate. It
    computes one statistic a family. Raises ValueError below 3 families.
    """
    from scipy.stats import t as student  # imported here: it takes half a second

    labels, family = np.unique(arrays.plain(families, "families"), return_inverse=True)
    n, count = len(family), len(labels)
    if count < LEAST:
        raise ValueError(f"{count} families of {n} rows: too few to leave one out")
    estimate = statistic(np.arange(n))
    deleted = np.stack(
        [statistic(np.flatnonzero(family != f)) for f in tqdm(range(count), "jackknife", leave=False, disable=None)]
    )
    se = np.sqrt((count - 1) / count * ((deleted - deleted.mean(axis=0)) ** 2).sum(axis=0))
    half = student.ppf(1 - LEVEL / 2, count - 1) * se
    return Interval(estimate, se, estimate - half, estimate + half, count)


def over_seeds_and_documents(values: ArrayLike, deleted: Sequence[ArrayLike]) -> Interval[float]:
    """The mean of `values` (S,), one for each SAE seed on the same documents, with both sources of its variance.

    `deleted`: for each independent part of the documents, such as those that choose and those that judge, the mean over
    seeds with one group of that part left out after another, (groups,); its jackknife (Efron & Tibshirani 1993, ch. 11)
    has groups - 1 degrees of freedom. The squared half width is the sum of those of all sources, each by its own
    Student's t (as Zou & Donner 2008 join intervals). One seed has no variance: the interval then speaks of this SAE.
    `units` counts the seeds. With 3 seeds and 10 groups in either half it held the truth in 95% to 98% of simulations.
    Raises ValueError without values, or for a part with fewer than 3 groups.
    """
    from scipy.stats import t as student

    given, parts = arrays.numbers(values, "values", 1), [arrays.numbers(x, "deleted", 1) for x in deleted]
    if len(given) == 0 or not parts or min(map(len, parts)) < LEAST:
        raise ValueError(f"{len(given)} values, parts of {[len(x) for x in parts]} groups: give 1 and {LEAST} or more")
    sources = [(float((len(x) - 1) * x.var()), len(x) - 1) for x in parts]
    if len(given) > 1:
        sources.append((float(given.var(ddof=1)) / len(given), len(given) - 1))
    half = math.sqrt(sum(student.ppf(1 - LEVEL / 2, freedom) ** 2 * variance for variance, freedom in sources))
    estimate, se = float(given.mean()), math.sqrt(sum(variance for variance, _ in sources))
    return Interval(estimate, se, estimate - half, estimate + half, len(given))


def over_replicates(values: ArrayLike | Statistic, replicates: int | None = None) -> Replicated:
    """Estimate over replicates of a mean or another statistic, by the jackknife with Student's t, n - 1 degrees.

    `values`: (R,), one a replicate, of which the mean is estimated. Or (R, R) of a crossed design, [i, j] being that of
    A_i and A_j: the mean over different replicates, with row and column i left out together; the diagonal is not read.
    Or `statistic(kept)` of the numbers of the `replicates` that are kept. NaN is no value, and a replicate without any
    is not counted in `n`. Interval and se are NaN below 3 replicates; p is NaN except for values (R,).
    With 8 replicates the interval held the truth in 95% of simulations of normal values, 93% of gamma ones of
    skewness 1 and 90% of exponential ones; of crossed designs in 96% to 99%.
    Raises ValueError for values of another shape, infinite ones, and a statistic without `replicates`.
    """
    if callable(values):
        if replicates is None:
            raise ValueError("a statistic of kept replicates: name the number of replicates")
        return _over(values, np.arange(arrays.count(replicates, "replicates")))
    given = np.asarray(values, np.float64)
    if given.ndim not in (1, 2) or len(set(given.shape)) > 1 or np.isinf(given).any():
        raise ValueError(f"values of shape {given.shape}: give finite ones (R,), or (R, R) of a crossed design")
    if given.ndim == 1:
        given = given[~np.isnan(given)]
        return _over(lambda kept: float(given[kept].mean()), np.arange(len(given)))._replace(p=sign_flip(given))
    known = ~np.isnan(given) & ~np.eye(len(given), dtype=bool)

    def between(kept: NDArray[np.int64]) -> float:
        block = np.ix_(kept, kept)
        return float(np.mean(given[block], where=known[block])) if known[block].any() else math.nan

    return _over(between, np.flatnonzero((known | known.T).any(axis=0)))


def _over(statistic: Statistic, known: NDArray[np.int64]) -> Replicated:
    """The jackknife over the replicates `known`; only the estimate where they are too few, NaN of none."""
    n = len(known)
    if n >= LEAST:
        found = jackknife(lambda at: statistic(known[at]), np.arange(n))
        return Replicated(found.estimate, float(found.se), float(found.low), float(found.high), n, math.nan)
    return Replicated(float(statistic(known)) if n else math.nan, math.nan, math.nan, math.nan, n, math.nan)


def sign_flip(values: ArrayLike) -> float:
    """Exact two-sided p of the mean of `values` (R,): the share of all 2^R flips of signs that reach its size.

    Valid where the values are symmetric around 0 under the null (Fisher 1935). With R values it cannot fall below
    2^(1 - R). NaN without values and for more than 20.
    """
    values = arrays.numbers(values, "values", 1).astype(np.float64)
    if not 0 < len(values) <= EXACT_UP_TO:
        return math.nan
    sums = np.zeros(1)
    for value in values:
        sums = np.concatenate([sums + value, sums - value])
    return float(np.mean(np.abs(sums) >= abs(values.sum()) - 1e-9 * np.abs(values).sum()))
