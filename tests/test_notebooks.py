"""Every notebook is told in one way, and its two files are one."""

import ast
import os
import re
import shutil

import jupytext
import nbformat
import pytest

from sae_utils import notebooks, params

SOURCES = sorted(params.NOTEBOOKS.glob("*.py"))
every = pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)


def cells(source):
    return jupytext.read(source).cells


def code(source):
    return [cell for cell in cells(source) if cell.cell_type == "code"]


def tree(source) -> ast.Module:
    return ast.parse("\n".join(cell.source for cell in code(source)))


# --- pairing


@every
def test_the_pair_is_the_source_without_outputs(source):
    pair = source.with_suffix(".ipynb")
    assert not notebooks.apart(source), "`make notebooks` brings the two together"
    notebook = nbformat.read(pair, as_version=4)
    nbformat.validate(notebook)
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in notebook.cells)
    assert not notebooks.differ(source)
    assert notebook.metadata.kernelspec.name == "python3"  # papermill asks for it


def test_no_pair_is_without_its_source():
    assert [file.stem for file in sorted(params.NOTEBOOKS.glob("*.ipynb"))] == [file.stem for file in SOURCES]


# --- the order of cells


@every
def test_it_opens_with_its_question(source):
    first = cells(source)[0]
    assert first.cell_type == "markdown" and re.match(r"# \S", first.source)
    parts = ["**Question.**", "**In.**", "**Out.**", "**What would count as a no.**"]
    places = [first.source.find(part) for part in parts]
    assert -1 not in places and places == sorted(places), dict(zip(parts, places, strict=True))


@every
def test_parameters_are_one_cell_of_literals_after_the_first(source):
    tagged = [number for number, cell in enumerate(cells(source)) if "parameters" in cell.metadata.get("tags", [])]
    assert tagged == [1]
    assert cells(source)[1].cell_type == "code"
    assert next(iter(params.cell(source.stem))) == "profile"  # reads `name = literal` or raises
    for name, value in params.cell(source.stem).items():
        assert isinstance(value, str | int | float | list | dict), f"{name} would be a schema of nothing"


@every
def test_markdown_opens_every_section_of_code(source):
    """After parameters, imports and loading, code is told what it is for, and no heading stands without code."""
    found = cells(source)
    headed = [number for number, cell in enumerate(found) if re.match("##? ", cell.source)]
    assert [cell.cell_type for cell in found[1:4]] == ["code"] * 3
    assert 4 in headed, "the first measure has no heading"
    assert all(found[number + 1].cell_type == "code" for number in headed), "a heading without code below it"
    imports = [number for number, cell in enumerate(found) if re.search(r"^(import|from) ", cell.source, re.M)]
    assert [number for number in imports if found[number].cell_type == "code"] == [2]
    assert "params.start(profile, " in found[3].source


@every
def test_it_names_itself_and_saves_at_last(source):
    assert code(source)[-1].source.strip().splitlines()[-1] == "out.save()"
    for call in ("params.start(profile, ", "report.Report(run, "):
        assert f'{call}"{source.stem}")' in source.read_text("utf-8")


# --- what a cell may hold


@every
def test_cells_are_short(source):
    for cell in code(source):
        statements = [node for node in ast.walk(ast.parse(cell.source)) if isinstance(node, ast.stmt)]
        assert len(statements) <= 15, cell.source


@every
def test_logic_lives_in_the_package(source):
    for node in ast.walk(tree(source)):
        assert not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef), node.name
        if isinstance(node, ast.Assign | ast.AnnAssign | ast.NamedExpr):
            assert not isinstance(node.value, ast.Lambda), f"line {node.lineno}: a lambda with a name is a function"
        if isinstance(node, ast.ImportFrom):
            assert "*" not in [alias.name for alias in node.names], f"line {node.lineno}: star import"


@every
def test_it_runs_anywhere(source):
    text = source.read_text("utf-8")
    assert not re.search(r"^\s*(!|%[a-z])", "\n".join(cell.source for cell in code(source)), re.M), "shell or magic"
    assert not re.search(r"\bchdir\b|\bsys\.path\b", text)
    texts = [node.value for node in ast.walk(tree(source)) if isinstance(node, ast.Constant)]
    for value in texts:
        assert not (isinstance(value, str) and re.match(r"(/[A-Za-z]|~|[A-Za-z]:\\|\.\./)", value)), value
    assert not re.search(r"/(home|Users|work|tmp|content|mnt)/", text)


