"""Compiled kernels of the correlation: cross sums of two sparse sides, one feature's row at a time.

In: the raw arrays of CSR codes (tokens, features). Out: moments, transposes, ranked keys, blocks of correlations.
A kernel gathers the sum over tokens of a[t, i] * b[t, j] for one feature i and all j at once: for every token on which
i fires, it adds the sparse row of b to one buffer of float64 (features_b,), which stays in the cache. A product of two
float32 is exact in float64, and tokens are added in ascending order. So the bits of a sum do not depend on the side
from which it is gathered, the number of threads, or the other features that are computed.

The rows of b are scattered in memory. Each is prefetched ``AHEAD`` tokens before its turn: without that, all cross sums
of 50,000 tokens x 4,096 x 4,096 features take 2.4 times as long, and the ranking 1.5 times.

Kernels do not check their input. They never allocate a matrix features by features.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from sae_utils.engine.kernels.keys import LEAST, LINE, LOW, NOT_LIVE, Array, Keys
from sae_utils.engine.kernels.sides import Scaling, Triple

ONE = np.uint32(1)
AHEAD = 16  # tokens between the prefetch of a row and its turn


def _prefetch_line(typing: Any, array: Any, index: Any) -> Any:
    """Prefetch the cache line of array[index]; an index past the end is harmless."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        address = builder.bitcast(builder.gep(data, [arguments[1]]), byte)
        kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        call = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(call, [address, number(0), number(3), number(1)])  # to read, kept in all caches, data
        return context.get_dummy_value()

    return types.void(array, types.uint64), generate


_prefetch: Any = intrinsic(_prefetch_line)


@njit(cache=True, nogil=True, inline="always")
def _prefetch_rows(q: int, token: Array, indptr: Array, indices: Array, data: Array) -> None:
    """Prefetch the row of the token AHEAD of q, and the start of the row AHEAD of that one."""
    if q + 2 * AHEAD < token.size:
        _prefetch(indptr, np.uint64(token[q + 2 * AHEAD]))
    if q + AHEAD < token.size:
        t = token[q + AHEAD]
        for p in range(np.uint64(indptr[t]), np.uint64(indptr[t + ONE]), np.uint64(LINE)):
            _prefetch(indices, p)
            _prefetch(data, p)


@njit(cache=True, nogil=True)
def moments(indptr: Array, indices: Array, data: Array, rows: Array, features: int) -> tuple[Array, ...]:
    """Sum, sum of squares, firings and extremes of every feature over ``rows`` (positions, repeats allowed)."""
    total, square = np.zeros(features), np.zeros(features)
    fired, stored = np.zeros(features, np.int64), np.zeros(features, np.int64)
    low, high = np.full(features, np.inf), np.full(features, -np.inf)
    for t in rows:
        for p in range(indptr[t], indptr[t + ONE]):
            j, v = indices[p], np.float64(data[p])
            total[j] += v
            square[j] += v * v
            fired[j] += v > 0
            stored[j] += 1
            low[j], high[j] = min(low[j], v), max(high[j], v)
    for j in range(features):
        if stored[j] < rows.size:
            low[j], high[j] = min(low[j], 0.0), max(high[j], 0.0)
    return total, square, fired, low, high


@njit(cache=True, nogil=True)
def add_moments(block: Array, shift: Array, sums: tuple[Array, ...]) -> None:
    """Add a dense block (tokens, features) to the ``moments`` of activations less ``shift``; extremes are as stored."""
    total, square, fired, low, high = sums
    for t in range(block.shape[0]):
        for j in range(block.shape[1]):
            v = block[t, j]
            fired[j] += v > 0
            low[j] = v if v < low[j] else low[j]
            high[j] = v if v > high[j] else high[j]
            v -= shift[j]
            total[j] += v
            square[j] += v * v


