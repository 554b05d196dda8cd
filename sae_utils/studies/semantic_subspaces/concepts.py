"""Features about a concept: lists of words, the rule, and the recovery of the true features by it.

In: the lists of `params/concepts.yaml`, codes, the word that ends at every token. Out: masks of features.
Never: a match of a part of a word; a list that overlaps another one unless their set says that lists may.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import AfterValidator, Field, ValidationInfo, field_validator
from scipy import sparse

from sae_utils import labels
from sae_utils.engine import params
from sae_utils.engine.core.spec import NameUnknown, ProfileError, Rate, Spec, build, choose, nearest
from sae_utils.engine.text import stories
from sae_utils.engine.text.words import Words

Mask: TypeAlias = NDArray[np.bool_]
Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]
FILE = "params/concepts.yaml"


# --- lists of words


def _one_word(word: str) -> str:
    if not word.isalnum():
        raise NameUnknown(f"{word!r} is not one word; list whole words without spaces or hyphens")
    return word


def _once(names: list[str], fold: Callable[[str], str] = str) -> list[str]:
    for place, name in enumerate(names):
        if fold(name) in map(fold, names[:place]):
            raise NameUnknown(f"{name!r} stands twice in the list; remove one")
    return names


Word = Annotated[str, AfterValidator(_one_word)]
WordList = Annotated[list[Word], AfterValidator(lambda words: _once(words, str.casefold))]


class ConceptSet(Spec):
    """Lists of words under one name."""

    about: str  # source and purpose of the lists
    disjoint: bool  # no word stands in two lists; sets of published lists, which overlap, say false
    concepts: dict[str, Annotated[WordList, Field(min_length=1)]] = Field(min_length=1)  # words of every concept

    @field_validator("concepts")
    @classmethod
    def _are_disjoint(cls, lists: dict[str, list[str]], info: ValidationInfo) -> dict[str, list[str]]:
        owner: dict[str, str] = {}
        for concept, words in lists.items():
            for word in map(str.casefold, words):
                if owner.setdefault(word, concept) != concept and info.data.get("disjoint"):
                    raise NameUnknown(
                        f"{word!r} stands in {owner[word]} and in {concept}; remove it from one, or say "
                        "`disjoint: false`"
                    )
        return lists


def word_lists(name: str) -> dict[str, tuple[str, ...]]:
    """The concepts of the set `name` of params/concepts.yaml with their words, case-folded, in the order of the file.

    Raises ProfileError for malformed YAML, no such set, an empty list, a word twice in a list, a word with a space or
    hyphen, or a word in two lists of a disjoint set.
    """
    sets = params.read("concepts")
    if name not in sets:
        raise ProfileError(f"{FILE}: no set is called {name!r}; {nearest(name, sets)}")
    found = build(ConceptSet, sets[name], f"{FILE}: {name}").concepts
    return {concept: tuple(word.casefold() for word in words) for concept, words in found.items()}


# --- the rule


class Mass(Spec):
    """A feature is about a concept if at least `share` of its activation is on words of the concept."""

    kind: Literal["mass"]
    share: Rate  # of the sum of activations over all tokens


def rule(value: Mapping[str, Any], where: str = "rule") -> Mass:
    """A rule as written in params: {kind: mass, share: 0.5}. Raises ProfileError as `spec.choose`."""
    made = choose({"mass": Mass}, value, where)
    assert isinstance(made, Mass)
    return made


class Evidence(NamedTuple):
    """The words on which features fire."""

    words: tuple[str, ...]  # different words of the text, case-folded, sorted
    top: NDArray[np.int32]  # (features, k) word that ends at each of the strongest tokens, -1 where none does
    mass: sparse.csr_array  # (words, features) sum of activation over the tokens at which the word ends
    total: NDArray[np.float64]  # (features,) sum of activation over all tokens
    firings: NDArray[np.int64]  # (features,) tokens on which the feature fires
    occurs: NDArray[np.int64]  # (words,) occurrences of the word


def evidence(codes: Any, words: Words, documents: ArrayLike, on: Mask, *, k: int = 10) -> Evidence:
    """The words on which the features of `codes` (tokens, features), sparse or dense, fire at the tokens `on`.

    `words` and `documents` (tokens,) belong to the same tokens; `k` strongest tokens of each feature are kept. Dense
    activations count where they are above 0. Raises ValueError as `labels.label`.
    """
    at = np.flatnonzero(on)
    active, of = _active(codes, at), words.of[at]
    top = labels.label(active, of, np.asarray(documents)[at], k=k, window=0)
    ends = np.flatnonzero(of >= 0)
    shape = (len(words.text), len(at))
    ends_at = sparse.csr_array((np.ones(len(ends), active.dtype), (of[ends], ends)), shape=shape)
    return Evidence(
        words.text, top.token, sparse.csr_array(ends_at @ active), np.asarray(active.sum(0, dtype=np.float64)),
        top.firings, np.bincount(of[ends], minlength=len(words.text)),
    )  # fmt: skip


def _active(codes: Any, at: NDArray[np.int64]) -> Any:
    chosen = codes[at]
    return chosen if sparse.issparse(chosen) else np.maximum(chosen.astype(np.float32), 0)


def word_mask(listed: Iterable[str], found: Evidence) -> Mask:
    """(words,) which words of the text are listed; whole words, case-folded."""
    return np.isin(np.array(found.words), [word.casefold() for word in listed])


def absent_words(listed: Iterable[str], found: Evidence) -> list[str]:
    """The listed words that do not occur, so that they select no feature."""
    present = {word for word, n in zip(found.words, found.occurs, strict=True) if n}
    return [word for word in listed if word.casefold() not in present]


def share(found: Evidence, listed: Mask) -> Floats:
    """(features,) share of the activation that is on the words `listed` (words,); 0 of a feature that never fires."""
    spent = listed.astype(np.float64) @ found.mass
    return np.divide(spent, found.total, out=np.zeros(len(found.total)), where=found.total > 0)


def about(found: Evidence, listed: Mask, rule: Mass) -> Mask:
    """(features,) which features are about the words `listed` (words,) by a rule."""
    spent = listed.astype(np.float64) @ found.mass
    return (found.total > 0) & (spent >= rule.share * found.total)


# --- the truth


def true_classes(words: Iterable[str], world: stories.World) -> list[int]:
    """Places in `stories.CLASSES` of the classes to which any of the words belongs in a world."""
    listed = {word.casefold() for word in words}
    names = {name for word, (name, _) in stories.membership(world).items() if word.casefold() in listed}
    return [number for number, name in enumerate(stories.CLASSES) if name in names]


def class_share(codes: Any, classes: np.ndarray, chosen: Iterable[int], on: Mask) -> NDArray[np.float64]:
    """(features,) share of the activation at the tokens `on` that is at tokens of the true classes `chosen`.

    `classes` (tokens,) is -1 where a token has none. NaN for features that never fire there.
    """
    at = np.flatnonzero(on)
    active = _active(codes, at)
    of_class = np.isin(classes[at], list(chosen)).astype(np.float64)
    total = np.asarray(active.sum(0, dtype=np.float64))
    return np.divide(of_class @ active, total, out=np.full(len(total), np.nan), where=total > 0)


class Recovery(NamedTuple):
    """Precision and recall of a set of features."""

    n: int
    precision: float  # share of the set that is true; NaN for an empty set, or where the truth is not known
    recall: float  # share of the true features that are in the set; NaN where there are none


def recovery(chosen: Mask, true: Mask | None) -> Recovery:
    """Precision and recall of the features `chosen` against the `true` ones, None where these are not known."""
    n = int(chosen.sum())
    if true is None:
        return Recovery(n, float("nan"), float("nan"))
    hits, of = int((chosen & true).sum()), int(true.sum())
    return Recovery(n, hits / n if n else float("nan"), hits / of if of else float("nan"))
