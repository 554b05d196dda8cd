"""Relations between words as differences of features: king - queen against man - woman, in two models.

In: evidence of both sides, pairs of features, pairs of words or of groups of words. Out: whether the differences of a
relation are parallel, and arranged alike in both models, against features shuffled among the words.
Never: a word without its own feature; a feature in two differences, which makes them alike in any model.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from sae_utils import arrays, nulls, significance
from sae_utils.engine.core.spec import ProfileError
from sae_utils.matching import Pairs
from sae_utils.significance import Result
from sae_utils.studies.semantic_subspaces.concepts import Evidence, word_mask
from sae_utils.studies.semantic_subspaces.subspaces import Floats, Ints

FEWEST = 3  # differences; the cosines of two do not vary
SCORES = ("parallel a", "parallel b", "across")


class Relations(NamedTuple):
    """Pairs of words, or of groups of words, each with its own features."""

    words: list[tuple[str, str]]  # the relations that can be tested
    first: Ints  # (relations,) place of the first word's features among the pairs
    second: Ints  # (relations,) place of the second word's; no feature has two places
    missing: list[str]  # words on which no pair of features spends enough of its activation
    merged: int  # relations whose two words have a feature in common
    shared: int  # relations that are left out because they have a feature in common with one that is kept


def find(pairs: Pairs, found: tuple[Evidence, Evidence], words: Sequence[Sequence[str]], *, share: float) -> Relations:
    """Relations with, for every word, the pair of features that has the largest geometric mean of both shares on it.

    If relations have a feature in common, the one with the largest shares is kept, judged by its weaker word; ties keep
    the first. `words`: two a relation; several with spaces between them count as one. `share`: the least share
    of the activation of a pair of features that makes it a word's. Raises ProfileError if a relation is not of two
    words.
    """
    folded = [_two(both) for both in words]
    total = np.sqrt(found[0].total[pairs.a] * found[1].total[pairs.b])
    best: dict[str, tuple[float, int]] = {}  # of every word the share and the place
    for word in dict.fromkeys(word for both in folded for word in both):
        listed = word_mask(word.split(), found[0])
        if listed.any() and len(pairs):
            spent = [listed.astype(np.float64) @ side.mass for side in found]
            mean = np.sqrt(spent[0][pairs.a] * spent[1][pairs.b])
            mean = np.divide(mean, total, out=np.zeros_like(mean), where=total > 0)
            if mean.max() >= share:
                best[word] = float(mean.max()), int(mean.argmax())
    complete = [both for both in folded if both[0] in best and both[1] in best]
    ends = np.array([[best[word][1] for word in both] for both in complete], np.int64).reshape(-1, 2)
    candidates = [i for i, two in enumerate(ends) if _distinct(pairs, two)]
    kept: list[int] = []
    for i in sorted(candidates, key=lambda i: -min(best[word][0] for word in complete[i])):
        if _distinct(pairs, ends[[*kept, i]]):
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


def _distinct(pairs: Pairs, places: np.ndarray) -> bool:
    """Whether the pairs at `places` have no feature in common."""
    return all(len(np.unique(side[places])) == places.size for side in (pairs.a, pairs.b))


def test(
    relations: Relations, rows_a: np.ndarray, rows_b: np.ndarray, *, m: int, seed: int | Sequence[int]
) -> dict[str, Result]:
    """The scores `SCORES` of the decoder rows `rows_a`, `rows_b` (pairs, d), against `m` shuffles.

    `parallel a`, `parallel b`: mean cosine of two differences. `across`: correlation of the cosines of all two
    differences in a with those in b. The null shuffles which features belong to which word on the side of b
    (`parallel a`: of a), and takes the differences anew.
    Raises ValueError for fewer than FEWEST relations, and for a pair of features with two places.
    """
    n = len(relations.words)
    if n < FEWEST:
        raise ValueError(f"{n} relations: at least {FEWEST} are needed")
    used, ends = np.unique(np.concatenate([relations.first, relations.second]), return_inverse=True)
    if len(used) < 2 * n:
        raise ValueError(f"{n} relations of {len(used)} pairs of features: every word needs one of its own, see `find`")
    first, second = ends[:n], ends[n:]
    a, b = (rows[used].astype(np.float64) for rows in (rows_a, rows_b))
    moved = nulls.permutations(np.random.default_rng(seed), m, len(used))
    orders = np.concatenate([np.arange(len(used))[None], moved])
    of_a, of_b = (np.array([_cosines(rows[order], first, second) for order in orders]) for rows in (a, b))
    across = np.array([_correlation(of_a[0], drawn) for drawn in of_b])
    null = "features shuffled among the words"
    return {
        name: significance.summarise(float(values[0]), values[1:], measure=name, null=null, n=n)
        for name, values in zip(SCORES, (of_a.mean(1), of_b.mean(1), across), strict=True)
    }


def columns(relations: Relations, found: Mapping[str, Result] | None) -> dict[str, str]:
    """Columns of a table: n, and every score with its p, or "too few" where nothing was tested."""
    cells = {"n": f"{len(relations.words)}"}
    for name in SCORES:
        score, p = (f"{found[name].observed:.2f}", f"{found[name].p:.3f}") if found else ("too few", "")
        cells |= {name: score, f"{name}, p": p}
    return cells


def _cosines(rows: Floats, first: Ints, second: Ints) -> Floats:
    """(relations (relations - 1) / 2,) cosines of all two differences."""
    steps = arrays.unit(rows[first] - rows[second])
    return np.asarray((steps @ steps.T)[np.triu_indices(len(first), 1)])


def _correlation(one: Floats, other: Floats) -> float:
    x, y = one - one.mean(), other - other.mean()
    return float(x @ y / max(np.linalg.norm(x) * np.linalg.norm(y), 1e-12))
