"""Results as tables and words: columns, number formats, counts in words, and LaTeX.

In: `significance.Result`s, numbers, plain text. Out: columns of a table, words for a sentence, LaTeX source.
Never: a score; unescaped markup.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from sae_utils import inference, nulls
from sae_utils.significance import Result

if TYPE_CHECKING:
    from pandas.io.formats.style import Styler

FORMATS = {
    **dict.fromkeys(("observed", "null", "null mean", "null SD", "excess", "p", "family", "Holm"), "{:.3f}"),
    **dict.fromkeys(("held out", "r held out", "at one n", "at small n", "relative", "both", "can move"), "{:.2f}"),
    **dict.fromkeys(("times chance", "z"), "{:.1f}"),
    "n": "{:,}",
}
"""how tables print the columns of these names"""

SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\textquotedbl{}", "'": r"\textquotesingle{}",
    "`": r"\`{}", "\xa8": r"\"{}", "\xaf": r"\={}", "\xb4": r"\'{}",  # accents of T1: the symbols come as bitmaps
    "[": "{[}", "]": "{]}", "*": "{*}",  # LaTeX takes them for arguments of \\
    # a visible space, a minus sign, dashes, quotation marks, an ellipsis
    "\u2423": r"\textvisiblespace{}", "\u2212": r"\ensuremath{-}", "\u2013": r"\textendash{}",
    "\u2014": r"\textemdash{}", "\u2018": r"\textquoteleft{}", "\u2019": r"\textquoteright{}",
    "\u201c": r"\textquotedblleft{}", "\u201d": r"\textquotedblright{}", "\u201a": r"\quotesinglbase{}",
    "\u201e": r"\quotedblbase{}", "\u2026": r"\textellipsis{}",
}  # fmt: skip
NUMBERS = "no one two three four five six seven eight nine ten eleven twelve".split()
MISSING = ("None", "nan", "NaT", "<NA>")  # how missing values print
PLAIN = re.compile(r"[ -~\xa1-\xac\xae-\xff]")  # characters that pdflatex prints unchanged; U+00AD may not show


# --- columns of results


def columns(result: Result | None, p: float | None = None) -> dict[str, float]:
    """The columns of a table for one score, NaN where there is none; `p`, e.g. a corrected one, replaces its own."""
    if result is None:
        return dict.fromkeys(("observed", "null", "null SD", "excess", "z", "p"), math.nan)
    return {
        "observed": result.observed, "null": result.null_mean, "null SD": result.null_sd, "excess": result.excess,
        "z": result.z, "p": result.p if p is None else p,
    }  # fmt: skip


def times_chance(result: Result) -> float:
    """Observed over the null mean; NaN where the null mean is not told from 0, as it lies within its own SD."""
    return result.observed / result.null_mean if result.null_mean > result.null_sd else math.nan


def formats(frame: pd.DataFrame) -> dict[str, str]:
    """Formats of the columns of a frame whose names are in `FORMATS`."""
    return {name: form for name, form in FORMATS.items() if name in frame}


def hub_size(result: Result) -> str:
    """A note for a table where p is too small because hub size goes with geometry (`nulls.reassigned`), else ""."""
    return "goes with geometry" if nulls.RELATED in result.note else ""


def average(values: np.ndarray, weights: np.ndarray | None = None) -> float:
    """The mean of the finite values, weighted if weights are given; NaN where there are none."""
    finite = np.isfinite(values)
    if not finite.any():
        return math.nan
    return float(np.average(values[finite], weights=None if weights is None else weights[finite]))


# --- words for a sentence


def yes(truth: bool) -> str:
    """ "yes" or "no", which the conditionals of the paper read."""
    return "yes" if truth else "no"


def against_zero(low: float, high: float) -> str:
    """Where an interval lies: above 0, below 0, or across it."""
    return "lies above 0" if low > 0 else "lies below 0" if high < 0 else "includes 0"


def count(n: int, noun: str = "") -> str:
    """A number in words, up to twelve, with its noun: "no concept", "one concept", "two concepts", "1,300 concepts"."""
    numeral = NUMBERS[n] if n < len(NUMBERS) else f"{n:,}"
    return f"{numeral} {noun}{'s' if n > 1 else ''}" if noun else numeral


def span(counts: Iterable[int]) -> str:
    """The range of some counts: "36 to 51", "36" where all are equal, "none" where there are none."""
    found = list(counts)
    if not found:
        return "none"
    low, high = min(found), max(found)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def among(names: Collection[Any], holding: Collection[Any], tested: Collection[Any] | None = None) -> str:
    """How many of `names` are in `holding`, of those in `tested`: "2 of 3", "0 of 3", "2 of 3 tested, 1 too few".

    What is not tested had too few pairs of features. Without any that is, it is "none tested".
    """
    asked = [name for name in names if tested is None or name in tested]
    few = f", {len(names) - len(asked)} too few" if len(asked) < len(names) else ""
    if not asked:
        return "none tested" + few
    return f"{sum(name in holding for name in asked)} of {len(asked)}" + (f" tested{few}" if few else "")


# --- LaTeX


def escape(text: str) -> str:
    """LaTeX that prints the text literally; characters that pdflatex lacks print as <U+2603>."""
    shown = (c if PLAIN.match(c) or c in SPECIAL else f"<U+{ord(c):04X}>" for c in text)
    source = "".join(SPECIAL.get(c, c) for part in shown for c in part)
    return re.sub(r"([-,])(?=\1)", r"\1{}", source)  # -- and ,, would print as one sign


def number(value: Any, form: str = "{}") -> str:
    """LaTeX that prints a number in the format `form`; None and NaN print as n/a."""
    return _minus(escape(_shown(value, form)))


def _shown(value: Any, form: str) -> str:
    """A number in a format: n/a for None and NaN, no sign before zeros; without a format whole numbers as such."""
    if str(value) in MISSING:
        return "n/a"
    text = form.format(int(value) if form == "{}" and isinstance(value, float) and value.is_integer() else value)
    return text[1:] if re.fullmatch(r"-0(\.0+)?%?", text) else text


def cell(value: Any, form: str = "{}") -> str:
    """LaTeX that prints a value of a table: text as `escape` ("nan" and "-1" are text), other values as `number`.

    Text that looks like a rounded negative number, such as "-0.25", gets a true minus sign.
    """
    if not isinstance(value, str):
        return number(value, form)
    return _minus(escape(value)) if re.fullmatch(r"-\d[\d,]*\.\d+", value) else escape(value)


def verdict_row(question: str, numbers: Sequence[str], n: int, would_be_no: str, word: str) -> list[str]:
    """LaTeX of the cells of one verdict, which is the last.

    `numbers`: LaTeX of the estimate, of both ends of its interval, and of d.
    """
    estimate, low, high, d = numbers
    asked, no = (rf"{{\raggedright {escape(text)}\par}}" for text in (question, would_be_no))
    return [asked, estimate, f"{low} to {high}", f"{n:,}", d, no, word]


def verdicts(rows: Sequence[Sequence[str]]) -> str:
    """LaTeX of a table of verdicts (`verdict_row`), and below how many of them may be expected to be false."""
    names = ["question", "estimate", "interval", "$n$", "$d$", "would be a no", "verdict"]
    tested = sum(row[-1] != "not tested" for row in rows)
    few = f"{inference.false_at_most(tested):.2g}"
    note = f"Not adjusted for their number: of {tested:,} verdicts, at most {few} are expected to be false."
    styled = pd.DataFrame(rows, columns=names).style.hide(axis="index")
    body: str = styled.to_latex(hrules=True, column_format="p{3.6cm}rrrrp{4cm}l").strip()
    return body.replace(r"\bottomrule", rf"\midrule\multicolumn{{7}}{{l}}{{{note}}} \\ \bottomrule")


def on_screen(frame: pd.DataFrame, forms: Mapping[str, str]) -> Styler:
    """The frame as a notebook shows it: numbers in the formats of their columns, text escaped, no index."""

    def plain(form: str) -> Callable[[Any], str]:
        return lambda value: value if isinstance(value, str) and value not in MISSING else _shown(value, form)

    shown: dict[Any, Any] = {column: plain(forms.get(str(column), "{}")) for column in frame}
    styled = frame.style.format(shown, escape="html").format_index(escape="html", axis="columns")
    return styled.hide(axis="index")


def camel(name: str) -> str:
    """The name in letters only, as LaTeX macros want it: `01_feature_matching` -> `FeatureMatching`.

    The number of a notebook goes with the letter that follows it: `07b_sensitivity` -> `Sensitivity`.
    """
    return "".join(word.capitalize() for word in re.split(r"[^A-Za-z]+", re.sub(r"^\d+[a-z]_", "", name)))


def _minus(shown: str) -> str:
    """A negative number with a true minus sign; a rounded zero without any."""
    if not re.fullmatch(r"-[\d.,]+", shown):
        return shown
    return rf"\ensuremath{{{shown.replace(',', '{,}')}}}" if re.search("[1-9]", shown) else shown[1:]
