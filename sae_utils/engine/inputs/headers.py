"""Contents of downloaded files, read from their headers without their arrays.

In: a file. Out: names and shapes of its arrays; the names of a checkpoint's files; the object in a JSON file.
Never: an array, a pickle, a file in another folder.
"""

import json
import math
import re
import zipfile
import zlib
from pathlib import Path
from typing import Any

from numpy.lib import format as npy

from sae_utils.engine.core.spec import ProfileError

NOT_JSON = (ValueError, RecursionError)


def json_object(file: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises ProfileError where it holds none."""
    try:
        found = json.loads(file.read_text("utf-8"))
    except NOT_JSON as error:
        raise ProfileError(f"{file}: not JSON ({error}); delete it and fetch it again") from error
    if not isinstance(found, dict):
        raise ProfileError(f"{file}: a JSON object is expected, found {type(found).__name__}; fetch it again")
    return found


def shards(index: Path) -> list[str]:
    """Names of the files that the index of a sharded checkpoint lists.

    Raises ProfileError if the file is no such index, or names anything but safetensors files beside it.
    """
    try:
        names = sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()))
    except (*NOT_JSON, KeyError, TypeError, AttributeError) as error:
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


def safetensors(file: Path) -> dict[str, Any]:
    """The tensors of a safetensors file: name -> mapping with `shape` and `dtype`.

    Raises ProfileError if the file is cut off, holds no tensor, or has another format.
    """
    size = file.stat().st_size
    with open(file, "rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        try:
            assert 0 < length < size
            found = json.loads(stream.read(length))
            found.pop("__metadata__", None)
            end = 8 + length + max((tensor["data_offsets"][1] for tensor in found.values()), default=0)
            assert all(isinstance(tensor["shape"], list) and tensor["dtype"] for tensor in found.values())
        except (*NOT_JSON, KeyError, IndexError, TypeError, AttributeError, AssertionError):
            raise ProfileError(
                f"{file}: cut off at {size} bytes, or not a safetensors file; delete it and fetch it again"
            ) from None
    if not found:
        raise ProfileError(f"{file}: it holds no tensor; fetch it again, or write it again with its weights")
    if size < end:
        raise ProfileError(f"{file}: cut off, {size} bytes of {end}; delete it and fetch it again")
    return dict(found)


class _Pickled(ValueError):
    """An npz member holds Python objects."""


def npz(file: Path) -> dict[str, tuple[int, ...]]:
    """Shapes of the arrays of an npz archive, by name.

    Raises ProfileError if the file is cut off or no archive, or if a member is pickled or no array of numbers.
    """
    found = {}
    try:
        with zipfile.ZipFile(file) as archive:
            for member in archive.infolist():
                with archive.open(member) as stream:
                    found[member.filename.removesuffix(".npy")] = _npy_shape(stream, member.file_size)
    except _Pickled as error:
        raise ProfileError(
            f"{file}: {member.filename} holds Python objects, which are pickled and run code when they are read; they "
            "are refused: save it as an array of numbers"
        ) from error
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise ProfileError(f"{file}: cut off or not an npz archive ({error}); delete it and fetch it again") from error
    except (ValueError, RuntimeError, OSError) as error:  # no array, a password, an unknown compression
        raise ProfileError(
            f"{file}: {member.filename}: not an array of numbers ({error}); save the archive again with `np.savez`"
        ) from error
    return found


def _npy_shape(stream: Any, size: int) -> tuple[int, ...]:
    """The shape of an .npy file of `size` bytes that holds all of its numbers."""
    version = npy.read_magic(stream)
    read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, _, dtype = read_header(stream)
    if dtype.hasobject:
        raise _Pickled(dtype)
    if dtype.kind not in "fiub":
        raise ValueError(f"its type is {dtype}")
    expected = stream.tell() + math.prod(shape) * dtype.itemsize
    if size != expected:
        raise ValueError(f"{size} bytes where shape {shape} takes {expected}")
    return tuple(shape)
