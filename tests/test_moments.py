"""Closed-form moments against every permutation, plain sums, sampling, and theory."""

import math
from itertools import permutations

import numpy as np
import pytest
from scipy.sparse import csr_array

from sae_utils import measures, significance
from sae_utils.engine.geometry import moments, relational
from tests.test_measures import related

CLOSED = [
    name for name in measures.NAMES if measures.measure(name).closed_form and not measures.measure(name).neighbours
]


def enumerated(scores: np.ndarray) -> tuple[float, float]:
    return scores.mean(), scores.std()


@pytest.mark.parametrize("n", [6, 7])
@pytest.mark.parametrize("seed", range(3))
def test_measures_match_all_permutations(n, seed):
    a, b = related(seed, n=n, d_a=4, d_b=3)
    found = significance.test(a, b, [*CLOSED, measures.measure("mutual_knn", k=2)], m="exact")
    for result in found.values():
        assert len(result.draws) == math.factorial(n)
        assert (result.null_mean, result.null_sd) == pytest.approx(enumerated(result.draws), abs=1e-10), result.measure


def test_tied_neighbours_match_all_permutations():
    a, b = related(3, n=7, d_a=3, d_b=2)
    a[1] = a[2] = a[0]
    b[5] = b[6]
    result = significance.test(a, b, [measures.measure("mutual_knn", k=1)], m="exact")["mutual_knn_1"]
    assert (result.null_mean, result.null_sd) == pytest.approx(enumerated(result.draws), abs=1e-10)


@pytest.mark.parametrize("n", [3, 4, 6])
@pytest.mark.parametrize("directed", [True, False])
@pytest.mark.parametrize("sparse", [True, False])
def test_any_pair_of_matrices_matches_all_permutations(n, directed, sparse):
    """Entries on the diagonal and asymmetric entries too."""
    rng = np.random.default_rng(n)
    x, y = (rng.integers(-2, 5, size=(n, n)).astype(float) for _ in "xy")
    if not directed:
        x, y = x + x.T, y + y.T
    scores = np.array([(x * y[np.ix_(p, p)]).sum() for p in permutations(range(n))])
    parts = (moments.of_matrix(csr_array(m) if sparse else m) for m in (x, y))
    found = moments.combined(*parts, scale=-0.5)
    assert found == pytest.approx(enumerated(-0.5 * scores), abs=1e-10)


def test_parts_without_a_matrix_equal_parts_of_the_matrix():
    rows = np.random.default_rng(0).normal(size=(40, 6)) + 0.3
    centred = rows - rows.mean(axis=0)
    side = relational._unit_side(rows, "cosine")
    energy = side.energy + (side.rows**2).sum(axis=1).mean()
    matrix = side.mean - ((energy[:, None] + energy) / 2 - side.rows @ side.rows.T)
    np.fill_diagonal(matrix, 0)
    for found, expected in (
        (moments.of_gram(centred), moments.of_matrix(centred @ centred.T)),
        (relational._parts(side), moments.of_matrix(matrix)),
        (relational._parts(relational._matrix_side(-matrix, "pearson")), moments.of_matrix(-matrix)),
    ):
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-9)


def test_moments_match_ten_thousand_permutations():
    n, m = 512, 10_000
    rng = np.random.default_rng(5)
    a, b = rng.normal(size=(n, 10)), rng.standard_exponential(size=(n, 8)) ** 2
    names = ["cca_squared", "cka", "rsa_pearson", "rsa_spearman", "mutual_knn"]
    for result in significance.test(a, b, names, m=m, seed=1).values():
        assert abs(result.draws.mean() - result.null_mean) < 4 * result.null_sd / m**0.5
        assert result.draws.std() == pytest.approx(result.null_sd, rel=0.04)


@pytest.mark.parametrize("seed", range(3))
def test_null_means_known_by_theory(seed):
    n, k = 80, 7
    a, b = related(seed, n=n)
    found = significance.test(a, b, ["cca_squared", "cka", measures.measure("mutual_knn", k=k)], m=2)
    gram_a, gram_b = ((x - x.mean(0)) @ (x - x.mean(0)).T for x in (a, b))
    norms = np.linalg.norm(gram_a) * np.linalg.norm(gram_b)
    assert found["cca_squared"].null_mean == pytest.approx(12 / (n - 1), abs=1e-12)
    assert found["mutual_knn_7"].null_mean == pytest.approx(k / (n - 1), abs=1e-12)
    assert found["cka"].null_mean == pytest.approx(np.trace(gram_a) * np.trace(gram_b) / ((n - 1) * norms), abs=1e-12)
