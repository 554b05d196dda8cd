"""Corrected p-values against definitions, rates under the null, and intervals that hold the truth."""

import itertools
import subprocess
import sys

import numpy as np
import pytest

from sae_utils import inference, nulls, significance
from sae_utils.studies.known_truth import synthetic
from tests.test_measures import related
from tests.test_significance import shared


def test_maximum_of_z_counts_the_largest_z_of_the_family():
    sets = [significance.test(*related(s), ["svcca", "mutual_knn", "rsa_pearson"], m=99, seed=s) for s in range(2)]
    results = [(s, name, r) for s, found in enumerate(sets) for name, r in found.items()]
    table = np.array([np.append(r.draws, r.observed) for *_, r in results])
    z = (table - table.mean(axis=1, keepdims=True)) / table.std(axis=1, keepdims=True)
    largest = z[:, :-1].max(axis=0)
    adjusted = inference.maximum_of_z(dict(enumerate(sets)))
    for (s, name, result), own in zip(results, z[:, -1], strict=True):
        assert adjusted[s][name] == (np.sum(largest >= own) + 1) / 100
        assert adjusted[s][name] >= result.p


def test_maximum_of_z_holds_the_family_wise_rate():
    hits = 0
    for seed in range(300):
        sets = {}
        for pair_set in range(3):
            rng = np.random.default_rng([seed, pair_set])
            a, b = rng.normal(size=(12, 3)), rng.normal(size=(12, 3))
            names = ["rsa_pearson", "cka", "svcca_first_component"]
            sets[pair_set] = significance.test(a, b, names, m=29, seed=(seed, pair_set))
        hits += min(p for found in inference.maximum_of_z(sets).values() for p in found.values()) <= 0.1
    assert 0.043 < hits / 300 < 0.157  # 0.1 within 3.3 standard errors


def test_a_null_that_does_not_vary_is_never_found():
    a, b = related(0, n=300)
    flat = significance.test(a, b, ["cka"], null=nulls.strata(np.arange(300)), m=99)
    assert flat["cka"].p == 1.0
    assert inference.maximum_of_z({"flat": flat})["flat"]["cka"] == 1.0


def test_what_is_undefined_is_no_test_of_the_family():
    sets = [significance.test(*related(s), ["cka", "rsa_pearson"], m=99, seed=s) for s in range(2)]
    nothing = significance.undefined("no rows", measure="svcca", null="x", n=60, m=99)
    with_it = inference.maximum_of_z({0: sets[0] | {"svcca": nothing}, 1: sets[1]})
    assert np.isnan(with_it[0].pop("svcca"))
    assert with_it == inference.maximum_of_z(dict(enumerate(sets)))
    assert np.isnan(inference.maximum_of_z({0: {"svcca": nothing}})[0]["svcca"])


def test_holm_of_a_worked_example():
    assert inference.holm([0.01, 0.04, 0.03, 0.005], m=999) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert inference.holm([0.9, 0.8], m=999) == pytest.approx([1.0, 1.0])


def test_a_p_that_is_undefined_is_no_test_of_the_family():
    p = np.array([0.01, np.nan, 0.04, 0.03, np.nan, 0.005])
    defined = ~np.isnan(p)
    found = inference.holm(p, m=80)  # for 4 tests and not for 6
    np.testing.assert_array_equal(found[defined], inference.holm(p[defined], m=80))
    assert np.isnan(found[~defined]).all() and np.isnan(inference.holm([np.nan], m=1)).all()


def test_bad_families_are_named():
    with pytest.raises(ValueError, match="m = 59 draws for 3 tests: at least 60"):
        inference.holm([0.1, 0.2, 0.3], m=59)
    with pytest.raises(ValueError, match="above 0"):
        inference.holm([0.0, 0.2], m=999)
    assert inference.maximum_of_z({}) == {}
    a, b = related(0)
    uneven = significance.test(a, b, ["cka", "svcca"], m=99, m_of={"cka": 50})
    with pytest.raises(ValueError, match=r"tests have \[50, 99\] draws"):
        inference.maximum_of_z({"uneven": uneven})


# --- intervals


def test_jackknife_of_a_mean_is_its_standard_error():
    values = np.random.default_rng(0).normal(size=40)
    found = inference.jackknife(lambda rows: values[rows].mean(), np.arange(40))
    assert found.estimate == pytest.approx(values.mean())
    assert found.se == pytest.approx(values.std(ddof=1) / 40**0.5)
    assert (found.high - found.estimate) / found.se == pytest.approx(2.0227, abs=1e-4)  # Student's t, 39


