"""How related words are, by word2vec: a judgement of a concept's features that no language model here has made.

In: vectors trained on the corpus, downloaded, or from a file; words of features. Out: how alike the words of a set of
features are, against random sets of features. Never: pickle (gensim's own format is one), a word that is not there.
"""

from __future__ import annotations

import json
import logging
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sae_utils import significance
from sae_utils.engine.core.spec import Count, ProfileError, Seed, Spec, choose, nearest
from sae_utils.engine.inputs import hub
from sae_utils.engine.text import corpora
from sae_utils.engine.text.words import WORD
from sae_utils.significance import Result
from sae_utils.store import Artefact, artefact
from sae_utils.studies.semantic_subspaces import word2vec


class Corpus(Spec):
    """Vectors trained on the training documents of the profile's corpus (skip-gram)."""

    kind: Literal["corpus"]
    size: Count
    """dimensions"""
    window: Count
    """words either side"""
    epochs: Count
    seed: Seed


class Download(Spec):
    """Vectors of gensim's downloader."""

    kind: Literal["download"]
    name: str
    """e.g. word2vec-google-news-300 (1.7 GB)"""


class File(Spec):
    """Vectors in word2vec's own format: text, or binary in a file ending in .bin or .bin.gz."""

    kind: Literal["file"]
    path: str
    """from the repository's root if not absolute"""


KINDS: dict[str, type[Spec]] = {"corpus": Corpus, "download": Download, "file": File}


class Vectors(NamedTuple):
    """Unit vectors of words."""

    place: Mapping[str, int]
    """row of every word, case-folded"""
    unit: NDArray[np.float32]
    """(words, size)"""


def vectors(value: Mapping[str, Any], corpus: corpora.Corpus, wanted: Sequence[str]) -> Vectors:
    """Vectors as params name them: {kind: corpus | download | file, ...}; of the words `wanted`, where they are known.

    Raises:
        ProfileError: a file that is missing, or of another format; vectors that cannot be downloaded.
    """
    spec = choose(KINDS, value, "vectors")
    if isinstance(spec, Corpus):
        kept = trained(corpora.text(corpus), spec)
        known = json.loads((kept.path / "words.json").read_text("utf-8"))
        return _chosen(dict(zip(known, range(len(known)), strict=True)), kept.array("vectors"), wanted)
    assert isinstance(spec, Download | File)
    found = word2vec.read(_downloaded(spec.name) if isinstance(spec, Download) else _file(spec))
    return _chosen(found.key_to_index, found.vectors, wanted)


def _chosen(place: Mapping[str, int], rows: np.ndarray, wanted: Sequence[str]) -> Vectors:
    """Of several spellings of a word the first counts: lower case before upper."""
    at = {}
    for word in wanted:
        spelling = next((x for x in (word, word.capitalize(), word.upper()) if x in place), None)
        if spelling is not None:
            at[word] = place[spelling]
    chosen = np.asarray(rows[list(at.values())], np.float32).reshape(len(at), -1)
    norm = np.linalg.norm(chosen, axis=1, keepdims=True)
    return Vectors({word: i for i, word in enumerate(at)}, chosen / np.maximum(norm, 1e-12))


@artefact
def trained(folder: Path, source: Artefact, spec: Corpus) -> dict[str, Any]:
    """Skip-gram with negative sampling (gensim) on the training documents; one thread, so that bytes repeat."""
    from gensim.models import Word2Vec

    texts = [[word.casefold() for word in WORD.findall(text)] for text in _training(source)]
    model = Word2Vec(
        texts, vector_size=spec.size, window=spec.window, epochs=spec.epochs, seed=spec.seed, sg=1, min_count=5,
        workers=1, hashfxn=lambda word: zlib.crc32(word.encode()),
    )  # fmt: skip
    np.save(folder / "vectors.npy", model.wv.vectors)
    (folder / "words.json").write_text(json.dumps(model.wv.index_to_key), "utf-8")
    return {"words": len(model.wv.index_to_key)}


