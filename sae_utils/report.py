"""The saved results of a notebook: figures, one LaTeX file of numbers, texts and tables, and the numbers as JSON.

In: values computed in a notebook. Out: `figures/<profile>/<notebook>-<name>.{pdf,png}`, and in
`paper/generated/<profile>/` `<notebook>.{tex,json}` and `<notebook>-<table>.csv`; the same bytes for the same inputs.
Never: a number typed by hand; unescaped text in LaTeX.

The JSON holds every number unformatted with its standard error, and every verdict, by macro: `python -m sae_utils
results` compares two builds by it. A CSV holds a table of the paper with all its digits. The LaTeX file holds digests
of itself, of the JSON, of the CSVs and of the figures.
"""

from __future__ import annotations

import ast
import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
import pandas as pd

from sae_utils import inference, tables
from sae_utils.engine.chance.intervals import LEAST
from sae_utils.engine.core import files
from sae_utils.engine.core.sources import REPOSITORY, code_digest, digest
from sae_utils.engine.params import PARAMS, Profile, script
from sae_utils.inference import Interval, Replicated
from sae_utils.tables import camel, cell, escape, number

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas.io.formats.style import Styler

GENERATED = REPOSITORY / "paper" / "generated"
FIGURES = REPOSITORY / "figures"
STYLE = {
    "pdf.fonttype": 42,  # embedded TrueType; type 3 is refused by many venues
    "svg.hashsalt": "sae-utils",
    "figure.constrained_layout.use": True,
    "figure.dpi": 110,
    "savefig.dpi": 200,
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}
DIGITS = 9  # significant ones of a float in the JSON
# what notebooks read besides code and profile
DATA = [PARAMS / "concepts.yaml", PARAMS / "published_layer_scores.csv"]
PAIRED, NULL = "#0173b2", "#949494"  # of seaborn's colour-blind palette; the same two in every figure
COLORS = (PAIRED, "#de8f05", "#029e73", "#d55e00", "#cc78bc", "#ca9161")  # of the same palette, in its order


def style() -> None:
    """Set the one style of all figures."""
    import seaborn as sns

    sns.set_palette("colorblind")
    matplotlib.rcParams.update(STYLE)


def bands(widths: Mapping[str, int], *, across: int = 4) -> tuple[Figure, dict[str, Any]]:
    """A figure of two panels a name, one above the other; more than `across` names continue in another band below.

    `widths`: name -> relative width of its panels. Returns the figure and, by name, its upper and lower axes.
    """
    import matplotlib.pyplot as plt

    names = list(widths)
    rows = [names[start : start + across] for start in range(0, len(names), across)]
    widest = max(sum(widths[name] for name in row) for row in rows)
    figure = plt.figure(figsize=(6.0, 2.9 * len(rows)))
    axes: dict[str, Any] = {}
    for row, part in zip(rows, figure.subfigures(len(rows), 1, squeeze=False)[:, 0], strict=True):
        rest = widest - sum(widths[name] for name in row)
        ratios = [*(widths[name] for name in row), *([rest] if rest else [])]
        made = part.subplots(2, len(ratios), width_ratios=ratios, squeeze=False)
        for axis in made[:, len(row) :].ravel():
            axis.set_axis_off()
        axes |= dict(zip(row, made.T, strict=False))
    return figure, axes


def band(axis: Any, frame: pd.DataFrame, x: str, y: str, **style: Any) -> None:
    """Draw the mean of `y` over replicates, the rows of equal `x`, as a line with its 95% interval as a band."""
    along = {at: inference.over_replicates(part[y]) for at, part in frame.groupby(x, sort=False)}
    axis.plot(list(along), [found.estimate for found in along.values()], markersize=2, linewidth=1, **style)
    low, high = ([getattr(found, end) for found in along.values()] for end in ("low", "high"))
    axis.fill_between(list(along), low, high, color=style.get("color"), alpha=0.15, linewidth=0)