def test_jackknife_over_families_is_the_standard_error_of_their_means():
    values, families = np.random.default_rng(1).normal(size=60), np.repeat(np.arange(12), 5)
    found = inference.jackknife(lambda rows: values[rows].mean(), np.random.default_rng(2).permutation(families))
    assert found.units == 12
    found = inference.jackknife(lambda rows: values[rows].mean(), families)
    assert found.se == pytest.approx(values.reshape(12, 5).mean(axis=1).std(ddof=1) / 12**0.5)


def test_jackknife_over_unequal_families_holds_the_truth():
    """Rows of a family share an offset: the interval must be over families, and it must cover."""
    families = np.repeat(np.arange(30), np.random.default_rng(0).integers(1, 9, size=30))
    covered = {"families": 0, "rows": 0}
    for seed in range(400):
        rng = np.random.default_rng([5, seed])
        values = rng.normal(size=30)[families] + 0.2 * rng.normal(size=len(families))
        for name, labels in (("families", families), ("rows", np.arange(len(families)))):
            found = inference.jackknife(lambda rows, v=values: v[rows].mean(), labels)
            covered[name] += found.low <= 0 <= found.high
    assert covered["families"] / 400 > 0.9
    assert covered["rows"] / 400 < 0.8


def test_a_jackknife_of_several_shares_is_that_of_each():
    values, units = np.random.default_rng(3).normal(size=(50, 3)), np.repeat(np.arange(10), 5)
    found = inference.jackknife(lambda rows: values[rows].mean(axis=0), units)
    for column in range(3):
        single = inference.jackknife(lambda rows, c=column: values[rows, c].mean(), units)
        assert [x[column] for x in found[:4]] == pytest.approx(single[:4])


def test_documents_stay_undivided_in_groups_of_nearly_as_many_tokens():
    lengths = np.random.default_rng(0).integers(10, 90, 200)
    document = np.repeat(np.arange(200)[::-1] + 7, lengths)
    group = inference.grouped(document)
    assert all(len(set(group[document == name])) == 1 for name in set(document))
    tokens = np.bincount(group)
    assert len(tokens) == 20 and tokens.max() - tokens.min() < 90
    order = np.random.default_rng(1).permutation(len(document))
    np.testing.assert_array_equal(inference.grouped(document[order]), group[order])
    few = inference.grouped(["x", "y", "x", "z", "z", "z"])
    assert len(set(few)) == 3 and few[0] == few[2]


def test_too_few_units_are_named():
    with pytest.raises(ValueError, match="2 families of 5 rows"):
        inference.jackknife(lambda rows: 0.0, np.array([0, 0, 0, 1, 1]))


