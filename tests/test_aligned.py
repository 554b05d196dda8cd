"""Positions have their words, and activations there are those of the last token of each."""

import re

import numpy as np
import pytest
import torch
from test_across_tokenizers import Side, placed, stories

from sae_utils import labels, matching, pipeline, store
from sae_utils.engine.saes import activations, aligned
from sae_utils.engine.text import alignment, corpora
from sae_utils.studies.semantic_subspaces import concepts


@store.artefact
def planted(folder, sites, features: list[int], width: int):
    """Codes in which every token fires one feature with activation 1."""
    np.save(folder / "indices.npy", np.array(features, np.int32))
    np.save(folder / "values.npy", np.ones(len(features), np.float32))
    np.save(folder / "indptr.npy", np.arange(len(features) + 1))
    return {"features": width, "sites": sites.key}


@pytest.fixture
def sides():
    """Two tokenizers of pieces with different vocabularies, one with packed rows."""
    return Side(stories(), "bpe", 700, 150, packed=True), Side(stories(), "bpe", 400, 200)


@pytest.fixture
def kept(sides):
    source = stories()
    return aligned.worded(placed(*sides), source, aligned.lexis(source, ["zyx"]))


def spoken(source) -> list[str]:
    """The words of the judged documents, one after another."""
    judged = source.array("split") > 0
    texts = next(corpora.blocks(source)).texts
    return [word for number in np.flatnonzero(judged) for word in alignment.RUN.findall(texts[number])]


def test_a_position_is_labelled_by_the_word_that_ends_there(kept):
    """In documents that are one row on both sides every word has its position."""
    source = stories()
    words = aligned.words_of(aligned.lexis(source, ["zyx"]))
    found = [words[token] for token in kept.array("tokens")]
    assert found == spoken(source) and "zyx" in words and words == sorted(words)


def test_positions_inside_words_have_no_label(sides):
    source = stories()
    with pytest.raises(ValueError, match=r"no word ends at character \d+ of document"):
        aligned.worded(placed(*sides, "ends"), source, aligned.lexis(source))


def test_words_are_folded_and_marks_are_none():
    found = aligned.find_words(["The", "the", "...", "x_1", "É", "_"], np.array([0, 1, 2, 3, 4, 5, 3]))
    assert found.text == ("1", "the", "é")
    assert [found.text[i] if i >= 0 else "" for i in found.of] == ["the", "the", "", "1", "é", "", "1"]


def word_codes(side: Side, kept, letter: aligned.Side, of_word: np.ndarray, width: int):
    """Codes of the sites of a side: the last token of a word fires the feature `of_word`, others the last feature."""
    number = np.full(side.sites.meta["tokens"], width - 1)
    number[kept.array(f"last_{letter}")] = of_word[kept.array("tokens")]
    return planted(side.sites, number.tolist(), width)


def test_functions_of_words_are_found_across_tokenizers(sides, kept):
    """Every feature fires on the words of its first letter; B has another order: r is 1, labels are the words."""
    words = aligned.words_of(aligned.lexis(stories(), ["zyx"]))
    letter = np.array([ord(word[0].lower()) - 97 if re.match("[a-zA-Z]", word) else 26 for word in words])
    order, features = np.random.default_rng(0).permutation(27), []
    for side, name, number in zip(sides, aligned.SIDES, (letter, order[letter]), strict=True):
        codes = word_codes(side, kept, name, number, 28)
        own = pipeline.Features(activations.matrix(codes), np.empty((0, 0)), side.sites, codes)
        features.append(pipeline.at(own, kept, name))
    a, b = (x.codes for x in features)
    np.testing.assert_array_equal(a.toarray()[:, :27], b.toarray()[:, order])
    tokens, documents = kept.array("tokens"), kept.array("documents")
    top = labels.top_tokens(labels.label(a, tokens, documents), words)
    for feature in range(26):
        assert {word[0].lower() for word in top[feature] if word} <= {chr(97 + feature)}
    found = concepts.evidence(b, aligned.find_words(words, tokens), documents, np.ones(len(tokens), bool))
    listed = [word for word in found.words if word[0] == "f"]
    about = concepts.about(found, concepts.word_mask(listed, found), concepts.rule({"kind": "mass", "share": 0.9}))
    assert np.flatnonzero(about).tolist() == [order[5]]


def test_the_best_partner_of_a_word_correlates_by_one(sides, kept):
    number = np.arange(kept.meta["lexis"]) % 40
    features = []
    for side, name in zip(sides, aligned.SIDES, strict=True):
        codes = word_codes(side, kept, name, number, 41)
        own = pipeline.Features(activations.matrix(codes), np.empty((0, 0)), side.sites, codes)
        features.append(pipeline.at(own, kept, name))
    both = pipeline.correlated(*features, 4)
    pairs = matching.mutual(both.found)
    assert len(pairs) > 30
    np.testing.assert_array_equal(pairs.a, pairs.b)
    np.testing.assert_allclose(both.held_out(pairs), 1, atol=1e-5)


@pytest.mark.parametrize("how", aligned.AGGREGATIONS)
def test_packed_rows_are_joined_like_others(how, monkeypatch):
    """Sites of packed rows are sorted by split, positions by document."""
    packed, plain = (Side(stories(), "bpe", 700, 150, packed=x) for x in (True, False))
    other, found = Side(stories(), "bpe", 400, 200), []
    for side in (packed, plain):
        token = np.asarray(side.sites.array("tokens"))
        codes = planted(side.sites, (token % 13).tolist(), 13)
        monkeypatch.setattr(aligned, "BLOCK", 50)
        found.append(activations.matrix(aligned.aggregated(codes, placed(side, other), "a", how)) > 0)
    assert found[0].shape == found[1].shape and (found[0] != found[1]).nnz == 0


def test_the_tokens_of_a_word(sides, kept):
    side = sides[1]
    tokens, vocabulary = side.sites.array("tokens"), len(side.loaded)
    expected = np.zeros((kept.meta["lexis"], vocabulary))
    for word, first, last in zip(kept.array("tokens"), kept.array("first_b"), kept.array("last_b"), strict=True):
        for token in tokens[first : last + 1]:
            expected[word, token] += 1
    np.testing.assert_array_equal(aligned.spelt(kept, side.sites, "b", vocabulary).toarray(), expected)


@pytest.mark.parametrize("size", [1, 7, 64, 1000])
def test_windows_at_places_are_those_of_the_whole(size):
    generator = np.random.default_rng(size)
    whole = torch.from_numpy(generator.normal(size=(200, 3)))
    chosen = np.flatnonzero(generator.random(200) < 0.4)
    windows = ({"hook": part} for part in whole.split([50, 1, 99, 50]))
    parts = [x["hook"] for x in aligned.at_places(windows, chosen, size)]
    assert all(len(part) == size for part in parts[:-1]) and len(parts[-1]) <= size
    assert torch.equal(torch.cat(parts), whole[chosen])


@pytest.mark.parametrize("split", ["matching", "held_out"])
def test_places_count_within_a_split(sides, kept, split):
    for side, name in zip(sides, aligned.SIDES, strict=True):
        of_split = side.sites.array("tokens")[side.sites.array("split") == corpora.SPLITS.index(split)]
        chosen = kept.array("split") == corpora.SPLITS.index(split)
        found = aligned.places(kept, side.sites, name, split)
        expected = side.sites.array("tokens")[kept.array(f"last_{name}")[chosen]]
        np.testing.assert_array_equal(of_split[found], expected)
        assert (np.diff(found) > 0).all()
