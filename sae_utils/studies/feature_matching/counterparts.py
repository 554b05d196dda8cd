"""How many features have a counterpart on the other side, and how strong pairs are on held-out documents.

In: codes of two sides at the same tokens, pairs chosen on other documents, the document of every token. Out: the share
of features with a counterpart by threshold, with an interval over documents; held-out correlations in bins; the same
share from all correlations, and planted worlds in which the truth is known.
Never: a choice of pairs by the documents that judge; a correlation on the documents that chose them.
"""

import itertools
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from sae_utils import arrays, correlate, inference
from sae_utils.engine.kernels.sides import Codes
from sae_utils.matching import Pairs


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


def bins(r: Mapping[str, ArrayLike]) -> pd.DataFrame:
    """Share of the pairs by held-out correlation: 0 or below, then ten bins of 0.1, closed above; a column a pairing.

    ``r``: pairing -> correlations (pairs,). A pair that cannot be judged (NaN) is in no share.
    """
    edges = np.round(np.linspace(0, 1, 11), 1)
    names = ["0 or below", *(f"{low:.1f} to {high:.1f}" for low, high in itertools.pairwise(edges))]
    found = pd.DataFrame({"held-out r": names})
    for name, values in r.items():
        given = np.asarray(values, np.float64)
        bin_of = np.searchsorted(edges[:-1], given[np.isfinite(given)])
        found[name] = np.bincount(bin_of, minlength=len(names)) / max(len(bin_of), 1)
    return found


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
