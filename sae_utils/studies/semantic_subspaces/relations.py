"""Relations between words as differences of features: king - queen against man - woman, in two models.

In: evidence of one side, pairs of words or of groups of words; decoder rows. Out: whether the differences of a relation
are parallel in a model, and arranged alike in another, against features shuffled among the words.
Never: a word without its own feature; a feature in two differences, which makes them alike in any model.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sae_utils import arrays, nulls, significance
from sae_utils.engine.core.spec import ProfileError
from sae_utils.significance import Result
from sae_utils.studies.semantic_subspaces.concepts import Evidence, Floats, Ints, Mask, word_mask

FEWEST = 3  # differences; the cosines of two do not vary
SCORES = ("parallel", "across")


class Relations(NamedTuple):
    """Pairs of words, or of groups of words, each with its own feature."""

    words: list[tuple[str, str]]  # the relations that can be tested
    first: Ints  # (relations,) feature of the first word
    second: Ints  # (relations,) feature of the second word; no feature stands in two places
    missing: list[str]  # words on which no feature spends enough of its activation
    merged: int  # relations whose two words have one feature
    shared: int  # relations that are left out because they have a feature in common with one that is kept


def find(found: Evidence, live: Mask, words: Sequence[Sequence[str]], *, share: float) -> Relations:
    """Relations with, for every word, the `live` feature (features,) that spends most of its activation there.

    If relations have a feature in common, the one with the largest shares is kept, judged by its weaker word; ties keep
    the first. `words`: two a relation; several with spaces between them count as one. `share`: the least share
    of the activation of a feature that makes it a word's. Raises ProfileError if a relation is not of two words.
    """
    folded = [_two(both) for both in words]
    best: dict[str, tuple[float, int]] = {}  # of every word the share and the feature
    for word in dict.fromkeys(word for both in folded for word in both):
        spent = word_mask(word.split(), found).astype(np.float64) @ found.mass
        of = np.divide(spent, found.total, out=np.zeros_like(spent), where=live & (found.total > 0))
        if of.size and of.max() >= share:
            best[word] = float(of.max()), int(of.argmax())
    complete = [both for both in folded if both[0] in best and both[1] in best]
    ends = np.array([[best[word][1] for word in both] for both in complete], np.int64).reshape(-1, 2)
    candidates = [i for i, two in enumerate(ends) if two[0] != two[1]]
    kept: list[int] = []
    for i in sorted(candidates, key=lambda i: -min(best[word][0] for word in complete[i])):
        if not np.isin(ends[i], ends[kept]).any():
            kept.append(i)
    kept.sort()
    return Relations(
        words=[complete[i] for i in kept],
        first=ends[kept, 0],
        second=ends[kept, 1],
        missing=list(dict.fromkeys(word for both in folded for word in both if word not in best)),
        merged=len(complete) - len(candidates),
        shared=len(candidates) - len(kept),
    )


def _two(both: Sequence[str]) -> tuple[str, str]:
    if isinstance(both, str) or len(both) != 2 or not all(isinstance(word, str) and word.split() for word in both):
        raise ProfileError(f"relation.words: {both!r} is no relation; write two words, or two groups: [king, queen]")
    return both[0].casefold(), both[1].casefold()


def test(a: Floats, b: Floats, *, m: int, seed: int | Sequence[int]) -> dict[str, Result]:
    """The scores `SCORES` of rows `a`, `b` (2 relations, d): first words, then second words; against `m` shuffles.

    `parallel`: mean cosine of two differences in a. `across`: correlation of the cosines of all two differences in a
    with those in b. The null shuffles which rows belong to which word (`across`: on the side of b), and takes the
    differences anew. Raises ValueError for fewer than FEWEST relations.
    """
    n = len(a) // 2
    if n < FEWEST or len(a) != 2 * n or len(b) != 2 * n:
        raise ValueError(f"rows of {len(a)} and {len(b)} words: two for each of at least {FEWEST} relations are needed")
    orders = np.concatenate([np.arange(2 * n)[None], nulls.permutations(np.random.default_rng(seed), m, 2 * n)])
    of_a, of_b = (np.array([_cosines(rows[order]) for order in orders]) for rows in (a, b))
    across = np.array([_correlation(of_a[0], drawn) for drawn in of_b])
    null = "features shuffled among the words"
    return {
        name: significance.summarise(float(values[0]), values[1:], measure=name, null=null, n=n)
        for name, values in zip(SCORES, (of_a.mean(1), across), strict=True)
    }


def _cosines(rows: Floats) -> Floats:
    """(relations (relations - 1) / 2,) cosines of all two differences."""
    first, second = np.split(rows.astype(np.float64), 2)
    steps = arrays.unit(first - second)
    return np.asarray((steps @ steps.T)[np.triu_indices(len(first), 1)])


def _correlation(one: Floats, other: Floats) -> float:
    x, y = one - one.mean(), other - other.mean()
    return float(x @ y / max(np.linalg.norm(x) * np.linalg.norm(y), 1e-12))
