"""One side of a correlation: which tokens are chosen, and what every feature does on them.

In: sparse codes (tokens, features) as CSR, or dense activations (tokens, neurons), possibly memory-mapped.
Out: moments of every feature, and the sums that a correlation needs. It reads a store in blocks of tokens, copies it
only to sum cells that stand twice or to sort them, and refuses what cannot be compared: what `arrays` refuses, sides of
different length, values not finite.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from sae_utils import arrays
from sae_utils.engine.kernels import accumulate

Codes: TypeAlias = sparse.csr_array | np.ndarray  # what a store holds
TINY = 1e-140  # below, squares leave float64
BLOCK = 4096  # tokens of a dense side read at once; fixed, so that sums have the same bits everywhere


class Moments(NamedTuple):
    """What one side's features do on the chosen tokens; every field (features,)."""

    mean: NDArray[np.float64]  # mean activation over all chosen tokens
    sd: NDArray[np.float64]  # standard deviation of the population (divided by the number of tokens)
    count: NDArray[np.int64]  # type: ignore[assignment]  # tokens on which it fires (activation > 0); hides tuple.count
    live: NDArray[np.bool_]  # varies at all: neither dead nor constant; only live features have correlations


class Side(NamedTuple):
    """A side made ready; arrays are (features,) unless said."""

    codes: Codes
    at: NDArray[np.int64]  # (chosen tokens,) their rows in the store
    moments: Moments
    shift: NDArray[np.float64]  # taken off every activation before it is summed: 0 for sparse codes, else near the mean
    total: NDArray[np.float64]  # sum of the shifted activations
    scale: NDArray[np.float64]  # 1 / root of the centred sum of squares, 0 for features that are not live

    @property
    def features(self) -> int:
        """Width of the side."""
        return len(self.scale)


def scaling(one: Side, two: Side) -> accumulate.Scaling:
    """What makes correlations of the two sides' cross sums."""
    return accumulate.Scaling(one.total, one.scale, two.total, two.scale, 1 / len(one.at))


def prepare(codes: Codes, at: ArrayLike, name: str) -> Side:
    """Sum up one side on the rows ``at``, positions or a mask; ``name`` is what errors call it.

    Raises ValueError as ``arrays.codes`` and ``arrays.positions``, and names the first row and column of NaN or
    infinity.
    """
    codes = arrays.codes(codes, f"side {name}")
    at = arrays.positions(at, codes.shape[0], "rows", "token", masks=True)
    shift, total, square, count, low, high = _sums(codes, at)
    if not np.isfinite(square).all():
        _refuse_infinite(codes, at, name)
    _refuse_tiny(low, high, name)
    n = max(len(at), 1)
    centred = np.maximum(square - total * total / n, 0.0)
    live = (high > low) & (centred > 0)
    scale = np.zeros_like(centred)
    np.divide(1.0, np.sqrt(centred), out=scale, where=live)
    moments = Moments(shift + total / n, np.where(live, np.sqrt(centred / n), 0.0), count, live)
    return Side(codes, at, moments, shift, total, scale)


def _sums(codes: Codes, at: NDArray[np.int64]) -> tuple[np.ndarray, ...]:
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is named afterwards
        return _sparse_sums(codes, at) if sparse.issparse(codes) else _dense_sums(codes, at)


def _refuse_infinite(codes: Codes, at: NDArray[np.int64], name: str) -> None:
    """Raise the ValueError that names the first chosen cell which is not finite."""
    for first in range(0, len(at), BLOCK):
        rows = at[first : first + BLOCK]
        if (found := arrays.infinite(codes[rows])) is not None:
            row, column = rows[found[0]], found[1]
            raise ValueError(
                f"side {name} holds NaN or infinite activations, first in row {row}, column {column}: harvest it again"
            )
    raise ValueError(f"side {name} holds activations whose squares exceed float64: scale them down")


def _refuse_tiny(low: NDArray[np.float64], high: NDArray[np.float64], name: str) -> None:
    """Raise the ValueError that names a feature that varies, but would seem constant: its squares are 0."""
    tiny = (high > low) & (np.maximum(-low, high) < TINY)
    if tiny.any():
        raise ValueError(f"side {name}, column {np.argmax(tiny)}: no activation reaches {TINY}: scale them up")


