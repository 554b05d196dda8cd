"""One side of a correlation: the chosen tokens, and the moments of every feature on them.

In: sparse codes (tokens, features) as CSR, or dense activations (tokens, neurons), possibly memory-mapped.
Out: moments of every feature, and the sums that a correlation needs. A side is read in blocks of tokens. It is copied
only where its cells must be sorted or summed. Raises ValueError as `arrays` does, and for sides of different length
and values that are not finite.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from sae_utils import arrays
from sae_utils.engine.kernels.keys import Array

Codes: TypeAlias = Any  # (tokens, features): what `arrays.codes` takes
Triple: TypeAlias = tuple[Array, Array, Array]  # row starts, indices and values of a CSR matrix, or of its transpose
TINY = 1e-140  # below, squares leave float64
BLOCK = 4096  # tokens of a side read at once; fixed, so that sums have the same bits everywhere


class Moments(NamedTuple):
    """Moments of one side's features on the chosen tokens; every field is (features,)."""

    mean: NDArray[np.float64]  # mean activation over all chosen tokens
    sd: NDArray[np.float64]  # standard deviation of the population (divided by the number of tokens)
    count: NDArray[np.int64]  # type: ignore[assignment]  # tokens on which it fires (activation > 0); hides tuple.count
    live: NDArray[np.bool_]  # varies at all: neither dead nor constant; only live features have correlations


class Side(NamedTuple):
    """A side ready to be correlated; arrays are (features,) unless noted."""

    codes: sparse.csr_array | np.ndarray
    at: NDArray[np.int64]  # (chosen tokens,) their rows in the store
    moments: Moments
    shift: NDArray[np.float64]  # subtracted from every activation before sums: 0 for sparse codes, else near the mean
    total: NDArray[np.float64]  # sum of the shifted activations
    scale: NDArray[np.float64]  # 1 / root of the centred sum of squares, 0 for features that are not live

    @property
    def features(self) -> int:
        """Width of the side."""
        return len(self.scale)

    @property
    def sparse(self) -> bool:
        """Whether its codes are sparse."""
        return bool(sparse.issparse(self.codes))


class Scaling(NamedTuple):
    """Converts cross sums to correlations: (cross - total_a * total_b * share) * scale_a * scale_b."""

    total_a: Array  # (features_a,) sums of the activations
    scale_a: Array  # (features_a,) 1 / root of the centred sum of squares, 0 for features that are not live
    total_b: Array  # (features_b,)
    scale_b: Array  # (features_b,)
    share: float  # 1 / tokens


def scaling(one: Side, two: Side) -> Scaling:
    """The `Scaling` of the two sides' cross sums."""
    return Scaling(one.total, one.scale, two.total, two.scale, 1 / len(one.at))


def prepare(codes: Codes, at: ArrayLike, name: str) -> Side:
    """Prepare codes as a side on the rows ``at`` (positions or a mask); errors call it ``name``.

    Raises ValueError as ``arrays.codes`` and ``arrays.positions``, and names the first row and column of NaN or
    infinity.
    """
    codes = arrays.codes(codes, f"side {name}")
    at = arrays.positions(at, codes.shape[0], "rows", "token", masks=True)
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is named below
        shift, total, square, count, low, high = _sums(codes, at)
    if not np.isfinite(square).all():
        _refuse_infinite(codes, at, name)
    tiny = (high > low) & (np.maximum(-low, high) < TINY)  # varies, but would seem constant: its squares are 0
    if tiny.any():
        raise ValueError(f"side {name}, column {np.argmax(tiny)}: no activation reaches {TINY}: scale them up")
    n = max(len(at), 1)
    centred = np.maximum(square - total * total / n, 0.0)
    live = (high > low) & (centred > 0)
    scale = np.zeros_like(centred)
    np.divide(1.0, np.sqrt(centred), out=scale, where=live)
    moments = Moments(shift + total / n, np.where(live, np.sqrt(centred / n), 0.0), count, live)
    return Side(codes, at, moments, shift, total, scale)


