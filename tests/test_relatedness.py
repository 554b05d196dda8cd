"""The words of related features have a higher cosine than those of random features."""

import numpy as np
import pytest

from sae_utils.studies.semantic_subspaces import relatedness, word2vec

WORDS = [f"w{i}" for i in range(40)]


@pytest.fixture(scope="module")
def vectors():
    """Words 0 to 9 are near one direction, the others anywhere."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((40, 12))
    rows[:10] = rng.standard_normal(12) * 2 + 0.3 * rows[:10]
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return word2vec.Vectors({word: i for i, word in enumerate(WORDS)}, unit.astype(np.float32))


def test_cosines_by_hand(vectors):
    words = [frozenset({"w1", "w2", "nobody"}), frozenset({"w2", "w30"}), *[frozenset()] * 5]
    pairwise, centroid, n, unknown = relatedness._cosines(np.array([0, 1]), words, vectors)
    rows = vectors.unit[[1, 2, 30]].astype(float)
    middle = rows.mean(0) / np.linalg.norm(rows.mean(0))
    assert pairwise == pytest.approx((rows @ rows.T)[np.triu_indices(3, 1)].mean(), abs=1e-6)
    assert centroid == pytest.approx((rows @ middle).mean(), abs=1e-6)
    assert (n, unknown) == (3, 0.25)


def test_related_words_exceed_random_ones(vectors):
    words = [frozenset({f"w{i}", f"w{(i + 1) % 10 if i < 10 else i}"}) for i in range(40)]
    near = relatedness.related(np.arange(6), np.arange(40), words, vectors, m=199, seed=0)
    far = relatedness.related(np.arange(20, 26), np.arange(40), words, vectors, m=199, seed=0)
    assert near.pairwise.p == near.centroid.p == 1 / 200 and far.pairwise.p > 0.05
    assert near.words == 7 and near.unknown == 0 and near.features == 6


def test_words_without_vectors_give_no_score(vectors):
    nothing = [frozenset({"x"})] * 40
    assert relatedness.related(np.arange(3), np.arange(40), nothing, vectors, m=9, seed=0) is None
    assert relatedness.related(np.arange(3), np.arange(2), [frozenset(WORDS)] * 40, vectors, m=9, seed=0) is None


def test_the_words_of_features_are_those_of_their_top_tokens():
    top = np.array([[0, 0, 2], [-1, 1, -1], [-1, -1, -1]])
    assert relatedness.words_of(top, ("a", "b", "c")) == [{"a", "c"}, {"b"}, frozenset()]


def test_random_features_without_vectors_give_no_score(vectors):
    words = [frozenset({"w1", "w2"}), frozenset({"w3", "w4"}), *[frozenset({"nobody"})] * 6]
    assert relatedness.related(np.array([0, 1]), np.arange(2, 8), words, vectors, m=9, seed=0) is None
