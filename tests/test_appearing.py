import numpy as np
import pytest
from scipy import sparse

from sae_utils import replicates
from sae_utils.studies.training import appearing

RNG = np.random.default_rng


def csr(x):
    return sparse.csr_array(np.asarray(x, np.float32))


def test_kinds_follow_what_a_feature_fires_on():
    classes = np.array([3, 3, 3, 3, -1, -1])
    codes = csr([[1, 1, 0, 1, 0], [1, 0, 0, 1, 0], [1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [0, 0, 2, 1, 0], [0, 0, 1, 1, 1]])
    found = appearing.kinds(codes, classes, 2)
    assert list(found) == [appearing.FREQUENT, appearing.RARE, appearing.FUNCTION, appearing.BOTH, ""]


def planted(n=4000, d=6, features=5):
    """Activations, and codes that are rectified directions of them, with a last feature of noise."""
    rng = RNG(0)
    x = rng.normal(size=(n, d)).astype(np.float32)
    z = np.maximum(x @ rng.normal(size=(d, features)), 0)
    z[:, -1] = np.maximum(rng.normal(size=n), 0)
    return x, csr(z), np.arange(n) < n // 2


def test_a_readout_is_the_correlation_of_a_regression():
    x, z, fit = planted()
    r = appearing.readout(x, z, fit, ~fit)
    design = np.column_stack([x[fit], np.ones(fit.sum())])
    weights = np.linalg.lstsq(design, z[np.flatnonzero(fit)].toarray(), rcond=None)[0]
    predicted, truth = x[~fit] @ weights[:-1], z[np.flatnonzero(~fit)].toarray()
    by_hand = [np.corrcoef(predicted[:, i], truth[:, i])[0, 1] for i in range(z.shape[1])]
    np.testing.assert_allclose(r, by_hand, atol=2e-3)
    assert (r[:-1] > 0.8).all() and abs(r[-1]) < 0.08


def test_a_readout_does_not_depend_on_the_basis_and_a_dead_feature_has_none():
    x, z, fit = planted()
    turn = np.linalg.qr(RNG(1).normal(size=(x.shape[1],) * 2))[0]
    dead = csr(np.column_stack([z.toarray(), np.zeros(z.shape[0])]))
    r = appearing.readout(x @ turn, dead, fit, ~fit)
    np.testing.assert_allclose(r[:-1], appearing.readout(x, z, fit, ~fit), atol=1e-4)
    assert np.isnan(r[-1])


def test_a_feature_appears_half_way_up():
    r = np.array([[0.1, 0.5, 0.0], [0.2, 0.5, 0.0], [0.6, 0.52, 0.1], [0.9, 0.55, 0.8]])
    assert list(appearing.half_way(r, 0.1)) == [2, -1, 3]


def test_words_are_means_of_their_occurrences():
    rng = RNG(2)
    x, tokens = rng.normal(size=(200, 3)), rng.integers(0, 6, 200)
    words = np.array([4, 1])
    by_hand = [x[tokens == word].mean(axis=0) for word in words]
    np.testing.assert_allclose(appearing.word_means(x, tokens, words), by_hand)
    assert np.isnan(appearing.word_means(x, tokens, np.array([9]))).all()


def test_words_are_kept_with_their_partners():
    tokens = np.repeat([0, 1, 2, 3], [5, 5, 1, 5])
    kept = appearing.common_words(tokens, np.array([0, 1, 2, 3, -1]), np.array([1, 0, 3, 2, 4]), 3)
    assert list(kept) == [True, True, False, False, False]


def side(codes):
    halves = {"matching": [codes[:1000]], "held_out": [codes[1000:]]}
    return replicates.Side(np.zeros((codes.shape[1], 2)), halves, {})


def test_counterparts_of_a_copy_and_of_noise():
    rng = RNG(3)
    codes, other = (sparse.csr_array(sparse.random(2000, 20, 0.2, "csr", random_state=rng)) for _ in range(2))
    copy = codes[:, rng.permutation(20)]
    assert appearing.counterparts(side(codes), side(copy), 0.99) == 1
    assert appearing.counterparts(side(codes), side(other), 0.3) == 0


def test_alike_is_an_excess():
    rows = RNG(4).normal(size=(40, 5))
    assert appearing.alike((rows, rows), "rsa_spearman") == pytest.approx(1)
    assert abs(appearing.alike((rows, RNG(5).normal(size=(40, 5))), "rsa_spearman")) < 0.2