class Report:
    """Collects the results of one notebook and saves them together.

    Macros are named after the notebook: in `01_feature_matching` the number `pairs` becomes `\\FeatureMatchingPairs`.
    """

    def __init__(self, profile: Profile, notebook: str) -> None:
        style()
        self.profile, self.notebook = profile, notebook
        self._macros: dict[str, str] = {}
        self._numbers: dict[str, dict[str, float | None]] = {}
        self._verdicts: dict[str, dict[str, float | str | None]] = {}  # macro -> estimate, ends, d, word
        self._rows: list[list[str]] = []  # of the table of verdicts
        self._drawn: dict[str, str] = {}
        self._tables: dict[str, str] = {}  # CSV -> digest
        self._header = header(profile, notebook)  # of the code that is loaded, not of a later edit

    def _define(self, name: str, content: str) -> str:
        """Define a macro, and return its name."""
        macro = camel(self.notebook) + camel(name)
        if macro in self._macros:
            raise ValueError(f"{self.notebook}: {name!r} is reported twice")
        self._macros[macro] = content
        return macro

    def number(self, name: str, value: float, form: str = "{:.2f}", se: float | None = None) -> None:
        """A number for the text, formatted as `form` says; a negative one gets a true minus sign, NaN is n/a.

        `se`: its standard error over replicates, documents or shuffles, by which another build is compared.
        """
        self._numbers[self._define(name, number(value, form))] = {"value": rounded(value), "se": rounded(se)}

    def text(self, name: str, value: str) -> None:
        """Text for the paper: a verdict that follows from the numbers."""
        self._define(name, escape(value))

    def verdict(
        self, name: str, question: str, found: Interval[float] | Replicated, d: float, would_be_no: str,
        tested: bool | None = None, form: str = "{:.3f}",
    ) -> inference.Verdict:  # fmt: skip
        """The verdict on `found` by the threshold `d` of its scale, which it returns.

        Writes the macros `<Name>`, `<Name>Low`, `<Name>High` (as `form` says) and `<Name>Verdict`, and a row of the
        macro `...TableVerdicts`. `would_be_no`: what would count as a no. `tested`: False after a control without a
        yes (`inference.in_order`); the verdict is then "not tested", as it is below three replicates or without `d`.
        """
        n = found.n if isinstance(found, Replicated) else found.units
        untested = tested is False or math.isnan(d) or (isinstance(found, Replicated) and n < LEAST)
        word: inference.Verdict = "not tested" if untested else inference.verdict(found.low, found.high, d)
        shown = [number(value, form) for value in (found.estimate, found.low, found.high, d)]
        values = {"estimate": found.estimate, "se": found.se, "low": found.low, "high": found.high, "n": n, "d": d}
        macro = self._define(name, shown[0])
        for end, content in zip(("low", "high", "verdict"), (*shown[1:3], word), strict=True):
            self._define(f"{name} {end}", content)
        self._verdicts[macro] = {key: rounded(value) for key, value in values.items()} | {"word": word}
        self._rows.append(tables.verdict_row(question, shown, n, would_be_no, word))
        return word

    def table(self, name: str, frame: pd.DataFrame, formats: dict[str, str] | None = None) -> Styler:
        """A table of the paper (booktabs), as macro `...Table<Name>`, and as CSV; returns it as the screen shows it.

        Without rows (and perhaps columns) it states that there were too few.
        """
        if frame.empty:
            frame, formats = pd.DataFrame({"result": ["none: too few pairs or features"]}), {}
        forms = formats or {}
        shown = pd.DataFrame(
            {escape(str(x)): [cell(value, forms.get(str(x), "{}")) for value in frame[x]] for x in frame.columns}
        )
        align = "".join("r" if pd.api.types.is_numeric_dtype(frame[column]) else "l" for column in frame)
        self._define(f"table {name}", shown.style.hide(axis="index").to_latex(hrules=True, column_format=align).strip())
        file = GENERATED / self.profile.name / f"{self.notebook}-{name.replace(' ', '_')}.csv"
        files.write(file, frame.to_csv(index=False, float_format=f"%.{DIGITS}g", lineterminator="\n"))
        self._tables[file.name] = fingerprint(file)
        return tables.on_screen(frame, forms)

    def figure(self, name: str, figure: Figure) -> None:
        """Save a figure as PDF (for the paper) and PNG (for people)."""
        made = f"{self.notebook}, parameters {self.profile.digest(self.notebook)}"
        for ending, metadata in (
            ("pdf", {"CreationDate": None, "Subject": made}),
            ("png", {"Software": None, "Comment": made}),
        ):
            file = FIGURES / self.profile.name / f"{self.notebook}-{name}.{ending}"
            with files.draft(file) as draft:
                figure.savefig(draft, format=ending, metadata=metadata)
            self._drawn[file.name] = fingerprint(file)

    def absent(self, part: str, why: str) -> None:
        """Report a part of the study that this edition leaves out, as `...<Part>Absent`; `why` names its contents.

        Names that begin with `part` need not be reported then: figures show the sentence, and `typeset` prints a
        dash for other macros of the paper. `part` is "" for the whole study.
        """
        import matplotlib.pyplot as plt

        title = " ".join(self.notebook.split("_")[1:]).capitalize()
        line = f"Not in this edition, which has {why}." if part else f"{title}: not in this edition, which has {why}."
        self._define(f"{part} absent", escape(line))
        for name in _figure_names(self.notebook):
            if name.startswith(part):
                figure = plt.figure(figsize=(4.5, 0.4))
                figure.text(0.5, 0.5, line, ha="center", va="center", wrap=True)
                self.figure(name, figure)
                plt.close(figure)

    def needs(self, given: object, why: str) -> None:
        """End the notebook successfully if `given` is empty: the profile leaves out the study."""
        if not given:
            self.absent("", why)
            self.save()
            print(f"not in this edition, which has {why}")
            raise SystemExit

    @property
    def file(self) -> Path:
        """The LaTeX file, beside which the JSON lies."""
        return GENERATED / self.profile.name / f"{self.notebook}.tex"

    def save(self) -> None:
        """Write the LaTeX file and the JSON, at the end of the notebook."""
        if self._rows:
            self._define("table verdicts", tables.verdicts(self._rows))
        file = self.file
        values = file.with_suffix(".json")
        found = {"numbers": self._numbers, "verdicts": self._verdicts}
        files.write(values, json.dumps(found, indent=1, allow_nan=False) + "\n")
        lines = [f"% numbers {values.name}: {fingerprint(values)}"]
        lines += [f"% table {name}: {sha}" for name, sha in sorted(self._tables.items())]
        lines += [f"% drew {name}: {sha}" for name, sha in sorted(self._drawn.items())]
        lines += [rf"\newcommand{{\{macro}}}{{{content}}}" for macro, content in self._macros.items()]
        body = "".join(f"{line}%\n" for line in lines)
        files.write(file, f"{self._header}%\n% content {_seal(self._header, body)}%\n{body}")


