"""The README agrees with the repository: every notebook and benchmark has a row, and every command exists."""

import re

import numpy as np
import pytest
from scipy import sparse

from sae_utils import profiles, report
from sae_utils.engine import params
from sae_utils.engine.core.sources import REPOSITORY
from sae_utils.engine.params import NOTEBOOKS

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
        assert taken <= budget, f"{name} takes longer than its budget"
        budgets += budget
    assert budgets <= 30


@pytest.mark.parametrize("script", sorted((REPOSITORY / "benchmarks").glob("[a-z]*.py")), ids=lambda file: file.stem)
def test_every_benchmark_has_one_row(script):
    assert sum(name == script.stem for name, _ in ROWS) == 1


def test_every_command_is_a_target():
    targets = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text("utf-8"), re.MULTILINE))
    named = set(re.findall(r"`(?:[A-Z]\w*=\S+ )*make (?:-j2 )?([a-z-]+)", README)) | set(
        re.findall(r"^make ([a-z-]+)", README, re.MULTILINE)
    )
    assert named and named <= targets


def test_every_number_of_a_claim_is_in_the_committed_results():
    results = "".join(file.read_text("utf-8") for file in (report.GENERATED / "demo").glob("*.tex"))
    claims = re.findall(r"((?:\d+ to )?[\w.]+(?: of \d+(?: tested \(.*?\))?| \d+)?)<!-- (\w+) -->", README)
    assert len(claims) > 5
    for value, macro in claims:
        (now,) = re.findall(rf"\\newcommand{{\\{macro}}}{{(.*)}}%", results)
        assert value == now, f"README: {value}, results: {now} ({macro})"


def block(language: str, holding: str) -> str:
    (found,) = (text for text in re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL) if holding in text)
    return found


def test_the_calls_on_arrays_find_the_planted_pairs(capsys):
    """B is A with its features and its dimensions in another order, and a little noise on its codes."""
    generator = np.random.default_rng(0)
    codes_a = sparse.random(4000, 200, 0.03, "csr", random_state=generator, dtype=np.float32)
    order, decoder_a = generator.permutation(200), generator.normal(size=(200, 32))
    given = {
        "codes_a": codes_a,
        "codes_b": codes_a[:, order].toarray() + 0.001 * generator.normal(size=codes_a.shape).astype(np.float32),
        "decoder_a": decoder_a,
        "decoder_b": decoder_a[order][:, generator.permutation(32)],
    }
    exec(block("python", "matching.mutual"), given)
    assert (order[given["pairs"].b] == given["pairs"].a).all()
    assert capsys.readouterr().out == "200 pairs, held-out r 1.00, RSA 1.00, p = 0.001\n"


def test_the_printed_profile_is_accepted(tmp_path, monkeypatch):
    """Reading it fetches nothing."""
    for file in params.PARAMS.glob("*.yaml"):
        (tmp_path / file.name).write_text(file.read_text("utf-8"), "utf-8")
    (tmp_path / "mine.yaml").write_text(block("yaml", "extends: pair"), "utf-8")
    monkeypatch.setattr(params, "PARAMS", tmp_path)
    mine = profiles.load("mine")
    assert mine.common.primary.pair == ["a", "b"] and set(mine.models) == set(mine.dictionaries) == {"a", "b", "random"}
