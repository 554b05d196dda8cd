"""The sources of the paper are complete: macros, figures, references; and no number is typed by hand."""

import ast
import re
from pathlib import Path

import pytest

from sae_utils import profiles, report
from sae_utils.engine import params
from sae_utils.engine.build import results
from sae_utils.engine.build.typeset import PAPER
from sae_utils.tables import camel

SECTIONS = sorted((PAPER / "sections").rglob("*.tex"))
TEXT = "\n".join(file.read_text("utf-8") for file in SECTIONS)
PREFIXES = tuple(camel(notebook) for notebook in params.notebooks())
STUDY = r"\\study\{\w+\}\{([^}]*)\}"
FLOAT = r"\\begin\{(table|figure)\}.*?\\end\{\1\}"

CONVENTIONS = {"0.05", "2.6", "0.036"}
"""levels that we chose, and numbers quoted from the literature; all others come from a notebook"""


def named(command: str, text: str = TEXT) -> list[str]:
    """The arguments of a command at all its places."""
    return re.findall(rf"\\{command}(?:\[[^\]]*\])?\{{([^}}]*)\}}", text)


def macros(text: str) -> set[str]:
    """Macros of the notebooks that a text uses or defines."""
    return {name for name in re.findall(r"\\([A-Za-z]+)", text) if name.startswith(PREFIXES)}


def test_every_section_is_part_of_the_paper():
    main = (PAPER / "main.tex").read_text("utf-8")
    included = [*named("input", main), *(f"sections/{name}" for name in re.findall(STUDY, main + TEXT))]
    files = [str(file.relative_to(PAPER).with_suffix("")) for file in SECTIONS]
    assert sorted(name for name in included if re.match(r"sections/\w", name)) == sorted(files)
    assert all(rf"generated/\profile/{notebook}" in included for notebook in params.notebooks())


def called(notebook: str, *methods: str) -> list[str]:
    """Patterns for the names that a notebook gives to these methods of its report, as macros."""
    found = []
    for node in ast.walk(ast.parse((params.NOTEBOOKS / f"{notebook}.py").read_text("utf-8"))):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in [f"out.{method}" for method in methods]:
            parts = node.args[0].values if isinstance(node.args[0], ast.JoinedStr) else [node.args[0]]
            name = "".join(x.value if isinstance(x, ast.Constant) else "Variable" for x in parts)
            table = "Table" if node.func.attr == "table" else ""
            found.append((camel(notebook) + table + camel(name)).replace("Variable", "[A-Za-z]+"))
    return found


def reported(notebook: str) -> list[str]:
    """A pattern for the macros of every `out.number`, `out.text` and `out.table` of a notebook.

    Of `out.verdict` only the table counts, which has all of its numbers.
    """
    found = called(notebook, "number", "text", "table")
    return found + [f"{camel(notebook)}TableVerdicts"] * bool(verdicts(notebook))


def verdicts(notebook: str) -> list[str]:
    """Patterns for the macros of every `out.verdict` of a notebook."""
    return [f"{name}(Low|High|Verdict)?" for name in called(notebook, "verdict")]


def test_every_macro_is_written_by_a_notebook():
    """By its saved results; where these are older than the notebook, by what the notebook will write."""
    old = results.stale(profiles.load("demo"))
    saved = [file.read_text("utf-8") for file in (report.GENERATED / "demo").glob("*.tex") if file.stem not in old]
    coming = [name for notebook in old for name in reported(notebook)]
    optional = set(re.findall(r"\\ifdefined\\([A-Za-z]+)", TEXT))
    coming += [name for notebook in old for name in verdicts(notebook)]
    missing = macros(TEXT) - optional - macros("\n".join(saved))
    assert {macro for macro in missing if not any(re.fullmatch(name, macro) for name in coming)} == set()


@pytest.mark.parametrize("notebook", params.notebooks())
def test_a_notebook_reports_what_the_paper_reads(notebook):
    """No notebook reports a macro that no text uses; if its name holds a variable, the saved results are checked."""
    used = macros(TEXT + (PAPER / "main.tex").read_text("utf-8"))
    assert [name for name in reported(notebook) if not any(re.fullmatch(name, macro) for macro in used)] == []
    if notebook not in results.stale(profiles.load("demo")):
        saved = macros((report.GENERATED / "demo" / f"{notebook}.tex").read_text("utf-8"))
        unread = {name for name in saved if not name.endswith("Absent")} - used
        assert {name for name in unread if not any(re.fullmatch(of, name) for of in verdicts(notebook))} == set()


def test_every_figure_is_drawn_by_the_notebook_that_its_caption_names():
    for part in re.finditer(FLOAT, TEXT, re.DOTALL):
        drawn, by = named("includegraphics", part[0]), named("drawnby", part[0])
        assert by and set(by) <= set(params.notebooks()), part[0]
        for name, notebook in zip(drawn, by, strict=bool(drawn) and part[1] == "figure"):
            assert name.startswith(f"{notebook}-") and (report.FIGURES / "demo" / f"{name}.pdf").exists()


def test_the_text_refers_to_every_float_and_every_reference_has_its_label():
    labels = named("label")
    assert len(labels) == len(set(labels))
    assert set(named("ref")) <= set(labels)
    floats = {label for part in re.finditer(FLOAT, TEXT, re.DOTALL) for label in named("label", part[0])}
    text = re.sub(FLOAT, "", TEXT, flags=re.DOTALL)
    assert floats - set(named("ref", text)) == set()


def test_the_references_are_those_that_are_cited():
    listed = set(re.findall(r"^@\w+\{(\w+),", (PAPER / "references.bib").read_text("utf-8"), re.MULTILINE))
    assert {key for keys in named("cite[pt]") for key in keys.split(",")} == listed


@pytest.mark.parametrize("file", SECTIONS, ids=lambda file: str(file.relative_to(PAPER / "sections")))
def test_no_number_is_typed_by_hand(file: Path):
    text = re.sub(
        r"\\(?:includegraphics|begin|setlength)(?:\[[^\]]*\])?(?:\{[^}]*\}|\[[^\]]*\])*", "", file.read_text()
    )
    assert set(re.findall(r"\d+\.\d+", text)) <= CONVENTIONS
