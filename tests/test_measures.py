"""Scores against oracles: other libraries, plain formulas, and the invariances that the docstrings claim."""

import numpy as np
import pytest
from rsatoolbox.data import Dataset
from rsatoolbox.rdm import calc_rdm, compare
from scipy.spatial import procrustes
from scipy.spatial.distance import pdist, squareform
from scipy.stats import pearsonr, spearmanr
from skbio.stats.distance import DistanceMatrix
from skbio.stats.distance import mantel as skbio_mantel
from sklearn.neighbors import NearestNeighbors

from sae_utils import inference, matching, measures, nulls, significance
from sae_utils.engine.geometry import linear
from sae_utils.studies.known_truth import calibration, synthetic
from sae_utils.studies.layer_sweep import cells

X = np.array([[0, 1, 2], [1, 0, 3], [2, 3, 0]])
Y = np.array([[0, 2, 7], [2, 0, 6], [7, 6, 0]])
SEEDS = range(5)


def related(seed: int, n: int = 60, d_a: int = 12, d_b: int = 9) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(n, d_a)) + 1.0
    return a, 0.4 * a @ rng.normal(size=(d_a, d_b)) + rng.normal(size=(n, d_b))


def rotation(d: int, seed: int) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(d, d)))[0]


@pytest.mark.parametrize(("comparison", "expected"), [("pearson", 0.7559289460), ("spearman", 0.5)])
def test_mantel_of_a_worked_example(comparison, expected):
    assert measures.mantel(X, Y, comparison=comparison) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("dissimilarity", "metric"), [("pearson", "correlation"), ("cosine",) * 2, ("euclidean",) * 2])
def test_rsa_equals_correlation_of_scipy_distances(seed, dissimilarity, metric):
    a, b = related(seed)
    for comparison, oracle in (("pearson", pearsonr), ("spearman", spearmanr)):
        expected = oracle(pdist(a, metric), pdist(b, metric)).statistic
        found = measures.rsa(a, b, dissimilarity=dissimilarity, comparison=comparison)
        assert found == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("seed", SEEDS)
def test_rsa_with_more_columns_than_rows(seed):
    a, b = related(seed, n=8, d_a=40, d_b=30)
    assert measures.rsa(a, b) == pytest.approx(
        pearsonr(pdist(a, "correlation"), pdist(b, "correlation")).statistic, abs=1e-10
    )


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("variance", [0.5, 0.9, 0.99, 1.0])
def test_svcca_equals_its_recipe(seed, variance):
    """Principal components of numpy's decomposition, then canonical correlations by QR."""
    bases, kept = [], []
    a, b = related(seed)
    for rows in (a, b):
        u, s, _ = np.linalg.svd(rows - rows.mean(0), full_matrices=False)
        k = next(k for k in range(1, len(s) + 1) if (s[:k] ** 2).sum() >= variance * (s**2).sum() - 1e-9)
        bases.append(np.linalg.qr(u[:, :k] * s[:k])[0])
        kept.append(k)
    expected = np.linalg.svd(bases[0].T @ bases[1], compute_uv=False).mean()
    assert measures.svcca(a, b, variance=variance) == pytest.approx((expected, *kept), abs=1e-10)


@pytest.mark.parametrize("seed", SEEDS)
def test_first_component_is_the_correlation_of_first_principal_components(seed):
    first = []
    a, b = related(seed)
    for rows in (a, b):
        _, axes = np.linalg.eigh(np.cov(rows.T))
        first.append(rows @ axes[:, -1])
    found = measures.svcca(a, b, estimator="first_component")
    assert found == pytest.approx((abs(pearsonr(*first).statistic), 1, 1), abs=1e-10)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", measures.NAMES)
