"""Exact one-to-one assignments from a few candidate correlations, with more computed on demand.

In: candidate edges (a row, a column, their weight) and ``block``, which gives any block of weights exactly.
Out: the greedy one-to-one assignment, equal to sorting the full matrix; or the optimal one, with the duals that prove
it. Both ask ``block`` only for weights that the candidates lack, and break ties by order: the larger weight, the lower
row, the lower column. Also the optimal transport of a whole matrix.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sae_utils import arrays
from sae_utils.engine.core.progress import bar
from sae_utils.engine.kernels.keys import Array

Block = Callable[[Array, Array], Array]
BATCH = 1024  # rows of which the greedy assignment asks for more edges at once
MOST = 16  # edges of a row added at once
ROUNDING = 1e-9  # what float64 sums of float32 weights may be off, a row
BYTES = 2**24  # of a tile of weights: small enough that its memory is used again


class Edges(NamedTuple):
    """Candidate edges, grouped by row, best first."""

    row: Array  # (edges,) int
    column: Array  # (edges,) int
    weight: Array  # (edges,) float

    def at(self, places: Array) -> Edges:
        """The edges at these places, positions or a mask."""
        return Edges(*(field[places] for field in self))

    def joined(self, other: Edges) -> Edges:
        """These edges, then the other ones."""
        return Edges(*(np.concatenate(fields) for fields in zip(self, other, strict=True)))


class Proof(NamedTuple):
    """The dual certificate of an assignment: no assignment of the full matrix exceeds ``dual``."""

    primal: float  # sum of the assignment's weights
    dual: float  # sum of the duals, every one of the full matrix's weights at most row dual + column dual
    gap: float  # dual - primal
    rounds: int  # comparisons of the full matrix with the duals
    certified: bool  # the gap is nothing but rounding


def _check(edges: Edges, rows: int, columns: int) -> None:
    """Refuse edges outside the matrix or with weights that are not finite; compiled code does not check them."""
    arrays.positions(edges.row, rows, "edges.row", "row")
    arrays.positions(edges.column, columns, "edges.column", "column")
    weight = arrays.numbers(edges.weight, "edges.weight", 1)
    if not len(edges.row) == len(edges.column) == len(weight) or not np.isfinite(weight).all():
        raise ValueError("edges must be as many rows as columns and weights, and weights finite")


def greedy(edges: Edges, block: Block, free_rows: Array, free_columns: Array, minimum: float, k: int) -> Edges:
    """The edges of the greedy assignment: the best remaining edge first, while one of at least ``minimum`` is left.

    ``edges`` are the k best of every free row, or all of them; ``free_rows`` and ``free_columns`` are masks. A row
    whose candidates run out gets new ones, among the columns still free.
    """
    from sae_utils.engine.kernels import auction  # numba, which takes longer to load than all else

    _check(edges, len(free_rows), len(free_columns))
    free_rows, free_columns = free_rows.copy(), free_columns.copy()
    taken = edges.at(np.zeros(0, np.int64))
    edges, last = _truncated(edges, int(free_columns.sum()), minimum, k)
    while len(edges.row):
        order = np.argsort(-edges.weight, kind="stable")
        edges, last = edges.at(order), last[order]
        stop, at = auction.walk(edges.row, edges.column, last, free_rows, free_columns)
        taken = taken.joined(edges.at(at))
        if stop == len(edges.row):
            break
        keep = free_rows[edges.row] & (free_columns[edges.column] | last)
        left = np.bincount(edges.row[keep], minlength=len(free_rows))
        open_rows = np.unique(edges.row[keep & last])
        short = open_rows[np.argsort(left[open_rows], kind="stable")][:BATCH]
        short = np.union1d(short[left[short] <= max(k // 8, 2)], edges.row[stop])
        keep &= ~np.isin(edges.row, short)
        more, more_last = _best(short, np.flatnonzero(free_columns), block, minimum, k)
        edges = edges.at(keep).joined(more)
        last = np.concatenate([last[keep], more_last])
        order = np.argsort(edges.row, kind="stable")
        edges, last = edges.at(order), last[order]
    return taken


def _truncated(edges: Edges, columns: int, minimum: float, k: int) -> tuple[Edges, Array]:
    """Edges of at least ``minimum``, and a mask of those after which the list of a row may be incomplete."""
    ends = np.append(edges.row[1:] != edges.row[:-1], True) if len(edges.row) else np.zeros(0, bool)
    full = np.bincount(edges.row, minlength=1)[edges.row] == k if len(edges.row) else ends
    last = ends & full & (k < columns) & (edges.weight >= minimum)
    keep = edges.weight >= minimum
    return edges.at(keep), last[keep]


def _best(rows: Array, columns: Array, block: Block, minimum: float, k: int) -> tuple[Edges, Array]:
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


def optimal(edges: Edges, block: Block, rows: int, columns: int) -> tuple[Array, Array, Proof]:
    """The column of every row (rows <= columns) with the largest sum of weights in [-1, 1], these, and the proof.

    The problem is solved on the edges. The full matrix is then compared with the duals in tiles; edges that violate
    them are added, and the problem is solved again until there are none. Raises ValueError for more rows than columns.
    """
    if rows > columns:
        raise ValueError(f"{rows} rows, {columns} columns: exchange the sides")
    from sae_utils.engine.kernels import auction

    _check(edges, rows, columns)
    rounds = 0
    while True:
        edges = _unique(edges, columns)
        start = np.searchsorted(edges.row, np.arange(rows + 1))
        partner, u, v = auction.solve(start, edges.column, edges.weight.astype(np.float64), columns)
        more, excess = _violations(u, v[:columns], block, rounds)
        rounds += 1
        if not len(more.row):
            break
        edges = edges.joined(more)
    code = edges.row.astype(np.int64) * columns + edges.column  # ascending, as _unique leaves it
    weight = edges.weight[np.searchsorted(code, np.arange(rows) * columns + partner)]
    primal, dual = float(weight.sum(dtype=np.float64)), float(u.sum() + v.sum() + excess)
    return partner, weight, Proof(primal, dual, dual - primal, rounds, dual - primal <= ROUNDING * max(rows, 1))


def _unique(edges: Edges, columns: int) -> Edges:
    """Every edge once, sorted by row and column; duplicates keep the later weight."""
    code = edges.row.astype(np.int64) * columns + edges.column
    order = np.argsort(code, kind="stable")
    code = code[order]
    final = order[np.append(code[1:] != code[:-1], True)] if len(code) else order
    return edges.at(final)


def _violations(u: Array, v: Array, block: Block, rounds: int) -> tuple[Edges, float]:
    """Edges of the full matrix whose weight exceeds the duals, and the sum of the largest excess of every row."""
    from sae_utils.engine.kernels import auction

    found, total = [], 0.0
    height = max(BYTES // (4 * max(len(v), 1)), 1)
    columns = np.arange(len(v))
    for first in bar(range(0, len(u), height), f"proof {rounds + 1}"):
        rows = np.arange(first, min(first + height, len(u)))
        tile = block(rows, columns)
        row, column, excess = auction.exceeding(tile, u[rows], v, ROUNDING, MOST)
        found.append(Edges(rows[row], column, tile[row, column]))
        total += excess
    return Edges(*(np.concatenate(parts) for parts in zip(*found, strict=True))), total


def transport(cost: ArrayLike) -> tuple[NDArray[np.float64], float]:
    """The cheapest plan (rows, columns) that spreads the mass 1 evenly over rows and over columns, and its error.

    It uses the network simplex of POT. The error is the largest deviation of a marginal. Raises RuntimeError where it
    exceeds rounding, and ValueError as ``arrays.rows``.
    """
    import ot

    cost = arrays.rows(cost, "cost", 1).astype(np.float64, copy=False)
    mass = [np.full(size, 1 / size) for size in cost.shape]
    plan = ot.emd(*mass, cost, numItermax=100_000_000)
    error = max(float(np.abs(plan.sum(axis) - mass[1 - axis]).max()) for axis in (0, 1))
    if error > 1e-9:
        raise RuntimeError(f"the transport plan misses its marginals by {error:.1e}: correlate fewer features")
    return plan, error
