"""Which features are about a concept: lists of words, rules, and lists of other words to compare with.

In: the lists of `params/concepts.yaml`; codes, and the word that ends at every token (`words`). Out: masks of features.
Never: a feature judged by a part of a word; a list that overlaps another of its set without the set saying so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field
from scipy import sparse

from sae_utils import labels, profiles
from sae_utils.engine.core.spec import Count, ProfileError, Rate, Spec, build, choose, nearest
from sae_utils.engine.text import stories
from sae_utils.engine.text.words import Words

Mask: TypeAlias = NDArray[np.bool_]
FILE = "params/concepts.yaml"


class ConceptSet(Spec):
    """Lists of words under one name."""

    about: str
    """where the lists come from and what for"""
    disjoint: bool
    """no word stands in two lists; published lists overlap and say so here"""
    concepts: dict[str, Annotated[list[str], Field(min_length=1)]] = Field(min_length=1)
    """words of every concept"""


def word_lists(name: str) -> dict[str, tuple[str, ...]]:
    """The concepts of the set `name` of params/concepts.yaml, case-folded, in the order of the file.

    Raises:
        ProfileError: malformed YAML (with its line), no such set, an empty list, a word twice in a list, no single
            word, or in two lists of a set that is disjoint.
    """
    values = profiles.read("concepts")  # as strict as a profile: no key twice, and the line of what is not YAML
    if name not in values:
        raise ProfileError(f"{FILE}: no set is called {name!r}; {nearest(name, values)}")
    found = build(ConceptSet, values[name], f"{FILE}: {name}")
    lists = {concept: tuple(word.casefold() for word in words) for concept, words in found.concepts.items()}
    seen: dict[str, str] = {}
    for concept, words in lists.items():
        where = f"{FILE}: {name}.concepts.{concept}"
        for word in words:
            _one_word(word, where)
            if seen.get(word) == concept:
                raise ProfileError(f"{where}: {word!r} stands twice in the list; remove one")
            if found.disjoint and word in seen:
                raise ProfileError(
                    f"{where}: {word!r} stands in {seen[word]} too; remove it from one, or say `disjoint: false`"
                )
            seen[word] = concept
    return lists


class Keywords(Spec):
    """Single words that are concepts of their own."""

    single: list[str] = Field(min_length=1)
    """whole words"""
    mismatched: list[Annotated[list[str], Field(min_length=2, max_length=2)]]
    """pairs of them that do not belong together: one is looked for in A, the other in B"""


class Combinations(Spec):
    """What is made of lists."""

    unions: dict[str, Annotated[list[str], Field(min_length=2)]]
    """concepts that count as one, by its name"""
    keywords: Keywords


def combine(
    lists: Mapping[str, Sequence[str]], unions: Mapping[str, Any], keywords: Mapping[str, Any], *, where: str
) -> dict[str, tuple[str, ...]]:
    """`lists`, then `unions` of them by name, then a list for each single one of the `Keywords`, named like "'she'".

    `where`: file and section of unions and keywords, for messages.

    Raises:
        ProfileError: a union of fewer than two concepts, of one twice, of one that there is none of, or under a name
            that is taken; a keyword that is not one word, or stands twice; a mismatched word that is no keyword, or its
            own partner.
    """
    given = build(Combinations, {"unions": unions, "keywords": keywords}, where)
    made = {name: tuple(words) for name, words in lists.items()}
    for name, parts in given.unions.items():
        at = f"{where}.unions.{name}"
        if name in lists:
            raise ProfileError(f"{at}: a concept has that name; choose another")
        for place, part in enumerate(parts):
            if part not in lists:
                raise ProfileError(f"{at}: no concept is called {part!r}; {nearest(part, lists)}")
            if part in parts[:place]:
                raise ProfileError(f"{at}: {part!r} stands twice in the list; remove one")
        made[name] = tuple(dict.fromkeys(word for part in parts for word in lists[part]))
    single, at = given.keywords.single, f"{where}.keywords.single"
    for place, word in enumerate(single):
        _one_word(word, at)
        if word.casefold() in {other.casefold() for other in single[:place]}:
            raise ProfileError(f"{at}: {word!r} stands twice in the list; remove one")
        if f"'{word}'" in made:
            raise ProfileError(f"{at}: a concept or union is called \"'{word}'\"; rename that")
    for one, other in given.keywords.mismatched:
        at = f"{where}.keywords.mismatched"
        for word in (one, other):
            if word not in single:
                raise ProfileError(f"{at}: {word!r} is not in keywords.single; add it ({nearest(word, single)})")
        if one == other:
            raise ProfileError(f"{at}: {one!r} is its own partner; name two words, or remove the pair")
    return made | {f"'{word}'": (word.casefold(),) for word in single}


def _one_word(word: str, where: str) -> None:
    if not word.isalnum():
        raise ProfileError(f"{where}: {word!r} is not one word; list whole words without spaces or hyphens")


class Top(Spec):
    """About a concept is what has at least `least` of its words among its `top` strongest tokens."""

    kind: Literal["top"]
    top: Count
    """strongest tokens that are looked at"""
    least: Count
    """1: any of them"""


class Mass(Spec):
    """About a concept is what spends at least `share` of its activation on its words."""

    kind: Literal["mass"]
    share: Rate
    """of the sum of activations over all tokens that are looked at"""


Rule: TypeAlias = Top | Mass
RULES: dict[str, type[Spec]] = {"top": Top, "mass": Mass}


def rule(value: Mapping[str, Any], where: str = "rule") -> Rule:
    """A rule as written in params: {kind: top, top: 10, least: 3} or {kind: mass, share: 0.5}.

    Raises:
        ProfileError: as `spec.choose`; more words asked for than tokens looked at.
    """
    made = choose(RULES, value, where)
    assert isinstance(made, Top | Mass)
    if isinstance(made, Top) and made.least > made.top:
        raise ProfileError(f"{where}: least = {made.least} of the top {made.top}: no feature can be about that")
    return made


def describe(made: Rule) -> str:
    """A rule in words, for a table."""
    if isinstance(made, Mass):
        return f"{made.share:.0%} of the activation"
    return f"{'any' if made.least == 1 else f'at least {made.least}'} of the top {made.top}"


class Evidence(NamedTuple):
    """What features fire on, in words."""

    words: tuple[str, ...]
    """different words of the text, case-folded, sorted"""
    top: NDArray[np.int32]
    """(features, k) word that ends at each of the strongest tokens, -1 where none does"""
    mass: sparse.csr_array
    """(words, features) sum of a feature's activation over the tokens at which a word ends"""
    total: NDArray[np.float64]
    """(features,) sum of its activation over all tokens"""
    firings: NDArray[np.int64]
    """(features,) tokens on which it fires"""
    occurs: NDArray[np.int64]
    """(words,) how often each occurs"""


