"""Relatedness of the words on which a concept's features fire, by word vectors independent of the models.

In: word `Vectors`, the words of features. Out: how alike the words of a set of features are, against random features.
Never: a word without a vector.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sae_utils import significance
from sae_utils.significance import Result
from sae_utils.studies.semantic_subspaces.word2vec import Vectors


class Related(NamedTuple):
    """Relatedness of the words of a set of features."""

    features: int
    words: int  # different words of the features that have a vector
    unknown: float  # share of the words that have none
    pairwise: Result  # mean cosine of two different words
    centroid: Result  # mean cosine of a word with the mean of all


def words_of(top: NDArray[np.int32], text: Sequence[str]) -> list[frozenset[str]]:
    """The different words among the top tokens of every feature: `top` and `words` of `concepts.Evidence`."""
    return [frozenset(text[i] for i in row if i >= 0) for row in top]


def related(
    chosen: np.ndarray, pool: np.ndarray, words: Sequence[frozenset[str]], vectors: Vectors, *, m: int, seed: int
) -> Related | None:
    """Relatedness of the words of the features `chosen`, against as many features of the `pool`, drawn `m` times.

    None where fewer than two words have a vector, or the pool is smaller than the set.
    """
    observed = _cosines(chosen, words, vectors)
    if observed is None or len(pool) < len(chosen):
        return None
    rng = np.random.default_rng(seed)
    draws = (_cosines(rng.choice(pool, len(chosen), replace=False), words, vectors) for _ in range(m))
    drawn = np.array([found[:2] for found in draws if found is not None]).reshape(-1, 2)
    if len(drawn) < 2:
        return None
    tests = [
        significance.summarise(observed[i], drawn[:, i], measure=name, null="random features", n=len(chosen))
        for i, name in enumerate(("pairwise cosine", "centroid cosine"))
    ]
    return Related(len(chosen), int(observed[2]), observed[3], *tests)


def _cosines(
    features: np.ndarray, words: Sequence[frozenset[str]], vectors: Vectors
) -> tuple[float, float, int, float] | None:
    """Mean pairwise and centroid cosine, number of words with a vector, share of words without."""
    spelt = sorted(frozenset().union(*(words[f] for f in features)))
    at = [vectors.place[word] for word in spelt if word in vectors.place]
    n = len(at)
    if n < 2:
        return None
    length = float(np.linalg.norm(vectors.unit[at].sum(0, dtype=np.float64)))
    # both means follow from the length of the sum of unit vectors
    return (length**2 - n) / (n * (n - 1)), length / n, n, 1 - n / len(spelt)
