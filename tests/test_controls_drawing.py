"""The figure of all comparisons groups its rows; a heat map prints every number of its matrix."""

import matplotlib
import numpy as np
import pandas as pd
import pytest

from sae_utils import inference, measures
from sae_utils.studies.controls import drawing, partners
from sae_utils.studies.controls.measured import Arm
from sae_utils.studies.controls.partners import Cell

matplotlib.use("Agg")


@pytest.fixture(autouse=True)
def closed():
    yield
    matplotlib.pyplot.close("all")


def test_rows_are_grouped_below_their_headings():
    shown = [partners.SAE_SEED, partners.DEPTH, partners.EXCHANGED, "random weights"]
    ceilings, two, controls = drawing.HEADS
    expected = [
        ("", ceilings),
        (shown[0], ""),
        ("", two),
        (shown[1], ""),
        ("", controls),
        (shown[2], ""),
        (shown[3], ""),
    ]
    assert drawing.rows(shown) == expected
    assert drawing.rows([partners.DEPTH]) == [("", two), (partners.DEPTH, "")]


def test_a_verdict_stands_in_the_row_of_its_control():
    labels = [partners.DEPTH, partners.EXCHANGED, "random weights"]
    arms = {
        Cell(label, i, "a", "b"): Arm(20, {"rsa_spearman": x + i / 10}, x, x)
        for x, label in enumerate(labels)
        for i in range(3)
    }
    gaps = {label: inference.over_replicates([0.1, 0.2, 0.3]) for label in labels[1:]}
    verdicts = {partners.EXCHANGED: "yes", "random weights": "not tested"}
    figure = drawing.comparisons(arms, labels, measures.chosen(["rsa_spearman"], 5), gaps, verdicts, 0.05)
    ticks = [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
    said = {text.get_text(): text.get_position()[1] for text in figure.axes[-1].texts}
    assert (
        ticks[round(said["yes"])] == "B reads exchanged words" and ticks[round(said["not tested"])] == "random weights"
    )


def test_a_heat_map_prints_its_numbers():
    frame = pd.DataFrame([[0.5, -0.25], [np.nan, 0.125]], ["A", "B"], ["A", "B"])
    axis = drawing.heat_maps({"r": frame}).axes[0]
    shown = {text.get_position(): text.get_text() for text in axis.texts}
    assert shown == {(0, 0): "0.50", (1, 0): "\N{MINUS SIGN}0.25", (0, 1): "n/a", (1, 1): "0.12"}
