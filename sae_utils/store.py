"""The store of artefacts: results of slow functions, each in a folder named by a digest of its inputs.

In: a producing function and its arguments. Out: an `Artefact`, found or made.
Never: pickle, partial results, a changed artefact under an old key.

The key of an artefact is the sha256 of everything that can change its bytes: its arguments (for an artefact, its key),
the thread count, the device, the CPU code path, the versions of torch and of the imported libraries, and the syntax
tree, without docstrings, of the producing module and of the `sae_utils` modules that it imports.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import inspect
import json
import os
import shutil
import sys
import warnings
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Concatenate, NamedTuple, ParamSpec, TypeVar

import numpy as np
from filelock import FileLock, Timeout
from numpy.lib import format as npy

from sae_utils.engine.core import cpu, files
from sae_utils.engine.core.sources import REPOSITORY, code_digest, digest
from sae_utils.engine.core.spec import Spec

P = ParamSpec("P")
Item = TypeVar("Item", bound=Hashable)


class _Settings:
    root = REPOSITORY / "build" / "store"
    threads: int | None = None
    device = "cpu"


Settings = tuple[int | None, str, Path]  # threads, device, root
_opened: dict[Path, Artefact] = {}  # verified in this process


def use(*, threads: int, device: str = "cpu", root: Path | None = None) -> None:
    """Set how artefacts are made from here on; threads and device (`cpu` or `cuda`) are part of every key.

    `threads`: cores that torch and BLAS may use; one and two threads train to different bytes. `root`: folder of the
    store; by default `build/store` of the repository.
    """
    import scipy.linalg  # noqa: F401  (its BLAS must be loaded to be limited)
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(threads)
    threadpool_limits(threads)
    _Settings.threads, _Settings.device = threads, device
    _Settings.root = root or REPOSITORY / "build" / "store"
    _warn_of_code_path()


def settings() -> Settings:
    """What `use` has set, for another process to `restore`."""
    return _Settings.threads, _Settings.device, _Settings.root


def restore(given: Settings) -> None:
    """Set what `settings` returned in another process."""
    threads, device, root = given
    if given != settings() and threads is not None:
        use(threads=threads, device=device, root=root)


@functools.cache
def _warn_of_code_path() -> None:
    """Warn once a process where other machines may give other bytes; on stderr, which executed notebooks drop."""
    if found := cpu.differs():
        print(f"store: the CPU code path is not the pinned one ({found}): last digits may differ from those of other "
              "machines (sae_utils/engine/core/cpu.py says what it needs)", file=sys.stderr)  # fmt: skip


def check() -> None:
    """Try to write in the store before long computations. Raises `files.WriteError`."""
    files.probe(_Settings.root)


def threads() -> int:
    """Cores that this run may use. Raises RuntimeError where no profile is open."""
    if _Settings.threads is None:
        raise RuntimeError(
            "no profile is open: call `profiles.start(profile, notebook)` or `store.use(threads=...)` first"
        )
    return _Settings.threads


def device() -> str:
    """The device of this run's tensors: `cpu` or `cuda`."""
    return _Settings.device


class Artefact:
    """One finished folder of the store; equal to another with the same key."""

    def __init__(self, key: str, path: Path, meta: dict[str, Any]) -> None:
        self.key = key  # sha256 (hex) of all that made it
        self.path = path
        self.meta = meta  # numbers and texts that its producer returned
        self.stamp = files.stamp(path)  # state of the folder when it was verified

    def array(self, name: str) -> np.ndarray:
        """The array `name`, memory-mapped and read-only."""
        array: np.ndarray = np.load(self.path / f"{name}.npy", mmap_mode="r", allow_pickle=False)
        return array

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Artefact) and other.key == self.key

    def __hash__(self) -> int:
        return hash(self.key)

    def __repr__(self) -> str:
        return f"Artefact({self.path.name})"


