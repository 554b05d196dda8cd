"""Figures of the sweep over layers where one replicate and no control are at hand."""

import numpy as np

from sae_utils.studies.layer_sweep import drawing

VALUES, NONE = np.arange(4.0).reshape(1, 2, 2), np.full((1, 2, 2), np.nan)


def test_what_is_not_known_is_not_drawn():
    figure = drawing.heat({"true": VALUES, "control": NONE, "difference": NONE}, ([1, 2], [3, 4]), (0, 0))
    assert [axis.get_title() for axis in figure.axes] == ["true"]
    assert [text.get_text() for text in figure.axes[0].texts] == ["0.00", "1.00", "2.00", "3.00"]
    assert len(drawing.tracking(VALUES, {"true": VALUES, "difference": NONE}).axes) == 1


def test_a_panel_without_a_control_says_so():
    figure = drawing.lines({("decoder", "RSA"): NONE, ("encoder", "RSA"): VALUES}, list("abcd"))
    assert [[text.get_text() for text in axis.texts] for axis in figure.axes] == [["no control"], []]
