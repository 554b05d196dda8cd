"""Features and neurons are scored at one n, at equal correlation, and within concepts."""

import numpy as np
import pytest

from sae_utils import significance
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


def test_equal_correlation():
    n, held_out, gain = scores.alike(SETS, SCORING, caliper=0.01)
    assert 25 <= n <= 35 and held_out < 0.46 and gain > 0.3
    assert np.isnan(scores.alike(SETS, SCORING._replace(fewest=40), caliper=0.01)).all()


def test_concepts_are_scored_at_the_smaller_n_of_both_kinds():
    first = {kind: [{"x": np.arange(n) < few, "y": np.zeros(n, bool)} for few in (15, 20)]
             for kind, n in ((SAE, 60), (NEURONS, 50))}  # fmt: skip
    first[NEURONS][1]["x"][14:] = False
    (row,) = scores.within_concepts(SETS, first, SCORING, 12)
    assert row["concept"] == "x" and row["n"] == 15 and row[SAE] > row[NEURONS]
    assert scores.within_concepts(SETS, first, SCORING, 16) == []
