"""Centroids of classes: by plain means, and planted geometries that are shared or not."""

import numpy as np
import pytest
from scipy import sparse
from scipy.spatial.distance import pdist
from scipy.stats import spearmanr

from sae_utils.engine.text import stories
from sae_utils.studies.semantic_subspaces import centroids


def test_every_word_of_the_stories_has_its_class_and_its_list():
    membership = stories.membership("true")
    words = [*membership, "the", "."]
    classes, lists = (centroids.names(level) for level in ("classes", "lists"))
    of_class, of_list = (centroids.of_tokens(words, level) for level in ("classes", "lists"))
    assert [classes[place] for place in of_class[:-2]] == [own[0] for own in membership.values()]
    assert [lists[place] for place in of_list[:-2]] == [" ".join(own) for own in membership.values()]
    assert of_class[-2:].tolist() == of_list[-2:].tolist() == [-1, -1]


def test_a_label_is_the_class_with_the_largest_share_if_that_is_enough():
    of = np.array([0, 0, 1, 2, -1, 2])
    codes = np.array(
        [[1.0, 0, 0, 0, 2], [1, 0, 0, 0, 0], [0, 3, 0, 0, 0], [1, 0, 0, 0, 0], [2, 0, 0, 4, 0], [1, 1, 0, 0, 2]]
    )
    share = centroids.shares(sparse.csr_array(codes), of, 3)
    np.testing.assert_allclose(share[[0, 1, 3, 4]], [[2 / 6, 0, 2 / 6], [0, 0.75, 0.25], [0, 0, 0], [0.5, 0, 0.5]])
    assert np.isnan(share[2]).all()
    assert centroids.label(share, 0.5).tolist() == [-1, 1, -1, -1, 0]
    assert centroids.label(share, 0.3).tolist() == [0, 1, -1, -1, 0]


def test_a_centroid_is_the_mean_of_its_rows():
    rows = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    found = centroids.centroids(rows, np.array([1, -1, 1, 3, -1, 1]), 4)
    np.testing.assert_allclose(found[1], rows[[0, 2, 5]].mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(found[3], rows[3], rtol=1e-6)
    assert np.isnan(found[[0, 2]]).all()


def test_only_classes_of_both_models_in_both_arms_count():
    a, b, other = np.random.default_rng(0).normal(size=(3, 20, 8))
    a[3], b[7], other[9] = np.nan, np.nan, np.nan
    found = centroids.between(a, b, other, "rsa_spearman", 10)
    kept = [i for i in range(20) if i not in (3, 7, 9)]
    by_hand = [spearmanr(pdist(a[kept], "correlation"), pdist(x[kept], "correlation")).statistic for x in (b, other)]
    assert found.n == 17 and (found.true, found.control) == pytest.approx(by_hand)
    assert found.value == pytest.approx(by_hand[0] - by_hand[1])
    assert np.isnan(centroids.between(a, b, other, "rsa_spearman", 18).value)


@pytest.mark.parametrize("shared", [True, False])
def test_a_planted_geometry_is_found_where_it_is_shared(shared):
    """60 words in 20 classes; both models put the words of a class near its place, in one space or in their own."""
    classes, words = 20, 60
    differences = []
    for seed in range(8):
        generator = np.random.default_rng(seed)
        class_of, exchange = np.arange(words) % classes, generator.permutation(words)
        places = generator.normal(size=(classes, 16))
        own = places if shared else generator.normal(size=(classes, 16))
        rows_a, rows_b = (x[class_of] + 0.5 * generator.normal(size=(words, 16)) for x in (places, own))
        tokens = generator.integers(words, size=3000)
        codes = sparse.csr_array((tokens[:, None] == np.arange(words)).astype(np.float32))  # one feature a word
        label_a = centroids.label(centroids.shares(codes, class_of[tokens], classes), 0.5)
        label_c = centroids.label(centroids.shares(codes, class_of[exchange[tokens]], classes), 0.5)
        a, b, control = (
            centroids.centroids(rows, label, classes)
            for rows, label in ((rows_a, label_a), (rows_b, label_a), (rows_b, label_c))
        )
        assert (label_a == class_of).all() and (label_c == class_of[exchange]).all()
        differences.append(centroids.between(a, b, control, "rsa_spearman", 10).value)
    mean, error = np.mean(differences), np.std(differences) / np.sqrt(8)
    assert mean > 0.5 if shared else abs(mean) < 3 * error