def _sums(codes: Any, at: NDArray[np.int64]) -> tuple[np.ndarray, ...]:
    """Shift, and ``accumulate.moments`` of the shifted activations.

    Dense activations are shifted by the mean of the first block, so that a large mean costs no digits.
    """
    from sae_utils.engine.kernels import accumulate  # numba, which takes longer to load than all else

    width = codes.shape[1]
    shift, total, square, count = np.zeros(width), np.zeros(width), np.zeros(width), np.zeros(width, np.int64)
    if sparse.issparse(codes):
        return shift, *accumulate.moments(*raw(codes), at, width)
    sums = total, square, count, np.full(width, np.inf), np.full(width, -np.inf)
    for number, rows in enumerate(blocks(at)):
        block = np.asarray(codes[rows], np.float64)
        shift = shift if number else block.mean(axis=0)
        accumulate.add_moments(block, shift, sums)
    return shift, *sums


def _refuse_infinite(codes: Any, at: NDArray[np.int64], name: str) -> None:
    """Raise the ValueError that names the first chosen cell which is not finite."""
    for rows in blocks(at):
        if (found := arrays.infinite(codes[rows])) is not None:
            raise ValueError(
                f"side {name} holds NaN or infinite activations, first in row {rows[found[0]]}, column {found[1]}: "
                "harvest it again"
            )
    raise ValueError(f"side {name} holds activations whose squares exceed float64: scale them down")


def blocks(at: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Rows of a store, ``BLOCK`` tokens at a time."""
    for first in range(0, len(at), BLOCK):
        yield at[first : first + BLOCK]


def raw(codes: sparse.csr_array) -> Triple:
    """Row starts, feature indices and values of checked codes, as plain views for kernels."""
    # unsigned, so that a kernel need not ask of every index whether it counts from the end
    indptr, indices = (np.asarray(x).view(f"u{x.dtype.itemsize}") for x in (codes.indptr, codes.indices))
    return indptr, indices, np.asarray(codes.data)


def pair(a: Codes | Side, b: Codes | Side, rows: ArrayLike | None, rows_b: ArrayLike | None) -> tuple[Side, Side]:
    """Prepare both sides on their paired tokens; see ``correlate.features``.

    Raises ValueError for sides of different length, and fewer than 2 tokens.
    """
    prepared = isinstance(a, Side), isinstance(b, Side)
    if any(prepared) and not (all(prepared) and rows is None and rows_b is None):
        raise ValueError("a prepared side goes with another prepared side, and no rows: its tokens are chosen already")
    if isinstance(a, Side) and isinstance(b, Side):
        _check_tokens(a.at, b.at)
        return a, b
    a, b = arrays.codes(a, "side a"), arrays.codes(b, "side b")
    n = a.shape[0]
    if n != b.shape[0]:
        raise ValueError(f"side a has {n} tokens, side b {b.shape[0]}: they must be of the same tokens")
    at_a = _chosen(rows, n, "rows")
    at_b = at_a if rows_b is None else _chosen(rows_b, n, "rows_b")
    _check_tokens(at_a, at_b)
    return prepare(a, at_a, "a"), prepare(b, at_b, "b")


def _chosen(rows: ArrayLike | None, n: int, name: str) -> NDArray[np.int64]:
    return np.arange(n, dtype=np.int64) if rows is None else arrays.positions(rows, n, name, "token", masks=True)


def _check_tokens(at_a: NDArray[np.int64], at_b: NDArray[np.int64]) -> None:
    if len(at_a) != len(at_b):
        raise ValueError(f"rows chooses {len(at_a)} tokens of a, rows_b {len(at_b)} of b: choose as many")
    if len(at_a) < 2:
        raise ValueError(f"a correlation needs at least 2 tokens, {len(at_a)} chosen: widen rows")
