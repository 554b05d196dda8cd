import itertools

import numpy as np
import pytest
from scipy import sparse

from sae_utils import correlate, significance
from sae_utils.engine.kernels import sides
from sae_utils.pipeline import Correlated, Features
from sae_utils.studies.models_and_dictionaries import control
from sae_utils.studies.models_and_dictionaries.control import Shared


def test_content_features_by_mass_and_firings():
    codes = sparse.csr_array(np.array([[9.0, 1, 0, 2], [1, 1, 0, 2], [0, 1, 0, 0], [0, 0, 5, 0]], np.float32))
    classes = np.array([3, -1, -1, 0])
    # 0: 90% on content; 1: a third; 2: all, but one firing; 3: half
    assert control.content_features(codes, classes, 1).tolist() == [0, 2]
    assert control.content_features(codes, classes, 2).tolist() == [0]
    assert control.content_features(codes, np.full(4, -1), 2).tolist() == [0, 1, 3]


class Sites:
    def __init__(self, split, classes):
        self.arrays = {"split": split, "classes": classes}

    def array(self, name):
        return self.arrays[name]


def features(codes, decoder, sites):
    return Features(sparse.csr_array(codes.astype(np.float32)), decoder.astype(np.float32), sites, kept=None)


def pair(a, b):
    split = a.sites.array("split")
    judged = tuple(sides.prepare(x.codes, np.flatnonzero(split == 2), "of the test") for x in (a, b))
    return Correlated(a, b, correlate.features(a.codes, b.codes, k=4, rows=split == 1), split == 1, split == 2, judged)


def test_a_permuted_rotated_copy_shares_all_and_noise_shares_nothing():
    generator = np.random.default_rng(0)
    tokens, width, d = 6000, 40, 12
    codes = np.where(generator.random((tokens, width)) < 0.05, generator.random((tokens, width)) + 0.5, 0)
    sites = Sites(np.repeat([1, 2], tokens // 2), np.zeros(tokens, int))
    decoder = generator.normal(size=(width, d))
    order, turn = generator.permutation(width), np.linalg.qr(generator.normal(size=(d, d)))[0]
    a = features(codes, decoder, sites)
    copy = features(codes[:, order], decoder[order] @ turn, sites)
    noise = features(codes[generator.permutation(tokens)], generator.normal(size=(width, d)), sites)
    settings = {"counterpart": 0.5, "minimum": 20, "measure": "rsa_cosine_pearson"}
    same, other = (control.shared(pair(a, x), **settings) for x in (copy, noise))
    assert (same.n, other.n) == (width, width)
    assert (same.share, same.r) == (1, pytest.approx(1))
    assert same.geometry == pytest.approx(1)
    assert other.share == 0
    assert abs(other.geometry) < 0.15


def test_gap_leaves_out_whole_seeds():
    seeds, negatives = ["s0", "s1", "s2"], ["n0", "n1", "n2"]
    share = {
        ("s0", "s1"): 0.8,
        ("s0", "s2"): 0.7,
        ("s1", "s2"): 0.9,
        ("s0", "n0"): 0.1,
        ("s1", "n1"): 0.0,
        ("s2", "n2"): 0.2,
    }
    found = control.gap({pair: Shared(1, value, 0, 0) for pair, value in share.items()}, seeds, negatives, "share")
    without = np.array([0.9 - 0.1, 0.7 - 0.15, 0.8 - 0.05])  # s0, s1, s2 left out: one pair of seeds remains
    assert found.estimate == pytest.approx(0.8 - 0.1)
    assert found.se == pytest.approx(np.sqrt(2 / 3 * ((without - without.mean()) ** 2).sum()))


def test_fewer_content_features_than_ten_are_not_scored():
    generator = np.random.default_rng(0)
    codes = np.where(generator.random((400, 9)) < 0.2, 1.0, 0)
    sites = Sites(np.repeat([1, 2], 200), np.zeros(400, int))
    side = features(codes, generator.normal(size=(9, 4)), sites)
    found = control.shared(pair(side, side), counterpart=0.5, minimum=1, measure="rsa_pearson")
    assert found.n == 9 and np.isnan([found.share, found.r, found.geometry]).all()


def test_several_p_become_one_that_holds_however_they_depend():
    """One p drawn once and shown ten times rejects at its level, and so do independent ones."""
    rng = np.random.default_rng(0)
    assert significance.combined([0.04]) == 0.04 and significance.combined([0.7, 0.9]) == 1
    assert np.isnan(significance.combined([np.nan])) and np.isnan(significance.combined([0.2, np.nan]))
    same = [significance.combined([p] * 10) for p in rng.random(4000)]
    independent = [significance.combined(list(rng.random(3))) for _ in range(4000)]
    assert np.mean(np.array(same) <= 0.05) < 0.05 and np.mean(np.array(independent) <= 0.05) < 0.05


def brute_force(activations, classes, fit, judge, c):
    def f1(predicted, true):
        return 2 * (predicted & true).sum() / max(predicted.sum() + true.sum(), 1)

    dense = np.asarray(activations.todense()) if sparse.issparse(activations) else activations
    options = [
        (f1(dense[fit, f] >= t, classes[fit] == c), f, t)
        for f in range(dense.shape[1])
        for t in np.unique(dense[fit, f])
        if t > 0 or not sparse.issparse(activations)
    ]
    best = max(option[0] for option in options)
    return best, {f1(dense[judge, f] >= t, classes[judge] == c) for score, f, t in options if score == best}


@pytest.mark.parametrize("seed, dense", itertools.product(range(10), [True, False]))
def test_equals_trying_every_feature_and_threshold(seed, dense):
    generator = np.random.default_rng(seed)
    activations = np.round(np.maximum(generator.normal(size=(60, 4)), 0 if not dense else -9), 1)  # rounded: ties
    classes = generator.integers(-1, 3, 60)
    fit, judge = np.arange(0, 60, 2), np.arange(1, 60, 2)
    if not dense:
        activations = sparse.csr_array(activations)
    found = control.best_f1(activations, classes, fit, judge, ["a", "b", "c"])
    for c, row in found.iterrows():
        best, judged = brute_force(activations, classes, fit, judge, c)
        assert row["fit"] == pytest.approx(best)
        assert any(row["F1"] == pytest.approx(score) for score in judged)


def test_a_planted_feature_is_found_and_a_class_without_tokens_left_out():
    generator = np.random.default_rng(0)
    classes = generator.integers(-1, 4, 2000)
    activations = generator.random((2000, 6)).astype(np.float32)
    activations[:, 4] = np.where(classes == 2, 3.0, activations[:, 4])
    found = control.best_f1(activations, classes, np.arange(1000), np.arange(1000, 2000), ["a", "b", "c", "d", "none"])
    assert list(found["class"]) == ["a", "b", "c", "d"]
    assert found.loc[2, "feature"] == 4
    assert found.loc[2, "F1"] == 1
