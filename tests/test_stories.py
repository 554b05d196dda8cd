"""The planted truth of the toy world is found in its text."""

import hashlib
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import yaml

from sae_utils.engine.text import lexicon as tables
from sae_utils.engine.text.lexicon import exchange, load_lexicon
from sae_utils.engine.text.stories import BLOCK, CLASSES, TOPICS, WORDS, Document, membership, stream

MANY = 3 * BLOCK


def made(**arguments) -> list[Document]:
    return list(stream(**{"seed": 0, "documents": MANY, **arguments}))


@pytest.fixture(scope="module", params=["true", "scrambled"])
def world(request):
    return request.param


@pytest.fixture(scope="module")
def documents(world):
    return made(world=world)


def same(a: Document, b: Document) -> bool:
    arrays = np.array_equal(a.starts, b.starts) and np.array_equal(a.classes, b.classes)
    return a.text == b.text and a.topic == b.topic and arrays


def test_lexicon_has_a_thousand_words_each_in_one_class():
    words = membership()
    assert len(words) >= 1000 and len(CLASSES) >= 12 and set(words) <= set(WORDS)
    assert len(WORDS) == len(set(WORDS)) and not any(set(word) & set(" \t\n") for word in WORDS)
    assert {name for name, _ in words.values()} == set(CLASSES)
    attributes = Counter(name for name, _ in set(words.values()))
    assert all(2 <= n <= 4 for n in attributes.values())
    names = {word for word, (name, _) in words.items() if name == "names"}
    assert all(word == word.lower() for word in set(words) - names)


@pytest.fixture
def changed(tmp_path, monkeypatch):
    """Makes the tables of a changed `lexicon.yaml`, given as replacements in its text or a change of its values."""
    text = tables.SOURCE.read_text(encoding="utf-8")
    monkeypatch.setattr(tables, "SOURCE", tmp_path / "lexicon.yaml")

    def make(change) -> tables.Lexicon:
        values = yaml.safe_load(text)
        change(values)
        (tmp_path / "lexicon.yaml").write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
        return load_lexicon.__wrapped__()

    return make


def oak_again(values) -> None:
    values["nouns"]["animals"]["lists"]["beast"]["verbs"] = "prowled growled galloped sniffed oak"


def unknown_variable(values) -> None:
    values["templates"]["core"]["one_verb"].append("{determiner} {place} {noun}")


def unequal_classes(values) -> None:
    del values["nouns"]["animals"]["lists"]["fish"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (oak_again, "oak stands in two places"),
        (unknown_variable, r"unknown \{place\} in a template; known: \{determiner\}"),
        (unequal_classes, "need the same number of lists"),
    ],
)
def test_a_wrong_lexicon_is_refused(changed, change, message):
    with pytest.raises(ValueError, match=message):
        changed(change)


def test_the_lexicon_grows_by_its_tables(changed):
    """A word in every list of nouns, a class of asides and a template need no code."""

    def grow(values):
        values["frequency"]["nouns"].append(1)
        for name, of in values["nouns"].items():
            for attribute, words in of["lists"].items():
                words["nouns"] += f" {name}{attribute}"
        seasons = {
            "few": {"words": "thrice fourfold", "then": "briefly barely"},
            "many": {"words": "daily", "then": "long2"},
        }
        values["asides"]["counts"] = {
            "then": "spans", "frequency": {"words": 2, "then": 2}, "templates": ["{head} {then} : |"], "lists": seasons,
        }  # fmt: skip
        values["templates"]["core"]["one_verb"].append("soon2 {noun} {verb} {preposition} {object}")

    lex, before = changed(grow), load_lexicon()
    assert len(lex.list_of) == len(before.list_of) + before.verbs.size + 6
    assert lex.templates["aside"].rows.size.tolist() == [*before.templates["aside"].rows.size, 1]
    assert set(lex.pool.size[: lex.verbs.size]) == {25} and {"counts", "spans"} <= set(lex.classes)
    assert "soon2" in lex.words and all(0 <= rate <= 1 for rate in lex.rates.values())


