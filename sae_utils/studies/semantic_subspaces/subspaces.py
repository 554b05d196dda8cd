"""Subspaces of features about one concept: their pairs, and the similarity of their arrangement.

In: a correlation, decoder rows, masks of the features about a concept (`concepts.about`). Out: the `Pairs` of a
subspace, their scores against a null, the scores of other pairs, the power of such a test.
Never: a choice of which features are about a concept.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from sae_utils import matching, nulls, significance
from sae_utils.correlate import Correlation
from sae_utils.inference import LEVEL
from sae_utils.matching import Pairs
from sae_utils.measures import of_subsets
from sae_utils.significance import Baseline, Result, summarise
from sae_utils.studies.semantic_subspaces import concepts
from sae_utils.studies.semantic_subspaces.concepts import Evidence, Mask, Recovery

Matching: TypeAlias = Literal["one-to-one", "many-to-one"]
MATCHINGS: tuple[Matching, ...] = ("one-to-one", "many-to-one")
Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]
Seed: TypeAlias = int | Sequence[int]
Results: TypeAlias = dict[str, Result]
Way: TypeAlias = Callable[[Mask, Mask], Pairs]
OUTSIDE = "procrustes_outside"  # the measure of `rotated_cosine`


# --- pairs


def all_pairs(correlation: Correlation, how: Matching, least: float) -> Pairs:
    """All pairs with a correlation of at least `least`: greedy one-to-one, or each feature of a with its best."""
    if how == "one-to-one":
        return matching.greedy(correlation, least)
    pairs = matching.many_to_one(correlation)
    return pairs.subset(pairs.r >= least)


def pairs_about(pairs: Pairs, about_a: Mask, about_b: Mask, *, sides: Literal["both", "either"]) -> Pairs:
    """Way 1: the pairs among all pairs whose features are about the concept on both sides, or on either."""
    of_a, of_b = about_a[pairs.a], about_b[pairs.b]
    return pairs.subset(of_a & of_b if sides == "both" else of_a | of_b)


def pairs_among(correlation: Correlation, about_a: Mask, about_b: Mask, *, how: Matching, least: float) -> Pairs:
    """Way 2: pairs of the features about the concept among themselves, with a correlation of at least `least`."""
    if how == "one-to-one":
        return matching.greedy(correlation, least, among=(about_a, about_b))
    a, b = np.flatnonzero(about_a & correlation.a.live), np.flatnonzero(about_b & correlation.b.live)
    if not len(a) or not len(b):
        return Pairs.of([], [], [], len(about_a), len(about_b))
    r = correlation.block(a, b)
    return Pairs.of(a, b[r.argmax(1)], r.max(1), len(about_a), len(about_b)).subset(r.max(1) >= least)


def only_about(about: Mapping[str, Mask], word: str) -> Mask:
    """(features,) which features are about `word` and about no other word of `about`."""
    return np.asarray(about[word] & (np.sum(list(about.values()), axis=0) == 1))


def enough(pairs: Pairs, fewest: int) -> bool:
    """Whether there are at least `fewest` pairs, with enough different partners to be rearranged."""
    return len(pairs) >= fewest and significance.enough(pairs)


def pair_recovery(pairs: Pairs, true_a: Mask | None, true_b: Mask | None) -> Recovery:
    """Precision and recall of pairs for the features truly about the concept, given as masks of both sides.

    Precision: share of pairs of two true features. Recall: share of the true features of a that are in a pair. NaN
    where the truth is not known.
    """
    n = len(pairs)
    if true_a is None or true_b is None:
        return Recovery(n, float("nan"), float("nan"))
    hits = int((true_a[pairs.a] & true_b[pairs.b]).sum())
    recall = concepts.recovery(np.isin(np.arange(len(true_a)), pairs.a), true_a).recall
    return Recovery(n, hits / n if n else float("nan"), recall)


# --- tests


class Scoring(NamedTuple):
    """Settings and rows for the scores of subspaces."""

    rows_a: np.ndarray  # (features_a, d_a) decoder rows
    rows_b: np.ndarray  # (features_b, d_b)
    measures: Sequence[str]
    neighbours: int  # of local measures
    pool: Pairs | None = None  # where given, OUTSIDE is among the measures: a rotation is fitted on its other pairs

    def results(self, a: np.ndarray, b: np.ndarray, null: str, movable: float = 1.0, note: str = "") -> Results:
        """Results for the first of several sets of pairs against the others, which are draws of the `null`.

        `a` (m + 1, n), or (1, n) for all sets, and `b` (m + 1, n): features of every set. Raises ValueError as
        `measures.of_subsets`.
        """
        scores = of_subsets(self.rows_a, self.rows_b, a, b, self.measures, neighbours=self.neighbours)
        if self.pool is not None:
            scores[OUTSIDE] = rotated_cosine(a, b, self.pool, self.rows_a, self.rows_b)
        fixed = {"null": null, "n": b.shape[1], "movable": movable, "note": note}
        return {name: summarise(float(x[0]), x[1:], measure=name, **fixed) for name, x in scores.items()}


def arrangement(pairs: Pairs, scoring: Scoring, *, m: int, seed: Seed, part: Ints | None = None) -> Results:
    """Results by measure for the decoder rows of the pairs against a shuffled pairing: the test of a subspace.

    Pairs that share a partner get another one together; the note warns where their number is related to geometry.
    `part` (features_b,): partners change places within their own part only, so that the null keeps what the parts
    alone have in common: the test of a union.
    """
    partners, group = np.unique(pairs.b, return_inverse=True)
    rng = np.random.default_rng(seed)
    if part is None:
        null = nulls.shuffled() if len(partners) == len(pairs) else nulls.reassigned(pairs.b)
        moved, movable = pairs.b[null.draw(rng, m, len(pairs))], null.movable
    else:
        null = nulls.strata(part[partners], name="shuffled within the parts")
        moved = partners[null.draw(rng, m, len(partners))][:, group]
        movable = float((np.bincount(part[partners])[part[pairs.b]] > 1).mean())
    note = nulls.reassigned(pairs.b).caution(scoring.rows_b[pairs.b])
    return scoring.results(pairs.a[None], np.concatenate([pairs.b[None], moved]), null.name, movable, note)


def main_part(found: Evidence, listed: Sequence[Mask], about: Mask) -> Ints:
    """(features,) number of the list of `listed` masks (words,) on whose words a feature has most of its activation.

    Features that are not about the union of the lists (`about`) get a number of their own, the last.
    """
    most = np.asarray((np.stack(listed).astype(np.float64) @ found.mass).argmax(0), np.int64)
    return np.where(about, most, len(listed))


def random_subsets(n: int, pool: Pairs, scoring: Scoring, *, m: int, seed: Seed) -> dict[str, Baseline]:
    """Scores by measure of `n` random pairs of a `pool`, such as all pairs, or those of other concepts.

    A baseline and not a test: pairs are drawn singly, so that the features of one word, which are alike, are seldom
    drawn together; `placebos` test that. Raises ValueError for a pool of fewer pairs.
    """
    if len(pool) < n:
        raise ValueError(f"{len(pool)} pairs to draw {n} from: no baseline of this size")
    rng = np.random.default_rng(seed)
    at = np.array([rng.choice(len(pool), n, replace=False) for _ in range(m)])
    rows_a, rows_b, measures, neighbours, _ = scoring
    scores = of_subsets(rows_a, rows_b, pool.a[at], pool.b[at], measures, neighbours=neighbours)
    return {name: Baseline(float(x.mean()), float(x.std(ddof=1)), x) for name, x in scores.items()}


def rotated_cosine(a: np.ndarray, b: np.ndarray, pool: Pairs, rows_a: np.ndarray, rows_b: np.ndarray) -> Floats:
    """Cosines (m,) of the rows of a, rotated, with those of b, after a rotation fitted on other pairs.

    `a` (m, n) or (1, n), `b` (m, n): features of every set. The rotation is fitted on the pairs of the `pool` that
    have no feature in common with the set, whose means also centre the rows. It is the score of Procrustes
    (`linear.halves_cross`) on other rows.
    """
    x, y = (rows[side].astype(np.float64) for rows, side in ((rows_a, pool.a), (rows_b, pool.b)))
    a = np.broadcast_to(a, b.shape)
    outside = [~(np.isin(pool.a, i) | np.isin(pool.b, j)) for i, j in zip(a, b, strict=True)]
    fits, fit_of = np.unique(np.array(outside, np.float64), axis=0, return_inverse=True)
    scores = np.empty(len(a))
    with threadpool_limits(1):  # threads cost more than they gain on such small matrices
        for number, weight in enumerate(fits):
            total = max(weight.sum(), 1)
            x_mean, y_mean = weight @ x / total, weight @ y / total
            left, _, right = np.linalg.svd(((x - x_mean) * weight[:, None]).T @ (y - y_mean), full_matrices=False)
            rotation = left @ right
            for s in np.flatnonzero(fit_of.ravel() == number):
                u, v = (rows_a[a[s]] - x_mean) @ rotation, rows_b[b[s]] - y_mean
                scores[s] = (u * v).sum() / (np.linalg.norm(rows_a[a[s]] - x_mean) * np.linalg.norm(v))
    return scores


# --- power


def power(pool: Pairs, scoring: Scoring, sizes: Sequence[int], *, trials: int, m: int, seed: int) -> Floats:
    """(sizes,) share of random subsets of a `pool` for which `arrangement` by the first measure finds p <= LEVEL.

    The effect to be found is the similarity of the pool. NaN for sizes above the pool's.
    """
    rng = np.random.default_rng(seed)
    measure = scoring.measures[0]
    scoring = scoring._replace(measures=[measure], pool=None)

    def p(n: int, trial: int) -> float:
        part = pool.subset(rng.choice(len(pool), n, replace=False))
        if len(np.unique(part.b)) == 1:  # one partner for all cannot be rearranged
            return 1.0
        return arrangement(part, scoring, m=m, seed=[seed, n, trial])[measure].p

    found = [[p(n, trial) for trial in range(trials)] if n <= len(pool) else [] for n in sizes]
    return np.array([np.mean(np.array(of) <= LEVEL) if of else np.nan for of in found])


def fewest_pairs(sizes: Sequence[int], power: np.ndarray, enough: float) -> int:
    """The size from which the power stays at least `enough`; without one, the largest size tried plus one."""
    tried = sorted((n, value >= enough) for n, value in zip(sizes, power, strict=True) if np.isfinite(value))
    for place, (n, _) in enumerate(tried):
        if all(found for _, found in tried[place:]):
            return int(n)
    return int(max((n for n, _ in tried), default=0)) + 1
