"""The text of tokens, and the words that runs of tokens spell.

In: a tokenizer, or token ids. Out: the text and the label of every token; `Words`: the word that ends at every token.
Never: a part of a word taken for a word ("she" in "sheen"); a word across the border of two rows.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sae_utils import labels
from sae_utils.engine.text import tokenization

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

WORD = re.compile(r"[^\W_]+")  # "she's" is `she` and `s`


class Words(NamedTuple):
    """The words of a run of tokens."""

    text: tuple[str, ...]  # different words, case-folded, sorted
    of: NDArray[np.int32]  # (tokens,) index into `text` of the word that ends at the token, -1 where none ends


def find_words(texts: Sequence[bytes], tokens: np.ndarray, rows: np.ndarray, positions: np.ndarray) -> Words:
    """Words that end at tokens, given their ids, rows and positions, (tokens,) each.

    `texts`: UTF-8 text of every token of the vocabulary, as `token_texts` returns it. A word ends where its row does,
    and before a position that is left out.
    """
    first = np.ones(len(tokens), bool)
    first[1:] = (rows[1:] != rows[:-1]) | (positions[1:] != positions[:-1] + 1)
    opened = [b"\n" + text for text in texts]
    blob = b"".join([opened[t] if f else texts[t] for t, f in zip(tokens.tolist(), first.tolist(), strict=True)])
    ends = np.cumsum(np.array([len(text) for text in texts], np.int64)[tokens] + first)
    text = blob.decode("utf-8", "surrogateescape")  # a row may begin in the middle of a character
    numbers: dict[str, int] = {}
    found = [(numbers.setdefault(match[0], len(numbers)), match.end()) for match in WORD.finditer(text)]
    number, end = np.array(found, np.int64).reshape(-1, 2).T
    at = np.searchsorted(ends, _bytes_before(text, len(blob))[end] - 1, side="right")
    spelt = [folded(word) for word in numbers]
    words = sorted(set(spelt))
    place = {word: i for i, word in enumerate(words)}
    of = np.full(len(tokens), -1, np.int32)
    of[at] = np.array([place[word] for word in spelt], np.int32)[number] if spelt else 0
    return Words(tuple(words), of)


def folded(word: str) -> str:
    """A word without regard to case, and to how its accents are encoded."""
    return unicodedata.normalize("NFC", word).casefold()


def _bytes_before(text: str, total: int) -> NDArray[np.int64]:
    """(characters + 1,) number of bytes before every character, and in all."""
    if len(text) == total:  # ASCII
        return np.arange(total + 1)
    code = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    size = 1 + (code >= 0x80).astype(np.int64) + (code >= 0x800) + (code >= 0x10000)
    size[(code >= 0xDC80) & (code <= 0xDCFF)] = 1  # a byte that is part of no character
    return np.concatenate([[0], np.cumsum(size)])


def token_labels(tokenizer: PreTrainedTokenizerFast) -> list[str]:
    """Label of every token: special tokens by their names, the others by their text as `labels.shown`.

    The space before a word is part of its token, however the tokenizer writes it. Where every token has one, as with
    whole words, it is left out.
    """
    special, texts = tokenization.special_tokens(tokenizer), token_texts(tokenizer)
    added = tokenizer.backend_tokenizer.get_added_tokens_decoder()
    spaced = all(text.startswith(b" ") for token, text in enumerate(texts) if text and token not in added)
    return [
        special.get(token) or labels.shown(text.removeprefix(b" ") if spaced else text)
        for token, text in enumerate(texts)
    ]


def token_texts(tokenizer: PreTrainedTokenizerFast) -> list[bytes]:
    """UTF-8 text of every token with the space that it stands for; a line break for special tokens.

    Reads every tokenizer of the `tokenizers` library: whole words, WordPiece, byte-level (GPT-2, Pythia),
    SentencePiece (Gemma), and BPE that marks the end of a word (GPT-1, CLIP).
    """
    text_of = _text_of(tokenizer.backend_tokenizer)
    texts = [text_of(name or "") for name in tokenizer.convert_ids_to_tokens(range(len(tokenizer)))]
    for token, added in tokenizer.backend_tokenizer.get_added_tokens_decoder().items():
        texts[token] = added.content.encode()
    for token in tokenization.special_tokens(tokenizer):
        texts[token] = b"\n"
    return texts


def _text_of(backend: Tokenizer) -> Callable[[str], bytes]:
    """The function from the name of a token to its text."""
    from tokenizers import models

    inside, end = (getattr(backend.model, x, None) for x in ("continuing_subword_prefix", "end_of_word_suffix"))
    parts = b"".join(part.__getstate__() for part in (backend.pre_tokenizer, backend.decoder) if part)
    decode = _from_byte_level if b'"ByteLevel"' in parts else _from_sentencepiece
    whole_words = isinstance(backend.model, models.WordLevel) and not re.search(b'"ByteLevel"|"Metaspace"', parts)

    def text_of(name: str) -> bytes:
        if inside and name.startswith(inside):
            return name[len(inside) :].encode()
        if inside or whole_words:
            return f" {name}".encode()
        if end and name.endswith(end):
            return decode(name[: -len(end)]) + b" "
        return decode(name)

    return text_of


def _from_byte_level(name: str) -> bytes:
    byte = _byte_of_character()
    return bytes(byte[c] for c in name) if byte.keys() >= set(name) else name.encode()


def _from_sentencepiece(name: str) -> bytes:
    if re.fullmatch("<0x[0-9A-F]{2}>", name):
        return bytes([int(name[3:5], 16)])
    return name.replace("▁", " ").encode()


@functools.cache
def _byte_of_character() -> dict[str, int]:
    """Character -> byte in byte-level tokenizers: printable bytes are themselves, others begin at U+0100."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(rest)}
