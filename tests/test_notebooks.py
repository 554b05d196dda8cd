"""Every notebook has one order of cells, and its two files hold the same cells."""

import ast
import os
import re
import shutil
import statistics
import subprocess

import jupytext
import nbformat
import pytest

from sae_utils.engine import params
from sae_utils.engine.build import notebooks

SOURCES = sorted(params.NOTEBOOKS.glob("*.py"))
LONGEST_FUNCTION = 12  # lines of a function that makes a method readable
LONGEST_CELL, MEDIAN_CELL = 15, 8  # lines of code
LONGEST_NOTEBOOK = 350  # lines of the script
PROSE = 0.4  # of the cells
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
    assert notebooks.in_step(source), "`make notebooks` brings the two together"
    notebook = nbformat.read(pair, as_version=4)
    nbformat.validate(notebook)
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in notebook.cells)
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
    assert next(iter(params.parameters(source.stem))) == "profile"  # reads `name = literal` or raises
    for name, value in params.parameters(source.stem).items():
        assert isinstance(value, str | int | float | list | dict), f"{name} would be a schema of nothing"


@every
def test_markdown_opens_every_section_of_code(source):
    """After parameters, imports and loading, prose introduces code, and every heading is followed by code."""
    found = cells(source)
    headed = [number for number, cell in enumerate(found) if re.match("##? ", cell.source)]
    assert [cell.cell_type for cell in found[1:4]] == ["code"] * 3
    assert 4 in headed, "the first measure has no heading"
    assert all(found[number + 1].cell_type == "code" for number in headed), "a heading without code below it"
    imports = [number for number, cell in enumerate(found) if re.search(r"^(import|from) ", cell.source, re.M)]
    assert [number for number in imports if found[number].cell_type == "code"] == [2]
    assert "profiles.start(profile, " in found[3].source


@every
def test_it_names_itself_and_saves_at_last(source):
    assert code(source)[-1].source.strip().splitlines()[-1] == "out.save()"
    for call in ("profiles.start(profile, ", "report.Report(run, "):
        assert f'{call}"{source.stem}")' in source.read_text("utf-8")


# --- what a cell may hold


def lines(cell) -> int:
    return sum(bool(line.strip()) for line in cell.source.splitlines())


@every
def test_cells_are_short(source):
    found = [cell for cell in code(source) if "parameters" not in cell.metadata.get("tags", [])]
    for cell in found:
        assert lines(cell) <= LONGEST_CELL, cell.source
    assert statistics.median(map(lines, found)) <= MEDIAN_CELL


@every
def test_it_is_read_in_one_sitting(source):
    assert len(source.read_text("utf-8").splitlines()) <= LONGEST_NOTEBOOK
    assert sum(cell.cell_type == "markdown" for cell in cells(source)) >= PROSE * len(cells(source))


@every
def test_one_value_is_assigned(source):
    for node in ast.walk(tree(source)):
        if isinstance(node, ast.For | ast.comprehension) and isinstance(node.iter, ast.List | ast.Tuple):
            assert len(node.iter.elts) != 1, f"`for {ast.unparse(node.target)} in {ast.unparse(node.iter)}`"


@every
def test_logic_lives_in_the_package(source):
    for node in ast.walk(tree(source)):
        assert not isinstance(node, ast.AsyncFunctionDef | ast.ClassDef), node.name
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno < LONGEST_FUNCTION, (
                f"{node.name}: longer functions belong to the package"
            )
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
    """Both files of one notebook, in step, with old times."""
    folder = tmp_path / "notebooks"
    folder.mkdir()
    monkeypatch.setattr(params, "NOTEBOOKS", folder)
    monkeypatch.setattr(notebooks, "KEPT", tmp_path / "kept")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    source, copy = folder / "13_toy.py", folder / "13_toy.ipynb"
    shutil.copy(SOURCES[0], source)
    assert notebooks.synchronise() == []
    for file in (source, copy):
        os.utime(file, (1000, 1000))
    return source, copy


def edit(file, old: str, new: str, moment: int) -> None:
    text = file.read_text("utf-8")
    assert old in text
    file.write_text(text.replace(old, new), "utf-8")
    os.utime(file, (moment, moment))


