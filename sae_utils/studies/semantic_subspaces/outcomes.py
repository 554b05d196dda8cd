"""The outcome of every concept: corrected p, and the same words in tables and in the verdict.

In: pairs of subspaces, results of their tests. Out: an `Answer` a subspace, text.
Never: a union called alike only because its parts are separated.
"""

import math
from collections.abc import Hashable, Mapping
from typing import NamedTuple, TypeVar

import numpy as np

from sae_utils import inference, tables
from sae_utils.inference import LEVEL
from sae_utils.matching import Pairs
from sae_utils.significance import Result
from sae_utils.studies.semantic_subspaces.concepts import Mask

Key = TypeVar("Key", bound=Hashable)
Tests = Mapping[Key, Mapping[str, Result]]


class Answer(NamedTuple):
    """Corrected p of a subspace by one measure."""

    shuffled: float  # against a shuffled pairing
    # of a union, against a pairing shuffled within its parts; NaN where too few pairs can move. None: no union
    within: float | None = None

    @property
    def beyond(self) -> bool:
        """Whether the subspace is more alike than a shuffled pairing."""
        return self.shuffled < LEVEL

    @property
    def alike(self) -> bool:
        """Whether both models arrange the subspace alike: a union also beyond a shuffle within its parts."""
        return self.beyond and (self.within is None or self.within < LEVEL)

    @property
    def mark(self) -> str:
        """In figures: a star for a subspace that is alike, a ring for a union that is alike only by its parts."""
        return "*" if self.alike else "\u00b0" if self.beyond else ""


def answers(
    shuffled: Tests[Key], within: Tests[Key], measure: str
) -> tuple[dict[Key, Answer], dict[Key, dict[str, float]]]:
    """The answers by one measure, and the corrected p of all measures against a shuffled pairing.

    `shuffled`: results of `subspaces.arrangement` for every subspace; `within`: for every union those with parts. All
    of them are one family (`inference.maximum_of_z`), so that their draws must be independent.
    """
    tests: dict[tuple[str, Key], Mapping[str, Result]] = {("shuffled", key): x for key, x in shuffled.items()}
    p = inference.maximum_of_z(tests | {("within", key): x for key, x in within.items()})
    inside = {key: math.nan if x[measure].undetermined else p["within", key][measure] for key, x in within.items()}
    found = {key: Answer(p["shuffled", key][measure], inside.get(key)) for key in shuffled}
    return found, {key: p["shuffled", key] for key in shuffled}


def pair_count(pairs: Pairs) -> str:
    """The number of pairs, and after a slash that of different partners where there are fewer: "26/7"."""
    n, partners = len(pairs), len(np.unique(pairs.b))
    return f"{n:,}" if partners == n else f"{n:,}/{partners:,}"


def columns(pairs: Pairs, found: Result | None, answer: Answer | None) -> dict[str, str]:
    """Columns of a table: n, score, null and p, of a union also p within its parts; "too few" without a score."""
    n = pair_count(pairs)
    if found is None or answer is None:
        return {"n": n, "score": "too few", "null": "", "p": ""}
    return {
        "n": n,
        "score": f"{found.observed:.2f}",
        "null": f"{found.null_mean:.2f} \u00b1 {found.null_sd:.2f}",
        "p": " / ".join("n/a" if math.isnan(p) else f"{p:.3f}" for p in answer if p is not None),
    }


def outcome(about_a: Mask, about_b: Mask, enough_pairs: bool, answer: Answer | None) -> str:
    """The outcome of a concept in words; `enough_pairs` tells too few partners from too few pairs."""
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
    """The answers of the concepts and unions that could be tested, in one sentence."""
    if not single and not unions:
        return "no concept and no union could be tested"
    clause = f"{tables.count(len(single), 'concept')} could be tested"
    if single:
        clause += f", and {_beating(single)} a shuffled pairing"
    if unions:
        clause += f"; {tables.count(len(unions), 'union')} could be tested: {_beating(unions)} a shuffled pairing"
        beyond, alike = (sum(getattr(x, name) for x in unions.values()) for name in ("beyond", "alike"))
        if beyond == 1:
            clause += f"{' and' if alike else ', but not'} a shuffle within the parts"
        elif beyond:
            clause += f", and {tables.count(alike) if alike else 'none'} of them a shuffle within the parts as well"
    return clause


def _beating(answers: Mapping[str, Answer]) -> str:
    n = sum(answer.beyond for answer in answers.values())
    if len(answers) == 1:
        return "it beats" if n else "it does not beat"
    return {0: "none beats", 1: "one beats"}.get(n, f"{tables.count(n)} beat")


def placebo_verdict(tested: int, alike: int) -> str:
    """A clause on how many subspaces are more alike than their placebos, of those that could be tested."""
    clause = f"{tables.count(tested, 'subspace')} could be tested"
    if not tested:
        return clause
    if tested == 1:
        return f"{clause}, and it is {'' if alike else 'not '}more alike"
    return f"{clause}, and {'none' if not alike else tables.count(alike)} {'are' if alike > 1 else 'is'} more alike"