def evidence(codes: Any, words: Words, documents: ArrayLike, on: Mask, *, k: int = 10) -> Evidence:
    """What the features of `codes` (tokens, features), sparse or dense, fire on at the tokens of the mask `on`.

    `words` and `documents` (tokens,) are of the same tokens; `k` strongest tokens of each feature are kept. Dense
    activations count where they are above 0. Raises ValueError as `labels.label`.
    """
    at = np.flatnonzero(on)
    chosen = codes[at]
    if not sparse.issparse(chosen):
        chosen = np.maximum(chosen.astype(np.float32), 0)
    of = words.of[at]
    labelled = labels.label(chosen, of, np.asarray(documents)[at], k=k, window=0)
    ends = np.flatnonzero(of >= 0)
    shape = (len(words.text), len(at))
    holds = sparse.csr_array((np.ones(len(ends), chosen.dtype), (of[ends], ends)), shape=shape)
    return Evidence(
        words.text,
        labelled.token,
        sparse.csr_array(holds @ chosen),
        np.asarray(chosen.sum(0, dtype=np.float64)),
        labelled.firings,
        np.bincount(of[ends], minlength=len(words.text)),
    )


def word_mask(words: Iterable[str], found: Evidence) -> Mask:
    """(words,) which of the words of the text are listed; whole words, case-folded."""
    return np.isin(np.array(found.words), [word.casefold() for word in words])


def absent_words(words: Iterable[str], found: Evidence) -> list[str]:
    """Listed words that end at no token of those looked at: they can find nothing. Other documents may have them."""
    there = {word for word, n in zip(found.words, found.occurs, strict=True) if n}
    return [word for word in words if word.casefold() not in there]


def about(found: Evidence, listed: Mask, made: Rule) -> Mask:
    """(features,) which are about the words `listed` (words,) by a rule.

    Raises ValueError where a rule looks at more of the strongest tokens than were kept.
    """
    if isinstance(made, Mass):
        spent = listed.astype(np.float64) @ found.mass
        return (found.total > 0) & (spent >= made.share * found.total)
    if made.top > found.top.shape[1]:
        raise ValueError(f"the rule looks at the top {made.top}, but {found.top.shape[1]} were kept: raise k")
    hits = np.append(listed, False)[found.top[:, : made.top]]  # -1 is the last
    return np.asarray(hits.sum(1) >= made.least)


def true_classes(words: Iterable[str]) -> list[int]:
    """Places in `stories.CLASSES` of the true classes to which any of the words belongs."""
    listed = {word.casefold() for word in words}
    names = {place[0] for word, place in stories.membership().items() if word.casefold() in listed}
    return [number for number, name in enumerate(stories.CLASSES) if name in names]


def class_share(codes: Any, classes: np.ndarray, chosen: Iterable[int], on: Mask) -> NDArray[np.float64]:
    """(features,) share of the activation at the tokens `on` that goes to tokens of the true classes `chosen`.

    `classes` (tokens,) is -1 where there is none. NaN for features that never fire there.
    """
    at = np.flatnonzero(on)
    part = codes[at]
    if not sparse.issparse(part):
        part = np.maximum(part.astype(np.float32), 0)
    of_class = np.isin(classes[at], list(chosen)).astype(np.float64)
    total = np.asarray(part.sum(0, dtype=np.float64))
    return np.divide(of_class @ part, total, out=np.full(len(total), np.nan), where=total > 0)


class Recovery(NamedTuple):
    """A set of features held against the true one."""

    n: int
    precision: float
    """share of the set that is true; NaN for an empty set, or where the truth is not known"""
    recall: float
    """share of the true that is in the set; NaN where none is true"""


def recovery(chosen: Mask, true: Mask | None) -> Recovery:
    """Precision and recall of the features `chosen` against those that are `true`, None where that is not known."""
    if true is None:
        return Recovery(int(chosen.sum()), float("nan"), float("nan"))
    both, n, of = int((chosen & true).sum()), int(chosen.sum()), int(true.sum())
    return Recovery(n, both / n if n else float("nan"), both / of if of else float("nan"))
