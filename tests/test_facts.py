import numpy as np
import pytest
from scipy import sparse

from sae_utils.studies.controls import facts

TOKENS = np.array([0, 1, 0, 2, 3, 1])
CODES = np.array([[1.0, 0, 0], [2, 0, 1], [3, 0, 0], [0, 0, 1], [4, 0, 0], [0, 0, 1]])


def test_mass_is_the_activation_summed_by_token():
    mass = facts.token_mass(sparse.csr_array(CODES), TOKENS, 4)
    expected = [[CODES[TOKENS == token, feature].sum() for token in range(4)] for feature in range(3)]
    assert mass.toarray().tolist() == expected
    with pytest.raises(ValueError, match="codes have 6 rows, and there are 5 tokens"):
        facts.token_mass(sparse.csr_array(CODES), TOKENS[:5], 4)


def test_top_tokens_are_the_heaviest_and_of_equal_ones_the_first():
    mass = facts.token_mass(sparse.csr_array(CODES), TOKENS, 4)
    assert facts.top_tokens(mass, 2).toarray().tolist() == [[4, 0, 0, 4], [0, 0, 0, 0], [0, 2, 1, 0]]
    tied = sparse.csr_array(np.array([[2.0, 1, 2, 2]]))
    assert facts.top_tokens(tied, 2).toarray().tolist() == [[2, 0, 2, 0]]
    assert (facts.top_tokens(mass, 9) != mass).nnz == 0


def test_centroids_are_weighted_means_of_vectors():
    vectors = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    mass = facts.token_mass(sparse.csr_array(CODES), TOKENS, 4)
    found = facts.centroids(mass, vectors)
    assert np.allclose(found[0], np.average(vectors, axis=0, weights=[4, 2, 0, 4]))
    assert np.allclose(found[1], 0) and found.shape == (3, 3)


def test_pairs_without_a_shared_token():
    one = sparse.csr_array(np.array([[1.0, 1, 0], [1, 0, 0], [0, 0, 0]]))
    two = sparse.csr_array(np.array([[0.0, 2, 2], [0, 2, 2], [1, 1, 1]]))
    assert facts.without_shared(one, two).tolist() == [False, True, True]


def test_frequencies_differ_by_the_log_of_their_ratio():
    found = facts.in_frequency(np.array([1, 10, 100, 0]))
    assert found[0, 2] == pytest.approx(np.log(100)) and found[1, 2] == pytest.approx(np.log(10))
    assert found[0, 3] == 0 and (found == found.T).all()


def test_cofiring_is_one_minus_the_correlation_of_firing():
    codes = np.maximum(np.random.default_rng(0).normal(size=(50, 6)), 0)
    codes[:, 3] = 0
    chosen = np.array([4, 0, 1])
    found = facts.in_cofiring(sparse.csr_array(codes), chosen)
    assert np.allclose(found, 1 - np.corrcoef((codes[:, chosen] > 0).T))
    assert facts.in_cofiring(sparse.csr_array(codes), np.array([0, 3]))[0, 1] == 1


def test_cooccurrence_counts_neighbours_of_one_row():
    tokens, rows, window = np.array([0, 1, 2, 0, 1, 1]), np.array([0, 0, 0, 1, 1, 1]), 2
    expected = np.zeros((3, 3))
    for i in range(len(tokens)):
        for j in range(len(tokens)):
            if i != j and abs(i - j) <= window and rows[i] == rows[j]:
                expected[tokens[i], tokens[j]] += 1
    assert facts.together(tokens, rows, window, 3).toarray().tolist() == expected.tolist()


def test_ppmi_is_its_formula():
    generator = np.random.default_rng(0)
    counts = generator.integers(0, 4, (5, 5))
    counts = counts + counts.T
    p = counts / counts.sum()
    with np.errstate(divide="ignore"):
        expected = np.maximum(np.log(p / (p.sum(0) * p.sum(1)[:, None])), 0)
    assert np.allclose(facts.ppmi(sparse.csr_array(counts)).toarray(), expected)


def test_vectors_of_a_positive_matrix_reproduce_it():
    rows = np.random.default_rng(0).normal(size=(6, 3))
    vectors = facts.word_vectors(sparse.csr_array(rows @ rows.T), 3)
    assert vectors.shape == (6, 3) and np.allclose(vectors @ vectors.T, rows @ rows.T)


def test_words_of_one_topic_are_near_in_their_vectors():
    generator = np.random.default_rng(0)
    topic = generator.integers(0, 2, 400)
    tokens = (topic[:, None] * 5 + generator.integers(0, 5, (400, 12))).ravel()
    counts = facts.together(tokens, np.repeat(np.arange(400), 12), 4, 10)
    vectors = facts.word_vectors(facts.ppmi(counts), 2)
    cosine = np.corrcoef(vectors)
    assert cosine[:5, :5].min() > 0.9 and cosine[:5, 5:].max() < 0


def test_facts_of_a_dictionary_and_how_its_features_differ_in_them():
    codes, vectors = sparse.csr_array(CODES), np.random.default_rng(0).normal(size=(4, 3))
    found = facts.of(codes, TOKENS, {"words": vectors}, top=1)
    assert found.firings.tolist() == [4, 0, 3]
    assert np.allclose(found.centroids["words"], [vectors[0], np.zeros(3), vectors[1]])  # of equal mass, the lower
    features = np.array([2, 0])
    differ = facts.dissimilarities(found, features)
    assert list(differ) == ["words", "firing frequency", "co-firing"]
    cosine = vectors[0] @ vectors[1] / np.linalg.norm(vectors[0]) / np.linalg.norm(vectors[1])
    assert differ["words"][0, 1] == pytest.approx(1 - cosine)
    assert differ["firing frequency"][0, 1] == pytest.approx(np.log(4 / 3))
    assert differ["co-firing"][0, 1] == pytest.approx(1 - np.corrcoef((CODES[:, [2, 0]] > 0).T)[0, 1])


def test_a_row_without_direction_differs_from_all():
    found = facts.in_direction(np.array([[1.0, 0], [0, 0], [2, 0]]))
    assert found.tolist() == [[0, 1, 0], [1, 0, 1], [0, 1, 0]]
