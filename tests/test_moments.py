"""Closed-form moments against every permutation, plain sums, sampling, and random-matrix theory."""

import math
from itertools import permutations

import numpy as np
import pytest
from scipy.sparse import csr_array
from scipy.stats import pearson3, skew

from sae_utils import significance, similarity
from sae_utils.engine.geometry import moments
from tests.test_similarity import related

CLOSED = ["cca_squared", "cka", *(name for name in similarity.NAMES if name.startswith("rsa"))]


def enumerated(scores: np.ndarray) -> tuple[float, float, float]:
    return scores.mean(), scores.std(), skew(scores)


@pytest.mark.parametrize("n", [6, 7])
@pytest.mark.parametrize("seed", range(3))
def test_measures_match_all_permutations(n, seed):
    a, b = related(seed, n=n, d_a=4, d_b=3)
    found = significance.test(a, b, [*CLOSED, similarity.measure("mutual_knn", k=2)], m="exact")
    for result in found.values():
        assert result.closed_form and len(result.draws) == math.factorial(n)
        closed = result.null_mean, result.null_sd, result.skew
        assert closed == pytest.approx(enumerated(result.draws), abs=1e-10), result.measure


def test_tied_neighbours_match_all_permutations():
    a, b = related(3, n=7, d_a=3, d_b=2)
    a[1] = a[2] = a[0]
    b[5] = b[6]
    result = significance.test(a, b, [similarity.measure("mutual_knn", k=1)], m="exact")["mutual_knn_1"]
    assert (result.null_mean, result.null_sd, result.skew) == pytest.approx(enumerated(result.draws), abs=1e-10)


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
    sums = (moments.matrix_sums(csr_array(m) if sparse else m) for m in (x, y))
    found = moments.combined(*sums, n, directed=directed, scale=-0.5)
    assert found == pytest.approx(enumerated(-0.5 * scores), abs=1e-10)


@pytest.mark.parametrize("n", [40, 2100])
def test_sums_without_a_matrix_equal_sums_of_the_matrix(n):
    """Above 2,048 rows, blocks and float32."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(n, 6)) + 0.3
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    gram = rows @ rows.T
    mean = 1 - (gram.sum() - n) / (n * (n - 1))
    matrix = mean - (1 - gram)
    np.fill_diagonal(matrix, 0)
    centred = rows - rows.mean(axis=0)
    energy = (centred**2).sum(axis=1)
    pairs = [(moments.unit_sums(centred, energy - energy.mean(), mean), moments.matrix_sums(matrix))]
    pairs.append((moments.gram_sums(centred), moments.matrix_sums(centred @ centred.T)))
    graphs = {c for order in (1, 2, 3) for *_, terms in moments._plan(order, False) for cs in terms for c in cs}
    for without, plain in pairs:
        for graph in graphs:
            size = max(1.0, abs(plain(graph)))
            assert without(graph) == pytest.approx(plain(graph), abs=(1e-9 if n < 2048 else 1e-4) * size + 1e-6)


def test_moments_match_ten_thousand_permutations():
    n, m = 512, 10_000
    rng = np.random.default_rng(5)
    a, b = rng.normal(size=(n, 10)), rng.standard_exponential(size=(n, 8)) ** 2
    names = ["cca_squared", "cka", "rsa_pearson", "rsa_spearman", "mutual_knn"]
    for result in significance.test(a, b, names, m=m, seed=1).values():
        assert result.closed_form
        assert abs(result.draws.mean() - result.null_mean) < 4 * result.null_sd / m**0.5
        assert result.draws.std() == pytest.approx(result.null_sd, rel=0.04)
        assert skew(result.draws) == pytest.approx(result.skew, abs=0.15)


@pytest.mark.parametrize("seed", range(3))
def test_null_means_known_by_theory(seed):
    n, k = 80, 7
    a, b = related(seed, n=n)
    found = significance.test(a, b, ["cca_squared", "cka", similarity.measure("mutual_knn", k=k)], m=2)
    gram_a, gram_b = ((x - x.mean(0)) @ (x - x.mean(0)).T for x in (a, b))
    norms = np.linalg.norm(gram_a) * np.linalg.norm(gram_b)
    assert found["cca_squared"].null_mean == pytest.approx(12 / (n - 1), abs=1e-12)
    assert found["mutual_knn_7"].null_mean == pytest.approx(k / (n - 1), abs=1e-12)
    assert found["cka"].null_mean == pytest.approx(np.trace(gram_a) * np.trace(gram_b) / ((n - 1) * norms), abs=1e-12)


def test_pearson_iii_is_the_tail_of_its_law():
    law = moments.Moments(0.1, 0.02, 0.4)
    assert moments.pearson_iii(law, 0.16) == pytest.approx(pearson3.sf(3, 0.4))
    assert moments.pearson_iii(moments.Moments(0.0, 1.0, 0.0), 1.6448536) == pytest.approx(0.05)
    assert math.isnan(moments.pearson_iii(moments.Moments(0.0, 0.0, math.nan), 1.0))


def test_pearson_iii_is_near_the_sampled_p():
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=(60, 4)), rng.normal(size=(60, 5))
    for result in significance.test(a, b, ["rsa_pearson", "cka", "mutual_knn"], m=9999).values():
        assert result.p_approximate == pytest.approx(result.p, abs=0.05)


@pytest.mark.parametrize(("k_a", "k_b", "n"), [(40, 30, 300), (60, 60, 240), (90, 80, 150), (20, 100, 110)])
def test_wachter_is_the_mean_canonical_correlation_of_noise(k_a, k_b, n):
    rng = np.random.default_rng(0)
    scores = [_cca(rng, n, k_a, k_b) for _ in range(12)]
    assert moments.wachter(k_a, k_b, n) == pytest.approx(np.mean(scores), abs=0.006)


def _cca(rng: np.random.Generator, n: int, k_a: int, k_b: int) -> float:
    bases = [np.linalg.qr((x := rng.normal(size=(n, k))) - x.mean(0))[0] for k in (k_a, k_b)]
    return np.linalg.svd(bases[0].T @ bases[1], compute_uv=False).mean()


def test_wachter_of_more_components_than_rows_is_one():
    assert moments.wachter(99, 20, 100) == 1.0
