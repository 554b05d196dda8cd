"""Words and labels of tokens are those of the text with every kind of tokenizer."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
from tiny_tokenizers import KINDS, SPECIAL, TEXT, tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from sae_utils import pipeline, profiles
from sae_utils.engine import tokens
from sae_utils.engine.saes import trainer
from sae_utils.engine.text import words


def words_of(made: PreTrainedTokenizerFast, text: str):
    """Ids of a text, its `Words`, and the words in their order."""
    ids = np.array(made(text, add_special_tokens=False)["input_ids"])
    found = words.find_words(words.token_texts(made), ids, np.zeros(len(ids), int), np.arange(len(ids)))
    return ids, found, [found.text[i] for i in found.of if i >= 0]


def in_one_row(texts: list[bytes]) -> words.Words:
    n = len(texts)
    return words.find_words(texts, np.arange(n), np.zeros(n, int), np.arange(n))


@pytest.mark.parametrize("kind", KINDS)
def test_every_tokenizer_gives_the_words_of_the_text(kind):
    """Oracle: the same text split without a tokenizer."""
    ids, _, found = words_of(tokenizer(kind), TEXT)
    assert found == [word.casefold() for word in re.findall(r"[^\W_]+", TEXT)]
    if kind != "word":
        assert len(ids) > len(found) + 20  # the tokenizer cuts many words


def test_a_word_of_several_tokens_is_found_at_the_last():
    made = tokenizer("byte")
    ids, found, _ = words_of(made, " naïve sheen")
    names = [made.decode([i]) for i in ids]
    ends = [i for i in range(len(ids)) if found.of[i] >= 0]
    assert len(ends) == 2 and ends[1] == len(ids) - 1
    assert "".join(names[ends[0] + 1 :]) == " sheen"
    assert [found.text[found.of[i]] for i in ends] == ["naïve", "sheen"]


def test_no_word_crosses_a_row_or_a_gap():
    texts = [b" she", b"en", b"d"]
    joined = words.find_words(texts, np.array([0, 1]), np.array([0, 0]), np.array([1, 2]))
    assert joined.text == ("sheen",) and joined.of.tolist() == [-1, 0]
    for rows, positions in (([0, 1], [1, 1]), ([0, 0], [1, 3])):
        cut = words.find_words(texts, np.array([0, 1]), np.array(rows), np.array(positions))
        assert [cut.text[i] for i in cut.of] == ["she", "en"]


def test_special_tokens_are_no_words():
    made = tokenizer("word")
    texts = words.token_texts(made)
    assert [texts[made.convert_tokens_to_ids(name)] for name in SPECIAL] == [b"\n"] * 3


def test_a_text_of_marks_and_an_empty_text_have_no_words():
    marks = in_one_row([b" ,", b"."])
    assert marks.text == () and marks.of.tolist() == [-1, -1]
    assert in_one_row([]).of.size == 0


def test_a_row_may_begin_in_the_middle_of_a_character():
    found = in_one_row([b"\xa9t\xc3", b"\xa9 ok"])
    assert found.text == ("ok", "té") and found.of.tolist() == [-1, 0]


def test_the_words_of_the_stories_are_their_tokens(world):
    """Tokens of the toys are whole words: the word at a site is its token, and marks are no words."""
    sites = pipeline.features(world, "one_layer").sites
    found = pipeline.words(world, "one_layer", sites)
    made = AutoTokenizer.from_pretrained(pipeline.tokenizer(world, "one_layer").path, trust_remote_code=False)
    names = [name.casefold() for name in made.convert_ids_to_tokens(sites.array("tokens").tolist())]
    assert [found.text[i] if i >= 0 else None for i in found.of] == [name if name.isalnum() else None for name in names]


def test_the_vocabulary_is_that_of_the_model_that_a_dictionary_reads(world):
    found = pipeline.vocabulary(world, "one_layer")
    assert {"<bos>", "<pad>", "<unk>", "fox", ".", "?"} <= {*found} and len({*found}) == len(found)


def test_a_checkpoint_has_the_vocabulary_of_its_dictionary(monkeypatch):
    monkeypatch.setattr(AutoTokenizer, "from_pretrained", lambda path, **_: path)
    monkeypatch.setattr(tokens, "tokenizer", lambda profile, model: SimpleNamespace(path=model))
    monkeypatch.setattr(tokens, "token_labels", lambda path: [path])
    smoke = profiles.load("smoke")
    smoke.dictionaries["early"] = trainer.SaeCheckpoint(kind="checkpoint", of="two_layer_0", number=0)
    assert pipeline.vocabulary(smoke, "early") == ["two_layer_0"]


# --- labels: one rule for every tokenizer


@pytest.mark.parametrize("kind", KINDS)
def test_the_labels_of_a_text_spell_it(kind):
    """The labels side by side, decoded by the rule, give the text, without the spaces that a tokenizer drops."""
    made = tokenizer(kind)
    labels = words.token_labels(made)
    spelled = [labels[i] for i in made(TEXT, add_special_tokens=False)["input_ids"]]
    assert not re.search("Ġ|▁|##|</w>|<0x|<U|\ufffd", "".join(labels))
    text = " ".join(spelled) if kind == "word" else "".join(spelled)
    decoded = re.sub(r"(?:\\x[0-9a-f]{2})+", lambda m: bytes.fromhex(m[0].replace(r"\x", "")).decode(), text)
    squeezed = [re.sub(r"\s", "", x.replace("␣", " ")) for x in (decoded, TEXT)]
    assert squeezed[0] == squeezed[1]
    if kind not in ("word", "wordpiece", "end of word"):  # these also cut at marks
        assert decoded.replace("␣", " ").strip() == TEXT
    assert {"<pad>", "<bos>", "<unk>"} <= {*labels}


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_share_a_label_only_where_they_share_their_text(kind):
    made = tokenizer(kind)
    labels, texts = words.token_labels(made), words.token_texts(made)
    texts_of = {}
    for label, text in zip(labels, texts, strict=True):
        texts_of.setdefault(label, set()).add(text)
    assert all(len(same) == 1 for same in texts_of.values())
    assert "" not in texts_of
    if kind != "byte fallback":  # there <0x41> is the letter A
        assert len(texts_of) == len(labels)


@pytest.mark.parametrize("kind", ["wordpiece", "byte", "bytes and digits", "unigram"])
def test_all_tokenizers_show_the_space_before_a_word_alike(kind):
    made = tokenizer(kind)
    labels = words.token_labels(made)
    spelled = [labels[i] for i in made(" the shed", add_special_tokens=False)["input_ids"]]
    assert "".join(spelled) == "␣the␣shed" and all(label.count("␣") <= 1 for label in spelled)


def test_whole_words_are_shown_without_a_space():
    assert {"queen", "she", ".", "“"} <= {*words.token_labels(tokenizer("word"))}