def artefact(produce: Callable[Concatenate[Path, P], dict[str, Any] | None]) -> Callable[P, Artefact]:
    """Turn `produce(folder, *arguments)` into a function that returns the finished artefact.

    `produce` fills `folder` with `.npy`, safetensors or JSON files and returns what belongs in `meta`. The decorated
    function takes the same arguments without `folder`: numbers, texts, lists, `Spec`s, artefacts. It computes the
    artefact if the store does not have it; if the stored one is damaged, it warns and computes it again.
    """

    @functools.wraps(produce)
    def one(folders: dict[None, Path], /, *args: P.args, **kwargs: P.kwargs) -> Iterator[tuple[None, dict[str, Any]]]:
        yield None, produce(folders[None], *args, **kwargs) or {}

    get_several = artefacts(one)

    @functools.wraps(produce)
    def get(*args: P.args, **kwargs: P.kwargs) -> Artefact:
        return get_several([None], *args, **kwargs)[None]

    return get


def artefacts(
    produce: Callable[Concatenate[dict[Item, Path], P], Iterator[tuple[Item, dict[str, Any]]]],
) -> Callable[Concatenate[Iterable[Item], P], dict[Item, Artefact]]:
    """Like `artefact` where one pass makes several: the decorated function takes items, and returns artefacts by item.

    `produce(folders, *arguments)` gets the folders of the items that are not in the store. It yields an item and its
    `meta` as soon as its folder is filled; finished items are kept if a later one fails. Every item has a key of its
    own that does not depend on the others: they must not change its bytes.
    """
    # at import, so that the key stands for the code that is loaded, not for a later edit of the file
    code = code_digest(Path(inspect.getfile(inspect.unwrap(produce))))
    parameters = list(inspect.signature(produce).parameters.values())[1:]
    defaults = {p.name: p.default for p in parameters if p.default is not p.empty}

    def slot(item: Item, args: Sequence[Any], kwargs: Mapping[str, Any]) -> _Slot:
        import torch

        named = {**defaults, **dict(zip((p.name for p in parameters), args, strict=False)), **kwargs}
        named |= {} if item is None else {"item": item}
        recipe = {
            "producer": f"{produce.__module__}.{produce.__qualname__}",
            "arguments": {name: _canonical(value) for name, value in sorted(named.items())},
            "code": code,
            "threads": threads(),
            "device": device(),
            "cpu": cpu.path(),
            "torch": torch.__version__,
        }
        key = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()
        name = f"{produce.__module__.rpartition('.')[2]}.{produce.__name__}-{key[:20]}"
        return _Slot(_Settings.root / name, key, recipe)

    @functools.wraps(produce)
    def get(items: Iterable[Item], /, *args: P.args, **kwargs: P.kwargs) -> dict[Item, Artefact]:
        slots = {item: slot(item, args, kwargs) for item in items}
        missing = {slot.path: item for item, slot in slots.items() if _open(slot) is None}
        if missing:
            check()
        with _locked(missing):
            # another process may have made some while this one waited
            wanted = {item: slots[item] for item in missing.values() if _open(slots[item]) is None}
            if wanted:
                with _drafts(wanted) as folders:
                    for item, values in produce(folders, *args, **kwargs):
                        _finish(wanted[item], folders[item], values)
        return {item: _opened[slot.path] for item, slot in slots.items()}

    return get


class _Slot(NamedTuple):
    """The place of an artefact in the store, and its inputs."""

    path: Path
    key: str
    recipe: dict[str, Any]