def test_tests_and_intervals_need_no_torch():
    code = """
import sys
import numpy as np
from sae_utils import inference, measures, significance
assert "scipy.stats" not in sys.modules, "it takes half a second"
a = np.random.default_rng(0).normal(size=(30, 4))
found = significance.test(a, a[::-1], measures.NAMES, m=19)
assert len(inference.maximum_of_z({"a": found})["a"]) == len(measures.NAMES)
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


# --- families of near rows, and pairs of equal correlation


def brute(r_one, r_two, caliper):
    """The nearest two of those left, again and again, over all pairs each time."""
    left = {(i, j) for i in range(len(r_one)) for j in range(len(r_two))}
    found = []
    while True:
        allowed = [(abs(float(r_one[i]) - float(r_two[j])), i, j) for i, j in left]
        allowed = [x for x in allowed if x[0] <= caliper]
        if not allowed:
            return found
        _, i, j = min(allowed)
        found.append((i, j))
        left = {(p, q) for p, q in left if p != i and q != j}


@pytest.mark.parametrize("seed", range(5))
def test_pairs_alike_in_r_are_the_nearest_of_those_left(seed):
    generator = np.random.default_rng(seed)
    r_one, r_two = generator.random(12).round(2), generator.random(9).round(2)  # rounded: some are equally near
    one, two = inference.alike(r_one, r_two, 0.1)
    assert list(zip(one.tolist(), two.tolist(), strict=True)) == brute(r_one, r_two, 0.1)
    assert len(set(one.tolist())) == len(one) and len(set(two.tolist())) == len(two)
    assert (np.abs(r_one[one] - r_two[two]) <= 0.1).all()


@pytest.mark.parametrize("seed", range(6))
def test_pairs_alike_in_two_quantities_are_the_nearest_of_those_left(seed):
    generator = np.random.default_rng(seed)
    one, two = generator.random((5, 2)), generator.random((6, 2))
    one[0] = np.nan
    calipers = [0.4, 0.3]
    gaps = {
        (i, j): max(abs(one[i, q] - two[j, q]) / calipers[q] for q in range(2))
        for i, j in itertools.product(range(1, 5), range(6))
    }
    expected, taken = [], (set(), set())
    for (i, j), gap in sorted(gaps.items(), key=lambda item: item[1]):
        if gap <= 1 and i not in taken[0] and j not in taken[1]:
            expected.append((i, j))
            taken[0].add(i)
            taken[1].add(j)
    assert list(zip(*map(list, inference.alike(one, two, calipers)), strict=True)) == expected
    assert all(len(side) == 0 for side in inference.alike(one + 9, two, calipers))


def test_sets_of_equal_r_are_matched_completely_in_any_order():
    generator = np.random.default_rng(0)
    r = generator.random(30)
    order = generator.permutation(30)
    one, two = inference.alike(r, r[order], 0.0)
    assert len(one) == 30 and (order[two] == one).all()


def test_what_correlates_otherwise_or_not_at_all_has_no_neighbour():
    one, two = inference.alike(np.array([0.9, np.nan, 0.2]), np.array([0.5, 0.21, np.nan]), 0.05)
    assert (one.tolist(), two.tolist()) == ([2], [1])
    assert [len(side) for side in inference.alike(np.array([0.9]), np.zeros(0), 0.05)] == [0, 0]


def test_whole_families_are_left_out():
    """Near-duplicates are one family, found by their directions whatever their lengths."""
    generator = np.random.default_rng(1)
    family = generator.permutation(np.repeat(np.arange(12), 5))
    x, y = (side[:12][family] + 0.02 * generator.normal(size=(60, 8)) for side in shared(0, noise=0.5))
    x *= generator.uniform(0.5, 2, size=(60, 1))
    found = inference.excess_interval((x, y), "rsa_pearson", 0.95)
    excess = [
        significance.test(x[kept], y[kept], ["rsa_pearson"], m=2)["rsa_pearson"].excess
        for kept in [np.full(60, True), *(family != f for f in range(12))]
    ]
    assert found.estimate == pytest.approx(excess[0]) and found.units == 12
    deleted = np.array(excess[1:])
    assert found.se == pytest.approx(np.sqrt(11 / 12 * ((deleted - deleted.mean()) ** 2).sum()))
    order = generator.permutation(60)
    assert inference.excess_interval((x[order], y[order]), "rsa_pearson", 0.95)[:4] == pytest.approx(found[:4])


def test_single_pairs_are_left_out_in_groups_that_do_not_depend_on_their_order():
    x, y = shared(0)
    order = np.random.default_rng(3).permutation(len(x))
    found, again = (inference.excess_interval(rows, "rsa_pearson", 0.999) for rows in ((x, y), (x[order], y[order])))
    assert found.units == inference.GROUPS and again[:4] == pytest.approx(found[:4])


def test_intervals_over_five_families_hold_the_expected_excess():
    """Of 300 data sets 93% do; over 12 Ward clusters, which tear the five apart, 86% would."""
    world = synthetic.Grouped(kind="grouped", groups=5, centres=0.0, alike_a=0.9, alike_b=0.9)
    found = [
        inference.excess_interval(world.draw(np.random.default_rng([5, seed]), 40, 32, 32)[:2], "rsa_pearson", 0.7)
        for seed in range(60)
    ]
    truth = np.mean([x.estimate for x in found])
    assert {x.units for x in found} == {5}
    assert np.mean([x.low <= truth <= x.high for x in found]) >= 0.85


@pytest.mark.parametrize("seed", range(3))
def test_families_are_connected_by_near_rows_on_either_side(monkeypatch, seed):
    generator = np.random.default_rng(seed)
    rows = generator.normal(size=(40, 5)), generator.normal(size=(40, 4))
    rows[1][7] = 0  # of no direction: near to nothing, on its side
    cosine = [np.nan_to_num(x @ x.T / np.outer(*2 * [np.linalg.norm(x, axis=1).clip(1e-30)])) for x in rows]
    expected = np.arange(40)  # the lowest pair of a family, by spreading it until nothing changes
    near = (cosine[0] >= 0.93) | (cosine[1] >= 0.93) | np.eye(40, dtype=bool)
    for _ in range(40):
        expected = np.array([expected[row].min() for row in near])
    monkeypatch.setattr(inference, "BLOCK", 7)
    found = inference.families(rows, 0.93)
    assert 2 < len(np.unique(expected)) < 40
    np.testing.assert_array_equal(found[:, None] == found, expected[:, None] == expected)


def test_an_excess_that_would_be_sampled_is_refused():
    with pytest.raises(ValueError, match="svcca_first_component with m = 0"):
        inference.excess_interval(shared(0), "svcca_first_component", 0.7)


def test_of_two_families_nothing_is_known():
    found = inference.excess_interval(shared(0), "rsa_pearson", -1.0)
    assert found.units == 1 and np.isfinite(found.estimate) and np.isnan([found.se, found.low, found.high]).all()