def _sparse_sums(codes: sparse.csr_array, at: NDArray[np.int64]) -> tuple[np.ndarray, ...]:
    width = codes.shape[1]
    sums = accumulate.moments(*raw(codes), at, width)
    return np.zeros(width), *sums


def _dense_sums(codes: np.ndarray, at: NDArray[np.int64]) -> tuple[np.ndarray, ...]:
    """As the sparse sums, but of activations less the mean of the first block: a large mean costs no digits."""
    width = codes.shape[1]
    shift, total, square, count = np.zeros(width), np.zeros(width), np.zeros(width), np.zeros(width, np.int64)
    sums = total, square, count, np.full(width, np.inf), np.full(width, -np.inf)
    for number, block in enumerate(blocks(codes, at)):
        shift = shift if number else block.mean(axis=0)
        accumulate.add_moments(block, shift, sums)
    return shift, *sums


def blocks(codes: np.ndarray, at: NDArray[np.int64]) -> Iterator[NDArray[np.float64]]:
    """The rows ``at`` of a dense side as float64, ``BLOCK`` tokens at a time."""
    for first in range(0, len(at), BLOCK):
        yield np.asarray(codes[at[first : first + BLOCK]], dtype=np.float64)


def raw(codes: sparse.csr_array) -> accumulate.Triple:
    """Row starts, feature indices and values of codes that passed the gate, as plain views that kernels can take."""
    # unsigned, as a kernel then need not ask of every index whether it counts from the end
    indptr, indices = (np.asarray(x).view(f"u{x.dtype.itemsize}") for x in (codes.indptr, codes.indices))
    return indptr, indices, np.asarray(codes.data)


def tokens(
    a: Codes, b: Codes, rows: ArrayLike | None, rows_b: ArrayLike | None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of a and rows of b that are set against each other; see ``correlation.correlate`` for what is allowed."""
    n, n_b = _length(a, "a"), _length(b, "b")
    if n != n_b:
        raise ValueError(f"side a has {n} tokens, side b {n_b}: they must be of the same tokens")
    at_a = _chosen(rows, n, "rows")
    at_b = at_a if rows_b is None else _chosen(rows_b, n, "rows_b")
    check_tokens(at_a, at_b)
    return at_a, at_b


def _length(side: Codes, name: str) -> int:
    """Tokens of a side; index arrays are left to ``prepare``, so that they are read once."""
    return int((side if sparse.issparse(side) else arrays.codes(side, f"side {name}")).shape[0])


def _chosen(rows: ArrayLike | None, n: int, name: str) -> NDArray[np.int64]:
    return np.arange(n, dtype=np.int64) if rows is None else arrays.positions(rows, n, name, "token", masks=True)


def check_tokens(at_a: NDArray[np.int64], at_b: NDArray[np.int64]) -> None:
    """Refuse tokens of a and of b that are not as many, or too few to correlate on."""
    if len(at_a) != len(at_b):
        raise ValueError(f"rows chooses {len(at_a)} tokens of a, rows_b {len(at_b)} of b: choose as many")
    if len(at_a) < 2:
        raise ValueError(f"a correlation needs at least 2 tokens, {len(at_a)} chosen: widen rows")


def check_same(a: Mapping[str, ArrayLike], b: Mapping[str, ArrayLike]) -> None:
    """Refuse two stores that are not of the same tokens.

    ``a`` and ``b`` name the arrays that say what row t is: tokens, document, mask, ... Raises ValueError which names
    the first array that is missing, of another length, or different, and where.
    """
    for name in sorted(a.keys() | b.keys()):
        if name not in a or name not in b:
            raise ValueError(f"only one store has {name}: harvest both from one corpus")
        one, two = arrays.plain(a[name], name), arrays.plain(b[name], name)
        if one.shape != two.shape:
            raise ValueError(f"the stores' {name} differ in shape, {one.shape} and {two.shape}: harvest both alike")
        if not np.array_equal(one, two):
            first = int(np.flatnonzero((one != two).reshape(len(one), -1).any(axis=1))[0])
            raise ValueError(f"the stores' {name} differ first at row {first}: harvest both from one corpus")
