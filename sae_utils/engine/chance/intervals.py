"""How sure a score is: jackknives over feature families and over documents.

In: a statistic as a function of the rows (pairs, or tokens) that are kept. Out: an `Interval`. Whole families or whole
documents are left out, and nothing is ever drawn twice: a duplicated row is its own nearest neighbour and manufactures
similarity, and a document that is drawn away takes the features with it that fire in no other. No test is made here.
"""

from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import t as student
from tqdm import tqdm

from sae_utils import arrays

LEVEL = 0.95
GROUPS = 20  # of documents or of small families: as many as t hardly notices, as few as a statistic each is worth

Value = TypeVar("Value", float, NDArray[np.float64])


class Interval(NamedTuple, Generic[Value]):
    """`estimate` of the statistic on everything, its `se`, and a 95% interval, `low` to `high`, from `units`."""

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
    labels, family = np.unique(arrays.plain(families, "families"), return_inverse=True)
    n, count = len(family), len(labels)
    if count < 3:
        raise ValueError(f"{count} families of {n} rows: too few to leave one out")
    estimate = statistic(np.arange(n))
    deleted = np.stack(
        [statistic(np.flatnonzero(family != f)) for f in tqdm(range(count), "jackknife", leave=False, disable=None)]
    )
    se = np.sqrt((count - 1) / count * ((deleted - deleted.mean(axis=0)) ** 2).sum(axis=0))
    reach = student.ppf((1 + LEVEL) / 2, count - 1) * se
    return Interval(estimate, se, estimate - reach, estimate + reach, count)


def dealt(units: ArrayLike, groups: int = GROUPS) -> NDArray[np.int64]:
    """Group of every row (n,): whole documents or families in at most `groups` groups of nearly as many rows.

    `units` (n,): label of every row. The largest comes first, each goes to the group with fewest rows (Graham 1969),
    equal ones in the order of their labels. Where there are no more units than groups, every unit is a group.
    """
    _, unit = np.unique(arrays.plain(units, "units"), return_inverse=True)
    sizes, rows = np.bincount(unit), np.zeros(groups, np.int64)
    group = np.empty(len(sizes), np.int64)
    for place in np.argsort(-sizes, kind="stable"):
        group[place] = rows.argmin()
        rows[group[place]] += sizes[place]
    return group[unit]
