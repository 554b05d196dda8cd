"""Pairs at equal correlation, intervals over families, and what tables say."""

import numpy as np
import pytest

from sae_utils import inference, significance
from sae_utils.studies.known_truth import synthetic
from sae_utils.studies.llm_vs_sae import matched
from tests.test_significance import shared


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
    one, two = matched.alike_in_r(r_one, r_two, 0.1)
    assert list(zip(one.tolist(), two.tolist(), strict=True)) == brute(r_one, r_two, 0.1)
    assert len(set(one.tolist())) == len(one) and len(set(two.tolist())) == len(two)
    assert (np.abs(r_one[one] - r_two[two]) <= 0.1).all()


def test_sets_of_equal_r_are_matched_whole_whatever_their_order():
    generator = np.random.default_rng(0)
    r = generator.random(30)
    order = generator.permutation(30)
    one, two = matched.alike_in_r(r, r[order], 0.0)
    assert len(one) == 30 and (order[two] == one).all()


def test_what_correlates_otherwise_or_not_at_all_has_no_neighbour():
    one, two = matched.alike_in_r(np.array([0.9, np.nan, 0.2]), np.array([0.5, 0.21, np.nan]), 0.05)
    assert (one.tolist(), two.tolist()) == ([2], [1])
    assert [len(side) for side in matched.alike_in_r(np.array([0.9]), np.zeros(0), 0.05)] == [0, 0]


def test_whole_families_are_left_out():
    """Near-duplicates are one family, found by their directions whatever their lengths."""
    generator = np.random.default_rng(1)
    family = generator.permutation(np.repeat(np.arange(12), 5))
    x, y = (side[:12][family] + 0.02 * generator.normal(size=(60, 8)) for side in shared(0, noise=0.5))
    x *= generator.uniform(0.5, 2, size=(60, 1))
    found = matched.excess_interval((x, y), "rsa_pearson", 0.95)
    excess = [
        significance.test(x[kept], y[kept], ["rsa_pearson"], m=2)["rsa_pearson"].excess
        for kept in [np.full(60, True), *(family != f for f in range(12))]
    ]
    assert found.estimate == pytest.approx(excess[0]) and found.units == 12
    deleted = np.array(excess[1:])
    assert found.se == pytest.approx(np.sqrt(11 / 12 * ((deleted - deleted.mean()) ** 2).sum()))
    order = generator.permutation(60)
    assert matched.excess_interval((x[order], y[order]), "rsa_pearson", 0.95)[:4] == pytest.approx(found[:4])


def test_single_pairs_are_left_out_in_groups_that_do_not_depend_on_their_order():
    x, y = shared(0)
    order = np.random.default_rng(3).permutation(len(x))
    found, again = (matched.excess_interval(rows, "rsa_pearson", 0.999) for rows in ((x, y), (x[order], y[order])))
    assert found.units == inference.GROUPS and again[:4] == pytest.approx(found[:4])


def test_intervals_over_five_families_hold_the_expected_excess():
    """Of 300 data sets 93% do; over 12 Ward clusters, which tear the five apart, 86% would."""
    world = synthetic.Grouped(kind="grouped", groups=5, centres=0.0, alike_a=0.9, alike_b=0.9)
    found = [
        matched.excess_interval(world.draw(np.random.default_rng([5, seed]), 40, 32, 32)[:2], "rsa_pearson", 0.7)
        for seed in range(60)
    ]
    truth = np.mean([x.estimate for x in found])
    assert {x.units for x in found} == {5}
    assert np.mean([x.low <= truth <= x.high for x in found]) >= 0.85


@pytest.mark.parametrize("seed", range(3))
def test_families_hang_together_by_near_rows_on_either_side(monkeypatch, seed):
    generator = np.random.default_rng(seed)
    rows = generator.normal(size=(40, 5)), generator.normal(size=(40, 4))
    rows[1][7] = 0  # of no direction: near to nothing, on its side
    cosine = [np.nan_to_num(x @ x.T / np.outer(*2 * [np.linalg.norm(x, axis=1).clip(1e-30)])) for x in rows]
    expected = np.arange(40)  # the lowest pair of a family, by spreading it until nothing changes
    near = (cosine[0] >= 0.93) | (cosine[1] >= 0.93) | np.eye(40, dtype=bool)
    for _ in range(40):
        expected = np.array([expected[row].min() for row in near])
    monkeypatch.setattr(matched, "BLOCK", 7)
    found = matched.families(rows, 0.93)
    assert 2 < len(np.unique(expected)) < 40
    np.testing.assert_array_equal(found[:, None] == found, expected[:, None] == expected)


def test_an_excess_that_would_be_sampled_is_refused():
    with pytest.raises(ValueError, match="svcca_first_component with m = 0"):
        matched.excess_interval(shared(0), "svcca_first_component", 0.7)


def test_of_two_families_nothing_is_known():
    found = matched.excess_interval(shared(0), "rsa_pearson", -1.0)
    assert found.units == 1 and np.isfinite(found.estimate) and np.isnan([found.se, found.low, found.high]).all()
