"""How sure a score is: intervals over feature families and over documents.

In: a statistic as a function of the rows (or documents) that are kept. Out: an `Interval`. Pairs are jackknifed by
whole families and never resampled with replacement, since a duplicated row is its own nearest neighbour and
manufactures similarity; documents may be, if matching is repeated on each draw. No test is made here.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import t as student
from tqdm import tqdm

from sae_utils import arrays

LEVEL = 0.95


class Interval(NamedTuple):
    """`estimate` of the statistic on everything, its `se`, and a 95% interval, `low` to `high`, from `units`."""

    estimate: float
    se: float
    low: float
    high: float
    units: int


def jackknife(statistic: Callable[[np.ndarray], float], families: np.ndarray) -> Interval:
    """Delete-one-family jackknife (Efron & Tibshirani 1993, ch. 11), the families being what was sampled.

    `statistic(rows)`: of the pairs at `rows`, an excess for example. `families` (n,): label of every pair. The interval
    is Student's with families - 1 degrees of freedom around the estimate. Costs one statistic a family.
    Raises ValueError below 3 families.
    """
    labels, family = np.unique(arrays.plain(families, "families"), return_inverse=True)
    n, count = len(family), len(labels)
    if count < 3:
        raise ValueError(f"{count} families of {n} rows: too few to leave one out")
    estimate = statistic(np.arange(n))
    deleted = np.array(
        [statistic(np.flatnonzero(family != f)) for f in tqdm(range(count), "jackknife", leave=False, disable=None)]
    )
    se = math.sqrt((count - 1) / count * ((deleted - deleted.mean()) ** 2).sum())
    reach = student.ppf((1 + LEVEL) / 2, count - 1) * se
    return Interval(estimate, se, estimate - reach, estimate + reach, count)


def bootstrap_documents(
    statistic: Callable[[np.ndarray], float],
    document: np.ndarray,
    *,
    m: int = 200,
    seed: int | Sequence[int] = 0,
) -> Interval:
    """Percentile bootstrap over documents drawn with replacement.

    `document` (tokens,) int, nondecreasing. `statistic(rows)`: rows of all tokens of the drawn documents, in order,
    a document as often as it was drawn; it must correlate and match again, or the interval leaves out the
    matching. Costs m + 1 statistics. Raises ValueError below 10 documents.
    """
    starts = np.flatnonzero(np.diff(document, prepend=document[0] - 1)) if len(document) else np.zeros(0, np.int64)
    if len(starts) < 10 or (np.diff(document) < 0).any():
        raise ValueError(f"{len(starts)} documents: give at least 10, in nondecreasing order of token rows")
    lengths = np.diff(starts, append=len(document))
    rng = np.random.default_rng(seed)
    estimate = statistic(np.arange(len(document)))
    draws = np.empty(m)
    for s in tqdm(range(m), "bootstrap over documents", leave=False, disable=None):
        drawn = np.sort(rng.integers(len(starts), size=len(starts)))
        first = np.repeat(starts[drawn] - np.cumsum(lengths[drawn]) + lengths[drawn], lengths[drawn])
        draws[s] = statistic(first + np.arange(len(first)))
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(estimate, float(draws.std(ddof=1)), float(low), float(high), len(starts))
