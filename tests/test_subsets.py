"""Subsets score as each would alone."""

import numpy as np
import pytest

from sae_utils import measures, nulls, similarity
from sae_utils.engine.chance import subsets


def rows(seed=0):
    rng = np.random.default_rng(seed)
    shared = rng.standard_normal((60, 6))
    return (
        np.hstack([shared, rng.standard_normal((60, 4))]).astype(np.float32),
        np.hstack([shared, rng.standard_normal((60, 9))]).astype(np.float32),
    )


def alone(name, x, y):
    found = measures.measure("mutual_knn", k=5) if name == "mutual_knn" else measures.measure(name)
    return similarity.score(x, y, found)


@pytest.mark.parametrize("name", list(subsets.MEASURES))
@pytest.mark.parametrize("repeats", [False, True])
def test_every_draw_scores_as_it_would_alone(name, repeats, monkeypatch):
    monkeypatch.setattr(subsets, "_NUMBERS", 1500)  # several batches
    a_rows, b_rows = rows()
    rng = np.random.default_rng(1)
    a = np.array([rng.choice(60, 14, replace=False) for _ in range(9)])
    b = rng.integers(0, 7, (9, 14)) if repeats else np.array([rng.choice(60, 14, replace=False) for _ in range(9)])
    found = subsets.score(a_rows, b_rows, a, b, [name], 5)[name]
    expected = [alone(name, a_rows[i], b_rows[j]) for i, j in zip(a, b, strict=True)]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert found.std() > 0.01


def test_a_side_that_never_changes_is_given_once():
    a_rows, b_rows = rows()
    b = nulls.shuffled().draw(np.random.default_rng(0), 8, 20)
    once = subsets.score(a_rows, b_rows, np.arange(20)[None], b, list(subsets.MEASURES), 5)
    often = subsets.score(a_rows, b_rows, np.tile(np.arange(20), (8, 1)), b, list(subsets.MEASURES), 5)
    for name in once:
        np.testing.assert_allclose(once[name], often[name])


def test_what_cannot_be_scored_is_refused():
    a_rows, b_rows = rows()
    index = np.arange(5)[None]
    with pytest.raises(ValueError, match="svcca"):
        subsets.score(a_rows, b_rows, index, index, ["svcca"], 3)
    with pytest.raises(ValueError, match="at least 6"):
        subsets.score(a_rows, b_rows, index, index, ["mutual_knn"], 5)
