"""Wikipedia, or any other wiki, as a corpus: sections of articles as documents, articles as what is dealt to splits.

In: dumps of MediaWiki, plain or compressed by bzip2. Out: the prose of each section, with the number of its article.
Never: a request to the network, a redirect, a page that lists the meanings of a word, a page about the wiki itself.
"""

import bz2
import functools
import hashlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Literal, cast
from xml.etree import ElementTree

import numpy as np
from pydantic import Field

from sae_utils.engine.core.sources import REPOSITORY, code_digest, digest
from sae_utils.engine.core.spec import ProfileError
from sae_utils.engine.text import corpora, reading, stories, wikitext

PACKAGE = "package:"
ARTICLES = "0"  # number of the namespace
HIDDEN = {"-2", "6", "14"}  # numbers of the namespaces media, file and category
TOKENS = {True: 0.33, False: 0.09}  # in a byte of a dump that is compressed, or not
LONGEST = 6000  # assumed tokens of an article


class Wikipedia(corpora.Corpus):
    """Sections of the articles of a wiki, as prose."""

    kind: Literal["wikipedia"]
    # a dump (`...-pages-articles.xml`, also as .bz2) or a glob, from the repository's root if not absolute;
    # `package:gensim/test/test_data/x.xml.bz2` is a file that is installed with a package
    path: str
    articles: int | None = Field(default=None, ge=3, lt=2**31)  # only so many, from the first on
    licence: str = "CC BY-SA"  # of the text, for `make plan`

    @property
    def description(self) -> str:
        name = Path(self.path).name
        if self.path.startswith(PACKAGE):
            name = f"the package {self.path.removeprefix(PACKAGE).partition('/')[0]}"
        return f"sections of the Wikipedia articles in {name}"

    def files(self) -> list[Path]:
        """The dumps; ProfileError if there are none."""
        if self.path.startswith(PACKAGE):
            return [_packaged(self.path.removeprefix(PACKAGE))]
        return reading.find_files(self.path, REPOSITORY)

    def version(self) -> str:
        states = []
        for file in self.files():
            state = file.stat()
            states.append((file, state.st_size, state.st_mtime_ns))
        return _version(tuple(states))

    def tokens(self) -> int:
        """The assumed number of tokens."""
        found = sum(round(TOKENS[_is_compressed(file)] * file.stat().st_size) for file in self.files())
        return found if self.articles is None else min(found, self.articles * LONGEST)

    def stream(self) -> Iterator[tuple[int, stories.Document]]:
        """The documents; ProfileError if a file is no dump or incomplete, or for fewer than three articles."""
        nothing, found = np.empty(0, np.int32), 0
        for sections in self._articles():
            for text in sections:
                yield found, stories.Document(text, -1, nothing, nothing.astype(np.int8))
            found += 1
            if found == self.articles:
                return
        if found < 3:
            raise ProfileError(
                f"corpus.path: {self.path} holds {found} article(s) with prose, and three splits need at least 3; "
                "redirects and lists do not count. Name a larger dump"
            )
        if self.articles:
            raise ProfileError(f"corpus.articles: {self.articles}, but {self.path} holds {found} with prose; lower it")

    def _articles(self) -> Iterator[list[str]]:
        """The sections of each article that has any."""
        for file in self.files():
            hidden = _hidden(file)
            for title, text in _pages(file):
                if wikitext.is_disambiguation(title, text):
                    continue
                if sections := [found for x in wikitext.sections(text, hidden) if (found := reading.clean(x))]:
                    yield sections


def _packaged(name: str) -> Path:
    """The file of an installed package, which is not imported."""
    package, _, inner = name.partition("/")
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise ProfileError(f"corpus.path: no package {package!r} is installed; `package:gensim/...` has its first name")
    file = Path(spec.submodule_search_locations[0]) / inner
    if not file.is_file():
        raise ProfileError(f"corpus.path: the package {package} has no file {inner!r}; does its version differ?")
    return file


@functools.cache
def _version(states: tuple[tuple[Path, int, int], ...]) -> str:
    """Digest of the files and of the code that cleans them; an unchanged file is read once a process."""
    try:
        text = digest([file for file, *_ in states])
    except OSError as error:
        raise ProfileError(f"corpus.path: {error.filename} cannot be read ({error.strerror})") from None
    return hashlib.sha256(f"{text} {code_digest(Path(__file__))}".encode()).hexdigest()


def _is_compressed(file: Path) -> bool:
    with open(file, "rb") as stream:
        return stream.read(3) == b"BZh"


def _open(file: Path) -> IO[bytes]:
    return cast(IO[bytes], bz2.open(file)) if _is_compressed(file) else open(file, "rb")


def _pages(file: Path) -> Iterator[tuple[str, str]]:
    """Title and wikitext of every article, without redirects; ProfileError if the file is no dump, or incomplete."""
    from gensim.corpora import wikicorpus

    def is_article(page: Any, namespace: str, **_: object) -> bool:
        return page.find(f"{{{namespace}}}redirect") is None

    try:
        with _open(file) as stream:
            for title, text, _ in wikicorpus.extract_pages(stream, (ARTICLES,), is_article):
                if text and title:
                    yield title, text
    except EOFError:
        raise ProfileError(f"corpus.path: {file} ends too early; copy or fetch it again") from None
    except OSError as error:
        raise ProfileError(f"corpus.path: {file} cannot be read ({error})") from None
    except ElementTree.ParseError as error:
        if "no element found" in str(error) and error.position != (1, 0):
            raise ProfileError(f"corpus.path: {file} ends too early ({error}); copy or fetch it again") from None
        raise _no_dump(file, error) from None
    except (ValueError, AttributeError, TypeError) as error:  # another namespace of XML, or pages without their parts
        raise _no_dump(file, error) from None


def _no_dump(file: Path, error: Exception) -> ProfileError:
    return ProfileError(
        f"corpus.path: {file} is no dump of MediaWiki ({error}); such a file is called ...-pages-articles.xml.bz2, "
        "and for other text there is `kind: text`"
    )


def _hidden(file: Path) -> frozenset[str]:
    """Names, in lower case, of the namespaces whose links show no text: in English, and as the dump calls them."""
    found = {"media", "file", "image", "category"}
    try:
        with _open(file) as stream:
            for _, element in ElementTree.iterparse(stream):
                name = element.tag.rpartition("}")[2]
                if name == "namespace" and element.get("key") in HIDDEN and element.text:
                    found.add(element.text.lower())
                if name in ("siteinfo", "page"):
                    break
    except (OSError, EOFError, ElementTree.ParseError):
        pass  # `_pages` says what is wrong
    return frozenset(found)
