"""The summary of a page: sentences that a reader understands without the rest of it.

In: a checked profile, the studies of its notebooks. Out: sentences, and the verdicts that answer the page's question.
Never: a verdict that no notebook reached; significance in the place of a verdict.
"""

from typing import NamedTuple

import numpy as np

from sae_utils.engine.params import Profile
from sae_utils.page.results import Study, Verdict
from sae_utils.page.sides import Explored, Side

# the notebooks whose verdicts are about the two models themselves
ABOUT = ("01", "02", "03", "04", "05", "07_", "07c", "08", "09", "10", "11")
FIRST = ("01c", "07_", "07c")  # whose verdicts are on the first screen: alike at all, and beyond the controls
MARKS = {"yes": "\u2713", "no": "\u2715", "undetermined": "?", "not tested": "\u2013"}  # read without colours

NO_VERDICT = (
    "No verdict is given: it needs replicates, or a twin with random blocks and a second SAE seed as controls. It "
    "shows scores beside their nulls; a score that a null does not reach says no more than that."
)


class Summary(NamedTuple):
    """The first screen of a page."""

    sentences: list[str]
    verdicts: list[tuple[str, Verdict]]  # with the notebook
    first: list[tuple[str, Verdict]]  # those of them that are shown at once
    counts: str  # of the verdicts by word
    missing: list[str]  # notebooks without results
    old: list[str]  # notebooks whose results are older than the code
    left_out: list[str]  # sentences on features
    marks: dict[str, str] = MARKS


def of(profile: Profile, studies: list[Study], explored: Explored) -> Summary:
    """The summary of a profile and of its primary pair."""
    verdicts = [(x.name, verdict) for x in studies if x.name.startswith(ABOUT) for verdict in x.verdicts]
    return Summary(
        sentences=[*paired(profile, explored), *sentences(profile, verdicts)],
        verdicts=verdicts,
        first=[row for row in verdicts if row[0].startswith(FIRST)] or verdicts,
        counts=counted([verdict for _, verdict in verdicts]),
        missing=[x.name for x in studies if x.empty and not x.absent],
        old=[x.name for x in studies if x.state and not x.empty],
        left_out=[left_out(side, letter) for side, letter in ((explored.a, "A"), (explored.b, "B"))],
    )


def paired(profile: Profile, explored: Explored) -> list[str]:
    """How the features of the first pair pair up."""
    a, b = explored.a, explored.b
    least = profile.sections["01_feature_matching"]["counterpart"]
    mutual = a.held_out[a.kind == 2]
    if not len(mutual):
        return [f"No feature of {a.name} (A) and {b.name} (B) are each other's best partner; nothing can be compared."]
    shares = " and ".join(f"{_share(side, least):.0%} of {name}'s" for side, name in ((a, "A"), (b, "B")))
    return [
        f"{a.name} (A) has {len(a.ids):,} live features, {b.name} (B) has {len(b.ids):,}. {len(mutual):,} are mutual "
        "pairs: each other's best partner by what they fire on. On documents that did not choose them, their mean "
        f"correlation is {np.nanmean(mutual):.2f}. {shares} features have a counterpart: a best partner with a "
        f"held-out correlation of at least {least}."
    ]


def _share(side: Side, least: float) -> float:
    held_out = side.held_out[np.isfinite(side.held_out)]
    return float(np.mean(held_out >= least)) if len(held_out) else 0.0


def left_out(side: Side, letter: str) -> str:
    """The features of one side that are in no mutual pair, and why."""
    none, way, both = (int(np.sum(side.kind == kind)) for kind in range(3))
    silent = int(np.sum((side.kind > 0) & ~np.isfinite(side.held_out)))
    return (
        f"{letter}: of {side.width:,} features, {side.width - len(side.ids):,} never vary on the documents that choose "
        f"partners, and are not on the map; {none:,} have no live partner, {way:,} a best partner that prefers "
        f"another, {both:,} are in a mutual pair. For {silent:,} no held-out correlation is defined, as one "
        "of the two does not fire there."
    )


def sentences(profile: Profile, verdicts: list[tuple[str, Verdict]]) -> list[str]:
    """What the page is about, and what a reader may conclude."""
    replicates = len(profile.common.replicates)
    about = (
        f"Numbers of the form 'mean (interval)' are means over {replicates} replicates, each with its own models and "
        "SAEs; the maps and the table of pairs show the first replicate."
        if replicates
        else "All numbers are about this one pair of models and SAEs; another pair may differ."
    )
    return [about] if verdicts else [about, NO_VERDICT]


def counted(verdicts: list[Verdict]) -> str:
    """How many verdicts have which word: "5 yes, 2 no, 1 undetermined"."""
    words = [verdict.word for verdict in verdicts]
    return ", ".join(f"{words.count(word)} {word}" for word in MARKS if word in words)
