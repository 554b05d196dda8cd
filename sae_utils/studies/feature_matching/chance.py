"""What correlations chance alone would give, and whether two halves of the documents choose the same partners.

In: codes of two sides at the same tokens, the document of every token, pairs. Out: correlations and their maxima at
permuted tokens; p against several nulls; the share of features with the same partner in two matchings.
Never: a choice of pairs.
"""

from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sae_utils import arrays, correlate, nulls, significance
from sae_utils.engine.core.progress import tqdm
from sae_utils.engine.kernels import sides
from sae_utils.engine.kernels.sides import Codes, Side
from sae_utils.matching import Pairs
from sae_utils.nulls import Null, Rng
from sae_utils.significance import Result


def documents_permuted(document: ArrayLike) -> Null:
    """The null that puts whole documents in another order: the order of tokens within a document stays.

    On its own it rejects where both features prefer documents of one topic; see ``both_nulls``.
    ``document`` (tokens,) int, nondecreasing. Its draws are for ``rows_b`` of ``correlate.features``: documents differ
    in length, so that a document of b meets parts of documents of a.
    """
    home = np.asarray(document)
    starts = np.flatnonzero(np.diff(home, prepend=home[0] - 1))
    if (np.diff(home) < 0).any() or len(starts) < 2:
        raise ValueError(f"{len(starts)} documents: give at least 2, in nondecreasing order of token rows")
    lengths = np.diff(starts, append=len(home))

    def draw(rng: Rng, m: int, n: int) -> np.ndarray:
        if n != len(home):
            raise ValueError(f"the null was built from {len(home)} tokens, but there are {n}: give the same tokens")
        index = np.empty((m, n), np.int64)
        for row in index:
            order = rng.permutation(len(starts))
            ends = np.cumsum(lengths[order])
            row[:] = np.repeat(starts[order] - ends + lengths[order], lengths[order]) + np.arange(n)
        return index

    return Null("documents permuted", draw)


def both_nulls(document: ArrayLike) -> tuple[Null, Null]:
    """Two nulls that a correlation at the same tokens must exceed: documents permuted, and tokens within documents.

    Each breaks a dependence that is no relation of two features, and rejects too often where there is one. Documents
    permuted rejects .90 at .05 for features that share only a topic, tokens within documents .25 for features that fire
    in runs. ``conjunction`` rejects .04 and .03 of these, and .09 of features with both (20 worlds of 40 pairs each).
    ``document`` (tokens,) int, nondecreasing.
    """
    return documents_permuted(document), nulls.within_documents(np.asarray(document))


def conjunction(observed: ArrayLike, drawn: ArrayLike) -> NDArray[np.float64]:
    """p (features,) of ``observed`` (features,) against several nulls at once: the largest of theirs, 1 for NaN.

    ``drawn`` (nulls, m, features); (draws not below the observed + 1) / (m + 1) each. Source: R. Berger,
    Technometrics 24 (1982), the intersection-union test.
    """
    draws = np.asarray(drawn)
    larger = (~(draws < np.asarray(observed))).sum(axis=1)
    return np.asarray((larger + 1).max(axis=0) / (draws.shape[1] + 1))


class Maxima(NamedTuple):
    """The largest correlations of every feature with the other side at permuted tokens."""

    a: NDArray[np.float32]  # (m, features_a) with any feature of b; NaN where not live
    b: NDArray[np.float32]  # (m, features_b) with any feature of a


def maxima(a: Codes, b: Codes, rows: ArrayLike, null: Null, *, m: int, seed: int, threads: int = 1) -> Maxima:
    """Largest correlations of every feature when the tokens of b are permuted ``m`` times, both ways.

    ``rows``: positions of the tokens (n,); ``null``: of these n tokens (``documents_permuted``,
    ``nulls.within_documents``). A maximum over many candidates exceeds 0 by chance, more so for rare features.
    """
    of_a, of_b = np.empty((m, a.shape[1]), np.float32), np.empty((m, b.shape[1]), np.float32)
    one, two = sides.pair(a, b, np.asarray(rows), None)
    for s, permuted_b in enumerate(permuted(two, null, m, np.random.default_rng(seed))):
        found = correlate.features(one, permuted_b, k=1, threads=threads)
        of_a[s], of_b[s] = found.a_to_b.r[:, 0], found.b_to_a.r[:, 0]
    return Maxima(of_a, of_b)


def unrelated(
    a: Codes, b: Codes, pairs: Pairs, rows: ArrayLike, document: ArrayLike, *, m: int, seed: int
) -> NDArray[np.float32]:
    """Correlations (2, m, pairs) of given pairs when the tokens of b are permuted: the held-out r that chance gives.

    ``rows``: positions or a mask of the tokens; ``document`` of all tokens. ``m`` draws of each of ``both_nulls``.
    """
    home, generator = arrays.numbers(document, "document", 1), np.random.default_rng(seed)
    at = arrays.positions(rows, len(home), "rows", "token", masks=True)
    one, two = sides.pair(a, b, at, None)
    drawn = [
        [correlate.pairs(one, permuted_b, pairs.a, pairs.b) for permuted_b in permuted(two, null, m, generator)]
        for null in both_nulls(home[at])
    ]
    return np.array(drawn, np.float32).reshape(2, m, len(pairs.a))


def permuted(side: Side, null: Null, m: int, generator: np.random.Generator) -> Iterator[Side]:
    """A prepared side with its tokens in ``m`` orders drawn from a null; its moments are the same in all of them.

    Raises ValueError for a null that repeats tokens.
    """
    if not null.permutes:
        raise ValueError(f"{null.name!r} repeats tokens: give a null that permutes them")
    for _ in tqdm(range(m), desc=null.name, leave=False, disable=None):
        yield side._replace(at=side.at[null.draw(generator, 1, len(side.at))[0]])


# --- stability


def document_halves(document: ArrayLike, rows: ArrayLike, *, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The positions ``rows`` in two parts, each of a random half of their documents."""
    at = np.asarray(rows)
    labels, number = np.unique(np.asarray(document)[at], return_inverse=True)
    first = np.random.default_rng(seed).permutation(len(labels))[number] < len(labels) // 2
    return at[first], at[~first]


def agreement(first: Pairs, second: Pairs, chooser: Literal["a", "b"], *, m: int, seed: int) -> Result:
    """Share of features of ``chooser`` that have the same partner in two matchings, against shuffled partners.

    Only features that both matchings pair are counted. Shuffling the partners of the second matching keeps its hubs:
    where all features choose one partner, they agree by chance. Raises ValueError where no feature is in both, or where
    a feature of ``chooser`` has several partners.
    """
    (own, partner), (own_too, partner_too) = (
        (pairs.a, pairs.b) if chooser == "a" else (pairs.b, pairs.a) for pairs in (first, second)
    )
    if len(np.unique(own)) < len(own) or len(np.unique(own_too)) < len(own_too):
        raise ValueError(f"features of {chooser} have several partners: compare matchings in which {chooser} chooses")
    shared, at, at_too = np.intersect1d(own, own_too, return_indices=True)
    if not len(shared):
        raise ValueError(f"no feature of {chooser} is paired in both matchings: nothing can agree")
    x, y = partner[at], partner_too[at_too]
    generator = np.random.default_rng(seed)
    drawn = (x == y[nulls.permutations(generator, m, len(y))]).mean(axis=1)
    return significance.summarise(
        float(np.mean(x == y)), drawn, measure="agreement", null="partners shuffled", n=len(shared)
    )