def rounded(value: float | None) -> float | None:
    """A number of the JSON: an integer as it is, a float to `DIGITS` digits; None where it is missing or infinite."""
    if value is None or not math.isfinite(value):
        return None
    return int(value) if isinstance(value, int | np.integer) else float(f"{value:.{DIGITS}g}") + 0.0  # no -0.0


def _figure_names(notebook: str) -> list[str]:
    """Names of the figures that a notebook saves: the first arguments of its calls of `out.figure`."""
    calls = (node for node in ast.walk(ast.parse(script(notebook).read_text("utf-8"))) if isinstance(node, ast.Call))
    names = [call.args[0] for call in calls if ast.unparse(call.func) == "out.figure"]
    return [name.value for name in names if isinstance(name, ast.Constant) and isinstance(name.value, str)]


def header(profile: Profile, notebook: str) -> str:
    """The first line of a saved file: digests of the parameters, code and data that make it."""
    corpora = [profile.corpus, *map(profile.training_corpus, profile.models)]
    tables = sorted({table for corpus in corpora for table in corpus.tables})
    code = hashlib.sha256((code_digest(script(notebook)) + digest([*tables, *DATA])).encode()).hexdigest()[:12]
    return f"% written by notebooks/{notebook}.py; parameters {profile.digest(notebook)}; code {code}"


def read(file: Path) -> tuple[str, str, str]:
    """Header, digest and content of a saved LaTeX file; empty if there is none."""
    text = _text(file) if file.is_file() else ""
    first, _, rest = text.partition("%\n")
    seal, _, body = rest.partition("%\n")
    return first, seal.removeprefix("% content "), body


def fingerprint(file: Path) -> str:
    """Digest of a saved file, which the LaTeX file of its notebook records; line endings do not matter."""
    if not file.is_file():
        return "missing"
    if file.suffix == ".tex":
        first, _, body = read(file)
        return _seal(first, body)
    if file.suffix in (".json", ".csv"):
        return hashlib.sha256(_text(file).encode()).hexdigest()[:12]
    return digest([file])[:12]


def _text(file: Path) -> str:
    return file.read_text("utf-8", errors="replace")


def _seal(first: str, body: str) -> str:
    return hashlib.sha256(f"{first}%\n{body}".encode()).hexdigest()[:12]
