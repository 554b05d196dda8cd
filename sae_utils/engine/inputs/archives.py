"""What others packed together, looked at before it is read: npz archives, and checkpoints in parts.

In: a file. Out: the shapes of an archive's arrays; the names of a checkpoint's files.
Never: an array, a pickle, a file in another folder.
"""

from __future__ import annotations

import json
import math
import re
import zipfile
import zlib
from pathlib import Path
from typing import Any

from numpy.lib import format as npy

from sae_utils.engine.core.spec import ProfileError


def shapes(file: Path) -> dict[str, tuple[int, ...]]:
    """Shapes of the arrays of an npz archive, by name.

    Raises:
        ProfileError: it is cut off or no archive; what it holds is pickled, or is no array of numbers.
    """
    found = {}
    try:
        with zipfile.ZipFile(file) as zipped:
            for member in zipped.infolist():
                with zipped.open(member) as stream:
                    found[member.filename.removesuffix(".npy")] = _shape(stream, member.file_size)
    except _Pickled as error:
        raise ProfileError(
            f"{file}: {member.filename} holds Python objects, which are pickled and run code when they are read; they "
            "are refused: save it as an array of numbers"
        ) from error
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise ProfileError(f"{file}: cut off or not an npz archive ({error}); delete it and fetch it again") from error
    except (ValueError, RuntimeError, OSError) as error:  # no array, a password, a compression that nobody knows
        raise ProfileError(
            f"{file}: {member.filename}: not an array of numbers ({error}); save the archive again with `np.savez`"
        ) from error
    return found


class _Pickled(ValueError):
    """An array of Python objects."""


def _shape(stream: Any, size: int) -> tuple[int, ...]:
    """The shape of an .npy file of `size` bytes, whose numbers are all there."""
    version = npy.read_magic(stream)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, _, dtype = read(stream)
    if dtype.hasobject:
        raise _Pickled(dtype)
    if dtype.kind not in "fiub":
        raise ValueError(f"its type is {dtype}")
    wanted = stream.tell() + math.prod(shape) * dtype.itemsize
    if size != wanted:
        raise ValueError(f"{size} bytes where shape {shape} takes {wanted}")
    return tuple(shape)


def shards(index: Path) -> list[str]:
    """Names of the files that the index of a checkpoint in parts lists.

    Raises:
        ProfileError: it is no such index, or names what is no safetensors file beside it.
    """
    try:
        names = sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ProfileError(
            f"{index}: not the index of a checkpoint ({type(error).__name__}: {error}); it must map tensors to files "
            "under `weight_map`; delete it and fetch it again"
        ) from error
    wrong = [name for name in names if not re.fullmatch(r"[\w-][\w.-]*\.safetensors", str(name))]
    if wrong or not names:
        raise ProfileError(
            f"{index}: weight_map names {', '.join(map(repr, wrong[:3])) or 'no file'}, and only safetensors files in "
            "the folder of the index are read; fetch it again, or save the model again with `save_pretrained`"
        )
    return names
