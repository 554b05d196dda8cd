"""Scores keep the digits of the input: ranks at its precision, and similarity of rows that share a direction."""

import numpy as np
import pytest
from scipy.stats import rankdata

from sae_utils import measures, nulls, significance
from sae_utils.matching import Pairs

# --- ranks


def of_rank(rank, n, d_a, d_b, dtype, *, scale=1.0, mean=0.0):
    """Rows of one rank on both sides, of the same `rank` numbers, so that every canonical correlation is 1."""
    rng = np.random.default_rng(n + rank)
    shared = rng.normal(size=(n, rank))
    sides = ((shared @ rng.normal(size=(rank, d)) + mean * rng.normal(size=d)) * scale for d in (d_a, d_b))
    return tuple(side.astype(dtype) for side in sides)


@pytest.mark.parametrize("mean", [0, 30])
@pytest.mark.parametrize(
    ("dtype", "scales"),
    [(np.float16, [1e-3, 1, 100]), (np.float32, [1e-6, 1, 1e6]), (np.float64, [1e-6, 1, 1e6])],
)
@pytest.mark.parametrize(("n", "d_a", "d_b"), [(1500, 64, 48), (100, 40, 30), (40, 64, 48)])
def test_the_rank_is_judged_at_the_precision_of_the_input(n, d_a, d_b, dtype, scales, mean):
    """With ranks judged in float64, rounding to float32 turns 10 directions into 64, and the score from 1 into .535."""
    off = 0.03 if dtype is np.float16 else 1e-4
    for scale in scales:
        a, b = of_rank(10, n, d_a, d_b, dtype, scale=scale, mean=mean)
        for found in (measures.cca(a, b), measures.cca(a, b, squared=True), measures.pwcca(a, b)):
            assert found == pytest.approx((1, 10, 10), abs=off), scale


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_weak_directions_are_kept(dtype):
    """Ten directions have little variance, but more than rounding errors."""
    rng, n = np.random.default_rng(0), 1500
    weak = 30 * float(np.finfo(dtype).eps)
    rows = np.hstack([rng.normal(size=(n, 10)), weak * rng.normal(size=(n, 10))])
    rotated = rows @ np.linalg.qr(rng.normal(size=(20, 20)))[0]
    assert measures.cca(rotated.astype(dtype), rotated).k_a == 20


def test_each_side_is_judged_at_its_own_precision():
    a, b = of_rank(10, 200, 64, 48, np.float64)
    assert measures.cca(a.astype(np.float32), b) == pytest.approx((1, 10, 10), abs=1e-5)


def test_every_test_judges_the_rank_at_the_precision_of_the_input():
    a, b = of_rank(10, 200, 64, 48, np.float32)
    tested = significance.test(a, b, ["cca", "cca_squared", "pwcca"], m=9)
    again = significance.test(a, b, ["cca"], null=nulls.Selection("again", lambda rng: (a, b)), m=2)["cca"]
    pairs = Pairs(*(np.arange(200, dtype=np.int32),) * 2, np.ones(200), np.zeros(200, int), np.zeros(200, int))
    matched = significance.test_pairs(pairs, a, b, "cca", m=9, seed=0)
    for result in (*tested.values(), again, matched):
        assert result.k == (10, 10) and result.observed == pytest.approx(1, abs=1e-5)
    assert again.draws == pytest.approx([1, 1], abs=1e-5)
    assert tested["cca_squared"].null_mean == pytest.approx(10 / 199, abs=1e-9)
    half = significance.rows_at_n((a, b), "cca", 100, subsets=2, m=9, seed=0)
    assert half.observed == pytest.approx(1, abs=1e-5)


def test_rows_that_differ_only_by_rounding_are_equal():
    rng = np.random.default_rng(0)
    one = rng.normal(size=20).astype(np.float32)
    rows = np.where(rng.random((60, 20)) < 0.5, one, np.nextafter(one, np.float32(9)))
    with pytest.raises(ValueError, match="all 60 rows are equal"):
        measures.cca(rows, rng.normal(size=(60, 20)))


@pytest.mark.parametrize("scale", [1e-200, 1e-6, 1e10, 1e200])
def test_one_scale_changes_no_score_and_no_draw(scale):
    """Squares of squares of 1e10 are beyond float32, in which draws are computed."""
    rng = np.random.default_rng(0)
    a = rng.normal(size=(260, 8))
    b = a + rng.normal(size=a.shape)
    expected, found = (significance.test(x, b, measures.NAMES, m=3) for x in (a, scale * a))
    for name, result in found.items():
        assert result.observed == pytest.approx(expected[name].observed, abs=1e-9), name
        assert result.draws == pytest.approx(expected[name].draws, abs=1e-5), name


# --- rows that share a direction


def alike(n, d, noise, seed=0):
    """Both sides of rows a common vector and little else; what they add to it agrees."""
    rng = np.random.default_rng(seed)
    own = rng.normal(size=(n, d))
    return (rng.normal(size=d) + noise * side for side in (own, own + 0.7 * rng.normal(size=(n, d))))