def test_claimed_invariances(seed, name):
    a, b = related(seed)
    turned = 3 * a @ rotation(a.shape[1], seed)
    moves = {"rsa_pearson": 2 * a + 5, "rsa_spearman": 2 * a + 5}
    moves |= {"pwcca": 3 * a + 7}  # a rotation changes its weights
    moves |= {"rsa_cosine_pearson": turned, "rsa_cosine_spearman": turned}
    moves |= {name: turned for name in ("mutual_knn", "jaccard_knn", "second_order_cosine")}
    assert measures.score(moves.get(name, turned + 7), b, name) == pytest.approx(measures.score(a, b, name), abs=1e-9)
    assert measures.score(a, a, name) == pytest.approx(1, abs=1e-9)
    order = np.random.default_rng(seed).permutation(len(a))
    assert measures.score(a[order], b[order], name) == pytest.approx(measures.score(a, b, name), abs=1e-9)


@pytest.mark.parametrize("seed", SEEDS)
def test_rsa_and_mantel_equal_rsatoolbox_and_scikit_bio(seed):
    a, b = related(seed, n=25)
    toolbox = [calc_rdm(Dataset(rows), method="correlation") for rows in (a, b)]
    matrices = [measures.dissimilarities(rows, "euclidean") for rows in (a, b)]
    for comparison, method in (("pearson", "corr"), ("spearman", "spearman")):
        assert measures.rsa(a, b, comparison=comparison) == pytest.approx(
            float(compare(*toolbox, method=method)[0, 0]), abs=1e-10
        )
        peer = skbio_mantel(*(DistanceMatrix(m) for m in matrices), method=comparison, permutations=0)[0]
        assert measures.mantel(*matrices, comparison=comparison) == pytest.approx(peer, abs=1e-10)


@pytest.mark.parametrize("seed", SEEDS)
def test_pwcca_equals_the_formula_of_its_paper(seed):
    a, b = related(seed)
    x, y = a - a.mean(0), b - b.mean(0)
    covariance = x.T @ x, x.T @ y, y.T @ y
    values, vectors = np.linalg.eig(
        np.linalg.solve(covariance[0], covariance[1]) @ np.linalg.solve(covariance[2], covariance[1].T)
    )
    best = np.argsort(-values.real)[:9]
    variates = x @ vectors.real[:, best]
    variates /= np.linalg.norm(variates, axis=0)
    weights = np.abs(variates.T @ x).sum(axis=1)
    expected = weights @ np.sqrt(values.real[best]) / weights.sum()
    assert measures.pwcca(a, b) == pytest.approx((expected, 12, 9), abs=1e-9)
    mean = measures.cca(a, b).score, measures.cca(a, b, squared=True).score
    assert mean == pytest.approx((np.sqrt(values.real[best]).mean(), values.real[best].mean()), abs=1e-9)
    mixed = b @ np.random.default_rng(seed).normal(size=(9, 9)) + 3
    assert measures.pwcca(a, mixed).score == pytest.approx(measures.pwcca(a, b).score, abs=1e-9)
    assert measures.cca(mixed, a).score == pytest.approx(measures.cca(a, b).score, abs=1e-9)
    turned = a @ rotation(a.shape[1], seed)
    assert abs(measures.pwcca(turned, b).score - measures.pwcca(a, b).score) > 1e-4


@pytest.mark.parametrize("seed", SEEDS)
def test_cka_equals_gram_matrices(seed):
    a, b = related(seed, n=30)
    n = len(a)
    grams = [rows @ rows.T for rows in (a, b)]
    centring = np.eye(n) - 1 / n
    x, y = (centring @ g @ centring for g in grams)
    expected = (x * y).sum() / np.linalg.norm(x) / np.linalg.norm(y)
    assert measures.cka(a, b) == pytest.approx(expected, abs=1e-12)

    def unbiased(k: np.ndarray, other: np.ndarray) -> float:
        """The unbiased estimator of HSIC as Song et al. 2012 print it."""
        k, other, one = k - np.diag(np.diag(k)), other - np.diag(np.diag(other)), np.ones(n)
        rest = (one @ k @ one) * (one @ other @ one) / (n - 1) / (n - 2) - 2 / (n - 2) * (one @ k @ other @ one)
        return (np.trace(k @ other) + rest) / (n * (n - 3))

    expected = unbiased(*grams) / np.sqrt(unbiased(grams[0], grams[0]) * unbiased(grams[1], grams[1]))
    assert measures.cka(a, b, debiased=True) == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("seed", SEEDS)
