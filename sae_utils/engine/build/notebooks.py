"""Keeps the two files of every notebook in step: the percent script is the source, the .ipynb beside it has no outputs.

In: `notebooks/*.py` and `*.ipynb`. Out: both, with the same cells.
Never: execution; a lost edit. The file that was edited since both were last equal is taken: equal as the last run
recorded in `build/notebooks/`, or as in git's last commit. Where both were edited, a person chooses. Times of files do
not count, since a checkout or an autosave changes them. A file that is replaced is kept in `build/notebooks/`.

`python -m sae_utils notebooks` writes what differs; with `--check` it only reports it; `--keep py` or `--keep ipynb`
takes that file where both were edited or the other cannot be read.
"""

import argparse
import hashlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jupytext
import nbformat

from sae_utils.engine import params
from sae_utils.engine.core import files
from sae_utils.engine.core.sources import REPOSITORY

KEPT = REPOSITORY / "build" / "notebooks"
MERGE = re.compile(r"^(<{7}|>{7})( |$)", re.MULTILINE)  # git's marks of an unfinished merge
NUMBERED = re.compile(r"\d\d[a-z]?_\w+")  # names of the paper's notebooks; files with other names are left alone
FORMATS = {".py": "py:percent", ".ipynb": "ipynb"}
HEADER = """\
# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

"""


class Conflict(ValueError):
    """The two files differ and only a person can decide; the message says how."""


def clean(source: Path) -> str:
    """The .ipynb of a percent script: no outputs, cell ids by position, the same bytes each time."""
    notebook = jupytext.read(source)
    notebook.metadata.get("jupytext", {}).pop("main_language", None)
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
    return str(nbformat.writes(notebook, version=4)) + "\n"


def in_step(source: Path) -> bool:
    """Whether the .ipynb of a percent script equals the output of `clean`, and the script has no unfinished merge."""
    pair = source.with_suffix(".ipynb")
    merging = MERGE.search(source.read_text("utf-8", errors="replace")) is not None
    return not merging and pair.exists() and pair.read_bytes() == clean(source).encode()


def synchronise(keep: str = "") -> list[str]:
    """Bring the files of every notebook in step; returns one line for each decision that a person must take.

    Raises files.WriteError if a file cannot be written.
    """
    problems = []
    for source in _sources():
        try:
            _synchronise(source, keep)
        except Conflict as error:
            problems.append(str(error))
    return problems


def _sources() -> list[Path]:
    """The scripts that exist, and those that belong to a numbered .ipynb."""
    pairs = [file for file in params.NOTEBOOKS.glob("*.ipynb") if NUMBERED.fullmatch(file.stem)]
    return sorted({*params.NOTEBOOKS.glob("*.py"), *(pair.with_suffix(".py") for pair in pairs)})


def _synchronise(source: Path, keep: str) -> None:
    pair, record = source.with_suffix(".ipynb"), KEPT / f"{source.stem}.sha256"
    if _side_to_take(source, keep) == "ipynb":
        _replace(source, _script(source, pair), f"taken from {pair.name}")
    state = _state(_read(source))
    if not in_step(source):
        _replace(pair, clean(source), "written")
    if not record.exists() or record.read_text("utf-8") != state:
        files.write(record, state)


def _replace(file: Path, text: str, why: str) -> None:
    """Write a file and keep a copy of its old content."""
    if file.exists():
        old = file.read_bytes()
        files.write(KEPT / f"{file.stem}.{hashlib.sha256(old).hexdigest()[:8]}{file.suffix}", old)
    files.write(file, text)
    print(f"{file.name}: {why}")


# --- which file was edited


def _side_to_take(source: Path, keep: str) -> str:
    """The file that overwrites the other: `py` or `ipynb`. Raises Conflict if nothing tells which."""
    pair = source.with_suffix(".ipynb")
    if not pair.exists():
        return "py"
    if not source.exists():
        if keep != "ipynb" and _equal_states(source):
            raise Conflict(
                f"{source.name} is gone: delete {pair.name} as well, or `make notebooks KEEP=ipynb` writes the script "
                "from it"
            )
        return "ipynb"
    try:
        states = {"py": _state(_read_nonempty(source)), "ipynb": _state(_read_nonempty(pair))}
    except Conflict:
        if not keep:
            raise
        return keep
    if states["py"] == states["ipynb"]:
        return "py"
    equal = _equal_states(source)
    edited = [side for side, state in states.items() if state not in equal]
    if len(edited) == 1:
        return edited[0]
    if keep:
        return keep
    raise Conflict(
        f"{source.name} and {pair.name} were both edited; `make notebooks KEEP=py` takes the script, KEEP=ipynb the "
        f"notebook; the other is then kept in {KEPT}"
    )


