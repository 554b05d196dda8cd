"""Checks of input arrays: every function converts an array, or refuses it with a message that names it.

In: an array of the caller (numpy, scipy, torch, list, table; for decoder rows also a SAELens or sparsify SAE), and its
name for errors. Out: a numpy array in this machine's byte order, or a canonical CSR matrix. It copies an array only to
change its form, and never changes its input.
Every function raises a ValueError that says where, for masked arrays, complex numbers, text, dates and objects, a wrong
number of dimensions, positions outside, and index arrays that are no sparse matrix; `rows` also for NaN and infinity.
"""

import sys
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

FORMS = {1: "one number each, as (n,)", 2: "rows as a matrix (n, d)"}


def plain(values: ArrayLike, name: str) -> NDArray[Any]:
    """`values` as an array of any kind and shape."""
    values = _off_torch(values, name)
    if isinstance(values, np.ma.MaskedArray):
        raise ValueError(f"{name} is a masked array: leave its masked cells out, or fill them")
    if sparse.issparse(values):
        raise ValueError(f"{name} is sparse: give its `.toarray()`")
    try:
        found = np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{name} cannot be read as an array ({error}): give a numpy array") from error
    return np.asarray(found, found.dtype.newbyteorder("="))


def numbers(values: ArrayLike, name: str, ndim: int) -> NDArray[Any]:
    """`values` as real numbers, integers or booleans of `ndim` dimensions, in their own dtype.

    With `ndim` 2 an SAE, whose `W_dec` is (features, d), gives its decoder rows.
    """
    found = plain(getattr(values, "W_dec", values) if ndim == 2 else values, name)
    if found.dtype.kind not in "biuf":
        raise ValueError(f"{name} holds {found.dtype} values: give real numbers")
    if found.ndim != ndim:
        raise ValueError(f"{name} has shape {found.shape}: give {FORMS[ndim]}")
    return found


def rows(values: ArrayLike, name: str, least: int = 0) -> NDArray[Any]:
    """`values` as finite rows (n, d), n >= `least`, d > 0: float16 and float32 stay, other dtypes become float64.

    The dtype is kept because the numerical rank of the rows depends on their rounding. Raises ValueError that names
    the first row and column with NaN or infinity.
    """
    found = numbers(values, name, 2)
    if found.shape[1] == 0:
        raise ValueError(f"{name} has shape {found.shape}: give {FORMS[2]}")
    if len(found) < least:
        raise ValueError(f"n = {len(found)} rows on {name}: at least {least} are needed")
    if found.dtype not in (np.float16, np.float32):
        with np.errstate(over="ignore"):  # what float64 cannot hold is infinite
            found = found.astype(np.float64, copy=False)
    if (first := infinite(found)) is not None:
        count = len(found) - np.isfinite(found).all(axis=1).sum()
        raise ValueError(
            f"{count} rows of {name} hold NaN or infinity (first: row {first[0]}), there in column {first[1]}: "
            "leave these rows out"
        )
    return np.ascontiguousarray(found)


def count(value: Any, name: str) -> int:
    """A count as an int. Raises ValueError for a fraction, text, true or None."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer):
        raise ValueError(f"{name} = {value!r}: give a whole number")
    return int(value)


def generator(seed: Any) -> np.random.Generator:
    """numpy's generator for a seed or a sequence of seeds. Raises ValueError for values that are no seed."""
    try:
        return np.random.default_rng(seed)
    except (TypeError, ValueError):
        raise ValueError(f"seed = {seed!r}: give a whole number from 0, or several") from None


def exponent(rows: NDArray[Any], axis: int | None = None) -> Any:
    """Exponent of the power of two above the largest entry; squares of `np.ldexp(rows, -exponent)` cannot overflow."""
    return np.frexp(np.abs(rows).max(axis=axis, keepdims=axis is not None))[1]


def unit(values: ArrayLike) -> NDArray[np.float64]:
    """`values` as rows (n, d) of length one, in float64; a row of zeros stays as it is. Raises ValueError as `rows`."""
    wide = rows(values, "rows").astype(np.float64)
    wide = np.ldexp(wide, -exponent(wide, axis=1))
    return np.asarray(wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), np.finfo(np.float64).tiny))


