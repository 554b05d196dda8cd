"""Features and neurons are scored at one n, at equal correlation, and within concepts."""

import numpy as np
import pandas as pd
import pytest

from sae_utils import inference, significance
from sae_utils.matching import Pairs
from sae_utils.studies.llm_vs_sae import scores, units
from sae_utils.studies.llm_vs_sae.units import KINDS, NEURONS, SAE

SCORING = scores.Scoring("rsa_spearman", subsets=3, fewest=12, seed=0)


def planted(n: int, shared: float, held_out: np.ndarray) -> units.Matched:
    """Pairs whose rows share some of their geometry."""
    rng = np.random.default_rng(n)
    a = rng.normal(size=(n, 20))
    b = shared * a + (1 - shared) * rng.normal(size=a.shape)
    pairs = Pairs.of(np.arange(n), np.arange(n), held_out, n, n)
    return units.Matched("true", "matching", pairs, held_out, (a, b), np.arange(n) < n // 2, n)


SETS = {
    ("one-to-one", kind): [planted(n, shared, np.linspace(0, high, n))]
    for kind, n, shared, high in zip(KINDS, (60, 50, 40), (0.9, 0.1, 0.1), (0.9, 0.45, 0.4), strict=True)
}


def test_all_sets_are_scored_at_the_n_of_the_smallest():
    scored = scores.at_one_n({("primary", "a", "b"): SETS}, "one-to-one", SCORING, 0.4)
    assert set(scored.n) == {40} and scored.pairs.tolist() == [60, 50, 40]
    (row,) = (x for x in scored.itertuples() if x.units == units.OUTPUTS)
    expected = significance.test(*SETS["one-to-one", units.OUTPUTS][0].rows, ["rsa_spearman"], m=9)["rsa_spearman"]
    assert row.excess == pytest.approx(expected.excess)
    assert scores.excess(scored, SAE)["a"] > scores.excess(scored, NEURONS)["a"] + 0.3
    half = scores.at_one_n({("primary", "a", "b"): SETS}, "one-to-one", SCORING, 0.4, part=units.Matched.of_content)
    assert set(half.n) == {20} and half.pairs.tolist() == [30, 25, 20]


def test_a_summary_has_means_and_intervals_over_replicates():
    same = {"place": "primary", "arm": "true", "units": SAE, "held out": 0.5, "n": 20, "null sd": 0.1}
    rows = [
        same | {"replicate": str(i), "pairs": 20 + i, "counterparts": 0.1 * i, "excess": x}
        for i, x in enumerate((0.1, 0.2, 0.6))
    ]
    (row,) = scores.summary(pd.DataFrame(rows)).to_dict("records")
    mean = inference.over_replicates(np.array([0.1, 0.2, 0.6]))
    assert (row["replicates"], row["pairs"]) == (3, 21) and row["counterparts"] == pytest.approx(0.1)
    assert (row["excess"], row["low"], row["high"]) == (mean.estimate, mean.low, mean.high)


def test_equal_correlation():
    n, held_out, gain = scores.alike(SETS, SCORING, caliper=0.01)
    assert 25 <= n <= 35 and held_out < 0.46 and gain > 0.3
    assert np.isnan(scores.alike(SETS, SCORING._replace(fewest=40), caliper=0.01)).all()


def test_concepts_are_scored_at_the_smaller_n_of_both_kinds():
    first = {kind: [{"x": np.arange(n) < few, "y": np.zeros(n, bool)} for few in (15, 20)]
             for kind, n in ((SAE, 60), (NEURONS, 50))}  # fmt: skip
    first[NEURONS][1]["x"][14:] = False
    sets = {kind: SETS["one-to-one", kind][0] for kind in (SAE, NEURONS)}
    (row,) = scores.within_concepts(sets, first, SCORING, 12, random=40)
    assert row["concept"] == "x" and row["n"] == 15 and row[SAE] > row[NEURONS]
    for kind in (SAE, NEURONS):  # concepts without a space of their own: as random units
        whole = significance.rows_at_n(sets[kind].rows, "rsa_spearman", 15, subsets=40, m=0, seed=0)
        assert row[f"random {kind}"] == pytest.approx(whole.excess)
    assert scores.within_concepts(sets, first, SCORING, 16, random=40) == []


def test_pairs_of_a_concept_are_those_of_which_either_unit_is_about_it():
    x = SETS["one-to-one", SAE][0]
    masks = [{"x": np.arange(60) == unit} for unit in (3, 5)]
    assert scores.about(x, masks, "x").tolist() == [3, 5]


def test_a_random_selection_keeps_partners_and_shuffling_breaks_them():
    """All pairs are alike, so that a concept exceeds shuffled pairings and not random selections."""
    x, at = SETS["one-to-one", SAE][0], np.arange(20)
    shuffled, selected = scores.both_nulls(x, at, "rsa_spearman", m=99, seed=0)
    assert shuffled.observed == selected.observed and shuffled.p == 0.01 and selected.p > 0.05
    assert abs(shuffled.draws.mean()) < 0.05 and selected.draws.mean() > 0.8


def test_a_concept_with_a_space_of_its_own_exceeds_random_selections():
    x, rng = planted(60, 0.1, np.linspace(0, 1, 60)), np.random.default_rng(1)
    a, b = x.rows
    b[:20] = a[:20] + 0.1 * rng.normal(size=(20, 20))
    shuffled, selected = scores.both_nulls(x._replace(rows=(a, b)), np.arange(20), "rsa_spearman", m=99, seed=0)
    assert shuffled.p == selected.p == 0.01 and selected.draws.mean() < 0.5 * selected.observed