def _equal_states(source: Path) -> set[str]:
    """The contents at which both files were last equal: as recorded, and in git's last commit."""
    record, pair = KEPT / f"{source.stem}.sha256", source.with_suffix(".ipynb")
    recorded = {record.read_text("utf-8")} if record.exists() else set()
    texts = {file.suffix: _committed(file) for file in (source, pair)}
    committed = {_state(jupytext.reads(text, fmt=FORMATS[suffix])) for suffix, text in texts.items() if text}
    return recorded | (committed if len(committed) == 1 else set())


def _committed(file: Path) -> str:
    """A file in git's last commit; empty where there is no git, or no such file in the commit."""
    if not shutil.which("git"):
        return ""
    command = ["git", "-C", str(file.parent), "show", f"HEAD:./{file.name}"]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", errors="replace")
    return done.stdout if done.returncode == 0 else ""


# --- cells


def _read(file: Path) -> Any:
    """The notebook in a script or an .ipynb.

    Raises Conflict if the file cannot be read, or holds an unfinished merge.
    """
    remedy = f"mend it, or {_written_from_other(file)}"
    try:
        text = file.read_text("utf-8")
        notebook = None if MERGE.search(text) else jupytext.reads(text, fmt=FORMATS[file.suffix])
        if notebook is not None:
            _state(notebook)  # it has cells
            return notebook
    except Exception as error:  # jupytext, nbformat and json raise errors of many kinds
        message = " ".join(str(error).split())[:100]
        raise Conflict(f"{file.name}: not a notebook ({type(error).__name__}: {message}); {remedy}") from error
    raise Conflict(f"{file.name}: a merge is unfinished (<<<<<<< or >>>>>>>); {remedy}")


def _written_from_other(file: Path) -> str:
    other = {".py": "ipynb", ".ipynb": "py"}[file.suffix]
    return f"`make notebooks KEEP={other}` writes it from {file.stem}.{other}"


def _read_nonempty(file: Path) -> Any:
    """As `_read`, and refuses a file without content, as an editor or a full disk may leave it."""
    notebook = _read(file)
    if not any(cell.source.strip() for cell in notebook.cells):
        raise Conflict(f"{file.name}: it has no cells; delete both files, or {_written_from_other(file)}")
    return notebook


def _state(notebook: Any) -> str:
    return hashlib.sha256(json.dumps(_content(notebook.cells)).encode()).hexdigest()


def _content(cells: list[Any]) -> list[Any]:
    """The parts of cells that a person edits: kind, text and tags."""
    return [[cell.cell_type, cell.source.strip("\n").rstrip(), sorted(cell.metadata.get("tags", []))] for cell in cells]


def _script(source: Path, pair: Path) -> str:
    """The percent script with the cells of an .ipynb, below the header of the present script.

    Raises Conflict if a script cannot hold one of the cells.
    """
    notebook = _read(pair)
    if not notebook.cells:
        raise Conflict(f"{pair.name}: it has no cells; delete it: where there is a {source.name} it is written anew")
    for cell in notebook.cells:
        kept = ("tags", "lines_to_next_cell")  # other metadata belongs to JupyterLab
        cell.metadata = {key: value for key, value in cell.metadata.items() if key in kept and value != []}
    text = source.read_text("utf-8", errors="replace") if source.exists() else ""
    header = _split(text)[0]
    cells = _split(jupytext.writes(notebook, fmt="py:percent"))[-1]
    script = (header if header.startswith("# ---") and not MERGE.search(header) else HEADER) + cells
    again = jupytext.reads(script, fmt="py:percent")
    for number, cell in enumerate(notebook.cells):
        if cell.get("attachments"):
            raise Conflict(f"{pair.name}: cell {number + 1} holds a pasted image; save it as a file and link that")
        if _content(again.cells[number : number + 1]) != _content([cell]):
            raise Conflict(
                f"{pair.name}: cell {number + 1} would not be the same in a script; change its first line, or a line "
                "that begins with `# %%`"
            )
    return script


def _split(script: str) -> list[str]:
    """The header of a percent script and its cells."""
    return re.split(r"^(?=# %%)", script, maxsplit=1, flags=re.MULTILINE)


def main() -> None:
    """Bring the two files of every notebook in step."""
    parser = argparse.ArgumentParser(prog="python -m sae_utils notebooks", description=main.__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit status 1 if a pair is out of step")
    parser.add_argument("--keep", choices=["py", "ipynb"], default="", help="the file to take where both were edited")
    arguments = parser.parse_args()
    if not arguments.check:
        try:
            problems = synchronise(arguments.keep)
        except files.WriteError as error:
            problems = [str(error)]
        if problems:
            sys.exit("\n".join(f"error: {problem}" for problem in problems))
    elif names := [source.stem for source in _sources() if not source.exists() or not in_step(source)]:
        sys.exit(f"error: out of step, or with outputs: {', '.join(names)}; `make notebooks` brings both files in step")
