"""Files in word2vec's own formats, read by gensim and held against what their first line announces.

In: a file, text or binary (its name ends in .bin or .bin.gz), also gzipped. Out: gensim's `KeyedVectors`.
Never: pickle; a file that is cut off, or that announces fewer or more vectors than it holds.
"""

from __future__ import annotations

import gzip
import re
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from sae_utils.engine.core.spec import ProfileError

if TYPE_CHECKING:
    from gensim.models import KeyedVectors

GZIP = b"\x1f\x8b"
UNREADABLE = re.compile("[\ufffd\0-\x1f]")
WRITTEN = "`save_word2vec_format` of gensim writes it, and .bin names the binary one"


class _Body(NamedTuple):
    """What a file announces, and what follows."""

    words: int
    size: int
    """numbers of a vector"""
    length: int
    """bytes after the first line"""
    lines: int
    gaps: int
    """spaces between values"""


def is_binary(path: Path) -> bool:
    """Whether a file's name says that it is in the binary format."""
    return path.name.endswith((".bin", ".bin.gz", "word2vec-google-news-300.gz"))


def read(path: Path) -> KeyedVectors:
    """The vectors of a file.

    Raises:
        ProfileError: it is in another format, damaged, or not what its first line announces.
    """
    from gensim.models import KeyedVectors

    binary = is_binary(path)
    try:
        body = _scanned(path)
        _check_room(body, binary)
        found = KeyedVectors.load_word2vec_format(str(path), binary=binary, unicode_errors="replace")
        _check_all(found, body, binary)
    except (ValueError, EOFError, OSError, IndexError, OverflowError, MemoryError, zlib.error) as error:
        kind = "binary" if binary else "text"
        raise ProfileError(f"vectors.path: {path} is not in word2vec's {kind} format ({error}); {WRITTEN}") from None
    return found


def _scanned(path: Path) -> _Body:
    """The announcement of a file, and how much follows it; nothing is held."""
    with open(path, "rb") as raw:
        packed = raw.read(2) == GZIP
    if packed != (path.suffix == ".gz"):
        raise ValueError("it is gzipped, name it .gz" if packed else "it is not gzipped, though its name ends in .gz")
    stream: Any
    with gzip.open(path) if packed else open(path, "rb") as stream:
        first = stream.readline(1000)
        told = re.fullmatch(rb"\s*(\d{1,12})\s+(\d{1,6})\s*", first)
        if not told or not int(told[1]) or not int(told[2]):
            raise ValueError(
                f"its first line must be the number of words and that of dimensions, found {first[:40]!r}; GloVe's "
                "files lack it: put it there"
            )
        length = lines = gaps = 0
        last = b"\n"
        while block := stream.read(1 << 20):
            length, lines, last = length + len(block), lines + block.count(b"\n"), block[-1:]
            gaps += block.count(b" ") - block.count(b" \n")  # fastText ends its lines with a space
    return _Body(int(told[1]), int(told[2]), length, lines + (last != b"\n"), gaps)


def _check_room(body: _Body, binary: bool) -> None:
    """Refuse before gensim asks for the memory that is announced."""
    least = body.words * (1 + 1 + 4 * body.size if binary else 1 + 2 * body.size)
    if body.length + 1 < least:  # the last line may have no end
        raise ValueError(
            f"it announces {body.words} words of {body.size} dimensions, which take {least} bytes at least, and has "
            f"{body.length}: cut off, or its first line is wrong"
        )
    if not binary and body.gaps < body.words * body.size:  # gensim repeats the number of a line that has only one
        raise ValueError(f"it announces {body.size} dimensions, and a line has fewer: cut off, or announced wrongly")


def _check_all(found: KeyedVectors, body: _Body, binary: bool) -> None:
    if not np.isfinite(found.vectors.sum(dtype=np.float64)):
        raise ValueError("it holds NaN or infinite numbers: damaged, or of the other format")
    words = list(found.key_to_index)
    if 2 * sum(UNREADABLE.search(word) is not None for word in words) > len(words):
        raise ValueError("most of its words are no text in UTF-8: damaged, or of other dimensions than it announces")
    if binary:
        lengths = [len(word.encode()) - 2 * word.count("\ufffd") for word in words]
        twice = (body.words - len(words)) * max(lengths)  # gensim keeps one of words that are the same
        read = sum(lengths) + twice + body.words * (1 + 4 * body.size)
        more = body.length - read > body.words + 4 * body.size  # a line's end after every vector is allowed
    else:
        more = body.lines != body.words
    if more:
        raise ValueError(f"it announces {body.words} words and holds others: cut off, or its first line is wrong")
