"""The words of the toy world and how they go together, as tables.

In: `params/lexicon.yaml`. Out: `load_lexicon()`, from which `stories` draws; `exchange(seed)`, the permutations of
words that make scrambled worlds.
Never: text; randomness in the tables.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import yaml

from sae_utils.engine.core.sources import REPOSITORY

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]

SOURCE = REPOSITORY / "params" / "lexicon.yaml"
KIN = 600  # resolution of the shares of kinship
VARIABLES = (  # what templates leave open, in the order of their codes
    *("determiner", "adjective", "noun", "adverb", "verb", "preposition"),
    *("determiner2", "adjective2", "object", "verb2"),
    *("own", "self", "pronoun", "possessive", "name", "speech", "head", "next", "then"),
)


class Choice(NamedTuple):
    """Groups of values to draw from; a value stands in its group as often as its frequency."""

    values: Array  # (entries,) or (entries, columns), group after group
    start: Array  # (groups,) first entry of each
    size: Array  # (groups,) number of entries of each

    def draw(self, group: Array | int, uniform: Array) -> Array:
        """A value of a group for each entry of `uniform`, random numbers in [0, 1)."""
        entry: Array = self.start[group] + (uniform * self.size[group]).astype(np.int64)
        return self.values[entry]


class Templates(NamedTuple):
    """Groups of templates for one place in a sentence."""

    rows: Choice  # of words, of variables (`len(words)` + index in VARIABLES), and of -1 for nothing
    bar: int  # columns before this one stand before the core of the sentence, the others after it


class Lexicon(NamedTuple):
    """Words, their lists, and which list follows which; lists are numbered, those of nouns first.

    Heads are the words of asides, and names. A head comes with a word of the list that `follows` its own.
    """

    words: tuple[str, ...]  # content words in the order of their lists, then function words and marks
    frequency: Array  # (content words,) in the lexicon's unit
    list_of: Array  # (content words,) list of a word
    attributes: tuple[tuple[str, str], ...]  # (lists,) class and hidden attribute
    class_of: Array  # (lists,) index into `classes`
    classes: tuple[str, ...]
    topics: tuple[str, ...]
    topic_classes: Array  # (topics, noun classes) cumulative probabilities
    pool: Choice  # words of every list
    verbs: Array  # (noun lists,) list of the verbs of each
    adjectives: Array  # (noun lists,) list of the adjectives of each
    kin: Array  # (noun lists, KIN) lists of nouns, each as often as a verb or an adjective comes from its lists
    leads: Array  # (noun lists,) list of the noun after a verb
    preposition: Array  # (noun lists,) word after a verb
    own: Array  # (noun lists,) possessive that agrees with the nouns
    self: Array  # (noun lists,) reflexive pronoun that agrees with the nouns
    heads: Choice  # heads of all asides, as one group
    next: (
        Array  # (content words,) the next word of an ordered class, the first after the last; of others the word itself
    )
    aside_of: Array  # (lists,) group among the templates of asides, -1 where the list is not of heads
    follows: Array  # (lists,) list of the words that come with a head, -1 where the list is not of heads
    names: Array  # (name lists,) their numbers
    pronoun: Array  # (name lists,) word
    possessive: Array  # (name lists,) word
    strangers: Array  # (name lists, n) places in `names` of the lists with another pronoun
    templates: Mapping[str, Templates]  # place in the sentence -> its templates
    rates: Mapping[str, float]  # probabilities of optional parts; `unit`: occurrences in a story per unit of frequency
    sentences: Array  # possible numbers of sentences in a story


class _List(NamedTuple):
    """Words of one class that share a hidden attribute."""

    kind: str
    name: str
    attribute: str
    words: list[str]
    frequency: list[int]


def _lists(source: Mapping[str, Any]) -> Iterator[_List]:
    heads = source["asides"] | {"names": source["names"]}
    for kinds, classes in ((("nouns", "verbs", "adjectives"), source["nouns"]), (("words", "then"), heads)):
        for kind in kinds:
            for name, of in classes.items():
                for attribute, words in of["lists"].items():
                    chosen = words[kind].split()
                    frequency = source["frequency"].get(kind) or [of["frequency"][kind]] * len(chosen)
                    yield _List(kind, of.get(kind, name), attribute, chosen, frequency)


@cache
def load_lexicon() -> Lexicon:
    """The tables of `params/lexicon.yaml`.

    Raises ValueError if a word stands in two lists, a template has an unknown variable, or noun classes differ in their
    number of lists.
    """
    source = yaml.safe_load(SOURCE.read_text(encoding="utf-8"))
    lists, nouns, names = list(_lists(source)), source["nouns"], source["names"]["lists"].values()
    if len({len(of["lists"]) for of in nouns.values()}) > 1:
        raise ValueError(f"{SOURCE.name}: all classes of nouns need the same number of lists")
    classes = tuple(dict.fromkeys(of.name for of in lists))
    content = [word for of in lists for word in of.words]
    frequency = np.array([f for of in lists for _, f in zip(of.words, of.frequency, strict=True)])
    list_of = np.repeat(np.arange(len(lists)), [len(of.words) for of in lists])
    size = np.bincount(list_of, frequency).astype(np.int64)
    pool = Choice(np.repeat(np.arange(len(content)), frequency), np.cumsum(size) - size, size)
    places = {kind: np.flatnonzero([of.kind == kind for of in lists]) for kind in dict.fromkeys(x.kind for x in lists)}
    heads = places["words"][: -len(names)]
    follows, aside_of = np.full((2, len(lists)), -1)
    follows[places["words"]] = places["then"]
    class_of = np.array([classes.index(of.name) for of in lists])
    following = _following(
        class_of[list_of], [i for i, x in enumerate(classes) if "ordered" in source["asides"].get(x, {})]
    )
    draws = np.where(np.isin(list_of, heads), frequency // (1 + (following != np.arange(list_of.size))), 0)
    aside_of[heads] = [list(source["asides"]).index(lists[i].name) for i in heads]

    asides = {"aside": {name: of["templates"] for name, of in source["asides"].items()}}
    templates = {"opening": source["templates"]["opening"]} | asides | source["templates"]
    leads = [of["leads"] for name in nouns for of in nouns[name]["lists"].values()]
    pronoun = [of["pronoun"] for of in names]
    agreeing = source["agreement"]
    possessive = [agreeing[word][0] for word in pronoun]
    own, self = zip(*(agreeing[of.get("pronoun", "it")] for of in nouns.values() for _ in of["lists"]), strict=True)
    texts = [text for groups in templates.values() for group in groups.values() for text in group]
    codes = _codes(content, [*texts, *(preposition for preposition, *_ in leads), *pronoun, *possessive, *own, *self])
    number = {(of.name, of.attribute): i for i, of in enumerate(lists)}
    return Lexicon(
        words=tuple(word for word in codes if word[0] != "{"),
        frequency=frequency, list_of=list_of, attributes=tuple(number),
        class_of=class_of, classes=classes, topics=tuple(source["topics"]),
        topic_classes=_topic_classes(list(nouns), source["topics"], source["affinity"]),
        pool=pool, verbs=places["verbs"], adjectives=places["adjectives"],
        kin=_kin([lists[i] for i in places["nouns"]], nouns, source["kinship"]),
        leads=np.array([number[name, attribute] for _, name, attribute in leads]),
        preposition=np.array([codes[word] for word, *_ in leads]),
        own=np.array([codes[word] for word in own]),
        self=np.array([codes[word] for word in self]),
        heads=Choice(np.repeat(np.arange(list_of.size), draws), np.array([0]), draws.sum(keepdims=True)),
        next=following, aside_of=aside_of, follows=follows, names=places["words"][-len(names) :],
        pronoun=np.array([codes[word] for word in pronoun]),
        possessive=np.array([codes[word] for word in possessive]),
        strangers=np.array([[i for i, word in enumerate(pronoun) if word != own] for own in pronoun]),
        templates={place: _templates(list(groups.values()), codes) for place, groups in templates.items()},
        rates=_rates(source, lists, int(draws.sum())), sentences=np.array(source["sentences"]),
    )  # fmt: skip


def _codes(content: Sequence[str], texts: Sequence[str]) -> dict[str, int]:
    """Numbers that encode content words, the function words and marks in `texts`, and variables."""
    variables = [f"{{{name}}}" for name in VARIABLES]
    function = dict.fromkeys(token for text in texts for token in text.split() if token not in (*variables, "|"))
    words = [*content, *function]
    if unknown := [token for token in function if token.startswith("{")]:
        raise ValueError(f"{SOURCE.name}: unknown {', '.join(unknown)} in a template; known: {' '.join(variables)}")
    if len(set(words)) < len(words):
        twice = sorted({word for word in words if words.count(word) > 1})
        raise ValueError(f"{SOURCE.name}: {', '.join(twice)} stands in two places; every word has one class")
    return {token: code for code, token in enumerate([*words, *variables])}


def _templates(groups: Sequence[Sequence[str]], codes: Mapping[str, int]) -> Templates:
    halves = [[half.split() for half in f"{text} |".split("|")[:2]] for group in groups for text in group]
    bar = max(len(before) for before, _ in halves)
    rows = np.full((len(halves), bar + max(len(after) for _, after in halves)), -1)
    for row, (before, after) in zip(rows, halves, strict=True):
        row[: len(before)] = [codes[token] for token in before]
        row[bar : bar + len(after)] = [codes[token] for token in after]
    size = np.array([len(group) for group in groups])
    return Templates(Choice(rows, np.cumsum(size) - size, size), bar)


def _topic_classes(classes: Sequence[str], topics: Mapping[str, Sequence[str]], affinity: float) -> Array:
    """(topics, classes) cumulative probabilities, balanced by Sinkhorn: all classes are equally frequent."""
    weight: Array = np.ones((len(topics), len(classes)))
    for row, main in zip(weight, topics.values(), strict=True):
        row[[classes.index(name) for name in main]] = affinity
    for _ in range(1000):
        weight = weight / weight.sum(0, keepdims=True)
        weight = weight / weight.sum(1, keepdims=True)
    return np.cumsum(weight, axis=1)


def _following(classes: Array, ordered: Sequence[int]) -> Array:
    """(content words,) the next word of an ordered class, the first after the last; of others the word itself."""
    following = np.arange(classes.size)
    for number in ordered:
        following[classes == number] = np.roll(following[classes == number], -1)
    return following


def _kin(lists: Sequence[_List], classes: Mapping[str, Any], kinship: Mapping[str, float]) -> Array:
    """(noun lists, KIN) lists by their shares: the list itself, its twin, those of its class and of its group."""
    groups = [classes[of.name]["group"] for of in lists]
    rows = []
    for i, own in enumerate(lists):
        related = {
            "own": [i],
            "twin": [j for j, of in enumerate(lists) if of.attribute == own.attribute and j != i] or [i],
            "class": [j for j, of in enumerate(lists) if of.name == own.name],
            "group": [j for j, group in enumerate(groups) if group == groups[i]],
        }
        rows.append([j for k, js in related.items() for j in js * round(kinship[k] * KIN / len(js))])
    return np.array(rows)


def _rates(source: Mapping[str, Any], lists: Sequence[_List], asides: int) -> dict[str, float]:
    """Probabilities that make every word as frequent as the lexicon says, given two nouns in every sentence.

    `asides`: how often their heads are drawn, in the lexicon's unit.
    The first two sentences of a story have a name each, the others with a probability that makes up the rest.
    """
    named = {"names", source["names"]["then"]}
    total = {(kind, own): 0 for kind in ("nouns", "verbs", "adjectives", "words", "then") for own in (False, True)}
    for of in lists:
        total[of.kind, of.name in named] += sum(of.frequency)
    noun, sentences = total["nouns", False], float(np.mean(source["sentences"]))
    unit = 2 * sentences / float(noun)
    name, pronouns = unit * float(total["words", True]), source["pronouns"] * (sentences - 2)
    return {
        **{key: float(source[key]) for key in ("reference", "goal", "pronouns", "adverbs")},
        "unit": unit,
        "double": 2 * float(total["verbs", False] / noun) - 1,
        "adjective": float(total["adjectives", False] / noun),
        "aside": unit * asides / sentences,
        "named": (name - 2) / (sentences - 2),
        "speech": unit * float(total["then", True]) / (name + pronouns),
    }


@cache
def exchange(seed: int = 0) -> Array:
    """(content words,) the word that replaces each word in the scrambled world; its own inverse.

    Words of equal frequency and different classes change places in pairs, drawn by `seed`; where their number is odd,
    one word keeps its place. Pairs mix nouns, verbs and adjectives: otherwise the parts of speech would make the
    geometry of the two worlds alike.
    """
    lex = load_lexicon()
    rng, own = np.random.default_rng(seed), lex.class_of[lex.list_of]
    replaced = np.arange(len(lex.list_of))
    for frequency in np.unique(lex.frequency):
        members = rng.permutation(np.flatnonzero(lex.frequency == frequency))
        pairs = members[members.size % 2 :].reshape(2, -1)
        while (same := np.flatnonzero(np.equal(*own[pairs]))).size:
            swapped = [same[0], rng.integers(pairs.shape[1])]
            pairs[1, swapped] = pairs[1, swapped[::-1]]
        replaced[pairs] = pairs[::-1]
    return replaced
