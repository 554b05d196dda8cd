import re
from types import SimpleNamespace

import numpy as np
import pytest
import tiny_tokenizers
from scipy import sparse

from sae_utils import labels, profiles
from sae_utils.studies import contexts, words

WORDS = ["the", "cat", "sat", "down", "there"]


@pytest.fixture
def found():
    tokens, document = np.array([0, 1, 2, 3, 0, 1, 4, 1]), np.array([0, 0, 0, 0, 1, 1, 1, 1])
    codes = np.zeros((8, 3), np.float32)
    codes[[1, 5, 2, 7], 0] = [3, 5, 4, 1]  # cat, sat, cat, cat
    codes[4, 1] = 1
    return labels.label(sparse.csr_array(codes), tokens, document, k=4, window=3)


def test_distinct_top_tokens_strongest_first(found):
    assert contexts.distinct(found, [0, 1, 2], WORDS) == ["cat sat", "the", ""]
    assert contexts.distinct(found, [0], WORDS, most=1) == ["cat"]
    assert contexts.top(found, WORDS)[0].tolist() == ["cat", "sat", "cat", "cat"]


def test_a_quote_stays_within_its_document(found):
    assert contexts.quote(found, [0, 1, 2], WORDS, reach=2) == ["the [cat] there cat", "[the] cat there", ""]
    assert contexts.quote(found, [1], WORDS, reach=1) == ["[the] cat"]
    with pytest.raises(ValueError, match="contexts hold 3 tokens either side"):
        contexts.quote(found, [1], WORDS, reach=4)


def test_the_vocabulary_is_that_of_the_model_that_is_read(world):
    found = contexts.vocabulary(world, "one_layer")
    assert {"<bos>", "<pad>", "<unk>", "fox", ".", '"'} <= {*found} and len({*found}) == len(found)


def test_a_checkpoint_reads_what_its_dictionary_reads(monkeypatch):
    import transformers

    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", lambda path, **_: path)
    monkeypatch.setattr(contexts.pipeline, "tokenizer", lambda profile, model: SimpleNamespace(path=model))
    monkeypatch.setattr(contexts, "shown", lambda path: [path])
    assert contexts.vocabulary(profiles.load("smoke"), "two_layer_0_early") == ["two_layer_0"]


# --- how tokens are shown: one rule for every tokenizer


@pytest.mark.parametrize("kind", tiny_tokenizers.KINDS)
def test_the_labels_of_a_text_spell_it(kind):
    """Put side by side, and read by the rule, they are the text with one space before every word of its tokenizer."""
    made = tiny_tokenizers.tokenizer(kind)
    found = contexts.shown(made)
    ids = made(tiny_tokenizers.TEXT, add_special_tokens=False)["input_ids"]
    spelt = [found[i] for i in ids]
    assert not re.search("Ġ|▁|##|</w>|<0x|<U|\ufffd", "".join(found))
    text = " ".join(spelt) if kind == "word" else "".join(spelt)
    read = re.sub(r"(?:\\x[0-9a-f]{2})+", lambda m: bytes.fromhex(m[0].replace(r"\x", "")).decode(), text)
    squeezed = [re.sub(r"\s", "", x.replace("␣", " ")) for x in (read, tiny_tokenizers.TEXT)]
    assert squeezed[0] == squeezed[1]
    if kind not in ("word", "wordpiece", "end of word"):  # which cut at marks as well
        assert read.replace("␣", " ").strip() == tiny_tokenizers.TEXT
    assert {"<pad>", "<bos>", "<unk>"} <= {*found}


@pytest.mark.parametrize("kind", tiny_tokenizers.KINDS)
def test_tokens_share_a_label_only_where_their_text_is_one(kind):
    made = tiny_tokenizers.tokenizer(kind)
    found, texts = contexts.shown(made), words.pieces(made)
    by_label = {}
    for token, label in enumerate(found):
        by_label.setdefault(label, set()).add(texts[token])
    assert all(len(same) == 1 for same in by_label.values())
    assert "" not in by_label
    if kind not in ("byte fallback",):  # where <0x41> is the letter A
        assert len(by_label) == len(found)


@pytest.mark.parametrize("kind", ["wordpiece", "byte", "bytes and digits", "unigram"])
def test_a_space_before_a_word_is_shown_alike(kind):
    made = tiny_tokenizers.tokenizer(kind)
    ids = made(" the shed", add_special_tokens=False)["input_ids"]
    spelt = [contexts.shown(made)[i] for i in ids]
    assert "".join(spelt) == "␣the␣shed" and all(label.count("␣") <= 1 for label in spelt)


def test_whole_words_have_no_space_to_show():
    assert {"queen", "she", ".", "“"} <= {*contexts.shown(tiny_tokenizers.tokenizer("word"))}


@pytest.mark.parametrize(
    ("text", "label"),
    [
        (b" cat", "␣cat"),
        (b"  ", "␣␣"),
        (b"\n\n", r"\n\n"),
        (b"\t\r\x00", r"\t\r\u0000"),
        (rb"\n", r"\\n"),
        (b"\\", r"\\"),
        ("naïve".encode(), "naïve"),
        ("é".encode()[:1], r"\xc3"),
        ("é".encode()[1:], r"\xa9"),
        (b"\xe2\x80", r"\xe2\x80"),
        (" “".encode()[:3], r"␣\xe2\x80"),
        (rb"\xe2", r"\\xe2"),
        ("\xa0".encode(), r"\u00a0"),
        ("\ufffd".encode(), "\ufffd"),
        ("␣".encode(), r"\u2423"),
        ("\u200b\ufeff".encode(), r"\u200b\ufeff"),
        ("\U000e0001".encode(), r"\U000e0001"),
        ("日本🦊e\u0301".encode(), "日本🦊e\u0301"),
        ("Ġ▁".encode(), "Ġ▁"),  # as letters of the text
    ],
)
def test_the_label_of_a_text(text, label):
    assert labels.shown(text) == label


def test_different_bytes_have_different_labels():
    """Every byte, every pair of bytes, and random strings of what is easily confused."""
    pairs = [bytes([a, b]) for a in range(256) for b in range(256)]
    rng = np.random.default_rng(0)
    parts = [b"\\", b"n", b"x", b"e2", b"\xe2", b"u2423", "␣".encode(), b" ", b"\n", b"\x80", b"00"]
    mixed = {b"".join(parts[i] for i in rng.integers(len(parts), size=6)) for _ in range(5000)}
    texts = {*pairs, *(bytes([a]) for a in range(256)), *mixed}
    assert len({labels.shown(text) for text in texts}) == len(texts)


def test_pieces_of_bytes_are_no_shared_token():
    """Filters compare these: bytes are different tokens, a word with and without its space is one."""
    vocabulary = [labels.shown(text) for text in (b"\xe2\x80", b"\xa9", b"\xc3", b" cat", b"cat", b"\n", b" ")]
    spelt = labels.unspaced(vocabulary)
    assert spelt == [r"\xe2\x80", r"\xa9", r"\xc3", "cat", "cat", r"\n", "␣"]
