"""The table of specifications, the specification curve and the table of topics, from values that are given."""

import matplotlib
import numpy as np
import pytest

from sae_utils import inference
from sae_utils.studies.sensitivity import choices, drawing
from sae_utils.studies.sensitivity.choices import Choice, Difference

matplotlib.use("Agg")
D, FEW = [0.2, 0.3, 0.25], [np.nan] * 3
BASE, *OTHERS = choices.specifications(Choice(measure="rsa_spearman"), {"n": [50], "matching": ["mutual"]}, [], "x")
FOUND = {
    BASE: [Difference(x, x + 0.1, 0.1, 60 + i) for i, x in enumerate(D)],
    OTHERS[0]: [Difference(x, x, x, 40) for x in FEW],
    OTHERS[1]: [Difference(x - 0.5, x, 0.5, 60) for x in D],
}


@pytest.fixture(autouse=True)
def closed():
    yield
    matplotlib.pyplot.close("all")


def test_a_row_holds_a_specification_over_replicates():
    rows = drawing.table(FOUND, 0.05)
    ends = inference.over_replicates(D)
    assert rows.choice.tolist() == ["primary analysis", "50 pairs", "mutual matching"]
    assert rows.pairs.tolist() == [61, 40, 60] and rows.replicates.tolist() == [3, 0, 3]
    np.testing.assert_allclose(rows.loc[0, ["D", "low", "high"]].astype(float), [0.25, ends.low, ends.high])
    assert rows.true[0] == pytest.approx(0.35)
    assert rows.verdict.tolist() == ["yes", drawing.FEW, "no"]
    assert choices.of([BASE, *OTHERS], "") == [BASE.choice, *(x.choice for x in OTHERS)]
    assert choices.of([BASE], "half the width") == []


def test_the_curve_says_every_verdict_in_its_row():
    axis = drawing.curve(drawing.table(FOUND, 0.05), 0.05).axes[0]
    said = {text.get_text(): text.get_position()[1] for text in axis.texts}
    assert [said[word] for word in ("yes", drawing.FEW, "no")] == [0, 1, 2]
    assert [said[pairs] for pairs in ("61", "40", "60")] == [0, 1, 2]


def test_topics_are_differenced_within_replicates():
    values = np.array([[[0.5, 0.6], [0.4, 0.3]], [[0.7, 0.8], [0.5, 0.6]], [[0.6, 0.7], [0.3, 0.5]]])
    rows, found = drawing.topics(values)
    assert rows["judged on"].tolist() == ["the same topics", "other topics", "difference"]
    assert rows.r.tolist() == pytest.approx([0.6, 0.4, 0.2])
    assert rows.share.tolist() == pytest.approx([0.7, 1.4 / 3, 0.7 / 3])
    assert found[2][1] == inference.over_replicates(values[:, 0, 1] - values[:, 1, 1])
    assert rows["share low"][2] == found[2][1].low


def test_shares_are_drawn_to_their_thresholds():
    thresholds = np.linspace(0, 0.9, 4)
    curve = [[inference.over_replicates([x, x, x]) for x in (0.9, 0.6, 0.3, 0.1)] for _ in range(3)]
    figure = drawing.shares(thresholds, {0.2: np.ones(4), 0.6: np.zeros(4)}, 0.37, [curve, curve])
    np.testing.assert_allclose(figure.axes[1].lines[0].get_ydata(), [0.9, 0.6, 0.3, 0.1])
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == ["noise 0.20", "noise 0.60"]
