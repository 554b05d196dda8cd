"""Ranking by integer keys: the best of many correlations, or activations, of every feature.

A float32 and an index make one int64 key. Keys are in the order of the floats and, where floats are equal, in the
reverse order of the index, so that the larger key is the better one. A min-heap of k keys (`accumulate.push`) then
holds the k best, in any order of arrival.
"""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
Keys: TypeAlias = NDArray[np.int64]  # (features, k)

LOW = 0x7FFFFFFF  # the largest index a key can hold
EMPTY = -(2**63)  # the key of an empty place: below every correlation
LINE = 16  # values of 4 bytes in a cache line


def in_order(r: float) -> int:
    """The bits of a float32 as an integer in the order of the floats."""
    bits = int(np.float32(r).view(np.int32))
    return bits ^ ((bits >> 31) & LOW)


NOT_LIVE = -2.0  # stands for the correlation of a feature that is not live
LEAST = in_order(-1.5)  # between every correlation and NOT_LIVE


def heaps(features: int, k: int) -> Keys:
    """Empty heaps (features, k)."""
    return np.full((features, k), EMPTY, np.int64)


def floors(features: int) -> NDArray[np.int32]:
    """The correlation from which a value enters the heap of each feature, padded to a multiple of LINE."""
    return np.full(-(-features // LINE) * LINE, LEAST, np.int32)


def decode(keys: Keys) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Index and value of keys (features, k), the best first; -1 and NaN for an empty place."""
    ordered = np.sort(keys, axis=1)[:, ::-1]
    bits = (ordered >> 32).astype(np.int32)
    index = np.where(ordered == EMPTY, -1, LOW - (ordered & LOW)).astype(np.int32)
    value = (bits ^ ((bits >> 31) & np.int32(LOW))).view(np.float32)
    return index, np.where(index < 0, np.float32(np.nan), value)
