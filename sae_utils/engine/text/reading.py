"""Text files as documents: found by their path, decoded, and cut.

In: the `path`, `unit` and `separator` of a profile. Out: documents in the order of the files, each with the number of
the article that it is part of.
Never: a guess at an encoding; an article that is cut without a message.

An article must not be divided between two splits. An article is the text between two matches of `separator` or ends of
a file; without a separator it is the file, or the line if the unit is a line.
"""

import codecs
import contextlib
import glob
import os
import re
import signal
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal, TypeAlias

from sae_utils.engine.core.spec import ProfileError

Unit: TypeAlias = Literal["file", "paragraph", "line"]

BETWEEN = {"file": "", "paragraph": r"\n\s*\n", "line": r"\n"}
UNPACK = "it is compressed; unpack it with `{} -k`"
CONVERT = "it is {0}, not UTF-8; convert it with `iconv -f {0} -t UTF-8`"
PATIENCE = 20  # seconds for a separator, and one more per 1,000,000 characters
MARK = "\ufeff"  # of byte order
REMEDIES = {  # first bytes of a file that is not UTF-8 -> remedy; longer beginnings first
    codecs.BOM_UTF32_LE: CONVERT.format("UTF-32"),
    codecs.BOM_UTF32_BE: CONVERT.format("UTF-32"),
    codecs.BOM_UTF16_LE: CONVERT.format("UTF-16"),
    codecs.BOM_UTF16_BE: CONVERT.format("UTF-16"),
    b"\x1f\x8b": UNPACK.format("gunzip"),
    b"\x28\xb5\x2f\xfd": UNPACK.format("unzstd"),
    b"\xfd7zXZ": UNPACK.format("unxz"),
    b"BZh": UNPACK.format("bunzip2"),
    b"PK\x03\x04": "it is an archive; unpack it with `unzip`",
    b"PAR1": "it is a table in parquet; write its column of text to a text file",
    b"": "convert it with `iconv -f LATIN1 -t UTF-8`, or from the encoding that it is in",
}


def find_files(path: str, root: Path) -> list[Path]:
    """The files that a path or a glob names, from `root` on, sorted.

    A part of the path that exists literally, such as `[1].txt` or `*`, is a name and not a pattern. Raises ProfileError
    if there is none.
    """
    try:
        full = root / Path(path).expanduser()  # an absolute path replaces the root
        places = [Path(full.anchor)]
        for part in full.parts[1:]:
            places = [match for place in places for match in _matches(place, part)]
    except (RuntimeError, ValueError) as error:  # an unknown user; a null character
        raise ProfileError(f"corpus.path: {path!r} names no file: {error}") from None
    if found := sorted({place for place in places if place.is_file()}):
        return found
    hint = f", which is a folder; name its files, e.g. {full}/*.txt" if os.path.isdir(full) else ""
    raise ProfileError(f"corpus.path: no file matches {full}{hint}")


def _matches(place: Path, part: str) -> list[Path]:
    if os.path.lexists(place / part):
        return [place / part]
    return [Path(name) for name in glob.glob(os.path.join(glob.escape(str(place)), part), recursive=True)]


def documents(files: Iterable[Path], unit: Unit, separator: str | None) -> Iterator[tuple[int, str]]:
    """The documents of text files in their order, each with the number of its article.

    Raises ProfileError as `decode`, and if the separator matches nowhere.
    """
    number = 0
    for article in _articles(files, separator):
        for piece in _cut(article, BETWEEN[unit]):
            yield number, piece
            number += unit == "line" and not separator
        number += 1


def _articles(files: Iterable[Path], separator: str | None) -> Iterator[str]:
    matched = False
    for file in files:
        text = decode(file)
        with _time_limit(file, separator, len(text)):
            parts = _cut(text, separator or "")
        matched |= len(parts) > 1
        yield from parts
    if separator and not matched:
        raise ProfileError(f"corpus.separator: {separator!r} matches nowhere in the text; is it a regular expression?")


@contextlib.contextmanager
def _time_limit(file: Path, separator: str | None, length: int) -> Iterator[None]:
    """Interrupt a search that backtracks endlessly; ordinary separators take a second per 10 MB."""

    def stop(*_: object) -> None:
        raise ProfileError(
            f"corpus.separator: {separator!r} was sought in {file} for {limit} s; it repeats what is repeated already, "
            "e.g. `(=+)+`, or takes any text, e.g. `.*`: write it without (`=+`)"
        )

    limit = PATIENCE + length // 10**6
    if not separator or threading.current_thread() is not threading.main_thread():  # only this one gets signals
        yield
        return
    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(limit)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _cut(text: str, between: str) -> list[str]:
    """The parts of a text between the matches of an expression; the text itself without an expression."""
    matches = re.finditer(between, text, re.MULTILINE) if between else ()
    bounds = [0, *(bound for match in matches for bound in match.span()), len(text)]
    return [text[start:end] for start, end in zip(bounds[::2], bounds[1::2], strict=True)]


def decode(file: Path) -> str:
    """The text of a file, its lines ended by \\n alone, without a byte-order mark.

    Raises ProfileError if it cannot be read, is not UTF-8, or holds a NUL; the message says at which byte.
    """
    try:
        content = file.read_bytes()
        text = content.decode("utf-8")
    except OSError as error:
        raise ProfileError(f"{file}: cannot be read ({error.strerror}); allow it, or leave it out") from None
    except UnicodeDecodeError as error:
        remedy = next(remedy for beginning, remedy in REMEDIES.items() if content.startswith(beginning))
        raise ProfileError(f"{file}: not UTF-8 at byte {error.start}; {remedy}") from None
    if "\0" in text:
        raise ProfileError(
            f"{file}: a NUL, which no text has, at byte {content.index(0)}; it is binary, or in another encoding: "
            f"convert it, e.g. with `iconv -f UTF-16LE -t UTF-8`, or remove the NULs with `tr -d '\\000'`"
        )
    return text.removeprefix(MARK).replace("\r\n", "\n").replace("\r", "\n")


def clean(text: str) -> str:
    """A document without space or byte-order marks at its ends; lone surrogates (JSON may hold them) become U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:  # two halves of one character are joined
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    while (bare := text.strip().strip(MARK)) != text:
        text = bare
    return text


def check_separator(separator: str) -> str:
    """The separator itself.

    Raises ValueError if it is no regular expression, matches the empty text, or is a token whose bars are not escaped.
    """
    try:
        empty = re.search(separator, "", re.MULTILINE)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"not a regular expression: {error}") from None
    if empty:
        raise ValueError(
            "matches the empty text, and would separate any two characters; name what stands between documents"
        )
    if re.search(r"<\||(?<!\\)\|>", separator):
        raise ValueError(r"| means `or` in a regular expression; write <\|endoftext\|>")
    return separator