def exactly(rows, dissimilarity):
    """1 - cosine of all pairs of rows, half the squared distance of unit rows, in the longest float."""
    rows = np.asarray(rows, np.longdouble)
    if dissimilarity == "pearson":
        rows = rows - rows.mean(1, keepdims=True)
    rows = rows / np.sqrt((rows * rows).sum(1, keepdims=True))
    return np.concatenate([((rows[i + 1 :] - row) ** 2).sum(1) / 2 for i, row in enumerate(rows)])


def correlated(x, y):
    x, y = (side - side.mean() for side in (x, y))
    return float((x * y).sum() / np.sqrt((x * x).sum() * (y * y).sum()))


@pytest.mark.parametrize("dissimilarity", ["pearson", "cosine"])
@pytest.mark.parametrize(
    ("n", "d", "noise", "off"),
    [(600, 64, 2e-4, 1e-12), (300, 8, 1, 1e-13), (300, 16, 1e-7, 1e-8), (120, 300, 2e-4, 1e-12), (4, 3, 1e-4, 1e-10)],
)
def test_rsa_of_rows_that_share_a_direction(n, d, noise, off, dissimilarity):
    a, b = alike(n, d, noise)
    x, y = exactly(a, dissimilarity), exactly(b, dissimilarity)
    assert measures.rsa(a, b, dissimilarity=dissimilarity) == pytest.approx(correlated(x, y), abs=off)
    if n <= 300:
        x, y = (rankdata(side).astype(np.longdouble) for side in (x, y))
        ranked = measures.rsa(a, b, dissimilarity=dissimilarity, comparison="spearman")
        assert ranked == pytest.approx(correlated(x, y), abs=max(off, 1e-6))


@pytest.mark.parametrize("name", ["rsa_pearson", "rsa_cosine_pearson"])
@pytest.mark.parametrize("share", [0.0, 0.9, 0.997, 1 - 1e-8])
def test_draws_in_float32_are_exact_where_rows_share_a_direction(name, share):
    """At a mean cosine of .997 of the rows they were off by 16 standard deviations of the null."""
    rng, n, d = np.random.default_rng(1), 600, 48
    spread = np.sqrt((1 - share) / share) if share else 1.0
    a, b = (rng.normal(size=d) * (share > 0) + spread * rng.normal(size=(n, d)) for _ in "ab")
    found = significance.test(a, b, [name], m=300, seed=2)[name]
    order = nulls.shuffled().draw(np.random.default_rng(2), 300, n)
    exact = [measures.score(a, b[p], name) for p in order[:20]]
    assert np.abs(found.draws[:20] - exact).max() < 1e-4 * found.null_sd
    assert abs(found.draws.mean() - found.null_mean) < 4 * found.null_sd / 300**0.5
    assert found.draws.std() == pytest.approx(found.null_sd, rel=0.2)


@pytest.mark.parametrize("noise", [1e-3, 1e-6])
@pytest.mark.parametrize(("n", "d"), [(6, 4), (7, 9)])
def test_moments_of_rows_that_share_a_direction_match_all_permutations(n, d, noise):
    a, b = alike(n, d, noise, seed=n)
    for result in significance.test(a, b, ["rsa_pearson", "rsa_cosine_pearson", "rsa_spearman"], m="exact").values():
        expected = result.draws.mean(), result.draws.std()
        assert (result.null_mean, result.null_sd) == pytest.approx(expected, abs=1e-10), result.measure


@pytest.mark.parametrize("noise", [1, 2e-4, 1e-7])
def test_neighbours_of_rows_that_share_a_direction(noise):
    a, b = alike(200, 16, noise)
    near = []
    for rows in (a, b):
        unit = np.asarray(rows, np.longdouble)
        unit = unit / np.sqrt((unit * unit).sum(1, keepdims=True))
        distance = np.stack([((unit - row) ** 2).sum(1) for row in unit])
        np.fill_diagonal(distance, np.inf)
        near.append(np.argsort(distance, axis=1)[:, :10])
    expected = np.mean([len(np.intersect1d(x, y)) / 10 for x, y in zip(*near, strict=True)])
    assert measures.mutual_knn(a, b, k=10) == pytest.approx(expected, abs=1e-9)


def test_subsets_of_rows_that_share_a_direction_score_as_alone():
    a, b = alike(60, 12, 1e-5)
    index = np.arange(60)[None]
    for name in measures.NAMES:
        found = measures.of_subsets(a, b, index, index, [name])[name][0]
        assert found == pytest.approx(measures.score(a, b, name), abs=1e-7), name


def test_a_scale_of_dissimilarities_is_no_flatness():
    """Distances of 1e-9 differ from each other as those of 1 do."""
    x, y = (measures.dissimilarities(rows, "cosine") for rows in alike(40, 6, 1))
    assert measures.mantel(1e-9 * x, 1e9 * y) == pytest.approx(measures.mantel(x, y), abs=1e-12)
    with pytest.raises(ValueError, match="equally dissimilar"):
        measures.mantel(1e9 * (1 - np.eye(40)), y)


def test_rows_of_one_direction_have_no_arrangement():
    rng = np.random.default_rng(0)
    rows = np.outer(rng.random(30) + 1, rng.normal(size=5))
    for dissimilarity in ("pearson", "cosine"):
        for comparison_of in ("pearson", "spearman"):
            with pytest.raises(ValueError, match="equally dissimilar"):
                measures.rsa(rows, rng.normal(size=(30, 5)), dissimilarity=dissimilarity, comparison=comparison_of)
