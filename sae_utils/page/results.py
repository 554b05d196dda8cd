"""The saved results of a profile, notebook by notebook, as a page shows them.

In: a checked profile; `paper/generated/<profile>/` and `figures/<profile>/`. Out: a `Study` for every notebook, also
for those without results, with the reason.
Never: a number that no notebook wrote; a result without a word on its age.
"""

import base64
import io
import re
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from sae_utils import report
from sae_utils.engine import params
from sae_utils.engine.params import Profile
from sae_utils.page import latex
from sae_utils.page.latex import Table
from sae_utils.tables import camel

TOPICS = {
    "Quality of models and SAEs": ("00",),
    "Pairs": ("01", "02"),
    "Similarity scores and their nulls": ("01c", "03", "07b", "11"),
    "Controls": ("07",),
    "Function": ("08", "09"),
    "Concepts": ("05",),
    "Neurons": ("04",),
    "Shapes of the feature spaces": ("10",),
    "Training": ("13",),
    "What the procedure finds where the truth is known": ("06", "12"),
}
"""title of a part of the page -> numbers of its notebooks; the longest that a name begins with counts"""
MACRO = re.compile(r"^\\newcommand\{\\([A-Za-z]+)\}\{(.*?)\}%$", re.MULTILINE | re.DOTALL)
SHOWN = 0.55  # pixels on the page a pixel of a saved figure: 110 of 200 an inch, as `report.STYLE` says
COLORS = 64  # of an embedded figure, which makes it a quarter of its size


class Verdict(NamedTuple):
    """A question with its three-valued answer, as text."""

    question: str
    estimate: str
    interval: str
    n: str
    d: str
    would_be_no: str
    word: str  # yes, no, undetermined, not tested


class Figure(NamedTuple):
    """A figure of a notebook."""

    name: str
    source: str  # data: URI of a PNG
    width: int  # on the page, in pixels


class Study(NamedTuple):
    """A notebook and what it found."""

    name: str
    title: str
    question: str
    would_be_no: str
    verdicts: list[Verdict]
    note: str  # below the verdicts
    tables: list[tuple[str, Table]]  # by name
    figures: list[Figure]
    absent: list[str]  # sentences on what this edition leaves out
    state: str  # why results are missing or may be out of date, or ""

    @property
    def asked(self) -> list[tuple[str, Verdict]]:
        """The verdicts, each without a notebook to link to."""
        return [("", verdict) for verdict in self.verdicts]

    @property
    def empty(self) -> bool:
        """Whether there is nothing to show."""
        return not (self.verdicts or self.tables or self.figures)


def studies(profile: Profile) -> list[Study]:
    """Every notebook of a profile, in reading order."""
    return [_study(profile, notebook) for notebook in params.notebooks()]


def by_topic(found: list[Study]) -> dict[str, list[Study]]:
    """Studies by the title of their part of the page."""
    return {title: [x for x in found if topic(x.name) == title] for title in TOPICS}


def topic(notebook: str) -> str:
    """The part of the page in which a notebook stands. Raises KeyError for a number that no part has."""
    starts = {start: title for title, numbers in TOPICS.items() for start in numbers if notebook.startswith(start)}
    return starts[max(starts, key=len)]


def _study(profile: Profile, notebook: str) -> Study:
    header, _, body = report.read(report.GENERATED / profile.name / f"{notebook}.tex")
    macros = dict(MACRO.findall(body))
    title, question, no = described(params.script(notebook).read_text("utf-8"))
    own = camel(notebook)
    tables = {name: made for name, source in macros.items() if (made := latex.table(source))}
    verdicts = tables.pop(f"{own}TableVerdicts", None)
    absent = [latex.plain(text) for name, text in macros.items() if name.endswith("Absent")]
    return Study(
        notebook, title, question, no, [Verdict(*row) for row in verdicts.rows] if verdicts else [],
        verdicts.note if verdicts else "",
        [(_words(name.removeprefix(f"{own}Table")), made) for name, made in tables.items()],
        [] if f"{own}Absent" in macros else figures(profile.name, notebook), absent,
        state(profile, notebook, header),
    )  # fmt: skip


def state(profile: Profile, notebook: str, header: str) -> str:
    """Why a notebook has no results, or results of other code or parameters; empty if they are of today's."""
    if not header:
        return "This notebook was not run for this profile."
    if header != report.header(profile, notebook):
        return "These results are older than the code, the parameters or the libraries; run the notebook again."
    return ""


def described(script: str) -> tuple[str, str, str]:
    """Title, question, and what would count as a no, from the first cell of a notebook's percent script."""
    cell = script.partition("# %% [markdown]\n")[2].partition("\n# %%")[0]
    text = re.sub(r"^# ?", "", cell, flags=re.MULTILINE)
    title = re.search(r"^# (.+)$", text, re.MULTILINE)
    return title[1] if title else "", _paragraph(text, "Question"), _paragraph(text, "What would count as a no")


def _paragraph(text: str, name: str) -> str:
    found = re.search(rf"\*\*{name}\.\*\*(.*?)(\n\n|\*\*|\Z)", text, re.DOTALL)
    return re.sub(r"[*`$]|\s+(?=\s)", "", found[1]).replace("\n", " ").strip() if found else ""


def _words(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", " ", name).lower()


def figures(profile: str, notebook: str) -> list[Figure]:
    """The figures that a notebook drew."""
    found = sorted((report.FIGURES / profile).glob(f"{notebook}-*.png"))
    return [embedded(file, file.stem.removeprefix(f"{notebook}-").replace("-", " ")) for file in found]


def embedded(file: Path, name: str) -> Figure:
    """A PNG of the notebooks in `COLORS` colours, as wide as a notebook shows it."""
    made = io.BytesIO()
    with Image.open(file) as image:
        width = round(image.width * SHOWN)
        image.convert("RGB").quantize(COLORS, dither=Image.Dither.NONE).save(made, "PNG", optimize=True)
    return Figure(name, "data:image/png;base64," + base64.b64encode(made.getvalue()).decode(), width)
