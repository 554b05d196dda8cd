"""Cross sums of two sides, at least one of them dense, on the CPU: one tile of features by all features at a time.

In: prepared sides (`sides.Side`). Out: what `accumulate` gives for sparse sides: ranked keys, blocks of correlations,
cross sums of pairs. Sums are float64, and activations are shifted by their mean first, so that a large mean costs no
digits. It holds no more than a tile of about ``TILE`` bytes and a block of tokens.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from sae_utils.engine.core.progress import bar
from sae_utils.engine.kernels import keys, sides
from sae_utils.engine.kernels.keys import Array, Keys
from sae_utils.engine.kernels.sides import Side

TILE = 2**26  # bytes of float64 cross sums held at once
CACHE = 2**23  # bytes that stay in the cache


def rank(one: Side, two: Side, k: int) -> tuple[Keys, Keys]:
    """The k best keys of every feature of either side, in any order."""
    from sae_utils.engine.kernels import accumulate

    by_row, by_column = keys.heaps(one.features, k), keys.heaps(two.features, k)
    floors, scaling = keys.floors(two.features), sides.scaling(one, two)
    height, right = _height(one, two.features), _blocks(two, np.arange(two.features))
    for first in bar(range(0, one.features, height), "correlation"):
        cross = _tile(one, np.arange(first, min(first + height, one.features)), right, two.features)
        accumulate.rank_tile(first, cross, scaling, by_row, by_column, floors)
    return by_row, by_column


def block(one: Side, left: NDArray[np.int64], two: Side, right: NDArray[np.int64]) -> NDArray[np.float32]:
    """Correlations (left, right), NaN where either feature is not live."""
    from sae_utils.engine.kernels import accumulate

    out = np.empty((len(left), len(right)), np.float32)
    height, scaling, of_right = _height(one, len(right)), sides.scaling(one, two), _blocks(two, right)
    for first in range(0, len(left), height):
        features = left[first : first + height]
        cross = _tile(one, features, of_right, len(right))
        accumulate.finish(cross, features, right, scaling, out[first : first + height])
    return out


def pairs(one: Side, left: NDArray[np.int64], two: Side, right: NDArray[np.int64]) -> NDArray[np.float64]:
    """Cross sums of the pairs (left[n], right[n])."""
    cross = np.zeros(len(left))
    for at_a, at_b in zip(sides.blocks(one.at), sides.blocks(two.at), strict=True):
        for chunk in np.array_split(np.arange(len(left)), max(len(left) // 1024, 1)):
            x, y = dense(one, at_a, left[chunk]), dense(two, at_b, right[chunk])
            cross[chunk] += np.einsum("tp,tp->p", x - one.shift[left[chunk]], y - two.shift[right[chunk]])
    return cross


def dense(side: Side, at: NDArray[np.int64], features: NDArray[np.int64]) -> NDArray[np.float64]:
    """A block (tokens, features) of a side, dense, as stored."""
    block = _stored(side, at, features)
    return np.asarray(block.toarray() if side.sparse else block, np.float64)


def _height(side: Side, width: int) -> int:
    """Number of features of a tile: many if every tile reads the store again, else as many as fit in the cache."""
    return max((TILE if len(side.at) > sides.BLOCK else CACHE) // (8 * max(width, 1)), 1)


def _blocks(side: Side, features: Array) -> Callable[[], Iterable[Any]]:
    """The shifted blocks of a side, read again for every tile; a single block is read once."""

    def read() -> Iterator[Any]:
        return (_shifted(side, at, features) for at in sides.blocks(side.at))

    if len(side.at) > sides.BLOCK:
        return read
    held = list(read())
    return lambda: held


def _tile(one: Side, left: Array, right: Callable[[], Iterable[Any]], width: int) -> Array:
    """Cross sums (left, width) of shifted activations."""
    cross = np.zeros((len(left), width))
    for number, (at, y) in enumerate(zip(sides.blocks(one.at), right(), strict=True)):
        found = _product(_shifted(one, at, left), y)
        cross = np.add(cross, found, out=cross) if number else found
    return cross


def _shifted(side: Side, at: Array, features: Array) -> Any:
    """A block (tokens, features) of float64 less the shift; sparse where the side is."""
    block = _stored(side, at, features).astype(np.float64)  # float16 is slow to compute with
    if not side.sparse:
        block -= side.shift[features]
    return block


def _stored(side: Side, at: Array, features: Array) -> Any:
    if side.sparse:
        return side.codes[at][:, features]
    if not len(features):
        return np.empty((len(at), 0), side.codes.dtype)
    span = slice(features.min(), features.max() + 1)  # whole rows, then columns: far faster than both at once
    block = side.codes[at, span]
    return block if (np.diff(features) == 1).all() else np.take(block, features - span.start, axis=1)


def _product(x: Any, y: Any) -> Array:
    """The product x' y as a dense matrix."""
    found = (y.T @ x).T if sparse.issparse(y) else x.T @ y
    return np.ascontiguousarray(found.toarray() if sparse.issparse(found) else found)
