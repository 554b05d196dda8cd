"""Maps and neighbours of rows: planted clusters lie together; few, equal and zero rows have a map too."""

import numpy as np
import pytest

from sae_utils.page import arrangement


def clustered(n, groups, d=8, seed=0):
    rng = np.random.default_rng(seed)
    home = np.arange(n) % groups
    return (rng.normal(size=(groups, d))[home] + 0.05 * rng.normal(size=(n, d))).astype(np.float32), home


def test_neighbours_are_those_of_largest_cosine():
    rows, _ = clustered(30, 30)
    index, distance = arrangement.nearest(rows, 5)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    cosine = unit @ unit.T - 2 * np.eye(30)
    np.testing.assert_allclose(1 - distance, -np.sort(-cosine, axis=1)[:, :5], atol=1e-5)
    np.testing.assert_allclose(np.take_along_axis(cosine, index, 1), 1 - distance, atol=1e-5)


@pytest.mark.parametrize(("n", "k"), [(0, 0), (1, 0), (2, 1), (4, 3)])
def test_fewer_rows_than_neighbours(n, k):
    rows = np.eye(4, dtype=np.float32)[:n]
    assert arrangement.nearest(rows, 10)[0].shape == (n, k)
    assert arrangement.principal(rows).shape == (n, 2)


def test_equal_rows_are_neighbours_and_have_a_map():
    rows = np.repeat(np.eye(3, dtype=np.float32), 7, axis=0)
    index, distance = arrangement.nearest(rows, 14)
    assert np.all(index[:, :6] // 7 == np.arange(21)[:, None] // 7) and np.all(index != np.arange(21)[:, None])
    assert np.isfinite(arrangement.embedded(rows, index, distance, 0)).all()


def test_principal_components_are_those_of_the_covariance():
    rows, _ = clustered(40, 3)
    found = arrangement.principal(rows)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    _, values, _ = np.linalg.svd(unit - unit.mean(0))
    np.testing.assert_allclose(np.linalg.norm(found, axis=0), values[:2], rtol=1e-4)
    assert np.all(found[np.abs(found).argmax(0), [0, 1]] > 0)


def test_clusters_lie_together_by_either_way_of_umap(monkeypatch):
    rows, home = clustered(90, 3)
    index, distance = arrangement.nearest(rows, arrangement.NEIGHBOURS - 1)
    maps = [arrangement.embedded(rows, index, distance, 0)]
    np.testing.assert_array_equal(maps[0], arrangement.embedded(rows, index, distance, 0))
    monkeypatch.setattr(arrangement, "EXACT", 50)
    maps.append(arrangement.embedded(rows, index, distance, 0))
    for made in maps:
        centre = np.array([made[home == group].mean(0) for group in range(3)])
        far = np.linalg.norm(made[:, None] - centre, axis=2)
        np.testing.assert_array_equal(far.argmin(1), home)
