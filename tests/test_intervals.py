"""Intervals against formulas, and whether they hold the truth as often as they say."""

import numpy as np
import pytest

from sae_utils.engine.chance import intervals


def test_jackknife_of_a_mean_is_its_standard_error():
    values = np.random.default_rng(0).normal(size=40)
    found = intervals.jackknife(lambda rows: values[rows].mean(), np.arange(40))
    assert found.estimate == pytest.approx(values.mean())
    assert found.se == pytest.approx(values.std(ddof=1) / 40**0.5)
    assert (found.high - found.estimate) / found.se == pytest.approx(2.0227, abs=1e-4)  # Student's t, 39


def test_jackknife_over_families_is_the_standard_error_of_their_means():
    values, families = np.random.default_rng(1).normal(size=60), np.repeat(np.arange(12), 5)
    found = intervals.jackknife(lambda rows: values[rows].mean(), np.random.default_rng(2).permutation(families))
    assert found.units == 12
    found = intervals.jackknife(lambda rows: values[rows].mean(), families)
    assert found.se == pytest.approx(values.reshape(12, 5).mean(axis=1).std(ddof=1) / 12**0.5)


def test_jackknife_over_unequal_families_holds_the_truth():
    """Rows of a family share an offset: the interval must be over families, and it must cover."""
    families = np.repeat(np.arange(30), np.random.default_rng(0).integers(1, 9, size=30))
    covered = {"families": 0, "rows": 0}
    for seed in range(400):
        rng = np.random.default_rng([5, seed])
        values = rng.normal(size=30)[families] + 0.2 * rng.normal(size=len(families))
        for name, labels in (("families", families), ("rows", np.arange(len(families)))):
            found = intervals.jackknife(lambda rows, v=values: v[rows].mean(), labels)
            covered[name] += found.low <= 0 <= found.high
    assert covered["families"] / 400 > 0.9
    assert covered["rows"] / 400 < 0.8


def test_a_jackknife_of_several_shares_is_that_of_each():
    values, units = np.random.default_rng(3).normal(size=(50, 3)), np.repeat(np.arange(10), 5)
    found = intervals.jackknife(lambda rows: values[rows].mean(axis=0), units)
    for column in range(3):
        alone = intervals.jackknife(lambda rows, c=column: values[rows, c].mean(), units)
        assert [x[column] for x in found[:4]] == pytest.approx(alone[:4])


def test_whole_documents_are_dealt_to_groups_of_as_many_tokens():
    lengths = np.random.default_rng(0).integers(10, 90, 200)
    document = np.repeat(np.arange(200)[::-1] + 7, lengths)
    group = intervals.dealt(document)
    assert all(len(set(group[document == name])) == 1 for name in set(document))
    tokens = np.bincount(group)
    assert len(tokens) == 20 and tokens.max() - tokens.min() < 90
    order = np.random.default_rng(1).permutation(len(document))
    np.testing.assert_array_equal(intervals.dealt(document[order]), group[order])
    few = intervals.dealt(["x", "y", "x", "z", "z", "z"])
    assert len(set(few)) == 3 and few[0] == few[2]


def test_too_few_units_are_named():
    with pytest.raises(ValueError, match="2 families of 5 rows"):
        intervals.jackknife(lambda rows: 0.0, np.array([0, 0, 0, 1, 1]))