# --- keeping the two together


@pytest.fixture
def pair(tmp_path, monkeypatch):
    """One notebook, both files, saved long ago."""
    monkeypatch.setattr(params, "NOTEBOOKS", tmp_path)
    shutil.copy(SOURCES[0], tmp_path / "toy.py")
    notebooks.together()
    source, copy = tmp_path / "toy.py", tmp_path / "toy.ipynb"
    for file in (source, copy):
        os.utime(file, (1000, 1000))
    return source, copy


def edit(file, old: str, new: str, moment: int) -> None:
    text = file.read_text("utf-8")
    assert old in text
    file.write_text(text.replace(old, new), "utf-8")
    os.utime(file, (moment, moment))


def edit_cell(file, new: str, moment: int, output: str = "") -> None:
    """As JupyterLab would save it: another first cell, and outputs."""
    notebook = nbformat.read(file, as_version=4)
    notebook.cells[0].source = new
    if output:
        notebook.cells[1].outputs = [nbformat.v4.new_output("stream", text=output)]
        notebook.cells[1].execution_count = 7
    nbformat.write(notebook, file)
    os.utime(file, (moment, moment))


def test_together_they_are_left_alone(pair, capsys):
    source, copy = pair
    before = source.read_bytes(), copy.read_bytes()
    capsys.readouterr()
    notebooks.together()
    assert (source.read_bytes(), copy.read_bytes()) == before and capsys.readouterr().out == ""
    assert source.stat().st_mtime == copy.stat().st_mtime == 1000


def test_the_source_saved_last_wins(pair):
    source, copy = pair
    edit_cell(copy, "# Edited in Jupyter", 2000)
    edit(source, "# # Models and dictionaries", "# # Edited as text", 3000)
    text = source.read_bytes()
    notebooks.together()
    assert source.read_bytes() == text
    assert cells(copy)[0].source.startswith("# Edited as text") and not notebooks.differ(source)


def test_the_notebook_saved_last_wins(pair):
    source, copy = pair
    edit(source, "# # Models and dictionaries", "# # Edited as text", 2000)
    edit_cell(copy, "# Edited in Jupyter\n\nTwo lines.", 3000, output="secret")
    rest = cells(source)[1:]
    notebooks.together()
    assert cells(source)[0].source == "# Edited in Jupyter\n\nTwo lines."
    assert [(c.source, c.metadata) for c in cells(source)[1:]] == [(c.source, c.metadata) for c in rest]
    assert copy.read_text("utf-8") == notebooks.clean(source) and "secret" not in copy.read_text("utf-8")
    assert "# # Edited in Jupyter\n" in source.read_text("utf-8")


def test_the_header_survives_a_notebook_that_wins(pair):
    """Only the cell that was edited differs in the source, so that a review sees the edit alone."""
    source, copy = pair
    before = source.read_text("utf-8").splitlines()
    first = cells(copy)[0].source
    edit_cell(copy, first + "\n\nOne more line.", 3000)
    notebooks.together()
    after = source.read_text("utf-8").splitlines()
    assert [line for line in after if line not in before] == ["# One more line."]
    assert [line for line in before if line not in after] == []


def test_outputs_alone_are_cleared(pair):
    source, copy = pair
    before = copy.read_bytes()
    edit_cell(copy, cells(source)[0].source, 3000, output="a result")
    assert copy.read_bytes() != before
    text = source.read_bytes()
    notebooks.together()
    assert copy.read_bytes() == before and source.read_bytes() == text


def test_a_missing_notebook_is_written(pair):
    source, copy = pair
    before = copy.read_bytes()
    copy.unlink()
    assert notebooks.differ(source)
    notebooks.together()
    assert copy.read_bytes() == before


def test_a_check_says_what_is_apart_and_writes_nothing(pair, monkeypatch):
    source, copy = pair
    monkeypatch.setattr("sys.argv", ["notebooks", "--check"])
    notebooks.main()
    edit_cell(copy, cells(source)[0].source, 3000, output="a result")  # the same cells
    before = source.read_bytes(), copy.read_bytes()
    with pytest.raises(SystemExit, match="apart, or with outputs: toy; `make notebooks`"):
        notebooks.main()
    assert (source.read_bytes(), copy.read_bytes()) == before
