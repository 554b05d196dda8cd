"""Corrected p-values against definitions, rates under the null, and intervals that hold the truth."""

import subprocess
import sys

import numpy as np
import pytest
from scipy.stats import false_discovery_control

from sae_utils import inference, nulls, significance
from tests.test_measures import related


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


def test_benjamini_hochberg_equals_scipy():
    p = np.random.default_rng(0).uniform(0.001, 1, size=30) ** 2
    assert inference.benjamini_hochberg(p, m=999) == pytest.approx(false_discovery_control(p))


@pytest.mark.parametrize("rule", [inference.holm, inference.benjamini_hochberg])
def test_a_p_that_is_undefined_is_no_test_of_the_family(rule):
    p = np.array([0.01, np.nan, 0.04, 0.03, np.nan, 0.005])
    known = ~np.isnan(p)
    found = rule(p, m=80)  # for 4 tests and not for 6
    np.testing.assert_array_equal(found[known], rule(p[known], m=80))
    assert np.isnan(found[~known]).all() and np.isnan(rule([np.nan], m=1)).all()


def test_bad_families_are_named():
    with pytest.raises(ValueError, match="m = 59 draws for 3 tests: at least 60"):
        inference.holm([0.1, 0.2, 0.3], m=59)
    with pytest.raises(ValueError, match="above 0"):
        inference.benjamini_hochberg([0.0, 0.2], m=999)
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
        alone = inference.jackknife(lambda rows, c=column: values[rows, c].mean(), units)
        assert [x[column] for x in found[:4]] == pytest.approx(alone[:4])


def test_documents_stay_whole_in_groups_of_nearly_as_many_tokens():
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
