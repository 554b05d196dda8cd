"""Word vectors: trained on the corpus, downloaded by gensim, or read from a file in word2vec's own formats.

In: `vectors` of a profile, the words that are wanted. Out: unit `Vectors` of those words that have one.
Never: pickle, which gensim's own format is; a file that is cut off or holds something else than it announces.
"""

from __future__ import annotations

import gzip
import json
import logging
import re
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sae_utils.engine.core.spec import Count, ProfileError, Seed, Spec, choose, nearest
from sae_utils.engine.inputs import hub
from sae_utils.engine.text import corpora
from sae_utils.engine.text.words import WORD
from sae_utils.store import Artefact, artefact

if TYPE_CHECKING:
    from gensim.models import KeyedVectors

GZIP = b"\x1f\x8b"
UNREADABLE = re.compile("[\ufffd\0-\x1f]")


class SkipGram(Spec):
    """Vectors trained on the training documents of the profile's corpus."""

    kind: Literal["corpus"]
    size: Count
    """dimensions"""
    window: Count
    """words on either side"""
    epochs: Count
    seed: Seed


class Download(Spec):
    """Vectors of gensim's downloader."""

    kind: Literal["download"]
    name: str
    """for example word2vec-google-news-300 (1.7 GB)"""


class File(Spec):
    """Vectors in word2vec's own format: text, or binary in a file ending in .bin or .bin.gz."""

    kind: Literal["file"]
    path: str
    """relative paths start at the repository's root"""


KINDS: dict[str, type[Spec]] = {"corpus": SkipGram, "download": Download, "file": File}


class Vectors(NamedTuple):
    """Unit vectors of words."""

    place: Mapping[str, int]
    """row of every word, case-folded"""
    unit: NDArray[np.float32]
    """(words, size)"""


def vectors(value: Mapping[str, Any], corpus: corpora.Corpus, wanted: Sequence[str]) -> Vectors:
    """Vectors of the words `wanted` that have one, from the source `value`: {kind: corpus | download | file, ...}.

    Raises:
        ProfileError: a file is missing or has another format, or the vectors cannot be downloaded.
    """
    match choose(KINDS, value, "vectors"):
        case SkipGram() as spec:
            made = skipgram(corpora.text(corpus), spec)
            words = json.loads((made.path / "words.json").read_text("utf-8"))
            return _select({word: i for i, word in enumerate(words)}, made.array("vectors"), wanted)
        case Download() as spec:
            found = read(_download(spec.name))
        case spec:
            assert isinstance(spec, File)
            found = read(_file(spec))
    return _select(found.key_to_index, found.vectors, wanted)


def _select(place: Mapping[str, int], rows: np.ndarray, wanted: Sequence[str]) -> Vectors:
    """Unit vectors of `wanted`; of several spellings of a word the first counts: lower case before upper."""
    at = {}
    for word in wanted:
        spelling = next((x for x in (word, word.capitalize(), word.upper()) if x in place), None)
        if spelling is not None:
            at[word] = place[spelling]
    chosen = np.asarray(rows[list(at.values())], np.float32).reshape(len(at), -1)
    norm = np.linalg.norm(chosen, axis=1, keepdims=True)
    return Vectors({word: i for i, word in enumerate(at)}, chosen / np.maximum(norm, 1e-12))


@artefact
def skipgram(folder: Path, source: Artefact, spec: SkipGram) -> dict[str, Any]:
    """Skip-gram vectors with negative sampling (gensim) of the training documents; one thread makes bytes repeat."""
    from gensim.models import Word2Vec

    texts = [
        [word.casefold() for word in WORD.findall(text)]
        for block in corpora.blocks(source, "training")
        for text in block.texts
        if text
    ]
    model = Word2Vec(
        texts, vector_size=spec.size, window=spec.window, epochs=spec.epochs, seed=spec.seed, sg=1, min_count=5,
        workers=1, hashfxn=lambda word: zlib.crc32(word.encode()),
    )  # fmt: skip
    np.save(folder / "vectors.npy", model.wv.vectors)
    (folder / "words.json").write_text(json.dumps(model.wv.index_to_key), "utf-8")
    return {"words": len(model.wv.index_to_key)}


# --- gensim's downloader


def available(name: str) -> hub.Listing:
    """What gensim's downloader offers under a name, without fetching it: sizes, what is cached, terms, or a refusal."""
    downloader = _downloader()
    here = list((Path(downloader.BASE_DIR) / name).glob("*.gz"))
    cached = {file.name: str(file) for file in here}
    sizes = {file.name: file.stat().st_size for file in here}
    try:
        listed = downloader.info()["models"]
    except (ValueError, OSError):
        return hub.Listing(sizes, cached, "", 0, "gensim's list of vectors does not answer")
    if name not in listed:
        return hub.Listing(
            {}, {}, "", 0, f"gensim's downloader has no vectors called {name!r}; {nearest(name, listed)}"
        )
    terms = listed[name].get("license", "not found").replace("not found", "licence unknown")
    return hub.Listing(sizes or {listed[name]["file_name"]: listed[name]["file_size"]}, cached, terms, 0, "")


