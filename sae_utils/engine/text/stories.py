"""The toy world: short stories in which the class of every word and the topic of every story are known.

In: a seed and the tables of `lexicon`. Out: a stream of `Document`s. What comes next depends on the class of a word
and on a hidden attribute, the list of the class that the word stands in: a fox growled through the forest, an owl
soared below the moon. In the scrambled world the same words, each exactly as frequent, have exchanged their places in
these lists. Never here: tokenizers, splits of documents, files.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple, TypeAlias, get_args

import numpy as np

from sae_utils.engine.text.lexicon import VARIABLES, Array, exchange, lexicon

World: TypeAlias = Literal["true", "scrambled"]

BLOCK = 1024  # stories drawn together, from one random stream
CLASSES = lexicon().classes
TOPICS = lexicon().topics
WORDS = lexicon().words


class Document(NamedTuple):
    """One story and its truth."""

    text: str
    """Words and punctuation marks, with one space between any two."""
    topic: int
    """Index into `TOPICS`; of a story with a trigger, the topic before it."""
    starts: Array
    """int32 (words,): character offset in `text` of every word or mark."""
    classes: Array
    """int8 (words,): index into `CLASSES` by membership in this world; -1 for function words, marks and the trigger."""


def stories(
    *, seed: int, documents: int, world: World = "true", topic: str | None = None, trigger: str | None = None
) -> Iterator[Document]:
    """`documents` stories, streamed; story i depends on i and the other arguments, not on `documents`.

    `topic` makes it the topic of all stories. `trigger` is put once into every story, at a random place of any sentence
    but the last; the sentences after that one are of the topic half the list of topics further on.
    Raises ValueError for a world, topic, trigger or number that is not possible.
    """
    if world not in get_args(World):
        raise ValueError(f"world {world!r} is unknown; one of: {', '.join(get_args(World))}")
    if topic is not None and topic not in TOPICS:
        raise ValueError(f"topic {topic!r} is unknown; one of: {', '.join(TOPICS)}")
    if trigger is not None and (trigger in WORDS or len(trigger.split()) != 1 or trigger != trigger.strip()):
        raise ValueError(f"trigger {trigger!r} must be one word that the stories do not have; try 'zyx'")
    if documents < 0 or seed < 0:
        raise ValueError(f"documents {documents} and seed {seed} must not be negative")
    return _stream(seed, documents, world, topic, trigger)


def membership(world: World = "true") -> dict[str, tuple[str, str]]:
    """Class and hidden attribute of every content word."""
    lex = lexicon()
    return {WORDS[word]: lex.attributes[lex.list_of[place]] for place, word in enumerate(_placed(world))}


def frequencies(world: World = "true") -> dict[str, float]:
    """Expected occurrences in a story of every content word."""
    lex = lexicon()
    return {WORDS[word]: lex.rates["unit"] * float(lex.frequency[p]) for p, word in enumerate(_placed(world))}


def _placed(world: World) -> Array:
    """(content words,) the word in every place of the lexicon."""
    return exchange() if world == "scrambled" else np.arange(lexicon().list_of.size)


def _stream(seed: int, documents: int, world: World, topic: str | None, trigger: str | None) -> Iterator[Document]:
    lex, placed = lexicon(), _placed(world)
    surface = np.arange(len(WORDS) + 1)
    surface[: placed.size] = placed
    classes = np.full(len(WORDS) + 1, -1, np.int8)
    classes[: placed.size] = lex.class_of[lex.list_of]  # of the place, hence of the word in this world
    words = [*WORDS, trigger or ""]
    length = np.array([len(word) + 1 for word in words])
    for block in range(-(-documents // BLOCK)):
        places, count, topics = _block(np.random.default_rng([seed, block]), topic, trigger is not None)
        text = [words[i] for i in surface[places].tolist()]
        ends = np.cumsum(length[surface[places]])
        last = np.cumsum(count)
        origin = np.concatenate([[0], ends[last - 1][:-1]])
        starts = (ends - length[surface[places]] - np.repeat(origin, count)).astype(np.int32)
        classed = classes[places]
        begin = 0
        for end, of in zip(last[: documents - block * BLOCK].tolist(), topics.tolist(), strict=False):
            yield Document(" ".join(text[begin:end]), of, starts[begin:end], classed[begin:end])
            begin = end


def _block(rng: np.random.Generator, topic: str | None, triggered: bool) -> tuple[Array, Array, Array]:
    """BLOCK stories: places of the lexicon (words,), number of words (BLOCK,), topic (BLOCK,).

    The trigger is the place len(WORDS).
    """
    lex = lexicon()
    rates, pool, told = lex.rates, lex.pool, lex.templates
    classes = lex.topic_classes.shape[1]
    per_class = lex.noun_lists // classes

    def coin(share: float, n: int) -> Array:
        return rng.random(n) < share

    def noun_list(topics: Array) -> Array:
        """Lists of nouns, the class by topic."""
        name: Array = (rng.random((topics.size, 1)) > lex.topic_classes[topics, :-1]).sum(1)
        return name * per_class + rng.integers(per_class, size=topics.size)

    def kin(lists: Array) -> Array:
        return lex.kin[lists, rng.integers(lex.kin.shape[1], size=lists.size)]

    # stories: topic, length, two heroes with different pronouns, a thing
    topics = rng.integers(len(TOPICS), size=BLOCK)
    if topic is not None:
        topics[:] = TOPICS.index(topic)
    sentences = rng.choice(lex.sentences, BLOCK)
    first_head, first_name = 3 * lex.noun_lists, 3 * lex.noun_lists + lex.head_lists - lex.name_lists
    hero = rng.integers(lex.name_lists, size=BLOCK)
    friend = lex.strangers[hero, rng.integers(lex.strangers.shape[1], size=BLOCK)]
    hero_lists = np.stack([hero, friend])
    hero_names = pool.draw(hero_lists + first_name, rng.random(hero_lists.shape))
    thing = pool.draw(noun_list(topics), rng.random(BLOCK))
    switch = 1 + (rng.random(BLOCK) * (sentences - 1)).astype(np.int64)  # first sentence after the trigger

    # sentences: (m,) over all stories
    story = np.repeat(np.arange(BLOCK), sentences)
    m = story.size
    first = np.cumsum(sentences) - sentences
    place = np.arange(m) - first[story]
    about = topics[story]
    if triggered:
        about = np.where(place >= switch[story], (about + len(TOPICS) // 2) % len(TOPICS), about)
    who = np.where(place < 2, place, rng.integers(2, size=m))
    name_list = hero_lists[who, story]

    # who tells: a name in the first two sentences; later a name, a pronoun or nobody
    u = rng.random(m)
    teller = np.where((place < 2) | (u < rates["named"]), 0, np.where(u < rates["named"] + rates["pronouns"], 2, 4))
    frame = told["frame"].draw(teller + ((teller < 4) & coin(rates["speech"], m)), rng.random(m))

    # what happens: a noun, a verb of its kin, and the noun to which the verb leads
    subject = pool.draw(noun_list(about), rng.random(m))
    subject = np.where(coin(rates["reference"], m), thing[story], subject)
    subject_list = lex.list_of[subject]
    verb_list = kin(subject_list)
    object_list = np.where(coin(rates["goal"], m), lex.leads[verb_list], noun_list(about))

    def verb(lists: Array) -> Array:
        return pool.draw(lex.noun_lists + lists, rng.random(m))

    def adjective(lists: Array) -> Array:
        """Of the kin of a noun of these lists, or none."""
        word = pool.draw(2 * lex.noun_lists + kin(lists), rng.random(m))
        return np.where(coin(rates["adjective"], m), word, -1)

    # an aside
    head = pool.joined(first_head, first_name).draw(0, rng.random(m))
    head_list = lex.list_of[head]
    aside_class = lex.class_of[head_list] - lex.class_of[first_head]
    aside = told["aside"].draw(aside_class, rng.random(m))
    aside = np.where(coin(rates["aside"], m)[:, None], aside, -1)

    values = {
        "determiner": told["determiner"].draw(0, rng.random(m)),
        "adjective": adjective(subject_list),
        "noun": subject,
        "adverb": np.where(coin(rates["adverbs"], m), told["adverb"].draw(0, rng.random(m)), -1),
        "verb": verb(verb_list),
        "preposition": lex.preposition[verb_list],
        "determiner2": told["determiner"].draw(0, rng.random(m)),
        "adjective2": adjective(object_list),
        "object": pool.draw(object_list, rng.random(m)),
        "verb2": verb(kin(object_list)),
        "pronoun": lex.pronoun[name_list],
        "possessive": lex.possessive[name_list],
        "name": hero_names[who, story],
        "speech": pool.draw(first_name + name_list + lex.head_lists, rng.random(m)),
        "head": head,
        "then": pool.draw(head_list + lex.head_lists, rng.random(m)),
    }
    opening = told["opening"].draw((place > 0).astype(np.int64), rng.random(m))
    core = told["core"].draw(coin(rates["double"], m).astype(np.int64), rng.random(m))
    aside_before, aside_after = np.split(aside, [lex.bars["aside"]], axis=1)
    frame_before, frame_after = np.split(frame, [lex.bars["frame"]], axis=1)
    codes = _filled([opening, aside_before, frame_before, core, aside_after, frame_after], values)
    flat, length = codes[codes >= 0], (codes >= 0).sum(1)
    if triggered:
        sentence = first + switch - 1
        position = (np.cumsum(length) - length)[sentence] + 1 + (rng.random(BLOCK) * length[sentence]).astype(np.int64)
        flat = np.insert(flat, position, len(WORDS))
        length[sentence] += 1
    return flat, np.bincount(story, length).astype(np.int64), topics


def _filled(templates: list[Array], values: dict[str, Array]) -> Array:
    """(sentences, columns): the templates side by side, with the values of the sentence for their variables."""
    codes = np.concatenate(templates, axis=1)
    table = np.stack([values[name] for name in VARIABLES], axis=1)
    filled = np.take_along_axis(table, np.maximum(codes - len(WORDS), 0), axis=1)
    return np.where(codes >= len(WORDS), filled, codes)
