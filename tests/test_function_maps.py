"""Maps between two spaces: planted ones are found, and too few contexts are refused."""

import numpy as np
import pytest

from sae_utils.studies.function import maps


def planted(n=400, d_a=8, d_b=6, seed=0):
    """x, and an affine image y of it."""
    rng = np.random.default_rng(seed)
    x, weights, offset = rng.standard_normal((n, d_a)) + 3, rng.standard_normal((d_a, d_b)), rng.standard_normal(d_b)
    return x, x @ weights + offset, weights, offset


def rotation(d, seed=0):
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((d, d)))[0]


def test_an_affine_map_is_found():
    x, y, weights, offset = planted()
    found = maps.affine(x, y, ridge=1e-12)
    np.testing.assert_allclose(found.weights, weights, atol=1e-6)
    np.testing.assert_allclose(found.offset, offset, atol=1e-5)
    assert found.missed(x, y) == pytest.approx(0, abs=1e-9)


def test_more_ridge_shrinks():
    x, y, *_ = planted()
    norms = [np.linalg.norm(maps.affine(x, y, ridge).weights) for ridge in (1e-6, 1.0, 100.0)]
    assert norms == sorted(norms, reverse=True)


def test_an_orthogonal_map_recovers_a_planted_rotation():
    x, turn = planted()[0], rotation(8)
    found = maps.orthogonal(x, x @ turn + 5)
    np.testing.assert_allclose(found.weights, turn, atol=1e-8)
    np.testing.assert_allclose(found.carry(x[1] - x[0]), (x[1] - x[0]) @ turn, atol=1e-8)


def test_into_fewer_dimensions_its_columns_are_orthonormal():
    x, y, *_ = planted()
    weights = maps.orthogonal(x, y).weights
    np.testing.assert_allclose(weights.T @ weights, np.eye(6), atol=1e-8)


def test_too_few_contexts_are_refused_with_the_number_needed():
    x, y, *_ = planted(n=31)
    for call in (lambda: maps.affine(x, y, 0.1), lambda: maps.orthogonal(x, y)):
        with pytest.raises(ValueError, match="31 contexts are too few for a map from 8 dimensions: it needs 32"):
            call()
    with pytest.raises(ValueError, match="31 rows of A and 30 of B"):
        maps.affine(x, y[:30], 0.1)
