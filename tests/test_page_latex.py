"""What `tables` and `report` write as LaTeX reads back as the text that was meant."""

import numpy as np
import pandas as pd
import pytest

from sae_utils import tables
from sae_utils.page import latex

TEXTS = [
    "a & b", "50% of $x_1$ #2", r"back\slash {braces} ~ ^", "<b>&amp;</b>", "--- ,,quotes'' \"", "[1] *", "\u2423the",
    "\u201cin\u201d \u2026", "\u2603 \u4e2d", "caf\xe9", "-1", "", "\u22120.5", "U+2603",
]  # fmt: skip


@pytest.mark.parametrize("text", TEXTS)
def test_escaped_text_comes_back(text):
    assert latex.plain(tables.escape(text)) == text


def test_numbers_come_back_with_a_true_minus_sign():
    assert latex.plain(tables.number(-1234.5, "{:,.1f}")) == "\u22121,234.5"
    assert latex.plain(tables.number(float("nan"))) == "n/a"


def test_a_table_comes_back():
    frame = pd.DataFrame({"a & b": ["x_1", "50%"], "n": [1, 2], "r": [-0.5, np.nan]})
    cells = {
        tables.escape(x): [tables.cell(v, "{:.2f}" if x == "r" else "{}") for v in frame[x]] for x in frame.columns
    }
    source = pd.DataFrame(cells).style.hide(axis="index").to_latex(hrules=True, column_format="lrr").strip()
    found = latex.table(source)
    assert found.columns == ["a & b", "n", "r"] and found.numeric == [False, True, True]
    assert found.rows == [["x_1", "1", "\u22120.50"], ["50%", "2", "n/a"]] and found.note == ""


def test_verdicts_come_back_with_their_note():
    row = tables.verdict_row("Alike & more?", ["0.1", "0.0", "0.2", "0.05"], 8, "below d", "yes")
    found = latex.table(tables.verdicts([row]))
    assert found.rows == [["Alike & more?", "0.1", "0.0 to 0.2", "8", "0.05", "below d", "yes"]]
    assert found.note.startswith("Not adjusted") and len(found.numeric) == len(found.columns) == 7


def test_text_that_is_no_table_is_none():
    assert latex.table("none of them") is None
