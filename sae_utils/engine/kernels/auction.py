"""Compiled kernels of the assignments: greedy walk, violated duals, auction with augmenting paths.

In: edges as raw arrays, or tiles of weights. Out: which edges are taken, which break the duals, partners and duals.
Kernels do not check their input.

Sources: D. P. Bertsekas, Network Optimization (1998), 7 (auction and duals); R. Jonker and A. Volgenant, Computing 38
(1987) (shortest augmenting paths).
"""

import heapq

import numpy as np
from numba import njit

from sae_utils.engine.kernels.keys import Array

UNASSIGNED = -4.0  # weight of a row without a column; below every swap of weights in [-1, 1]: never in a proven optimum


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


@njit(cache=True, nogil=True)
def exceeding(tile: Array, u: Array, v: Array, tolerance: float, most: int) -> tuple[Array, Array, float]:
    """The ``most`` entries of every row that exceed u + v by most, and by more than ``tolerance``."""
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
def solve(start: Array, column: Array, weight: Array, columns: int) -> tuple[Array, Array, Array]:
    """Optimal assignment of every row on a sparse graph, with duals; column ``columns + i`` leaves row i unassigned.

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
            first, second, best = UNASSIGNED - v[columns + i], -np.inf, columns + i
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
        u[source] = UNASSIGNED - v[columns + source]
        for e in range(start[source], start[source + 1]):
            u[source] = max(u[source], weight[e] - v[column[e]])
        heap = [(0.0, np.int64(-1))]
        heap.pop()
        i, far = source, 0.0
        while True:
            for e in range(start[i], start[i + 1] + 1):
                unassigned = e == start[i + 1]
                j = columns + i if unassigned else column[e]
                if done[j]:
                    continue
                d = far + max(u[i] + v[j] - (UNASSIGNED if unassigned else weight[e]), 0.0)
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