@njit(cache=True, nogil=True)
def transpose(indptr: Array, indices: Array, data: Array, rows: Array, partner: Array, features: int) -> Triple:
    """Feature-major copy of ``rows``: for every feature its values and the *other* side's row of the same token."""
    start = np.zeros(features + 1, np.int64)
    for t in rows:
        for p in range(indptr[t], indptr[t + ONE]):
            start[indices[p] + 1] += 1
    for j in range(features):
        start[j + 1] += start[j]
    fill = start[:-1].copy()
    token, value = np.empty(start[features], np.uint32), np.empty(start[features], np.float32)
    for i in range(rows.size):
        t = rows[i]
        for p in range(indptr[t], indptr[t + ONE]):
            at = fill[indices[p]]
            token[at], value[at] = partner[i], data[p]
            fill[indices[p]] = at + 1
    return start, token, value


@njit(cache=True, nogil=True)
def _gather(i: int, outer: Triple, other: Triple, sums: Array) -> None:
    """Cross sums of feature i with every feature of the other side, into ``sums``."""
    start, token, value = outer
    indptr, indices, data = other
    sums[:] = 0.0
    for q in range(start[i], start[i + 1]):
        _prefetch_rows(q, token, indptr, indices, data)
        t, v = token[q], np.float64(value[q])
        for p in range(np.uint64(indptr[t]), np.uint64(indptr[t + ONE])):
            sums[indices[p]] += v * np.float64(data[p])


@njit(cache=True, nogil=True, inline="always")
def push(heap: Array, key: Any) -> None:
    """Replace the smallest key of a min-heap."""
    k, at = heap.size, 0
    while True:
        child = 2 * at + 1
        if child >= k:
            break
        if child + 1 < k and heap[child + 1] < heap[child]:
            child += 1
        if heap[child] >= key:
            break
        heap[at] = heap[child]
        at = child
    heap[at] = key


@njit(cache=True, nogil=True, inline="always")
def _offer(i: int, cross: Array, by: Scaling, rows: Keys, columns: Keys, floors: Array, r: Array, peaks: Array) -> None:
    """Offer the correlations of feature i, from its cross sums, to its own heap and to that of every feature of b."""
    total_a, scale_a = by.total_a[i], by.scale_a[i]
    total_b, scale_b, share = by.total_b, by.scale_b, by.share
    bits, width, k, group = r.view(np.int32), total_b.size, rows.shape[1], total_b.size // peaks.size
    for j in range(width):
        x = (cross[j] - total_a * total_b[j] * share) * (scale_a * scale_b[j]) + 0.0  # + 0.0: no negative zero
        r[j] = x if scale_b[j] > 0.0 else NOT_LIVE
    for j in range(width):
        bits[j] ^= (bits[j] >> 31) & LOW  # integers in the order of the floats
    for g in range(peaks.size):
        peak = bits[g * group]
        for j in range(g * group, (g + 1) * group):
            peak = max(peak, bits[j])
        peaks[g] = peak
    floor = np.int32(LEAST)
    if peaks.size >= k:  # k groups reach this, so the k best do
        peaks.sort()
        floor = max(floor, peaks[peaks.size - k])
    for begin in range(0, r.size, LINE):
        hits = 0
        for j in range(begin, begin + LINE):
            hits += (bits[j] >= floor) | (bits[j] >= floors[j])
        if hits == 0:
            continue
        for j in range(begin, begin + LINE):
            b = np.int64(bits[j])
            key = (b << 32) | (LOW - j)
            if b >= floor and key > rows[i, 0]:
                push(rows[i], key)
            key = (b << 32) | (LOW - i)
            if b >= floors[j] and key > columns[j, 0]:
                push(columns[j], key)
                floors[j] = max(columns[j, 0] >> 32, LEAST)


