"""Corpora: documents, each in one split (training, matching or held-out) for good.

In: the `corpus` section of a profile. Out: a text artefact, written and read block by block.
Never: tokens, models; a document in two splits, or an article whose parts are in two.

A text artefact holds `text` (UTF-8 bytes), `text_ends` (documents,), `articles` (documents,): number of the article
that the document is part of (see `reading`), `split` (documents,): index into `SPLITS`, one for each article, and for
stories their truth: `topic` (documents,), `word_starts` (words,) character offset in the document, `word_classes`
(words,) index into `stories.CLASSES` or -1, `word_ends` (documents,).
"""

import contextlib
import itertools
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from pydantic import Field, field_validator

from sae_utils.engine.core.progress import tqdm
from sae_utils.engine.core.sources import REPOSITORY, digest
from sae_utils.engine.core.spec import Count, ProfileError, Rate, Seed, Spec, nearest
from sae_utils.engine.text import lexicon, reading, stories
from sae_utils.store import Appender, Artefact, artefact

SPLITS = ("training", "matching", "held_out")
BLOCK = 4096  # documents in memory at once


class Corpus(Spec):
    """Base of all kinds of corpora: their common parameters and methods."""

    # tokens a row, beginning of sequence included; a longer document becomes several rows
    context: int = Field(gt=2, le=2**20)
    # rows are filled up with the next documents of their split, each opened by a beginning of sequence, but seen by
    # attention; else they are padded
    packed: bool = False
    # shares of the documents for training, matching and held-out correlation; they sum to 1
    shares: list[Rate] = Field(min_length=3, max_length=3)
    split_seed: Seed  # seed that deals the documents to the splits

    @property
    def description(self) -> str:
        """The corpus in words, for the paper."""
        raise NotImplementedError

    @property
    def tables(self) -> list[Path]:
        """Files of this repository from which the documents are made."""
        return []

    def version(self) -> str:
        """Digest or revision of the source of the documents."""
        return digest(self.tables)

    def stream(self) -> Iterator[tuple[int, stories.Document]]:
        """The documents, each with the number of its article."""
        raise NotImplementedError


class Stories(Corpus):
    """Stories generated on the spot, with the class of every word known."""

    kind: Literal["stories"]
    documents: Count  # number of stories
    seed: Seed  # seed of the generator
    world: Literal["true", "scrambled"] = "true"  # `scrambled`: same words and frequencies, class membership permuted
    permutation: Seed = 0  # seed of the scrambled world's exchange of words
    topic: str | None = None  # the one topic of all stories, of `stories.TOPICS`
    trigger: str | None = None  # a word put once into every story, after which its topic changes

    @property
    def description(self) -> str:
        permuted = " whose membership is permuted" if self.world == "scrambled" else ""
        return f"generated stories over classes of words{permuted}"

    @property
    def tables(self) -> list[Path]:
        return [lexicon.SOURCE]

    def dealt(self) -> tuple[Any, ...]:
        """What decides which of the stories are in which split."""
        return self.documents, self.shares, self.split_seed

    def stream(self) -> Iterator[tuple[int, stories.Document]]:
        chosen = {"seed", "documents", "world", "permutation", "topic", "trigger"}
        return enumerate(stories.stream(**self.model_dump(include=chosen)))


class TextFiles(Corpus):
    """Any UTF-8 text."""

    kind: Literal["text"]
    path: str  # a file or a glob, from the repository's root if not absolute; a file of exactly this name comes first
    # what a document is; blank lines separate paragraphs, and those of one file, or article, share its split
    unit: reading.Unit
    # where files hold several articles: a regular expression (Python's; ^ and $ match at every line) for what stands
    # between two of them, e.g. '<\|endoftext\|>' or '^=+$'. What it matches belongs to neither; what `(?=...)` matches,
    # to the second. `unit: file` means an article then
    separator: str | None = None

    @field_validator("separator")
    @classmethod
    def _check_separator(cls, value: str | None) -> str | None:
        return None if value is None else reading.check_separator(value)

    @property
    def description(self) -> str:
        unit = "article" if self.separator and self.unit == "file" else self.unit
        return f"every {unit} of the text in {Path(self.path).name}"

    def files(self) -> list[Path]:
        """The text files; ProfileError if there are none."""
        return reading.find_files(self.path, REPOSITORY)

    def version(self) -> str:
        try:
            return digest(self.files())
        except OSError as error:
            raise ProfileError(f"corpus.path: {error.filename} cannot be read ({error.strerror})") from None

    def stream(self) -> Iterator[tuple[int, stories.Document]]:
        return _without_truth(reading.documents(self.files(), self.unit, self.separator))


