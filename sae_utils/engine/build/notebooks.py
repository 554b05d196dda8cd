"""Keeps every notebook's two files one: the percent script is the source, the .ipynb beside it has no outputs.

In: `notebooks/*.py` and `*.ipynb`. Out: both, with the same cells.
Never: execution; an edit lost. The file is taken that was edited since both were last equal, as the last run recorded
in `build/notebooks/` or as git's last commit has them; where both were edited, a person chooses. Times do not count: a
checkout or an autosave touches what nobody edited. A file that is replaced is kept in `build/notebooks/`.

`python -m sae_utils notebooks` writes what differs; with `--check` it only says so; `--keep py` or `--keep ipynb` takes
that file where both were edited or the other cannot be read.
"""

from __future__ import annotations

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

from sae_utils.engine.core import files
from sae_utils.engine import params
from sae_utils.engine.core.sources import REPOSITORY

KEPT = REPOSITORY / "build" / "notebooks"
MERGE = re.compile(r"^(<{7}|>{7})( |$)", re.MULTILINE)  # git's marks of an unfinished merge
NUMBERED = re.compile(r"\d\d_\w+")  # a notebook of the paper; what has another name is somebody's scratch paper
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


class Apart(ValueError):
    """Two files that only a person can bring together; the message says how."""


def clean(source: Path) -> str:
    """The .ipynb of a percent script: no outputs, cell ids by position, the same bytes each time."""
    notebook = jupytext.read(source)
    notebook.metadata.get("jupytext", {}).pop("main_language", None)
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
    return str(nbformat.writes(notebook, version=4)) + "\n"


def differ(source: Path) -> bool:
    """Whether the cells of a percent script and of its .ipynb differ.

    Raises:
        Apart: one of them cannot be read.
    """
    pair = source.with_suffix(".ipynb")
    return not pair.exists() or _state(_read(source)) != _state(_read(pair))


def apart(source: Path) -> bool:
    """Whether the .ipynb of a percent script is missing, or not what `clean` gives, or a merge of it is unfinished."""
    pair = source.with_suffix(".ipynb")
    merging = MERGE.search(source.read_text("utf-8", errors="replace")) is not None
    return merging or not pair.exists() or pair.read_bytes() != clean(source).encode()


def _read(file: Path) -> Any:
    """The notebook in a file of either kind."""
    other = {".py": "ipynb", ".ipynb": "py"}[file.suffix]
    remedy = f"mend it, or `make notebooks KEEP={other}` writes it from {file.stem}.{other}"
    try:
        text = file.read_text("utf-8")
        if MERGE.search(text):
            raise Apart(f"{file.name}: a merge is unfinished (<<<<<<< or >>>>>>>); {remedy}")
        notebook = jupytext.reads(text, fmt={".py": "py:percent", ".ipynb": "ipynb"}[file.suffix])
        _state(notebook)  # it has cells
        return notebook
    except Apart:
        raise
    except Exception as error:  # jupytext, nbformat and json raise what they like
        said = " ".join(str(error).split())[:100]
        raise Apart(f"{file.name}: not a notebook ({type(error).__name__}: {said}); {remedy}") from error


def _filled(file: Path) -> Any:
    """As `_read`, of a file that holds something: an editor or a full disk may leave an empty one."""
    notebook = _read(file)
    if not any(cell.source.strip() for cell in notebook.cells):
        other = {".py": "ipynb", ".ipynb": "py"}[file.suffix]
        raise Apart(
            f"{file.name}: it has no cells; delete both files, or `make notebooks KEEP={other}` writes it from "
            f"{file.stem}.{other}"
        )
    return notebook


def _state(notebook: Any) -> str:
    return hashlib.sha256(json.dumps(_edited(notebook.cells)).encode()).hexdigest()


def _edited(cells: list[Any]) -> list[Any]:
    """All that a person edits in cells: kind, text and tags."""
    return [[cell.cell_type, cell.source.strip("\n").rstrip(), sorted(cell.metadata.get("tags", []))] for cell in cells]


def _common(source: Path) -> set[str]:
    """States in which both files were known to be equal: as recorded, and in git's last commit."""
    record, pair = KEPT / f"{source.stem}.sha256", source.with_suffix(".ipynb")
    known = {record.read_text("utf-8")} if record.exists() else set()
    committed = {_state(jupytext.reads(text, fmt=fmt)) for file, fmt in ((source, "py:percent"), (pair, "ipynb"))
                 if (text := _committed(file))}  # fmt: skip
    return known | (committed if len(committed) == 1 else set())


def _committed(file: Path) -> str:
    """A file as git's last commit has it; empty where there is no git, or no such file in it."""
    if not shutil.which("git"):
        return ""
    command = ["git", "-C", str(file.parent), "show", f"HEAD:./{file.name}"]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", errors="replace")
    return done.stdout if done.returncode == 0 else ""


