"""Scores of several sets of pairs made comparable: at one number of pairs, and at equal correlation.

In: paired rows, or held-out correlations of two sets of pairs. Out: a score averaged over random subsets of one size;
places of pairs that correlate alike; how sure an excess is; tables of all that.
Never: a matching of features; a comparison of scores at different n.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sae_utils.chance import intervals, significance
from sae_utils.chance.intervals import Interval
from sae_utils.chance.significance import Result

Rows = tuple[np.ndarray, np.ndarray]  # (n, d_a) and (n, d_b): row t of either is pair t
FORMATS = (
    dict.fromkeys(("observed", "null", "null SD", "excess", "p"), "{:.3f}")
    | dict.fromkeys(("held out", "at one n", "at small n", "relative", "both"), "{:.2f}")
    | {"n": "{:,}", "z": "{:.1f}"}
)
"""how the columns of tables are printed"""


class AtN(NamedTuple):
    """A score at `n` pairs; all but p are means over random subsets of that size."""

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


def at_n(rows: Rows, measure: str, n: int, *, subsets: int, m: int, seed: int) -> AtN:
    """Score random `n` of the pairs, `subsets` times, each against its own `m` shuffled pairings.

    All pairs are scored once where there are just `n`. Raises ValueError where there are fewer.
    """
    if n > len(rows[0]):
        raise ValueError(f"{n} of {len(rows[0])} pairs: choose at most as many as there are")
    generator = np.random.default_rng(seed)
    if n == len(rows[0]):
        chosen = [np.arange(n)]
    else:
        chosen = [np.sort(generator.choice(len(rows[0]), n, replace=False)) for _ in range(subsets)]
    results = [
        significance.test(rows[0][places], rows[1][places], [measure], m=m, seed=(seed, number))[measure]
        for number, places in enumerate(chosen)
    ]
    low, high = np.mean([np.quantile(x.draws, [0.025, 0.975]) for x in results], axis=0)
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
        p=float(min(1.0, (2 if len(p) > 1 else 1) * p.mean())),
    )


def alike_in_r(r_one: np.ndarray, r_two: np.ndarray, caliper: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Places in two sets of pairs that correlate alike: nearest neighbours in r, without replacement.

    The two whose correlations differ least come first, then the nearest two of those left, and so on while they differ
    by at most `caliper`. `r_one` (n,), `r_two` (m,); NaN has no neighbour. Both answers have one length and order.
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


def excess_interval(rows: Rows, measure: str, families: int) -> Interval:
    """Excess of all pairs, and how sure it is: a jackknife over families of A's rows.

    Families are Ward clusters of A's unit rows. Nothing is sampled: the null mean must be known in closed form
    (`rsa_*`, `mutual_knn`, `cka`). Raises ValueError for a measure without one, or below 3 families.
    """
    from sklearn.cluster import AgglomerativeClustering

    unit = rows[0] / np.maximum(np.linalg.norm(rows[0], axis=1, keepdims=True), np.finfo(np.float32).tiny)
    label = AgglomerativeClustering(n_clusters=min(families, len(unit))).fit_predict(unit)

    def excess(kept: np.ndarray) -> float:
        found = significance.test(rows[0][kept], rows[1][kept], [measure], m_of={measure: 0})
        return found[measure].excess

    return intervals.jackknife(excess, label)


def columns(result: Result | None, p: float | None = None) -> dict[str, float]:
    """What a table says of a score, NaN of none; `p`: corrected, in the place of the result's own."""
    if result is None:
        return dict.fromkeys(("observed", "null", "null SD", "excess", "z", "p"), math.nan)
    return {
        "observed": result.observed,
        "null": result.null_mean,
        "null SD": result.null_sd,
        "excess": result.excess,
        "z": result.z,
        "p": result.p if p is None else p,
    }


def formats(frame: pd.DataFrame) -> dict[str, str]:
    """How to print the columns of a frame that are known here."""
    return {name: form for name, form in FORMATS.items() if name in frame}