class HubDataset(Corpus):
    """A dataset of the Hugging Face hub, streamed."""

    kind: Literal["hub"]
    name: str  # its id, e.g. roneneldan/TinyStories
    revision: str  # commit or tag, so that the same documents come back
    documents: Count  # number of documents, from the first on
    config: str | None = None  # the dataset's configuration, where it has several
    part: str = "train"  # the dataset's own split to read
    field: str = "text"  # the column that holds the text

    @property
    def description(self) -> str:
        return f"the first {self.documents} documents of {self.name}"

    def version(self) -> str:
        return self.revision

    def stream(self) -> Iterator[tuple[int, stories.Document]]:
        return _without_truth(enumerate(self._texts()))

    def _texts(self) -> Iterator[str]:
        import datasets
        import huggingface_hub

        # huggingface_hub tries six times, for 23 s; `datasets` would repeat that 20 times
        datasets.config.STREAMING_OPEN_MAX_RETRIES = datasets.config.STREAMING_READ_MAX_RETRIES = 1
        try:
            # without a hub `load_dataset` would try for 23 s, then take whatever revision its cache holds
            commit = huggingface_hub.HfApi().dataset_info(self.name, revision=self.revision, timeout=10).sha
            found = datasets.load_dataset(self.name, self.config, split=self.part, revision=commit, streaming=True)
            for record in itertools.islice(found, self.documents):
                text = record.get(self.field)
                if text is None and self.field in record:
                    continue  # a row without text is no document
                if not isinstance(text, str):
                    columns = [name for name, value in record.items() if isinstance(value, str)]
                    raise ProfileError(
                        f"corpus.field: {self.name} has no text in column {self.field!r}, found {text!r}; "
                        f"{nearest(self.field, columns)}"
                    )
                yield text
        except ProfileError:
            raise
        except Exception as error:  # `datasets` and what it calls raise errors of all kinds
            reason = f"{type(error).__name__}: {error}".partition("\n")[0]
            raise ProfileError(
                f"corpus: the dataset {self.name} at revision {self.revision} could not be read ({reason}); check "
                "name, revision and network, and that HF_HUB_OFFLINE is not 1"
            ) from error


KINDS: dict[str, type[Spec]] = {"stories": Stories, "text": TextFiles, "hub": HubDataset}


def _without_truth(texts: Iterable[tuple[int, str]]) -> Iterator[tuple[int, stories.Document]]:
    """Documents whose topic and classes are unknown; empty texts are left out."""
    nothing = np.empty(0, np.int32)
    for article, piece in texts:
        if text := reading.clean(piece):
            yield article, stories.Document(text, -1, nothing, nothing.astype(np.int8))


def text(corpus: Corpus) -> Artefact:
    """The documents of a corpus and their splits.

    Raises ProfileError for no such file, a file that is not UTF-8, or too few documents or articles for three splits.
    """
    return documents(corpus, corpus.version())


