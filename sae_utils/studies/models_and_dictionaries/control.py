"""The positive control: shared features for content words, and features for the true classes.

In: the features of two dictionaries at the same sites, the true class of every token. Out: the share of content
features with a counterpart and the similarity of their arrangement, at the same n for every B; the best feature for
each class.
Never: a verdict; training tokens; a feature judged on the tokens that chose it.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import sparse

from sae_utils import correlate, inference, matching, significance
from sae_utils.pipeline import Correlated

CONTENT = 0.8  # a content feature has more than this share of its activation on content words
DRAWS = 4999  # shuffled pairings of a test of geometry
FEWEST = 10  # content features; below, no score


class Shared(NamedTuple):
    """The part of A's content features that B shares."""

    n: int  # content features of A
    share: float  # of them with a counterpart: held-out r of the best partner at or above the threshold
    r: float  # mean held-out correlation of the one-to-one partners
    geometry: float  # similarity of the decoder rows of one-to-one partners, as excess over a shuffled pairing
    z: float = math.nan  # of that similarity
    p: float = math.nan  # of that similarity, from shuffled pairings


def content_features(codes: sparse.csr_array, classes: np.ndarray, minimum: int) -> np.ndarray:
    """Numbers of the content features: those with over `CONTENT` of their activation on tokens of a class.

    They fire at least `minimum` times. If no token has a class, all features that fire often enough are returned.
    `codes` (tokens, features) are not negative; `classes` (tokens,) are -1 for tokens of no class.
    """
    total = np.asarray(codes.sum(axis=0)).ravel()
    on_content = np.asarray(codes[classes >= 0].sum(axis=0)).ravel()
    firings = np.bincount(codes.indices, minlength=codes.shape[1])
    classed = (classes >= 0).any()
    return np.flatnonzero((firings >= minimum) & ((on_content > CONTENT * total) | (not classed)))


def shared(both: Correlated, *, counterpart: float, minimum: int, measure: str) -> Shared:
    """The counterparts of A's content features in B; NaN for fewer than `FEWEST` content features.

    Features are paired on the documents that choose and correlated on those that judge. For the share, every content
    feature takes its best partner. For geometry, all live features are paired one-to-one with the largest sum of
    correlations, and the pairs of A's content features are kept: the same features, and the same n, for every B.
    """
    a, b, found = both.a, both.b, both.found
    content = content_features(a.codes[both.on_matching], a.sites.array("classes")[both.on_matching], minimum)
    if len(content) < FEWEST:
        return Shared(len(content), math.nan, math.nan, math.nan)
    best = found.a_to_b.index[content, 0]
    best_r = correlate.pairs(*both.judged, content, best)
    pairs = matching.optimal(found)
    kept = np.isin(pairs.a, content)
    rows_a, rows_b = pairs.a[kept], pairs.b[kept]
    r = correlate.pairs(*both.judged, rows_a, rows_b)
    geometry = significance.test(a.decoder[rows_a], b.decoder[rows_b], [measure], m=DRAWS, seed=0)[measure]
    return Shared(
        n=len(content),
        share=float(np.mean(np.nan_to_num(best_r) >= counterpart)),
        r=float(np.nanmean(r)),
        geometry=geometry.excess,
        z=geometry.z,
        p=geometry.p,
    )


def gap(
    compared: Mapping[tuple[str, str], Shared], seeds: Sequence[str], negatives: Sequence[str], quantity: str
) -> inference.Interval:
    """The mean of a quantity between seeds minus its mean against the negatives, with a jackknife over seeds.

    `compared`: results of `shared`, for every pair of `seeds` in their order, and for each seed and its negative.
    `quantity`: a field of `Shared`.
    """

    def difference(kept: np.ndarray) -> float:
        within = [compared[seeds[i], seeds[j]] for i, j in itertools.combinations(sorted(kept), 2)]
        against = [compared[seeds[i], negatives[i]] for i in kept]
        return float(np.mean([getattr(x, quantity) for x in within]) - np.mean([getattr(x, quantity) for x in against]))

    return inference.jackknife(difference, np.arange(len(seeds)))


def best_f1(
    activations: Any, classes: np.ndarray, fit: np.ndarray, judge: np.ndarray, names: Sequence[str]
) -> pd.DataFrame:
    """The feature and threshold with the highest F1 for each class on the tokens `fit`, and their F1 on `judge`.

    A feature predicts a class where its activation is at least the threshold; every threshold at which a token of `fit`
    changes sides is tried (for sparse codes: above zero). F1 = 2 TP / (predicted + true).
    `activations` (tokens, features): CSR or dense. `classes` (tokens,): index into `names`, -1 where there is none.
    `fit`, `judge`: token numbers. Classes without a token in either are left out. One row a class: class, feature,
    threshold, fit (F1), F1 (on `judge`).
    """
    columns = sparse.csc_array(activations[fit]) if sparse.issparse(activations) else np.asarray(activations[fit])
    present = [c for c in range(len(names)) if (classes[fit] == c).any() and (classes[judge] == c).any()]
    member = classes[fit][:, None] == np.array(present)  # (n, classes)
    size = member.sum(0)
    best = np.zeros(len(present))
    feature = np.zeros(len(present), int)
    threshold = np.full(len(present), np.inf)
    for number in range(activations.shape[1]):
        value, token = _column(columns, number)
        order = np.argsort(-value, kind="stable")
        value = value[order]
        hits = np.cumsum(member[token[order]], axis=0, dtype=np.int32)
        f1 = 2 * hits / (np.arange(1, len(value) + 1)[:, None] + size)
        f1[:-1][value[:-1] == value[1:]] = 0  # no threshold falls between equal values
        for c in np.flatnonzero(f1.max(0, initial=0) > best):
            at = int(f1[:, c].argmax())
            best[c], feature[c], threshold[c] = f1[at, c], number, value[at]
    chosen = activations[judge][:, feature]
    fires = (chosen.toarray() if sparse.issparse(chosen) else np.asarray(chosen)) >= threshold
    truth = classes[judge][:, None] == np.array(present)
    judged = 2 * (fires & truth).sum(0) / np.maximum(fires.sum(0) + truth.sum(0), 1)
    labels = [names[c] for c in present]
    return pd.DataFrame({"class": labels, "feature": feature, "threshold": threshold, "fit": best, "F1": judged})


def _column(columns: Any, number: int) -> tuple[np.ndarray, np.ndarray]:
    if not sparse.issparse(columns):
        return columns[:, number], np.arange(len(columns))
    span = slice(columns.indptr[number], columns.indptr[number + 1])
    return columns.data[span], columns.indices[span]
