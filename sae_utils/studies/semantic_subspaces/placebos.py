"""Placebo lists: what pairs score that lists of random words choose, as many as a concept's and like them.

In: what features fire on, a concept's words and pairs, the way by which they were chosen. Out: pairs of every placebo.
Never: a placebo that skips a step of the choice, or loses pairs afterwards: every list labels the features and pairs
them anew, and all its pairs count. A word brings all its features, which are alike, as a concept's words do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from sae_utils.matching import Pairs
from sae_utils.measures import of_subsets
from sae_utils.significance import Result
from sae_utils.studies.semantic_subspaces import subspaces
from sae_utils.studies.semantic_subspaces.concepts import Evidence, Mask, Rule, about
from sae_utils.studies.semantic_subspaces.subspaces import Ints, Way

SURPLUS = 2  # times as many lists as are kept, so that there is a choice among them
TRIES = 40  # lists that are drawn for one that is kept; a list seldom gives just n pairs
FLOOR = np.array([0.1, 0.01, 0.1, 0.1])  # of the spread of covariates, where a concept's pairs hardly differ
TOO_FAR = 0.5  # placebos further `apart` than this are unlike the concept, and no null of it


class Placebos(NamedTuple):
    """Pairs that lists of random words choose, as many as the concept's and like them."""

    a: Ints
    """(draws, n) features of side a; no draws where too few lists gave just n pairs"""
    b: Ints
    """(draws, n)"""
    alike: NDArray[np.float64]
    """(draws, 4) mean log firings, correlation, log number of features on one partner, log number of pairs of a word"""
    wanted: NDArray[np.float64]
    """(4,) the concept's own"""
    spread: NDArray[np.float64]
    """(4,) their SD over the concept's pairs"""
    tried: int
    """lists that were drawn"""

    @property
    def apart(self) -> float:
        """Largest difference of the placebos from the concept in a mean, in SDs of the concept's pairs; NaN of none."""
        if not len(self.alike):
            return float("nan")
        return float((np.abs(self.alike.mean(0) - self.wanted) / np.maximum(self.spread, 1e-9)).max())


def draw(
    chosen: Pairs,
    found: tuple[Evidence, Evidence],
    live: tuple[Mask, Mask],
    listed: Mask,
    rule: Rule,
    way: Way,
    *,
    m: int,
    seed: int | Sequence[int],
) -> Placebos:
    """Pairs of `m` random lists of words, labelled and paired as the concept's; every list gives n pairs.

    A list is a random order of words (`word_order`), cut where its `way` first gives n pairs; if the last word
    brings more than n, the list is dropped, so that no word loses a feature. Of SURPLUS x m such lists the m are kept
    whose means are nearest to the concept's in firings, correlation, in how many share a partner and in how many pairs
    a word has. All m or none: none where TRIES x m lists give fewer than m.
    `found`: what the features of a and b fire on, over the same words. `live`: features that may be about anything.
    `listed`: the concept's own words. Of concepts that are themselves random lists, 9% to 11% have p <= .10 by RSA,
    CKA, kNN overlap and `aligned`, with one feature a word and with three to six (200 concepts each).
    """
    rng, n, tried = np.random.default_rng(seed), len(chosen.a), 0
    cuts: list[tuple[Pairs, Mask]] = []
    with tqdm(total=SURPLUS * m, desc="placebo lists", leave=False, disable=None, delay=2) as bar:
        while len(cuts) < SURPLUS * m and tried < TRIES * m:
            tried += 1
            if cut := _cut(word_order(found[0], listed, rng), n, found, live, rule, way):
                cuts.append(cut)
                bar.update()
    wanted = _covariates(chosen, listed, found)
    means = np.array([_covariates(*cut, found).mean(0) for cut in cuts]).reshape(-1, len(FLOOR))
    near = _nearest(means, wanted.mean(0), m) if len(cuts) >= m else np.zeros(0, np.int64)
    a, b = (np.array([getattr(cuts[i][0], side) for i in near], np.int64).reshape(-1, n) for side in "ab")
    return Placebos(a, b, means[near], wanted.mean(0), np.maximum(wanted.std(0), FLOOR), tried)


