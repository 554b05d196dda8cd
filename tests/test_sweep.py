"""A sweep calls every cell once, in order, and keeps the results that precede a failure."""

from pathlib import Path

import pytest

from sae_utils import store, sweep

MADE: list[int] = []


@store.artefact
def square(folder: Path, number: int) -> dict:
    MADE.append(number)
    if number == BROKEN[0]:
        raise ValueError("no such square")
    return {"square": number**2}


BROKEN: list = [None]


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setattr(store._Settings, "root", tmp_path)
    monkeypatch.setattr(store, "_opened", {})
    MADE.clear()
    BROKEN[0] = None


def test_results_stand_by_cell_in_the_order_of_the_cells():
    found = sweep.run(square, (n for n in (3, 1, 2)), "squares")
    assert [(cell, result.meta["square"]) for cell, result in found.items()] == [(3, 9), (1, 1), (2, 4)]
    assert MADE == [3, 1, 2]
    assert sweep.run(len, [], "nothing") == {}
    pairs = sweep.run(lambda pair: pair[0] + pair[1], [("a", "b"), ("b", "a")], "pairs")
    assert pairs == {("a", "b"): "ab", ("b", "a"): "ba"}


def test_a_failure_names_its_cell_and_costs_no_other():
    BROKEN[0] = 2
    with pytest.raises(ValueError, match="no such square") as caught:
        sweep.run(square, [0, 1, 2, 3], "squares")
    assert caught.value.__notes__ == ["in squares, at 2"]
    assert MADE == [0, 1, 2]
    BROKEN[0] = None
    assert list(sweep.run(square, [0, 1, 2, 3], "squares")) == [0, 1, 2, 3]
    assert MADE == [0, 1, 2, 2, 3]
