"""Files of the Hugging Face hub or of a folder, pinned to their contents.

In: a repository and revision, or a folder; names of files. Out: their paths, and the commit (of a folder: the digest)
that they belong to.
Never: pickles, code from a repository; a second request, or a long wait, when the network fails.
"""

import functools
import hashlib
import json
import os
import re
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import Field

from sae_utils.engine.core.sources import REPOSITORY, digest
from sae_utils.engine.core.spec import ProfileError, Spec
from sae_utils.engine.inputs import headers

UNSAFE = (".bin", ".pt", ".pth", ".ckpt", ".pkl")  # pickles run code when they are read


class Files(Spec):
    """Found files and their commit; their paths are not part of a key."""

    source: str  # repository of the hub; empty for a folder
    commit: str  # 40 hex digits of the hub's commit; of a folder, sha256 of names and contents
    paths: dict[str, str] = Field(exclude=True)  # name -> path

    def __getitem__(self, name: str) -> Path:
        return Path(self.paths[name])

    def __contains__(self, name: str) -> bool:
        return name in self.paths


class Listing(NamedTuple):
    """Sizes and terms of a repository or folder, known before any file is fetched."""

    sizes: dict[str, int]  # file -> bytes: of all files, or, where the hub does not answer, of those in the cache
    cached: dict[str, str]  # files that need not be fetched -> their paths
    terms: str = ""  # licence, and whether it must be accepted first
    parameters: int = 0  # numbers in its safetensors; 0 where unknown
    refusal: str = ""  # why the hub tells nothing; empty if it answered


def is_local(source: str) -> bool:
    """Whether a source is a path of this machine (it begins with `.`, `/` or `~`) and not a repository of the hub."""
    return source.startswith((".", "/", "~"))


def local_path(path: str) -> Path:
    """The path that a profile names, from the root of this repository if it is not absolute.

    Raises ProfileError where it begins with a user whom this machine does not know.
    """
    try:
        return REPOSITORY / Path(path).expanduser()
    except RuntimeError:
        raise ProfileError(f"{path}: no such user; write the path out, or ./{path} for a folder of that name") from None


def find(source: str, revision: str, need: Sequence[Sequence[str]], also: Sequence[str] = ()) -> Files:
    """Find files, and fetch from the hub those that its cache does not hold.

    `source`: a repository of the hub, or a folder (from the root of this repository if it begins with `.`).
    `revision`: branch, tag or commit; a name that the cache knows is not asked for again. Of each group of names in
    `need` the first file that exists is taken, and of the names in `also` all that exist.
    Raises ProfileError for no such folder, repository, revision or file, a gated one, no network, or a file that is cut
    off; the message says what is missing and how to get it.
    """
    found = _in_folder(source, need, also) if is_local(source) else _on_hub(source, revision, need, also)
    for name, path in found.paths.items():
        if name.endswith(".safetensors"):
            headers.safetensors(Path(path))
        elif name.endswith(".npz"):
            headers.npz(Path(path))
    return found


def listing(source: str, revision: str, names: Sequence[str]) -> Listing:
    """Sizes of files, without a download; `names` are looked up in the cache."""
    import huggingface_hub
    from huggingface_hub import errors

    if is_local(source):
        root = local_path(source).resolve()
        cached = {name: str(root / name) for name in names if (root / name).is_file()}
        return Listing(_sizes(cached), cached, refusal="" if root.is_dir() else f"{source}: no such folder")
    try:
        pinned = _pinned(source, revision)
        cached = _cached(source, pinned, names)
        info = huggingface_hub.HfApi().model_info(source, revision=pinned, files_metadata=True, timeout=10)
    except errors.HFValidationError as error:
        return Listing({}, {}, refusal=_reason(source, revision, error))
    except Exception as error:  # huggingface_hub and what it calls raise errors of all kinds
        missing = isinstance(error, errors.RepositoryNotFoundError | errors.RevisionNotFoundError)
        silent = f"the hub does not answer ({type(error).__name__})"
        return Listing(_sizes(cached), cached, refusal=_reason(source, revision, error) if missing else silent)
    card: Any = info.card_data or {}
    terms = f"{card.get('license') or 'licence unknown'}{', gated' if info.gated else ''}"
    sizes = {sibling.rfilename: sibling.size or 0 for sibling in info.siblings or []}
    return Listing(sizes, cached, terms, info.safetensors.total if info.safetensors else 0)


def _sizes(paths: Mapping[str, str]) -> dict[str, int]:
    return {name: os.stat(path).st_size for name, path in paths.items()}


def _in_folder(source: str, need: Sequence[Sequence[str]], also: Sequence[str]) -> Files:
    root = local_path(source).resolve()
    if not root.is_dir():
        raise ProfileError(f"{source}: no such folder ({root})")
    there = sorted(file.relative_to(root).as_posix() for file in root.rglob("*") if file.is_file())
    paths = {name: str(root / name) for name in _choose(source, need, also, there)}
    digests = {name: _digest(path, *_state(path)) for name, path in sorted(paths.items())}
    return Files(source="", commit=hashlib.sha256(json.dumps(digests).encode()).hexdigest(), paths=paths)


