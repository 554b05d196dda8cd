"""The words of the toy world and how they go together, as tables.

In: `params/lexicon.yaml`. Out: `lexicon()`, from which `stories` draws; `exchange()`, the permutation of words that
makes the scrambled world. Never here: randomness that depends on a seed of the caller, text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import yaml

from sae_utils.engine.core.sources import REPOSITORY

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]

SOURCE = REPOSITORY / "params" / "lexicon.yaml"
KIN = 120  # resolution of the shares of kinship
VARIABLES = (  # what the templates leave open, in the order of their codes
    *("determiner", "adjective", "noun", "adverb", "verb", "preposition"),
    *("determiner2", "adjective2", "object", "verb2"),
    *("pronoun", "possessive", "name", "speech", "head", "then"),
)


class Choice(NamedTuple):
    """Groups of values to draw from; a value stands in its group as often as its frequency."""

    values: Array
    """(tickets,) or (tickets, columns), group after group."""
    start: Array
    """(groups,)"""
    size: Array
    """(groups,)"""

    def draw(self, group: Array | int, uniform: Array) -> Array:
        """One value for each of `uniform`, numbers in [0, 1)."""
        ticket: Array = self.start[group] + (uniform * self.size[group]).astype(np.int64)
        return self.values[ticket]

    def joined(self, first: int, last: int) -> Choice:
        """The groups from `first` to before `last` as one."""
        return Choice(self.values, self.start[[first]], self.size[first:last].sum(keepdims=True))


class Lexicon(NamedTuple):
    """Lists are numbered: of nouns, of their verbs, of their adjectives, of heads, of what follows these heads.

    Heads are the words of the asides' classes and, last, names. A list's verbs, adjectives or followers are as many
    lists further on as there are lists of nouns or of heads.
    """

    words: tuple[str, ...]
    """Content words in the order of their lists, then function words and marks."""
    frequency: Array
    """(content words,) in the lexicon's unit."""
    list_of: Array
    """(content words,) the list of a word."""
    attributes: tuple[tuple[str, str], ...]
    """(lists,) class and hidden attribute."""
    class_of: Array
    """(lists,) index into `classes`."""
    classes: tuple[str, ...]
    topics: tuple[str, ...]
    topic_classes: Array
    """(topics, noun classes) cumulative probabilities."""
    pool: Choice
    """The words of every list."""
    noun_lists: int
    head_lists: int
    name_lists: int
    kin: Array
    """(noun lists, KIN) lists of nouns, each as often as a verb or adjective comes from it."""
    leads: Array
    """(noun lists,) list of the noun after the verb."""
    preposition: Array
    """(noun lists,) word after the verb."""
    pronoun: Array
    """(name lists,)"""
    possessive: Array
    """(name lists,)"""
    strangers: Array
    """(name lists, n) the lists of names with another pronoun."""
    templates: Mapping[str, Choice]
    """By place in the sentence; a row holds words, variables (len(words) + index in VARIABLES), and -1 for nothing."""
    bars: Mapping[str, int]
    """The column from which a template stands after the core of the sentence."""
    rates: Mapping[str, float]
    """Probabilities of the optional parts of a sentence, and `unit`: occurrences in a story per unit of frequency."""
    sentences: Array
    """Possible numbers of sentences in a story."""


@cache
def lexicon() -> Lexicon:
    """The lexicon; ValueError if a word stands in two lists."""
    source = yaml.safe_load(SOURCE.read_text(encoding="utf-8"))
    nouns, heads = source["nouns"], {**source["asides"], "names": source["names"]}
    noun_lists = [(name, attribute) for name in nouns for attribute in nouns[name]["lists"]]
    head_lists = [(name, attribute) for name in heads for attribute in heads[name]["lists"]]
    name_lists = [(name, attribute) for name, attribute in head_lists if name == "names"]

    lists: list[tuple[str, str, list[str], list[int]]] = []  # class, attribute, words, frequencies
    for kind in ("nouns", "verbs", "adjectives"):
        for name, attribute in noun_lists:
            words = nouns[name]["lists"][attribute][kind].split()
            lists.append((nouns[name].get(kind, name), attribute, words, source["frequency"][kind]))
    for kind in ("words", "then"):
        for name, attribute in head_lists:
            words = heads[name]["lists"][attribute][kind].split()
            same = [heads[name]["frequency"][kind]] * len(words)
            lists.append((heads[name].get(kind, name), attribute, words, same))
    classes = tuple(dict.fromkeys(name for name, *_ in lists))
    content = [word for *_, words, _ in lists for word in words]
    frequency = np.array([f for *_, words, fs in lists for _, f in zip(words, fs, strict=True)])
    list_of = np.repeat(np.arange(len(lists)), [len(words) for *_, words, _ in lists])
    size = np.bincount(list_of, frequency).astype(np.int64)
    pool = Choice(np.repeat(np.arange(len(content)), frequency), np.cumsum(size) - size, size)

    told: dict[str, list[list[str]]] = {
        "opening": [source["opening"], source["link"]],
        "aside": [source["asides"][name]["told"] for name in source["asides"]],
        "frame": list(source["frames"].values()),
        "core": [source["core"], source["double_core"]],
        **{place: [source[place]] for place in ("determiner", "adverb")},
    }
    leads = [nouns[name]["lists"][attribute]["leads"] for name, attribute in noun_lists]
    pronoun = [source["names"]["lists"][attribute]["pronoun"] for _, attribute in name_lists]
    possessive = [source["possessive"][word] for word in pronoun]
    variables = {f"{{{name}}}" for name in VARIABLES} | {"|"}
    texts = [text for groups in told.values() for group in groups for text in group]
    texts += [preposition for preposition, *_ in leads] + pronoun + possessive
    function = dict.fromkeys(token for text in texts for token in text.split() if token not in variables)
    words = (*content, *function)
    if len(set(words)) < len(words):
        twice = sorted({word for word in words if words.count(word) > 1})
        raise ValueError(f"{SOURCE.name}: {', '.join(twice)} stands in two places; every word has one class")
    codes = {token: code for code, token in enumerate((*words, *(f"{{{name}}}" for name in VARIABLES)))}
    templates = {place: _templates(groups, codes) for place, groups in told.items()}

    weight = np.ones((len(source["topics"]), len(nouns)))
    for row, main in zip(weight, source["topics"].values(), strict=True):
        row[[list(nouns).index(name) for name in main]] = source["affinity"]
    group = [nouns[name]["group"] for name, _ in noun_lists]
    return Lexicon(
        words=words,
        frequency=frequency,
        list_of=list_of,
        attributes=tuple((name, attribute) for name, attribute, *_ in lists),
        class_of=np.array([classes.index(name) for name, *_ in lists]),
        classes=classes,
        topics=tuple(source["topics"]),
        topic_classes=np.cumsum(_balanced(weight), axis=1),
        pool=pool,
        noun_lists=len(noun_lists),
        head_lists=len(head_lists),
        name_lists=len(name_lists),
        kin=_kin([name for name, _ in noun_lists], group, source["kinship"]),
        leads=np.array([noun_lists.index((name, attribute)) for _, name, attribute in leads]),
        preposition=np.array([codes[word] for word, *_ in leads]),
        pronoun=np.array([codes[word] for word in pronoun]),
        possessive=np.array([codes[word] for word in possessive]),
        strangers=np.array([[i for i, word in enumerate(pronoun) if word != own] for own in pronoun]),
        templates={place: template for place, (template, _) in templates.items()},
        bars={place: bar for place, (_, bar) in templates.items()},
        rates=_rates(source, size, len(noun_lists), len(head_lists), len(name_lists)),
        sentences=np.array(source["sentences"]),
    )


