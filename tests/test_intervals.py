"""Intervals against formulas, and whether they hold the truth as often as they say."""

import numpy as np
import pytest

from sae_utils.chance import intervals


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


def test_bootstrap_draws_whole_documents():
    document = np.repeat(np.arange(3, 23), np.random.default_rng(0).integers(1, 6, size=20)).astype(np.int32)
    seen = []

    def statistic(rows: np.ndarray) -> float:
        seen.append(rows)
        return float(len(rows))

    found = intervals.bootstrap_documents(statistic, document, m=50, seed=1)
    assert found.estimate == len(document) and found.units == 20
    for rows in seen[1:]:
        assert (np.diff(document[rows]) >= 0).all()
        counts, own = np.bincount(rows, minlength=len(document)), np.bincount(document)
        for name in np.unique(document):
            assert len(set(counts[document == name])) == 1  # all tokens of a document equally often
        drawn = np.bincount(document[rows], minlength=len(own))[3:] / own[3:]
        assert drawn.sum() == 20


def test_bootstrap_of_a_mean_is_its_standard_error():
    rng = np.random.default_rng(0)
    document = np.repeat(np.arange(200), 4)
    values = rng.normal(size=200)[document]
    found = intervals.bootstrap_documents(lambda rows: float(values[rows].mean()), document, m=1000, seed=2)
    assert found.se == pytest.approx(values[::4].std() / 200**0.5, rel=0.1)
    assert found.low < found.estimate < found.high


def test_too_few_units_are_named():
    with pytest.raises(ValueError, match="2 families of 5 rows"):
        intervals.jackknife(lambda rows: 0.0, np.array([0, 0, 0, 1, 1]))
    with pytest.raises(ValueError, match="3 documents: give at least 10"):
        intervals.bootstrap_documents(lambda rows: 0.0, np.array([0, 0, 1, 2]))
    with pytest.raises(ValueError, match="nondecreasing"):
        intervals.bootstrap_documents(lambda rows: 0.0, np.arange(20)[::-1].copy())
    with pytest.raises(ValueError, match="0 documents"):
        intervals.bootstrap_documents(lambda rows: 0.0, np.zeros(0, dtype=np.int32))