def infinite(block: Any) -> tuple[int, int] | None:
    """Row and column of the first NaN or infinity of a matrix, dense or CSR; None where all is finite."""
    bad = ~np.isfinite(block.data if sparse.issparse(block) else block)
    if not bad.any():
        return None
    at = int(np.argmax(bad))
    if not sparse.issparse(block):
        return divmod(at, block.shape[1])
    return int(np.searchsorted(block.indptr, at, side="right")) - 1, int(block.indices[at])


def positions(values: ArrayLike, n: int, name: str, of: str, *, masks: bool = False) -> NDArray[np.int64]:
    """Positions (any,) among `n` things, which errors call `of`; with `masks` also a mask (n,) of them."""
    found = plain(values, name)
    if masks and found.dtype == bool:
        return np.flatnonzero(mask(found, n, name, of)).astype(np.int64)
    if found.ndim != 1 or (found.size and found.dtype.kind not in "iu"):
        allowed = "a mask or a list of positions" if masks else "a list of positions"
        raise ValueError(f"{name} must be {allowed}, found {found.dtype} of shape {found.shape}")
    outside = (found < 0) | (found >= n)
    if outside.any():
        at = int(np.argmax(outside))
        raise ValueError(f"{name} asks for {of} {found[at]} in place {at}, but there are {n} {of}s: count from 0")
    return found.astype(np.int64)


def mask(values: ArrayLike, n: int, name: str, of: str) -> NDArray[np.bool_]:
    """`values` as a boolean mask (n,); errors call its elements `of`."""
    found = plain(values, name)
    if found.dtype != bool or found.shape != (n,):
        raise ValueError(f"{name} is a mask of shape {found.shape}, {found.dtype}: it must be ({n},) bool, one a {of}")
    return found


def codes(values: Any, name: str) -> sparse.csr_array | NDArray[Any]:
    """Activations (tokens, features), sparse as CSR of float32 or dense in their own dtype; values may be infinite."""
    values = _off_torch(values, name)
    if sparse.issparse(values):
        return _csr(values, name)
    if not isinstance(values, np.ndarray):
        kind = f"{type(values).__module__}.{type(values).__name__}"
        raise ValueError(f"{name} is a {kind}: give a numpy array, a scipy CSR array or a tensor (tokens, features)")
    return numbers(values, name, 2)


def _off_torch(values: Any, name: str) -> Any:
    """A torch tensor as a numpy or scipy array, which shares its memory if possible; other values unchanged."""
    torch = sys.modules.get("torch")  # whoever holds a tensor has imported it
    if torch is None or not isinstance(values, torch.Tensor):
        return values
    values = values.detach().cpu()
    if values.dtype == torch.bfloat16:
        values = values.float()
    if values.layout == torch.strided:
        return values.resolve_conj().resolve_neg().numpy()
    if values.ndim != 2 or values.layout not in (torch.sparse_csr, torch.sparse_coo):
        raise ValueError(f"{name} is a tensor of layout {values.layout}: give its `.to_sparse_csr()`")
    if values.layout == torch.sparse_coo:
        index = values._indices().numpy()
        return sparse.coo_array((values._values().numpy(), (index[0], index[1])), tuple(values.shape))
    parts = (values.values(), values.col_indices(), values.crow_indices())
    return _csr_of(tuple(values.shape), *(part.numpy() for part in parts))


def _csr_of(shape: tuple[int, int], stored: Any, index: Any, starts: Any) -> sparse.csr_array:
    """A CSR matrix that shares these arrays; scipy's constructor would copy 32-bit indices into 64-bit ones."""
    made = sparse.csr_array(shape, dtype=np.float32)
    made.data, made.indices, made.indptr = stored, index, starts
    return made


