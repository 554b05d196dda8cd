"""What a result was made from: digests of files, of code without its docstrings, and versions of libraries.

In: names of modules, paths of files. Out: sha256 digests; the folder of the kernels compiled from the code.
Never: imports or runs what it digests.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import hashlib
import importlib.metadata
import json
import os
import re
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2]
REPOSITORY = PACKAGE.parent
KERNELS = "sae-utils-kernels-"  # begins the name of a folder of compiled kernels
KEPT = 4  # such folders: of settings that alternate
INSTALLED_AS = {"ot": "POT", "sklearn": "scikit-learn", "yaml": "PyYAML"}  # where the import has another name


def digest(files: Sequence[Path]) -> str:
    """sha256 (hex) of the files' contents, in the order given."""
    total = hashlib.sha256()
    for file in files:
        with open(file, "rb") as stream:
            total.update(hashlib.file_digest(stream, "sha256").digest())
    return total.hexdigest()


def code_digest(file: Path) -> str:
    """sha256 (hex) of the code that can change what a module or a notebook computes.

    Its own syntax tree and, through its imports, those of `sae_utils` modules, without docstrings and comments; and
    the versions of the libraries they import.
    """
    trees: dict[str, str] = {}
    libraries: dict[str, str] = {}
    queue = [file]
    while queue:
        file = queue.pop()
        name = str(file.relative_to(PACKAGE)) if file.is_relative_to(PACKAGE) else file.name
        if name in trees:
            continue
        trees[name], imports = _code(file.read_text("utf-8"))
        for imported in imports:
            if imported.startswith(f"{PACKAGE.name}."):
                queue += [found for found in _module(imported) if found.exists()]
            else:
                libraries.setdefault(imported, _version(imported))
    return hashlib.sha256(json.dumps([trees, libraries], sort_keys=True).encode()).hexdigest()


@functools.cache
def _code(text: str) -> tuple[str, list[str]]:
    """A module without docstrings and comments, and what it imports; most modules are part of many digests."""
    tree = _without_docstrings(ast.parse(text))
    return ast.unparse(tree), list(_imports(tree))


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            node.body = [statement for statement in node.body if not _is_text(statement)]
    return tree


def _is_text(statement: ast.stmt) -> bool:
    """A docstring: of a module, class or function, or below an attribute."""
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def _imports(tree: ast.Module) -> Iterator[str]:
    """Names of modules of the package, dotted (or of what they hold), and of libraries."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (name if name.startswith(f"{PACKAGE.name}.") else name.split(".")[0] for name in names)


def _module(name: str) -> list[Path]:
    """Where the module `name` may be, or the one that holds what has that name."""
    file = PACKAGE.parent.joinpath(*name.split("."))
    return [file.with_suffix(".py"), file.parent.with_suffix(".py")]


@functools.cache
def _version(library: str) -> str:
    try:
        # torch's builds for CPU and CUDA are one version
        return importlib.metadata.version(INSTALLED_AS.get(library, library)).split("+")[0]
    except importlib.metadata.PackageNotFoundError:  # the standard library
        return ""


def need_temporary() -> None:
    """End the program where no temporary file can be written: torch wants one as soon as it is imported."""
    try:
        tempfile.gettempdir()
    except FileNotFoundError as error:
        sys.exit(
            f"error: no temporary file can be written ({error.strerror}): the disk is full or read-only; free some "
            "space, or name a folder that can be written in TMPDIR, and run again: what was finished before is kept"
        )


def keep_kernels() -> Path:
    """Make numba keep compiled kernels in a folder named by their code, which it returns.

    Numba itself looks at the file of a kernel alone, not at those from which the kernel takes functions or constants.
    The folder lies in `build/cache`, in NUMBA_CACHE_DIR where that is set, or, where neither can be written, in one
    of this user's for temporary files.
    """
    told = Path(os.environ.get("NUMBA_CACHE_DIR") or REPOSITORY / "build" / "cache")
    base = told.parent if told.name.startswith(KERNELS) else told  # of the process that started this one
    name = KERNELS + _kernels_digest()
    folder = _usable(base / name) or _usable(_temporary() / name) or Path(tempfile.mkdtemp(prefix=KERNELS))
    _prune(folder.parent)
    os.environ["NUMBA_CACHE_DIR"] = str(folder)
    if "numba" in sys.modules:  # it has read the environment
        sys.modules["numba"].config.CACHE_DIR = str(folder)
    return folder


def _kernels_digest() -> str:
    """First 20 hex digits of the sha256 of the modules that hold kernels, all they import, and numba's settings."""
    holders = [file for file in sorted(PACKAGE.rglob("*.py")) if "njit" in file.read_text("utf-8")]
    settings = {key: os.environ[key] for key in os.environ if re.match("NUMBA_(?!CACHE_DIR)", key)}
    told = [[code_digest(file) for file in holders], settings]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:20]


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
    """A folder among the temporary ones in which nobody else can write: compiled kernels are run."""
    folder = Path(tempfile.gettempdir(), f"sae-utils-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    ours = stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o022
    return folder if ours else Path(tempfile.mkdtemp(prefix="sae-utils-"))


def _prune(folder: Path) -> None:
    """Remove all but the folders of kernels that were used last."""
    with contextlib.suppress(OSError):  # another process prunes as well
        found = sorted(folder.glob(f"{KERNELS}*"), key=lambda kept: kept.stat().st_mtime, reverse=True)
        for old in found[KEPT:]:
            shutil.rmtree(old, ignore_errors=True)
