"""Subspaces without a list of words: clusters of decoder rows, and directions learnt from labelled features.

In: decoder rows, for LDA the labels of the features. Out: a cluster for every feature of one side, what the pairs carry
of it to the other side, whether it is a cluster there. Never: a feature whose own label taught the direction that
labels it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sae_utils.engine.pairing import directions
from sae_utils.matching import Pairs
from sae_utils.significance import Result, summarise
from sae_utils.studies.semantic_subspaces.subspaces import Ints


def kmeans(rows: np.ndarray, clusters: int, seed: int) -> Ints:
    """(features,) cluster of every row by direction, 0 to `clusters` - 1; fewer where there are fewer rows."""
    from sklearn.cluster import KMeans

    made = KMeans(min(clusters, len(rows)), n_init=10, random_state=seed).fit(directions.unit(rows))
    return np.asarray(made.labels_, np.int64)


def hdbscan(rows: np.ndarray, least: int) -> Ints:
    """(features,) cluster of every row by direction, -1 for those in none; `least` rows make a cluster."""
    from sklearn.cluster import HDBSCAN

    if len(rows) <= least:
        return np.full(len(rows), -1, np.int64)
    made = HDBSCAN(min_cluster_size=least, min_samples=2, copy=True).fit(directions.unit(rows))
    return np.asarray(made.labels_, np.int64)


def lda(rows: np.ndarray, labels: Ints, folds: int, seed: int) -> Ints:
    """(features,) predicted label of every row, each by directions learnt from the labels of the other folds.

    Linear discriminant analysis with Ledoit-Wolf shrinkage: the rows are hardly more than their dimensions. `labels`
    -1 stands for features about nothing that is listed, a class of its own. Labels of fewer rows than folds are left
    out of the learning.
    """
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.model_selection import StratifiedKFold

    classes, count = np.unique(labels, return_counts=True)
    taught = np.isin(labels, classes[count >= folds])
    predicted = np.full(len(rows), -1, np.int64)
    if len(np.unique(labels[taught])) < 2:
        return predicted
    strata = np.where(taught, labels, -1)
    if (strata == -1).sum() < folds:  # too few to be dealt to all folds
        strata[strata == -1] = classes[count.argmax()]
    unit = directions.unit(rows)
    for learn, judge in StratifiedKFold(folds, shuffle=True, random_state=seed).split(unit, strata):
        learn = learn[taught[learn]]
        made = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto").fit(unit[learn], labels[learn])
        predicted[judge] = made.predict(unit[judge])
    return predicted


def majority_label(clusters: Ints, labels: Ints) -> Ints:
    """(features,) the label that most labelled features of a cluster have, the first of equals; -1 where none has one.

    `clusters` and `labels` (features,), both -1 where there is none.
    """
    found = np.full(len(clusters), -1, np.int64)
    for number in np.unique(clusters[clusters >= 0]):
        mine = clusters == number
        if (labels[mine] >= 0).any():
            found[mine] = np.bincount(labels[mine & (labels >= 0)]).argmax()
    return found


def carried(cluster: Ints, pairs: Pairs) -> Pairs:
    """The pairs whose feature of a is in the cluster (features of a)."""
    return pairs.subset(np.isin(pairs.a, cluster))


def compactness(cluster: Ints, pool: Ints, rows: np.ndarray, *, m: int, seed: int | Sequence[int]) -> Result | None:
    """Mean cosine of two different features of a cluster against as many of a pool, drawn `m` times.

    `cluster` and `pool` are features, each counted once. None for fewer than two, or a pool that is smaller.
    """
    mine, others, unit = np.unique(cluster), np.unique(pool), directions.unit(rows)
    n = len(mine)
    if n < 2 or len(others) <= n:
        return None
    rng = np.random.default_rng(seed)
    draws = np.array([_mean_cosine(unit[rng.choice(others, n, replace=False)]) for _ in range(m)])
    return summarise(_mean_cosine(unit[mine]), draws, measure="mean cosine", null="random features", n=n)


def _mean_cosine(unit: NDArray[np.float64]) -> float:
    n = len(unit)
    return float((np.square(unit.sum(0)).sum() - n) / (n * (n - 1)))
