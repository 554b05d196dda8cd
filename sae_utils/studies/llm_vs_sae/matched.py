"""Comparable sets of pairs: two sets at equal correlation, and the interval of an excess over families of near rows.

In: held-out correlations of two sets of pairs; paired rows. Out: places of pairs that correlate equally; families of
near rows; an interval.
Never: a matching of features; a score (`significance.at_n` has those at one n).
"""

import math

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from sae_utils import arrays, inference, significance
from sae_utils.inference import Interval
from sae_utils.significance import Rows

BLOCK = 1024  # pairs whose cosines with all others are held at once


def alike_in_r(r_one: np.ndarray, r_two: np.ndarray, caliper: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Places in two sets of pairs of nearly equal correlation: nearest neighbours in r, without replacement.

    The two pairs whose correlations differ least are taken first, then the nearest two that remain, as long as they
    differ by at most `caliper`. `r_one` (n,), `r_two` (m,); NaN has no neighbour. Both results have the same length.
    """
    difference = np.abs(r_one[:, None].astype(np.float64) - r_two[None, :])
    row, column = np.nonzero(difference <= caliper)  # in row order, which decides between equal differences
    free_one, free_two = np.ones(len(r_one), bool), np.ones(len(r_two), bool)
    found: list[tuple[int, int]] = []
    for place in np.argsort(difference[row, column], kind="stable"):
        i, j = int(row[place]), int(column[place])
        if free_one[i] and free_two[j]:
            free_one[i] = free_two[j] = False
            found.append((i, j))
    one, two = np.array(found, np.int64).reshape(-1, 2).T
    return one, two


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

    More than `inference.GROUPS` families are left out in groups. Rows are sorted first, so that the order of pairs does
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
    return inference.jackknife(excess, inference.grouped(family))
