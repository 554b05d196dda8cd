"""Word vectors: trained on the corpus, downloaded by gensim, or read from a file in word2vec's own formats.

In: `vectors` of a profile, the words that are wanted. Out: unit `Vectors` of those words that have one.
Never: pickle, which gensim's own format is; a file that is cut off or differs from its header.
"""

import gzip
import json
import logging
import re
import zlib
from collections.abc import Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sae_utils.engine.core.spec import Count, ProfileError, Seed, Spec, choose, nearest
from sae_utils.engine.inputs import hub
from sae_utils.engine.text import corpora
from sae_utils.engine.text.words import WORD
from sae_utils.store import Artefact, artefact

GZIP = b"\x1f\x8b"
LONGEST = 1000  # bytes of a word
UNREADABLE = re.compile("[\ufffd\0-\x1f]")


class SkipGram(Spec):
    """Vectors trained on the training documents of the profile's corpus."""

    kind: Literal["corpus"]
    size: Count  # dimensions
    window: Count  # words on either side
    epochs: Count
    seed: Seed


class Download(Spec):
    """Vectors of gensim's downloader."""

    kind: Literal["download"]
    name: str  # for example word2vec-google-news-300 (1.7 GB)


class File(Spec):
    """Vectors in word2vec's own format: text, or binary in a file ending in .bin or .bin.gz."""

    kind: Literal["file"]
    path: str  # relative paths start at the repository's root


KINDS: dict[str, type[Spec]] = {"corpus": SkipGram, "download": Download, "file": File}


class Vectors(NamedTuple):
    """Unit vectors of words."""

    place: Mapping[str, int]  # row of every word, case-folded
    unit: NDArray[np.float32]  # (words, size)


def vectors(value: Mapping[str, Any], corpus: corpora.Corpus, wanted: Sequence[str]) -> Vectors:
    """Vectors of the words `wanted` that have one, from the source `value`: {kind: corpus | download | file, ...}.

    The first existing spelling of a word counts: lower case, capitalised, upper case. Raises ProfileError if a file
    is missing or has another format, or the vectors cannot be downloaded.
    """
    spec = choose(KINDS, value, "vectors")
    spellings = {word: (word, word.capitalize(), word.upper()) for word in wanted}
    if isinstance(spec, SkipGram):
        made = skipgram(corpora.text(corpus), spec)
        found = dict(zip(json.loads((made.path / "words.json").read_text("utf-8")), made.array("vectors"), strict=True))
    else:
        assert isinstance(spec, Download | File)
        path = _download(spec.name) if isinstance(spec, Download) else hub.local_path(spec.path)
        found = read(path, set().union(*spellings.values()))
    rows = {word: found[x] for word, each in spellings.items() for x in reversed(each) if x in found}
    matrix = np.array(list(rows.values()), np.float32).reshape(len(rows), -1)
    norm = np.linalg.norm(matrix, axis=1, keepdims=True)
    return Vectors({word: i for i, word in enumerate(rows)}, matrix / np.maximum(norm, 1e-12))


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
    """Listing of a name of gensim's downloader, without fetching it: sizes, cached files, terms, or a refusal."""
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


def read(path: Path, wanted: Container[str]) -> dict[str, NDArray[np.float32]]:
    """The vectors of the words `wanted` in a file in word2vec's format: binary if named .bin, else text.

    The first of equal words counts, and bytes that are no UTF-8 are read as U+FFFD. Raises ProfileError for no such
    file, or one that is damaged, has another format (gensim's own is a pickle, which is not loaded), or holds something
    else than its first line announces.
    """
    if not path.is_file():
        raise ProfileError(f"vectors.path: no file {path}; give one in word2vec's text or binary format")
    binary = path.name.endswith((".bin", ".bin.gz", "word2vec-google-news-300.gz"))
    try:
        with open(path, "rb") as raw:
            packed = raw.read(2) == GZIP
        if packed != (path.suffix == ".gz"):
            raise ValueError("it is gzipped, name it .gz" if packed else "it is not gzipped, and its name ends in .gz")
        with gzip.open(path) if packed else open(path, "rb") as stream:
            return _parse(stream, wanted, binary)
    except (ValueError, EOFError, OSError, zlib.error) as error:
        raise ProfileError(
            f"vectors.path: {path} is not in word2vec's {'binary' if binary else 'text'} format ({error}); "
            "`save_word2vec_format` of gensim writes it, and .bin names the binary one"
        ) from None


def _parse(stream: Any, wanted: Container[str], binary: bool) -> dict[str, NDArray[np.float32]]:
    first = stream.readline(1000)
    header = re.fullmatch(rb"\s*(\d{1,12})\s+(\d{1,6})\s*", first)
    if not header or not int(header[1]) or not int(header[2]):
        raise ValueError(
            f"its first line must be the number of words and that of dimensions, found {first[:40]!r}; GloVe's files "
            "lack it: add it"
        )
    words, size, unreadable = int(header[1]), int(header[2]), 0
    found: dict[str, NDArray[np.float32]] = {}
    for name, numbers in _entries(stream, words, size, binary):
        word = name.decode("utf-8", "replace")
        unreadable += UNREADABLE.search(word) is not None
        if word in wanted and word not in found:
            values = np.frombuffer(numbers, "<f4") if binary else [float(value) for value in numbers.split(b" ")]
            found[word] = np.array(values, np.float32)
            if not np.isfinite(found[word]).all():
                raise ValueError(f"{word!r} has NaN or infinite numbers: it is damaged, or has the other format")
    if stream.read(1000).strip():
        raise ValueError(f"it announces {words} words and holds more, or its first line is wrong")
    if 2 * unreadable > words:
        raise ValueError("most of its words are no UTF-8 text: it is damaged, or its first line is wrong")
    return found


def _entries(stream: Any, words: int, size: int, binary: bool) -> Iterator[tuple[bytes, bytes]]:
    """Every word with its numbers as written in the file, checked against the announced count."""
    for _ in range(words):
        if binary:
            word = b""
            while len(word) < LONGEST and (letter := stream.read(1)) not in (b" ", b""):
                word += letter
            word, numbers = word.lstrip(b"\n"), stream.read(4 * size)  # every vector may end in a line break
            complete = len(numbers) == 4 * size
        else:
            word, _, numbers = stream.readline().rstrip().partition(b" ")  # fastText ends its lines with a space
            complete = len(numbers.split(b" ")) == size and numbers != b""
        if not complete:
            raise ValueError(
                f"it announces {words} words of {size} dimensions, and one has fewer or more: it is cut off, or its "
                "first line is wrong"
            )
        yield word, numbers
