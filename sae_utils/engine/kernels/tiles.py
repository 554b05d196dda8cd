"""Cross sums of two sides of which one at least is dense, a tile of features by all features at a time, on the CPU.

In: prepared sides (``sides.Side``). Out: what ``accumulate`` gives for sparse sides: ranked keys, blocks of
correlations, cross sums of pairs. Sums are float64, and activations are taken off their mean first, so that a large
mean costs no digits. It holds no more than a tile of about ``TILE`` bytes and a block of tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from tqdm import tqdm

from sae_utils.engine.kernels import accumulate, keys, sides
from sae_utils.engine.kernels.keys import Array, Keys
from sae_utils.engine.kernels.sides import Side

TILE = 2**26  # bytes of float64 cross sums held at once
CACHE = 2**23  # bytes that stay in the cache
Block: TypeAlias = tuple[Any, Any]  # shifted activations (tokens, features); 1 where they fire, or None if not asked


def rank(one: Side, two: Side, k: int, *, firings: bool = True) -> tuple[Keys, Keys]:
    """The k best keys of every feature of either side, in any order; without ``firings`` those beside them are 0."""
    by_row, by_column = keys.heap(one.features, k), keys.heap(two.features, k)
    floors = keys.floors(two.features)
    height = _height(one, two.features)
    right = _rights(two, np.arange(two.features), firings)
    for first in tqdm(range(0, one.features, height), desc="correlation", leave=False, disable=None, delay=2):
        features = np.arange(first, min(first + height, one.features))
        cross, both = _tile(one, features, right, two.features, firings)
        accumulate.rank_tile(first, cross, both, sides.scaling(one, two), by_row, by_column, floors)
    return by_row, by_column


def block(one: Side, left: NDArray[np.int64], two: Side, right: NDArray[np.int64]) -> NDArray[np.float32]:
    """Correlations (left, right), NaN where either feature is not live."""
    out = np.empty((len(left), len(right)), np.float32)
    height = _height(one, len(right))
    blocks_right = _rights(two, right, False)
    for first in range(0, len(left), height):
        features = left[first : first + height]
        cross, _ = _tile(one, features, blocks_right, len(right), False)
        accumulate.finish(cross, features, right, sides.scaling(one, two), out[first : first + height])
    return out


def pairs(one: Side, left: NDArray[np.int64], two: Side, right: NDArray[np.int64]) -> NDArray[np.float64]:
    """Cross sums of pairs of features, as ``accumulate.merge``."""
    cross = np.zeros(len(left))
    for at_a, at_b in zip(blocks(one), blocks(two), strict=True):
        for chunk in np.array_split(np.arange(len(left)), max(len(left) // 1024, 1)):
            x, y = dense(one, at_a, left[chunk]), dense(two, at_b, right[chunk])
            cross[chunk] += np.einsum("tp,tp->p", x - one.shift[left[chunk]], y - two.shift[right[chunk]])
    return cross


def blocks(side: Side) -> Iterator[NDArray[np.int64]]:
    """Chosen rows of a store, a block of tokens at a time."""
    for first in range(0, len(side.at), sides.BLOCK):
        yield side.at[first : first + sides.BLOCK]


def dense(side: Side, at: NDArray[np.int64], features: NDArray[np.int64]) -> NDArray[np.float64]:
    """A block (tokens, features) of a side as it stands in the store."""
    block = _taken(side, at, features)
    return np.asarray(block.toarray() if sparse.issparse(block) else block, np.float64)


def _height(side: Side, width: int) -> int:
    """Features of a tile: many where the store is read again for every tile, else as many as stay in the cache."""
    return max((TILE if len(side.at) > sides.BLOCK else CACHE) // (8 * max(width, 1)), 1)


def _rights(side: Side, features: Array, firings: bool) -> Callable[[], Iterable[Block]]:
    """The blocks of the right side, shifted, again for every tile; where there is but one it is read once."""

    def read() -> Iterator[Block]:
        return (_shifted(side, at, features, firings) for at in blocks(side))

    if len(side.at) > sides.BLOCK:
        return read
    kept = list(read())
    return lambda: kept


def _tile(
    one: Side, left: Array, right: Callable[[], Iterable[Block]], width: int, firings: bool
) -> tuple[Array, Array]:
    """Cross sums (left, width) of shifted activations, and the tokens on which both fire (left, 0 unless asked)."""
    cross, both = None, np.zeros((len(left), width if firings else 0), np.int32)
    for at, (y, y_fires) in zip(blocks(one), right(), strict=True):
        x, x_fires = _shifted(one, at, left, firings)
        found = _product(x, y)
        cross = found if cross is None else np.add(cross, found, out=cross)
        if firings:  # counts to the length of a block are exact in float32
            both += _product(x_fires, y_fires).astype(np.int32)
    return np.zeros((len(left), width)) if cross is None else cross, both


def _shifted(side: Side, at: Array, features: Array, firings: bool) -> Block:
    """A block of some features less their shift, float64, and whether they fire, float32; sparse where the side is."""
    block = _taken(side, at, features).astype(np.float64)  # float16 is slow to compare and to compute with
    fires = (block > 0).astype(np.float32) if firings else None
    if not sparse.issparse(block):
        block -= side.shift[features]
    return block, fires


def _taken(side: Side, at: Array, features: Array) -> Any:
    if sparse.issparse(side.codes):
        return side.codes[at][:, features]
    if not len(features):
        return np.empty((len(at), 0), side.codes.dtype)
    span = slice(features.min(), features.max() + 1)  # whole rows, then columns: far faster than both at once
    block = side.codes[at, span]
    return block if (np.diff(features) == 1).all() else np.take(block, features - span.start, axis=1)


def _product(x: Any, y: Any) -> Array:
    """x' y, dense."""
    found = (y.T @ x).T if sparse.issparse(y) else x.T @ y
    return np.ascontiguousarray(found.toarray() if sparse.issparse(found) else found)
