"""Many tests at once: corrected p-values of a family of results.

In: results of `significance.test`, or sampled p-values. Out: adjusted p-values in the same order. Contract: the maximum
of z wherever draws are at hand, Holm or Benjamini-Hochberg only where the draws are many enough for the family.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from sae_utils.chance.significance import FLAT, ROUNDING, Result

_DRAWS_A_TEST = 20


def maximum_of_z(pair_sets: Sequence[Mapping[str, Result]]) -> list[dict[str, float]]:
    """Family-wise p of every measure of every pair set: how often chance's largest z of the whole family reaches its z.

    `pair_sets`: one mapping by measure a set, as `significance.test` returns it. Permutations are shared within a set
    and must be independent across sets (a seed each). Every score is standardised by its own null, the observed one
    counted in, so that observed and draws are exchangeable. O(tests x m). Single step: Westfall & Young 1993, ch. 2.
    Raises ValueError where the numbers of draws differ.
    """
    flat = [(s, name, result) for s, results in enumerate(pair_sets) for name, result in results.items()]
    if not flat:
        raise ValueError("no results: a family needs at least one test")
    counts = {len(result.draws) for *_, result in flat}
    if len(counts) > 1:
        raise ValueError(f"the family's tests have {sorted(counts)} draws: draw all of them equally often")
    largest = np.full(counts.pop(), -np.inf)
    reached = []
    for *_, result in flat:
        everything = np.append(result.draws, result.observed)
        sd = max(float(everything.std()), FLAT)
        standard = (everything - everything.mean()) / sd
        largest = np.maximum(largest, standard[:-1])
        reached.append(standard[-1] - ROUNDING / sd)
    adjusted: list[dict[str, float]] = [{} for _ in pair_sets]
    for (s, name, _), z in zip(flat, reached, strict=True):
        adjusted[s][name] = float((largest >= z).sum() + 1) / (len(largest) + 1)
    return adjusted


def holm(p: Sequence[float] | np.ndarray, *, m: int) -> np.ndarray:
    """Holm's step-down family-wise p (tests,) of sampled `p` with `m` draws each (Holm 1979).

    Raises ValueError where m < 20 x tests: the least p then cannot survive its own family.
    """
    p, order = _sorted(p, m)
    stepped = np.maximum.accumulate(p[order] * (len(p) - np.arange(len(p))))
    return _restored(stepped, order)


def benjamini_hochberg(p: Sequence[float] | np.ndarray, *, m: int) -> np.ndarray:
    """False discovery rate at which every test is found (tests,), from sampled `p` with `m` draws each (1995).

    Valid under independence or positive dependence. Raises ValueError where m < 20 x tests.
    """
    p, order = _sorted(p, m)
    stepped = np.minimum.accumulate((p[order] * len(p) / (1 + np.arange(len(p))))[::-1])[::-1]
    return _restored(stepped, order)


def _sorted(p: Sequence[float] | np.ndarray, m: int) -> tuple[np.ndarray, np.ndarray]:
    p = np.asarray(p, dtype=np.float64)
    if p.ndim != 1 or len(p) == 0 or not ((p > 0) & (p <= 1)).all():
        raise ValueError(f"p-values of shape {p.shape}: give at least one, each above 0 and at most 1")
    if m < _DRAWS_A_TEST * len(p):
        raise ValueError(
            f"m = {m} draws for {len(p)} tests: at least {_DRAWS_A_TEST * len(p)} are needed, or use maximum_of_z"
        )
    return p, np.argsort(p, kind="stable")


def _restored(stepped: np.ndarray, order: np.ndarray) -> np.ndarray:
    adjusted = np.empty_like(stepped)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted
