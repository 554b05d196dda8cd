"""Placebo lists: what pairs score that lists of other words choose, as many as a concept's and like them.

In: what features fire on, a concept's words and pairs, the way by which they were chosen. Out: pairs of every placebo.
Never: a placebo that skips a step of the choice: every list labels the features and pairs them anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from sae_utils.chance import subsets
from sae_utils.chance.significance import Result
from sae_utils.studies import subspaces
from sae_utils.studies.concepts import Evidence, Mask, Rule, about, placebo
from sae_utils.studies.subspaces import Chosen, Ints, Way

SURPLUS = 2  # times as many pairs as are kept, so that there is a choice among them
FLOOR = np.array([0.1, 0.01, 0.1])  # of the spread of covariates, where a concept's pairs hardly differ
TOO_FAR = 0.5  # placebos further `apart` than this are unlike the concept, and no null of it


class Placebos(NamedTuple):
    """Pairs that lists of other words choose, as many as the concept's and like them."""

    a: Ints
    """(draws, n) features of side a"""
    b: Ints
    """(draws, n)"""
    alike: NDArray[np.float64]
    """(draws, 3) mean log firings, correlation and log number of features on one partner"""
    wanted: NDArray[np.float64]
    """(3,) the concept's own"""
    spread: NDArray[np.float64]
    """(3,) their SD over the concept's pairs"""
    failed: int
    """lists of which all words together gave fewer pairs"""

    @property
    def apart(self) -> float:
        """Largest difference of the placebos from the concept in a mean, in SDs of the concept's pairs; NaN of none."""
        if not len(self.alike):
            return float("nan")
        return float((np.abs(self.alike.mean(0) - self.wanted) / np.maximum(self.spread, 1e-9)).max())


def drawn(
    chosen: Chosen,
    found: tuple[Evidence, Evidence],
    live: tuple[Mask, Mask],
    listed: Mask,
    rule: Rule,
    way: Way,
    *,
    m: int,
    seed: int | Sequence[int],
) -> Placebos:
    """For `m` random lists of other words, label the features, pair them again, keep n pairs like the concept's.

    A list is a placebo (`concepts.placebo`), made longer until its `way` gives SURPLUS x n pairs, or half way from n to
    what all other words give; of these, the n nearest to the concept's pairs in firings, correlation and in how many
    share a partner are kept.
    `found`: what the features of a and b fire on, over the same words. `live`: features that may be about anything.
    `listed`: the concept's own words.
    """
    rng, n = np.random.default_rng(seed), len(chosen.a)
    wanted = _covariates(chosen, found)
    spread = np.maximum(wanted.std(0), FLOOR)
    pairs, alike, failed = [], [], 0
    # half way to what all other words give, so that lists differ
    most = len(_pairs(~listed, found, live, rule, way).a)
    target = min(SURPLUS * n, (n + most) // 2)
    for _ in tqdm(range(m), desc="placebo lists", leave=False, disable=None, delay=2):
        pool = _grown(placebo(found[0], listed, rng), int(listed.sum()), target, found, live, rule, way)
        if len(pool.a) < n:
            failed += 1
            continue
        like = _covariates(pool, found)
        at = _nearest(like, wanted, rng)
        pairs.append((pool.a[at], pool.b[at]))
        alike.append(like[at].mean(0))
    sides = np.array(pairs, np.int64).reshape(-1, 2, n)
    return Placebos(sides[:, 0], sides[:, 1], np.array(alike).reshape(-1, 3), wanted.mean(0), spread, failed)


def _grown(
    order: Ints,
    length: int,
    target: int,
    found: tuple[Evidence, Evidence],
    live: tuple[Mask, Mask],
    rule: Rule,
    way: Way,
) -> Chosen:
    """The pairs of the shortest placebo of at least `length` words that gives `target` of them, or of all words."""
    lengths = [min(length, len(order))]
    while lengths[-1] < len(order):
        lengths.append(min(len(order), lengths[-1] + max(1, lengths[-1] // 5)))
    low, high, best = 0, len(lengths) - 1, None
    while low <= high:  # more words give more pairs
        middle = (low + high) // 2
        listed = np.zeros(len(found[0].words), bool)
        listed[order[: lengths[middle]]] = True
        pool = _pairs(listed, found, live, rule, way)
        if len(pool.a) >= target or middle == len(lengths) - 1:
            best, high = pool, middle - 1
        else:
            low = middle + 1
    assert best is not None  # the last of the lengths always ends the search
    return best


def _pairs(listed: Mask, found: tuple[Evidence, Evidence], live: tuple[Mask, Mask], rule: Rule, way: Way) -> Chosen:
    return way(*(about(side, listed, rule) & fires for side, fires in zip(found, live, strict=True)))


def against(
    chosen: Chosen,
    drawn: Placebos,
    rows_a: np.ndarray,
    rows_b: np.ndarray,
    measures: Sequence[str],
    pool: Chosen,
    *,
    neighbours: int,
) -> dict[str, Result]:
    """Scores of a concept's pairs against those of its placebos, with the rotation fitted on the rest of a `pool`.

    Raises ValueError for fewer than two placebos.
    """
    if len(drawn.a) < 2:
        raise ValueError(f"{len(drawn.a)} placebo lists gave enough pairs ({drawn.failed} failed): no null")
    found = {}
    a, b = np.vstack([chosen.a[None], drawn.a]), np.vstack([chosen.b[None], drawn.b])
    scores = subsets.score(rows_a, rows_b, a, b, measures, neighbours)
    scores[subspaces.OUTSIDE] = subspaces.aligned(a, b, pool, rows_a, rows_b)
    for name, values in scores.items():
        found[name] = subspaces.against(name, "placebo lists", float(values[0]), values[1:], len(chosen.a))
    return found


def _covariates(chosen: Chosen, found: tuple[Evidence, Evidence]) -> NDArray[np.float64]:
    """(n, 3) mean log firings of either side, correlation, log number of features that share the partner."""
    firings = np.log1p(found[0].firings[chosen.a]) + np.log1p(found[1].firings[chosen.b])
    shared = np.bincount(chosen.b, minlength=1)[chosen.b]
    return np.stack([firings / 2, chosen.r.astype(np.float64), np.log(np.maximum(shared, 1))], axis=1)


def _nearest(pool: NDArray[np.float64], wanted: NDArray[np.float64], rng: np.random.Generator) -> Ints:
    """(n,) a different row of `pool` for every one of `wanted`, in random order the nearest that is left."""
    scale = np.concatenate([pool, wanted]).std(0)
    scale[scale == 0] = 1
    distance = (((wanted[:, None] - pool) / scale) ** 2).sum(2)
    at = np.empty(len(wanted), np.int64)
    for i in rng.permutation(len(wanted)):
        at[i] = distance[i].argmin()
        distance[:, at[i]] = np.inf
    return at
