"""Two builds of one profile, number by number and verdict by verdict.

In: saved results, from a folder or a commit. Out: for every number whether it is the same, within its uncertainty or
outside; for every verdict whether it is the same, unsettled or turned.
Never: a statement about the difference of two numbers that state no standard error.

Two numbers of standard errors se1 and se2 differ where they are further apart than 99.9% of Student's t with 14
degrees of freedom times sqrt(se1^2 + se2^2): those of two means over eight replicates each. Builds that share their
seeds differ less than independent ones, so that the rule is on the side of "within".
"""

import json
import math
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from sae_utils.engine.core.sources import REPOSITORY

LEVEL, DEGREES = 0.999, 14
SAME, WITHIN, OUTSIDE, UNSTATED = "same", "within its uncertainty", "outside", "no uncertainty stated"
GONE, NEW = "only before", "only now"
UNSETTLED, TURNED, OTHER = "to or from undetermined", "turned", "another word"
MACRO = re.compile(r"^\\newcommand\{\\([A-Za-z]+)\}\{(.*?)\}%$", re.MULTILINE | re.DOTALL)
DECIDED = ("yes", "no")


class Build(NamedTuple):
    """The saved results of one notebook, or of several."""

    macros: dict[str, str]  # what LaTeX reads
    numbers: dict[str, dict[str, Any]]  # value and se, by macro
    verdicts: dict[str, dict[str, Any]]  # estimate, low, high, d and word, by macro


NONE = Build({}, {}, {})


class Change(NamedTuple):
    """A number, verdict or text of two builds, and what became of it."""

    macro: str
    kind: str
    before: str
    now: str
    apart: float = math.nan  # difference of two numbers
    allowed: float = math.nan  # the largest difference that is within their uncertainty
    relative: float = math.nan  # the difference as a share of the number before


# --- reading


def parse(tex: str, values: str) -> Build:
    """The results that a LaTeX file and its JSON hold; a JSON that is missing ("") holds none."""
    held = json.loads(values or '{"numbers": {}, "verdicts": {}}')
    return Build(dict(MACRO.findall(tex)), held["numbers"], held["verdicts"])


def of_folder(folder: Path) -> dict[str, Build]:
    """The results in a folder, such as `paper/generated/demo`, by notebook."""
    found = {}
    for tex in sorted(folder.glob("[!.]*.tex")):
        values = tex.with_suffix(".json")
        found[tex.stem] = parse(tex.read_text("utf-8"), values.read_text("utf-8") if values.exists() else "")
    return found


def of_commit(revision: str, folder: Path) -> dict[str, Build]:
    """The results that a commit has in a folder of the repository, by notebook; {} if it has none.

    Raises ValueError if git does not know the commit, or there is no git.
    """
    inside = PurePosixPath(folder.relative_to(REPOSITORY).as_posix())
    listed = _git("ls-tree", "--name-only", revision, f"{inside}/").split("\n")
    shown = {name: _git("show", f"{revision}:{name}") for name in listed if name.endswith((".tex", ".json"))}
    texts = [PurePosixPath(name) for name in shown if name.endswith(".tex")]
    return {x.stem: parse(shown[str(x)], shown.get(str(x.with_suffix(".json")), "")) for x in texts}


def together(builds: Mapping[str, Build]) -> Build:
    """The results of all notebooks; macros are named after their notebook."""
    parts = zip(*builds.values(), strict=True) if builds else ({}, {}, {})
    return Build(*({key: value for part in of for key, value in part.items()} for of in parts))


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=REPOSITORY, capture_output=True, encoding="utf-8")
    except FileNotFoundError:
        raise ValueError("git is not installed, so that no commit can be read; name a folder") from None
    if done.returncode:
        raise ValueError(done.stderr.strip() or "git failed")
    return done.stdout


# --- comparing


def numbers(before: Build, now: Build) -> list[Change]:
    """What became of every number, and of the estimate of every verdict."""
    of_both = [x.numbers | {name: _estimate(said) for name, said in x.verdicts.items()} for x in (before, now)]
    both = [x._replace(numbers=numbers) for x, numbers in zip((before, now), of_both, strict=True)]
    return [_number(name, both[0], both[1]) for name in _names(*of_both)]


def _estimate(said: Mapping[str, Any]) -> dict[str, Any]:
    return {"value": said["estimate"], "se": said.get("se")}


def verdicts(before: Build, now: Build) -> list[Change]:
    """What became of every verdict."""
    return [_verdict(name, before, now) for name in _names(before.verdicts, now.verdicts)]


def texts(before: Build, now: Build) -> list[Change]:
    """What became of every text and table, which are the macros besides numbers and verdicts."""
    known = {*before.numbers, *now.numbers, *_of_verdicts(before), *_of_verdicts(now)}
    return [
        Change(name, _presence(name, before.macros, now.macros) or (SAME if old == new else OTHER), old, new)
        for name in _names(before.macros, now.macros)
        if name not in known
        for old, new in [(before.macros.get(name, ""), now.macros.get(name, ""))]
    ]


