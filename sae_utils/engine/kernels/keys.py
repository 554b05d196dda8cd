"""Ranking by integer keys: the best of many correlations (or activations) of every feature, without chance.

A float32 and an index make one int64 key, in the order of the float and, where floats are equal, the lower index
first; min-heaps of keys then hold the k best in whatever order they come. It ranks numbers and knows nothing of them.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
Keys: TypeAlias = tuple[NDArray[np.int64], NDArray[np.int32]]  # (features, k) keys, and common firings beside them

LOW = 0x7FFFFFFF  # the largest index a key can hold
EMPTY = -(2**63)  # the key of an empty place: below every correlation
LINE = 16  # values of 4 bytes in a cache line


def in_order(r: float) -> int:
    """The bits of a float32 as an integer in the order of the floats."""
    bits = int(np.float32(r).view(np.int32))
    return bits ^ ((bits >> 31) & LOW)


NOBODY = -2.0  # stands for the correlation of a feature that is not live
LEAST = in_order(-1.5)  # between every correlation and NOBODY


def heap(features: int, k: int) -> Keys:
    """Empty heaps of ``rank``."""
    return np.full((features, k), EMPTY, np.int64), np.zeros((features, k), np.int32)


def floors(features: int) -> NDArray[np.int32]:
    """What ``rank`` needs beside the heaps of the features of b."""
    return np.full(-(-features // LINE) * LINE, LEAST, np.int32)


def decode(keys: Array) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Index (-1 for an empty place) and value (NaN) of keys (features, k), the best first."""
    ordered = np.sort(keys, axis=1)[:, ::-1]
    bits = (ordered >> 32).astype(np.int32)
    index = np.where(ordered == EMPTY, -1, LOW - (ordered & LOW)).astype(np.int32)
    value = (bits ^ ((bits >> 31) & np.int32(LOW))).view(np.float32)
    return index, np.where(index < 0, np.float32(np.nan), value)


@njit(cache=True, nogil=True, inline="always")
def push(heap: Array, load: Array, key: Any, weight: Any) -> None:
    """Replace the smallest key of a min-heap, and what it carries."""
    k, at = heap.size, 0
    while True:
        child = 2 * at + 1
        if child >= k:
            break
        if child + 1 < k and heap[child + 1] < heap[child]:
            child += 1
        if heap[child] >= key:
            break
        heap[at], load[at] = heap[child], load[child]
        at = child
    heap[at], load[at] = key, weight


@njit(cache=True, nogil=True)
def strongest(indptr: Array, indices: Array, data: Array, first: int, heaps: Array, firings: Array) -> None:
    """Add a block of tokens, the first at row ``first``, to every feature's heap of its strongest and its firings."""
    spare = np.zeros(heaps.shape[1], np.int32)
    one = np.empty(1, np.float32)
    bits = one.view(np.int32)
    for t in range(indptr.size - 1):
        for p in range(indptr[t], indptr[t + 1]):
            if data[p] > 0:
                j, one[0] = indices[p], data[p]
                firings[j] += 1
                key = (np.int64(bits[0]) << 32) | (LOW - (first + t))
                if key > heaps[j, 0]:
                    push(heaps[j], spare, key, np.int32(0))
