"""Verdicts against worlds whose truth is planted, intervals over replicates against their coverage."""

import itertools
import math

import numpy as np
import pytest

from sae_utils import inference, significance
from sae_utils.studies.known_truth import synthetic

D = 0.03  # the threshold of an excess
R = 8


def replicated(mean: float, se: float) -> inference.Replicated:
    """Eight replicates whose mean and standard error are just these."""
    values = np.arange(R) - (R - 1) / 2
    return inference.over_replicates(mean + values * se * R**0.5 / values.std(ddof=1))


# --- three values


@pytest.mark.parametrize(
    ("mean", "se", "expected"),
    [
        (0.10, 0.01, "yes"), (-0.10, 0.01, "no"), (0.0, 0.01, "no"), (0.10, 0.10, "undetermined"),
        (D, 1e-9, "undetermined"),
    ],
    ids=["true", "reversed", "null", "noisy", "at the threshold"],
)  # fmt: skip
def test_a_verdict_of_each_kind_of_result(mean, se, expected):
    found = replicated(mean, se)
    assert (found.estimate, found.se) == pytest.approx((mean, se), abs=1e-12)
    assert inference.verdict(found.low, found.high, D) == expected


@pytest.mark.parametrize("values", [[], [0.5], [0.5, 0.6], [0.5, np.nan, 0.6]])
def test_of_two_replicates_nothing_is_determined(values):
    found = inference.over_replicates(values)
    assert inference.verdict(found.low, found.high, D) == "undetermined"
    assert found.n == np.isfinite(values).sum() and np.isnan([found.se, found.low, found.high]).all()
    assert math.isnan(found.estimate) if not values else found.estimate == pytest.approx(np.nanmean(values))


def test_an_interval_that_touches_the_threshold_decides_nothing():
    assert inference.verdict(D, 0.1, D) == inference.verdict(-0.1, D, D) == "undetermined"
    assert inference.verdict(math.nan, 0.1, D) == inference.verdict(0.1, math.nan, D) == "undetermined"


@pytest.mark.parametrize("bad", [(0.2, 0.1, D), (0.0, 0.1, math.nan), (0.0, 0.1, math.inf)])
def test_a_verdict_needs_an_interval_and_a_threshold(bad):
    with pytest.raises(ValueError, match="threshold"):
        inference.verdict(*bad)


def test_controls_are_tested_only_after_a_yes():
    yes, no, noisy = replicated(0.1, 0.01), replicated(0.0, 0.01), replicated(0.1, 0.1)
    order = {"scrambled": yes, "random": yes, "blocks": no}
    assert inference.in_order(order, D) == {"scrambled": "yes", "random": "yes", "blocks": "no"}
    for first, verdict in ((no, "no"), (noisy, "undetermined")):
        found = inference.in_order({"scrambled": first, "random": yes, "blocks": yes}, D)
        assert found == {"scrambled": verdict, "random": "not tested", "blocks": "not tested"}
    assert inference.in_order({}, D) == {}


def test_verdicts_are_wrong_no_more_often_than_stated():
    """At a true value just beside the threshold, where it is hardest to tell."""
    generator = np.random.default_rng(0)
    wrong = 0
    for _ in range(2000):
        found = inference.over_replicates(generator.normal(D - 1e-6, 0.05, R))
        wrong += inference.verdict(found.low, found.high, D) == "yes"
    assert abs(wrong - inference.false_at_most(2000)) < 3.3 * (2000 * 0.025 * 0.975) ** 0.5


@pytest.mark.parametrize(("mean", "se", "expected"), [(-0.1, 0.01, "yes"), (0.1, 0.01, "yes"), (0.0, 0.001, "no"),
                                                     (-0.001, 0.01, "no"), (-0.1, 0.1, "undetermined")])  # fmt: skip
def test_a_difference_of_either_sign_has_its_verdict_by_size(mean, se, expected):
    found = inference.size(replicated(mean, se))
    assert found.estimate == pytest.approx(abs(mean)) and found.se == pytest.approx(se)
    assert inference.verdict(found.low, found.high, D) == expected


# --- over replicates


def test_of_one_value_each_it_is_students_interval_of_the_mean():
    from scipy import stats

    values = np.random.default_rng(0).normal(size=R)
    found = inference.over_replicates(values)
    expected = stats.ttest_1samp(values, 0).confidence_interval()
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.estimate == pytest.approx(values.mean()) and found.n == R
    assert inference.over_replicates([*values, np.nan]) == pytest.approx(found)


def test_in_a_crossed_design_row_and_column_are_left_out_together():
    values = np.random.default_rng(1).normal(size=(5, 5))
    off = ~np.eye(5, dtype=bool)
    deleted = []
    for i in range(5):
        kept = np.arange(5) != i
        deleted.append(values[off & kept[:, None] & kept[None]].mean())
    found = inference.over_replicates(values)
    assert found.estimate == pytest.approx(values[off].mean()) and math.isnan(found.p)
    assert found.se == pytest.approx(np.sqrt(4 / 5 * ((deleted - np.mean(deleted)) ** 2).sum()))
    upper = np.where(np.triu(off), values, np.nan)  # of a symmetric score one half is enough
    both = np.where(np.triu(off), values, values.T)
    assert inference.over_replicates(upper)[:5] == pytest.approx(inference.over_replicates(both)[:5])
    statistic = inference.over_replicates(lambda kept: values[np.ix_(kept, kept)][off[np.ix_(kept, kept)]].mean(), 5)
    assert statistic[:5] == pytest.approx(found[:5])


