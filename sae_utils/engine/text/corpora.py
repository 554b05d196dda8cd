"""Where text comes from: documents with ids, dealt to training, matching and held-out once and for all.

In: the `corpus` section of a profile. Out: a text artefact, written and read block by block.
Never: tokens, models; a document that is in two splits, or an article whose parts are.

A text artefact holds `text` (UTF-8 bytes), `text_ends` (documents,), `articles` (documents,): the number of the article
that each is part of (see `reading`), `split` (documents,): an index into `SPLITS`, one an article, and for stories
their truth: `topic` (documents,), `word_starts` (words,) character offset in its document, `word_classes` (words,)
index into `stories.CLASSES` or -1, `word_ends` (documents,).
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from pydantic import Field, field_validator
from tqdm import tqdm

from sae_utils.engine.core.sources import REPOSITORY, digest
from sae_utils.engine.core.spec import Count, ProfileError, Rate, Seed, Spec, nearest
from sae_utils.engine.text import lexicon, reading, stories
from sae_utils.store import Appender, Artefact, artefact

SPLITS = ("training", "matching", "held_out")
BLOCK = 4096  # documents in memory at once


class Corpus(Spec):
    """What every kind of corpus says."""

    context: int = Field(gt=2, le=2**20)
    """tokens a row, beginning of sequence included; a longer document becomes several rows"""
    packed: bool = False
    """rows are filled up with the next documents of their split, each opened by a beginning of sequence, but seen by
    attention; else they are padded"""
    shares: list[Rate] = Field(min_length=3, max_length=3)
    """shares of the documents for training, matching and held-out correlation; they sum to 1"""
    split_seed: Seed
    """seed that deals the documents to the splits"""


class Stories(Corpus):
    """Stories generated on the spot, with the class of every word known."""

    kind: Literal["stories"]
    documents: Count
    """number of stories"""
    seed: Seed
    """seed of the generator"""
    world: Literal["true", "scrambled"] = "true"
    """`scrambled`: same words and frequencies, class membership permuted"""
    topic: str | None = None
    """the one topic of all stories, of `stories.TOPICS`"""
    trigger: str | None = None
    """a word put once into every story, after which its topic changes"""


class TextFiles(Corpus):
    """Any UTF-8 text."""

    kind: Literal["text"]
    path: str
    """a file or a glob, from the repository's root if not absolute; a file that has the very name is meant by it"""
    unit: reading.Unit
    """what a document is; paragraphs are parted by blank lines, and those of one file, or article, share its split"""
    separator: str | None = None
    r"""where files hold several articles: a regular expression (Python's; ^ and $ match at every line) for what stands
    between two of them, e.g. '<\|endoftext\|>' or '^=+$'. What it matches belongs to neither; what `(?=...)` matches,
    to the second. `unit: file` means an article then"""

    @field_validator("separator")
    @classmethod
    def _is_an_expression(cls, value: str | None) -> str | None:
        return None if value is None else reading.check_separator(value)


class HubDataset(Corpus):
    """A dataset of the Hugging Face hub, streamed."""

    kind: Literal["hub"]
    name: str
    """its id, e.g. roneneldan/TinyStories"""
    revision: str
    """commit or tag, so that the same documents come back"""
    documents: Count
    """the first so many documents"""
    config: str | None = None
    """the dataset's configuration, where it has several"""
    part: str = "train"
    """the dataset's own split to read"""
    field: str = "text"
    """the column that holds the text"""


KINDS: dict[str, type[Spec]] = {"stories": Stories, "text": TextFiles, "hub": HubDataset}


def text(spec: Corpus) -> Artefact:
    """The corpus' documents and their split.

    Raises:
        ProfileError: no such file, a file that is not UTF-8, too few documents or articles for three splits.
    """
    if isinstance(spec, TextFiles):
        return documents(spec, _digest(files(spec)))
    if isinstance(spec, HubDataset):
        return documents(spec, spec.revision)
    return documents(spec, digest([lexicon.SOURCE]))


def _digest(files: Sequence[Path]) -> str:
    try:
        return digest(files)
    except OSError as error:
        raise ProfileError(f"corpus.path: {error.filename} cannot be read ({error.strerror})") from None


def describe(spec: Corpus) -> str:
    """The corpus in words, for the paper."""
    if isinstance(spec, Stories):
        return {
            "true": "generated stories over classes of words",
            "scrambled": "generated stories over classes of words whose membership is permuted",
        }[spec.world]
    if isinstance(spec, HubDataset):
        return f"the first {spec.documents} documents of {spec.name}"
    assert isinstance(spec, TextFiles)
    unit = "article" if spec.separator and spec.unit == "file" else spec.unit
    return f"every {unit} of the text in {Path(spec.path).name}"


@artefact
def documents(folder: Path, spec: Corpus, contents: str) -> dict[str, Any]:
    """Write the documents of `spec`; `contents` is the digest of the files behind them."""
    articles: list[int] = []
    with (
        Appender(folder / "text.npy", np.uint8) as blob,
        Appender(folder / "text_ends.npy", np.int64) as text_ends,
        Appender(folder / "topic.npy", np.int16) as topic,
        Appender(folder / "word_starts.npy", np.int32) as starts,
        Appender(folder / "word_classes.npy", np.int8) as classes,
        Appender(folder / "word_ends.npy", np.int64) as word_ends,
    ):
        for article, document in tqdm(_read(spec), "documents", unit=" documents", leave=False):
            blob.append(np.frombuffer(document.text.encode(), np.uint8))
            text_ends.append(np.array([blob.length]))
            topic.append(np.array([document.topic]))
            starts.append(document.starts)
            classes.append(document.classes)
            word_ends.append(np.array([starts.length]))
            articles.append(article)
    whole = _articles(spec, articles)
    np.save(folder / "articles.npy", whole.astype(np.int32))
    np.save(folder / "split.npy", deal(whole.max() + 1, spec.shares, spec.split_seed)[whole])
    return {"documents": len(articles), "articles": int(whole.max()) + 1, "bytes": blob.length}