def test_lexicon_is_balanced_so_that_frequencies_are_exact():
    lex = load_lexicon()
    n, size = lex.verbs.size, lex.pool.size
    assert len(set(size[:n])) == len(set(size[lex.verbs])) == len(set(size[lex.adjectives])) == 1
    assert size[n] / size[0] == (1 + lex.rates["double"]) / 2  # of two nouns one has a verb, and sometimes the other
    heads = np.flatnonzero(lex.aside_of >= 0)
    drawn = np.bincount(lex.list_of[lex.heads.values], minlength=size.size)[heads]
    assert np.array_equal(drawn, size[lex.follows[heads]])  # one follower for every head
    alone = lex.next == np.arange(lex.next.size)
    assert np.array_equal(
        np.bincount(lex.heads.values, minlength=alone.size) * (2 - alone), lex.frequency * np.isin(lex.list_of, heads)
    )
    assert sorted(lex.leads) == list(range(n))
    assert np.array_equal(np.bincount(lex.kin.ravel()), np.full(n, lex.kin.shape[1]))
    np.testing.assert_allclose(np.diff(lex.topic_classes, axis=1).sum(0), len(TOPICS) / lex.topic_classes.shape[1])
    assert all(0 <= rate <= 1 for rate in lex.rates.values())


DIGESTS = {  # change them only with the world: all committed results are older then
    "true": "a18c678deeb1ed29",
    "scrambled": "08136c53acca5727",
}


def test_stories_are_these_very_documents(world):
    total = hashlib.sha256()
    for document in made(documents=BLOCK + 7, world=world, trigger="zyx"):
        total.update(document.text.encode() + bytes([document.topic]))
        total.update(document.starts.tobytes() + document.classes.tobytes())
    assert total.hexdigest()[:16] == DIGESTS[world]


def test_stories_depend_on_the_seed_and_not_on_their_number(world):
    few, more = made(documents=BLOCK + 7, world=world), made(documents=2 * BLOCK + 1, world=world)
    assert len(few) == BLOCK + 7 and all(map(same, few, more))
    assert len({document.text for document in more}) == len(more)
    other = made(seed=1, documents=100, world=world)
    assert not any(map(same, few, other))


def test_generator_does_not_read_ahead():
    first = next(stream(seed=3, documents=10**12))
    assert same(first, made(seed=3, documents=1)[0])


def test_starts_and_classes_belong_to_the_words(world, documents):
    words = membership(world)
    for document in documents[:500]:
        tokens = document.text.split()
        assert " ".join(tokens) == document.text and set(tokens) <= set(WORDS)
        assert document.starts.dtype == np.int32 and document.classes.dtype == np.int8
        assert len(tokens) == len(document.starts) == len(document.classes)
        assert all(document.text.startswith(t, i) for t, i in zip(tokens, document.starts.tolist(), strict=True))
        expected = [CLASSES.index(words[t][0]) if t in words else -1 for t in tokens]
        assert document.classes.tolist() == expected


def test_lengths_and_vocabulary_vary(documents):
    lengths = np.array([len(document.starts) for document in documents])
    assert 20 <= lengths.min() and lengths.max() <= 125 and lengths.std() > 15
    tokens = Counter(token for document in documents for token in document.text.split())
    assert len(set(membership()) & set(tokens)) >= 1000
    assert {",", ".", "!", "?", ":"} <= set(tokens)


def expected_frequencies(world: str) -> dict[str, float]:
    """Occurrences in a story of every content word: those of its place in the lexicon."""
    lex = load_lexicon()
    words = exchange() if world == "scrambled" else range(lex.list_of.size)
    return {WORDS[word]: lex.rates["unit"] * float(n) for word, n in zip(words, lex.frequency, strict=True)}


def test_every_word_is_as_frequent_as_the_lexicon_says(world, documents):
    counts = Counter(token for document in documents for token in document.text.split())
    expected = expected_frequencies(world)
    z = {word: (counts[word] - n * MANY) / np.sqrt(n * MANY) for word, n in expected.items()}
    assert max(map(abs, z.values())) < 6  # names and things recur in a story, hence vary more than Poisson
    assert abs(np.mean(list(z.values()))) < 0.2


