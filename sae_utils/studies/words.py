"""Which word ends at every token: what a feature fires on, in whole words, whatever the tokenizer cut them into.

In: a tokenizer, the sites of a comparison. Out: `Words`: for every site the word that ends there, case-folded.
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

from sae_utils import pipeline
from sae_utils.engine.text import tokenization
from sae_utils.profiles import Profile
from sae_utils.store import Artefact

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

WORD = re.compile(r"[^\W_]+")  # "she's" is `she` and `s`


class Words(NamedTuple):
    """The words of a run of tokens."""

    text: tuple[str, ...]
    """different words, case-folded, sorted"""
    of: NDArray[np.int32]
    """(tokens,) the word that ends at every token, -1 where none does: a word counts at the last of its tokens"""


def read(profile: Profile, dictionary: str, sites: Artefact) -> Words:
    """The words at the sites over which a dictionary of the profile is looked at."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(pipeline.tokenizer_of(profile, dictionary).path, trust_remote_code=False)
    return spelt(pieces(tokenizer), sites.array("tokens"), sites.array("rows"), sites.array("positions"))


def spelt(texts: Sequence[bytes], tokens: np.ndarray, rows: np.ndarray, positions: np.ndarray) -> Words:
    """Words of the tokens in their order.

    Args:
        texts: of every token of the vocabulary, with the space before it, in UTF-8; see `pieces`.
        tokens: (tokens,) ids.
        rows: (tokens,) row of each; a word never goes on in another row.
        positions: (tokens,) place in the row; nor does it across tokens that are left out.
    """
    first = np.ones(len(tokens), bool)
    first[1:] = (rows[1:] != rows[:-1]) | (positions[1:] != positions[:-1] + 1)
    opened = [b"\n" + text for text in texts]
    blob = b"".join([opened[t] if f else texts[t] for t, f in zip(tokens.tolist(), first.tolist(), strict=True)])
    ends = np.cumsum(np.array([len(text) for text in texts], np.int64)[tokens] + first)
    text = blob.decode("utf-8", "surrogateescape")  # the first bytes of a letter may be cut off at the start of a row
    numbers: dict[str, int] = {}
    found = [(numbers.setdefault(match[0], len(numbers)), match.end()) for match in WORD.finditer(text)]
    number, end = np.array(found, np.int64).reshape(-1, 2).T
    at = np.searchsorted(ends, _bytes(text, len(blob))[end] - 1, side="right")
    folded = [unicodedata.normalize("NFC", word).casefold() for word in numbers]
    different = sorted(set(folded))
    place = {word: i for i, word in enumerate(different)}
    of = np.full(len(tokens), -1, np.int32)
    of[at] = np.array([place[word] for word in folded], np.int32)[number] if folded else 0
    return Words(tuple(different), of)


def _bytes(text: str, total: int) -> NDArray[np.int64]:
    """(characters + 1,) bytes before every character."""
    if len(text) == total:  # ASCII
        return np.arange(total + 1)
    code = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    size = 1 + (code >= 0x80).astype(np.int64) + (code >= 0x800) + (code >= 0x10000)
    size[(code >= 0xDC80) & (code <= 0xDCFF)] = 1  # a byte that is part of no letter
    return np.concatenate([[0], np.cumsum(size)])


def pieces(tokenizer: PreTrainedTokenizerFast) -> list[bytes]:
    """UTF-8 text of every token with the space that it stands for; special tokens are line breaks.

    Of any tokenizer of the `tokenizers` library: whole words, WordPiece, byte-level (GPT-2, Pythia), SentencePiece
    (Gemma), and pieces that mark the end of a word (GPT-1, CLIP).
    """
    read = _reader(tokenizer.backend_tokenizer)
    texts = [read(name or "") for name in tokenizer.convert_ids_to_tokens(range(len(tokenizer)))]
    for token, added in tokenizer.backend_tokenizer.get_added_tokens_decoder().items():
        texts[token] = added.content.encode()  # it is written as it is
    for special in tokenization.special(tokenizer):
        texts[special] = b"\n"
    return texts


def _reader(backend: Tokenizer) -> Callable[[str], bytes]:
    """What tells the text of a token from its name."""
    from tokenizers import models

    inside, end = (getattr(backend.model, x, None) for x in ("continuing_subword_prefix", "end_of_word_suffix"))
    parts = b"".join(part.__getstate__() for part in (backend.pre_tokenizer, backend.decoder) if part)
    written = _of_letters if b'"ByteLevel"' in parts else _of_sentencepiece
    spaces = inside or (
        isinstance(backend.model, models.WordLevel) and not re.search(b'"ByteLevel"|"Metaspace"', parts)
    )

    def read(name: str) -> bytes:
        if spaces:
            return name[len(inside) :].encode() if inside and name.startswith(inside) else f" {name}".encode()
        if end and name.endswith(end):
            return written(name[: -len(end)]) + b" "
        return written(name)

    return read


def _of_letters(name: str) -> bytes:
    byte = _byte_of_letter()
    return bytes(byte[c] for c in name) if byte.keys() >= set(name) else name.encode()


def _of_sentencepiece(name: str) -> bytes:
    if re.fullmatch("<0x[0-9A-F]{2}>", name):
        return bytes([int(name[3:5], 16)])
    return name.replace("▁", " ").encode()


@functools.cache
def _byte_of_letter() -> dict[str, int]:
    """How byte-level tokenizers write bytes: printable ones as themselves, the rest from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(rest)}
