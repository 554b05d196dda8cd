"""What became of a concept: answers with corrected p, and their words for tables and for the verdict.

In: pairs of subspaces, results of their tests. Out: an `Answer` for each, texts. Never: a table that says otherwise
than the verdict; a union called alike whose parts explain it.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import NamedTuple, TypeVar

import numpy as np

from sae_utils import inference, tables
from sae_utils.matching import Pairs
from sae_utils.significance import Result
from sae_utils.studies.semantic_subspaces.concepts import Mask

Key = TypeVar("Key", bound=Hashable)
Tests = Mapping[Key, Mapping[str, Result]]
LEVEL = 0.05


class Answer(NamedTuple):
    """Corrected p of a set of features with pairs enough, by the primary measure."""

    shuffled: float
    """against a shuffled pairing"""
    within: float | None = None
    """of a union against a pairing shuffled within its parts; NaN where too few pairs can move. None: no union"""

    @property
    def beyond(self) -> bool:
        """More alike than a shuffled pairing."""
        return self.shuffled < LEVEL

    @property
    def alike(self) -> bool:
        """What counts: a union must also be more alike than its parts lying apart would make it."""
        return self.beyond and (self.within is None or self.within < LEVEL)

    @property
    def mark(self) -> str:
        """In figures: a star for what is alike, a ring for a union that is so by its parts alone."""
        return "*" if self.alike else "\u00b0" if self.beyond else ""


def answers(
    shuffled: Tests[Key], within: Tests[Key], measure: str
) -> tuple[dict[Key, Answer], dict[Key, dict[str, float]]]:
    """What the tests of subspaces say by one measure, and every corrected p against a shuffled pairing.

    `shuffled`: all measures of every subspace (`subspaces.arrangement`); `within`: the same with parts, of unions. The
    family of the correction is all of these (`inference.maximum_of_z`): draws are to be independent across them.
    """
    tests: dict[tuple[str, Key], Mapping[str, Result]] = {("shuffled", key): x for key, x in shuffled.items()}
    corrected = inference.maximum_of_z(tests | {("within", key): x for key, x in within.items()})
    found = {
        key: Answer(
            corrected["shuffled", key][measure],
            (math.nan if within[key][measure].undetermined else corrected["within", key][measure])
            if key in within
            else None,
        )
        for key in shuffled
    }
    return found, {key: corrected["shuffled", key] for key in shuffled}


def pair_count(chosen: Pairs) -> str:
    """Number of pairs, after a slash that of different partners where fewer: "26/7"."""
    n, partners = len(chosen.a), len(np.unique(chosen.b))
    return f"{n:,}" if partners == n else f"{n:,}/{partners:,}"


def columns(chosen: Pairs, found: Result | None, answer: Answer | None) -> dict[str, str]:
    """n, score, null and p of a subspace as text, of a union with p within its parts; "too few" where not scored."""
    n = pair_count(chosen)
    if found is None or answer is None:
        return {"n": n, "score": "too few", "null": "", "p": ""}
    return {
        "n": n,
        "score": f"{found.observed:.2f}",
        "null": f"{found.null_mean:.2f} \u00b1 {found.null_sd:.2f}",
        "p": " / ".join(_p(p) for p in answer if p is not None),
    }


def _p(p: float) -> str:
    return "n/a" if math.isnan(p) else f"{p:.3f}"


def outcome(about_a: Mask, about_b: Mask, enough_pairs: bool, answer: Answer | None) -> str:
    """What became of a concept; `enough_pairs`: what is lacking without an answer are different partners."""
    if not (about_a.any() and about_b.any()):
        return "no feature in " + " and ".join(
            side for side, mask in (("A", about_a), ("B", about_b)) if not mask.any()
        )
    if answer is None:
        return "too few partners" if enough_pairs else "too few pairs"
    if answer.alike:
        return "alike"
    return "no more than its parts" if answer.beyond else "not alike"


def verdict(single: Mapping[str, Answer], unions: Mapping[str, Answer]) -> str:
    """The answers of concepts and of unions in one sentence: a concept by the one test, a union by both."""
    if not single and not unions:
        return "no concept, and no union of concepts, has pairs enough for an answer"
    said = "no single concept has pairs enough for an answer"
    if single:
        said = f"{_among(single, 'alike')} single concepts with pairs enough are more alike than a shuffled pairing"
    if not unions:
        return said
    return (
        f"{said}; of unions of concepts with pairs enough, {_among(unions, 'beyond')} are more alike than a shuffled "
        f"pairing, and {_among(unions, 'alike')} than one shuffled within their parts"
    )


def _among(answers: Mapping[str, Answer], what: str) -> str:
    return tables.among(list(answers), [name for name, answer in answers.items() if getattr(answer, what)])
