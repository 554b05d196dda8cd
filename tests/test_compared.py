"""Comparisons over replicates: what decides nothing gets no interval; figures hold what they are given."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from sae_utils import inference
from sae_utils.studies.function import compared, criteria, measured, strata
from sae_utils.studies.function import drawing_attribution as drawing

REPLICATES = 8


@pytest.fixture
def numbers():
    """Numbers of replicates in which own partners are more alike by .1, and .3 more than anything else."""
    rng = np.random.default_rng(0)
    noise = {name: 0.01 * rng.standard_normal(REPLICATES) for name in ("own", "other")}
    frame = {
        "logits, true": 0.5 + noise["own"],
        "text, true": 0.2 + noise["other"],
        "logits, control": 0.2 + noise["other"],
    }
    frame |= {"partial, true": 0.4 + noise["own"], "partial, control": 0.1 + noise["other"]}
    for name, movable in ((strata.FREE, 1.0), (measured.FIRING, 1.0), (measured.TOKEN, 0.4), (measured.CLASS, 0.7)):
        frame |= {f"{name}, null": 0.4 + noise["other"], f"{name}, movable": np.full(REPLICATES, movable)}
    frame |= {
        "equal r, own": 0.5 + noise["own"],
        "equal r, other": 0.2 + noise["other"],
        "equal r, movable": np.ones(REPLICATES),
    }
    return pd.DataFrame(frame | {"twin, true": 0.5 + noise["own"], "twin, control": 0.2 + noise["other"]})


def test_each_comparison_is_own_less_other(numbers):
    found = compared.against(numbers, ["twin"])
    assert list(found)[-2:] == [compared.EXCHANGED, "twin"] and compared.GIVEN in found
    for name, x in found.items():
        wanted = 0.1 if name in (strata.FREE, *measured.STRATA) else 0.3
        assert x.difference.estimate == pytest.approx(wanted, abs=0.02), name
        few = name == measured.TOKEN
        assert np.isnan(x.difference.low) == few
        assert inference.verdict(x.difference.low, x.difference.high, 0.05) == ("undetermined" if few else "yes")


def test_without_a_control_arm_and_classes_there_are_fewer(numbers):
    kept = [x for x in numbers if "control" not in x and not x.startswith(measured.CLASS)]
    found = compared.against(numbers[kept].iloc[:1], [])
    assert {compared.EXCHANGED, compared.GIVEN, measured.CLASS} & set(found) == set()
    assert np.isnan(found[strata.FREE].difference.low)  # one pair of models has no interval
    assert list(compared.table(found).columns) == ["against", "can move", "own", "other", "difference", "low", "high"]
    plt.close(drawing.pairs(found, 0.1))


def test_means_over_arms_keep_the_order_of_criteria():
    rows = [
        {"criterion": criterion, "arm": arm, "pairs": n, "replicate": n}
        for n in (1, 3) for arm in ("control", "true") for criterion in reversed(criteria.CRITERIA)
    ]  # fmt: skip
    found = compared.over_arms(pd.DataFrame(rows))
    assert found.arm.tolist() == ["true"] * 3 + ["control"] * 3
    assert found.criterion.tolist() == [*criteria.CRITERIA] * 2 and (found.pairs == 2).all()


def test_the_figures_draw_every_row(numbers):
    found = compared.against(numbers, ["twin"])
    figure = drawing.pairs(found, 0.1, [0.8])
    shown = [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
    assert shown[:2] == [drawing.CEILING, compared.OWN] and f"{measured.TOKEN} (40% can move)" in shown
    along = pd.DataFrame([{"arm": arm, "bin": x, "logits": x, "shuffled": 0.1, "n": 5, "replicate": i}
                          for i in range(3) for arm in ("true", "control") for x in (0.1, 0.3)])  # fmt: skip
    assert len(drawing.along(along).axes[0].lines) == 5
    groups = pd.DataFrame([{"features that": name, "alike": 0.1, "own": 0.5, "others": np.nan} for name in ("x", "y")])
    assert len(drawing.hubs(groups).axes) == 2
    made = pd.DataFrame(
        [{"criterion": x, "arm": "true", **dict.fromkeys(drawing.SHOWN, 0.5)} for x in criteria.CRITERIA]
    )
    assert len(drawing.by_criterion(made).axes) == len(drawing.SHOWN)
    plt.close("all")
