"""Any token of any tokenizer is printed in a table as it is."""

import re
import shutil
import subprocess
import unicodedata

import pandas as pd
import pytest

from sae_utils import profiles, report
from sae_utils.engine.core import latex

MARKS = "-'`,!?<>\"*[](){}|~^\\/.:;=+&%$#@_"
WORDS = r"""[UNK] [2cm] [-2ex] *[2cm] nan None inf -inf NA null NaN -1 -0 -10 \begin{document} \\ \end{tabular} ?` !`
##ing \par \x {} fi ffl <|endoftext|> \xe2\x80 e"""
QUOTES = "\u2013 \u2014 \u2018a\u2019 \u201cb\u201d \u201ac\u201e \u2026 \u2013- -\u2013 \u2014- -\u2014 \u22121"
ODD = [0, 1, 8, 9, 10, 12, 13, 27, 127, 0x85, 0x200B, 0x200E, 0x202E, 0x2028, 0x301, 0x5D0, 0x65E5, 0x120, 0x2581]
TOKENS = [
    *map(chr, range(33, 127)),
    *map(chr, range(0xA0, 0x100)),
    *map(chr, [*ODD, 0xE000, 0xFEFF, 0xFFFD, 0xFFFF, 0x1F98A, 0x10FFFF]),
    *(a + b for a in MARKS for b in MARKS),
    *(3 * mark for mark in MARKS),
    *WORDS.split(),
    *QUOTES.split(),
]


def test_numbers_are_numbers_and_words_are_words():
    """A token is never taken for a number, nor a missing value for a word."""
    for word in ("nan", "None", "inf", "NA", "null", "NaN", "<NA>", "1", "1.0", "true"):
        assert latex.cell(word) == latex.escape(word)
    assert [latex.cell(word) for word in ("-1", "-0", "-", "-,", "-.")] == ["-1", "-0", "-", "-,", "-."]
    assert [latex.cell(value) for value in (None, float("nan"), pd.NA, pd.NaT)] == 4 * ["n/a"]
    assert [latex.cell(value, "{:d}") for value in (float("nan"), 3, -3)] == ["n/a", "3", r"\ensuremath{-3}"]
    assert latex.cell("-0.25") == latex.cell(-0.25) == latex.cell(-0.254, "{:.2f}") == r"\ensuremath{-0.25}"
    assert latex.cell(-0.001, "{:.2f}") == latex.cell("-0.00") == "0.00"
    assert latex.number(float("nan"), "{:.0%}") == "n/a" and latex.number(float("inf")) == "inf"


def expected(token: str) -> str:
    """A token as a reader of the PDF sees it: characters that pdflatex lacks by their code point."""
    there = re.compile("[!-~\xa1-\xac\xae-\xff\u2212\u2013\u2014\u2018-\u201a\u201c-\u201e\u2026]")
    return "".join(c if there.match(c) else f"<U+{ord(c):04X}>" for c in token)


@pytest.mark.skipif(not (shutil.which("pdflatex") and shutil.which("pdftotext")), reason="LaTeX or poppler is missing")
def test_the_pdf_has_every_token(tmp_path, monkeypatch):
    """In the first cell of a row, where LaTeX takes some signs for arguments of what ended the row before."""
    monkeypatch.setattr(report, "GENERATED", tmp_path)
    out = report.Report(profiles.load("smoke"), "01_feature_matching")
    tokens, macros = list(dict.fromkeys(TOKENS)), []
    for first in range(0, len(tokens), 40):
        part = tokens[first : first + 40]
        rows = pd.DataFrame({part[0]: part, "place": [f"<{place}>" for place in range(first, first + len(part))]})
        macros.append("".join(chr(ord("a") + int(digit)) for digit in str(first)))
        out.table(macros[-1], rows)
    file = out.save()
    tables = "\\newpage\n".join(rf"\FeatureMatchingTable{macro.capitalize()}" for macro in macros)
    packages = (
        r"\usepackage{times}\usepackage[T1]{fontenc}\usepackage[utf8]{inputenc}\usepackage{amsmath,booktabs,microtype}"
    )
    (tmp_path / "t.tex").write_text(
        rf"\documentclass{{article}}{packages}\begin{{document}}\input{{smoke/{file.stem}}}{tables}\end{{document}}"
    )
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stdout[-2000:]
    command = ["pdftotext", "-layout", "t.pdf", "-"]
    text = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    text = unicodedata.normalize("NFKC", text)  # fi is one sign in print
    found = {int(row[2]): row[1] for row in re.finditer(r"^ *(\S*) +<(\d+)>$", text, re.MULTILINE)}
    wrong = {
        token: found.get(place)
        for place, token in enumerate(tokens)
        if found.get(place) != unicodedata.normalize("NFKC", expected(token)).replace(" ", "")
    }
    assert not wrong
    assert b"/Type3" not in (tmp_path / "t.pdf").read_bytes()  # a bitmap
