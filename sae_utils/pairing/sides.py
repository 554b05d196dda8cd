"""One side of a correlation: which tokens are chosen, and what every feature does on them.

In: sparse codes (tokens, features) as CSR, or dense activations (tokens, neurons), possibly memory-mapped.
Out: moments of every feature, and the sums that a correlation needs. It reads a store in blocks of tokens, never
copies it, and refuses what cannot be compared: sides of different length, positions outside, values not finite.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from sae_utils.pairing import accumulate

Codes: TypeAlias = sparse.csr_array | np.ndarray  # what a store holds
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


def prepare(codes: Codes, at: NDArray[np.int64], name: str) -> Side:
    """Sum up one side on the rows ``at``, positions; ``name`` is what errors call it.

    Raises ValueError on NaN or infinity.
    """
    summed = _sparse_sums(codes, at) if sparse.issparse(codes) else _dense_sums(codes, at)
    shift, total, square, count, low, high = summed
    if not np.isfinite(square).all():
        bad = np.flatnonzero(~np.isfinite(square))
        raise ValueError(f"side {name} holds NaN or infinite activations, first in feature {bad[0]}: harvest it again")
    n = max(len(at), 1)
    centred = np.maximum(square - total * total / n, 0.0)
    live = (high > low) & (centred > 0)
    scale = np.zeros_like(centred)
    np.divide(1.0, np.sqrt(centred), out=scale, where=live)
    moments = Moments(shift + total / n, np.where(live, np.sqrt(centred / n), 0.0), count, live)
    return Side(codes, at, moments, shift, total, scale)


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
    """Row starts, feature indices and float32 values of CSR codes, as plain views that kernels can take.

    Raises ValueError for another format, whose arrays mean other things and would be read past their end.
    """
    if codes.format != "csr":
        raise ValueError(f"sparse codes are in the format {codes.format}: give `codes.tocsr()`")
    values = np.asarray(codes.data)
    if values.dtype != np.float32:
        raise ValueError(f"sparse codes hold {values.dtype} values: store them as float32")
    # unsigned, as a kernel then need not ask of every index whether it counts from the end
    indptr, indices = (np.asarray(x).view(f"u{x.dtype.itemsize}") for x in (codes.indptr, codes.indices))
    return indptr, indices, values


def tokens(
    a: Codes, b: Codes, rows: ArrayLike | None, rows_b: ArrayLike | None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of a and rows of b that are set against each other; see ``correlation.correlate`` for what is allowed."""
    for name, side in (("a", a), ("b", b)):
        if not (isinstance(side, np.ndarray) or sparse.issparse(side)):
            kind = f"{type(side).__module__}.{type(side).__name__}"
            raise ValueError(f"side {name} is a {kind}: give a numpy array or a scipy CSR array (tokens, features)")
    if a.shape[0] != b.shape[0]:
        raise ValueError(f"side a has {a.shape[0]} tokens, side b {b.shape[0]}: they must be of the same tokens")
    at_a = _positions(rows, a.shape[0], "rows")
    at_b = at_a if rows_b is None else _positions(rows_b, b.shape[0], "rows_b")
    check_tokens(at_a, at_b)
    return at_a, at_b


def check_tokens(at_a: NDArray[np.int64], at_b: NDArray[np.int64]) -> None:
    """Refuse tokens of a and of b that are not as many, or too few to correlate on."""
    if len(at_a) != len(at_b):
        raise ValueError(f"rows chooses {len(at_a)} tokens of a, rows_b {len(at_b)} of b: choose as many")
    if len(at_a) < 2:
        raise ValueError(f"a correlation needs at least 2 tokens, {len(at_a)} chosen: widen rows")


def _positions(rows: ArrayLike | None, n: int, name: str) -> NDArray[np.int64]:
    if rows is None:
        return np.arange(n, dtype=np.int64)
    chosen = np.asarray(rows)
    if chosen.dtype == bool:
        if chosen.shape != (n,):
            raise ValueError(f"{name} is a mask of shape {chosen.shape} for {n} tokens: it must be ({n},)")
        return np.flatnonzero(chosen).astype(np.int64)
    if chosen.ndim != 1 or (chosen.size and not np.issubdtype(chosen.dtype, np.integer)):
        raise ValueError(f"{name} must be a mask or a list of positions, found {chosen.dtype} of shape {chosen.shape}")
    if chosen.size and (chosen.min() < 0 or chosen.max() >= n):
        raise ValueError(f"{name} asks for token {chosen.max()} (lowest {chosen.min()}), the stores hold {n} tokens")
    return chosen.astype(np.int64)


def check_same(a: Mapping[str, ArrayLike], b: Mapping[str, ArrayLike]) -> None:
    """Refuse two stores that are not of the same tokens.

    ``a`` and ``b`` name the arrays that say what row t is: tokens, document, mask, ... Raises ValueError which names
    the first array that is missing, of another length, or different, and where.
    """
    for name in sorted(a.keys() | b.keys()):
        if name not in a or name not in b:
            raise ValueError(f"only one store has {name}: harvest both from one corpus")
        one, two = np.asarray(a[name]), np.asarray(b[name])
        if one.shape != two.shape:
            raise ValueError(f"the stores' {name} differ in shape, {one.shape} and {two.shape}: harvest both alike")
        if not np.array_equal(one, two):
            first = int(np.flatnonzero((one != two).reshape(len(one), -1).any(axis=1))[0])
            raise ValueError(f"the stores' {name} differ first at row {first}: harvest both from one corpus")
