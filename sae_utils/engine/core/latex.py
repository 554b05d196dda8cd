"""Text and numbers as LaTeX takes them.

In: plain text. Out: LaTeX source that prints it.
Never: markup let through.
"""

from __future__ import annotations

import re
from typing import Any

SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\textquotedbl{}", "'": r"\textquotesingle{}",
    "`": r"\`{}", "\xa8": r"\"{}", "\xaf": r"\={}", "\xb4": r"\'{}",  # accents of T1: the symbols come as bitmaps
    "[": "{[}", "]": "{]}", "*": "{*}",  # after \\ they would be its arguments
    # a visible space, a minus sign, dashes, quotation marks, an ellipsis
    "\u2423": r"\textvisiblespace{}", "\u2212": r"\ensuremath{-}", "\u2013": r"\textendash{}",
    "\u2014": r"\textemdash{}", "\u2018": r"\textquoteleft{}", "\u2019": r"\textquoteright{}",
    "\u201c": r"\textquotedblleft{}", "\u201d": r"\textquotedblright{}", "\u201a": r"\quotesinglbase{}",
    "\u201e": r"\quotedblbase{}", "\u2026": r"\textellipsis{}",
}  # fmt: skip
MISSING = ("None", "nan", "NaT", "<NA>")  # how values that were not measured print
PLAIN = re.compile(r"[ -~\xa1-\xac\xae-\xff]")  # what pdflatex prints as it is; U+00AD is a hyphen that may not show


def escape(text: str) -> str:
    """Text as LaTeX prints it, sign for sign; characters that it lacks appear as their code point, e.g. <U+2603>."""
    shown = (c if PLAIN.match(c) or c in SPECIAL else f"<U+{ord(c):04X}>" for c in text)
    source = "".join(SPECIAL.get(c, c) for part in shown for c in part)
    return re.sub(r"([-,])(?=\1)", r"\1{}", source)  # -- and ,, would be one sign


def number(value: Any, form: str = "{}") -> str:
    """A number as LaTeX prints it, formatted as `form` says; what was not measured (None, NaN) as n/a."""
    return "n/a" if str(value) in MISSING else minus(escape(form.format(value)))


def cell(value: Any, form: str = "{}") -> str:
    """A value of a table as LaTeX prints it: words as they are ("nan" and "-1" are words), numbers as `number`.

    Text that has the form of a rounded number, such as "-0.25", is one.
    """
    if not isinstance(value, str):
        return number(value, form)
    return minus(escape(value)) if re.fullmatch(r"-\d[\d,]*\.\d+", value) else escape(value)


def minus(shown: str) -> str:
    """A negative number with a true minus sign; a rounded zero without any."""
    if not re.fullmatch(r"-[\d.,]+", shown):
        return shown
    return rf"\ensuremath{{{shown.replace(',', '{,}')}}}" if re.search("[1-9]", shown) else shown[1:]


def camel(name: str) -> str:
    """`01_feature_matching` -> `FeatureMatching`: letters only, as a LaTeX macro wants."""
    return "".join(word.capitalize() for word in re.split(r"[^A-Za-z]+", name))
