"""Top tokens of features are those of sorting the whole column; a label shows the text of a token."""

import numpy as np
import pytest
from scipy import sparse

from sae_utils import labels
from sae_utils.engine.kernels import sides


def store(seed, tokens=500, features=20):
    rng = np.random.default_rng(seed)
    codes = (rng.integers(1, 30, (tokens, features)) / 8 * (rng.random((tokens, features)) < 0.1)).astype(np.float32)
    codes[:, 3] = 0
    codes[:, 4] = 0
    codes[[7, 300], 4] = 2
    return codes, rng.integers(0, 90, tokens), np.sort(rng.integers(0, 12, tokens))


@pytest.mark.parametrize("block", [4096, 33, 1])
@pytest.mark.parametrize("kind", ["sparse", "dense"])
def test_top_tokens_and_contexts_are_those_found_by_sorting(monkeypatch, block, kind):
    monkeypatch.setattr(sides, "BLOCK", block)
    codes, token, document = store(0)
    found = labels.label(sparse.csr_array(codes) if kind == "sparse" else codes, token, document, k=5, window=2)
    for j in range(codes.shape[1]):
        order = np.argsort(-codes[:, j], kind="stable")[:5]
        order = order[codes[order, j] > 0]
        n = len(order)
        np.testing.assert_array_equal(found.position[j], np.append(order, np.full(5 - n, -1)))
        np.testing.assert_array_equal(found.token[j, :n], token[order])
        np.testing.assert_array_equal(found.activation[j], np.append(codes[order, j], np.zeros(5 - n)))
        assert (found.token[j, n:] == -1).all() and (found.context[j, n:] == -1).all()
        for place, context in zip(order, found.context[j], strict=False):
            for offset in range(-2, 3):
                t = place + offset
                inside = 0 <= t < 500 and document[t] == document[place]
                assert context[offset + 2] == (token[t] if inside else -1)
    np.testing.assert_array_equal(found.firings, (codes > 0).sum(0))


def test_negative_activations_of_neurons_do_not_fire():
    codes = np.array([[-3.0, 1.0], [-1.0, 2.0]], np.float16)
    found = labels.label(codes, [5, 6], [0, 0], k=2, window=0)
    assert found.firings.tolist() == [0, 2] and found.token.tolist() == [[-1, -1], [6, 5]]


def test_ids_are_spelled_and_none_is_empty():
    assert labels.spell(np.array([[1, -1], [0, 2]]), ["a", "b", "c"]).tolist() == [["b", ""], ["a", "c"]]


def test_bad_input_is_refused():
    codes, token, document = store(1)
    with pytest.raises(ValueError, match="codes have 500 rows"):
        labels.label(sparse.csr_array(codes), token[:-1], document)
    with pytest.raises(ValueError, match="k = 0"):
        labels.label(sparse.csr_array(codes), token, document, k=0)
    codes[3, 3] = np.nan
    with pytest.raises(ValueError, match="NaN or infinite activations, first in row 3, column 3"):
        labels.label(sparse.csr_array(codes), token, document)


# --- features in words

WORDS = ["the", "cat", "sat", "down", "there"]


@pytest.fixture
def labelled():
    tokens, document = np.array([0, 1, 2, 3, 0, 1, 4, 1]), np.array([0, 0, 0, 0, 1, 1, 1, 1])
    codes = np.zeros((8, 3), np.float32)
    codes[[1, 5, 2, 7], 0] = [3, 5, 4, 1]  # cat, sat, cat, cat
    codes[4, 1] = 1
    return labels.label(sparse.csr_array(codes), tokens, document, k=4, window=3)


def test_distinct_top_tokens_strongest_first(labelled):
    assert labels.summary(labelled, [0, 1, 2], WORDS) == ["cat sat", "the", ""]
    assert labels.summary(labelled, [0], WORDS, most=1) == ["cat"]
    assert labels.top_tokens(labelled, WORDS)[0].tolist() == ["cat", "sat", "cat", "cat"]


def test_a_quote_stays_within_its_document(labelled):
    assert labels.quote(labelled, [0, 1, 2], WORDS, reach=2) == ["the [cat] there cat", "[the] cat there", ""]
    assert labels.quote(labelled, [1], WORDS, reach=1) == ["[the] cat"]
    with pytest.raises(ValueError, match="contexts hold 3 tokens either side"):
        labels.quote(labelled, [1], WORDS, reach=4)


# --- how a token is shown


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
        ("Ġ▁".encode(), "Ġ▁"),  # here they are letters of the text
    ],
)
def test_the_label_of_a_text(text, label):
    assert labels.shown(text) == label


def test_different_bytes_have_different_labels():
    """Every byte, every pair of bytes, and random strings of parts that are easily confused."""
    pairs = [bytes([a, b]) for a in range(256) for b in range(256)]
    rng = np.random.default_rng(0)
    parts = [b"\\", b"n", b"x", b"e2", b"\xe2", b"u2423", "␣".encode(), b" ", b"\n", b"\x80", b"00"]
    mixed = {b"".join(parts[i] for i in rng.integers(len(parts), size=6)) for _ in range(5000)}
    texts = {*pairs, *(bytes([a]) for a in range(256)), *mixed}
    assert len({labels.shown(text) for text in texts}) == len(texts)


def test_labels_without_spaces_join_words_and_not_bytes():
    """Filters compare these labels: different bytes differ, and a word is the same with and without its space."""
    vocabulary = [labels.shown(text) for text in (b"\xe2\x80", b"\xa9", b"\xc3", b" cat", b"cat", b"\n", b" ")]
    spelt = labels.unspaced(vocabulary)
    assert spelt == [r"\xe2\x80", r"\xa9", r"\xc3", "cat", "cat", r"\n", "␣"]
