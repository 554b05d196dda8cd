"""The tables of planted shapes: a circle is found by all statistics of circles, and nothing by none."""

import pytest

from sae_utils.studies.geometry import homology, planted


def test_circles_are_found_and_nothing_is_not():
    rows = {name: planted.circle(name, 12, 16, 0.1, 20, 39, 0) for name in ("circle", "nothing")}
    for key in ("agreement found", "variance found", "agreement in lists"):
        assert rows["circle"][key] == 1 and rows["nothing"][key] <= 0.2
    assert rows["circle"]["variance"] > 0.8


def test_shapes_have_their_pieces_and_cycles():
    rows = {name: planted.shape(name, 50, 8, 0.02, 3, 19, 0) for name in ("circle", "two clusters")}
    assert (rows["circle"]["pieces"], rows["circle"]["cycles"], rows["circle"]["longest loop"]) == (1, 1, 1)
    assert (rows["two clusters"]["pieces"], rows["two clusters"]["cycles"], rows["two clusters"]["gap"]) == (2, 0, 1)
    assert set(homology.SIZES) < set(rows["circle"])


def test_families_are_found_by_strength():
    strong, none = (planted.family(x, 60, 6, 1000, 5, 2, 0) for x in (0.5, 0.0))
    assert list(strong.values()) == pytest.approx([1] * 4) and max(none.values()) < 0.1
