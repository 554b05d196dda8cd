"""Relations between words as differences of features: king - queen against man - woman, in two models.

In: what features fire on, pairs of features, pairs of words or of groups of words. Out: whether the differences of a
relation are parallel, and whether two models arrange them alike, against features shuffled among the words. Never: a
word without a feature of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sae_utils.chance import significance
from sae_utils.chance.significance import Result
from sae_utils.pairing import directions
from sae_utils.studies.concepts import Evidence, member
from sae_utils.studies.subspaces import Chosen

Floats = NDArray[np.float64]
FEWEST = 3  # relations; with fewer, nothing varies


class Relations(NamedTuple):
    """Word pairs of which both words have a pair of features of their own; a "word" may be a group of words."""

    words: list[tuple[str, str]]
    """the relations that can be tested"""
    first: NDArray[np.int64]
    """(relations,) place of the first word's pair among the pairs"""
    second: NDArray[np.int64]
    """(relations,) of the second's"""
    without: list[str]
    """words that no pair of features spends enough of its activation on"""
    merged: int
    """relations whose two words have the same pair"""


def find(
    chosen: Chosen, found: tuple[Evidence, Evidence], pairs: Sequence[Sequence[str]], *, share: float
) -> Relations:
    """For every word the pair of features that is most about it: the largest geometric mean of both features' shares.

    `pairs`: of words; several with spaces between them count as one. `share`: of the activation of a pair's features on
    a word, the least that makes it the word's.
    """
    total = np.sqrt(found[0].total[chosen.a] * found[1].total[chosen.b])
    home: dict[str, int] = {}
    for word in dict.fromkeys(word.casefold() for pair in pairs for word in pair):
        listed = member(word.split(), found[0])
        if listed.any() and len(chosen.a):
            spent = [listed.astype(np.float64) @ side.mass for side in found]
            both = np.sqrt(spent[0][chosen.a] * spent[1][chosen.b])
            both = np.divide(both, total, out=np.zeros_like(both), where=total > 0)
            if both.max() >= share:
                home[word] = int(both.argmax())
    folded = [(one.casefold(), other.casefold()) for one, other in pairs]
    known = [pair for pair in folded if pair[0] in home and pair[1] in home]
    apart = [(one, other) for one, other in known if home[one] != home[other]]
    ends = np.array([(home[one], home[other]) for one, other in apart], np.int64).reshape(-1, 2)
    without = list(dict.fromkeys(word for pair in folded for word in pair if word not in home))
    return Relations(apart, ends[:, 0], ends[:, 1], without, len(known) - len(apart))


def test(
    relations: Relations, rows_a: np.ndarray, rows_b: np.ndarray, *, m: int, seed: int | Sequence[int]
) -> dict[str, Result]:
    """Parallel differences in either model, and how alike the models arrange them.

    `parallel a`, `parallel b`: mean cosine of two differences. `across`: correlation of the cosines of all pairs of
    differences in a with those in b. The null shuffles which feature belongs to which word, on the side of b
    (`parallel a`: of a), and rebuilds the differences. `rows_a`, `rows_b` (pairs, d): decoder rows of the pairs.
    Raises ValueError for fewer than FEWEST relations.
    """
    n = len(relations.words)
    if n < FEWEST:
        raise ValueError(f"{n} relations: at least {FEWEST} are needed")
    used, ends = np.unique(np.concatenate([relations.first, relations.second]), return_inverse=True)
    first, second = ends[:n], ends[n:]
    a, b = (rows[used].astype(np.float64) for rows in (rows_a, rows_b))
    moved = np.random.default_rng(seed).permuted(np.tile(np.arange(len(used)), (m, 1)), axis=1)
    order = np.concatenate([np.arange(len(used))[None], moved])
    of_a, of_b = (np.array([_cosines(rows[p], first, second) for p in order]) for rows in (a, b))
    scores = {
        "parallel a": of_a.mean(1),
        "parallel b": of_b.mean(1),
        "across": np.array([_correlation(of_a[0], drawn) for drawn in of_b]),
    }
    null = "features shuffled among the words"
    return {
        name: significance.summarise(float(values[0]), values[1:], measure=name, null=null, n=n)
        for name, values in scores.items()
    }


def _cosines(rows: Floats, first: np.ndarray, second: np.ndarray) -> Floats:
    """(relations (relations - 1) / 2,) cosines of the differences."""
    along = directions.unit(rows[first] - rows[second])
    return np.asarray((along @ along.T)[np.triu_indices(len(first), 1)])


def _correlation(one: Floats, other: Floats) -> float:
    x, y = one - one.mean(), other - other.mean()
    return float(x @ y / max(np.linalg.norm(x) * np.linalg.norm(y), 1e-12))
