"""Permutation tests against brute force, and p-values under the null."""

from itertools import permutations

import numpy as np
import pytest

from sae_utils import nulls, significance, similarity
from sae_utils.engine.chance import draws
from sae_utils.engine.geometry import moments
from tests.test_similarity import related


def test_exact_lists_every_arrangement():
    a, b = related(0, n=6, d_a=3, d_b=4)
    names = ["svcca_first_component", "rsa_pearson", "rsa_spearman"]
    found = significance.test(a, b, names, m="exact")
    for name in names:
        brute = np.array([similarity.score(a, b[list(p)], name) for p in permutations(range(6))])
        assert np.allclose(np.sort(found[name].draws), np.sort(brute), atol=1e-12)
        assert found[name].p == np.mean(brute >= brute[0] - 1e-9)
        assert found[name].null_mean == pytest.approx(brute.mean(), abs=1e-12)
        assert found[name].null_sd == pytest.approx(brute.std(), abs=1e-12)


@pytest.mark.parametrize("name", similarity.NAMES)
def test_a_draw_is_the_score_of_the_permuted_rows(name):
    a, b = related(1, n=300)
    found = significance.test(a, b, [name], m=3, seed=7)[name]
    rng = np.random.default_rng(7)
    for draw in found.draws:
        order = rng.permutation(300)
        assert similarity.score(a, b[order], name) == pytest.approx(draw, abs=2e-6)


def test_result_holds_its_definitions():
    a, b = related(2)
    found = significance.test(a, b, ["svcca"], m=200, seed=3)["svcca"]
    scores = found.draws
    assert (found.n, found.k, found.m) == (60, (12, 9), 200)
    assert found.observed == similarity.svcca(a, b).score
    assert found.p == (np.sum(scores >= found.observed) + 1) / 201
    assert found.z == pytest.approx((found.observed - scores.mean()) / scores.std(ddof=1))
    assert found.excess == pytest.approx((found.observed - scores.mean()) / (1 - scores.mean()))
    assert found.cantelli == pytest.approx(1 / (1 + found.z**2))


def test_same_permutations_serve_all_measures_and_any_batch(monkeypatch):
    a, b = related(3)
    together = significance.test(a, b, ["svcca", "rsa_pearson"], m=50, m_of={"rsa_pearson": 20}, seed=(1, 2))
    monkeypatch.setattr(draws, "_BATCH_BYTES", {"cpu": 60 * 12 * 8 * 7, "cuda": 60 * 12 * 8 * 7})
    alone = significance.test(a, b, ["rsa_pearson"], m=20, seed=(1, 2))
    assert np.allclose(alone["rsa_pearson"].draws, together["rsa_pearson"].draws, atol=1e-12)
    assert together["rsa_pearson"].m == 20
    other = significance.test(a, b, ["rsa_pearson"], m=20, seed=(1, 3))
    assert not np.allclose(other["rsa_pearson"].draws, alone["rsa_pearson"].draws)


@pytest.mark.parametrize("name", ["svcca", "svcca_first_component", "rsa_pearson", "rsa_spearman"])
def test_p_is_uniform_under_the_null(name):
    ps = []
    for seed in range(1000):
        rng = np.random.default_rng([11, seed])
        a, b = rng.normal(size=(12, 3)), rng.normal(size=(12, 4))
        ps.append(significance.test(a, b, [name], m=19, seed=seed)[name].p)
    counts = np.bincount(np.rint(np.array(ps) * 20).astype(int), minlength=21)[1:]
    assert ((counts - 50) ** 2 / 50).sum() < 43.8  # chi-squared with 19 degrees of freedom at 0.001


@pytest.mark.parametrize("name", ["mutual_knn_1", "rsa_euclidean_spearman"])
def test_p_of_discrete_scores_is_at_least_uniform_under_the_null(name):
    """All arrangements of 5 rows of small integers: few distinct scores, many ties."""
    what = similarity.measure("mutual_knn", k=1) if name == "mutual_knn_1" else similarity.measure(name)
    ps = []
    for seed in range(1000):
        rng = np.random.default_rng([12, seed])
        a, b = rng.integers(0, 4, size=(5, 3)) + 1, rng.integers(0, 4, size=(5, 3)) + 1
        ps.append(significance.test(a, b, [what], m="exact")[name].p)
    assert len(set(ps)) < 121
    for level in (0.05, 0.1, 0.2, 0.5):
        assert np.mean(np.array(ps) <= level + 1e-9) < level + 3.3 * (level * (1 - level) / 1000) ** 0.5


def test_closed_form_alone_needs_no_draws():
    a, b = related(0)
    found = significance.test(a, b, ["rsa_spearman", "svcca"], m=50, m_of={"rsa_spearman": 0})
    assert found["rsa_spearman"].m == 0 and np.isnan(found["rsa_spearman"].p)
    drawn = significance.test(a, b, ["rsa_spearman"], m=50)["rsa_spearman"]
    assert found["rsa_spearman"].z == drawn.z
    assert 0 < found["rsa_spearman"].p_approximate < 1
    assert found["svcca"].wachter == moments.wachter(12, 9, 60)
    assert found["svcca"].wachter == pytest.approx(found["svcca"].null_mean, abs=0.02)
    assert np.isnan(drawn.wachter)