def _canonical(value: Any) -> Any:
    if isinstance(value, Artefact):
        return {"artefact": value.key}
    if isinstance(value, Spec):
        return {type(value).__name__: value.model_dump(mode="json")}
    if isinstance(value, Mapping):
        return {str(name): _canonical(item) for name, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_canonical(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"an artefact cannot be keyed by {value!r}: pass numbers, texts, lists, Specs or artefacts")


@contextlib.contextmanager
def _locked(paths: Iterable[Path]) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for path in sorted(paths):  # all processes lock in one order, so that none waits for another in a circle
            lock = FileLock(path.parent / f".{path.name}.lock")
            try:
                with files.explained(path):
                    lock.acquire(timeout=0)
            except Timeout:
                print(f"store: waiting for another build that is making {path.name}", file=sys.stderr, flush=True)
                lock.acquire()
            stack.callback(lock.release)
        yield


@contextlib.contextmanager
def _drafts(slots: Mapping[Item, _Slot]) -> Iterator[dict[Item, Path]]:
    """Empty draft folders; those that remain at the end are removed."""
    folders = {item: slot.path.with_name(f".{slot.path.name}.draft") for item, slot in slots.items()}
    try:
        for folder in folders.values():
            with files.explained(folder):
                files.remove(folder)  # of a killed build
                folder.mkdir()
        yield folders
    except Exception as error:
        if not files.is_full(error):
            raise
        names = ", ".join(slot.path.name for slot in slots.values())
        raise files.WriteError(
            errno.ENOSPC, f"{_Settings.root}: disk full while making {names}; free some space and run again: what was "
            "finished before is kept",
        ) from error  # fmt: skip
    finally:
        for folder in folders.values():
            shutil.rmtree(folder, ignore_errors=True)


def _finish(slot: _Slot, draft: Path, values: dict[str, Any]) -> None:
    """Record the files of a draft, and move it to its place in the store."""
    made = {str(file.relative_to(draft)): digest([file]) for file in sorted(draft.rglob("*")) if file.is_file()}
    meta = {"key": slot.key, "recipe": slot.recipe, "files": made, "values": values}
    text = json.dumps(meta, indent=1, sort_keys=True)
    (draft / "meta.json").write_text(text)
    (draft / "meta.sha256").write_text(digest([draft / "meta.json"]))
    with files.explained(slot.path):
        files.remove(slot.path)  # a damaged artefact
        os.replace(draft, slot.path)
    _opened[slot.path] = Artefact(slot.key, slot.path, json.loads(text)["values"])  # as a later process reads them


def _open(slot: _Slot) -> Artefact | None:
    """The artefact of a slot if the store holds it, verified when it is first opened and whenever it has changed."""
    path, opened = slot.path, _opened.get(slot.path)
    with files.explained(path):
        if opened and opened.stamp == files.stamp(path):
            return opened
        if not (path / "meta.json").exists():
            return None
        values, damaged = _verified(slot)
    if damaged:
        warnings.warn(f"store: {path} is damaged ({', '.join(damaged)}); computing it again", stacklevel=2)
        return None
    _opened[path] = Artefact(slot.key, path, values)
    return _opened[path]


def _verified(slot: _Slot) -> tuple[dict[str, Any], list[str]]:
    """The values of an artefact, and its damaged files: changed, missing or added.

    An added file counts because a library may read it, as transformers does beside a tokenizer.
    """
    path = slot.path
    unreadable: tuple[dict[str, Any], list[str]] = {}, ["meta.json"]
    try:
        if digest([path / "meta.json"]) != (path / "meta.sha256").read_text():
            return unreadable
        meta = json.loads((path / "meta.json").read_text())
        if meta["key"] != slot.key:
            return unreadable
        made = {path / name: sha for name, sha in meta["files"].items()}
        damaged = [
            str(file.relative_to(path)) for file, sha in made.items() if not file.exists() or digest([file]) != sha
        ]
        damaged += [f"{name} was added" for name in files.added(path, [*meta["files"], "meta.json", "meta.sha256"])]
        return meta["values"], damaged
    except PermissionError:
        raise
    except (OSError, ValueError, KeyError):
        return unreadable


class Appender:
    """An `.npy` file that grows block by block, so that no stage holds a complete array.

    Use as a context manager; every block has the shape `(any, *row)`.
    """

    def __init__(self, file: Path, dtype: Any, row: tuple[int, ...] = ()) -> None:
        self.dtype, self.row, self.length = np.dtype(dtype), row, 0
        self._stream = open(file, "wb")
        self._write_header()

    def _write_header(self) -> None:
        # numpy pads the header so that the first axis can grow in place
        self._stream.seek(0)
        shape = (self.length, *self.row)
        npy.write_array_header_1_0(
            self._stream, {"descr": npy.dtype_to_descr(self.dtype), "fortran_order": False, "shape": shape}
        )

    def append(self, block: np.ndarray) -> None:
        """Add rows at the end. Raises ValueError where they have another shape than the file's."""
        if block.shape[1:] != self.row:
            raise ValueError(f"rows of shape {block.shape[1:]} do not belong in a file of rows {self.row}")
        self._stream.write(np.ascontiguousarray(block, dtype=self.dtype).reshape(-1).data)
        self.length += len(block)

    def __enter__(self) -> Appender:
        return self

    def __exit__(self, *_: object) -> None:
        self._write_header()
        self._stream.close()