def _state(path: str) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_size, status.st_mtime_ns


@functools.cache
def _digest(path: str, size: int, modified: int) -> str:
    return digest([Path(path)])


def _choose(where: str, need: Sequence[Sequence[str]], also: Sequence[str], there: Sequence[str]) -> list[str]:
    found = [next((name for name in group if name in there), None) for group in need]
    missing = [" or ".join(group) for group, name in zip(need, found, strict=True) if name is None]
    pickles = [name for name in there if name.endswith(UNSAFE)]
    if pickles and any("safetensors" in name for name in missing):
        raise ProfileError(
            f"{where}: its weights are pickles ({', '.join(pickles[:3])}), which run code when they are read and "
            "are refused; convert them to safetensors where that is no danger (for a model, "
            "`from_pretrained(...).save_pretrained(folder)`) and name that folder, or a revision that has them"
        )
    if missing:
        raise ProfileError(f"{where}: there is no {', no '.join(missing)}; there are {', '.join(there[:12]) or 'none'}")
    return [*dict.fromkeys([name for name in also if name in there] + [name for name in found if name])]


def _on_hub(repo: str, revision: str, need: Sequence[Sequence[str]], also: Sequence[str]) -> Files:
    import huggingface_hub

    where, needed = f"{repo} at {revision}", [name for group in need for name in group]
    try:
        pinned = _pinned(repo, revision)
        cached = _cached(repo, pinned, needed)
        if not all(any(name in cached for name in group) for group in need):
            there = _names(repo, pinned, tuple(" or ".join(group) for group in need))
            for name in _choose(where, need, also, there):
                # the first download is by the revision's name, which the cache then knows
                pinned = _commit(huggingface_hub.hf_hub_download(repo, name, revision=pinned))
    except ProfileError:
        raise
    except Exception as error:  # huggingface_hub, what it calls and the disk raise errors of all kinds
        raise ProfileError(_reason(repo, revision, error)) from error
    cached = _cached(repo, pinned, [*also, *needed])
    paths = {name: cached[name] for name in _choose(where, need, also, list(cached))}
    return Files(source=repo, commit=_commit(next(iter(paths.values()))), paths=paths)


def _pinned(repo: str, revision: str) -> str:
    """The commit that the cache has for a revision (branch, tag or commit); without one, the revision itself."""
    from huggingface_hub import constants

    ref = Path(constants.HF_HUB_CACHE) / f"models--{repo.replace('/', '--')}" / "refs" / revision
    return ref.read_text().strip() if ref.is_file() else revision


def _cached(repo: str, revision: str, names: Sequence[str]) -> dict[str, str]:
    import huggingface_hub

    found = {name: huggingface_hub.try_to_load_from_cache(repo, name, revision=revision) for name in names}
    return {name: path for name, path in found.items() if isinstance(path, str)}


def _commit(path: str) -> str:
    found = re.search(r"/snapshots/([0-9a-f]{40})/", Path(path).as_posix())
    assert found is not None, path
    return found[1]


@functools.cache
def _names(repo: str, revision: str, wanted: tuple[str, ...]) -> list[str]:
    """Names of the files of a revision, from one request with a short timeout."""
    import huggingface_hub

    try:
        info = huggingface_hub.HfApi().model_info(repo, revision=revision, timeout=10)
    except Exception as error:
        raise ProfileError(_reason(repo, revision, error, wanted)) from error
    return [sibling.rfilename for sibling in info.siblings or []]


def _reason(repo: str, revision: str, error: Exception, wanted: Sequence[str] = ()) -> str:
    """Why a repository cannot be read, and the remedy."""
    from huggingface_hub import errors

    where = f"{repo} at {revision}"
    if isinstance(error, errors.GatedRepoError):
        return (
            f"{where} is gated: accept its licence at https://huggingface.co/{repo}, then `hf auth login` or set "
            "HF_TOKEN, and run again"
        )
    if isinstance(error, errors.RepositoryNotFoundError | errors.HFValidationError):
        return f"{where}: the hub has no such repository, or it is private (then `hf auth login`); check its name"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{where}: the repository has no such revision; see https://huggingface.co/{repo}/tree/main for others"
    missing = f"the cache misses {', '.join(wanted)} and " if wanted else ""
    cause = textwrap.shorten(f"{type(error).__name__}: {error}", 120)
    return (
        f"{where}: {missing}the hub does not answer ({cause}); run again with a network and "
        f"HF_HUB_OFFLINE=0, which goes on where it stopped, or `hf download {repo} --revision {revision}` on another "
        "machine and copy its HF_HOME"
    )
