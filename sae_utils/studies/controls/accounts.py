"""How much of the similarity of paired features a trivial account explains, and what is left without it.

In: dissimilarities (n, n) of the paired rows of both sides, and of facts about the same features. Out: correlations.
Never: a p by shuffles, which break the ties of a fact to both sides: a partial statistic is computed in two arms with
the same features and differenced over replicates.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import squareform

from sae_utils.engine.geometry.registry import Floats


class Account(NamedTuple):
    """A correlation of dissimilarities, split by what some facts explain: raw = explained + what is left."""

    raw: float  # Spearman correlation of the dissimilarities of both sides
    explained: float  # the part of it that passes through the facts: covariance of both sides' predictions
    partial: float  # partial Spearman correlation given the facts


def account(x: np.ndarray, y: np.ndarray, facts: Sequence[np.ndarray]) -> Account:
    """How alike two dissimilarity matrices (n, n) are, and how much of it the `facts` (n, n) explain.

    All are ranked. `explained` is c_x' C^-1 c_y, with c the correlations of a side with the facts and C those among
    them; `partial` is (raw - explained) / sqrt((1 - R_x^2)(1 - R_y^2)). Facts that repeat one another are used once.
    All three are NaN where a side is constant; a constant fact is left out.
    """
    from scipy.stats import rankdata  # imported here: it takes half a second

    ranked = np.array([rankdata(squareform(matrix, checks=False)) for matrix in (x, y, *facts)])
    ranked -= ranked.mean(axis=1, keepdims=True)
    norm = np.linalg.norm(ranked, axis=1, keepdims=True)
    if (norm[:2] == 0).any():
        return Account(np.nan, np.nan, np.nan)
    ranked = np.divide(ranked, norm, out=np.zeros_like(ranked), where=norm > 0)
    r = ranked @ ranked.T
    inverse = np.linalg.pinv(r[2:, 2:], rcond=1e-10, hermitian=True) if facts else np.zeros((0, 0))
    of_x, of_y = r[0, 2:], r[1, 2:]
    explained = float(of_x @ inverse @ of_y)
    left = (1 - of_x @ inverse @ of_x) * (1 - of_y @ inverse @ of_y)
    partial = (r[0, 1] - explained) / np.sqrt(left) if left > 1e-12 else np.nan
    return Account(float(r[0, 1]), explained, float(partial))


# --- counterparts


def share(r: np.ndarray, threshold: float) -> float:
    """Share of the correlations (n,) at or above the threshold, a missing one counted as below it."""
    return float(np.mean(np.nan_to_num(r, nan=-1.0) >= threshold))


def nearest_in_firings(firings_a: np.ndarray, firings_b: np.ndarray) -> NDArray[np.int64]:
    """For every feature of A (n,) the feature of B that fires most nearly as often: of equal ones the lowest (n,)."""
    logs_a, logs_b = (np.log(np.maximum(firings, 1.0)) for firings in (firings_a, firings_b))
    return np.asarray(np.abs(logs_a[:, None] - logs_b).argmin(axis=1))


def shuffled_in_strata(firings: np.ndarray, strata: int, seed: int) -> NDArray[np.int64]:
    """A permutation (n,) that moves features among those of about equal firings: `strata` sets of nearly equal size.

    In a stratum of two or more none stays in its place.
    """
    generator = np.random.default_rng(seed)
    places: NDArray[np.int64] = np.arange(len(firings))
    for members in np.array_split(np.argsort(firings, kind="stable"), strata):
        circle = members[generator.permutation(len(members))]
        places[circle] = np.roll(circle, 1)
    return places


def attenuated(r: float, ceiling_a: float, ceiling_b: float) -> float:
    """`r` over the root of both ceilings: what it would be if either side were read without noise (Spearman 1904).

    NaN unless both ceilings are positive.
    """
    return float(r / np.sqrt(ceiling_a * ceiling_b)) if ceiling_a > 0 and ceiling_b > 0 else float("nan")


# --- one new value beside several


def predicted(values: Sequence[float] | Floats) -> tuple[float, float]:
    """The 95% prediction interval for one more value of the same kind; NaN for fewer than 3 values.

    mean -/+ t(n - 1) x SD x sqrt(1 + 1 / n).
    """
    from scipy.stats import t as student

    found = np.asarray(values, np.float64)
    if (n := len(found)) < 3:
        return float("nan"), float("nan")
    half = student.ppf(0.975, n - 1) * found.std(ddof=1) * np.sqrt(1 + 1 / n)
    return float(found.mean() - half), float(found.mean() + half)


def lies(value: float, low: float, high: float) -> str:
    """Where a value lies: inside an interval, below or above it; it cannot be told where either is missing."""
    if np.isnan([value, low, high]).any():
        return "where it cannot be told"
    return "below" if value < low else "above" if value > high else "inside"
