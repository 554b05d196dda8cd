"""The LaTeX of saved results, read back as plain text and tables.

In: macros that `report` wrote. Out: text as a reader of the PDF sees it; tables as rows of such text.
Never: LaTeX of another origin; markup in what it returns.
"""

import re
from typing import NamedTuple

from sae_utils.tables import SPECIAL

_SIGNS = {source: sign for sign, source in SPECIAL.items()} | {r"\{": "{", r"\}": "}", "{}": ""}
_NUMBER = r"\\ensuremath\{-([\d.{},]+)\}"  # a negative number, its commas in braces
_TOKEN = re.compile("|".join(map(re.escape, sorted(_SIGNS, key=len, reverse=True))) + rf"|{_NUMBER}")
_WRAPPED = re.compile(r"\{\\raggedright (.*)\\par\}", re.DOTALL)
_MISSING = re.compile(r"<U\+([0-9A-F]{4,6})>")  # a character that pdflatex lacks
_TABLE = re.compile(r"\\begin\{tabular\}\{(.*?)\}\n\\toprule\n(.*?)\\bottomrule\n\\end\{tabular\}", re.DOTALL)
_NOTE = re.compile(r"\\midrule\\multicolumn\{\d+\}\{l\}\{(.*)\} \\\\ $", re.DOTALL)


class Table(NamedTuple):
    """A table of the paper, as text."""

    columns: list[str]
    rows: list[list[str]]
    numeric: list[bool]  # whether a column is aligned to the right
    note: str  # below the table


def plain(source: str) -> str:
    """The text that LaTeX of `tables.escape` or `tables.number` prints, with a true minus sign."""
    found = _WRAPPED.fullmatch(source.strip())
    text = _TOKEN.sub(_sign, found[1] if found else source)
    return _MISSING.sub(lambda x: _character(int(x[1], 16)), text)


def _sign(found: re.Match[str]) -> str:
    return "\u2212" + found[1].replace("{,}", ",") if found[1] else _SIGNS[found[0]]


def _character(code: int) -> str:
    known = code < 0x110000 and chr(code).isprintable()
    return chr(code) if known else f"<U+{code:04X}>"


def table(source: str) -> Table | None:
    """The table that LaTeX of `Report.table` or `tables.verdicts` sets; None where it sets none."""
    if not (found := _TABLE.search(source)):
        return None
    head, _, body = found[2].partition("\\midrule\n")
    note = _NOTE.search(body)
    body = body[: note.start()] if note else body
    rows = [_cells(line) for line in re.split(r" \\\\ *\n", body) if line.strip()]
    align = re.sub(r"p\{.*?\}", "l", found[1] + "}")
    return Table(
        _cells(head.strip().removesuffix("\\\\")), rows, [x == "r" for x in align if x in "lr"],
        plain(note[1]) if note else "",
    )  # fmt: skip


def _cells(line: str) -> list[str]:
    return [plain(cell.strip()) for cell in re.split(r"(?<!\\)&", line)]
