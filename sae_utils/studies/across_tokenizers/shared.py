"""The comparisons of notebook `across_tokenizers`, and codes at the positions that two tokenizers share.

In: a checked profile and names of its dictionaries. Out: positions on both texts, codes there joined in a way.
Never: a similarity; `pipeline` compares across tokenizers everywhere else, in one way.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sae_utils import pipeline, replicates
from sae_utils.engine.params import Profile
from sae_utils.engine.saes.aligned import SIDES, How
from sae_utils.engine.text import alignment
from sae_utils.store import Artefact

ONE = "one tokenizer"  # the kind of a comparison with `within`


def cut(text: str, tokenizer: Artefact) -> alignment.Spans:
    """Where the tokens of one text end, without special tokens. Raises ValueError as `alignment.offsets`."""
    from transformers import AutoTokenizer

    (ends,) = alignment.offsets([text], AutoTokenizer.from_pretrained(tokenizer.path, trust_remote_code=False))
    return alignment.Spans(np.zeros(len(ends), np.int32), ends, alignment.ends_a_word(text)[ends])


# --- what the models of a profile read, plain or under exchanged words


class Place(NamedTuple):
    """Shared positions on the text (`exchanged` None), or on the text with words exchanged by a seed."""

    exchanged: int | None
    positions: Artefact


def places(profile: Profile, a: str, b: str, at: alignment.At, *, exchange: bool) -> list[Place]:
    """The positions that the models of two dictionaries share, with `exchange` also under exchanged words.

    Raises ValueError if the words of the two texts are not the same in number and documents.
    """
    seeds = [None, replicates.seed(profile, a)] if exchange else [None]
    found = [Place(seed, pipeline.align(profile, a, b, at, seed)) for seed in seeds]
    if len({x.positions.array("documents").tobytes() for x in found}) > 1:
        raise ValueError(f"{a} and {b} share other positions under exchanged words: give `at: words`")
    return found


def features(profile: Profile, name: str, where: Place, how: How) -> pipeline.Features:
    """`pipeline.features` of a dictionary at shared positions.

    Raises ValueError where it reads other tokens than both models that were aligned.
    """
    own = pipeline.alone(profile, name, where.exchanged)
    for side in SIDES:
        if own.sites.key == where.positions.meta[f"sites_{side}"]:
            return pipeline.at(own, where.positions, side, how)
    raise ValueError(f"{name} reads other tokens than the two models that were aligned: align it with one of them")


# --- replicates


class Compared(NamedTuple):
    """One replicate of a comparison."""

    name: str
    a: str
    across: str  # a dictionary of a model with another tokenizer
    within: str  # of a model with the tokenizer of A
    negative: str  # a twin in the place of A; "" where words are exchanged

    def pair(self, kind: str) -> tuple[str, ...]:
        """The dictionaries that are compared: A with `across`, or for the kind `ONE` with `within`.

        Where a twin is the control, the twin is the third name, and A the second, whose place it takes.
        """
        other = self.within if kind == ONE else self.across
        return (other, self.a, self.negative) if self.negative else (self.a, other)


def compared(profile: Profile, comparisons: Sequence[Sequence[str]]) -> list[Compared]:
    """The replicates of every comparison; a name that is no family is part of each."""
    found = []
    for names in comparisons:
        members = [profile.members(name) if name else [""] for name in names]
        number = min((len(x) for x in members if len(x) > 1), default=1)
        each = zip(*(x[:number] if len(x) > 1 else x * number for x in members), strict=True)
        found += [Compared(f"{names[0]} x {names[1]}", *four) for four in each]
    return found
