"""Shares of draws and their verdicts count what the draws hold."""

import math

import numpy as np
import pytest

from sae_utils.studies.published_tables import false_positives, ladder, rates
from sae_utils.studies.published_tables.false_positives import Draws


def draws(p, differences=(0.0,)):
    by_step = {step: np.array(p, float) for step in false_positives.STEPS}
    return Draws({"RSA": by_step, "SVCCA": by_step}, {"primary": np.array(differences, float)})


def test_draws_without_a_p_are_not_scored():
    x = draws([0.01, 0.05, 0.2, math.nan])
    assert x.found("RSA", ladder.MASK) == (1, 3)
    shown = rates.by_step({"here": x, "few": draws([math.nan])}, "RSA")
    assert len(shown) == len(ladder.STEPS) - 1 and set(shown.few) == {"too few pairs"}
    # Clopper and Pearson's interval of 1 of 3, as in tables
    assert set(shown.here) == {"33 (1 to 91)"}
    assert rates.of({"here": x}, "elsewhere", "RSA", ladder.MASK) == (0, 0)


def test_the_interval_of_a_share():
    interval = rates.interval(10, 200)
    assert (interval.estimate, interval.units) == (0.05, 200)
    assert (interval.low, interval.high) == pytest.approx((0.0242, 0.0900), abs=1e-4)
    assert math.isnan(rates.interval(0, 0).low)
    assert rates.sentence(10, 200) == "5% of 200 draws (95% 2 to 9)"
    assert rates.sentence(0, 0) == "no draw that could be tested"


def test_verdicts_are_made_of_so_many_draws():
    high, none = [0.5, 0.52, 0.51], [0.0, 0.01, -0.01]
    found = {"x": draws([0.1], [*high, *none, 0.0, 1.0, 0.3, *high[:2]])}
    row = rates.verdicts(found, "primary", 3, 0.1).iloc[0]
    assert (row.n, row.yes, row.no, row.undetermined) == (3, 1, 1, 1)
    assert row.difference == pytest.approx(np.mean([*high, *none, 0.0, 1.0, 0.3, *high[:2]]))
    assert row["yes, %"] == "33 (1 to 91)"
