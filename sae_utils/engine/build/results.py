"""The saved results of a profile beside the committed ones, those of another build, or today's code.

In: a checked profile; `paper/generated/<profile>/` and `figures/<profile>/`. Out: what moved, as text; what is older
than the code, and what no notebook wrote.
Never: a change to a result.

`python -m sae_utils results PROFILE [--against REV|FOLDER]`
`python -m sae_utils results PROFILE --table NAME=FOLDER ... [--macros MACRO ...]`
"""

import argparse
import math
import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from sae_utils import profiles, report
from sae_utils.engine import params
from sae_utils.engine.build import compare
from sae_utils.engine.build.compare import Build
from sae_utils.engine.core.sources import REPOSITORY
from sae_utils.engine.core.spec import ProfileError
from sae_utils.engine.params import Profile
from sae_utils.tables import camel

WRITTEN = re.compile(r"^% (drew|numbers|table) (.+): (\w+)%$", re.MULTILINE)


def stale(profile: Profile) -> list[str]:
    """Notebooks whose saved results were not made by today's code and parameters."""
    old = []
    for notebook in profile.sections:
        file = report.GENERATED / profile.name / f"{notebook}.tex"
        if report.read(file)[0] != report.header(profile, notebook):
            old.append(notebook)
    return old


def altered(profile: Profile) -> list[str]:
    """Saved results that differ from those a notebook wrote: edited, cut off, missing, or of no notebook."""
    texts, figures = report.GENERATED / profile.name, report.FIGURES / profile.name
    written: dict[Path, str] = {}
    for notebook in profile.sections:
        file = texts / f"{notebook}.tex"
        _, written[file], body = report.read(file)
        folders = {"drew": figures, "numbers": texts, "table": texts}
        written |= {folders[kind] / name: sha for kind, name, sha in WRITTEN.findall(body)}
    kinds = {texts: ("tex", "json", "csv"), figures: ("pdf", "png")}
    there = {file for folder, endings in kinds.items() for ending in endings for file in folder.glob(f"[!.]*.{ending}")}
    found = sorted(there | written.keys())
    return ["/".join(file.parts[-3:]) for file in found if written.get(file) != report.fingerprint(file)]


def main() -> None:
    """Compare the results of a profile with the committed ones, or print several builds of it side by side.

    Results that are older than the code are listed. Exit status 1: a verdict turned from yes to no or back, a file is
    not what a notebook wrote, or the README states what the results do not support.
    """
    parser = argparse.ArgumentParser(prog="python -m sae_utils results", description=main.__doc__)
    parser.add_argument("profile", help="name of a file in params/, without .yaml")
    parser.add_argument("--against", default="HEAD", metavar="REV|FOLDER", help="compare with these (HEAD)")
    parser.add_argument("--table", nargs="+", metavar="NAME=FOLDER", help="print these builds side by side (Markdown)")
    parser.add_argument("--macros", nargs="+", default=[], metavar="MACRO", help="its numbers, besides all verdicts")
    asked = parser.parse_args()
    try:
        if asked.table:
            print(side_by_side(builds(asked.table), asked.macros))
        elif problems := check(profiles.load(asked.profile), asked.against):
            sys.exit("\n".join(f"error: {problem}" for problem in problems))
    except (ProfileError, ValueError) as error:
        sys.exit(f"error: {error}")


def check(profile: Profile, against: str) -> list[str]:
    """Print how the saved results compare with those of a commit or folder; returns what must not stay so."""
    if old := stale(profile):
        print(f"older than code, parameters or libraries: {', '.join(old)}; `make paper PROFILE={profile.name}`")
    before, now = read(against, profile.name), compare.of_folder(report.GENERATED / profile.name)
    problems = []
    if other := altered(profile):
        problems.append(
            f"not what the notebooks wrote (edited, cut off, missing or left over): {', '.join(other)}; restore them, "
            f"delete what is left over, or `rm build/{profile.name}/*.ipynb; make paper PROFILE={profile.name}`"
        )
    print(f"results of profile {profile.name} against {against}")
    print(summary(compare.together(before), compare.together(now)))
    for notebook in sorted({*before, *now}):
        if moved := details(before.get(notebook, compare.NONE), now.get(notebook, compare.NONE)):
            print(f"\n{notebook}\n{moved}")
    turned = [x.macro for x in compare.verdicts(*map(compare.together, (before, now))) if x.kind == compare.TURNED]
    if turned:
        problems.append(f"verdicts turned from yes to no or back: {', '.join(turned)}")
    stated = (REPOSITORY / "README.md").read_text("utf-8")
    both = map(compare.together, (before, now))
    problems += [f"README.md: {x}" for x in compare.unsupported(stated, profile.name, *both)]
    return problems


