"""One-to-one assignments that are exact although few of the correlations are known at first.

In: candidate edges (a row, a column, their weight) and ``block``, which gives any block of weights exactly.
Out: the greedy assignment, equal to sorting the full matrix; or the optimal one with the duals that prove it.
Either asks ``block`` only for what the candidates leave open. It knows nothing of features, and breaks ties by order:
the larger weight, the lower row, the lower column.

Sources: D. P. Bertsekas, Network Optimization (1998), 7 (duals); R. Jonker and A. Volgenant, Computing 38 (1987)
(reduction and shortest augmenting paths).
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numba import njit
from tqdm import tqdm

from sae_utils import arrays
from sae_utils.engine.kernels.keys import Array

Block = Callable[[Array, Array], Array]
BATCH = 1024  # rows priced at once by the greedy assignment
MOST = 16  # edges of a row added at once
ROUNDING = 1e-9  # what float64 sums of float32 weights may be off, a row
BYTES = 2**24  # of a tile of weights priced at once: small enough that its memory is used again
ALONE = -4.0  # weight of leaving a row alone; below every swap of weights in [-1, 1], so never in a proven optimum


class Edges(NamedTuple):
    """Candidate edges, those of a row together and best first."""

    row: Array  # (edges,) int
    column: Array  # (edges,) int
    weight: Array  # (edges,) float


class Proof(NamedTuple):
    """The dual certificate of an assignment: no assignment of the full matrix exceeds ``dual``."""

    primal: float  # sum of the assignment's weights
    dual: float  # sum of the duals, every one of the full matrix's weights at most row dual + column dual
    gap: float  # dual - primal
    rounds: int  # times the full matrix was priced
    certified: bool  # the gap is nothing but rounding


def _check(edges: Edges, rows: int, columns: int) -> None:
    """Refuse edges outside the matrix, or whose weights are not finite: compiled code would follow them."""
    arrays.positions(edges.row, rows, "edges.row", "row")
    arrays.positions(edges.column, columns, "edges.column", "column")
    weight = arrays.numbers(edges.weight, "edges.weight", 1)
    if not len(edges.row) == len(edges.column) == len(weight) or not np.isfinite(weight).all():
        raise ValueError("edges must be as many rows as columns and weights, and weights finite")


def greedy(
    edges: Edges, block: Block, free_rows: Array, free_columns: Array, minimum: float, k: int
) -> tuple[Array, Array, Array]:
    """Take the best remaining pair until none of at least ``minimum`` is left; (rows, columns, weights) in that order.

    ``edges`` are the k best of every free row, or all there are; ``free_rows`` and ``free_columns`` are masks. A row
    whose candidates run out is priced again against the columns still free.
    """
    _check(edges, len(free_rows), len(free_columns))
    free_rows, free_columns = free_rows.copy(), free_columns.copy()
    taken = [Edges(*(field[:0] for field in edges))]
    edges, last = _truncated(edges, int(free_columns.sum()), minimum, k)
    while len(edges.row):
        order = np.argsort(-edges.weight, kind="stable")
        edges, last = Edges(*(field[order] for field in edges)), last[order]
        stop, at = walk(edges.row, edges.column, last, free_rows, free_columns)
        taken.append(Edges(*(field[at] for field in edges)))
        if stop == len(edges.row):
            break
        keep = free_rows[edges.row] & (free_columns[edges.column] | last)
        left = np.bincount(edges.row[keep], minlength=len(free_rows))
        open_rows = np.unique(edges.row[keep & last])
        short = open_rows[np.argsort(left[open_rows], kind="stable")][:BATCH]
        short = np.union1d(short[left[short] <= max(k // 8, 2)], edges.row[stop])
        keep &= ~np.isin(edges.row, short)
        more, more_last = _priced(short, np.flatnonzero(free_columns), block, minimum, k)
        edges = Edges(*(np.concatenate([old[keep], new]) for old, new in zip(edges, more, strict=True)))
        last = np.concatenate([last[keep], more_last])
        order = np.argsort(edges.row, kind="stable")
        edges, last = Edges(*(field[order] for field in edges)), last[order]
    row, column, weight = (np.concatenate(parts) for parts in zip(*taken, strict=True))
    return row, column, weight


def _truncated(edges: Edges, columns: int, minimum: float, k: int) -> tuple[Edges, Array]:
    """Edges of at least ``minimum``, and which are the last of a row whose list may be cut off after it."""
    ends = np.append(edges.row[1:] != edges.row[:-1], True) if len(edges.row) else np.zeros(0, bool)
    full = np.bincount(edges.row, minlength=1)[edges.row] == k if len(edges.row) else ends
    last = ends & full & (k < columns) & (edges.weight >= minimum)
    keep = edges.weight >= minimum
    return Edges(*(field[keep] for field in edges)), last[keep]


def _priced(rows: Array, columns: Array, block: Block, minimum: float, k: int) -> tuple[Edges, Array]:
    """The k best edges of ``rows`` among ``columns``, as ``_truncated``."""
    k = min(k, len(columns))
    weight = block(rows, columns)
    best = np.sort(np.argpartition(_keys(weight), len(columns) - k, axis=1)[:, -k:], axis=1)
    chosen = np.take_along_axis(weight, best, axis=1)
    order = np.argsort(-chosen, axis=1, kind="stable")
    best, chosen = np.take_along_axis(best, order, axis=1), np.take_along_axis(chosen, order, axis=1)
    edges = Edges(np.repeat(rows, k), columns[best].ravel(), chosen.ravel())
    return _truncated(edges, len(columns), minimum, k)


def _keys(weight: Array) -> Array:
    """Integers in the order of float32 weights, equal ones in the reverse order of their column."""
    bits = (weight.astype(np.float32) + np.float32(0)).view(np.int32)
    ordered = (bits ^ ((bits >> 31) & np.int32(0x7FFFFFFF))).astype(np.int64)
    return (ordered << 32) - np.arange(weight.shape[1])


@njit(cache=True)
def walk(row: Array, column: Array, last: Array, free_rows: Array, free_columns: Array) -> tuple[int, Array]:
    """Take edges in order while both ends are free; stop where a row's list ends before the row is taken."""
    taken, n = np.empty(free_rows.size, np.int64), 0
    for e in range(row.size):
        i, j = row[e], column[e]
        if not free_rows[i]:
            continue
        if free_columns[j]:
            free_rows[i], free_columns[j] = False, False
            taken[n] = e
            n += 1
        elif last[e]:
            return e, taken[:n]
    return row.size, taken[:n]


