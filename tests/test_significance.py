"""Permutation tests against brute force, and p-values under the null."""

import dataclasses
from itertools import permutations

import numpy as np
import pytest

from sae_utils import matching, measures, nulls, significance
from sae_utils.engine.chance import draws
from tests.test_measures import related


def test_exact_lists_every_arrangement():
    a, b = related(0, n=6, d_a=3, d_b=4)
    names = ["svcca_first_component", "rsa_pearson", "rsa_spearman"]
    found = significance.test(a, b, names, m="exact")
    for name in names:
        brute = np.array([measures.score(a, b[list(p)], name) for p in permutations(range(6))])
        assert np.allclose(np.sort(found[name].draws), np.sort(brute), atol=1e-12)
        assert found[name].p == np.mean(brute >= brute[0] - 1e-9)
        assert found[name].null_mean == pytest.approx(brute.mean(), abs=1e-12)
        assert found[name].null_sd == pytest.approx(brute.std(), abs=1e-12)


@pytest.mark.parametrize("name", measures.NAMES)
def test_a_draw_is_the_score_of_the_permuted_rows(name):
    a, b = related(1, n=300)
    found = significance.test(a, b, [name], m=3, seed=7)[name]
    rng = np.random.default_rng(7)
    for draw in found.draws:
        order = rng.permutation(300)
        assert measures.score(a, b[order], name) == pytest.approx(draw, abs=2e-6)


def test_result_holds_its_definitions():
    a, b = related(2)
    found = significance.test(a, b, ["svcca"], m=200, seed=3)["svcca"]
    scores = found.draws
    assert (found.n, found.k, found.m) == (60, (12, 9), 200)
    assert found.observed == measures.svcca(a, b).score
    assert found.p == (np.sum(scores >= found.observed) + 1) / 201
    assert found.z == pytest.approx((found.observed - scores.mean()) / scores.std(ddof=1))
    assert found.excess == pytest.approx((found.observed - scores.mean()) / (1 - scores.mean()))


def test_same_permutations_serve_all_measures_and_any_batch(monkeypatch):
    a, b = related(3)
    both = significance.test(a, b, ["svcca", "rsa_pearson"], m=50, m_of={"rsa_pearson": 20}, seed=(1, 2))
    monkeypatch.setattr(draws, "_BATCH_BYTES", 60 * 12 * 8 * 7)
    single = significance.test(a, b, ["rsa_pearson"], m=20, seed=(1, 2))
    assert np.allclose(single["rsa_pearson"].draws, both["rsa_pearson"].draws, atol=1e-12)
    assert both["rsa_pearson"].m == 20
    other = significance.test(a, b, ["rsa_pearson"], m=20, seed=(1, 3))
    assert not np.allclose(other["rsa_pearson"].draws, single["rsa_pearson"].draws)


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
    what = measures.measure("mutual_knn", k=1) if name == "mutual_knn_1" else measures.measure(name)
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


@pytest.mark.parametrize("name", ["svcca", "rsa_spearman", "mutual_knn", "procrustes"])
def test_planted_geometry_is_found(name):
    a, b = related(9, n=80)
    found = significance.test(a, b, [name], m=199)[name]
    assert found.p == 1 / 200 and found.z > 4 and 0 < found.excess < 1


def test_a_reassigned_draw_is_the_score_of_the_reassigned_rows():
    groups = np.repeat(np.arange(12), [1, 2, 3, 4] * 3)
    a, b = related(6, n=30)
    b = b[np.unique(groups, return_index=True)[1]][groups]
    null = nulls.reassigned(groups)
    found = significance.test(a, b, ["svcca", "rsa_pearson", "mutual_knn"], null=null, m=6, seed=2)
    for name, result in found.items():
        rng = np.random.default_rng(2)
        expected = [measures.score(a, b[null.draw(rng, 1, 30)[0]], name) for _ in range(6)]
        assert np.allclose(result.draws, expected)
        assert result.null_mean == pytest.approx(result.draws.mean()) and result.null == "reassigned among groups"