def _articles(spec: Corpus, found: Sequence[int]) -> np.ndarray:
    """(documents,) the article of each, numbered without gaps; of fewer than three files every document is one."""
    names, number = np.unique(np.array(found, np.int64), return_inverse=True)
    if len(found) < 3:
        raise ProfileError(
            f"the corpus holds {len(found)} document(s), and three splits need at least 3: add text, or choose a "
            "smaller `unit` (paragraph, line)"
        )
    if len(names) >= 3:
        return number
    if isinstance(spec, TextFiles) and spec.separator:
        raise ProfileError(
            f"corpus.separator: {spec.separator!r} leaves {len(names)} article(s) with text, and three splits need at "
            "least 3: add text, or choose another separator"
        )
    said = f"corpus: {len(names)} file(s) only: the {len(found)} documents in them are dealt to the splits one by one"
    print(f"{said}; if several are parts of one article, name what parts the articles (`separator`)", file=sys.stderr)
    return np.arange(len(found))


def deal(count: int, shares: Sequence[float], seed: int) -> np.ndarray:
    """Deal documents to the splits: `(count,)` of indices into `SPLITS`, at least one document each."""
    if abs(sum(shares) - 1) > 1e-9 or min(shares) <= 0:
        raise ProfileError(f"corpus.shares: three positive shares that sum to 1, found {list(shares)}")
    cuts = np.clip(np.round(np.cumsum(shares)[:2] * count).astype(int), [1, 2], [count - 2, count - 1])
    cuts[1] = max(cuts[1], cuts[0] + 1)
    split = np.searchsorted(cuts, np.arange(count), side="right").astype(np.int8)
    return np.random.default_rng(seed).permutation(split)


def _read(spec: Corpus) -> Iterator[tuple[int, stories.Document]]:
    """The documents, each with the number of its article."""
    if isinstance(spec, Stories):
        yield from enumerate(
            stories.stories(
                seed=spec.seed, documents=spec.documents, world=spec.world, topic=spec.topic, trigger=spec.trigger
            )
        )
        return
    nothing = np.empty(0, np.int32)
    for article, piece in enumerate(_hub(spec)) if isinstance(spec, HubDataset) else _pieces(spec):
        if text := reading.clean(piece):
            yield article, stories.Document(text, -1, nothing, nothing.astype(np.int8))


def _pieces(spec: Corpus) -> Iterator[tuple[int, str]]:
    assert isinstance(spec, TextFiles)
    return reading.documents(files(spec), spec.unit, spec.separator)


def files(spec: TextFiles) -> list[Path]:
    return reading.find_files(spec.path, REPOSITORY)


def _hub(spec: HubDataset) -> Iterator[str]:
    import datasets
    import huggingface_hub

    # huggingface_hub tries six times, for 23 s; `datasets` would repeat that 20 times
    datasets.config.STREAMING_OPEN_MAX_RETRIES = datasets.config.STREAMING_READ_MAX_RETRIES = 1
    try:
        # asked once: `load_dataset` tries for 23 s where no hub answers, then takes whatever revision it has kept
        commit = huggingface_hub.HfApi().dataset_info(spec.name, revision=spec.revision, timeout=10).sha
        stream = datasets.load_dataset(spec.name, spec.config, split=spec.part, revision=commit, streaming=True)
        for record in itertools.islice(stream, spec.documents):
            text = record.get(spec.field)
            if text is None and spec.field in record:
                continue  # a row without text is no document
            if not isinstance(text, str):
                written = [name for name, value in record.items() if isinstance(value, str)]
                raise ProfileError(
                    f"corpus.field: {spec.name} has no text in column {spec.field!r}, found {text!r}; "
                    f"{nearest(spec.field, written)}"
                )
            yield text
    except ProfileError:
        raise
    except Exception as error:  # datasets, huggingface_hub, the file's format and the network raise what they like
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise ProfileError(
            f"corpus: the dataset {spec.name} at revision {spec.revision} could not be read ({reason}); check name, "
            "revision and network, and that HF_HUB_OFFLINE is not 1"
        ) from error


class Texts(NamedTuple):
    """A block of documents read back from a text artefact."""

    first: int
    """index of the first of them"""
    texts: list[str]
    starts: list[np.ndarray]
    """character offsets of the words of each"""
    classes: list[np.ndarray]
    """true class of the words of each"""


def blocks(source: Artefact, split: str | None = None) -> Iterator[Texts]:
    """Read the documents of a text artefact block by block; of one split only, if named (others are empty)."""
    blob, ends = source.array("text"), source.array("text_ends")
    starts, classes, word_ends = (source.array(name) for name in ("word_starts", "word_classes", "word_ends"))
    keep = np.ones(len(ends), bool) if split is None else source.array("split") == SPLITS.index(split)
    for first in range(0, len(ends), BLOCK):
        bounds = np.concatenate([[ends[first - 1] if first else 0], ends[first : first + BLOCK]])
        words = np.concatenate([[word_ends[first - 1] if first else 0], word_ends[first : first + BLOCK]])
        chunk = bytes(blob[bounds[0] : bounds[-1]])
        here = keep[first : first + BLOCK]
        local = bounds - bounds[0]
        yield Texts(
            first,
            [chunk[a:b].decode() if k else "" for a, b, k in zip(local, local[1:], here, strict=False)],
            [starts[a:b] for a, b in itertools.pairwise(words)],
            [classes[a:b] for a, b in itertools.pairwise(words)],
        )