def test_a_replicate_without_a_score_is_not_counted():
    values = np.random.default_rng(2).normal(size=(5, 5))
    values[2] = values[:, 2] = np.nan
    kept = [0, 1, 3, 4]
    assert inference.over_replicates(values)[:5] == pytest.approx(
        inference.over_replicates(values[np.ix_(kept, kept)])[:5]
    )
    assert inference.over_replicates(np.full((4, 4), np.nan)).n == 0


@pytest.mark.parametrize("bad", [np.zeros((2, 3)), 0.5, [np.inf, 1, 2], np.zeros((2, 2, 2))])
def test_values_of_another_shape_are_refused(bad):
    with pytest.raises(ValueError, match="of a crossed design"):
        inference.over_replicates(bad)
    with pytest.raises(ValueError, match="name the number"):
        inference.over_replicates(lambda kept: 0.0)


@pytest.mark.parametrize(
    ("draw", "mean", "coverage"),
    [
        (lambda rng: rng.normal(size=R), 0.0, 0.95),
        (lambda rng: rng.gamma(4.0, size=R), 4.0, 0.934),  # skewness 1
        (lambda rng: rng.exponential(size=R), 1.0, 0.895),  # skewness 2
        # scores of A_i and B_j that vary with either
        (lambda rng: rng.normal(size=R)[:, None] + rng.normal(size=R) + rng.normal(size=(R, R)), 0.0, 0.957),
    ],
    ids=["normal", "skewed", "very skewed", "crossed"],
)
def test_the_interval_holds_the_truth(draw, mean, coverage):
    """As often as the docstring of `over_replicates` says, within 3.3 standard errors of 1,000 repeats."""
    generator = np.random.default_rng(7)
    found = [inference.over_replicates(draw(generator)) for _ in range(1000)]
    held = np.mean([x.low <= mean <= x.high for x in found])
    assert abs(held - coverage) < 3.3 * (coverage * (1 - coverage) / 1000) ** 0.5


@pytest.mark.parametrize("seed", range(4))
def test_sign_flips_are_counted_over_all_patterns(seed):
    values = np.random.default_rng(seed).normal(0.5, 1, 6).round(1)  # rounded: some patterns tie
    flipped = [abs(np.dot(signs, values)) for signs in itertools.product((1, -1), repeat=6)]
    assert inference.sign_flip(values) == np.mean(np.array(flipped) >= abs(values.sum()) - 1e-9)
    assert inference.over_replicates(values).p == inference.sign_flip(values) == inference.sign_flip(-values)


def test_sign_flips_of_values_of_one_sign_reach_the_least_p():
    assert inference.sign_flip(np.arange(1, 9)) == 2 / 2**8
    assert inference.sign_flip([0.0, 0.0, 0.0]) == 1.0
    assert math.isnan(inference.sign_flip(np.zeros(0))) and math.isnan(inference.sign_flip(np.ones(21)))


# --- power


def test_the_differences_that_are_told_in_four_repeats_of_five():
    sd, generator = 0.05, np.random.default_rng(3)
    told = inference.detectable(sd, D, R)
    assert told.yes - D == pytest.approx(D - told.no)
    for truth, verdict in ((told.yes, "yes"), (told.no, "no")):
        found = [inference.over_replicates(generator.normal(truth, sd, R)) for _ in range(1500)]
        share = np.mean([inference.verdict(x.low, x.high, D) == verdict for x in found])
        assert share == pytest.approx(0.8, abs=0.034)  # 3.3 standard errors
        assert getattr(inference.chances(truth, sd, D, R), verdict) == pytest.approx(0.8)


def test_chances_sum_to_one_and_mirror():
    for difference in (-0.1, 0.0, D, 0.08):
        found = inference.chances(difference, 0.05, D, R)
        assert sum(found) == pytest.approx(1) and min(found) >= 0
        mirrored = inference.chances(2 * D - difference, 0.05, D, R)
        assert (found.yes, found.no) == pytest.approx((mirrored.no, mirrored.yes))
    at = inference.chances(D, 0.05, D, R)
    assert at.yes == pytest.approx(0.025) and at.no == pytest.approx(0.025)


def test_replicates_needed_is_the_inverse_of_what_is_detectable():
    needed = inference.replicates_needed(0.08, 0.05, D)
    assert inference.detectable(0.05, D, needed).yes <= 0.08 < inference.detectable(0.05, D, needed - 1).yes
    assert inference.replicates_needed(-0.02, 0.05, D) == needed  # as far below
    assert inference.replicates_needed(9.0, 0.05, D) == 3
    with pytest.raises(ValueError, match="no number of replicates"):
        inference.replicates_needed(D, 0.05, D)
    for bad in ((0.0, 8), (math.nan, 8), (0.1, 2)):
        with pytest.raises(ValueError, match="is needed"):
            inference.detectable(bad[0], D, bad[1])


# --- planted worlds


def excess(shared: float, generator: np.random.Generator) -> float:
    """Of 100 pairs, as the primary analysis scores them; with .3 it is .08 over a control of 0."""
    world = synthetic.Copies(kind="copies", shared=shared)
    a, b, _ = world.draw(generator, 100, 128, 96)
    return significance.test(a, b, ["rsa_spearman"], m=0)["rsa_spearman"].excess


@pytest.mark.parametrize(("shared", "expected"), [(0.3, "yes"), (0.0, "no")], ids=["all shared", "nothing shared"])
def test_planted_worlds_get_their_verdict(shared, expected):
    told = 0
    for repeat in range(50):
        generators = [np.random.default_rng([repeat, replicate]) for replicate in range(R)]
        found = inference.over_replicates([excess(shared, x) - excess(0.0, x) for x in generators])
        told += inference.verdict(found.low, found.high, D) == expected
    assert told >= 40
