"""Subspaces of features about one concept: how their pairs are chosen, and what other pairs score.

In: a correlation, decoder rows, masks of the features about a concept (`concepts.about`). Out: the `Pairs` of a
subspace, its scores against nulls that shuffle its pairing (anywhere, or within the parts of a union), what other
pairs score, the power of such a test. Never: a choice of what the features are about.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from sae_utils import matching, nulls, significance
from sae_utils.correlate import Correlation
from sae_utils.matching import Pairs
from sae_utils.measures import of_subsets
from sae_utils.significance import Baseline, Result
from sae_utils.studies.semantic_subspaces.concepts import Evidence, Mask, Recovery

Matching: TypeAlias = Literal["one-to-one", "many-to-one"]
Ints: TypeAlias = NDArray[np.int64]
Way: TypeAlias = Callable[[Mask, Mask], Pairs]
OUTSIDE = "procrustes_outside"  # the measure of `aligned`


def all_pairs(correlation: Correlation, how: Matching, least: float) -> Pairs:
    """All features paired, at a correlation of at least `least`: greedily one-to-one, or each of a with its best."""
    if how == "one-to-one":
        return matching.greedy(correlation, least)
    pairs = matching.many_to_one(correlation)
    return pairs.subset(pairs.r >= least)


# --- the first two ways to a subspace


def pairs_about(pairs: Pairs, about_a: Mask, about_b: Mask, *, sides: Literal["both", "either"]) -> Pairs:
    """Way 1: of all pairs, those whose features are about the concept on both sides, or on either."""
    of_a, of_b = about_a[pairs.a], about_b[pairs.b]
    return pairs.subset(of_a & of_b if sides == "both" else of_a | of_b)


def pairs_among(correlation: Correlation, about_a: Mask, about_b: Mask, *, how: Matching, least: float) -> Pairs:
    """Way 2: the features about the concept on either side, paired among themselves at an r of at least `least`."""
    if how == "one-to-one":
        return matching.greedy(correlation, least, among=(about_a, about_b))
    a, b = np.flatnonzero(about_a), np.flatnonzero(about_b)
    if not a.size * b.size:
        return Pairs.of([], [], [], len(about_a), len(about_b))
    inside = block(correlation, a, b)
    best, r = inside.argmax(1), inside.max(1)
    return Pairs.of(a, b[best], r, len(about_a), len(about_b)).subset(r >= least)


def block(correlation: Correlation, a: Ints, b: Ints) -> NDArray[np.float32]:
    """Correlations of features `a` with features `b`, and no others: (a, b), -1 where a feature is not live.

    Raises ValueError where they take more than half of the memory.
    """
    r = correlation.block(a, b)
    return np.where(np.isnan(r), np.float32(-1), r)


def pair_recovery(chosen: Pairs, true_a: Mask | None, true_b: Mask | None) -> Recovery:
    """How well the pairs recover the features that are truly about the concept, masks of both sides.

    Precision: pairs of which both features are. Recall: features of a that are, and are in a pair. NaN where the truth
    is not known.
    """
    n = len(chosen.a)
    if true_a is None or true_b is None:
        return Recovery(n, float("nan"), float("nan"))
    right, of = int((true_a[chosen.a] & true_b[chosen.b]).sum()), int(true_a.sum())
    in_pair = len(np.intersect1d(chosen.a, np.flatnonzero(true_a)))
    return Recovery(n, right / n if n else float("nan"), in_pair / of if of else float("nan"))


def only_about(about: Mapping[str, Mask], word: str) -> Mask:
    """(features,) about `word` and about no other of these, so that none counts under two."""
    others = [mask for other, mask in about.items() if other != word]
    return np.asarray(about[word] & ~np.any(others, axis=0)) if others else about[word]


def enough(chosen: Pairs, fewest: int) -> bool:
    """Whether a subspace has at least `fewest` pairs, and features enough on either side to be rearranged."""
    return len(chosen.a) >= fewest and len(np.unique(chosen.b)) >= significance.FEWEST


# --- tests


def main_part(found: Evidence, listed: Sequence[Mask], about: Mask) -> Ints:
    """(features,) of several lists (words,) the one on whose words a feature spends most of its activation.

    Features that are not about their union (`about`) are a part of their own, the last.
    """
    most = np.asarray((np.stack(listed).astype(np.float64) @ found.mass).argmax(0), np.int64)
    return np.where(about, most, len(listed))


def arrangement(
    chosen: Pairs,
    rows_a: np.ndarray,
    rows_b: np.ndarray,
    measures: Sequence[str],
    *,
    neighbours: int,
    m: int,
    seed: int | Sequence[int],
    pool: Pairs | None = None,
    part: Ints | None = None,
) -> dict[str, Result]:
    """Scores of the decoder rows of the pairs against a shuffled pairing; see `measures.of_subsets`.

    Where pairs share a partner, all that share one are given another together; the note says where their number goes
    with geometry (`nulls.reassigned`). Primary test of a subspace.
    `pool`: with it also OUTSIDE, the score of a rotation fitted on its other pairs, which stay.
    `part` (features_b,): partners change places with others of their own part only, so that what the parts alone have
    in common is in the null as well. Primary test of a union.
    """
    null = _rearranging(chosen, part)
    if part is None:
        moved = chosen.b[null.draw(np.random.default_rng(seed), m, len(chosen.b))]
    else:
        partners, group = np.unique(chosen.b, return_inverse=True)
        moved = partners[null.draw(np.random.default_rng(seed), m, len(partners))][:, group]
    note = nulls.reassigned(chosen.b).caution(rows_b[chosen.b])
    observed = of_subsets(rows_a, rows_b, chosen.a[None], chosen.b[None], measures, neighbours=neighbours)
    drawn = of_subsets(rows_a, rows_b, chosen.a[None], moved, measures, neighbours=neighbours)
    if pool is not None:
        b = np.concatenate([chosen.b[None], moved])
        scores = rotated_cosine(np.tile(chosen.a, (m + 1, 1)), b, pool, rows_a, rows_b)
        observed[OUTSIDE], drawn[OUTSIDE] = scores[:1], scores[1:]
    return {
        name: against(name, null.name, float(value[0]), drawn[name], len(chosen.a), null.movable, note)
        for name, value in observed.items()
    }


def _rearranging(chosen: Pairs, part: Ints | None) -> nulls.Null:
    """A null of pairs, or with `part` of the different partners; `movable` is of the pairs."""
    if part is None:
        return nulls.shuffled() if len(np.unique(chosen.b)) == len(chosen.b) else nulls.reassigned(chosen.b)
    of = part[np.unique(chosen.b)]
    can_move = np.bincount(of)[part[chosen.b]] > 1
    return nulls.strata(of, name="shuffled within the parts")._replace(movable=float(can_move.mean()))


def against(
    measure: str, null: str, observed: float, drawn: np.ndarray, n: int, movable: float = 1.0, note: str = ""
) -> Result:
    """One score of n pairs held against draws of a null."""
    return significance.summarise(observed, drawn, measure=measure, null=null, n=n, movable=movable, note=note)


def random_subsets(
    n: int,
    pool: Pairs,
    rows_a: np.ndarray,
    rows_b: np.ndarray,
    measures: Sequence[str],
    *,
    neighbours: int,
    m: int,
    seed: int | Sequence[int],
) -> dict[str, Baseline]:
    """What `n` pairs drawn at random from a `pool` score: all pairs, or other concepts'.

    A baseline and not a test: pairs are drawn singly, and the features of one word, which are alike, seldom together.
    `placebos` test that. Raises ValueError where the pool holds fewer pairs.
    """
    if len(pool.a) < n:
        raise ValueError(f"{len(pool.a)} pairs to draw {n} from: no baseline of this size")
    rng = np.random.default_rng(seed)
    places = np.array([rng.choice(len(pool.a), n, replace=False) for _ in range(m)])
    drawn = of_subsets(rows_a, rows_b, pool.a[places], pool.b[places], measures, neighbours=neighbours)
    return {name: Baseline(float(x.mean()), float(x.std(ddof=1)), x) for name, x in drawn.items()}


# --- a rotation fitted on pairs outside the subspace


def rotated_cosine(
    a: np.ndarray, b: np.ndarray, pool: Pairs, rows_a: np.ndarray, rows_b: np.ndarray
) -> NDArray[np.float64]:
    """Cosines (m,) of the rows of a, rotated, with those of b; the rotation is fitted on the pool without them.

    `a`, `b` (m, n): features of every draw. Of the `pool` those pairs are fitted that have no feature in common with
    the draw; rows are centred by their means. The score of Procrustes (`linear.halves_cross`), on other rows.
    """
    x, y = (rows[side].astype(np.float64) for rows, side in ((rows_a, pool.a), (rows_b, pool.b)))
    scores = np.empty(len(a))
    outside = np.array(
        [~(np.isin(pool.a, i) | np.isin(pool.b, j)) for i, j in zip(a, b, strict=True)], np.float64
    )  # (m, pairs)
    alone = np.unique(outside, axis=0, return_inverse=True)
    with threadpool_limits(1):  # threads wait for each other longer than such small matrices take
        for number, weight in enumerate(alone[0]):
            total = max(weight.sum(), 1)
            x_mean, y_mean = weight @ x / total, weight @ y / total
            left, _, right = np.linalg.svd(((x - x_mean) * weight[:, None]).T @ (y - y_mean), full_matrices=False)
            turn = left @ right
            for s in np.flatnonzero(alone[1].ravel() == number):
                u, v = (rows_a[a[s]] - x_mean) @ turn, rows_b[b[s]] - y_mean
                scores[s] = (u * v).sum() / (np.linalg.norm(rows_a[a[s]] - x_mean) * np.linalg.norm(v))
    return scores


# --- how many pairs it takes


def power(
    pool: Pairs,
    rows_a: np.ndarray,
    rows_b: np.ndarray,
    measure: str,
    sizes: Sequence[int],
    *,
    neighbours: int,
    trials: int,
    m: int,
    level: float,
    seed: int,
) -> NDArray[np.float64]:
    """(sizes,) how often `arrangement` finds p <= `level` in random subsets of a pool of pairs, by their size.

    The pool's own similarity is the effect that is to be found. NaN for sizes above the pool's.
    """
    found = np.full(len(sizes), np.nan)
    rng = np.random.default_rng(seed)
    for s, n in enumerate(sizes):
        if n > len(pool.a):
            continue
        p = []
        for trial in range(trials):
            at = rng.choice(len(pool.a), n, replace=False)
            part = pool.subset(at)
            if len(np.unique(part.b)) == 1:  # one partner for all: nothing is arranged
                p.append(1.0)
                continue
            result = arrangement(part, rows_a, rows_b, [measure], neighbours=neighbours, m=m, seed=[seed, n, trial])
            p.append(result[measure].p)
        found[s] = np.mean(np.array(p) <= level)
    return found


def fewest_pairs(sizes: Sequence[int], found: np.ndarray, enough: float) -> int:
    """The size from which on the power is at least `enough`; one more than the largest tried, if there is none."""
    good = np.nan_to_num(found, nan=0.0) >= enough
    tried = [n for n, value in zip(sizes, found, strict=True) if np.isfinite(value)]
    for n, rest in zip(sizes, range(len(sizes)), strict=True):
        if n in tried and good[rest : len(tried)].all():
            return int(n)
    return int(max(tried, default=0)) + 1
