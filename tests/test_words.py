"""Words are found whole, through whatever the tokenizer cut them into."""

import re

import numpy as np
import pytest
from tiny_tokenizers import KINDS, SPECIAL, TEXT, tokenizer
from transformers import PreTrainedTokenizerFast

from sae_utils import pipeline
from sae_utils.studies import words


def found(made: PreTrainedTokenizerFast, text: str):
    ids = np.array(made(text, add_special_tokens=False)["input_ids"])
    read = words.spelt(words.pieces(made), ids, np.zeros(len(ids), int), np.arange(len(ids)))
    return ids, read, [read.text[i] for i in read.of if i >= 0]


@pytest.mark.parametrize("kind", KINDS)
def test_words_of_any_tokenizer_are_those_of_the_text(kind):
    """Oracle: the same text split without a tokenizer."""
    ids, _, seen = found(tokenizer(kind), TEXT)
    assert seen == [word.casefold() for word in re.findall(r"[^\W_]+", TEXT)]
    if kind != "word":
        assert len(ids) > len(seen) + 20  # many a word is in pieces


def test_a_word_in_pieces_counts_at_its_last():
    made = tokenizer("byte")
    ids, read, _ = found(made, " naïve sheen")
    names = [made.decode([i]) for i in ids]
    ends = [i for i in range(len(ids)) if read.of[i] >= 0]
    assert len(ends) == 2 and ends[1] == len(ids) - 1
    assert "".join(names[ends[0] + 1 :]) == " sheen"
    assert [read.text[read.of[i]] for i in ends] == ["naïve", "sheen"]


def test_no_word_crosses_a_row_or_a_gap():
    texts = [b" she", b"en", b"d"]
    whole = words.spelt(texts, np.array([0, 1]), np.array([0, 0]), np.array([1, 2]))
    assert whole.text == ("sheen",) and whole.of.tolist() == [-1, 0]
    for rows, positions in (([0, 1], [1, 1]), ([0, 0], [1, 3])):
        cut = words.spelt(texts, np.array([0, 1]), np.array(rows), np.array(positions))
        assert [cut.text[i] for i in cut.of] == ["she", "en"]


def test_special_tokens_are_no_words():
    made = tokenizer("word")
    texts = words.pieces(made)
    assert [texts[made.convert_tokens_to_ids(name)] for name in SPECIAL] == [b"\n"] * 3


def test_nothing_but_marks_and_nothing_at_all():
    none = words.spelt([b" ,", b"."], np.array([0, 1]), np.array([0, 0]), np.array([1, 2]))
    assert none.text == () and none.of.tolist() == [-1, -1]
    empty = np.array([], int)
    assert words.spelt([b"a"], empty, empty, empty).of.size == 0


def test_half_a_letter_is_no_word():
    """A row may begin in the middle of a letter of several bytes."""
    part = words.spelt([b"\xa9t\xc3", b"\xa9 ok"], np.array([0, 1]), np.array([0, 0]), np.array([1, 2]))
    assert part.text == ("ok", "té") and part.of.tolist() == [-1, 0]


def test_the_words_of_the_stories_are_their_tokens(world):
    """With the toys' whole-word tokenizer, a site's word is its token; the true class knows no other."""
    features = pipeline.features(world, "one_layer")
    read = words.read(world, "one_layer", features.sites)
    from transformers import AutoTokenizer

    names = AutoTokenizer.from_pretrained(
        pipeline.tokenizer(world, "one_layer").path, trust_remote_code=False
    ).convert_ids_to_tokens(range(pipeline.tokenizer(world, "one_layer").meta["vocabulary"]))
    spelt = [names[t].casefold() for t in features.sites.array("tokens")]
    assert [read.text[i] if i >= 0 else None for i in read.of] == [word if word.isalnum() else None for word in spelt]