def edit_cell(file, new: str, moment: int, output: str = "") -> None:
    """Save another first cell and outputs, as JupyterLab does."""
    notebook = nbformat.read(file, as_version=4)
    notebook.cells[0].source = new
    if output:
        notebook.cells[1].outputs = [nbformat.v4.new_output("stream", text=output)]
        notebook.cells[1].execution_count = 7
    nbformat.write(notebook, file)
    os.utime(file, (moment, moment))


def test_files_in_step_are_left_unchanged(pair, capsys):
    source, copy = pair
    before = source.read_bytes(), copy.read_bytes()
    capsys.readouterr()
    notebooks.synchronise()
    assert (source.read_bytes(), copy.read_bytes()) == before and capsys.readouterr().out == ""
    assert source.stat().st_mtime == copy.stat().st_mtime == 1000


BY_HAND, IN_JUPYTER = "# # Edited as text", "# Edited in Jupyter\n\nTwo lines."


def by_hand(source, moment: int = 2000) -> None:
    edit(source, "# # Models and dictionaries", BY_HAND, moment)


def replaced(tmp_path) -> set[bytes]:
    return {file.read_bytes() for file in (tmp_path / "kept").glob("13_toy.*.*") if file.suffix != ".sha256"}


@pytest.mark.parametrize("other", [1000, 5000])  # a checkout or an autosave touched the .ipynb later
def test_an_edited_script_is_taken(pair, other):
    source, copy = pair
    by_hand(source)
    os.utime(copy, (other, other))
    text = source.read_bytes()
    assert notebooks.synchronise() == []
    assert source.read_bytes() == text
    assert cells(copy)[0].source.startswith("# Edited as text") and notebooks.in_step(source)


@pytest.mark.parametrize("other", [1000, 5000])
def test_an_edited_notebook_is_taken(pair, other):
    source, copy = pair
    rest = cells(source)[1:]
    edit_cell(copy, IN_JUPYTER, 3000, output="secret")
    os.utime(source, (other, other))
    assert notebooks.synchronise() == []
    assert cells(source)[0].source == IN_JUPYTER
    assert [(c.source, c.metadata) for c in cells(source)[1:]] == [(c.source, c.metadata) for c in rest]
    assert copy.read_text("utf-8") == notebooks.clean(source) and "secret" not in copy.read_text("utf-8")
    assert "# # Edited in Jupyter\n" in source.read_text("utf-8")


@pytest.mark.parametrize("first", ["py", "ipynb"])
@pytest.mark.parametrize("keep", ["py", "ipynb"])
def test_where_both_were_edited_a_person_chooses(pair, tmp_path, monkeypatch, first, keep):
    source, copy = pair
    by_hand(source, 2000 if first == "py" else 3000)
    edit_cell(copy, IN_JUPYTER, 3000 if first == "py" else 2000)
    before = source.read_bytes(), copy.read_bytes()
    monkeypatch.setattr("sys.argv", ["notebooks"])
    with pytest.raises(SystemExit, match=r"error: 13_toy\.py and 13_toy\.ipynb were both edited; `make note"):
        notebooks.main()
    assert (source.read_bytes(), copy.read_bytes()) == before
    monkeypatch.setattr("sys.argv", ["notebooks", "--keep", keep])
    notebooks.main()
    expected = BY_HAND[2:] if keep == "py" else IN_JUPYTER
    assert cells(source)[0].source.startswith(expected) and notebooks.in_step(source)
    assert before[keep == "py"] in replaced(tmp_path)  # the other one


def test_a_choice_concerns_only_files_edited_on_both_sides(pair):
    """`--keep` has no effect on a notebook that was edited on one side."""
    source, copy = pair
    edit_cell(copy, IN_JUPYTER, 3000)
    assert notebooks.synchronise("py") == [] and cells(source)[0].source == IN_JUPYTER


def test_without_a_record_git_shows_what_was_edited(pair, tmp_path):
    source, copy = pair
    git(source.parent, "init", "-q")
    git(source.parent, "add", ".")
    git(source.parent, "commit", "-qm", "both")
    shutil.rmtree(tmp_path / "kept")
    by_hand(source)
    assert notebooks.synchronise() == [] and notebooks.in_step(source)
    shutil.rmtree(tmp_path / "kept")
    git(source.parent, "commit", "-qam", "both")
    edit_cell(copy, IN_JUPYTER, 500)
    assert notebooks.synchronise() == [] and cells(source)[0].source == IN_JUPYTER


