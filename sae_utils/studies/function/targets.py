"""What is carried from one model to another: concepts, and relations between two concepts.

In: classes of the stories, or a set of `params/concepts.yaml`, and names. Out: for each name the words that make its
vector, the words that should become more likely, and the words that a map must not have seen.
Never: a feature, a model.

The concept `animals` has the nouns of its class; what should rise are the words that follow them in the stories, the
verbs of animals. Of a listed concept its own words should rise. `women - men` is a relation: the vector of women less
that of men, which should raise the words of women against those of men.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from sae_utils.engine.core.spec import ProfileError, nearest
from sae_utils.engine.text import stories
from sae_utils.engine.text.lexicon import exchange, load_lexicon
from sae_utils.engine.text.words import folded
from sae_utils.studies.semantic_subspaces import concepts

LESS = " - "  # between the two concepts of a relation
Words = frozenset[str]


class Concept(NamedTuple):
    """Words of one concept, case-folded."""

    words: Words  # at which its vector is taken
    rises: Words  # that its vector should make more likely
    left_out: Words  # of the whole class; a map is fitted without them


class Target(NamedTuple):
    """A concept, or a relation: one concept less another."""

    name: str
    plus: Concept
    minus: Concept | None

    @property
    def left_out(self) -> Words:
        """The words that a map must not have seen."""
        return self.plus.left_out | (self.minus.left_out if self.minus else frozenset())


def classes() -> dict[str, Concept]:
    """The classes of nouns of the stories: nouns, the verbs that follow them, and these with their adjectives."""
    lex, found = load_lexicon(), dict[str, Concept]()
    lists = [
        frozenset(folded(stories.WORDS[i]) for i in np.flatnonzero(lex.list_of == x))
        for x in range(len(lex.attributes))
    ]
    for name in dict.fromkeys(lex.attributes[x][0] for x in range(len(lex.verbs))):
        own = [x for x in range(len(lex.verbs)) if lex.attributes[x][0] == name]
        nouns, verbs, adjectives = (
            frozenset[str]().union(*(lists[x] for x in places)) for places in (own, lex.verbs[own], lex.adjectives[own])
        )
        found[name] = Concept(nouns, verbs, nouns | verbs | adjectives)
    return found


def known(concept_set: str, lists: Mapping[str, Sequence[str]] | None = None) -> dict[str, Concept]:
    """The concepts of a set of params/concepts.yaml, of "" the `classes` of the stories; and those of further `lists`.

    Raises ProfileError as `concepts.word_lists`.
    """
    if concept_set:
        found = {name: listed(words) for name, words in concepts.word_lists(concept_set).items()}
    else:
        found = classes()
    return found | {name: listed(words) for name, words in (lists or {}).items()}


def listed(words: Iterable[str]) -> Concept:
    """A concept whose own words should rise."""
    own = frozenset(map(folded, words))
    return Concept(own, own, own)


def target(name: str, of: Mapping[str, Concept], where: str = "groups") -> Target:
    """A target by its name, `concept` or `concept - concept`. Raises ProfileError for an unknown concept."""
    parts = name.split(LESS)
    for part in parts:
        if part not in of:
            raise ProfileError(f"{where}: no concept is called {part!r}; {nearest(part, of)}")
    if len(parts) > 2 or len(set(parts)) < len(parts):
        raise ProfileError(f"{where}: {name!r} is no relation; write two concepts, as `women{LESS}men`")
    return Target(name, of[parts[0]], of[parts[1]] if len(parts) == 2 else None)


def groups(
    named: Sequence[Sequence[str]], of: Mapping[str, Concept], where: str = "groups"
) -> list[tuple[Target, Target]]:
    """Pairs of targets, each the placebo of the other.

    Raises ProfileError for an unknown concept, two of which one is a relation and one is not, and shared words.
    """
    found = []
    for names in named:
        one, two = (target(name, of, where) for name in names)
        if (one.minus is None) != (two.minus is None):
            raise ProfileError(f"{where}: {one.name}, {two.name}: the placebo of a relation is a relation")
        if common := (one.plus.rises | (one.minus.rises if one.minus else frozenset())) & (
            two.plus.rises | (two.minus.rises if two.minus else frozenset())
        ):
            raise ProfileError(f"{where}: {one.name}, {two.name}: {sorted(common)[0]!r} should rise with both; "
                               "a placebo has other words")  # fmt: skip
        found.append((one, two))
    return found


def exchanged(words: Iterable[str], seed: int) -> Words:
    """The words of the stories that stand in the place of `words` after an exchange by `seed`."""
    partner = {folded(stories.WORDS[i]): folded(stories.WORDS[j]) for i, j in enumerate(exchange(seed))}
    return frozenset(partner.get(word, word) for word in words)