def test_procrustes_equals_scipy_and_is_zero_for_copies(seed):
    rng = np.random.default_rng(seed)
    a, b = related(seed, d_a=9)
    assert 1 - measures.procrustes(a, b) ** 2 == pytest.approx(procrustes(a, b)[2], abs=1e-12)
    copy = 3 * a @ rotation(9, seed) + rng.normal(size=9)
    assert measures.procrustes(a, copy) == pytest.approx(1, abs=1e-12)
    assert measures.procrustes(a, copy, half=True) == pytest.approx(1, abs=1e-12)
    wider = np.hstack([copy, np.zeros((60, 3))]) @ rotation(12, seed)
    assert measures.procrustes(a, wider, half=True) == pytest.approx(1, abs=1e-12)
    noise = rng.normal(size=(60, 30)), rng.normal(size=(60, 30))
    assert measures.procrustes(*noise) > 0.5  # fitted and scored on the same rows
    assert abs(measures.procrustes(*noise, half=True)) < 0.15


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("k", [1, 4, 10])
def test_neighbour_scores_equal_lists_of_scikit_learn(seed, k):
    a, b = related(seed)
    lists = [
        NearestNeighbors(n_neighbors=k, metric="cosine").fit(rows).kneighbors(return_distance=False) for rows in (a, b)
    ]
    sets = [(set(x), set(y)) for x, y in zip(*lists, strict=True)]
    assert measures.mutual_knn(a, b, k=k) == pytest.approx(np.mean([len(x & y) for x, y in sets]) / k)
    assert measures.jaccard_knn(a, b, k=k) == pytest.approx(np.mean([len(x & y) / len(x | y) for x, y in sets]))
    cosines = [1 - squareform(pdist(rows, "cosine")) for rows in (a, b)]
    second = []
    for i, (x, y) in enumerate(sets):
        p, q = (cosine[i, sorted(x | y)] for cosine in cosines)
        second.append(p @ q / np.linalg.norm(p) / np.linalg.norm(q))
    assert measures.second_order_cosine(a, b, k=k) == pytest.approx(np.mean(second))


def test_equal_rows_are_not_ordered_by_where_they_are_stored():
    """Both sides hold the same rows over and over; lists cut by position would agree by it."""
    rng = np.random.default_rng(0)
    a = np.repeat(rng.normal(size=(8, 6)), 5, axis=0)[rng.permutation(40)]
    b = np.repeat(rng.normal(size=(8, 6)), 5, axis=0)[rng.permutation(40)]
    order = rng.permutation(40)
    for name in ("mutual_knn", "jaccard_knn", "second_order_cosine"):
        for k in (2, 6):
            what = measures.measure(name, k=k)
            assert measures.score(a, b, what) == pytest.approx(measures.score(a[order], b[order], what))
    halves = [measures.procrustes(x, y, half=True) for x, y in ((a, b), (a[order], b[order]))]
    assert halves[0] == pytest.approx(halves[1]) != pytest.approx(measures.procrustes(a, b[order], half=True))
    assert measures.mutual_knn(a, a, k=4) == pytest.approx(1)  # the four copies, never the row itself
    assert measures.mutual_knn(a, a, k=2) == pytest.approx(0.5)  # each copy holds half a place
    assert measures.jaccard_knn(a, a, k=2) == pytest.approx(1)


@pytest.mark.parametrize("seed", SEEDS)
def test_imd_needs_no_pairing(seed):
    a, b = related(seed)
    order = np.random.default_rng(seed).permutation(60)
    assert measures.imd(a, 2 * a[order] @ rotation(12, seed)) == pytest.approx(0, abs=1e-12)
    assert measures.imd(a, b[order]) == pytest.approx(measures.imd(a, b), abs=1e-12)
    assert measures.imd(a, b) > 0
    assert measures.imd(a[:40], b) > 0


