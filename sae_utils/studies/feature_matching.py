"""How many features have a counterpart on the other side, how stable their partners are, and what chance would give.

In: codes of two sides at the same tokens, pairs chosen on other documents, the document of every token. Out: the share
of features with a counterpart by threshold; correlations at permuted tokens; the agreement of two matchings; the mutual
pairs of a replicate in numbers.
Never: a choice of pairs; a correlation on the documents that chose them.
"""

from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sae_utils import arrays, correlate, inference, matching, nulls, pipeline, significance
from sae_utils.engine.core.progress import tqdm
from sae_utils.engine.kernels import sides
from sae_utils.engine.kernels.sides import Codes, Side
from sae_utils.engine.params import Profile
from sae_utils.matching import Pairs
from sae_utils.nulls import Null, Rng
from sae_utils.significance import Result


class Curve(NamedTuple):
    """Share of features with a counterpart; every array is (thresholds,)."""

    threshold: NDArray[np.float64]  # a partner with at least this held-out correlation is a counterpart
    share: NDArray[np.float64]  # of the pairs that can be judged
    low: NDArray[np.float64]  # 95% interval over documents, for fixed pairs
    high: NDArray[np.float64]
    judged: int  # pairs of which both features fire on the judging tokens
    unjudged: int  # the other pairs, which no share counts
    documents: int
    groups: int  # of documents, left out one after another


def curve(a: Codes, b: Codes, pairs: Pairs, document: ArrayLike, rows: ArrayLike, thresholds: ArrayLike) -> Curve:
    """Share of the ``pairs`` whose correlation on ``rows`` reaches each threshold, with an interval over documents.

    ``pairs`` hold one pair for each feature of the side that chooses (``matching.many_to_one``). ``document``
    (tokens,); ``rows`` are positions or a mask of the judging tokens.
    The interval is a jackknife over ``inference.GROUPS`` groups of whole documents with nearly equal numbers of tokens.
    It uses Student's t with groups - 1 degrees of freedom, is wider by one pair (near 0 and 1 the share may be the same
    in all groups), and is cut at 0 and 1. A pair of which a feature does not fire on the tokens that are kept does not
    enter that share. The interval held the expected share in 95% to 100% of 300 repeats (rare features in few
    documents, detectors of the words of a Zipf text, noisy copies in 3 to 15 documents).
    Raises ValueError where no pair can be judged, or below 3 documents.
    """
    r0, home = arrays.numbers(thresholds, "thresholds", 1).astype(np.float64), arrays.numbers(document, "document", 1)
    at = arrays.positions(rows, len(home), "rows", "token", masks=True)

    def share(kept: NDArray[np.int64]) -> NDArray[np.float64]:
        return reached(correlate.pairs(a, b, pairs.a, pairs.b, rows=at[kept]), r0)

    documents = len(np.unique(home[at]))
    judged = int(np.isfinite(correlate.pairs(a, b, pairs.a, pairs.b, rows=at)).sum())
    if documents < 3 or not judged:
        counts = f"{documents} documents judge {len(pairs.a)} pairs, of which {judged} fire there"
        raise ValueError(f"{counts}: give at least 3 documents and a pair")
    found = inference.jackknife(share, inference.grouped(home[at]))
    low, high = np.clip([found.low - 1 / judged, found.high + 1 / judged], 0, 1)
    return Curve(r0, found.estimate, low, high, judged, len(pairs.a) - judged, documents, found.units)


def reached(r: ArrayLike, thresholds: ArrayLike) -> NDArray[np.float64]:
    """Share (..., thresholds) of the pairs that can be judged whose ``r`` (..., pairs) reaches each threshold."""
    values = np.asarray(r)
    finite = values[..., np.isfinite(values).reshape(-1, values.shape[-1]).all(axis=0)]
    return np.stack([(finite >= r0).mean(axis=-1) for r0 in np.asarray(thresholds)], axis=-1)


# --- replicates


