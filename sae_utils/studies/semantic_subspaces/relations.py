"""Relations between words as differences of features: king - queen against man - woman, in two models.

In: what features fire on, pairs of features, pairs of words or of groups of words. Out: whether the differences of a
relation are parallel, and whether two models arrange them alike, against features shuffled among the words. Never: a
word without a feature of its own; a feature at two ends, since differences that have one in common are alike whatever
the models hold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sae_utils import significance
from sae_utils.engine.core.spec import ProfileError
from sae_utils.engine.pairing import directions
from sae_utils.matching import Pairs
from sae_utils.significance import Result
from sae_utils.studies.semantic_subspaces.concepts import Evidence, word_mask

Floats = NDArray[np.float64]
FEWEST = 3  # differences, no two with a feature in common; with fewer, nothing varies
SCORES = ("parallel a", "parallel b", "across")


class Relations(NamedTuple):
    """Word pairs whose words have features of their own, shared by no other; a "word" may be a group of words."""

    words: list[tuple[str, str]]
    """the relations that can be tested"""
    first: NDArray[np.int64]
    """(relations,) place of the first word's pair among the pairs"""
    second: NDArray[np.int64]
    """(relations,) of the second's; no feature stands at two ends, neither in one relation nor in two"""
    without: list[str]
    """words that no pair of features spends enough of its activation on"""
    merged: int
    """relations whose two words have a feature in common"""
    shared: int
    """relations left out because a word has a feature in common with one that is kept"""


def find(chosen: Pairs, found: tuple[Evidence, Evidence], pairs: Sequence[Sequence[str]], *, share: float) -> Relations:
    """For every word the pair of features that is most about it: the largest geometric mean of both features' shares.

    Of relations that have a feature in common, that one is kept whose features spend more, by the end that spends less;
    of equals the first.

    `pairs`: of words; several with spaces between them count as one. `share`: of the activation of a pair's features on
    a word, the least that makes it the word's.

    Raises ProfileError for a relation that is not of two words.
    """
    total = np.sqrt(found[0].total[chosen.a] * found[1].total[chosen.b])
    folded = [_two(pair) for pair in pairs]
    home: dict[str, tuple[float, int]] = {}
    for word in dict.fromkeys(word for pair in folded for word in pair):
        listed = word_mask(word.split(), found[0])
        if listed.any() and len(chosen.a):
            spent = [listed.astype(np.float64) @ side.mass for side in found]
            both = np.sqrt(spent[0][chosen.a] * spent[1][chosen.b])
            both = np.divide(both, total, out=np.zeros_like(both), where=total > 0)
            if both.max() >= share:
                home[word] = float(both.max()), int(both.argmax())
    known = [pair for pair in folded if pair[0] in home and pair[1] in home]
    ends = np.array([[home[word][1] for word in pair] for pair in known], np.int64).reshape(-1, 2)
    apart = [i for i, two in enumerate(ends) if _distinct(chosen, two)]
    taken: list[int] = []
    for i in sorted(apart, key=lambda i: -min(home[word][0] for word in known[i])):
        if _distinct(chosen, ends[[*taken, i]]):
            taken.append(i)
    taken.sort()
    without = list(dict.fromkeys(word for pair in folded for word in pair if word not in home))
    return Relations(
        words=[known[i] for i in taken],
        first=ends[taken, 0],
        second=ends[taken, 1],
        without=without,
        merged=len(known) - len(apart),
        shared=len(apart) - len(taken),
    )


def _two(pair: Sequence[str]) -> tuple[str, str]:
    if isinstance(pair, str) or len(pair) != 2 or not all(isinstance(word, str) and word.split() for word in pair):
        raise ProfileError(f"relation.words: {pair!r} is no relation; write two words, or two groups: [king, queen]")
    return pair[0].casefold(), pair[1].casefold()


def _distinct(chosen: Pairs, ends: np.ndarray) -> bool:
    """Whether no feature of either side is in two of these pairs of features."""
    return all(len(np.unique(side[ends])) == ends.size for side in (chosen.a, chosen.b))


def test(
    relations: Relations, rows_a: np.ndarray, rows_b: np.ndarray, *, m: int, seed: int | Sequence[int]
) -> dict[str, Result]:
    """Parallel differences in either model, and how alike the models arrange them.

    `parallel a`, `parallel b`: mean cosine of two differences. `across`: correlation of the cosines of all pairs of
    differences in a with those in b. The null shuffles which feature belongs to which word, on the side of b
    (`parallel a`: of a), and rebuilds the differences. `rows_a`, `rows_b` (pairs, d): decoder rows of the pairs.
    Raises ValueError for fewer than FEWEST relations, and where one pair of features stands at two ends.
    """
    n = len(relations.words)
    if n < FEWEST:
        raise ValueError(f"{n} relations: at least {FEWEST} are needed")
    used, ends = np.unique(np.concatenate([relations.first, relations.second]), return_inverse=True)
    if len(used) < 2 * n:
        raise ValueError(f"{n} relations of {len(used)} pairs of features: every word needs one of its own, see `find`")
    first, second = ends[:n], ends[n:]
    a, b = (rows[used].astype(np.float64) for rows in (rows_a, rows_b))
    moved = np.random.default_rng(seed).permuted(np.tile(np.arange(len(used)), (m, 1)), axis=1)
    order = np.concatenate([np.arange(len(used))[None], moved])
    of_a, of_b = (np.array([_cosines(rows[p], first, second) for p in order]) for rows in (a, b))
    across = np.array([_correlation(of_a[0], drawn) for drawn in of_b])
    scores = dict(zip(SCORES, (of_a.mean(1), of_b.mean(1), across), strict=True))
    null = "features shuffled among the words"
    return {
        name: significance.summarise(float(values[0]), values[1:], measure=name, null=null, n=n)
        for name, values in scores.items()
    }


def columns(relations: Relations, found: Mapping[str, Result] | None) -> dict[str, str]:
    """n, and every score with its p, as text; "too few" where nothing was tested."""
    cells = {"n": f"{len(relations.words)}"}
    for name in SCORES:
        score, p = (f"{found[name].observed:.2f}", f"{found[name].p:.3f}") if found else ("too few", "")
        cells |= {name: score, f"{name}, p": p}
    return cells


def _cosines(rows: Floats, first: np.ndarray, second: np.ndarray) -> Floats:
    """(relations (relations - 1) / 2,) cosines of the differences."""
    along = directions.unit(rows[first] - rows[second])
    return np.asarray((along @ along.T)[np.triu_indices(len(first), 1)])


def _correlation(one: Floats, other: Floats) -> float:
    x, y = one - one.mean(), other - other.mean()
    return float(x @ y / max(np.linalg.norm(x) * np.linalg.norm(y), 1e-12))
