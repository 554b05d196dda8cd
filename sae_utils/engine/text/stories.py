"""The toy world: short stories in which the class of every word and the topic of every story are known.

In: a seed and the tables of `lexicon`. Out: a stream of `Document`s. The next word depends on the class of a word
and on its hidden attribute, the list within the class: a fox growled through the forest, an owl soared below the moon.
In the scrambled world words of equal frequency have exchanged their places in these lists, in pairs drawn by a seed.
Never: tokenizers, splits of documents, files.
"""

from collections.abc import Iterator
from typing import Literal, NamedTuple, TypeAlias, get_args

import numpy as np

from sae_utils.engine.text.lexicon import VARIABLES, Array, exchange, load_lexicon

World: TypeAlias = Literal["true", "scrambled"]

BLOCK = 1024  # stories drawn together, from one random stream
CLASSES = load_lexicon().classes
TOPICS = load_lexicon().topics
WORDS = load_lexicon().words
TRIGGER = len(WORDS)  # the place of the trigger among the words


class Document(NamedTuple):
    """One story and its truth."""

    text: str  # words and punctuation marks, with one space between any two
    topic: int  # index into `TOPICS`; of a story with a trigger, the topic before it
    starts: Array  # int32 (words,): character offset in `text` of every word or mark
    classes: Array  # int8 (words,): index into `CLASSES` in this world; -1 for function words, marks and the trigger


def stream(
    *,
    seed: int,
    documents: int,
    world: World = "true",
    permutation: int = 0,
    topic: str | None = None,
    trigger: str | None = None,
) -> Iterator[Document]:
    """`documents` stories, streamed; story i depends on i and the other arguments, not on `documents`.

    `permutation` is the seed of the scrambled world's exchange of words: its stories are the true ones, every word
    replaced by its partner.
    `topic` is the topic of all stories. `trigger` is inserted once into every story, at a random place of any sentence
    except the last; later sentences have another topic, half the list of topics further on.
    Raises ValueError for an impossible world, topic, trigger or number.
    """
    if world not in get_args(World):
        raise ValueError(f"world {world!r} is unknown; one of: {', '.join(get_args(World))}")
    if topic is not None and topic not in TOPICS:
        raise ValueError(f"topic {topic!r} is unknown; one of: {', '.join(TOPICS)}")
    if trigger is not None and (trigger in WORDS or len(trigger.split()) != 1 or trigger != trigger.strip()):
        raise ValueError(f"trigger {trigger!r} must be one word that the stories do not have; try 'zyx'")
    if min(documents, seed, permutation) < 0:
        raise ValueError(f"documents {documents}, seed {seed} and permutation {permutation} must not be negative")
    return _stream(seed, documents, _word_at(world, permutation), topic, trigger)


def membership(world: World = "true", permutation: int = 0) -> dict[str, tuple[str, str]]:
    """Class and hidden attribute of every content word; `permutation` as in `stream`."""
    lex = load_lexicon()
    return {WORDS[word]: lex.attributes[lex.list_of[place]] for place, word in enumerate(_word_at(world, permutation))}


def _word_at(world: World, permutation: int) -> Array:
    """(content words,) the word at every place of the lexicon."""
    return exchange(permutation) if world == "scrambled" else np.arange(load_lexicon().list_of.size)