def _csr(values: Any, name: str) -> sparse.csr_array:
    """A CSR matrix of float32 whose rows are in the order of their columns, each cell once; duplicates are summed.

    scipy's own check would cast and copy the indices of memory-mapped codes, and it accepts row starts that fall back
    to 0. O(stored values).
    """
    if values.format == "csc" and values.ndim == 2:  # its transpose is CSR
        return _csr(values.T, f"the transpose of {name}").T.tocsr()
    if values.format == "coo" and values.ndim == 2:
        values = _csr_of_cells(values, name)
    if values.format != "csr":
        raise ValueError(f"{name}: sparse codes are in the format {values.format}: give `codes.tocsr()`")
    if values.ndim != 2:
        raise ValueError(f"{name} has shape {values.shape}: give {FORMS[2]}")
    starts, index, stored = (
        np.ascontiguousarray(numbers(getattr(values, part), f"{part} of {name}", 1))
        for part in ("indptr", "indices", "data")
    )
    stored = _single(stored, name)
    starts, index = _integers(starts, f"indptr of {name}"), _integers(index, f"indices of {name}")
    _check_starts(starts, index, stored, values.shape, name)
    index, stored = index[: starts[-1]], stored[: starts[-1]]
    _check_columns(starts, index, values.shape[1], name)
    if _ascending(starts, index):
        return _csr_of(values.shape, stored, index, starts)
    found = sparse.csr_array((stored, index, starts), shape=values.shape, copy=True)
    found.sum_duplicates()
    return found


def _csr_of_cells(values: Any, name: str) -> sparse.csr_array:
    """CSR of a COO matrix; positions are checked first, because scipy would write out of bounds."""
    stored = numbers(values.data, f"data of {name}", 1)
    row, column = (
        positions(x, n, f"{of}s of {name}", of)
        for x, n, of in zip(values.coords, values.shape, ("row", "column"), strict=True)
    )
    if not len(row) == len(column) == len(stored):
        raise ValueError(f"{name} is no COO matrix: {len(stored)} values in {len(row)} rows, {len(column)} columns")
    return sparse.coo_array((_single(stored, name), (row, column)), values.shape).tocsr()


def _single(stored: NDArray[Any], name: str) -> NDArray[np.float32]:
    """Values as float32; raises ValueError where rounding would give 0 or infinity."""
    with np.errstate(over="ignore", under="ignore"):
        found = stored.astype(np.float32, copy=False)
    lost = ((found == 0) & (stored != 0)) | (np.isinf(found) & np.isfinite(stored))
    if lost.any():
        raise ValueError(f"{name} holds {stored[np.argmax(lost)]}, which float32 cannot hold: scale the activations")
    return found


def _integers(index: NDArray[Any], name: str) -> NDArray[Any]:
    """Integers of 32 or 64 bits, as kernels take them."""
    if index.dtype.kind not in "iu":
        raise ValueError(f"{name} holds {index.dtype} values: give integers")
    return index if index.dtype.itemsize >= 4 else index.astype(np.int32)


def _check_starts(
    starts: NDArray[Any], index: NDArray[Any], stored: NDArray[Any], shape: tuple[int, int], name: str
) -> None:
    if len(starts) != shape[0] + 1 or starts[0] != 0:
        raise ValueError(f"{name} is no CSR matrix: {len(starts)} row starts for {shape[0]} rows, or the first not 0")
    falls = starts[1:] < starts[:-1]
    if falls.any():
        raise ValueError(f"{name} is no CSR matrix: its indptr falls after row {np.argmax(falls)}")
    if starts[-1] > min(len(index), len(stored)) or len(index) != len(stored):
        raise ValueError(
            f"{name} is no CSR matrix: its indptr ends at {starts[-1]}, "
            f"but there are {len(index)} indices and {len(stored)} values"
        )


def _check_columns(starts: NDArray[Any], index: NDArray[Any], width: int, name: str) -> None:
    if len(index) and (index.min() < 0 or index.max() >= width):
        at = int(np.argmax((index < 0) | (index >= width)))
        row = int(np.searchsorted(starts, at, side="right")) - 1
        raise ValueError(f"{name} is no CSR matrix: row {row} has the column {index[at]}, of {width}")


def _ascending(starts: NDArray[Any], index: NDArray[Any]) -> bool:
    """Whether the columns of every row rise, so that none stands twice."""
    rises = index[1:] > index[:-1]
    inner = starts[(starts > 0) & (starts < len(index))]
    rises[inner.astype(np.int64) - 1] = True  # from one row to the next they may fall
    return bool(rises.all())
