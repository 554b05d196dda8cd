"""The README speaks of what is there: every notebook and benchmark has its row, every command exists."""

import re

import pytest

from sae_utils.params import NOTEBOOKS
from sae_utils.sources import REPOSITORY

README = (REPOSITORY / "README.md").read_text("utf-8")
ROWS = re.findall(r"^\| `([\w.]+)`[^|]*\|(.+)\|$", README, re.MULTILINE)


def test_every_notebook_has_a_question_a_time_and_a_budget():
    rows = {name: cells for name, cells in ROWS if re.match(r"\d\d_", name)}
    assert list(rows) == sorted(file.stem for file in NOTEBOOKS.glob("*.py"))
    budgets = 0.0
    for name, cells in rows.items():
        question, minutes = cells.split("|")
        assert "?" in question, name
        taken, budget = map(float, re.fullmatch(r"([\d.]+) \(([\d.]+)\)", minutes.strip()).groups())
        assert taken <= budget, f"{name} takes longer than it may"
        budgets += budget
    assert budgets <= 30


@pytest.mark.parametrize("script", sorted((REPOSITORY / "benchmarks").glob("[a-z]*.py")), ids=lambda file: file.stem)
def test_every_benchmark_has_its_figure(script):
    assert sum(name == script.stem for name, _ in ROWS) == 1


def test_every_command_is_a_target():
    targets = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text("utf-8"), re.MULTILINE))
    named = set(re.findall(r"`(?:[A-Z]\w*=\S+ )*make (?:-j2 )?([a-z-]+)", README)) | set(
        re.findall(r"^make ([a-z-]+)", README, re.MULTILINE)
    )
    assert named and named <= targets