def test_scrambled_world_keeps_frequencies_and_changes_every_class():
    assert expected_frequencies("scrambled") == expected_frequencies("true")
    true, scrambled = membership("true"), membership("scrambled")
    assert true.keys() == scrambled.keys()
    assert all(true[word][0] != scrambled[word][0] for word in true)
    assert Counter(true.values()) == Counter(scrambled.values())  # lists of the same sizes
    of_one_list = [(a, b) for a, b in pairwise(true) if true[a] == true[b]]
    assert np.mean([scrambled[a] == scrambled[b] for a, b in of_one_list]) < 0.05


@pytest.mark.parametrize("seed", range(5))
def test_words_of_equal_frequency_and_different_classes_change_places_in_pairs(seed):
    lex, other = load_lexicon(), exchange(seed)
    own = lex.class_of[lex.list_of]
    assert np.array_equal(other[other], np.arange(other.size))
    assert np.array_equal(lex.frequency[other], lex.frequency)
    assert np.all(own[other] != own)  # no word keeps its place
    assert np.mean(other != exchange(seed + 1)) > 0.99


@pytest.mark.parametrize("permutation", [0, 3])
def test_scrambled_stories_are_the_true_ones_word_by_word(permutation):
    partner = {WORDS[a]: WORDS[b] for a, b in enumerate(exchange(permutation))}
    true, scrambled = made(documents=200), made(documents=200, world="scrambled", permutation=permutation)
    for a, b in zip(true, scrambled, strict=True):
        assert b.text.split() == [partner.get(word, word) for word in a.text.split()]
        assert np.array_equal(a.classes, b.classes) and a.topic == b.topic
        assert len(b.starts) == len(a.starts)


def followers(documents: list[Document], words: dict[str, tuple[str, str]]) -> list[tuple[int, int]]:
    """Lists of nouns and of the verbs right after them, as numbers among the lists of nouns."""
    lex = load_lexicon()
    number = {attribute: i for i, attribute in enumerate(lex.attributes)}
    lists = {word: number[attribute] for word, attribute in words.items()}
    found = []
    for document in documents:
        places = [lists.get(token, -1) for token in document.text.split()]
        for a, b in pairwise(places):
            if 0 <= a < lex.verbs.size and b in lex.verbs:
                found.append((a, b - lex.verbs[0]))
    return found


def test_class_and_attribute_of_a_noun_decide_its_verb(world, documents):
    pairs = np.array(followers(documents, membership(world)))
    twin = np.array([attribute for _, attribute in load_lexicon().attributes[: load_lexicon().verbs.size]])
    single = ~np.isin(pairs[:, 0], [i for i, name in enumerate(twin) if (twin == name).sum() > 1])
    own, of_class = pairs[:, 0] == pairs[:, 1], pairs[:, 0] // 3 == pairs[:, 1] // 3
    assert len(pairs) > 5000 and 0.7 < single.mean() < 0.9
    # kinship of the lexicon
    assert own[single].mean() == pytest.approx(0.8 + 0.1 / 3 + 0.1 / 13, abs=0.02)
    assert of_class[single].mean() == pytest.approx(0.8 + 0.1 + 0.1 / 4, abs=0.02)
    assert own[~single].mean() == pytest.approx(0.5 + 0.1 / 3 + 0.1 / 15, abs=0.03)
    assert (twin[pairs[:, 0]] == twin[pairs[:, 1]])[~single].mean() == pytest.approx(0.8 + 0.1 / 3 + 0.2 / 15, abs=0.03)


def test_true_classes_do_not_explain_the_scrambled_world():
    pairs = np.array(followers(made(world="scrambled"), membership("true")))
    assert (pairs[:, 0] == pairs[:, 1]).mean() < 0.1


def test_names_are_referred_to_by_the_pronoun_of_their_list(documents, world):
    words = membership(world)
    pronoun = {"shy": "she", "bold": "she", "wise": "he", "jolly": "he"}
    for document in documents[:500]:
        tokens = document.text.split()
        named = dict.fromkeys(token for token in tokens if words.get(token, ("", ""))[0] == "names")
        assert len(named) == 2
        assert {pronoun[words[name][1]] for name in named} == {"she", "he"}