@pytest.mark.parametrize("comparison", ["pearson", "spearman"])
def test_partial_rsa_equals_correlation_of_residuals(comparison):
    rng = np.random.default_rng(0)
    x, y, *controls = (measures.dissimilarities(rng.normal(size=(20, 4)), "euclidean") for _ in range(4))
    x, y = x + controls[0], y + controls[0] + controls[1] ** 2
    flat = [squareform(m, checks=False) for m in (x, y, *controls)]
    if comparison == "spearman":
        flat = [np.argsort(np.argsort(v)).astype(float) for v in flat]
    design = np.column_stack([np.ones_like(flat[0]), *flat[2:]])
    residuals = [v - design @ np.linalg.lstsq(design, v, rcond=None)[0] for v in flat[:2]]
    found = measures.partial_rsa(x, y, controls, comparison=comparison)
    assert found == pytest.approx(pearsonr(*residuals).statistic, abs=1e-10)
    with pytest.raises(ValueError, match="linearly dependent"):
        measures.partial_rsa(x, y, [x], comparison=comparison)


def test_pearson_dissimilarity_is_not_rotation_invariant():
    a, b = related(0)
    assert abs(measures.rsa(a @ rotation(a.shape[1], 1), b) - measures.rsa(a, b)) > 1e-3


def test_bad_input_is_named():
    a, b = related(0)
    with pytest.raises(ValueError, match="side a has 59 rows and side b has 60"):
        measures.svcca(a[:-1], b)
    with pytest.raises(ValueError, match="n = 2 rows on side a"):
        measures.rsa(a[:2], b[:2])
    a[4] = 2.0
    with pytest.raises(ValueError, match=r"1 of 60 rows are constant \(first: row 4\)"):
        measures.rsa(a, b)
    a[7, 2] = np.nan
    with pytest.raises(ValueError, match=r"1 rows of side a hold NaN or infinity \(first: row 7\)"):
        measures.svcca(a, b)
    with pytest.raises(ValueError, match="all 60 rows are equal"):
        measures.svcca(np.ones_like(b) * 0.1, b)
    with pytest.raises(ValueError, match=r"unknown measure 'cca2': known are svcca"):
        measures.measure("cca2")
    with pytest.raises(ValueError, match=r"variance = 1\.5"):
        measures.svcca(b, b, variance=1.5)
    with pytest.raises(ValueError, match="n = 60 pairs: mutual_knn_60 needs at least 61"):
        measures.mutual_knn(b, b, k=60)
    with pytest.raises(ValueError, match="1 of 60 rows are zero"):
        measures.mutual_knn(b, np.where(np.arange(60)[:, None] == 3, 0, b))
    with pytest.raises(ValueError, match="299 equally near neighbours"):
        measures.mutual_knn(np.ones((300, 3)), related(0, n=300)[1])
    with pytest.raises(ValueError, match="equally dissimilar"):
        measures.rsa(np.eye(60), b)
    with pytest.raises(ValueError, match="n = 1000000 rows take 48000 GB"):
        measures.dissimilarities(np.zeros((1_000_000, 2)), "euclidean")
    with pytest.raises(ValueError, match="n = 3 pairs: cka_debiased needs at least 4"):
        measures.cka(b[:3], b[:3], debiased=True)
    with pytest.raises(ValueError, match="give square ones, all of one n"):
        measures.mantel(X, Y[:, :2])
    with pytest.raises(ValueError, match="not symmetric"):
        measures.mantel(X, np.triu(Y))


def test_too_few_rows_for_the_components_give_a_warning():
    a, b = related(0, n=20)
    with pytest.warns(UserWarning, match=r"n = 20 rows for k = 12 \+ 9 components: 2 canonical correlations are 1"):
        measures.svcca(a, b, variance=1.0)


def test_other_shapes_and_estimators_are_refused():
    rows = np.ones((4, 3))
    with pytest.raises(ValueError, match=r"side b has shape \(4,\): give rows as a matrix"):
        measures.paired(rows, rows[:, 0])
    with pytest.raises(ValueError, match="unknown estimator 'first'"):
        measures.svcca(rows, rows, estimator="first")


