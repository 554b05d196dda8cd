"""Pearson correlation between all features of two sets of activations on the same tokens.

In: two sides, sparse codes (tokens, features) as CSR or dense activations (tokens, neurons), row t the same token.
Out: of every feature its mean, standard deviation and firings, and its k best candidates on the other side; on
request the exact correlations of any block, or of given pairs. ``rows`` chooses tokens (a half, documents, a topic)
without rewriting a store.

The whole matrix features by features is held only if asked for. A feature that is dead or constant has no correlation.
Results do not depend on ``threads``.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sae_utils import arrays
from sae_utils.engine.core.progress import bar
from sae_utils.engine.kernels import keys, sides, tiles
from sae_utils.engine.kernels.keys import Keys
from sae_utils.engine.kernels.sides import Codes, Moments, Side, Triple

__all__ = ["Block", "Candidates", "Correlation", "Moments", "blocks", "cosines", "features", "pairs"]

CHUNK = 256  # features handed to a thread at once
Block = Callable[..., NDArray[np.float32]]


class Candidates(NamedTuple):
    """The best partners of every feature on the other side, each (features, k).

    Best first, equal correlations in the order of the index; -1 and NaN where there is none.
    """

    index: NDArray[np.int32]  # type: ignore[assignment]  # the partner; hides tuple.index
    r: NDArray[np.float32]  # Pearson correlation, by which they are ranked


class Correlation(NamedTuple):
    """The correlations of two sides, from which ``matching`` finds pairs."""

    a: Moments
    b: Moments
    a_to_b: Candidates  # candidates of a's features among b's
    b_to_a: Candidates  # candidates of b's features among a's
    block: Block  # block(rows, columns): their exact correlations, see ``blocks``

    @property
    def live(self) -> tuple[int, int]:
        """Numbers of live features of a and of b."""
        return int(self.a.live.sum()), int(self.b.live.sum())


def features(
    a: Codes | Side, b: Codes | Side, *, k: int = 64, rows: ArrayLike | None = None, rows_b: ArrayLike | None = None,
    threads: int = 1, device: str = "cpu",
) -> Correlation:  # fmt: skip
    """Correlate all features of ``a`` (tokens, features_a) with all of ``b`` (tokens, features_b).

    ``rows`` chooses the tokens: a mask (tokens,) or positions, repeats allowed (a bootstrap). ``rows_b`` pairs
    them with equally many other tokens of b, in its own order: a permutation null. A side of many correlations may be
    given prepared (``sides.prepare``) instead of its codes; its tokens are chosen already.
    ``k`` candidates are kept in each direction. ``threads`` apply to sparse sides on the CPU (dense sides use BLAS's
    threads); with a CUDA ``device`` the computation runs there.

    Raises ValueError for sides of different length, positions outside, k larger than a side, values that are not
    finite, or a side without a live feature.
    """
    one, two = sides.pair(a, b, rows, rows_b)
    check_k(k, one, two)
    arrays.count(threads, "threads")
    for name, side in (("a", one), ("b", two)):
        if not side.moments.live.any():
            raise ValueError(f"side {name} has no live feature on these {len(side.at)} tokens: all dead or constant")
    return _ranked(one, two, _rank(one, two, k, threads, device), threads, device)


def cosines(
    a: ArrayLike, b: ArrayLike, *, k: int = 64, live_a: ArrayLike | None = None, live_b: ArrayLike | None = None
) -> Correlation:
    """Cosines between all rows of ``a`` (features_a, d) and of ``b`` (features_b, d), in the form of a correlation.

    ``live_a`` and ``live_b`` are masks of the features that take part (all by default; rows of norm 0 never do).
    Moments are over the d coordinates. Rows are not centred.
    Raises ValueError for rows of different d (align them first), not finite, or k larger than a side.
    """
    a, b = arrays.rows(a, "side a"), arrays.rows(b, "side b")
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"rows of a have {a.shape[1]} coordinates, of b {b.shape[1]}: align them first")
    one, two = _directions(a, live_a, "a"), _directions(b, live_b, "b")
    check_k(k, one, two)
    return _ranked(one, two, tiles.rank(one, two, k), 1, "cpu")


def _directions(rows: NDArray[np.float64], live: ArrayLike | None, name: str) -> Side:
    """Directions as a side whose tokens are the coordinates; rows are scaled to norm 1 and not centred."""
    wide = rows.astype(np.float64)
    norm = np.linalg.norm(wide, axis=1)
    chosen = norm > 0
    if live is not None:
        chosen &= arrays.mask(live, len(rows), f"live_{name}", "feature")
    if not chosen.any():
        raise ValueError(f"side {name} has no live row")
    zero, scale = np.zeros(len(rows)), np.zeros(len(rows))
    np.divide(1.0, norm, out=scale, where=chosen)
    moments = Moments(wide.mean(1), wide.std(1), np.count_nonzero(rows, axis=1), chosen)
    return Side(rows.T, np.arange(rows.shape[1]), moments, zero, zero, scale)


def _ranked(one: Side, two: Side, rank: tuple[Keys, Keys], threads: int, device: str) -> Correlation:
    by_row, by_column = (Candidates(*keys.decode(found)) for found in rank)
    return Correlation(one.moments, two.moments, by_row, by_column, _blocks(one, two, threads, device))


def blocks(
    a: Codes | Side, b: Codes | Side, *, rows: ArrayLike | None = None, threads: int = 1, device: str = "cpu"
) -> Block:
    """The ``block`` function of a correlation whose candidates are read from the store.

    ``block(rows, columns)`` gives the float32 correlations (rows, columns) of a's features ``rows`` with b's features
    ``columns`` (None: all), NaN where either is not live; of sparse sides the very bits that ``features`` ranks.
    It raises ValueError for a block of more than half of the memory.
    """
    return _blocks(*sides.pair(a, b, rows, None), threads, device)


def pairs(
    a: Codes | Side, b: Codes | Side, pairs_a: ArrayLike, pairs_b: ArrayLike, *, rows: ArrayLike | None = None,
    rows_b: ArrayLike | None = None,
) -> NDArray[np.float32]:  # fmt: skip
    """Pearson correlations (pairs,) of the pairs (pairs_a[p], pairs_b[p]) on the chosen tokens, as held-out ones.

    NaN where either feature is dead or constant there. Raises ValueError for pairs outside the sides, and as
    ``features`` does.
    """
    one, two = sides.pair(a, b, rows, rows_b)
    left, right = _features(pairs_a, one, "pairs_a"), _features(pairs_b, two, "pairs_b")
    if len(left) != len(right):
        raise ValueError(f"{len(left)} features of a, {len(right)} of b: a pair needs one of each")
    if _both_sparse(one, two):
        from sae_utils.engine.kernels import accumulate

        position = np.arange(len(one.at))
        cross = accumulate.pairs(left, right, _transpose(one, position), _transpose(two, position))
    else:
        cross = tiles.pairs(one, left, two, right)
    centred = cross - one.total[left] * two.total[right] * (1 / len(one.at))
    scale = one.scale[left] * two.scale[right]
    return np.where(scale > 0, centred * scale, np.nan).astype(np.float32)


def check_k(k: int, one: Side, two: Side) -> None:
    """Refuse more candidates than a side has features."""
    for name, side in (("a", one), ("b", two)):
        if not 1 <= arrays.count(k, "k") <= side.features:
            raise ValueError(f"k = {k} candidates, but side {name} has {side.features} features: choose k within them")


def _both_sparse(one: Side, two: Side) -> bool:
    return one.sparse and two.sparse


def _features(chosen: ArrayLike | None, side: Side, name: str) -> NDArray[np.int64]:
    if chosen is None:
        return np.arange(side.features)
    return arrays.positions(chosen, side.features, name, "feature")


def _transpose(side: Side, partner: NDArray[np.int64]) -> Triple:
    from sae_utils.engine.kernels import accumulate

    return accumulate.transpose(*sides.raw(side.codes), side.at, partner, side.features)


def _rank(one: Side, two: Side, k: int, threads: int, device: str) -> tuple[Keys, Keys]:
    """The best keys of both sides; every thread keeps its own best of b, and these are merged at the end."""
    if device != "cpu":
        from sae_utils.engine.kernels import device as cuda  # torch, which the CPU does without

        return cuda.rank(one, two, k, device)
    if not _both_sparse(one, two):
        return tiles.rank(one, two, k)
    from sae_utils.engine.kernels import accumulate

    inputs = _transpose(one, two.at), sides.raw(two.codes), sides.scaling(one, two)
    by_row = keys.heaps(one.features, k)
    by_column = [keys.heaps(two.features, k) for _ in range(threads)]
    floors = [keys.floors(two.features) for _ in range(threads)]

    def work(thread: int, first: int, last: int) -> None:
        accumulate.rank(first, last, *inputs, by_row, by_column[thread], floors[thread])

    _spread(work, one.features, threads, "correlation")
    return by_row, np.sort(np.concatenate(by_column, axis=1), axis=1)[:, -k:]


def _blocks(one: Side, two: Side, threads: int, device: str) -> Block:
    """The ``block`` function of prepared sides; sparse blocks are gathered from the side that fires less."""

    @cache
    def outer(of_a: bool) -> Triple:
        return _transpose(one, two.at) if of_a else _transpose(two, one.at)

    def block(rows: ArrayLike | None = None, columns: ArrayLike | None = None) -> NDArray[np.float32]:
        left, right = _features(rows, one, "rows"), _features(columns, two, "columns")
        _check_fits(len(left), len(right))
        if device != "cpu":
            from sae_utils.engine.kernels import device as cuda

            return cuda.block(one, left, two, right, device)
        if not _both_sparse(one, two):
            return tiles.block(one, left, two, right)
        from sae_utils.engine.kernels import accumulate

        forward = one.moments.count[left].sum() <= two.moments.count[right].sum()
        mine, yours, (x, y) = (left, right, (one, two)) if forward else (right, left, (two, one))
        out = np.empty((len(mine), len(yours)), np.float32)
        inputs = outer(bool(forward)), sides.raw(y.codes), sides.scaling(x, y)

        def work(_: int, first: int, last: int) -> None:
            accumulate.block(mine[first:last], yours, *inputs, out[first:last])

        _spread(work, len(mine), threads, "correlations")
        return out if forward else np.ascontiguousarray(out.T)

    return block


def _check_fits(rows: int, columns: int) -> None:
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if 4 * rows * columns > memory / 2:
        raise ValueError(
            f"a block of {rows} x {columns} correlations takes {4 * rows * columns / 1e9:.1f} GB, more than half of "
            f"this machine's {memory / 1e9:.1f} GB: ask for fewer rows or columns at once"
        )


def _spread(work: Callable[[int, int, int], None], total: int, threads: int, title: str) -> None:
    """Call work(thread, first, last) on chunks of ``total``; kernels that release the GIL run in parallel."""
    if threads < 1:
        raise ValueError(f"threads = {threads}: at least 1 is needed")
    starts = iter(range(0, total, CHUNK))
    with bar(title=title, total=total) as done:

        def run(thread: int) -> None:
            for first in starts:  # the threads draw from one iterator
                last = min(first + CHUNK, total)
                work(thread, first, last)
                done.update(last - first)

        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(run, range(threads)))