@pytest.mark.parametrize("name", ["svcca", "rsa_spearman", "mutual_knn", "procrustes"])
def test_planted_geometry_is_found(name):
    a, b = related(9, n=80)
    found = significance.test(a, b, [name], m=199)[name]
    assert found.p == 1 / 200 and found.z > 4 and 0 < found.excess < 1 and found.cantelli < 0.06


def test_a_reassigned_draw_is_the_score_of_the_reassigned_rows():
    groups = np.repeat(np.arange(12), [1, 2, 3, 4] * 3)
    a, b = related(6, n=30)
    b = b[np.unique(groups, return_index=True)[1]][groups]
    null = nulls.reassigned(groups)
    found = significance.test(a, b, ["svcca", "rsa_pearson", "mutual_knn"], null=null, m=6, seed=2)
    for name, result in found.items():
        rng = np.random.default_rng(2)
        expected = [similarity.score(a, b[null.draw(rng, 1, 30)[0]], name) for _ in range(6)]
        assert np.allclose(result.draws, expected)
        assert not result.closed_form and result.null == "reassigned among groups"


def test_a_selection_repeats_the_whole_choice():
    """The statistic is the best of many pairings; only a null that chooses again is fair to it."""
    pool = np.random.default_rng(0).normal(size=(2, 40, 4))

    def choose(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        tries = [(pool[0][rng.permutation(40)[:10]], pool[1][rng.permutation(40)[:10]]) for _ in range(60)]
        return max(tries, key=lambda pair: similarity.rsa(*pair))

    chosen = choose(np.random.default_rng(1))
    naive = significance.test(*chosen, ["rsa_pearson"], m=199)["rsa_pearson"]
    again = significance.test(*chosen, ["rsa_pearson"], null=nulls.Selection("chosen again", choose), m=60)
    assert naive.p <= 0.05 < again["rsa_pearson"].p
    assert again["rsa_pearson"].null == "chosen again" and not again["rsa_pearson"].closed_form

    def fewer(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        return chosen[0][:9], chosen[1][:9]

    with pytest.raises(ValueError, match="drew 9 pairs for 10"):
        significance.test(*chosen, ["rsa_pearson"], null=nulls.Selection("fewer", fewer), m=5)


def test_few_movable_rows_leave_the_result_undetermined():
    a, b = related(0, n=30)
    labels = np.concatenate([np.arange(20), np.full(10, 20)])
    found = significance.test(a, b, ["cka"], null=nulls.strata(labels), m=99)["cka"]
    assert found.undetermined and found.stuck == 20 and found.movable == pytest.approx(1 / 3)
    assert not significance.test(a, b, ["cka"], m=9)["cka"].undetermined


def test_saturated_correlations_are_noted():
    rng = np.random.default_rng(0)
    found = significance.test(rng.normal(size=(20, 15)), rng.normal(size=(20, 30)), ["cca", "cka"], m=20)
    assert found["cca"].note.startswith("n = 20 rows for k = 15 + 19 components: 15 canonical correlations are 1")
    assert found["cca"].p == 1.0 and np.isnan(found["cca"].excess)
    assert found["cka"].note == ""


def test_equal_rows_are_noted_where_they_are_shuffled():
    a, b = related(0, n=30)
    b[[4, 9]] = b[2]
    groups = np.arange(30)
    groups[[4, 9]] = 2
    shuffled = significance.test(a, b, ["cka", "rsa_pearson"], m=9)
    for result in shuffled.values():
        assert result.note.startswith("0 rows of side a and 2 of side b repeat an earlier one: a shuffle may reject")
    assert significance.test(a, b, ["cka"], null=nulls.reassigned(groups), m=9)["cka"].note == ""
    a, b = related(0, n=20)
    b[1] = b[0]
    both = significance.test(a, b, ["cca"], m=9)["cca"].note
    assert "canonical correlations are 1" in both and "; 0 rows of side a and 1 of side b repeat" in both


def test_random_rows_are_a_baseline():
    a, b = related(0)
    found = significance.random_rows(a, b, 30, similarity.imd, m=20, seed=1)
    assert found.draws.shape == (20,) and found.mean == pytest.approx(found.draws.mean()) and found.sd > 0
    with pytest.raises(ValueError, match="n = 61 rows from pools of 60 and 60"):
        significance.random_rows(a, b, 61, similarity.imd)


def test_relative_needs_both_ceilings():
    assert significance.relative(0.2, 0.5, 0.32) == pytest.approx(0.5)
    assert significance.relative(0.6, 0.5, 0.5) > 1
    for ceilings in ((None, 0.5), (0.5, None), (0.5, 0.01), (-0.5, -0.5), (float("nan"), 0.5)):
        assert np.isnan(significance.relative(0.2, *ceilings))


def test_published_null_means_are_those_of_one_component():
    """sqrt(2 / (pi n)), the mean of |r| of one component."""
    for n in (30, 126, 228):
        rng = np.random.default_rng(n)
        found = significance.test(rng.normal(size=(n, 20)), rng.normal(size=(n, 25)), ["svcca_first_component"], m=4000)
        assert found["svcca_first_component"].null_mean == pytest.approx((2 / np.pi / n) ** 0.5, rel=0.05)


def orthonormal(n: int) -> np.ndarray:
    """Rows all equally far from each other: no pairing of them is better than another."""
    return np.eye(n)[np.random.default_rng(0).permutation(n)]


@pytest.mark.parametrize(
    "name, a, why",
    [
        ("cka_debiased", orthonormal(12), "the score is not finite"),
        ("rsa_spearman", orthonormal(12), "all pairs of the 12 rows are equally dissimilar"),
        ("rsa_cosine_pearson", orthonormal(12) * (np.arange(12) != 3), "1 of 12 rows are zero"),
        ("svcca", np.ones((12, 5)), "all 12 rows are equal"),
        ("mutual_knn", related(0, n=9)[0], "n = 9 rows, k = 10 neighbours"),
        ("procrustes_half", related(0, n=5)[0], "procrustes_half needs at least 6 pairs"),
    ],
)
def test_one_undefined_score_leaves_the_others_as_they_are(name, a, why):
    b = related(1, n=len(a))[1]
    for one, other in ((a, b), (b, a)):
        found = significance.test(one, other, ["cka", name] if name != "svcca" else [name], m=9, seed=4)
        undefined = found.pop(name)
        assert undefined.undefined and undefined.note.startswith(f"undefined: {why}")
        assert (undefined.measure, undefined.n, undefined.m, len(undefined.draws)) == (name, len(a), 9, 9)
        assert all(np.isnan(getattr(undefined, field)) for field in ("p", "z", "excess", "null_mean", "cantelli"))
        for alone in found:  # the same draws, as if the other had not been asked for
            expected = significance.test(one, other, [alone], m=9, seed=4)[alone]
            assert not expected.undefined and found[alone].p == expected.p
            np.testing.assert_array_equal(found[alone].draws, expected.draws)


def test_nothing_is_left_of_the_debiased_estimate_of_orthonormal_rows():
    """Its root is of rounding, of either sign."""
    rng = np.random.default_rng(1)
    for n in range(5, 40):
        a = orthonormal(n) @ np.linalg.qr(rng.normal(size=(n, n)))[0]
        assert np.isnan(similarity.cka(a, a[::-1], debiased=True)) and similarity.cka(a, a[::-1]) == pytest.approx(1)
        assert similarity.cka(*[a + 0.01 * rng.normal(size=a.shape)] * 2, debiased=True) == pytest.approx(1)


@pytest.mark.parametrize("observed, drawn", [(np.nan, [0.1, 0.2]), (0.5, [0.1, np.nan]), (np.inf, [0.1, 0.2])])
def test_what_is_not_finite_is_undefined(observed, drawn):
    found = significance.summarise(observed, np.array(drawn), measure="x", null="y", n=3)
    assert found.undefined and np.isnan(found.p) and "not finite" in found.note


def test_a_null_whose_draws_have_no_score_is_undefined():
    """All of b in one group: every draw gives it one row."""
    a, b = related(0, n=12)
    found = significance.test(a, b, ["cka"], null=nulls.reassigned(np.zeros(12, int)), m=5)["cka"]
    assert found.undefined and "one of the draws" in found.note


def test_bad_requests_are_named():
    a, b = related(0)
    with pytest.raises(ValueError, match="n <= 8; here n = 60"):
        significance.test(a, b, ["svcca"], m="exact")
    with pytest.raises(ValueError, match="each once"):
        significance.test(a, b, ["svcca", "svcca"])
    with pytest.raises(ValueError, match="m_of names"):
        significance.test(a, b, ["svcca"], m_of={"rsa": 3})
    with pytest.raises(ValueError, match="at least 2 draws"):
        significance.test(a, b, ["svcca"], m=1)
    with pytest.raises(ValueError, match="svcca with m = 0"):
        significance.test(a, b, ["svcca"], m=0)
    with pytest.raises(ValueError, match="side a has 59 rows and side b has 60"):
        significance.test(a[:-1], b, ["cka"], m=9)
    with pytest.raises(ValueError, match=r"1 rows of side b hold NaN or infinity \(first: row 3\)"):
        significance.test(a, np.where(np.arange(60)[:, None] == 3, np.nan, b), ["cka"], m=9)
    with pytest.raises(ValueError, match="1 draws"):
        significance.summarise(0.5, np.array([0.1]), measure="x", null="y", n=3)