@pytest.mark.parametrize("shape", [(9, 4), (4, 9)])
def test_sums_of_singular_values_in_either_precision(shape):
    """In float32 by the smaller Gram matrix, whichever side that is."""
    orthogonal = np.linalg.qr(np.random.default_rng(0).normal(size=(9, 9)))[0][: shape[0], : shape[1]]
    exact = np.linalg.svd(orthogonal, compute_uv=False).sum()
    for dtype, off in ((np.float64, 1e-12), (np.float32, 1e-5)):
        assert linear.nuclear(orthogonal[None].astype(dtype))[0] == pytest.approx(exact, abs=off)


# --- many subsets


SATURATED = ("cca", "cca_squared", "pwcca")  # with 23 dimensions for 14 rows


def sides(seed=0):
    rng = np.random.default_rng(seed)
    shared = rng.standard_normal((60, 6))
    return (
        np.hstack([shared, rng.standard_normal((60, 4))]).astype(np.float32),
        np.hstack([shared, rng.standard_normal((60, 9))]).astype(np.float32),
    )


@pytest.mark.parametrize("name", measures.NAMES)
@pytest.mark.filterwarnings("ignore:.*canonical correlations are 1")
@pytest.mark.parametrize("repeats", [False, True])
def test_every_draw_scores_as_it_would_alone(name, repeats, monkeypatch):
    monkeypatch.setattr(measures, "_NUMBERS", 1500)  # several batches
    a_rows, b_rows = sides()
    rng = np.random.default_rng(1)
    a = np.array([rng.choice(60, 14, replace=False) for _ in range(9)])
    b = rng.integers(0, 7, (9, 14)) if repeats else np.array([rng.choice(60, 14, replace=False) for _ in range(9)])
    found = measures.of_subsets(a_rows, b_rows, a, b, [name], neighbours=5)[name]
    expected = [
        measures.score(a_rows[i], b_rows[j], measures.chosen([name], 5)[name]) for i, j in zip(a, b, strict=True)
    ]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert found.std() > 0.01 or name in SATURATED


def test_a_side_that_never_changes_is_given_once():
    a_rows, b_rows = sides()
    b = nulls.shuffled().draw(np.random.default_rng(0), 8, 20)
    once = measures.of_subsets(a_rows, b_rows, np.arange(20)[None], b, measures.NAMES, neighbours=5)
    often = measures.of_subsets(a_rows, b_rows, np.tile(np.arange(20), (8, 1)), b, measures.NAMES, neighbours=5)
    for name in once:
        np.testing.assert_allclose(once[name], often[name])


def test_unknown_measures_and_too_few_pairs_are_refused():
    a_rows, b_rows = sides()
    index = np.arange(5)[None]
    with pytest.raises(ValueError, match="unknown measure 'svcc'"):
        measures.of_subsets(a_rows, b_rows, index, index, ["svcc"])
    with pytest.raises(ValueError, match="mutual_knn_5 needs at least 6"):
        measures.of_subsets(a_rows, b_rows, index, index, ["mutual_knn"], neighbours=5)


# --- every measure, through the functions that notebooks give the primary one


