"""Cross sums of two sides through torch, a tile of features by all features at a time: for CUDA.

In: prepared sides (`sides.Side`), sparse or dense. Out: the same as from `tiles` and `accumulate` on the CPU: ranked
keys and blocks of correlations. Sums are float64, and dense activations are shifted by their mean first, so that a
large mean costs no digits. It holds no more than a tile of about ``TILE`` bytes and a block of tokens, and ranks by the
keys of `keys`, so that it breaks ties as the CPU does.
"""

import warnings

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from sae_utils.engine.kernels import keys, sides, tiles
from sae_utils.engine.kernels.keys import Keys
from sae_utils.engine.kernels.sides import Side

TILE = 2**27  # bytes of float64 cross sums held at once


def rank(one: Side, two: Side, k: int, device: str) -> tuple[Keys, Keys]:
    """The k best keys of every feature of either side, in any order."""
    rows: list[torch.Tensor] = []
    best = torch.full((k, two.features), keys.EMPTY, device=device)
    height = max(TILE // (8 * two.features), 1)
    index = torch.arange(two.features, device=device)
    for first in range(0, one.features, height):
        features = np.arange(first, min(first + height, one.features))
        bits = _bits(_correlations(one, features, two, np.arange(two.features), device))
        rows.append(_keys(bits, index[None]).topk(k, dim=1).values)
        by_column = _keys(bits, torch.as_tensor(features, device=device)[:, None])
        best = torch.cat([best, by_column]).topk(k, dim=0).values
    return torch.cat(rows).cpu().numpy(), best.T.cpu().numpy()


def block(one: Side, left: NDArray[np.int64], two: Side, right: NDArray[np.int64], device: str) -> NDArray[np.float32]:
    """Correlations (left, right), NaN where either feature is not live."""
    out = np.empty((len(left), len(right)), np.float32)
    height = max(TILE // (8 * two.features), 1)
    for first in range(0, len(left), height):
        features = left[first : first + height]
        out[first : first + height] = _correlations(one, features, two, right, device).cpu().numpy()
    return out


def _correlations(one: Side, left: NDArray[np.int64], two: Side, right: NDArray[np.int64], device: str) -> torch.Tensor:
    """Float32 correlations (left, right), NaN where either feature is not live."""
    cross = _tile(one, left, two, right, device)
    total_a, scale_a, total_b, scale_b = (
        torch.as_tensor(x, device=device)
        for x in (one.total[left, None], one.scale[left, None], two.total[right], two.scale[right])
    )
    cross -= total_a * total_b * (1 / len(one.at))
    cross *= torch.where(scale_a * scale_b > 0, scale_a * scale_b, torch.nan)
    return (cross + 0.0).float()


def _tile(one: Side, left: NDArray[np.int64], two: Side, right: NDArray[np.int64], device: str) -> torch.Tensor:
    """Cross sums (left, right) of shifted activations."""
    cross = torch.zeros((len(left), len(right)), dtype=torch.float64, device=device)
    shift = torch.as_tensor(one.shift[left], device=device)
    for at_a, at_b in zip(sides.blocks(one.at), sides.blocks(two.at), strict=True):
        x = torch.as_tensor(tiles.dense(one, at_a, left), device=device) - shift  # (tokens, left)
        cross += (_features_first(two, at_b, right, device) @ x).T
    return cross


def _features_first(side: Side, at: NDArray[np.int64], features: NDArray[np.int64], device: str) -> torch.Tensor:
    """A shifted block (features, tokens) of a side; sparse where the side is."""
    if not side.sparse:
        y = torch.as_tensor(tiles.dense(side, at, features), device=device)
        return (y - torch.as_tensor(side.shift[features], device=device)).T
    csc = sparse.csc_array(side.codes[at][:, features])
    start, index, values = (
        torch.as_tensor(part.astype(kind))
        for part, kind in ((csc.indptr, np.int64), (csc.indices, np.int64), (csc.data, np.float64))
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
        matrix = torch.sparse_csr_tensor(start, index, values, csc.shape[::-1], check_invariants=False)
    return matrix.to(device)


def _bits(r: torch.Tensor) -> torch.Tensor:
    """Correlations as order-preserving int64; features that are not live are below LEAST."""
    bits = r.nan_to_num(keys.NOT_LIVE).view(torch.int32)
    return (bits ^ ((bits >> 31) & keys.LOW)).long()


def _keys(bits: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Correlation and index as one key; see `keys`."""
    return torch.where(bits >= keys.LEAST, (bits << 32) | (keys.LOW - index), keys.EMPTY)
