"""Subspaces without lists of words: clusters of decoder rows, and directions learnt from labelled features.

In: decoder rows (features, d), for LDA the labels of the features. Out: a cluster of every feature, its label, and
whether features are a cluster. Never: a label that the feature's own label taught.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sae_utils import arrays
from sae_utils.significance import Result, summarise
from sae_utils.studies.semantic_subspaces.subspaces import Ints


def kmeans(rows: np.ndarray, clusters: int, seed: int) -> Ints:
    """(features,) cluster of every row by direction, from 0; at most as many as rows."""
    from sklearn.cluster import KMeans

    made = KMeans(min(clusters, len(rows)), n_init=10, random_state=seed).fit(arrays.unit(rows))
    return np.asarray(made.labels_, np.int64)


def hdbscan(rows: np.ndarray, least: int) -> Ints:
    """(features,) cluster of every row by direction, -1 for rows in none; a cluster has at least `least` rows."""
    from sklearn.cluster import HDBSCAN

    if len(rows) <= least:
        return np.full(len(rows), -1, np.int64)
    made = HDBSCAN(min_cluster_size=least, min_samples=2, copy=True).fit(arrays.unit(rows))
    return np.asarray(made.labels_, np.int64)


def lda(rows: np.ndarray, labels: Ints, folds: int, seed: int) -> Ints:
    """(features,) predicted label of every row, by directions learnt from the labels of the other folds.

    Linear discriminant analysis with Ledoit-Wolf shrinkage, since there are hardly more rows than dimensions. Label -1,
    of features about nothing that is listed, is a class of its own. Labels of fewer rows than folds teach nothing.
    """
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.model_selection import StratifiedKFold

    classes, count = np.unique(labels, return_counts=True)
    teaches = np.isin(labels, classes[count >= folds])
    predicted = np.full(len(rows), -1, np.int64)
    if len(np.unique(labels[teaches])) < 2:
        return predicted
    strata = np.where(teaches, labels, -1)
    if (strata == -1).sum() < folds:  # too few for all folds
        strata[strata == -1] = classes[count.argmax()]
    unit = arrays.unit(rows)
    for train, test in StratifiedKFold(folds, shuffle=True, random_state=seed).split(unit, strata):
        train = train[teaches[train]]
        made = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto").fit(unit[train], labels[train])
        predicted[test] = made.predict(unit[test])
    return predicted


def majority_label(clusters: Ints, labels: Ints) -> Ints:
    """(features,) the most frequent label in a feature's cluster, ties to the lowest; -1 where none has a label.

    `clusters` and `labels` (features,) are -1 where there is none.
    """
    found = np.full(len(clusters), -1, np.int64)
    for number in np.unique(clusters[clusters >= 0]):
        inside = clusters == number
        if (labels[inside] >= 0).any():
            found[inside] = np.bincount(labels[inside & (labels >= 0)]).argmax()
    return found


def compactness(cluster: Ints, pool: Ints, rows: np.ndarray, *, m: int, seed: int | Sequence[int]) -> Result | None:
    """Mean cosine of two features of a cluster, against as many features of a pool, drawn `m` times.

    `cluster` and `pool` are features, each counted once. None for fewer than two, or a pool that is no larger.
    """
    inside, others, unit = np.unique(cluster), np.unique(pool), arrays.unit(rows)
    n = len(inside)
    if n < 2 or len(others) <= n:
        return None
    rng = np.random.default_rng(seed)
    draws = np.array([_mean_cosine(unit[rng.choice(others, n, replace=False)]) for _ in range(m)])
    return summarise(_mean_cosine(unit[inside]), draws, measure="mean cosine", null="random features", n=n)


def _mean_cosine(unit: NDArray[np.float64]) -> float:
    n = len(unit)
    return float((np.square(unit.sum(0)).sum() - n) / (n * (n - 1)))
