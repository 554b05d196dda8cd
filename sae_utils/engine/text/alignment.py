"""Alignment of two tokenizations of one text: the positions up to which both have read the same characters.

In: a text artefact and two tokenizers. Out: the ends of their tokens, the positions they share, and the tokens of each
between two positions.
Never: models, codes (`aligned` has them); tokens paired by their number or by their spelling; a guess where a tokenizer
does not tell the offsets of its tokens.

A position is a character after which a token of both ends. The *unit* of a position is the text since the last one: a
token with identical tokenizers; a word with the white space before it between words and pieces of words.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sae_utils.engine.text import corpora
from sae_utils.store import Appender, Artefact, artefact

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

At = Literal["ends", "words"]
RUN = re.compile(r"\w+|[^\w\s]+")  # a word, or a run of punctuation


class Spans(NamedTuple):
    """Where the tokens of one tokenization end, document after document."""

    documents: NDArray[np.int32]  # (tokens,) nondecreasing
    ends: NDArray[np.int32]  # (tokens,) characters of the document up to the end; nondecreasing within a document
    word_ends: NDArray[np.bool_]  # (tokens,) whether a word ends there


class Units(NamedTuple):
    """The positions that two tokenizations share, in the order of the text; a token is in one unit at most."""

    first_a: NDArray[np.int64]  # (units,) place in A of the first token of the unit
    last_a: NDArray[np.int64]  # (units,) of the token that ends at the position
    first_b: NDArray[np.int64]
    last_b: NDArray[np.int64]

    def several(self) -> NDArray[np.bool_]:
        """(units,) whether the unit has several tokens, in A or in B."""
        return np.asarray((self.first_a < self.last_a) | (self.first_b < self.last_b))


def offsets(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> list[NDArray[np.int32]]:
    """For each text, (tokens,) the character at which every token ends; special tokens are left out.

    Raises ValueError if the tokenizer does not tell offsets, or not in the order of the text.
    """
    name = tokenizer.name_or_path or type(tokenizer).__name__
    if not tokenizer.is_fast:
        raise ValueError(
            f"{name}: this tokenizer (pure Python) knows no character offsets, without which tokens cannot be aligned; "
            "use the fast one, or convert it with `AutoTokenizer.from_pretrained(..., use_fast=True)`"
        )
    encoded = tokenizer.backend_tokenizer.encode_batch(list(texts), add_special_tokens=False)
    found = [np.array(encoding.offsets, np.int32).reshape(-1, 2)[:, 1] for encoding in encoded]
    for text, ends in zip(texts, found, strict=True):
        if len(ends) and (not ends.any() or (np.diff(ends) < 0).any() or ends[-1] > len(text)):
            raise ValueError(
                f"{name}: its character offsets are missing or not in the order of the text {text[:40]!r}, so that its "
                "tokens cannot be aligned; use a tokenizer with a backend that keeps offsets"
            )
    return found


def ends_a_word(text: str) -> NDArray[np.bool_]:
    """(characters + 1,) whether a word or a run of punctuation ends before each character of `text`, or at its end."""
    found = np.zeros(len(text) + 1, bool)
    found[[run.end() for run in RUN.finditer(text)]] = True
    return found


@artefact
def spans(folder: Path, source: Artefact, tokenizer: Artefact) -> dict[str, Any]:
    """The `Spans` of the documents of a text artefact that are not for training, as arrays of their names.

    Raises ValueError as `offsets`.
    """
    from transformers import AutoTokenizer

    loaded = AutoTokenizer.from_pretrained(tokenizer.path, trust_remote_code=False)
    judged = source.array("split") != corpora.SPLITS.index("training")
    with (
        Appender(folder / "documents.npy", np.int32) as documents,
        Appender(folder / "ends.npy", np.int32) as ends,
        Appender(folder / "word_ends.npy", np.bool_) as word_ends,
    ):
        for block in corpora.blocks(source):
            numbers = np.flatnonzero(judged[block.first : block.first + len(block.texts)])
            texts = [block.texts[number] for number in numbers]
            for number, text, found in zip(numbers, texts, offsets(texts, loaded), strict=True):
                documents.append(np.full(len(found), block.first + number))
                ends.append(found)
                word_ends.append(ends_a_word(text)[found])
    return {"source": source.key}


def load(kept: Artefact) -> Spans:
    """The spans that `spans` has stored."""
    return Spans(*(kept.array(name) for name in Spans._fields))


def share(a: Spans, b: Spans, at: At) -> Units:
    """The positions that two tokenizations of one text share: all common ends of tokens, or only ends of words.

    If several tokens end at one character (the bytes of a letter), the last one counts, which completes it.
    Raises ValueError where no position is shared, and for another `at`.
    """
    if at not in ("ends", "words"):
        raise ValueError(f"at = {at!r}: 'ends' of tokens, or those at which 'words' end")
    width = 1 + max((int(x.ends.max()) for x in (a, b) if len(x.ends)), default=0)
    (key_a, last_a), (key_b, last_b) = (_positions(x, width, at) for x in (a, b))
    _, in_a, in_b = np.intersect1d(key_a, key_b, assume_unique=True, return_indices=True)
    if not len(in_a):
        raise ValueError(
            f"no position is shared (at = {at!r}): no two of {len(a.ends)} tokens of A and {len(b.ends)} of B end at "
            "one character of one document; are they of the same text?"
        )
    last_a, last_b = last_a[in_a], last_b[in_b]
    return Units(_first(a, last_a), last_a, _first(b, last_b), last_b)


def _positions(x: Spans, width: int, at: At) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Keys of the characters at which tokens end, and the index of the last token that ends at each."""
    key = x.documents.astype(np.int64) * width + x.ends
    completes = np.append(key[1:] != key[:-1], True)[: len(key)]
    last = np.flatnonzero(completes & (x.word_ends if at == "words" else True) & (x.ends > 0))
    return key[last], last


def _first(x: Spans, last: NDArray[np.int64]) -> NDArray[np.int64]:
    """The first token of every unit: the one after the previous unit, or the first of its document."""
    opening = np.searchsorted(x.documents, x.documents[last])
    return np.maximum(opening, np.append(0, last[:-1] + 1))
