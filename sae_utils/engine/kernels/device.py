"""Cross sums of two sides through torch, a tile of features by all features at a time: for CUDA.

In: prepared sides (``sides.Side``), sparse or dense. Out: what ``tiles`` and ``accumulate`` give on the CPU: ranked
keys and blocks of correlations. Sums are float64, and dense activations are taken off their mean first, so that a
large mean costs no digits. It holds no more than a tile of about ``TILE`` bytes and a block of tokens, and ranks by
the keys of ``keys``, so that ties fall alike.
"""

from __future__ import annotations

import warnings

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from sae_utils.engine.kernels import keys, tiles
from sae_utils.engine.kernels.keys import Keys
from sae_utils.engine.kernels.sides import Side

TILE = 2**27  # bytes of float64 cross sums held at once


def rank(one: Side, two: Side, k: int, device: str) -> tuple[Keys, Keys]:
    """The k best keys of every feature, by row and by column, in any order."""
    rows: list[tuple[torch.Tensor, torch.Tensor]] = []
    best = torch.full((k, two.features), keys.EMPTY, device=device)
    fired = torch.zeros((k, two.features), dtype=torch.int32, device=device)
    height = max(TILE // (8 * two.features), 1)
    index = torch.arange(two.features, device=device)
    for first in range(0, one.features, height):
        features = np.arange(first, min(first + height, one.features))
        cross, both = _tile(one, features, two, device, firings=True)
        bits = _bits(_correlations(one, features, two, np.arange(two.features), cross))
        rows.append(_best(_keys(bits, index[None]), both, k, dim=1))
        again = _keys(bits, torch.as_tensor(features, device=device)[:, None])
        best, fired = _best(torch.cat([best, again]), torch.cat([fired, both]), k, dim=0)
    by_row, fired_row = (torch.cat(parts).cpu().numpy() for parts in zip(*rows, strict=True))
    return (by_row, fired_row), (best.T.cpu().numpy(), fired.T.cpu().numpy())


def block(one: Side, left: NDArray[np.int64], two: Side, right: NDArray[np.int64], device: str) -> NDArray[np.float32]:
    """Correlations (left, right), NaN where either feature is not live."""
    out = np.empty((len(left), len(right)), np.float32)
    height = max(TILE // (8 * two.features), 1)
    for first in range(0, len(left), height):
        features = left[first : first + height]
        cross, _ = _tile(one, features, two, device, firings=False, columns=right)
        out[first : first + height] = _correlations(one, features, two, right, cross).cpu().numpy()
    return out


def _tile(
    one: Side,
    features: NDArray[np.int64],
    two: Side,
    device: str,
    *,
    firings: bool,
    columns: NDArray[np.int64] | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cross sums (features, columns of two) of shifted activations, and tokens on which both fire."""
    columns = np.arange(two.features) if columns is None else columns
    cross = torch.zeros((len(features), len(columns)), dtype=torch.float64, device=device)
    both = torch.zeros_like(cross) if firings else cross
    shift = torch.as_tensor(one.shift[features], device=device)
    for at_a, at_b in zip(tiles.blocks(one), tiles.blocks(two), strict=True):
        x = torch.as_tensor(tiles.dense(one, at_a, features), device=device)  # (tokens, features)
        for target, left, fires in ((cross, x - shift, False), (both, (x > 0).double(), True))[: 1 + firings]:
            y = _right(two, at_b, columns, device, fires)  # (columns, tokens)
            target += (y @ left).T
    return cross, both.to(torch.int32)


def _right(side: Side, at: NDArray[np.int64], columns: NDArray[np.int64], device: str, fires: bool) -> torch.Tensor:
    """A block of the other side, features first: sparse where the side is; shifted, or whether it fires."""
    if not sparse.issparse(side.codes):
        y = torch.as_tensor(tiles.dense(side, at, columns), device=device)
        return ((y > 0).double() if fires else y - torch.as_tensor(side.shift[columns], device=device)).T
    csc = sparse.csc_array(side.codes[at][:, columns])
    values = (csc.data > 0).astype(np.float64) if fires else csc.data.astype(np.float64)
    start, index = (torch.as_tensor(part.astype(np.int64)) for part in (csc.indptr, csc.indices))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
        matrix = torch.sparse_csr_tensor(start, index, torch.as_tensor(values), csc.shape[::-1], check_invariants=False)
    return matrix.to(device)


def _correlations(
    one: Side, left: NDArray[np.int64], two: Side, right: NDArray[np.int64], cross: torch.Tensor
) -> torch.Tensor:
    """Float32 correlations from cross sums, NaN where either feature is not live; ``cross`` is overwritten."""
    total_a, scale_a, total_b, scale_b = (
        torch.as_tensor(x, device=cross.device)
        for x in (one.total[left, None], one.scale[left, None], two.total[right], two.scale[right])
    )
    cross -= total_a * total_b * (1 / len(one.at))
    cross *= torch.where(scale_a * scale_b > 0, scale_a * scale_b, torch.nan)
    return (cross + 0.0).float()


def _bits(r: torch.Tensor) -> torch.Tensor:
    """Correlations as int64 in their order; features that are not live below LEAST."""
    bits = r.nan_to_num(keys.NOBODY).view(torch.int32)
    return (bits ^ ((bits >> 31) & keys.LOW)).long()


def _keys(bits: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Correlation and index as one key; see ``keys``."""
    return torch.where(bits >= keys.LEAST, (bits << 32) | (keys.LOW - index), keys.EMPTY)


def _best(ranked: torch.Tensor, load: torch.Tensor, k: int, dim: int) -> tuple[torch.Tensor, torch.Tensor]:
    top = ranked.topk(k, dim=dim)
    return top.values, load.gather(dim, top.indices)