def _chosen(source: Path, keep: str) -> str:
    """Which of two files is taken: `py` or `ipynb`.

    Raises:
        Apart: nothing says which.
    """
    pair = source.with_suffix(".ipynb")
    if not pair.exists():
        return "py"
    if not source.exists():
        if keep != "ipynb" and _common(source):
            raise Apart(
                f"{source.name} is gone: delete {pair.name} as well, or `make notebooks KEEP=ipynb` writes the script "
                "from it"
            )
        return "ipynb"
    try:
        states = {"py": _state(_filled(source)), "ipynb": _state(_filled(pair))}
    except Apart:
        if not keep:
            raise
        return keep
    if states["py"] == states["ipynb"]:
        return "py"
    known = _common(source)
    edited = [side for side, state in states.items() if state not in known]
    if len(edited) == 1:
        return edited[0]
    if keep:
        return keep
    raise Apart(
        f"{source.name} and {pair.name} were both edited; `make notebooks KEEP=py` takes the script, KEEP=ipynb the "
        f"notebook; the other is then kept in {KEPT}"
    )


def _script(source: Path, pair: Path) -> str:
    """The percent script that has the cells of an .ipynb, below the header that the script has.

    Raises:
        Apart: a cell that a script cannot hold.
    """
    notebook = _read(pair)
    if not notebook.cells:
        raise Apart(f"{pair.name}: it has no cells; delete it: where there is a {source.name} it is written anew")
    text = source.read_text("utf-8", errors="replace") if source.exists() else ""
    header = re.split(r"^(?=# %%)", text, maxsplit=1, flags=re.MULTILINE)[0]
    for cell in notebook.cells:
        kept = ("tags", "lines_to_next_cell")  # the rest is JupyterLab's own business
        cell.metadata = {key: value for key, value in cell.metadata.items() if key in kept and value != []}
    cells = re.split(r"^(?=# %%)", jupytext.writes(notebook, fmt="py:percent"), maxsplit=1, flags=re.MULTILINE)[-1]
    written = (header if header.startswith("# ---") and not MERGE.search(header) else HEADER) + cells
    again = jupytext.reads(written, fmt="py:percent")
    for number, cell in enumerate(notebook.cells):
        if cell.get("attachments"):
            raise Apart(f"{pair.name}: cell {number + 1} holds a pasted image; save it as a file and link that")
        if _edited(again.cells[number : number + 1]) != _edited([cell]):
            raise Apart(
                f"{pair.name}: cell {number + 1} would not be the same in a script; change its first line, or a line "
                "that begins with `# %%`"
            )
    return written


def _write(file: Path, text: str, why: str) -> None:
    """Replace a file, and keep what was there."""
    if file.exists():
        old = file.read_bytes()
        files.write(KEPT / f"{file.stem}.{hashlib.sha256(old).hexdigest()[:8]}{file.suffix}", old)
    files.write(file, text)
    print(f"{file.name}: {why}")


def _join(source: Path, keep: str) -> None:
    """Make the two files of a notebook one."""
    pair, record = source.with_suffix(".ipynb"), KEPT / f"{source.stem}.sha256"
    side = _chosen(source, keep)
    if side == "ipynb":
        _write(source, _script(source, pair), f"taken from {pair.name}")
    state = _state(_read(source))
    if apart(source):
        _write(pair, clean(source), "written")
    if not record.exists() or record.read_text("utf-8") != state:
        files.write(record, state)


def together(keep: str = "") -> list[str]:
    """Make the files of every notebook one; returns what a person must decide, a line each.

    Raises:
        files.WriteError: a file cannot be written.
    """
    problems = []
    for source in _sources():
        try:
            _join(source, keep)
        except Apart as error:
            problems.append(str(error))
    return problems


def _sources() -> list[Path]:
    """The scripts that are there, and those that a numbered .ipynb asks for."""
    pairs = [file for file in params.NOTEBOOKS.glob("*.ipynb") if NUMBERED.fullmatch(file.stem)]
    return sorted({*params.NOTEBOOKS.glob("*.py"), *(pair.with_suffix(".py") for pair in pairs)})


def main() -> None:
    """Bring the two files of every notebook together."""
    parser = argparse.ArgumentParser(prog="python -m sae_utils notebooks", description=main.__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit status 1 if a pair is apart")
    parser.add_argument("--keep", choices=["py", "ipynb"], default="", help="which is taken where both were edited")
    arguments = parser.parse_args()
    if not arguments.check:
        try:
            problems = together(arguments.keep)
        except files.WriteError as error:
            problems = [str(error)]
        if problems:
            sys.exit("\n".join(f"error: {problem}" for problem in problems))
    elif names := [source.stem for source in _sources() if not source.exists() or apart(source)]:
        sys.exit(f"error: apart, or with outputs: {', '.join(names)}; `make notebooks` brings both files together")


if __name__ == "__main__":
    main()
