"""The data of the explorer in few bytes: arrays and text in one compressed block that a script of the page reads.

In: two sides. Out: base64 of gzip of: length of a JSON (uint32), the JSON, then the arrays where it says they are.
Never: a quote or an angle bracket, which would end the script that holds it.
"""

import base64
import gzip
import itertools
import json
from typing import Any

import numpy as np

from sae_utils.page.sides import Explored, Side

GRID = 4095  # steps of a coordinate
STEPS = 10000  # of a correlation
NONE = -32768  # for a correlation that is missing
TYPES = {"uint8": "u1", "uint16": "u2", "int16": "i2", "int32": "i4", "float32": "f4"}


def packed(found: Explored, titles: tuple[str, str]) -> str:
    """Both sides and their `titles` as base64."""
    words: dict[str, int] = {}
    sides = [_arrays(side, words) for side in (found.a, found.b)]
    texts = [_texts(side, title) for side, title in zip((found.a, found.b), titles, strict=True)]
    held = {"sides": texts, "words": list(words), "concepts": found.concepts, "near": found.near, "grid": GRID}
    return joined({f"{name}_{key}": x for name, side in zip("ab", sides, strict=True) for key, x in side.items()}, held)


def joined(arrays: dict[str, np.ndarray], held: dict[str, Any]) -> str:
    """Arrays and what a JSON can hold, as base64; its key `arrays` has type, first byte and length of each array."""
    blocks = [np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<")).tobytes() for array in arrays.values()]
    starts = itertools.accumulate((len(x) + -len(x) % 8 for x in blocks), initial=0)
    listed = {
        name: [TYPES[array.dtype.name], start, array.size]
        for (name, array), start in zip(arrays.items(), starts, strict=False)
    }
    header = json.dumps(held | {"arrays": listed}, separators=(",", ":"), allow_nan=False).encode()
    header += b" " * (-(len(header) + 4) % 8)
    body = b"".join(block + bytes(-len(block) % 8) for block in blocks)
    whole = len(header).to_bytes(4, "little") + header + body
    return base64.b64encode(gzip.compress(whole, 9, mtime=0)).decode()


def _texts(side: Side, title: str) -> dict[str, Any]:
    contexts = [x for own in side.contexts for x in own]
    parts = [list(x) for x in zip(*contexts, strict=True)] or [[], [], []]
    return {"name": side.name, "title": title, "link": side.link, "contexts": parts, "maps": list(side.maps)}


def _arrays(side: Side, words: dict[str, int]) -> dict[str, np.ndarray]:
    """The arrays of a side; its tokens are added to `words`."""
    tokens = [words.setdefault(word, len(words)) for own in side.tokens for word in own]
    maps = {f"map{number}": _on_grid(made) for number, made in enumerate(side.maps.values())}
    return {
        "ids": side.ids, "rate": side.rate.astype(np.float16).astype(np.float32), "partner": side.partner,
        "r": _steps(side.r), "held": _steps(side.held_out), "kind": side.kind,
        "concept": side.concept, "family": side.family, "near": _short(side.near),
        "tokens": np.array(tokens, np.int32), "tokened": _ends(side.tokens), "contexted": _ends(side.contexts), **maps,
    }  # fmt: skip


def _ends(of: list[Any]) -> np.ndarray:
    """How many entries the features up to each have."""
    return np.cumsum([len(x) for x in of], dtype=np.int32)


def _short(positions: np.ndarray) -> np.ndarray:
    return positions.astype(np.uint16 if positions.max(initial=0) <= np.iinfo(np.uint16).max else np.int32)


def _steps(r: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(r), np.round(np.nan_to_num(r) * STEPS), NONE).astype(np.int16)


def _on_grid(points: np.ndarray) -> np.ndarray:
    """Coordinates (n, 2) on a square grid, both axes in one scale, the map in its middle."""
    if not len(points):
        return np.zeros((0, 2), np.uint16)
    low, high = points.min(0), points.max(0)
    span = max(float((high - low).max()), 1e-9)
    return np.asarray(np.round(((points - (low + high) / 2) / span + 0.5) * GRID)).astype(np.uint16)
