"""Files that are complete or absent, whether one process writes them or several at once.

In: a path and its contents. Out: the file.
Never: half a file under its name; a draft that two processes share; an error of the system without its remedy.
"""

import contextlib
import errno
import glob
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

DAY = 86400  # seconds; no draft is written for so long
FULL = (errno.ENOSPC, errno.EDQUOT)
DENIED = (errno.EACCES, errno.EPERM, errno.EROFS)
IN_THE_WAY = (errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENOTEMPTY)


class WriteError(OSError):
    """The system refuses a file or a folder; the message names it, the reason, and the remedy."""

    def __str__(self) -> str:
        return str(self.strerror)


@contextlib.contextmanager
def draft(file: Path) -> Iterator[Path]:
    """A path to fill; it becomes `file` at the end, and is removed after an error. Raises WriteError."""
    with explained(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        _remove_old_drafts(file)
        path = file.with_name(f".{file.stem}.{os.getpid()}.draft{file.suffix}")
        try:
            yield path
            os.replace(path, file)
        finally:
            path.unlink(missing_ok=True)


def write(file: Path, content: str | bytes) -> None:
    """Write a text in UTF-8, or bytes, completely or not at all. Raises WriteError."""
    with draft(file) as path:
        path.write_bytes(content.encode() if isinstance(content, str) else content)


def _remove_old_drafts(file: Path) -> None:
    """Remove drafts that killed processes left."""
    for old in file.parent.glob(f".{glob.escape(file.stem)}.*.draft{file.suffix}"):
        with contextlib.suppress(OSError):  # another process may remove it as well
            if time.time() - old.stat().st_mtime > DAY:
                old.unlink()


def probe(folder: Path) -> None:
    """Make a folder and try to write in it, before hours are spent on its contents. Raises WriteError."""
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:  # only writing shows a quota or a read-only disk
            file.write(bytes(4096))


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn errors of the system into WriteError with place, reason and remedy; `path` is what is read or written.

    It covers a full disk, missing permissions, and a path that another kind of file occupies.
    """
    try:
        yield
    except WriteError:
        raise
    except OSError as error:
        place = error.filename2 or error.filename  # of a move, its target
        message = _message(error, Path(os.fsdecode(place)) if place else path)
        if not message:
            raise
        raise WriteError(error.errno or errno.ENOSPC, message) from error


def is_full(error: Exception) -> bool:
    """Whether an error means a full disk; numpy and libraries in Rust do not pass on the error number."""
    short = isinstance(error, OSError) and re.fullmatch(r"\d+ requested and \d+ written", str(error))
    return bool(getattr(error, "errno", None) in FULL or "No space left" in str(error) or short)


def _message(error: OSError, path: Path) -> str:
    """A message for an error at `path`; empty for errors of other kinds."""
    there = next(place for place in (path, *path.absolute().parents) if os.path.lexists(place))
    if is_full(error):
        return f"{path}: disk full; free some space and run again: what was finished before is kept"
    if error.errno in DENIED:
        return (
            f"{path}: access refused ({error.strerror}; {there} belongs to {_owner(there)}); have it made writable, or "
            "copy the repository to a folder of your own"
        )
    if error.errno in IN_THE_WAY:
        kind = "a folder" if there.is_dir() else "a file" if there.exists() else "a link that leads nowhere"
        return f"{there}: {kind} stands in the way; move it away and run again"
    return ""


def _owner(place: Path) -> str:
    try:
        return place.owner()
    except (KeyError, OSError):  # the user has no name on this machine
        return f"user {place.lstat().st_uid}"


def remove(path: Path) -> None:
    """Remove a folder with its contents, a file or a link; nothing if there is none."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    else:
        shutil.rmtree(path, ignore_errors=True)


def added(folder: Path, names: Iterable[str]) -> list[str]:
    """Paths in a folder, at any depth, other than the files `names` and the folders that contain them."""
    expected = {folder / name for name in names}
    expected |= {parent for file in expected for parent in file.parents}
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path not in expected)


def stamp(folder: Path) -> list[tuple[str, int, int]]:
    """Names, sizes and times of all files of a folder; they differ after a change."""
    found = [(str(path), path.lstat()) for path in sorted(folder.rglob("*"))]
    return [(name, status.st_size, status.st_mtime_ns) for name, status in found]