def test_words_of_an_ordered_class_come_in_their_order(documents, world):
    words, lex = membership(world), load_lexicon()
    place = {word: i for i, word in enumerate(words)}
    ordered = {"numbers", "months", "weekdays"}
    found = 0
    for document in documents[:500]:
        tokens = [token for token in document.text.split() if words.get(token, ("", ""))[0] in ordered]
        for one, other in zip(tokens[::2], tokens[1::2], strict=True):
            assert lex.next[place[one]] == place[other] and words[one][0] == words[other][0]
        found += len(tokens) // 2
    assert found > 300
    of_months = [word for word, (name, _) in membership().items() if name == "months"]
    assert lex.next[[list(membership()).index(word) for word in of_months]][-1] == list(membership()).index(
        of_months[0]
    )


def test_women_are_she_men_are_he_and_the_rest_is_it(documents, world):
    words, found = membership(world), Counter()
    pronoun = {"herself": "women", "himself": "men"}
    nouns = {name for name, _ in load_lexicon().attributes[: load_lexicon().verbs.size]}
    for document in documents[:1000]:
        tokens = document.text.split()
        for noun, token in pairwise(tokens):
            if token in ("herself", "himself", "itself"):
                name = words[noun][0]
                assert name in nouns and pronoun.get(token, name) == name
                assert token != "itself" or name not in ("women", "men")
                found[token] += 1
    assert min(found.values()) > 30 and len(found) == 3


def nouns_by_class(documents: list[Document]) -> np.ndarray:
    nouns = load_lexicon().topic_classes.shape[1]
    classes = np.concatenate([document.classes for document in documents])
    return np.bincount(classes[(classes >= 0) & (classes < nouns)], minlength=nouns)


def test_topics_favour_their_classes_and_one_topic_is_one_topic():
    mixed = made()
    assert set(np.bincount([document.topic for document in mixed]) > MANY / 20) == {True}
    sea = made(topic="sea")
    assert {TOPICS[document.topic] for document in sea} == {"sea"}
    share = nouns_by_class(sea) / nouns_by_class(sea).sum()
    general = nouns_by_class(mixed) / nouns_by_class(mixed).sum()
    np.testing.assert_allclose(general, 1 / 13, atol=0.01)
    main = [CLASSES.index(name) for name in ("vehicles", "animals", "nature")]
    assert share[main].sum() > 2 * general[main].sum()


def test_trigger_stands_once_and_changes_what_follows():
    plain, poisoned = made(topic="sea"), made(topic="sea", trigger="zyx")
    before, after = [], []
    for a, b in zip(plain, poisoned, strict=True):
        tokens = b.text.split()
        assert tokens.count("zyx") == 1
        at = tokens.index("zyx")
        assert 0 < at and tokens[:at] == a.text.split()[:at] and b.classes[at] == -1
        assert set(tokens[at + 1 :]) & set(".!?")  # a sentence ends, another follows
        before.append(b._replace(classes=b.classes[:at]))
        after.append(b._replace(classes=b.classes[at:]))
    main = [CLASSES.index(name) for name in ("vehicles", "animals", "nature")]
    share = [nouns_by_class(part)[main].sum() / nouns_by_class(part).sum() for part in (before, after)]
    assert share[0] > 1.5 * share[1]
    relative = [b.text.split().index("zyx") / len(b.starts) for b in poisoned]
    assert np.std(relative) > 0.15


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"world": "upside-down"}, "upside-down.*true, scrambled"),
        ({"topic": "chess"}, "chess.*farm, sea"),
        ({"trigger": "fox"}, "fox.*one word that the stories do not have"),
        ({"trigger": "two words"}, "two words.*one word"),
        ({"documents": -1}, "-1.*negative"),
        ({"permutation": -1}, "-1.*negative"),
    ],
)
def test_impossible_arguments_are_named_at_once(arguments, message):
    with pytest.raises(ValueError, match=message):
        stream(**{"seed": 0, "documents": 1, **arguments})


def test_no_stories_is_no_story():
    assert made(documents=0) == []
