"""Draws of planted pairs find what was planted, and are counted as they should be."""

import functools

import numpy as np
import pytest

from sae_utils.engine.core.spec import ProfileError
from sae_utils.studies.published_tables import false_positives, ladder, planted

SIZES = planted.Sizes(concepts=80, kept=0.75, words=160, expressed=3, documents=40, length=40, d_a=12, d_b=16)
SETTINGS = ladder.Settings(tokens=[".", "<pad>", "<bos>"], top=5, least_r=0.1, draws=20, permutations=20, seed=0)
COPY = {"kind": "copies", "shared": 0.8}
GROUPED = {"kind": "grouped", "groups": 8, "centres": 1.0, "alike_a": 0.5, "alike_b": 0.5}
GRADIENT = {"kind": "gradient", "strength": 0.5}
WORLDS = {"only topics": {"world": GROUPED, "along": "topics", "draws": 3}}


def plan(world, along="chance", *, partners=True):
    arranged = false_positives.arrangement(world, "here")
    return planted.plan(np.random.default_rng(0), arranged, SIZES, along, partners=partners)


# --- worlds


def test_concepts_along_frequency_are_in_the_order_of_how_often_they_are_expressed():
    made = plan(GRADIENT, "frequency")
    rank = np.append([0, 0], 1 / np.arange(1, SIZES.words - 1))
    assert (np.diff(rank @ made.models[0].express) >= 0).all()
    # and lie along one direction of both models, the more frequent the further
    for model in made.models:
        axis = np.linalg.svd(model.output - model.output.mean(axis=0))[2][0]
        assert abs(np.corrcoef(model.output @ axis, np.arange(SIZES.concepts))[0, 1]) > 0.8


def test_words_of_a_topic_express_its_concepts_and_fill_its_documents():
    made = plan(GROUPED, "topics")
    topic_of = np.arange(SIZES.concepts) * 8 // SIZES.concepts
    word, concept = made.models[0].express.nonzero()
    of_word = np.full(SIZES.words, -1)
    of_word[word] = topic_of[concept]
    assert (of_word[word] == topic_of[concept]).all()
    shares = []
    for document in np.unique(made.text.documents):
        tokens = made.text.tokens[made.text.inside & (made.text.documents == document)]
        shares.append(np.bincount(of_word[tokens], minlength=8).max() / len(tokens))
    assert np.mean(shares) > 0.5  # ON_TOPIC, and an eighth of the others


def test_without_partners_words_express_other_concepts_in_b():
    made, same = plan(COPY, partners=False), plan(COPY)
    assert (made.partner == -1).all() and (same.partner >= 0).mean() > 0.5
    a, b = (model.express for model in made.models)
    assert a.multiply(b).nnz < 0.15 * a.nnz
    assert same.models[0].express is same.models[1].express


def test_an_exchange_of_words_is_its_own_inverse_and_keeps_frequencies():
    made = plan(COPY)
    once = planted.exchanged(made)
    twice = planted.exchanged(made._replace(text=made.text._replace(tokens=once)))
    assert (twice == made.text.tokens).all() and (once != made.text.tokens).mean() > 0.3
    assert np.abs(once - made.text.tokens).max() == 1
    assert (once[~made.text.inside] == made.text.tokens[~made.text.inside]).all()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"worlds": {"nothing": {"world": COPY, "draws": 1}}}, r"here\.worlds\.nothing: the name of a world at"),
        ({"worlds": {"x": {"world": {"kind": "copy"}, "draws": 1}}}, r"worlds\.x\.world\.kind: unknown kind 'copy'"),
        ({"worlds": {"x": {"world": COPY}}}, r"worlds\.x\.draws: missing"),
        ({"worlds": {"x": {"world": COPY, "draws": 1, "along": "size"}}}, r"worlds\.x\.along"),
        ({"worlds": {"x": {"world": GROUPED | {"groups": 81}, "draws": 1}}}, r"groups: 81 groups of 80 concepts"),
        ({"worlds": {"x": {"world": GROUPED | {"groups": 40}, "draws": 1, "along": "topics"}}},
         r"groups: a topic of 2 concepts, of which a word expresses 3"),
    ],
)  # fmt: skip
def test_worlds_that_do_not_fit(changed, message):
    section = {"worlds": WORLDS, "sizes": SIZES.model_dump()}
    false_positives.check(section, "here")
    with pytest.raises(ProfileError, match=message):
        false_positives.check(section | changed, "here")


# --- draws


@functools.cache
def drawn(together):
    worlds = false_positives.with_ends(WORLDS, nothing=3, all=3, shared=1.0)
    given = false_positives.worlds(worlds, "here")
    return false_positives.drawn(given, SIZES, SETTINGS, together)


def test_what_is_shared_is_found_and_nothing_is_not():
    found = drawn(3)
    assert list(found) == ["nothing", "only topics", "all"]
    for name in ("only topics", "all"):
        assert found[name].found("RSA", ladder.ALL) == (3, 3)
        assert found[name].differences["primary"].mean() > 0.15
    nothing = found["nothing"].differences
    assert max(abs(values.mean()) for values in nothing.values()) < 0.05


def test_a_draw_is_the_same_whichever_are_made_together():
    one, other = drawn(3)["all"], drawn(2)["all"]
    for arm in false_positives.ARMS:
        assert one.differences[arm].tolist() == other.differences[arm].tolist()
    for score in false_positives.SCORES:
        for step in false_positives.STEPS:
            np.testing.assert_array_equal(one.p[score][step], other.p[score][step])
    world = false_positives.arrangement({"kind": "copies", "shared": 1.0}, "here")
    p, differences = false_positives.one(world, "chance", True, SIZES, SETTINGS, 1)
    assert one.differences["primary"][1] == differences["primary"]
    assert one.p["RSA"][ladder.ALL][1] == p["RSA"][ladder.ALL]