@njit(cache=True, nogil=True)
def _scratch(width: int, k: int, floors: Array) -> tuple[Array, Array]:
    """Buffers of `_offer`: correlations of a feature, padded to LINEs, and the maximum of each group of them."""
    return np.full(floors.size, np.float32(NOT_LIVE)), np.empty(width // max(width // (2 * k), 1), np.int32)


@njit(cache=True, nogil=True)
def rank(
    first: int, last: int, outer: Triple, other: Triple, scaling: Scaling, rows: Keys, columns: Keys, floors: Array
) -> None:
    """Correlations of features ``first`` to ``last`` of a with all of b, kept as the best keys of both.

    ``outer`` is a's transpose, ``other`` the CSR arrays of b. ``rows`` and ``columns``, the heaps of a and of b, and
    ``floors`` of b (`keys.floors`) are filled in place.
    """
    cross = np.empty(scaling.total_b.size)
    r, peaks = _scratch(cross.size, rows.shape[1], floors)
    for i in range(first, last):
        if scaling.scale_a[i] > 0.0:
            _gather(i, outer, other, cross)
            _offer(i, cross, scaling, rows, columns, floors, r, peaks)


@njit(cache=True, nogil=True)
def rank_tile(first: int, cross: Array, scaling: Scaling, rows: Keys, columns: Keys, floors: Array) -> None:
    """As ``rank``, from the cross sums (features of a from ``first`` on, features_b)."""
    r, peaks = _scratch(cross.shape[1], rows.shape[1], floors)
    for n in range(cross.shape[0]):
        if scaling.scale_a[first + n] > 0.0:
            _offer(first + n, cross[n], scaling, rows, columns, floors, r, peaks)


@njit(cache=True, nogil=True)
def finish(cross: Array, left: Array, right: Array, scaling: Scaling, out: Array) -> None:
    """Correlations from cross sums of features ``left`` and ``right``, NaN where either is not live."""
    total_b, scale_b = scaling.total_b[right], scaling.scale_b[right]
    scales = np.where(scale_b > 0.0, scale_b, np.nan)
    for n in range(cross.shape[0]):
        total_a, scale_a = scaling.total_a[left[n]], scaling.scale_a[left[n]]
        scale_a = scale_a if scale_a > 0.0 else np.nan
        for m in range(cross.shape[1]):
            out[n, m] = (cross[n, m] - total_a * total_b[m] * scaling.share) * (scale_a * scales[m]) + 0.0


@njit(cache=True, nogil=True)
def block(rows: Array, columns: Array, outer: Triple, other: Triple, scaling: Scaling, out: Array) -> None:
    """Correlations of ``rows`` with ``columns`` into ``out``; NaN where either is not live."""
    cross, chosen = np.empty(scaling.total_b.size), np.empty((1, columns.size))
    for n in range(rows.size):
        _gather(rows[n], outer, other, cross)
        for m in range(columns.size):
            chosen[0, m] = cross[columns[m]]
        finish(chosen, rows[n : n + 1], columns, scaling, out[n : n + 1])


@njit(cache=True, nogil=True)
def pairs(left: Array, right: Array, of_a: Triple, of_b: Triple) -> Array:
    """Cross sums of the pairs (left[n], right[n]), from transposes that hold positions in ascending order."""
    start_a, token_a, value_a = of_a
    start_b, token_b, value_b = of_b
    cross = np.zeros(left.size)
    for n in range(left.size):
        p, p_end = start_a[left[n]], start_a[left[n] + 1]
        q, q_end = start_b[right[n]], start_b[right[n] + 1]
        while p < p_end and q < q_end:
            if token_a[p] < token_b[q]:
                p += 1
            elif token_a[p] > token_b[q]:
                q += 1
            else:
                cross[n] += np.float64(value_a[p]) * value_b[q]
                p, q = p + 1, q + 1
    return cross


@njit(cache=True, nogil=True)
def strongest(indptr: Array, indices: Array, data: Array, first: int, heaps: Keys, firings: Array) -> None:
    """Add a block of tokens, the first at row ``first``, to the heaps of all features and to their firings."""
    one = np.empty(1, np.float32)
    bits = one.view(np.int32)
    for t in range(indptr.size - 1):
        for p in range(indptr[t], indptr[t + 1]):
            if data[p] > 0:
                j, one[0] = indices[p], data[p]
                firings[j] += 1
                key = (np.int64(bits[0]) << 32) | (LOW - (first + t))
                if key > heaps[j, 0]:
                    push(heaps[j], key)