def _cut(
    order: Ints, n: int, found: tuple[Evidence, Evidence], live: tuple[Mask, Mask], rule: Rule, way: Way
) -> tuple[Pairs, Mask] | None:
    """Pairs and words of the shortest piece of a list that gives at least `n` pairs; None where they are not just n."""
    low, high, best = 1, len(order), None
    while low <= high:  # more words give more pairs
        middle = min((low + high) // 2, 2 * low + 16)  # most lists are short
        listed = np.zeros(len(found[0].words), bool)
        listed[order[:middle]] = True
        pairs = way(*(about(side, listed, rule) & fires for side, fires in zip(found, live, strict=True)))
        if len(pairs.a) >= n:
            best, high = (pairs, listed), middle - 1
        else:
            low = middle + 1
    return best if best and len(best[0].a) == n else None


def test(
    chosen: Pairs,
    drawn: Placebos,
    rows_a: np.ndarray,
    rows_b: np.ndarray,
    measures: Sequence[str],
    pool: Pairs,
    *,
    neighbours: int,
) -> dict[str, Result]:
    """Scores of a concept's pairs against those of its placebos, with the rotation fitted on the rest of a `pool`.

    Raises ValueError for fewer than two placebos.
    """
    if len(drawn.a) < 2:
        raise ValueError(f"{len(drawn.a)} placebo lists of {drawn.tried} gave just {len(chosen.a)} pairs: no null")
    found = {}
    a, b = np.vstack([chosen.a[None], drawn.a]), np.vstack([chosen.b[None], drawn.b])
    scores = of_subsets(rows_a, rows_b, a, b, measures, neighbours=neighbours)
    scores[subspaces.OUTSIDE] = subspaces.rotated_cosine(a, b, pool, rows_a, rows_b)
    for name, values in scores.items():
        found[name] = subspaces.against(name, "placebo lists", float(values[0]), values[1:], len(chosen.a))
    return found


def _covariates(chosen: Pairs, listed: Mask, found: tuple[Evidence, Evidence]) -> NDArray[np.float64]:
    """(n, 4) mean log firings of either side, correlation, log number of pairs on one partner, and of one word.

    The word of a pair is the listed one on which its feature of a spends most of its activation.
    """
    firings = np.log1p(found[0].firings[chosen.a]) + np.log1p(found[1].firings[chosen.b])
    word = found[0].mass[np.flatnonzero(listed)][:, chosen.a].toarray().argmax(0)
    shared, own = (np.log(np.bincount(of)[of]) for of in (chosen.b, word))
    return np.stack([firings / 2, chosen.r.astype(np.float64), shared, own], axis=1)


def _nearest(means: NDArray[np.float64], wanted: NDArray[np.float64], m: int) -> Ints:
    """The `m` rows of `means` nearest to those `wanted`, in SDs over the rows, in the order in which they come."""
    scale = means.std(0)
    scale[scale == 0] = 1
    return np.sort(np.argsort((((means - wanted) / scale) ** 2).sum(1), kind="stable")[:m])


def word_order(found: Evidence, listed: Mask, rng: np.random.Generator, *, reach: int = 20) -> NDArray[np.int64]:
    """All words that occur in random order, those that occur about as often as listed ones first.

    A word's weight is the number of listed words to which it is among the `reach` nearest in how often it occurs; words
    come as in weighted sampling without replacement (Efraimidis & Spirakis 2006). The first so many as are listed are
    a placebo of the list; a longer placebo is a longer piece. Listed words come as often as others: lists that avoid
    them would be less unlike each other than a random list is unlike them.
    """
    there = np.flatnonzero(found.occurs > 0)
    there = there[np.argsort(found.occurs[there], kind="stable")]
    wanted = found.occurs[listed & (found.occurs > 0)]
    if not len(wanted):
        return there[:0]
    # the middle of those that occur as often
    left, right = (np.searchsorted(found.occurs[there], wanted, side=side) for side in ("left", "right"))
    first = np.clip((left + right) // 2 - reach // 2, 0, max(len(there) - reach, 0))
    steps = np.bincount(first, minlength=len(there) + 1) - np.bincount(
        np.minimum(first + reach, len(there)), minlength=len(there) + 1
    )
    weight = np.maximum(np.cumsum(steps)[:-1], 1e-9)
    return there[np.argsort(rng.exponential(size=len(there)) / weight, kind="stable")]
