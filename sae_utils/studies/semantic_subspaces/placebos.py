"""Placebo lists: random words with as many pairs as a concept, and similar ones.

In: the evidence of both sides, the words and pairs of a concept, the way to its pairs. Out: pairs of every placebo.
Never: a placebo that skips a step or loses pairs: every list labels features and pairs them anew, and all its pairs
count, so that a word brings all its features, which are alike, as a concept's words do.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from sae_utils.engine.core.progress import tqdm
from sae_utils.matching import Pairs
from sae_utils.studies.semantic_subspaces.concepts import Evidence, Mask, Rule, about
from sae_utils.studies.semantic_subspaces.subspaces import Floats, Ints, Results, Scoring, Seed, Way

SURPLUS = 2  # lists with the right number of pairs, for one that is kept
TRIES = 40  # lists that are drawn at most, for one that is kept
FLOOR = np.array([0.1, 0.01, 0.1, 0.1])  # least spread of the covariates, for pairs that hardly differ
TOO_FAR = 0.5  # placebos at a larger `distance` are no null of the concept


class Placebos(NamedTuple):
    """Pairs selected by lists of random words."""

    a: Ints  # (draws, n) features of side a; no draws where too few lists gave n pairs
    b: Ints  # (draws, n)
    covariates: Floats  # (draws, 4) means over the pairs, as `_covariates`
    target: Floats  # (4,) the concept's own means
    spread: Floats  # (4,) SD over the concept's pairs
    tried: int  # lists that were drawn

    @property
    def distance(self) -> float:
        """Largest difference of a mean covariate from the concept's, in SDs of its pairs; NaN without draws."""
        if not len(self.covariates):
            return float("nan")
        return float((np.abs(self.covariates.mean(0) - self.target) / np.maximum(self.spread, 1e-9)).max())


def draw(
    pairs: Pairs, found: tuple[Evidence, Evidence], live: tuple[Mask, Mask], listed: Mask, rule: Rule, way: Way, *,
    m: int, seed: Seed,
) -> Placebos:  # fmt: skip
    """Pairs of `m` random lists of words, labelled and paired like a concept's `pairs`, and as many.

    A list is a `word_order`, cut where its `way` first gives n pairs; it is dropped if the last word brings more than
    n. Of SURPLUS x m such lists the m nearest to the concept in the means of `_covariates` are kept, or none where
    TRIES x m lists give fewer than m.
    `found`: evidence of both sides over the same words. `live`: features that may be about a concept. `listed`: the
    words of the concept. Of concepts that are random lists themselves, 9% to 11% have p <= .10 by RSA, CKA, kNN overlap
    and `rotated_cosine`, with one feature a word and with three to six (200 concepts each).
    """

    def pairs_of(words: Mask) -> Pairs:
        return way(*(about(side, words, rule) & fires for side, fires in zip(found, live, strict=True)))

    rng, n, tried = np.random.default_rng(seed), len(pairs), 0
    cuts: list[tuple[Pairs, Mask]] = []
    with tqdm(total=SURPLUS * m, desc="placebo lists", leave=False, disable=None, delay=2) as bar:
        while len(cuts) < SURPLUS * m and tried < TRIES * m:
            tried += 1
            if cut := _cut(word_order(found[0], listed, rng), n, len(listed), pairs_of):
                cuts.append(cut)
                bar.update()
    own = _covariates(pairs, listed, found)
    means = np.array([_covariates(*cut, found).mean(0) for cut in cuts]).reshape(-1, len(FLOOR))
    near = _nearest(means, own.mean(0), m) if len(cuts) >= m else np.zeros(0, np.int64)
    a, b = (np.array([getattr(cuts[i][0], side) for i in near], np.int64).reshape(-1, n) for side in "ab")
    return Placebos(a, b, means[near], own.mean(0), np.maximum(own.std(0), FLOOR), tried)


def word_order(found: Evidence, listed: Mask, rng: np.random.Generator, *, reach: int = 20) -> Ints:
    """The words that occur, in random order: first those that occur about as often as the `listed` ones (words,).

    The weight of a word is the number of listed words to which it is among the `reach` nearest in frequency; words come
    as in weighted sampling without replacement (Efraimidis & Spirakis 2006). Listed words come as often as others,
    since lists that avoid them would be less unlike each other than a random list is unlike them.
    """
    present = np.flatnonzero(found.occurs > 0)
    present = present[np.argsort(found.occurs[present], kind="stable")]
    wanted = found.occurs[listed & (found.occurs > 0)]
    if not len(wanted):
        return present[:0]
    left, right = (np.searchsorted(found.occurs[present], wanted, side=side) for side in ("left", "right"))
    first = np.clip((left + right) // 2 - reach // 2, 0, max(len(present) - reach, 0))  # around equal frequencies
    begin, end = (np.bincount(x, minlength=len(present) + 1) for x in (first, np.minimum(first + reach, len(present))))
    weight = np.maximum(np.cumsum(begin - end)[:-1], 1e-9)
    return present[np.argsort(rng.exponential(size=len(present)) / weight, kind="stable")]


def _cut(order: Ints, n: int, words: int, pairs_of: Callable[[Mask], Pairs]) -> tuple[Pairs, Mask] | None:
    """Pairs and words of the shortest beginning of a list that gives at least `n` pairs; None if it gives more."""
    low, high, best = 1, len(order), None
    while low <= high:  # more words give more pairs
        middle = min((low + high) // 2, 2 * low + 16)  # most lists are short
        listed = np.isin(np.arange(words), order[:middle])
        pairs = pairs_of(listed)
        if len(pairs) >= n:
            best, high = (pairs, listed), middle - 1
        else:
            low = middle + 1
    return best if best and len(best[0]) == n else None


def _covariates(pairs: Pairs, listed: Mask, found: tuple[Evidence, Evidence]) -> Floats:
    """(n, 4) mean log firings of both sides, correlation, log number of pairs of the same partner, and of one word.

    The word of a pair is the listed one on which its feature of a spends most of its activation.
    """
    firings = np.log1p(found[0].firings[pairs.a]) + np.log1p(found[1].firings[pairs.b])
    word = found[0].mass[np.flatnonzero(listed)][:, pairs.a].toarray().argmax(0)
    of_partner, of_word = (np.log(np.bincount(of)[of]) for of in (pairs.b, word))
    return np.stack([firings / 2, pairs.r.astype(np.float64), of_partner, of_word], axis=1)


def _nearest(means: Floats, target: Floats, m: int) -> Ints:
    """The `m` rows of `means` that are nearest to the target, in SDs over the rows; in their order."""
    scale = means.std(0)
    scale[scale == 0] = 1
    return np.sort(np.argsort((((means - target) / scale) ** 2).sum(1), kind="stable")[:m])


def test(pairs: Pairs, drawn: Placebos, scoring: Scoring) -> Results:
    """Results by measure for a concept's pairs against its placebos. Raises ValueError for fewer than two of these."""
    if len(drawn.a) < 2:
        raise ValueError(f"{len(drawn.a)} of {drawn.tried} placebo lists gave {len(pairs)} pairs: no null")
    return scoring.results(np.vstack([pairs.a, drawn.a]), np.vstack([pairs.b, drawn.b]), "placebo lists")