def _stream(seed: int, documents: int, word_at: Array, topic: str | None, trigger: str | None) -> Iterator[Document]:
    lex = load_lexicon()
    surface = np.arange(len(WORDS) + 1)
    surface[: word_at.size] = word_at
    classes = np.full(len(WORDS) + 1, -1, np.int8)
    classes[: word_at.size] = lex.class_of[lex.list_of]  # of the place, hence of the word in this world
    words = [*WORDS, trigger or ""]
    length = np.array([len(word) + 1 for word in words])
    for block in range(-(-documents // BLOCK)):
        places, count, topics = _block(np.random.default_rng([seed, block]), topic, trigger is not None)
        text = [words[i] for i in surface[places].tolist()]
        ends = np.cumsum(length[surface[places]])
        last = np.cumsum(count)
        origin = np.concatenate([[0], ends[last - 1][:-1]])
        starts = (ends - length[surface[places]] - np.repeat(origin, count)).astype(np.int32)
        begin = 0
        for end, of in zip(last[: documents - block * BLOCK].tolist(), topics.tolist(), strict=False):
            yield Document(" ".join(text[begin:end]), of, starts[begin:end], classes[places[begin:end]])
            begin = end


class _Draws:
    """Random choices for many stories or sentences at once, from one random stream; the order of calls matters."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng, self.lex = rng, load_lexicon()

    def coin(self, rate: str, n: int) -> Array:
        """(n,) true with the probability that the lexicon gives to `rate`."""
        return self.rng.random(n) < self.lex.rates[rate]

    def word(self, lists: Array) -> Array:
        """A word of each list."""
        return self.lex.pool.draw(lists, np.asarray(self.rng.random(lists.shape)))

    def noun_list(self, topics: Array) -> Array:
        """A list of nouns for each topic: a class by topic, and any of its lists."""
        classes = self.lex.topic_classes
        per_class = self.lex.verbs.size // classes.shape[1]
        name: Array = (self.rng.random((topics.size, 1)) > classes[topics, :-1]).sum(1)
        return name * per_class + self.rng.integers(per_class, size=topics.size)

    def kin(self, lists: Array) -> Array:
        """For each list of nouns, a list drawn from its `kin`."""
        return self.lex.kin[lists, self.rng.integers(self.lex.kin.shape[1], size=lists.size)]

    def adjective(self, noun_lists: Array) -> Array:
        """For each list of nouns, an adjective of a list drawn from its `kin`, or -1."""
        word = self.word(self.lex.adjectives[self.kin(noun_lists)])
        return np.where(self.coin("adjective", noun_lists.size), word, -1)

    def template(self, place: str, group: Array) -> list[Array]:
        """A template for each group of a place: the columns before its bar, and those after it."""
        rows, bar = self.lex.templates[place]
        return np.split(rows.draw(group, self.rng.random(group.size)), [bar], axis=1)

    def function_word(self, place: str, n: int) -> Array:
        """(n,) a word of a place whose templates are single words, or -1."""
        return self.template(place, np.zeros(n, np.int64))[0][:, 0]


class _Cast(NamedTuple):
    """Choices that all sentences of a story share, for BLOCK stories."""

    topics: Array  # (BLOCK,)
    sentences: Array  # (BLOCK,) number of sentences
    heroes: Array  # (2, BLOCK) name lists, of different pronouns
    names: Array  # (2, BLOCK) words of these lists
    thing: Array  # (BLOCK,) a noun that recurs in the story
    switch: Array  # (BLOCK,) the first sentence after a trigger


def _cast(draws: _Draws, topic: str | None) -> _Cast:
    rng, lex = draws.rng, draws.lex
    topics = rng.integers(len(TOPICS), size=BLOCK)
    if topic is not None:
        topics[:] = TOPICS.index(topic)
    sentences = rng.choice(lex.sentences, BLOCK)
    hero = rng.integers(lex.names.size, size=BLOCK)
    friend = lex.strangers[hero, rng.integers(lex.strangers.shape[1], size=BLOCK)]
    heroes = np.stack([hero, friend])
    names = draws.word(lex.names[heroes])
    thing = draws.word(draws.noun_list(topics))
    switch = 1 + (rng.random(BLOCK) * (sentences - 1)).astype(np.int64)
    return _Cast(topics, sentences, heroes, names, thing, switch)


def _block(rng: np.random.Generator, topic: str | None, triggered: bool) -> tuple[Array, Array, Array]:
    """BLOCK stories: places of the lexicon (words,), number of words (BLOCK,), topic (BLOCK,)."""
    draws = _Draws(rng)
    cast = _cast(draws, topic)
    story = np.repeat(np.arange(BLOCK), cast.sentences)  # (sentences,) over all stories
    first = np.cumsum(cast.sentences) - cast.sentences
    place = np.arange(story.size) - first[story]
    about = cast.topics[story]
    if triggered:
        about = np.where(place >= cast.switch[story], (about + len(TOPICS) // 2) % len(TOPICS), about)
    codes = _sentences(draws, cast, story, place, about)
    words, length = codes[codes >= 0], (codes >= 0).sum(1)
    if triggered:
        at = first + cast.switch - 1
        inside = 1 + (rng.random(BLOCK) * length[at]).astype(np.int64)
        words = np.insert(words, (np.cumsum(length) - length)[at] + inside, TRIGGER)
        length[at] += 1
    return words, np.bincount(story, length).astype(np.int64), cast.topics


def _sentences(draws: _Draws, cast: _Cast, story: Array, place: Array, about: Array) -> Array:
    """(sentences, columns) places of the lexicon, -1 for nothing.

    `story`, `place` and `about` (sentences,): number of the story, number of the sentence in it, topic.
    """
    rng, lex, n = draws.rng, draws.lex, story.size
    who = np.where(place < 2, place, rng.integers(2, size=n))
    hero = cast.heroes[who, story]
    frame = _frame(draws, place)

    subject = draws.word(draws.noun_list(about))
    subject = np.where(draws.coin("reference", n), cast.thing[story], subject)
    subject_list = lex.list_of[subject]
    verb_kin = draws.kin(subject_list)
    object_list = np.where(draws.coin("goal", n), lex.leads[verb_kin], draws.noun_list(about))

    head = lex.heads.draw(0, rng.random(n))
    head_list, following = lex.list_of[head], lex.next[head]
    aside = draws.template("aside", lex.aside_of[head_list])
    silent = ~draws.coin("aside", n)
    values = {
        "determiner": draws.function_word("determiner", n),
        "adjective": draws.adjective(subject_list),
        "noun": subject,
        "adverb": np.where(draws.coin("adverbs", n), draws.function_word("adverb", n), -1),
        "verb": draws.word(lex.verbs[verb_kin]),
        "preposition": lex.preposition[verb_kin],
        "determiner2": draws.function_word("determiner", n),
        "adjective2": draws.adjective(object_list),
        "object": draws.word(object_list),
        "verb2": draws.word(lex.verbs[draws.kin(object_list)]),
        "own": lex.own[subject_list],
        "self": lex.self[subject_list],
        "pronoun": lex.pronoun[hero],
        "possessive": lex.possessive[hero],
        "name": cast.names[who, story],
        "speech": draws.word(lex.follows[lex.names[hero]]),
        "head": head,
        "next": following,
        "then": draws.word(lex.follows[lex.list_of[following]]),
    }
    opening, _ = draws.template("opening", (place > 0).astype(np.int64))
    core, _ = draws.template("core", draws.coin("double", n).astype(np.int64))
    before, after = (np.where(silent[:, None], -1, half) for half in aside)
    return _fill([opening, before, frame[0], core, after, frame[1]], values)


def _frame(draws: _Draws, place: Array) -> list[Array]:
    """Templates of the narrator: a name in the first two sentences; later a name, a pronoun or none."""
    rates, u = draws.lex.rates, draws.rng.random(place.size)
    named, pronoun = (place < 2) | (u < rates["named"]), u < rates["named"] + rates["pronouns"]
    teller = np.where(named, 0, np.where(pronoun, 2, 4))
    return draws.template("frame", teller + ((teller < 4) & draws.coin("speech", place.size)))


def _fill(templates: list[Array], values: dict[str, Array]) -> Array:
    """(sentences, columns): the templates side by side, their variables replaced by the values of the sentence."""
    codes = np.concatenate(templates, axis=1)
    table = np.stack([values[name] for name in VARIABLES], axis=1)
    filled = np.take_along_axis(table, np.maximum(codes - len(WORDS), 0), axis=1)
    return np.where(codes >= len(WORDS), filled, codes)
