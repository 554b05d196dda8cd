"""Local similarity: whether paired rows have the same nearest neighbours.

In: rows. Out: overlaps of neighbour lists, second-order cosines, the spectral distance of neighbour graphs.
Neighbours are by cosine. A row is never its own neighbour; where the last places are tied (equal rows), the tied
share them equally, so that no order of storage decides. This module never draws permutations.
"""

from typing import NamedTuple

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from sae_utils import arrays
from sae_utils.engine.geometry.linear import Undefined
from sae_utils.engine.geometry.relational import nearness, unit_rows

_TIE = 1e-12  # neighbours whose nearness differs by less are equally near
_TIES = 100  # places that ties may add however few the rows
_BLOCK_BYTES = 1 << 26


class NeighbourSide(NamedTuple):
    """Nearest neighbours of every row.

    `near` (n, width) int64: their rows; `weight` (n, width): 1, a share of the last places where they are tied, 0 for
    padding; every row sums to k. `k`: neighbours asked for. `cosine` (n, n): similarities, (0, 0) unless asked for.
    """

    near: Tensor
    weight: Tensor
    k: int
    cosine: Tensor


def side(rows: np.ndarray, k: int, *, keep_cosines: bool = False) -> NeighbourSide:
    """Neighbour lists of `rows` (n, d); O(n^2 d), memory O(n k), with `keep_cosines` O(n^2).

    Raises ValueError unless n > k >= 1, on rows of zero, and where ties make lists of over n / 2.
    """
    n = len(arrays.rows(rows, "rows"))
    if not 1 <= arrays.whole(k, "k") < n:
        raise Undefined(f"n = {n} rows, k = {k} neighbours: k must be at least 1 and below n")
    close, half = (torch.from_numpy(x) for x in nearness(rows))
    found = [_nearest(close, half, start, k) for start in range(0, n, max(1, _BLOCK_BYTES // (8 * n)))]
    width = max(index.shape[1] for index, _ in found)
    if width > max(n // 2, k + _TIES):
        raise Undefined(
            f"ties: some row has {width} equally near neighbours among n = {n} rows for k = {k}; drop equal rows first"
        )
    index, weight = (
        torch.cat([torch.nn.functional.pad(part, (0, width - part.shape[1])) for part in parts])
        for parts in zip(*found, strict=True)
    )
    unit = torch.from_numpy(unit_rows(rows, "cosine")) if keep_cosines else torch.zeros(0, 0, dtype=torch.float64)
    return NeighbourSide(index, weight, k, unit @ unit.T)


def _nearest(close: Tensor, half: Tensor, start: int, k: int) -> tuple[Tensor, Tensor]:
    """Neighbours (block, width) and weights of a block of rows, nearest first; see `relational.nearness`."""
    block = close[start : start + max(1, _BLOCK_BYTES // (8 * len(close)))]
    near = block @ close.T - half
    near[torch.arange(len(block)), torch.arange(start, start + len(block))] = -np.inf
    last = torch.topk(near, k).values[:, -1:]
    width = int((near >= last - _TIE).sum(1).max())
    values, index = torch.topk(near, width)
    nearer, tied = values > last + _TIE, (values - last).abs() <= _TIE
    shared = (k - nearer.sum(1, keepdim=True)) / tied.sum(1, keepdim=True)
    return index, nearer + tied * shared.double()


def overlap_cross(a: NeighbourSide, b: NeighbourSide, permutations: Tensor) -> Tensor:
    """Overlaps (2, batch, n) of every row's two lists: sum of products, and of minima, of the weights."""
    same = _matches(a, b, permutations)
    ours, theirs = a.weight[:, :, None], b.weight[permutations][:, :, None, :]
    if bool((a.weight == 1).all()) and bool((b.weight == 1).all()):
        return same.sum((-2, -1), dtype=a.weight.dtype).expand(2, -1, -1)
    return torch.stack([(same * ours * theirs).sum((-2, -1)), (same * torch.minimum(ours, theirs)).sum((-2, -1))])


def _in_rows_of_a(b: NeighbourSide, permutations: Tensor) -> Tensor:
    """The lists of b (batch, n, width), its rows named by the rows of a that they are paired with."""
    lists = b.near[permutations]
    return torch.argsort(permutations, dim=1).gather(1, lists.flatten(1)).view_as(lists)


def _matches(a: NeighbourSide, b: NeighbourSide, permutations: Tensor) -> Tensor:
    """Whether neighbour i of a is neighbour j of b (batch, n, width_a, width_b)."""
    return a.near[:, :, None] == _in_rows_of_a(b, permutations)[:, :, None, :]


def mutual(a: NeighbourSide, b: NeighbourSide, overlaps: Tensor, _: Tensor) -> Tensor:
    """Mean share of common neighbours (batch,)."""
    return overlaps[0].mean(-1) / a.k


def jaccard(a: NeighbourSide, b: NeighbourSide, overlaps: Tensor, _: Tensor) -> Tensor:
    """Mean of intersection over union of the two lists (batch,)."""
    return (overlaps[1] / (a.k + b.k - overlaps[1])).mean(-1)


def second_order_cross(a: NeighbourSide, b: NeighbourSide, permutations: Tensor) -> Tensor:
    """Mean second-order cosine (batch,): of the two rows of cosines to all neighbours on either side."""
    theirs = _in_rows_of_a(b, permutations)
    known = (a.near[:, :, None] == theirs[:, :, None, :]) & (a.weight > 0)[:, :, None]
    fresh = (b.weight[permutations] > 0) & ~known.any(2)
    batch, n = permutations.shape
    union = torch.cat([a.near.expand(batch, -1, -1), theirs], dim=2)
    mask = torch.cat([(a.weight > 0).expand(batch, -1, -1), fresh], dim=2)
    x = a.cosine[torch.arange(n, device=union.device)[:, None], union] * mask
    there = permutations.gather(1, union.flatten(1)).view_as(union)
    y = b.cosine[permutations[:, :, None], there] * mask
    return torch.cosine_similarity(x, y, dim=2).mean(-1)


def as_graph(side: NeighbourSide) -> csr_array:
    """The weighted directed neighbour graph (n, n)."""
    n, width = side.near.shape
    pointers = np.arange(0, n * width + 1, width)
    graph = csr_array((side.weight.numpy().ravel(), side.near.numpy().ravel(), pointers), (n, n), copy=True)
    graph.sum_duplicates()
    graph.eliminate_zeros()
    return graph


def heat_trace(rows: np.ndarray, k: int, times: np.ndarray) -> np.ndarray:
    """Heat kernel trace (times,) a row, of the symmetric neighbour graph's normalised Laplacian; O(n^3)."""
    graph = as_graph(side(rows, k))
    linked = ((graph + graph.T).toarray() > 0).astype(np.float64)
    degree = linked.sum(axis=1)
    laplacian = np.eye(len(linked)) - linked / np.sqrt(degree[:, None] * degree)
    values = np.linalg.eigvalsh(laplacian)
    return np.exp(-times[:, None] * values).mean(axis=1)