def read(source: str, profile: str) -> dict[str, Build]:
    """The results in a folder, or of a profile in a commit. Raises ValueError if there is neither."""
    if Path(source).is_dir():
        return compare.of_folder(Path(source))
    return compare.of_commit(source, report.GENERATED / profile)


# --- as text


def summary(before: Build, now: Build) -> str:
    """How many numbers, verdicts and texts became what, a line each."""
    lines = []
    for name, found in (
        ("numbers", compare.numbers(before, now)),
        ("verdicts", compare.verdicts(before, now)),
        ("texts and tables", compare.texts(before, now)),
    ):
        counts = Counter(x.kind for x in found)
        lines.append(f"{name}: {', '.join(f'{n:,} {kind}' for kind, n in counts.items()) or 'none'}")
    if free := [x for x in compare.numbers(before, now) if x.kind == compare.UNSTATED]:
        most = max(free, key=lambda x: x.relative)
        lines.append(f"largest change without an uncertainty: {most.macro}, {most.before} -> {most.now}")
    return "\n".join(lines)


def details(before: Build, now: Build) -> str:
    """A table of the numbers and verdicts that moved, of those without an uncertainty the one that moved most."""
    numbers, verdicts = compare.numbers(before, now), compare.verdicts(before, now)
    free = sorted((x for x in numbers if x.kind == compare.UNSTATED), key=lambda x: -x.relative)
    quiet = (compare.SAME, compare.WITHIN, compare.UNSTATED)
    listed = {x.macro for x in verdicts if x.kind not in quiet}
    moved = [x for x in verdicts if x.macro in listed]
    moved += [x for x in numbers if x.kind not in quiet and x.macro not in listed] + free[:1]
    rows = [(x.macro, x.before or "-", x.now or "-", x.kind + _apart(x)) for x in moved]
    return aligned([("", "before", "now", ""), *rows]) if rows else ""


def _apart(x: compare.Change) -> str:
    return f" ({abs(x.apart):.2g} apart, {x.allowed:.2g} allowed)" if math.isfinite(x.allowed) else ""


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows of text as columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def builds(named: Sequence[str]) -> dict[str, Build]:
    """The builds that `NAME=FOLDER` name. Raises ValueError for another form, or a folder without results."""
    found = {}
    for text in named:
        name, _, folder = text.partition("=")
        found[name] = compare.together(compare.of_folder(Path(folder)))
        if not found[name].macros:
            raise ValueError(f"{text}: NAME=FOLDER, and a folder that holds results, such as paper/generated/demo")
    return found


def side_by_side(of: Mapping[str, Build], macros: Sequence[str]) -> str:
    """A Markdown table: every verdict and the `macros`, a row each; a column a build."""
    verdicts = list(dict.fromkeys(name for build in of.values() for name in build.verdicts))
    rows = [[name, *(compare.stated(x.verdicts.get(name, {})) or "-" for x in of.values())] for name in verdicts]
    rows += [[name, *(compare.plain(x.macros.get(name, "-")) for x in of.values())] for name in macros]
    lines = [["", *of], ["---"] * (len(of) + 1), *([words(name), *cells] for name, *cells in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def words(macro: str) -> str:
    """A macro as words with its notebook: `FeatureMatchingMutualPairs` -> "`01_feature_matching` mutual pairs"."""
    notebook = next((x for x in params.notebooks() if macro.startswith(camel(x))), "")
    rest = re.sub(r"(?<!^)(?=[A-Z])", " ", macro.removeprefix(camel(notebook))).lower()
    return f"`{notebook}` {rest}".rstrip() if notebook else rest