def test_without_a_record_or_git_nothing_is_guessed(pair, tmp_path):
    source, _ = pair
    shutil.rmtree(tmp_path / "kept")
    by_hand(source)
    assert len(notebooks.synchronise()) == 1
    assert notebooks.synchronise("py") == [] and notebooks.in_step(source)


def test_a_commit_of_one_side_is_no_common_state(pair, tmp_path):
    """If only the script was committed, git cannot tell which file was edited."""
    source, _ = pair
    git(source.parent, "init", "-q")
    by_hand(source)
    git(source.parent, "add", ".")
    git(source.parent, "commit", "-qm", "one side")
    assert notebooks.synchronise() == [] and notebooks.in_step(source)  # the record does
    by_hand_again = source.read_text("utf-8")
    edit(source, BY_HAND, "# # Edited again", 2000)
    git(source.parent, "commit", "-qm", "one side", "--", source.name)
    shutil.rmtree(tmp_path / "kept")
    assert len(notebooks.synchronise()) == 1 and source.read_text("utf-8") != by_hand_again


def test_a_tag_is_an_edit(pair):
    source, copy = pair
    notebook = nbformat.read(copy, as_version=4)
    notebook.cells[4].metadata["tags"] = ["hide-input"]
    notebook.cells[4].metadata["editable"] = True  # set by JupyterLab itself
    nbformat.write(notebook, copy)
    assert notebooks.synchronise() == []
    assert cells(source)[4].metadata == {"tags": ["hide-input"]} and notebooks.in_step(source)


def test_an_emptied_script_does_not_empty_the_notebook(pair):
    source, copy = pair
    content, before = copy.read_bytes(), [cell.source for cell in cells(source)]
    source.write_text("")
    assert [
        problem
        for problem in notebooks.synchronise()
        if "13_toy.py: it has no cells; " in problem and "KEEP=ipynb" in problem
    ]
    assert copy.read_bytes() == content and source.read_text() == ""
    assert notebooks.synchronise("ipynb") == [] and [cell.source for cell in cells(source)] == before