def _templates(groups: Sequence[Sequence[str]], codes: Mapping[str, int]) -> tuple[Choice, int]:
    """Rows of codes, padded with -1, and the column at which the part after the bar begins."""
    halves = [[half.split() for half in f"{text} |".split("|")[:2]] for group in groups for text in group]
    bar = max(len(before) for before, _ in halves)
    rows = np.full((len(halves), bar + max(len(after) for _, after in halves)), -1)
    for row, (before, after) in zip(rows, halves, strict=True):
        row[: len(before)] = [codes[token] for token in before]
        row[bar : bar + len(after)] = [codes[token] for token in after]
    size = np.array([len(group) for group in groups])
    return Choice(rows.squeeze(1) if rows.shape[1] == 1 else rows, np.cumsum(size) - size, size), bar


def _balanced(weight: Array) -> Array:
    """Rows summing to 1 and columns alike (Sinkhorn): no class is rarer than another over all topics."""
    for _ in range(1000):
        weight = weight / weight.sum(0, keepdims=True)
        weight = weight / weight.sum(1, keepdims=True)
    return weight


def _kin(classes: Sequence[str], groups: Sequence[str], kinship: Mapping[str, float]) -> Array:
    """A row of lists for every list of nouns: itself, those of its class, those of its group, by their shares."""
    rows = []
    for i, (name, group) in enumerate(zip(classes, groups, strict=True)):
        related = {
            "own": [i],
            "class": [j for j, other in enumerate(classes) if other == name],
            "group": [j for j, other in enumerate(groups) if other == group],
        }
        rows.append([j for k, js in related.items() for j in js * round(kinship[k] * KIN / len(js))])
    return np.array(rows)


def _rates(source: Mapping[str, Any], size: Array, nouns: int, heads: int, names: int) -> dict[str, float]:
    """Probabilities that make every word as frequent as the lexicon says, given two nouns in every sentence.

    `size` is the frequency of every list, the other three are numbers of lists. Names: the first two sentences of a
    story have one each, the others with a probability that makes up the rest.
    """
    noun, verb, adjective = size[: 3 * nouns].reshape(3, nouns).sum(1)
    aside = size[3 * nouns : 3 * nouns + heads - names].sum()
    name, speech = size[3 * nouns + heads - names : 3 * nouns + heads].sum(), size[-names:].sum()
    sentences = float(np.mean(source["sentences"]))
    unit = 2 * sentences / float(noun)
    named, pronouns = unit * float(name), source["pronouns"] * (sentences - 2)
    return {
        **{key: float(source[key]) for key in ("reference", "goal", "pronouns", "adverbs")},
        "unit": unit,
        "double": 2 * float(verb / noun) - 1,
        "adjective": float(adjective / noun),
        "aside": unit * float(aside) / sentences,
        "named": (named - 2) / (sentences - 2),
        "speech": unit * float(speech) / (named + pronouns),
    }


@cache
def exchange() -> Array:
    """(content words,) the word that takes the place of each in the scrambled world.

    One fixed permutation: the two are exactly as frequent and of different classes. Nouns, verbs and adjectives are
    mixed: were they kept apart, the parts of speech would make the geometry of the two worlds alike.
    """
    lex = lexicon()
    rng = np.random.default_rng(0)
    replaced = np.arange(len(lex.list_of))
    own = lex.class_of[lex.list_of]
    for frequency in np.unique(lex.frequency):
        members = np.flatnonzero(lex.frequency == frequency)
        new = rng.permutation(members)
        while (same := np.flatnonzero(own[new] == own[members])).size:
            i, j = same[0], rng.integers(members.size)
            if own[new[j]] != own[members[i]] and own[new[i]] != own[members[j]]:
                new[[i, j]] = new[[j, i]]
        replaced[members] = new
    return replaced