@artefact
def documents(folder: Path, corpus: Corpus, version: str) -> dict[str, Any]:
    """Write the documents of a corpus; `version` is the digest or revision of its source."""
    kinds: dict[str, Any] = {"text": np.uint8, "text_ends": np.int64, "topic": np.int16}
    kinds |= {"word_starts": np.int32, "word_classes": np.int8, "word_ends": np.int64}
    articles: list[int] = []
    with contextlib.ExitStack() as stack:
        out = {name: stack.enter_context(Appender(folder / f"{name}.npy", kind)) for name, kind in kinds.items()}
        for article, document in tqdm(corpus.stream(), "documents", unit=" documents", leave=False):
            out["text"].append(np.frombuffer(document.text.encode(), np.uint8))
            out["text_ends"].append(np.array([out["text"].length]))
            out["topic"].append(np.array([document.topic]))
            out["word_starts"].append(document.starts)
            out["word_classes"].append(document.classes)
            out["word_ends"].append(np.array([out["word_starts"].length]))
            articles.append(article)
    number = _articles(corpus, articles)
    count = int(number.max()) + 1
    np.save(folder / "articles.npy", number.astype(np.int32))
    np.save(folder / "split.npy", deal(count, corpus.shares, corpus.split_seed)[number])
    return {"documents": len(articles), "articles": count, "bytes": out["text"].length}


def _articles(corpus: Corpus, found: Sequence[int]) -> np.ndarray:
    """(documents,) article numbers without gaps; if there are fewer than three articles, each document is one."""
    names, number = np.unique(np.array(found, np.int64), return_inverse=True)
    if len(found) < 3:
        raise ProfileError(
            f"the corpus holds {len(found)} document(s), and three splits need at least 3: add text, or choose a "
            "smaller `unit` (paragraph, line)"
        )
    if len(names) >= 3:
        return number
    if isinstance(corpus, TextFiles) and corpus.separator:
        raise ProfileError(
            f"corpus.separator: {corpus.separator!r} leaves {len(names)} article(s) with text, and three splits need "
            "at least 3: add text, or choose another separator"
        )
    print(
        f"corpus: {len(names)} file(s) only: the {len(found)} documents in them are dealt to the splits one by one; "
        "if several are parts of one article, name what stands between articles (`separator`)",
        file=sys.stderr,
    )
    return np.arange(len(found))


def deal(count: int, shares: Sequence[float], seed: int) -> np.ndarray:
    """Assign documents to the splits: (count,) indices into `SPLITS`, with at least one document in each."""
    if abs(sum(shares) - 1) > 1e-9 or min(shares) <= 0:
        raise ProfileError(f"corpus.shares: three positive shares that sum to 1, found {list(shares)}")
    cuts = np.clip(np.round(np.cumsum(shares)[:2] * count).astype(int), [1, 2], [count - 2, count - 1])
    cuts[1] = max(cuts[1], cuts[0] + 1)
    split = np.searchsorted(cuts, np.arange(count), side="right").astype(np.int8)
    return np.random.default_rng(seed).permutation(split)


class Texts(NamedTuple):
    """A block of documents of a text artefact."""

    first: int  # index of the first of them
    texts: list[str]
    starts: list[np.ndarray]  # character offsets of the words of each
    classes: list[np.ndarray]  # true classes of the words of each


def blocks(source: Artefact, split: str | None = None) -> Iterator[Texts]:
    """The documents of a text artefact, block by block; with `split`, the texts of other splits are empty."""
    blob, ends = source.array("text"), source.array("text_ends")
    starts, classes, word_ends = (source.array(name) for name in ("word_starts", "word_classes", "word_ends"))
    keep = np.ones(len(ends), bool) if split is None else source.array("split") == SPLITS.index(split)
    for first in range(0, len(ends), BLOCK):
        bounds = np.concatenate([[ends[first - 1] if first else 0], ends[first : first + BLOCK]])
        words = np.concatenate([[word_ends[first - 1] if first else 0], word_ends[first : first + BLOCK]])
        chunk = bytes(blob[bounds[0] : bounds[-1]])
        inside = itertools.pairwise(bounds - bounds[0])
        yield Texts(
            first,
            [chunk[a:b].decode() if k else "" for (a, b), k in zip(inside, keep[first:], strict=False)],
            [starts[a:b] for a, b in itertools.pairwise(words)],
            [classes[a:b] for a, b in itertools.pairwise(words)],
        )
