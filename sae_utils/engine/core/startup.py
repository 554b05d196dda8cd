"""Set-up before numpy, numba and torch load; the package calls it when it is imported.

In: nothing. Out: a check that temporary files can be written; the folder of numba's compiled kernels; a library that
child processes load first.
Never: an import outside the standard library; more than a few milliseconds once kernels are compiled.
"""

import contextlib
import hashlib
import importlib.util
import json
import os
import re
import shutil
import stat
import sys
import tempfile
from pathlib import Path

from sae_utils.engine.core.sources import PACKAGE, REPOSITORY, code_digest

KERNELS = "sae-utils-kernels-"  # first part of the name of a folder of compiled kernels
STAMP = "stamp"  # in such a folder: the state of the code for which it was last used
KEPT = 4  # such folders, for settings that alternate


def need_temporary() -> None:
    """End the program where no temporary file can be written; torch would fail while it is imported."""
    try:
        tempfile.gettempdir()
    except FileNotFoundError as error:
        sys.exit(
            f"error: no temporary file can be written ({error.strerror}): the disk is full or read-only; free some "
            "space, or name a writable folder in TMPDIR, and run again: what was finished before is kept"
        )


def preload(library: Path) -> None:
    """Let child processes load a library before all others, if this process has loaded it (Linux)."""
    with contextlib.suppress(OSError):
        loaded = f"{library}\n" in Path("/proc/self/maps").read_text()
        given = re.split(r"[\s:]+", os.environ.get("LD_PRELOAD", ""))
        if loaded and not re.search(r"[\s:]", str(library)):  # at which the loader splits the list
            os.environ["LD_PRELOAD"] = " ".join(dict.fromkeys([*filter(None, given), str(library)]))


def keep_kernels() -> Path:
    """Make numba keep compiled kernels in a folder named after their code; returns the folder.

    Numba itself compares the file of a kernel only, not the files from which the kernel takes functions or constants.
    The folder is in NUMBA_CACHE_DIR if that is set, else in `build/cache`; if neither is writable, it is in the
    temporary folder of this user.
    """
    given = Path(os.environ.get("NUMBA_CACHE_DIR") or REPOSITORY / "build" / "cache")
    base = given.parent if given.name.startswith(KERNELS) else given  # a parent process has set it
    stamp = _stamp()
    name = _last_used(base, stamp) or KERNELS + _kernels_digest()
    folder = _usable(base / name) or _usable(_temporary() / name) or Path(tempfile.mkdtemp(prefix=KERNELS))
    with contextlib.suppress(OSError):
        (folder / STAMP).write_text(stamp)
    _prune(folder.parent)
    os.environ["NUMBA_CACHE_DIR"] = str(folder)
    if "numba" in sys.modules:  # it has read the environment already
        sys.modules["numba"].config.CACHE_DIR = str(folder)
    return folder


def _settings() -> dict[str, str]:
    """Numba's settings in the environment that change a kernel; the folder and the number of threads do not."""
    others = ("NUMBA_CACHE_DIR", "NUMBA_NUM_THREADS")
    return {key: value for key, value in os.environ.items() if key.startswith("NUMBA_") and key not in others}


def _stamp() -> str:
    """sha256 of names, sizes and times of all modules, of numba's settings, and of the installed libraries' time."""
    files = [(str(file), file.stat()) for file in sorted(PACKAGE.rglob("*.py"))]
    numba = importlib.util.find_spec("numba")
    libraries = Path(numba.origin).parents[1].stat().st_mtime_ns if numba and numba.origin else 0
    state = [[(name, status.st_size, status.st_mtime_ns) for name, status in files], _settings(), libraries]
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def _last_used(base: Path, stamp: str) -> str:
    """Name of the folder that was last used in the state `stamp`; empty if there is none."""
    for folder in base.glob(f"{KERNELS}*"):
        with contextlib.suppress(OSError):
            if (folder / STAMP).read_text() == stamp:
                return folder.name
    return ""


def _kernels_digest() -> str:
    """First 20 hex digits of the sha256 of the kernel modules, of their imports, and of the settings."""
    holders = [file for file in sorted(PACKAGE.rglob("*.py")) if "njit" in file.read_text("utf-8")]
    state = [[code_digest(file) for file in holders], _settings()]
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()[:20]


def _usable(folder: Path) -> Path | None:
    """The folder, made and dated now, if files can be written in it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        os.utime(folder)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        return None
    return folder


def _temporary() -> Path:
    """A folder among the temporary files that only this user can write: kernels in it are executed."""
    folder = Path(tempfile.gettempdir(), f"sae-utils-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    ours = stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o022
    return folder if ours else Path(tempfile.mkdtemp(prefix="sae-utils-"))


def _prune(folder: Path) -> None:
    """Remove all kernel folders except the most recently used ones."""
    with contextlib.suppress(OSError):  # another process may prune as well
        found = sorted(folder.glob(f"{KERNELS}*"), key=lambda kept: kept.stat().st_mtime, reverse=True)
        for old in found[KEPT:]:
            shutil.rmtree(old, ignore_errors=True)
