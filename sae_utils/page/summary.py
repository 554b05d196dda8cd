"""The summary of a page: sentences that a reader understands without the rest of it.

In: a checked profile, the studies of its notebooks. Out: sentences, and the verdicts that answer the page's question.
Never: a verdict that no notebook reached; significance in the place of a verdict.
"""

from typing import NamedTuple

from sae_utils.engine.params import Profile
from sae_utils.page.results import Study, Verdict

# the notebooks whose verdicts are about the two models themselves
ABOUT = ("01", "02", "03", "04", "05", "07_", "07c", "08", "09", "10", "11")
MARKS = {"yes": "\u2713", "no": "\u2715", "undetermined": "?", "not tested": "\u2013"}  # read without colours

NO_VERDICT = (
    "No verdict is given: it needs replicates, or a twin with random blocks and a second SAE seed as controls. It "
    "shows scores beside their nulls; a score that a null does not reach says no more than that."
)


class Summary(NamedTuple):
    """The first screen of a page."""

    sentences: list[str]
    verdicts: list[tuple[str, Verdict]]  # with the notebook
    counts: str  # of the verdicts by word
    missing: list[str]  # notebooks without results
    old: list[str]  # notebooks whose results are older than the code
    marks: dict[str, str] = MARKS


def of(profile: Profile, studies: list[Study]) -> Summary:
    """The summary of a profile."""
    verdicts = [(x.name, verdict) for x in studies if x.name.startswith(ABOUT) for verdict in x.verdicts]
    return Summary(
        sentences(profile, verdicts), verdicts, counted([verdict for _, verdict in verdicts]),
        [x.name for x in studies if x.empty and not x.absent], [x.name for x in studies if x.state and not x.empty],
    )  # fmt: skip


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
