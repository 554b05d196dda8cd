"""Tables and sentences: columns of results, words for counts, and LaTeX that prints any text unchanged."""

import functools
import math
import re
import shutil
import subprocess
import unicodedata

import numpy as np
import pandas as pd
import pytest

from sae_utils import profiles, report, significance, tables
from sae_utils.engine import params
from tests.test_significance import shared

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
        assert tables.cell(word) == tables.escape(word)
    assert [tables.cell(word) for word in ("-1", "-0", "-", "-,", "-.")] == ["-1", "-0", "-", "-,", "-."]
    assert [tables.cell(value) for value in (None, float("nan"), pd.NA, pd.NaT)] == 4 * ["n/a"]
    assert [tables.cell(value, "{:d}") for value in (float("nan"), 3, -3)] == ["n/a", "3", r"\ensuremath{-3}"]
    assert tables.cell("-0.25") == tables.cell(-0.25) == tables.cell(-0.254, "{:.2f}") == r"\ensuremath{-0.25}"
    assert tables.cell(-0.001, "{:.2f}") == tables.cell("-0.00") == "0.00"
    assert tables.number(float("nan"), "{:.0%}") == "n/a" and tables.number(float("inf")) == "inf"


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
    out.save()
    file = out.file
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


def printed(source: str) -> str:
    """What LaTeX prints for an escaped text: the inverse of `escape`, written down apart from it."""
    names = {
        "textbackslash": "\\", "textasciicircum": "^", "textasciitilde": "~", "textless": "<", "textgreater": ">",
        "textbar": "|", "textquotedbl": '"', "textquotesingle": "'", "`": "`", '"': "¨", "=": "¯", "'": "\xb4",
    }  # fmt: skip
    pattern = r"\\([a-z]+|[`\"='])\{\}|\\([{}$&#%_])|\{([][*])\}|(?<=[-,])\{\}"
    assert not re.search(
        r"[]\\{}$&#%_^~<>|\"'`*[¨¯\xb4]|--|,,", re.sub(pattern, ".", source)
    )  # nothing special is bare
    return re.sub(pattern, lambda m: names[m[1]] if m[1] else m[2] or m[3] or "", source)


def test_every_printable_character_is_printed():
    ascii_ = "".join(map(chr, range(32, 127)))
    latin = "".join(map(chr, range(0xA1, 0x100))).replace("\xad", "")
    assert printed(tables.escape(ascii_)) == ascii_
    assert printed(tables.escape(latin)) == latin
    generator = np.random.default_rng(0)
    for _ in range(200):
        text = "".join(generator.choice(list(ascii_ + latin + "--,,[[**"), 30))
        assert printed(tables.escape(text)) == text


@pytest.mark.parametrize(
    ("character", "shown"),
    [
        ("☃", "<U+2603>"),
        ("日", "<U+65E5>"),
        ("\U0001f98a", "<U+1F98A>"),
        ("Ġ", "<U+0120>"),
        ("\n", "<U+000A>"),
        ("\xad", "<U+00AD>"),
    ],
)
def test_a_character_that_latex_lacks_is_named(character, shown):
    assert printed(tables.escape(f"a{character}b")) == f"a{shown}b"


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        ("1.50", "1.50"),
        ("0.00", "0.00"),
        ("-0.00", "0.00"),
        ("-0", "0"),
        ("-1.50", r"\ensuremath{-1.50}"),
        ("-0.01", r"\ensuremath{-0.01}"),
        ("-1,234", r"\ensuremath{-1{,}234}"),
        ("a-b", "a-b"),
        ("-", "-"),
    ],
)
def test_minus(shown, expected):
    assert tables.number(shown) == expected


def test_a_macro_has_letters_only():
    assert tables.camel("01_feature_matching") == "FeatureMatching"
    assert tables.camel("07b_sensitivity") == "Sensitivity"
    assert tables.camel("r held-out (2nd)") == "RHeldOutNd"
    assert all(re.fullmatch("[A-Za-z]+", tables.camel(notebook)) for notebook in params.notebooks())
    assert len({tables.camel(notebook) for notebook in params.notebooks()}) == len(params.notebooks())


def test_the_average_of_finite_values():
    values = np.array([1.0, np.nan, 4.0])
    assert tables.average(values) == 2.5
    assert tables.average(values, np.array([2.0, 5.0, 1.0])) == 2
    assert np.isnan(tables.average(np.full(2, np.nan)))
    assert np.isnan(tables.average(np.zeros(0)))


def test_numbers_in_words():
    assert [tables.count(n, "concept") for n in (0, 1, 2)] == ["no concept", "one concept", "two concepts"]
    assert [tables.count(n) for n in (12, 13, 1300)] == ["twelve", "13", "1,300"]


def test_counts_in_words():
    assert [tables.span(x) for x in ([], [7], [36, 1051, 40])] == ["none", "7", "36 to 1,051"]


def test_counts_name_how_many_were_tested():
    names = ["x", "y", "z"]
    assert [tables.among(names, held) for held in (names, [], ["y"])] == ["3 of 3", "0 of 3", "1 of 3"]
    assert tables.among(names, ["y"], names) == "1 of 3"
    assert tables.among(names, ["x", "other"], ["x", "z"]) == "1 of 2 tested, 1 too few"
    assert tables.among(names, [], ["z"]) == "0 of 1 tested, 2 too few"
    assert [tables.among(*few) for few in ((names, [], []), ([], ["x"]))] == ["none tested, 3 too few", "none tested"]


def test_the_columns_of_a_result():
    x, y = shared(0)
    result = significance.test(x, y, ["rsa_pearson"], m=19)["rsa_pearson"]
    columns = tables.columns(result)
    assert (columns["observed"], columns["null SD"], columns["z"], columns["p"]) == (
        result.observed, result.null_sd, result.z, result.p,
    )  # fmt: skip
    assert tables.columns(result, 0.5) == columns | {"p": 0.5}
    nothing = tables.columns(None)
    assert list(nothing) == list(columns) and all(np.isnan(value) for value in nothing.values())
    frame = pd.DataFrame([{"n": 1200, "units": "neurons", **columns}])
    assert tables.formats(frame).keys() == {"n", *columns}
    assert tables.formats(frame)["n"].format(1200) == "1,200"


@pytest.mark.parametrize(("interval", "words"), [((0.1, 0.2), "lies above 0"), ((-0.2, -0.1), "lies below 0"),
                                                ((-0.1, 0.1), "includes 0"), ((0.0, 0.1), "includes 0")])  # fmt: skip
def test_an_interval_against_zero(interval, words):
    assert tables.against_zero(*interval) == words


def test_the_screen_shows_formatted_digits_and_escaped_text():
    frame = pd.DataFrame({"<b>": ["<script>", None], "r": [0.12345, math.nan], "n": [1234567, 2]})
    shown = tables.on_screen(frame, {"r": "{:.2f}", "n": "{:,}"}).to_html()
    assert "&lt;script&gt;" in shown and "&lt;b&gt;" in shown and "<script>" not in shown
    assert ">0.12<" in shown and ">1,234,567<" in shown and shown.count(">n/a<") == 2


def test_times_chance_needs_a_null_that_is_told_from_0():
    draws = np.array([0.1, 0.3])
    of = functools.partial(significance.summarise, 0.5, measure="m", null="n", n=9)
    assert tables.times_chance(of(draws)) == pytest.approx(0.5 / 0.2)
    assert math.isnan(tables.times_chance(of(draws - 0.2)))
    assert math.isnan(tables.times_chance(significance.undefined("few", measure="m", null="n", n=1, m=9)))
