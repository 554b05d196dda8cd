"""Many tests at once: corrected p-values of a family of results.

In: results of `significance.test`, or sampled p-values. Out: adjusted p-values in the same order. Contract: the maximum
of z wherever draws are at hand, Holm or Benjamini-Hochberg only where the draws are many enough for the family.
"""

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TypeVar

import numpy as np

from sae_utils import arrays
from sae_utils.significance import FLAT, ROUNDING, Result

Key = TypeVar("Key", bound=Hashable)
_DRAWS_A_TEST = 20


def maximum_of_z(pair_sets: Mapping[Key, Mapping[str, Result]]) -> dict[Key, dict[str, float]]:
    """Family-wise p of every measure of every pair set: how often chance's largest z of the whole family reaches its z.

    `pair_sets`: for every set of pairs its results by measure, as `significance.test` returns them. Permutations are
    shared within a set and must be independent across sets (a seed each). Every score is standardised by its own null,
    the observed one counted in, so that observed and draws are exchangeable. What is undefined is NaN and no test of
    the family. O(tests x m). Single step: Westfall & Young 1993, ch. 2.
    Raises ValueError where the numbers of draws differ.
    """
    flat = [(s, name, result) for s, results in pair_sets.items() for name, result in results.items()]
    counts = {len(result.draws) for *_, result in flat}
    if len(counts) > 1:
        raise ValueError(f"the family's tests have {sorted(counts)} draws: draw all of them equally often")
    adjusted = {s: dict.fromkeys(results, math.nan) for s, results in pair_sets.items()}
    flat = [test for test in flat if not test[-1].undefined]
    largest = np.full(counts.pop() if counts else 0, -np.inf)
    reached = []
    for *_, result in flat:
        everything = np.append(result.draws, result.observed)
        sd = max(float(everything.std()), FLAT)
        standard = (everything - everything.mean()) / sd
        largest = np.maximum(largest, standard[:-1])
        reached.append(standard[-1] - ROUNDING / sd)
    for (s, name, _), z in zip(flat, reached, strict=True):
        adjusted[s][name] = float((largest >= z).sum() + 1) / (len(largest) + 1)
    return adjusted


def holm(p: Sequence[float] | np.ndarray, *, m: int) -> np.ndarray:
    """Holm's step-down family-wise p (tests,) of sampled `p` with `m` draws each (Holm 1979).

    NaN is no test of the family, and stays. Raises ValueError where m < 20 x tests: the least p then cannot survive its
    own family.
    """
    return _corrected(p, m, lambda least_first: np.maximum.accumulate(least_first * np.arange(len(least_first), 0, -1)))


def benjamini_hochberg(p: Sequence[float] | np.ndarray, *, m: int) -> np.ndarray:
    """False discovery rate at which every test is found (tests,), from sampled `p` with `m` draws each (1995).

    Valid under independence or positive dependence. NaN and ValueError as in `holm`.
    """

    def stepped(least_first: np.ndarray) -> np.ndarray:
        scaled: np.ndarray = least_first * len(least_first) / (1 + np.arange(len(least_first)))
        return np.minimum.accumulate(scaled[::-1])[::-1]

    return _corrected(p, m, stepped)


def _corrected(p: Sequence[float] | np.ndarray, m: int, step: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """`step` of the tests that there are, the least p first, in the places of `p`."""
    p = arrays.numbers(p, "p", 1).astype(np.float64)
    if len(p) == 0 or ((p <= 0) | (p > 1)).any():
        raise ValueError(f"p-values of shape {p.shape}: give at least one, each above 0 and at most 1")
    order = np.argsort(p, kind="stable")[: (~np.isnan(p)).sum()]  # NaN last
    if m < (least := _DRAWS_A_TEST * len(order)):
        raise ValueError(f"m = {m} draws for {len(order)} tests: at least {least} are needed, or use maximum_of_z")
    adjusted = np.full(len(p), np.nan)
    adjusted[order] = np.minimum(step(p[order]), 1.0)
    return adjusted
