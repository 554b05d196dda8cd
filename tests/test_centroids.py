"""Centroids of classes: by plain means, and planted geometries that are shared or not."""

from types import SimpleNamespace

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


def test_shares_are_of_the_activation_at_tokens_of_a_class():
    of = np.array([0, 0, 1, 2, -1, 2])
    codes = np.array(
        [[1.0, 0, 0, 0, 2], [1, 0, 0, 0, 0], [0, 3, 0, 0, 0], [1, 0, 0, 0, 0], [2, 0, 0, 4, 0], [1, 1, 0, 0, 2]]
    )
    share = centroids.shares(sparse.csr_array(codes), of, 3)
    np.testing.assert_allclose(share[[0, 1, 3, 4]], [[2 / 6, 0, 2 / 6], [0, 0.75, 0.25], [0, 0, 0], [0.5, 0, 0.5]])
    assert np.isnan(share[2]).all()


def test_a_centroid_is_the_weighted_mean_of_unit_rows():
    rows = np.random.default_rng(0).normal(size=(3, 4))
    share = np.array([[0.5, 0, 0], [0.25, 0, 0.5], [np.nan, np.nan, np.nan]])
    found = centroids.centroids(rows, share)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    np.testing.assert_allclose(found[0], (2 * unit[0] + unit[1]) / 3)
    np.testing.assert_allclose(found[2], unit[1])
    assert np.isnan(found[1]).all()


class Sites:
    """As an artefact of sites."""

    def __init__(self, tokens):
        self.tokens = tokens

    def array(self, name):
        assert name == "tokens"
        return self.tokens


def measured(monkeypatch, seed, shared):
    """A replicate with one feature a word; rows lie near the place of their class, in one space or each in its own."""
    words = list(stories.membership("true"))
    generator = np.random.default_rng(seed)
    of, n = centroids.of_tokens(words, "classes"), len(centroids.names("classes"))
    exchange, text = generator.permutation(len(words)), np.tile(np.arange(len(words)), 2)
    tokens = {None: text, 5: exchange[text]}
    places = generator.normal(size=(n, 12))
    rows = {
        name: (places if shared else generator.normal(size=(n, 12)))[of] + 0.3 * generator.normal(size=(len(of), 12))
        for name in "ab"
    }

    def features(profile, name, reading):
        codes = sparse.csr_array(np.eye(len(words))[tokens[reading]])
        return SimpleNamespace(codes=codes, decoder=rows[name], sites=Sites(tokens[reading]))

    monkeypatch.setattr(centroids.pipeline, "features", features)
    monkeypatch.setattr(centroids.pipeline, "vocabulary", lambda profile, name: words)
    monkeypatch.setattr(centroids.replicates, "seed", lambda profile, name: 5)
    found = centroids.measured(None, ("a", "b"), "classes", "rsa_spearman", 0)
    return found, rows, of, exchange


def score(a, b):
    return spearmanr(pdist(a, "correlation"), pdist(b, "correlation")).statistic


def test_a_replicate_by_hand(monkeypatch):
    """A feature fires on its word; beside it the other model reads the exchange of the word, or the reverse."""
    found, rows, of, exchange = measured(monkeypatch, 0, True)
    n = found.n
    assert n == len(centroids.names("classes"))

    def mean(name, weight):
        unit = rows[name] / np.linalg.norm(rows[name], axis=1, keepdims=True)
        return weight.T @ unit / weight.sum(0)[:, None]

    own = np.eye(n)[of]
    others = (np.eye(n)[of[exchange]] + np.eye(n)[of[np.argsort(exchange)]]) / 2
    assert found.true == pytest.approx(score(mean("a", own), mean("b", own)))
    roles = score(mean("a", own), mean("b", others)), score(mean("a", others), mean("b", own))
    assert found.control == pytest.approx(np.mean(roles))


@pytest.mark.parametrize("shared", [True, False])
def test_a_planted_geometry_is_found_where_it_is_shared(monkeypatch, shared):
    found = [measured(monkeypatch, seed, shared)[0] for seed in range(5)]
    for arm in ("control", "overlap"):
        differences = np.array([x.true - getattr(x, arm) for x in found])
        error = differences.std(ddof=1) / np.sqrt(5)
        assert differences.mean() > 0.5 if shared else abs(differences.mean()) < 4 * error


def test_too_few_classes_have_no_excess():
    rows = np.random.default_rng(0).normal(size=(20, 4))
    rows[9:] = np.nan
    assert np.isnan(centroids.excess(rows, rows, "rsa_spearman"))