@pytest.mark.filterwarnings("ignore:.*canonical correlations are 1")
@pytest.mark.parametrize("name", measures.NAMES)
def test_every_measure_serves_as_the_primary_one(name):
    """Where an interval needs a null mean in closed form, a measure without one is refused by that property."""
    what, rng = measures.measure(name), np.random.default_rng(0)
    a = rng.normal(size=(60, 6))
    b = np.hstack([a, rng.normal(size=(60, 1))]) + 0.2 * rng.normal(size=(60, 7))
    none = np.zeros(60, np.int8)
    one = matching.Pairs(np.arange(60), np.arange(60), np.ones(60, np.float32), none, none)
    results = list(significance.test(a, b, [name], m=19).values())
    results += significance.test(a, b, [name], null=nulls.blocks(np.arange(60) // 2), m=19).values()
    results += significance.test(a, b, [name], m_of={name: 0 if what.closed_form else 9}, m=9).values()
    results.append(significance.test_pairs(one, a, b, name, m=19, seed=0))
    at_n = [significance.rows_at_n((a, b), name, 40, subsets=2, m=9, seed=0)]
    at_n.append(significance.pairs_at_n(one, a, b, name, 40, subsets=2, m=9, seed=0))
    if what.repeats:
        many = matching.Pairs(one.a, np.arange(60) // 2, one.r, none, none)
        near = a[many.b] + 0.1 * rng.normal(size=a.shape)
        results.append(significance.test_pairs(many, near, b, name, m=9, seed=0))

    world, size = synthetic.Copies(kind="copies", shared=0.6), calibration.Size(n=30, d_a=4, d_b=5)
    estimate = calibration.estimates.__wrapped__(None, world, size, [name], 9, 2, 0)[name]
    assert calibration.rejections.__wrapped__(None, world, "shuffled", size, [name], 19, 2, 0)[name] in (0, 1, 2)

    battery = cells.Battery(measures=[name], neighbours=5, permutations=19, subsets=2, subset_draws=2)
    pairs = cells.Paired({cells.TRUE: cells.Arm(one.a, one.b)}, 1.0, 1.0)
    scored = cells.scored([pairs], {"decoder": (a, b)}, battery, 40, [0])
    assert scored.results[cells.TRUE]["decoder"][name].p == 1 / 20
    assert np.isfinite(scored.at_one_n[cells.TRUE]["decoder"][name])

    for found in results:
        assert found.observed > found.null_mean and (found.p <= 0.2 or not found.m) and 0 < found.excess <= 1, found
    assert all(0 < found.excess <= 1 for found in at_n)
    assert np.isfinite(list(estimate.values())).all()
    if what.closed_form:
        interval = inference.excess_interval((a, b), name, 0.9)
        covered = calibration.coverage.__wrapped__(None, world, size, [name], 3, 2, 0)[name]
        assert interval.low < interval.estimate < interval.high and np.isfinite(list(covered.values())).all()
    else:
        with pytest.raises(ValueError, match=f"{name} with m = 0: .* or a closed form"):
            inference.excess_interval((a, b), name, 0.9)


@pytest.mark.parametrize("name", measures.NAMES)
def test_properties_in_the_registry_are_true(name):
    what = measures.measure(name)
    a, b = related(0, d_a=9)
    assert (what.name, what.scope == "local") == (name, what.neighbours > 0) and what.label and what.formula
    assert what.source
    forth, back = measures.score(a, b, name), measures.score(b, a, name)
    assert (forth == pytest.approx(back, abs=1e-12)) == what.symmetric
    least = a[: what.least], b[: what.least]
    assert not np.isnan(measures.score(*least, name)) or name == "cka_debiased"
    with pytest.raises(ValueError, match=f"at least {what.least}|at least 3"):
        measures.score(a[: what.least - 1], b[: what.least - 1], name)
    repeated = np.repeat(b[:20], 3, axis=0)
    if what.repeats:
        assert np.isfinite(measures.score(a, repeated, name))


def test_an_option_is_part_of_the_name():
    for name, option in (("mutual_knn", {"k": 5}), ("jaccard_knn", {"k": 3}), ("svcca", {"variance": 0.9})):
        what = measures.measure(name, **option)
        assert what.name == f"{name}_{next(iter(option.values()))}" and measures.measure(what.name).name == what.name
    assert measures.chosen(["mutual_knn", "mutual_knn_7", "cka"], 4)["mutual_knn"].name == "mutual_knn_4"
    assert measures.chosen(["mutual_knn_7"], 4)["mutual_knn_7"].neighbours == 7
    for name, option in (
        ("cka", {"k": 5}),
        ("mutual_knn", {"variance": 0.5}),
        ("cka_5", {}),
        ("mutual_knn_5", {"k": 3}),
    ):
        with pytest.raises(ValueError, match="unknown measure"):
            measures.measure(name, **option)
