"""Placebo lists: random words with as many features as a concept, and similar ones.

In: the evidence of one side, the words of a concept, the rule that labels its features. Out: features of every placebo.
Never: a placebo that loses features: every list labels features anew, and all that it labels count, so that a word
brings all its features, which are alike, as a concept's words do.
"""

import numpy as np

from sae_utils.studies.semantic_subspaces.concepts import Evidence, Floats, Ints, Mask, Mass, about

SURPLUS = 2  # lists with the right number of features, for one that is kept
TRIES = 20  # lists that are drawn at most, for one that is kept
LONGEST = 300  # words of a list


def draw(
    found: Evidence, live: Mask, listed: Mask, rule: Mass, strength: Floats, *, m: int, seed: int | list[int]
) -> Ints:
    """(m, n) features that `m` lists of random words label, as many as the `listed` words (words,) label: n.

    A list is a `word_order`, `cut` where it labels n features. Of SURPLUS x m such lists the m nearest to the concept
    in the means of firings (log), `strength` (features,), the correlation with the best partner, and features a word
    (log) are kept; (0, n) where too few lists give n features. `live` (features,): those that may be about a concept.
    """
    rng, own = np.random.default_rng(seed), about(found, listed, rule) & live
    n = int(own.sum())
    cuts: list[Ints] = []
    for _ in range(TRIES * m if n else 0):
        features = cut(found, word_order(found, listed, rng), live, rule, n)
        if len(features):
            cuts.append(features)
        if len(cuts) == SURPLUS * m:
            break
    if len(cuts) < max(m, 1):
        return np.zeros((0, n), np.int64)
    target = covariates(np.flatnonzero(own), found, strength)
    means = np.array([covariates(features, found, strength) for features in cuts])
    scale = np.maximum(means.std(0), 1e-9)
    near = np.argsort((((means - target) / scale) ** 2).sum(1), kind="stable")[:m]
    return np.array([cuts[i] for i in np.sort(near)], np.int64)


def cut(found: Evidence, order: Ints, live: Mask, rule: Mass, n: int) -> Ints:
    """(n,) the `live` features that the first words of `order` label, as soon as there are n.

    (0,) where LONGEST words label fewer, or the word that brings the last of them brings more.
    """
    at, order = np.flatnonzero(live), order[:LONGEST]
    if not 0 < n <= len(at) or not len(order):
        return at[:0]
    spent = np.cumsum(found.mass[order][:, at].toarray(), axis=0) >= rule.share * found.total[at]
    when = np.where(spent[-1], spent.argmax(0), LONGEST)  # the word with which a feature is labelled
    last = np.sort(when)[n - 1]
    return at[when <= last] if last < LONGEST and (when <= last).sum() == n else at[:0]


def covariates(features: Ints, found: Evidence, strength: Floats) -> Floats:
    """(3,) means over features: log firings, strength, log number of features with the same main word."""
    word = found.mass[:, features].toarray().argmax(0)
    of_word = np.log(np.bincount(word)[word])
    return np.array([np.log1p(found.firings[features]).mean(), np.nanmean(strength[features]), of_word.mean()])


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
