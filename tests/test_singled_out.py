"""The best feature of a class is the one that trying every feature and threshold finds."""

import itertools

import numpy as np
import pytest
from scipy import sparse

from sae_utils.studies.models_and_dictionaries import singled_out


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
    found = singled_out.best_f1(activations, classes, fit, judge, ["a", "b", "c"])
    for c, row in found.iterrows():
        best, judged = brute_force(activations, classes, fit, judge, c)
        assert row["fit"] == pytest.approx(best)
        assert any(row["F1"] == pytest.approx(score) for score in judged)


def test_a_planted_feature_is_found_and_a_class_without_tokens_left_out():
    generator = np.random.default_rng(0)
    classes = generator.integers(-1, 4, 2000)
    activations = generator.random((2000, 6)).astype(np.float32)
    activations[:, 4] = np.where(classes == 2, 3.0, activations[:, 4])
    found = singled_out.best_f1(
        activations, classes, np.arange(1000), np.arange(1000, 2000), ["a", "b", "c", "d", "none"]
    )
    assert list(found["class"]) == ["a", "b", "c", "d"]
    assert found.loc[2, "feature"] == 4
    assert found.loc[2, "F1"] == 1