def _number(name: str, before: Build, now: Build) -> Change:
    old, new = (x.numbers.get(name, {}) for x in (before, now))
    was, shown = (plain(x.macros.get(name, "")) for x in (before, now))
    if kind := _presence(name, before.numbers, now.numbers):
        return Change(name, kind, was, shown)
    if old["value"] == new["value"] or was == shown:
        return Change(name, SAME, was, shown)
    if old["value"] is None or new["value"] is None:
        return Change(name, OUTSIDE, was, shown)  # a number in one build only
    apart = new["value"] - old["value"]
    if old["se"] is None or new["se"] is None:
        return Change(
            name, UNSTATED, was, shown, apart, relative=abs(apart / old["value"]) if old["value"] else math.inf
        )
    allowed = quantile() * math.hypot(old["se"], new["se"])
    return Change(name, WITHIN if abs(apart) <= allowed else OUTSIDE, was, shown, apart, allowed)


def quantile() -> float:
    """Standard errors of a difference that hold `LEVEL` of all differences."""
    from scipy.stats import t as student  # imported here: it takes half a second

    return float(student.ppf((1 + LEVEL) / 2, DEGREES))


def _verdict(name: str, before: Build, now: Build) -> Change:
    old, new = (x.verdicts.get(name, {}) for x in (before, now))
    kind = _presence(name, before.verdicts, now.verdicts)
    if not kind:
        words = {old["word"], new["word"]}
        kind = SAME if len(words) == 1 else TURNED if words == set(DECIDED) else OTHER
        kind = UNSETTLED if kind == OTHER and words & set(DECIDED) else kind
    return Change(name, kind, stated(old), stated(new))


def stated(verdict: Mapping[str, Any]) -> str:
    """A verdict with its estimate and interval: "yes (0.12, 0.08 to 0.16)"; "" where there is none."""
    if not verdict:
        return ""
    estimate, low, high = (
        "n/a" if (x := verdict.get(key)) is None else f"{x:.3g}" for key in ("estimate", "low", "high")
    )
    return f"{verdict['word']} ({estimate}, {low} to {high})"


def _presence(name: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    return NEW if name not in before else GONE if name not in now else ""


def _names(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    return [*before, *(name for name in now if name not in before)]


def _of_verdicts(build: Build) -> set[str]:
    return {f"{name}{part}" for name in build.verdicts for part in ("", "Low", "High", "Verdict")}


def plain(source: str) -> str:
    """What LaTeX prints for a number or a short text of a notebook, as plain text."""
    bare = re.sub(r"\\ensuremath\{(-[\d.,{}]+)\}", lambda m: m[1].replace("{,}", ","), source)
    return re.sub(r"\\([%$&#_{}])", r"\1", bare).replace(r"\textendash{}", "\u2013")


# --- numbers in a text


def claims(text: str, profile: str) -> Iterator[tuple[str, str]]:
    """Every macro of a profile that a text names in a comment, with the text before it on its line.

    `0.18<!-- Macro -->` is of the demo, `0.18<!-- name: Macro -->` of the profile `name`.
    """
    for line in text.splitlines():
        parts = re.split(r"<!-- ((?:\w+: )?\w+) -->", line)
        for said, named in zip(parts[::2], parts[1::2], strict=False):
            of, _, macro = named.rpartition(": ")
            if (of or "demo") == profile:
                yield said, macro


def unsupported(text: str, profile: str, before: Build, now: Build) -> list[str]:
    """The claims of a text about a profile that its results do not support, a line each; [] if all hold.

    A claim is supported if the results now print it, or if those before print it and nothing tells the two apart: the
    number is within its uncertainty or states none, the verdict is the same or unsettled.
    """
    moved = {x.macro: x.kind for x in numbers(before, now)}
    moved |= {f"{x.macro}{part}": x.kind for x in verdicts(before, now) for part in ("", "Low", "High", "Verdict")}
    found = []
    for said, macro in claims(text, profile):
        new, old = (plain(x.macros.get(macro, "")) for x in (now, before))
        agreed = macro in now.macros and moved.get(macro) not in (OUTSIDE, TURNED)
        if not _ends(said, new) and not (agreed and _ends(said, old)):
            found.append(f"{said[-30:].strip()!r} is stated of {macro}, which is {new or 'nowhere'!r}")
    return found


def _ends(said: str, shown: str) -> bool:
    """Whether a text ends with exactly this number or these words."""
    before = said.removesuffix(shown)
    return bool(shown) and said.endswith(shown) and not re.search(r"[\w.,\u2212-]$", before)