def _training(source: Artefact) -> Iterator[str]:
    for block in corpora.blocks(source, "training"):
        yield from (text for text in block.texts if text)


def offered(name: str) -> hub.Listing:
    """What gensim's downloader says of vectors, fetching none: their size, whether they are here, their terms."""
    downloader = _downloader()
    here = list((Path(downloader.BASE_DIR) / name).glob("*.gz"))
    cached = {file.name: str(file) for file in here}
    sizes = {file.name: file.stat().st_size for file in here}
    try:
        known = downloader.info()["models"]
    except (ValueError, OSError):
        return hub.Listing(sizes, cached, "", 0, "gensim's list of vectors does not answer")
    if name not in known:
        return hub.Listing({}, {}, "", 0, f"gensim's downloader has no vectors called {name!r}; {nearest(name, known)}")
    terms = known[name].get("license", "not found").replace("not found", "licence unknown")
    return hub.Listing(sizes or {known[name]["file_name"]: known[name]["file_size"]}, cached, terms, 0, "")


def _downloader() -> Any:
    import gensim.downloader

    # where no network answers it prints how that came about, and goes on with the list that it has
    logging.getLogger("gensim.downloader").setLevel(logging.CRITICAL)
    return gensim.downloader


def _downloaded(name: str) -> Path:
    try:
        return Path(_downloader().load(name, return_path=True))  # the path alone: no code that comes with it is run
    except Exception as error:  # it raises no more than that where a checksum differs
        raise ProfileError(
            f"vectors.name: gensim could not download {name!r} ({error}); check name and network, or give a file: "
            "{kind: file, path: ...}"
        ) from None


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


class Related(NamedTuple):
    """How related the words of a set of features are."""

    features: int
    words: int
    """different words of its features that have a vector"""
    unknown: float
    """share of its words that have none"""
    pairwise: Result
    """mean cosine of two different words"""
    centroid: Result
    """mean cosine of a word with the mean of all"""


def words_of(top: NDArray[np.int32], text: Sequence[str]) -> list[frozenset[str]]:
    """The different words among the top tokens of every feature: `concepts.Evidence.top`, `.words`."""
    return [frozenset(text[i] for i in row if i >= 0) for row in top]


def related(
    chosen: np.ndarray, pool: np.ndarray, words: Sequence[frozenset[str]], known: Vectors, *, m: int, seed: int
) -> Related | None:
    """The words of the features `chosen` against those of as many features of the `pool`, drawn `m` times.

    None where fewer than two words have a vector, or the pool is smaller than the set.
    """
    observed = _cosines(chosen, words, known)
    if observed is None or len(pool) < len(chosen):
        return None
    rng = np.random.default_rng(seed)
    draws = (_cosines(rng.choice(pool, len(chosen), replace=False), words, known) for _ in range(m))
    drawn = np.array([found[:2] for found in draws if found is not None]).reshape(-1, 2)
    if len(drawn) < 2:
        return None
    tests = [
        significance.summarise(observed[i], drawn[:, i], measure=name, null="random features", n=len(chosen))
        for i, name in enumerate(("pairwise cosine", "centroid cosine"))
    ]
    return Related(len(chosen), int(observed[2]), observed[3], *tests)


def _cosines(
    features: np.ndarray, words: Sequence[frozenset[str]], known: Vectors
) -> tuple[float, float, int, float] | None:
    """Mean pairwise and centroid cosine, words that have a vector, share that have none."""
    mine = sorted(frozenset().union(*(words[f] for f in features)))
    at = [known.place[word] for word in mine if word in known.place]
    n = len(at)
    if n < 2:
        return None
    length = float(np.linalg.norm(known.unit[at].sum(0, dtype=np.float64)))
    # of unit vectors both follow from the length of their sum
    return (length**2 - n) / (n * (n - 1)), length / n, n, 1 - n / len(mine)