def optimal(edges: Edges, block: Block, rows: int, columns: int) -> tuple[Array, Array, Proof]:
    """The column of every row (rows <= columns) with the largest sum of weights in [-1, 1], these, and the proof.

    Solved on the edges; then the full matrix is priced in tiles against the duals, edges that break them are added,
    and it is solved again, until none does. Raises ValueError for more rows than columns.
    """
    if rows > columns:
        raise ValueError(f"{rows} rows, {columns} columns: exchange the sides")
    _check(edges, rows, columns)
    rounds = 0
    while True:
        edges = _unique(edges, columns)
        start = np.searchsorted(edges.row, np.arange(rows + 1))
        partner, u, v = _solve(start, edges.column, edges.weight.astype(np.float64), columns)
        more, excess = _violations(u, v[:columns], block, rounds)
        rounds += 1
        if not len(more.row):
            break
        edges = Edges(*(np.concatenate([old, new]) for old, new in zip(edges, more, strict=True)))
    code = edges.row.astype(np.int64) * columns + edges.column  # ascending, as _unique leaves it
    weight = edges.weight[np.searchsorted(code, np.arange(rows) * columns + partner)]
    primal, dual = float(weight.sum(dtype=np.float64)), float(u.sum() + v.sum() + excess)
    return partner, weight, Proof(primal, dual, dual - primal, rounds, dual - primal <= ROUNDING * max(rows, 1))


def _unique(edges: Edges, columns: int) -> Edges:
    """Every edge once, in the order of row and column; of two weights the later one."""
    code = edges.row.astype(np.int64) * columns + edges.column
    order = np.argsort(code, kind="stable")
    code = code[order]
    final = order[np.append(code[1:] != code[:-1], True)] if len(code) else order
    return Edges(*(field[final] for field in edges))


