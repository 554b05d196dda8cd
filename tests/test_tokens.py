"""The primary pair decides where features are compared: at every token, or where words end in two tokenizers."""

import numpy as np
import pytest
import torch

from sae_utils import matching, pipeline, replicates
from sae_utils.engine import tokens
from sae_utils.engine.core.spec import ProfileError
from sae_utils.engine.text import tokenization
from sae_utils.studies.controls import reading
from sae_utils.studies.layer_sweep import cells
from sae_utils.studies.llm_vs_sae import heard, units
from sae_utils.studies.semantic_subspaces import arms, centroids, concepts

NAMES = ("one_layer", "two_layer")


@pytest.fixture
def as_two(monkeypatch):
    """The two models are compared as if their one tokenizer, of words, were two."""

    def two() -> None:
        for module in (tokens, pipeline):
            monkeypatch.setattr(module, "one_tokenizer", lambda profile: False)

    return two


@pytest.fixture
def mixed(world):
    """The world whose second model reads pieces of words, and a twin of the first."""
    pieces = world.models["two_layer"].model_copy(update={"tokenizer": "bpe", "vocabulary": 600})
    corpus = world.corpus.model_copy(update={"context": 300})
    other = world.dictionaries["one_layer"].model_copy(update={"seed": 7})
    dictionaries = world.dictionaries | {"again": other}
    common = world.common.model_copy(update={"corpus": world.common.corpus | {"context": 300}})
    models = world.models | {"two_layer": pieces}
    return world._replace(models=models, corpus=corpus, dictionaries=dictionaries, common=common)


def test_one_tokenizer_stays_at_every_token(world):
    assert pipeline.one_tokenizer(world) and pipeline.positions(world) is None
    found, alone = pipeline.features(world, "one_layer"), pipeline.alone(world, "one_layer")
    assert (found.sites.key, found.kept.key) == (alone.sites.key, alone.kept.key)
    assert pipeline.vocabulary(world, "one_layer") == pipeline.own_vocabulary(world, "one_layer")


@pytest.mark.parametrize("exchanged", [None, 1])
def test_one_tokenizer_as_two_gives_the_codes_and_labels_of_tokens(world, as_two, exchanged):
    """Whole words end at every token, so that nothing but the numbers of the labels may differ."""
    plain = [pipeline.features(world, name, exchanged) for name in NAMES]
    labels, words = pipeline.vocabulary(world, NAMES[0]), pipeline.words(world, NAMES[0], plain[0].sites)
    as_two()
    found = [pipeline.features(world, name, exchanged) for name in NAMES]
    for one, two in zip(plain, found, strict=True):
        assert one.kept.key != two.kept.key and two.sites.key == found[0].sites.key
        np.testing.assert_array_equal(one.codes.toarray(), two.codes.toarray())
        for name in ("documents", "classes", "split", "positions", "rows"):
            np.testing.assert_array_equal(one.sites.array(name), two.sites.array(name))
    spelt = np.array(pipeline.vocabulary(world, NAMES[0]))[found[0].sites.array("tokens")]
    expected = np.array(labels)[plain[0].sites.array("tokens")]
    known = expected != tokenization.UNKNOWN
    np.testing.assert_array_equal(spelt[known], expected[known])
    own = pipeline.words(world, NAMES[0], found[0].sites)
    of = [np.array([*x.text, ""])[x.of] for x in (words, own)]
    np.testing.assert_array_equal(*(x[known] for x in of))


def test_the_analyses_of_one_tokenizer_as_two(world, as_two):
    """Arms, pairs, neurons, concepts and centroids are the same."""
    lists, rule = {"creatures": ("fox", "owl")}, concepts.rule({"kind": "mass", "share": 0.07})

    def measured():
        first = units.neurons_on(world, *NAMES, rows=8)
        neurons = [
            (x.arm, x.pairs.a, x.pairs.b, x.held_out, x.rows[0], x.content)
            for x in units.matched(world, *NAMES, units.NEURONS, 8, exchanged=1)
        ]
        own = heard.of_neurons(world, NAMES[0], lists)
        both = pipeline.correlated(*(pipeline.features(world, name) for name in NAMES), 8)
        return {
            "arms": [float(x) for x in replicates.arms(world, NAMES, ["rsa_spearman"], 3)[:4]],
            "pairs": matching.mutual(both.found).b,
            "sweep": [x.arms["control"].b for x in cells.paired(world, *NAMES, 3, 8)],
            "neurons on": torch.cat([x.flatten() for x in first]).numpy(),
            "heard": [own.total, own.firings, own.occurs, own.mass.toarray()],
            "about": heard.about(world, NAMES[0], units.SAE, lists, rule)["creatures"],
            "roles": [x.live for x in arms.roles(world, NAMES, 3, {})],
            "centroids": centroids.measured(world, NAMES, "classes", "rsa_spearman", 0),
            "units": neurons,
        }

    plain = measured()
    as_two()
    assert_alike(measured(), plain)