def _downloader() -> Any:
    import gensim.downloader

    # without a network it logs an error and goes on with the list that it has
    logging.getLogger("gensim.downloader").setLevel(logging.CRITICAL)
    return gensim.downloader


def _download(name: str) -> Path:
    try:
        return Path(_downloader().load(name, return_path=True))  # only the path: code that comes with it is not run
    except Exception as error:  # gensim raises a bare Exception where a checksum differs
        raise ProfileError(
            f"vectors.name: gensim could not download {name!r} ({error}); check name and network, or give a file: "
            "{kind: file, path: ...}"
        ) from None


# --- files


def _file(spec: File) -> Path:
    path = hub.local_path(spec.path)
    if not path.is_file():
        raise ProfileError(f"vectors.path: no file {path}; give one in word2vec's text or binary format")
    if path.suffix in (".kv", ".model", ".pkl", ".pickle"):
        raise ProfileError(
            f"vectors.path: {path.name} looks like gensim's own format, which is a pickle and can run code; save it "
            "with `save_word2vec_format`"
        )
    return path


class _Content(NamedTuple):
    """What the first line of a file announces, and what follows it."""

    words: int
    size: int
    """numbers of a vector"""
    length: int
    """bytes after the first line"""
    lines: int
    gaps: int
    """spaces between values"""


def read(path: Path) -> KeyedVectors:
    """The vectors of a file in word2vec's format, which its name tells: text, or binary (.bin), gzipped or not.

    Raises:
        ProfileError: the file has another format, is damaged, or is not what its first line announces.
    """
    from gensim.models import KeyedVectors

    binary = path.name.endswith((".bin", ".bin.gz", "word2vec-google-news-300.gz"))
    try:
        content = _scan(path)
        _check_length(content, binary)
        found = KeyedVectors.load_word2vec_format(str(path), binary=binary, unicode_errors="replace")
        _check_vectors(found, content, binary)
    except (ValueError, EOFError, OSError, IndexError, OverflowError, MemoryError, zlib.error) as error:
        raise ProfileError(
            f"vectors.path: {path} is not in word2vec's {'binary' if binary else 'text'} format ({error}); "
            "`save_word2vec_format` of gensim writes it, and .bin names the binary one"
        ) from None
    return found


def _scan(path: Path) -> _Content:
    """Count what is in a file, block by block."""
    with open(path, "rb") as raw:
        packed = raw.read(2) == GZIP
    if packed != (path.suffix == ".gz"):
        raise ValueError("it is gzipped, name it .gz" if packed else "it is not gzipped, though its name ends in .gz")
    stream: Any
    with gzip.open(path) if packed else open(path, "rb") as stream:
        first = stream.readline(1000)
        header = re.fullmatch(rb"\s*(\d{1,12})\s+(\d{1,6})\s*", first)
        if not header or not int(header[1]) or not int(header[2]):
            raise ValueError(
                f"its first line must be the number of words and that of dimensions, found {first[:40]!r}; GloVe's "
                "files lack it: add it"
            )
        length = lines = gaps = 0
        last = b"\n"
        while block := stream.read(1 << 20):
            length, lines, last = length + len(block), lines + block.count(b"\n"), block[-1:]
            gaps += block.count(b" ") - block.count(b" \n")  # fastText ends its lines with a space
    return _Content(int(header[1]), int(header[2]), length, lines + (last != b"\n"), gaps)


def _check_length(content: _Content, binary: bool) -> None:
    """Refuse a file that is too short before gensim asks for the memory that it announces."""
    least = content.words * (2 + 4 * content.size if binary else 1 + 2 * content.size)
    if content.length + 1 < least:  # the last line may lack its end
        raise ValueError(
            f"it announces {content.words} words of {content.size} dimensions, which take {least} bytes at least, and "
            f"has {content.length}: it is cut off, or its first line is wrong"
        )
    if not binary and content.gaps < content.words * content.size:  # gensim repeats the number of a line that has one
        raise ValueError(
            f"it announces {content.size} dimensions, and a line has fewer: it is cut off, or its first line is wrong"
        )


def _check_vectors(found: KeyedVectors, content: _Content, binary: bool) -> None:
    """Refuse numbers that are not finite, words that are no text, and more words than announced."""
    if not np.isfinite(found.vectors.sum(dtype=np.float64)):
        raise ValueError("it holds NaN or infinite numbers: it is damaged, or has the other format")
    words = list(found.key_to_index)
    if 2 * sum(UNREADABLE.search(word) is not None for word in words) > len(words):
        raise ValueError("most of its words are no UTF-8 text: it is damaged, or its first line is wrong")
    if binary:
        lengths = [len(word.encode()) - 2 * word.count("\ufffd") for word in words]
        repeated = (content.words - len(words)) * max(lengths)  # gensim keeps one of equal words
        used = sum(lengths) + repeated + content.words * (1 + 4 * content.size)
        more = content.length - used > content.words + 4 * content.size  # every vector may end in a line break
    else:
        more = content.lines != content.words
    if more:
        raise ValueError(
            f"it announces {content.words} words and holds others: it is cut off, or its first line is wrong"
        )