CONFLICT = "<<<<<<< HEAD\n# mine\n=======\n# yours\n>>>>>>> branch\n"
BROKEN = {
    "cut": lambda text: text[: len(text) // 2],
    "empty": lambda text: "",
    "merging": lambda text: text.replace('  {\n   "cell_type"', CONFLICT + '  {\n   "cell_type"', 1),
    "no notebook": lambda text: '{"cells": 3}',
    "a list": lambda text: "[1]",
    "not UTF-8": lambda text: "\udcff" + text,
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_notebook_that_cannot_be_read_is_named_and_written_anew_on_request(pair, tmp_path, monkeypatch, how):
    source, copy = pair
    content, text = copy.read_bytes(), source.read_bytes()
    broken = BROKEN[how](content.decode()).encode("utf-8", "surrogateescape")
    copy.write_bytes(broken)
    monkeypatch.setattr("sys.argv", ["notebooks"])
    with pytest.raises(SystemExit, match=r"^error: 13_toy\.ipynb: [^\n]*`make notebooks KEEP=py` writes it") as caught:
        notebooks.main()
    assert "\n" not in str(caught.value) and copy.read_bytes() == broken and source.read_bytes() == text
    monkeypatch.setattr("sys.argv", ["notebooks", "--check"])
    with pytest.raises(SystemExit, match="out of step, or with outputs: 13_toy"):
        notebooks.main()
    assert len(notebooks.synchronise("ipynb")) == 1
    assert notebooks.synchronise("py") == [] and copy.read_bytes() == content and broken in replaced(tmp_path)


def test_a_script_in_the_midst_of_a_merge_does_not_reach_the_notebook(pair, monkeypatch):
    source, copy = pair
    content, text = copy.read_bytes(), source.read_text("utf-8")
    source.write_text(text.replace("# # Models", CONFLICT + "# # Models"))
    (problem,) = notebooks.synchronise()
    assert problem.startswith("13_toy.py: a merge is unfinished") and len(notebooks.synchronise("py")) == 1
    assert not notebooks.in_step(source) and copy.read_bytes() == content
    assert notebooks.synchronise("ipynb") == [] and source.read_text("utf-8") == text


def test_one_that_needs_a_person_does_not_hold_up_the_others(pair):
    source, copy = pair
    other = source.with_name("14_other.py")
    shutil.copy(source, other)
    copy.write_text("")
    assert len(notebooks.synchronise()) == 1 and notebooks.in_step(other)


def test_a_new_notebook_gets_its_script(pair, capsys):
    source, _ = pair
    new = source.with_name("14_new.ipynb")
    notebook = nbformat.v4.new_notebook(cells=[
        nbformat.v4.new_markdown_cell("# New"), nbformat.v4.new_code_cell("n = 1", metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell("%time n\n!ls"), nbformat.v4.new_raw_cell("raw"), nbformat.v4.new_code_cell(""),
    ])  # fmt: skip
    nbformat.write(notebook, new)
    nbformat.write(notebook, source.with_name("Untitled.ipynb"))  # not a notebook of the paper
    assert notebooks.synchronise() == []
    script = new.with_suffix(".py")
    assert [c.source for c in cells(script)] == [c.source for c in notebook.cells] and notebooks.in_step(script)
    assert script.read_text("utf-8").startswith(source.read_text("utf-8").partition("# %%")[0])  # the same header
    assert params.parameters("14_new") == {"n": 1}
    assert not source.with_name("Untitled.py").exists()


def test_a_script_that_is_gone_is_not_brought_back_unasked(pair):
    source, _ = pair
    text = source.read_text("utf-8")
    source.unlink()
    (problem,) = notebooks.synchronise()
    assert problem.startswith("13_toy.py is gone: delete 13_toy.ipynb as well") and not source.exists()
    assert notebooks.synchronise("ipynb") == [] and source.read_text("utf-8") == text


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        (nbformat.v4.new_code_cell("x = 1\n# %%\ny = 1"), "would not be the same in a script"),
        (
            nbformat.v4.new_markdown_cell("![x](attachment:x.png)", attachments={"x.png": {"image/png": "eA=="}}),
            "holds a pasted image; save it as a file",
        ),
    ],
)
def test_what_a_script_cannot_hold_is_not_lost(pair, cell, message):
    source, copy = pair
    notebook = nbformat.read(copy, as_version=4)
    notebook.cells.insert(1, cell)
    nbformat.write(notebook, copy)
    before = source.read_bytes(), copy.read_bytes()
    (problem,) = notebooks.synchronise()
    assert f"13_toy.ipynb: cell 2 {message}" in problem and (source.read_bytes(), copy.read_bytes()) == before


def git(folder, *arguments: str) -> None:
    identity = ["-c", "user.name=n", "-c", "user.email=e@e.invalid", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


def test_the_header_survives_a_notebook_that_wins(pair):
    """Only the edited cell changes in the source, so that a review shows nothing else."""
    source, copy = pair
    before = source.read_text("utf-8").splitlines()
    first = cells(copy)[0].source
    edit_cell(copy, first + "\n\nOne more line.", 3000)
    notebooks.synchronise()
    after = source.read_text("utf-8").splitlines()
    assert [line for line in after if line not in before] == ["# One more line."]
    assert [line for line in before if line not in after] == []


def test_only_outputs_are_cleared(pair):
    source, copy = pair
    before = copy.read_bytes()
    edit_cell(copy, cells(source)[0].source, 3000, output="a result")
    assert copy.read_bytes() != before
    text = source.read_bytes()
    notebooks.synchronise()
    assert copy.read_bytes() == before and source.read_bytes() == text


def test_a_missing_notebook_is_written(pair):
    source, copy = pair
    before = copy.read_bytes()
    copy.unlink()
    assert not notebooks.in_step(source)
    notebooks.synchronise()
    assert copy.read_bytes() == before


def test_a_check_lists_what_differs_and_writes_nothing(pair, monkeypatch):
    source, copy = pair
    monkeypatch.setattr("sys.argv", ["notebooks", "--check"])
    notebooks.main()
    edit_cell(copy, cells(source)[0].source, 3000, output="a result")  # the same cells
    before = source.read_bytes(), copy.read_bytes()
    with pytest.raises(SystemExit, match="out of step, or with outputs: 13_toy; `make notebooks`"):
        notebooks.main()
    assert (source.read_bytes(), copy.read_bytes()) == before