def _violations(u: Array, v: Array, block: Block, rounds: int) -> tuple[Edges, float]:
    """Edges of the full matrix whose weight exceeds the duals, and the sum of the largest excess of every row."""
    found, total = [], 0.0
    height = max(BYTES // (4 * max(len(v), 1)), 1)
    columns = np.arange(len(v))
    for first in tqdm(range(0, len(u), height), desc=f"proof {rounds + 1}", leave=False, disable=None, delay=2):
        rows = np.arange(first, min(first + height, len(u)))
        tile = block(rows, columns)
        row, column, excess = _exceeding(tile, u[rows], v, ROUNDING, MOST)
        found.append(Edges(rows[row], column, tile[row, column]))
        total += excess
    return Edges(*(np.concatenate(parts) for parts in zip(*found, strict=True))), total


@njit(cache=True, nogil=True)
def _exceeding(tile: Array, u: Array, v: Array, tolerance: float, most: int) -> tuple[Array, Array, float]:
    """Of every row the ``most`` entries that exceed u + v by most, if by more than ``tolerance``."""
    rows, columns = np.empty(tile.shape[0] * most, np.int64), np.empty(tile.shape[0] * most, np.int64)
    best, n, total = np.empty(most), 0, 0.0
    for i in range(tile.shape[0]):
        held, top = 0, 0.0
        for j in range(tile.shape[1]):
            over = np.float64(tile[i, j]) - u[i] - v[j]
            top = max(top, over)
            if over > tolerance and (held < most or over > best[held - 1]):
                at = min(held, most - 1)
                while at > 0 and best[at - 1] < over:
                    best[at], columns[n + at] = best[at - 1], columns[n + at - 1]
                    at -= 1
                best[at], columns[n + at] = over, j
                held = min(held + 1, most)
        rows[n : n + held] = i
        n += held
        total += top
    return rows[:n], columns[:n], total


@njit(cache=True, nogil=True)
def _solve(start: Array, column: Array, weight: Array, columns: int) -> tuple[Array, Array, Array]:
    """Optimal assignment of every row on a sparse graph, with duals; column ``columns + i`` is row i left alone.

    Invariants: weight <= u + v on every edge, equal on the assignment; v >= 0, and 0 on columns never taken.
    """
    rows = start.size - 1
    partner, owner = np.full(rows, -1, np.int64), np.full(columns + rows, -1, np.int64)
    u, v = np.zeros(rows), np.zeros(columns + rows)
    free = np.arange(rows)
    for _ in range(3):  # bidding: a row takes its best column and raises its price to what the second best leaves
        again, n, at, budget = free.copy(), 0, 0, 4 * free.size
        free = np.empty(rows, np.int64)
        queue = again
        while at < queue.size:
            i = queue[at]
            at += 1
            first, second, best = ALONE - v[columns + i], -np.inf, columns + i
            for e in range(start[i], start[i + 1]):
                profit = weight[e] - v[column[e]]
                if profit > first:
                    first, second, best = profit, first, column[e]
                elif profit > second:
                    second = profit
            u[i] = second if second > -np.inf else first
            v[best] += first - u[i]
            loser = owner[best]
            owner[best], partner[i] = i, best
            if loser >= 0:
                partner[loser] = -1
                budget -= 1
                if first > u[i] and budget > 0:  # the price rose: the loser bids at once
                    at -= 1
                    queue[at] = loser
                else:
                    free[n] = loser
                    n += 1
        free = free[:n]
    distance, via, done = (
        np.full(columns + rows, np.inf),
        np.empty(columns + rows, np.int64),
        np.zeros(columns + rows, np.bool_),
    )
    touched = np.empty(columns + rows, np.int64)
    for source in free:  # shortest augmenting paths for the rest
        n = 0
        u[source] = ALONE - v[columns + source]
        for e in range(start[source], start[source + 1]):
            u[source] = max(u[source], weight[e] - v[column[e]])
        heap = [(0.0, np.int64(-1))]
        heap.pop()
        i, far = source, 0.0
        while True:
            for e in range(start[i], start[i + 1] + 1):
                alone = e == start[i + 1]
                j = columns + i if alone else column[e]
                if done[j]:
                    continue
                d = far + max(u[i] + v[j] - (ALONE if alone else weight[e]), 0.0)
                if d < distance[j]:
                    if distance[j] == np.inf:
                        touched[n] = j
                        n += 1
                    distance[j], via[j] = d, i
                    heapq.heappush(heap, (d, np.int64(j)))
            far, sink = heapq.heappop(heap)
            while done[sink]:
                far, sink = heapq.heappop(heap)
            if owner[sink] < 0:
                break
            done[sink] = True
            i = owner[sink]
        u[source] -= far
        for t in range(n):
            j = touched[t]
            if done[j]:
                v[j] += far - distance[j]
                u[owner[j]] -= far - distance[j]
            distance[j], done[j] = np.inf, False
        j = sink
        while True:
            i = via[j]
            owner[j] = i
            partner[i], j = j, partner[i]
            if i == source:
                break
    return partner, u, v