def assert_alike(found, expected):
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        found, expected = list(found.values()), list(expected.values())
    if isinstance(expected, str):
        assert found == expected
    elif isinstance(expected, list | tuple):
        assert len(found) == len(expected)
        for x, y in zip(found, expected, strict=True):
            assert_alike(x, y)
    else:
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_embeddings_of_words_are_those_of_their_tokens(world, as_two):
    plain = reading.embeddings(world, NAMES)
    of = {label: number for number, label in enumerate(pipeline.vocabulary(world, NAMES[0]))}
    as_two()
    used = np.unique(pipeline.features(world, NAMES[0]).sites.array("tokens"))
    labels = pipeline.vocabulary(world, NAMES[0])
    used = [token for token in used if labels[token] in of]
    for words, rows in zip(reading.embeddings(world, NAMES), plain, strict=True):
        assert len(words) == len(labels) and len(used) > 50
        np.testing.assert_allclose(words[used], rows[[of[labels[token]] for token in used]], rtol=1e-5)


# --- two tokenizers


def test_every_comparison_is_at_the_same_words(mixed):
    """Also that of two SAEs of one model, so that n and text are those of the primary pair."""
    assert not pipeline.one_tokenizer(mixed)
    found = pipeline.features_of(mixed, [*NAMES, "again"])
    assert len({x.sites.key for x in found.values()}) == 1
    labels = [pipeline.vocabulary(mixed, name) for name in NAMES]
    assert labels[0] == labels[1] and "fox" in labels[0]
    words = [pipeline.words(mixed, name, found[name].sites) for name in NAMES]
    np.testing.assert_array_equal(words[0].of, words[1].of)
    assert {"fox", "owl"} <= {*words[0].text}
    pieces = pipeline.alone(mixed, "two_layer")
    last = found["two_layer"].sites.array("last_b")
    np.testing.assert_array_equal(found["two_layer"].codes.toarray(), pieces.codes[last].toarray())
    assert len(last) < pieces.sites.meta["tokens"]


def test_both_arms_read_words_at_the_same_places(mixed):
    plain, other = (pipeline.positions(mixed, seed) for seed in (None, 1))
    for name in ("documents", "split", "classes"):
        np.testing.assert_array_equal(plain.array(name), other.array(name))
    assert (plain.array("tokens") != other.array("tokens")).mean() > 0.1
    own, found = replicates.matched(mixed, NAMES, 2)
    assert {len(x.features) for x in found} != {0} and len({len(x.blocks["matching"]) for x in own}) == 1


def test_units_of_two_tokenizers_are_paired(mixed):
    for kind in units.KINDS:
        found = units.matched(mixed, *NAMES, kind, 8, exchanged=1)
        assert [x.arm for x in found] != [] and all(len(x.pairs) for x in found)
    x, y = units.neurons_on(mixed, *NAMES, rows=4)
    split = pipeline.positions(mixed).array("split")
    assert len(x) == len(y) > 50 and len(x) <= (split == 1).sum()


def test_rows_that_exchanged_words_would_cut_elsewhere_are_refused(mixed):
    short = mixed._replace(corpus=mixed.corpus.model_copy(update={"context": 40}))
    short = short._replace(common=short.common.model_copy(update={"skip": 3}))
    with pytest.raises(ProfileError, match=r"corpus\.context: 40 tokens cut documents into rows"):
        pipeline.positions(short, 1)


def test_a_third_tokenizer_is_refused(mixed):
    small = mixed.models["two_layer"].model_copy(update={"vocabulary": 500})
    third = mixed.dictionaries["two_layer"].model_copy(update={"model": "small"})
    run = mixed._replace(models=mixed.models | {"small": small}, dictionaries=mixed.dictionaries | {"third": third})
    with pytest.raises(ProfileError, match=r"dictionaries\.third: small has a third tokenizer"):
        pipeline.side_of(run, "third")
