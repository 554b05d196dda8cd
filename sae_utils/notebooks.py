"""Keeps every notebook's two files one: the percent script is the source, the .ipynb beside it has no outputs.

In: `notebooks/*.py` and `*.ipynb`. Out: both, with the same cells.
Never: execution; an edit lost (of two files that differ, the one saved last is kept).

`python -m sae_utils.notebooks` writes what differs; with `--check` it only says so.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import jupytext
import nbformat

from sae_utils import params


def clean(source: Path) -> str:
    """The .ipynb of a percent script: no outputs, cell ids by position, the same bytes each time."""
    notebook = jupytext.read(source)
    notebook.metadata.get("jupytext", {}).pop("main_language", None)
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
    return str(nbformat.writes(notebook, version=4)) + "\n"


def differ(source: Path) -> bool:
    """Whether the cells of a percent script and of its .ipynb differ."""
    pair = source.with_suffix(".ipynb")
    if not pair.exists():
        return True
    mine, yours = jupytext.read(source), jupytext.read(pair)
    return [(c.cell_type, c.source) for c in mine.cells] != [(c.cell_type, c.source) for c in yours.cells]


def apart(source: Path) -> bool:
    """Whether the .ipynb of a percent script is missing, or anything but what `clean` gives."""
    pair = source.with_suffix(".ipynb")
    return not pair.exists() or pair.read_text("utf-8") != clean(source)


def together() -> None:
    """Write of every pair what differs, from the one saved last."""
    for source in sorted(params.NOTEBOOKS.glob("*.py")):
        pair = source.with_suffix(".ipynb")
        if pair.exists() and differ(source) and pair.stat().st_mtime > source.stat().st_mtime:
            # the header stays: jupytext would add its version to it
            header, first, _ = source.read_text("utf-8").partition("\n# %%")
            taken = jupytext.writes(jupytext.read(pair), fmt="py:percent").partition(first)[2]
            source.write_text(header + first + taken, "utf-8")
            print(f"{source.name}: taken from {pair.name}, which was saved later")
        if apart(source):
            pair.write_text(clean(source), "utf-8")
            print(f"{pair.name}: written")


def main() -> None:
    """Bring the two files of every notebook together."""
    parser = argparse.ArgumentParser(prog="python -m sae_utils.notebooks", description=main.__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit status 1 if a pair is apart")
    if not parser.parse_args().check:
        together()
    elif names := [source.stem for source in sorted(params.NOTEBOOKS.glob("*.py")) if apart(source)]:
        sys.exit(f"error: apart, or with outputs: {', '.join(names)}; `make notebooks` brings both files together")


if __name__ == "__main__":
    main()