def test_a_selection_repeats_the_whole_choice():
    """The statistic is the best of many pairings; only a null that chooses again is fair to it."""
    pool = np.random.default_rng(0).normal(size=(2, 40, 4))

    def choose(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        tries = [(pool[0][rng.permutation(40)[:10]], pool[1][rng.permutation(40)[:10]]) for _ in range(60)]
        return max(tries, key=lambda pair: measures.rsa(*pair))

    chosen = choose(np.random.default_rng(1))
    naive = significance.test(*chosen, ["rsa_pearson"], m=199)["rsa_pearson"]
    again = significance.test(*chosen, ["rsa_pearson"], null=nulls.Selection("chosen again", choose), m=60)
    assert naive.p <= 0.05 < again["rsa_pearson"].p
    assert again["rsa_pearson"].null == "chosen again"

    def fewer(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        return chosen[0][:9], chosen[1][:9]

    with pytest.raises(ValueError, match="drew 9 pairs for 10"):
        significance.test(*chosen, ["rsa_pearson"], null=nulls.Selection("fewer", fewer), m=5)


def test_few_movable_rows_leave_the_result_undetermined():
    a, b = related(0, n=30)
    labels = np.concatenate([np.arange(20), np.full(10, 20)])
    found = significance.test(a, b, ["cka"], null=nulls.strata(labels), m=99)["cka"]
    assert found.undetermined and found.movable == pytest.approx(1 / 3)
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
    found = significance.random_rows(a, b, 30, measures.imd, m=20, seed=1)
    assert found.draws.shape == (20,) and found.mean == pytest.approx(found.draws.mean()) and found.sd > 0
    with pytest.raises(ValueError, match="n = 61 rows from pools of 60 and 60"):
        significance.random_rows(a, b, 61, measures.imd)


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
        ("mutual_knn", related(0, n=9)[0], "mutual_knn needs at least 11 pairs"),
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
        assert all(np.isnan(getattr(undefined, field)) for field in ("p", "z", "excess", "null_mean"))
        for defined in found:  # the same draws, as if the other had not been asked for
            expected = significance.test(one, other, [defined], m=9, seed=4)[defined]
            assert not expected.undefined and found[defined].p == expected.p
            np.testing.assert_array_equal(found[defined].draws, expected.draws)


def test_debiased_cka_of_orthonormal_rows_is_undefined():
    """The estimate is rounding error, of either sign."""
    rng = np.random.default_rng(1)
    for n in range(5, 40):
        a = orthonormal(n) @ np.linalg.qr(rng.normal(size=(n, n)))[0]
        assert np.isnan(measures.cka(a, a[::-1], debiased=True)) and measures.cka(a, a[::-1]) == pytest.approx(1)
        assert measures.cka(*[a + 0.01 * rng.normal(size=a.shape)] * 2, debiased=True) == pytest.approx(1)


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
    with pytest.raises(ValueError, match="the null is 'reassigned among groups'"):
        significance.test(a[:6], b[:6], ["cka"], null=nulls.reassigned(np.arange(6) // 2), m="exact")
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


# --- pairs, and one n


def pairs(a, b, r=None, widths=(60, 60)):
    r = np.linspace(0.2, 0.9, len(a)) if r is None else r
    whys = (np.zeros(width, np.int8) for width in widths)
    return matching.Pairs(np.array(a, np.int32), np.array(b, np.int32), np.array(r, np.float32), *whys)


def rows(generator, n=60, d=8):
    return generator.normal(size=(n, d)).astype(np.float32)


def shared(seed, n=60, d=8, noise=1.0):
    """Paired rows that share an arrangement, the less the larger the noise."""
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(n, d))
    return x, x @ np.linalg.qr(generator.normal(size=(d, d)))[0] + noise * generator.normal(size=(n, d))


def test_one_to_one_pairs_are_shuffled_and_many_to_one_reassigned():
    generator = np.random.default_rng(0)
    x, y = rows(generator), rows(generator)
    one = significance.test_pairs(pairs(range(30), range(30)), x, y, "rsa_pearson", m=20, seed=0)
    many = significance.test_pairs(pairs(range(30), np.arange(30) // 2), x, y, "rsa_pearson", m=20, seed=0)
    back = significance.test_pairs(pairs(np.arange(30) // 2, range(30)), y, x, "rsa_pearson", m=20, seed=0)
    assert one.null == "shuffled pairing" and one.null_mean == pytest.approx(0, abs=1e-12)
    assert many.null == back.null == "reassigned among groups"
    assert back.observed == pytest.approx(many.observed)
    np.testing.assert_array_equal(back.draws, many.draws)


def test_a_measure_that_takes_no_equal_rows_gives_shared_partners_no_score():
    generator = np.random.default_rng(0)
    x, y = rows(generator), rows(generator)
    strict = dataclasses.replace(measures.measure("rsa_pearson"), repeats=False)
    many, one = (significance.test_pairs(pairs(range(30), b), x, y, strict, m=20, seed=0)
                 for b in (np.arange(30) // 2, range(30)))  # fmt: skip
    assert many.undefined and "share a partner" in many.note and not one.undefined


def test_the_null_of_many_to_one_holds_its_level_where_a_shuffle_does_not():
    """Features of A that chose the same partner are alike, and B's directions are unrelated to A's."""
    fits, naive = [], []
    for seed in range(40):
        generator = np.random.default_rng(seed)
        group = np.repeat(np.arange(12), 4)
        x = rows(generator, 12)[group] + 0.3 * rows(generator, 48)
        y, many = rows(generator, 12), pairs(range(48), group, widths=(48, 12))
        fits.append(significance.test_pairs(many, x, y, "rsa_pearson", m=39, seed=seed).p)
        naive.append(significance.test(x, y[group], ["rsa_pearson"], m=39, seed=seed)["rsa_pearson"].p)
    assert np.mean(np.array(fits) <= 0.05) <= 0.2
    assert np.mean(np.array(naive) <= 0.05) >= 0.9


def test_what_cannot_be_scored():
    x = rows(np.random.default_rng(0))
    both = pairs([*range(20), 0], [*range(19), 0, 5])
    with pytest.raises(ValueError, match="features of both sides repeat"):
        significance.test_pairs(both, x, x, "rsa_pearson", m=9, seed=0)
    few = pairs(range(30), np.arange(30) % 9)
    assert not significance.enough(few)
    found = significance.test_pairs(few, x, x, "rsa_pearson", m=9, seed=0)
    assert found.undefined and found.note.startswith(
        "undefined: 30 pairs hold fewer than 10 features of a side: too few"
    )
    assert np.isnan(significance.test_pairs(few, x, x, "rsa_pearson", m=9, seed=0).excess)
    assert significance.test_pairs(
        pairs(range(30), range(30)), x, x, "rsa_pearson", m=9, seed=0
    ).excess == pytest.approx(1)


def test_at_one_n_scores_subsets_of_that_size():
    generator = np.random.default_rng(0)
    x, y = rows(generator), rows(generator)
    every = pairs(range(60), range(60))
    every_pair = significance.pairs_at_n(every, x, y, "rsa_pearson", 60, subsets=3, m=9, seed=0)
    assert every_pair.n == 60 and every_pair.excess_sd == 0
    assert every_pair.excess == pytest.approx(significance.test_pairs(every, x, y, "rsa_pearson", m=9, seed=0).excess)
    assert significance.pairs_at_n(every, x, x, "rsa_pearson", 20, subsets=3, m=9, seed=0).excess == pytest.approx(1)
    part = significance.pairs_at_n(every, x, y, "rsa_pearson", 20, subsets=8, m=9, seed=0)
    assert part.excess_sd > 0
    few = significance.pairs_at_n(every, x, y, "rsa_pearson", 9, subsets=3, m=9, seed=0)
    assert few == significance.UNSCORED and few.n == 0 and np.isnan(few[1:]).all()


def test_all_pairs_are_scored_once():
    x, y = shared(0)
    found = significance.rows_at_n((x, y), "rsa_pearson", 60, subsets=5, m=49, seed=3)
    expected = significance.test(x, y, ["rsa_pearson"], m=49, seed=(3, 0))["rsa_pearson"]
    for field in ("n", "observed", "null_mean", "null_sd", "excess", "z", "p"):
        assert getattr(found, field) == pytest.approx(getattr(expected, field))
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(expected.draws, [0.025, 0.975])))
    assert found.excess_sd == 0


def test_subsets_have_the_size_asked_for_and_are_averaged():
    x, y = shared(0)
    found = significance.rows_at_n((x, y), "mutual_knn", 25, subsets=8, m=19, seed=0)
    assert found.n == 25 and found.excess_sd > 0
    every_pair = significance.rows_at_n((x, y), "mutual_knn", 60, subsets=8, m=19, seed=0)
    assert found.null_mean == pytest.approx(10 / 24) and every_pair.null_mean == pytest.approx(10 / 59)
    assert found.low < found.null_mean < found.high
    copied = significance.rows_at_n((x, x), "rsa_pearson", 25, subsets=4, m=19, seed=0)
    assert copied.excess == pytest.approx(1) and copied.p == pytest.approx(2 / 20)
    with pytest.raises(ValueError, match="60 pairs cannot be cut to n = 61"):
        significance.rows_at_n((x, y), "rsa_pearson", 61, subsets=2, m=9, seed=0)


def test_twice_the_mean_p_holds_its_level():
    p = []
    for seed in range(40):
        generator = np.random.default_rng(seed)
        unrelated = generator.normal(size=(40, 6)), generator.normal(size=(40, 6))
        p.append(significance.rows_at_n(unrelated, "rsa_pearson", 20, subsets=4, m=19, seed=seed).p)
    assert np.mean(np.array(p) <= 0.1) <= 0.15 and max(p) <= 1


def test_a_closed_form_alone_has_no_span_and_no_p():
    x, y = shared(0)
    exact = {"rsa_pearson": 0}

    def score(places, number):
        return significance.test(x[places], y[places], ["rsa_pearson"], m_of=exact) if number else {}

    found = significance.at_n(60, 30, score, subsets=3, seed=0)["rsa_pearson"]  # the first subset is left out
    generator = np.random.default_rng(0)
    parts = [np.sort(generator.choice(60, 30, replace=False)) for _ in range(3)][1:]
    excess = [significance.test(x[at], y[at], ["rsa_pearson"], m_of=exact)["rsa_pearson"].excess for at in parts]
    assert found.excess == pytest.approx(np.mean(excess)) and found.excess_sd == pytest.approx(np.std(excess))
    assert np.isnan([found.low, found.high, found.p]).all() and np.isfinite(found.z)


def test_several_p_become_one_that_holds_however_they_depend():
    """One p drawn once and shown ten times rejects at its level, and so do independent ones."""
    rng = np.random.default_rng(0)
    assert significance.combined([0.04]) == 0.04 and significance.combined([0.7, 0.9]) == 1
    assert np.isnan(significance.combined([np.nan])) and np.isnan(significance.combined([0.2, np.nan]))
    same = [significance.combined([p] * 10) for p in rng.random(4000)]
    independent = [significance.combined(list(rng.random(3))) for _ in range(4000)]
    assert np.mean(np.array(same) <= 0.05) < 0.05 and np.mean(np.array(independent) <= 0.05) < 0.05