class Numbers(NamedTuple):
    """The pairs of one replicate; numbers are means over both roles of the documents, which choose and which judge."""

    retention: float  # share of the live features of A in a mutual pair
    r: float  # mean correlation of the mutual pairs on the documents that judge
    share_a: float  # of A's features that can be judged, those whose best partner is a counterpart
    share_b: float
    mutual: tuple[Pairs, Pairs]  # the mutual pairs of each role

    @property
    def n(self) -> int:
        """Mutual pairs of the role that has fewer."""
        return min(map(len, self.mutual))


def of_replicate(run: Profile, names: tuple[str, ...], candidates: int, counterpart: float) -> Numbers:
    """The pairs of two dictionaries in numbers; a counterpart correlates by at least ``counterpart``."""
    a, b = (pipeline.features(run, name) for name in names)
    lines, kept = [], list[Pairs]()
    for swapped in (False, True):
        both = pipeline.correlated(a, b, candidates, swapped=swapped)
        mutual = matching.mutual(both.found)
        chosen = matching.many_to_one(both.found, "a_to_b"), matching.many_to_one(both.found, "b_to_a")
        shares = [float(reached(both.held_out(pairs), [counterpart])[0]) for pairs in chosen]
        lines.append([len(mutual) / both.found.live[0], float(np.nanmean(both.held_out(mutual))), *shares])
        kept.append(mutual)
    retention, r, share_a, share_b = map(float, np.mean(lines, axis=0))
    return Numbers(retention, r, share_a, share_b, (kept[0], kept[1]))


def similarity(
    run: Profile, names: tuple[str, ...], mutual: tuple[Pairs, Pairs], measure: str, n: int, *, subsets: int, m: int,
    seed: int,
) -> dict[str, float]:  # fmt: skip
    """``observed``, ``null_mean``, ``excess`` of mutual pairs at ``n``, means over both roles, and their one ``p``."""
    a, b = (pipeline.features(run, name).decoder for name in names)
    found = [
        significance.rows_at_n((a[pairs.a], b[pairs.b]), measure, n, subsets=subsets, m=m, seed=seed)
        for pairs in mutual
    ]
    means = {key: float(np.mean([getattr(x, key) for x in found])) for key in ("observed", "null_mean", "excess")}
    return means | {"p": significance.combined([x.p for x in found])}


# --- the share as a reading, from all correlations


def best(r: ArrayLike) -> NDArray[np.int64]:
    """The partner (features,) with the largest of the correlations ``r`` (features, others), -1 where all are NaN."""
    known = np.nan_to_num(np.asarray(r), nan=-np.inf)
    return np.where(np.isfinite(known).any(axis=1), known.argmax(axis=1), -1)


def share(r: ArrayLike, partner: ArrayLike, thresholds: ArrayLike) -> NDArray[np.float64]:
    """Share (thresholds,) of features whose judging correlation with their ``partner`` reaches each threshold.

    ``r`` (features, others): all correlations on the documents that judge; ``partner`` (features,), -1 for none.
    """
    judged, chosen = np.asarray(r), np.asarray(partner)
    paired = np.flatnonzero(chosen >= 0)
    return reached(judged[paired, chosen[paired]], thresholds)


def planted_share(
    shared: float, noise: float, *, features: int, tokens: int, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Activations (tokens, features) of two sides, of which the first share ``shared`` of the features is in both.

    A feature fires on 2% of the tokens. In b a shared one keeps most of its firings; the others, a share of ``noise``
    (within .15 of it, uniformly), are at other tokens. Its correlation is near 1 - noise.
    """
    generator = np.random.default_rng(seed)
    a, elsewhere = (
        generator.exponential(size=(tokens, features)) * (generator.random((tokens, features)) < 0.02) for _ in "ab"
    )
    lost = np.clip(noise + generator.uniform(-0.15, 0.15, features), 0, 1)
    lost[round(shared * features) :] = 1
    moved = generator.random((tokens, features)) < lost
    b = np.where(moved, 0, a) + elsewhere * (generator.random((tokens, features)) < lost)
    return a.astype(np.float32), b.astype(np.float32)


# --- chance


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
