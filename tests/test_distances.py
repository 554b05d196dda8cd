"""Permutation distances: theorems, and every permutation of small sides."""

from itertools import permutations

import numpy as np
import pytest
from scipy import sparse

from sae_utils import correlate
from sae_utils.engine.pairing import distances


def codes(features, seed, tokens=200):
    rng = np.random.default_rng(seed)
    return (rng.random((tokens, features)) * (rng.random((tokens, features)) < 0.3)).astype(np.float32)


def correlated(a, b):
    return correlate.features(sparse.csr_array(a), sparse.csr_array(b), k=1)


def scaled(x, scale):
    x = x - x.mean(0)
    if scale == "matrix":
        return x / np.linalg.norm(x)
    return x / np.where(x.std(0) > 0, x.std(0), 1) / np.sqrt(len(x))


@pytest.mark.parametrize("scale", ["matrix", "feature"])
def test_every_permutation_of_small_sides(scale):
    a, b = codes(4, 0).astype(np.float64), codes(6, 1).astype(np.float64)
    x, y = scaled(a, scale), scaled(b, scale)
    x = np.column_stack([x, np.zeros((len(x), 2))])
    expected = min(np.linalg.norm(x - y[:, list(p)]) for p in permutations(range(6)))
    found = distances.permutation_procrustes(correlated(codes(4, 0), codes(6, 1)), scale)
    assert found.distance == pytest.approx(expected, abs=1e-5)
    assert len(found.pairs.a) == 4


@pytest.mark.parametrize("scale", ["matrix", "feature"])
@pytest.mark.parametrize("seed", range(3))
def test_features_in_another_order_are_at_no_distance(scale, seed):
    a = codes(12, seed)
    order = np.random.default_rng(seed).permutation(12)
    same = correlated(a, a[:, order])
    for distance in (distances.permutation_procrustes, distances.soft_matching):
        found = distance(same, scale)
        assert found.distance < 2e-3  # the root of what float32 correlations round
        np.testing.assert_array_equal(order[found.pairs.b], np.arange(12))


def test_soft_is_permutation_over_root_width_on_sides_of_one_width():
    c = correlated(codes(9, 5), codes(9, 6))
    hard, soft = distances.permutation_procrustes(c, "feature"), distances.soft_matching(c)
    assert soft.distance == pytest.approx(hard.distance / 3, abs=1e-6)


def test_soft_obeys_the_triangle_and_exchange():
    sides = [codes(n, 10 + n) for n in (5, 7, 9)]
    d = {(i, j): distances.soft_matching(correlated(sides[i], sides[j])).distance for i in range(3) for j in range(3)}
    assert d[0, 2] <= d[0, 1] + d[1, 2] and d[0, 1] == pytest.approx(d[1, 0], abs=1e-6)


def test_unknown_scale_names_the_valid_ones():
    with pytest.raises(ValueError, match="'feature' or 'matrix'"):
        distances.soft_matching(correlated(codes(3, 0), codes(3, 1)), "none")
