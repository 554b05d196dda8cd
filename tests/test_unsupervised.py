"""Planted clusters are found without words, and exceed random features."""

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from sae_utils.studies.semantic_subspaces import unsupervised


@pytest.fixture(scope="module")
def planted():
    """90 rows around three directions of 10 dimensions."""
    rng = np.random.default_rng(0)
    truth = np.repeat([0, 1, 2], 30)
    rows = rng.standard_normal((3, 10))[truth] * 3 + 0.5 * rng.standard_normal((90, 10))
    return rows.astype(np.float32), truth


def test_clusters_are_the_planted_ones(planted):
    rows, truth = planted
    assert adjusted_rand_score(truth, unsupervised.kmeans(rows, 3, seed=0)) > 0.95
    found = unsupervised.hdbscan(rows, 5)
    assert adjusted_rand_score(truth[found >= 0], found[found >= 0]) > 0.95 and (found >= 0).mean() > 0.5


def test_clusters_do_not_depend_on_the_length_of_rows(planted):
    rows, _ = planted
    longer = rows * np.random.default_rng(1).uniform(0.1, 10, (90, 1))
    np.testing.assert_array_equal(unsupervised.kmeans(rows, 3, seed=0), unsupervised.kmeans(longer, 3, seed=0))
    np.testing.assert_array_equal(unsupervised.hdbscan(rows, 5), unsupervised.hdbscan(longer, 5))


def test_few_rows_make_few_clusters(planted):
    rows, _ = planted
    assert unsupervised.kmeans(rows[:2], 5, seed=0).max() <= 1
    assert (unsupervised.hdbscan(rows[:3], 5) == -1).all()


def test_lda_predicts_labels_of_other_folds(planted):
    rows, truth = planted
    labels = np.where(np.arange(90) % 10 == 0, -1, truth)
    predicted = unsupervised.lda(rows, labels, 5, seed=0)
    assert np.mean(predicted[labels >= 0] == truth[labels >= 0]) > 0.9


def test_lda_learns_nothing_from_shuffled_labels(planted):
    rows, truth = planted
    shares = []
    for seed in range(5):
        shuffled = np.random.default_rng(seed).permutation(truth)
        shares.append(np.mean(unsupervised.lda(rows, shuffled, 5, seed=0) == shuffled))
    assert np.mean(shares) < 0.5


def test_lda_of_one_label_predicts_none(planted):
    rows, _ = planted
    assert (unsupervised.lda(rows, np.full(90, -1), 5, seed=0) == -1).all()
    rare = np.where(np.arange(90) == 0, 1, -1)
    assert (unsupervised.lda(rows, rare, 5, seed=0) == -1).all()


def test_the_majority_label_of_a_cluster():
    clusters, labels = np.array([0, 0, 0, 1, 1, 2, -1, -1]), np.array([4, 2, 2, -1, 3, -1, 2, 2])
    assert unsupervised.majority_label(clusters, labels).tolist() == [2, 2, 2, 3, 3, -1, -1, -1]


def test_a_cluster_is_more_compact_than_random_features(planted):
    rows, truth = planted
    pool = np.arange(90)
    one = unsupervised.compactness(np.flatnonzero(truth == 1)[:12], pool, rows, m=199, seed=0)
    mixed = unsupervised.compactness(pool[::8], pool, rows, m=199, seed=0)
    assert one.p == 1 / 200 and mixed.p > 0.05 and one.n == 12
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    twelve = unit[np.flatnonzero(truth == 1)[:12]]
    assert one.observed == pytest.approx((twelve @ twelve.T)[np.triu_indices(12, 1)].mean(), abs=1e-5)


def test_features_that_repeat_count_once(planted):
    rows, _ = planted
    twice = unsupervised.compactness(np.array([1, 1, 2]), np.arange(90), rows, m=19, seed=0)
    assert twice.n == 2
    assert unsupervised.compactness(np.array([1, 1]), np.arange(90), rows, m=19, seed=0) is None
    assert unsupervised.compactness(np.arange(5), np.arange(5), rows, m=19, seed=0) is None
