"""Directions of a layer that are no SAE's: the output weights of its neurons, and other bases of its activations.

In: a model, or its activations as they are stored. Out: artefacts with rows, or with activations seen from other rows.
Never: a principal component fitted on the documents that judge.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sae_utils.engine.core.spec import ProfileError
from sae_utils.engine.kernels.sides import BLOCK
from sae_utils.engine.lms import hooking, models
from sae_utils.engine.text import corpora
from sae_utils.store import Appender, Artefact, artefact


@artefact
def output_weights(folder: Path, model: Artefact, block: int) -> None:
    """Output weights of the MLP of a block: `rows`, float32 (d_mlp, d); row i is what neuron i writes.

    Raises:
        ProfileError: the MLP has no one layer of neurons (experts).
    """
    bridge = models.load(model)
    hooking.confirm(bridge, f"blocks.{block}.mlp.hook_post")
    weights = bridge.blocks[block].mlp.W_out
    np.save(folder / "rows.npy", weights.detach().float().cpu().numpy())


@artefact
def turned(
    folder: Path, values: Artefact, sites: Artefact, into: Literal["random", "principal"], seed: int
) -> dict[str, Any]:
    """Activations (tokens, d) seen from another orthonormal basis: `values`, float16 (tokens, d).

    `directions`, float32 (d, d), has the basis in its rows: the Q of a Gaussian matrix, or the principal components of
    the matching documents, the largest variance first. The sign of a row means nothing.

    Raises:
        ProfileError: an activation is beyond float16 in that basis.
    """
    x = values.array("values")
    if into == "random":
        directions = np.linalg.qr(np.random.default_rng(seed).normal(size=(x.shape[1], x.shape[1])))[0].T
    else:
        directions = _principal(x, np.asarray(sites.array("split") == corpora.SPLITS.index("matching")))
    np.save(folder / "directions.npy", directions.astype(np.float32))
    with Appender(folder / "values.npy", np.float16, (len(directions),)) as out:
        for first in range(0, len(x), BLOCK):
            seen = x[first : first + BLOCK].astype(np.float64) @ directions.T
            if np.abs(seen).max(initial=0) > models.HALF:
                raise ProfileError(
                    f"a {into} basis: an activation of {np.abs(seen).max():.3g} is beyond the {models.HALF:.0f} of "
                    "float16, in which it would be stored; read a hook with smaller values"
                )
            out.append(seen)
    return {"sites": sites.key}


def _principal(x: np.ndarray, chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Principal components of the chosen rows in rows, from sums over blocks: (d, d)."""
    total, square = np.zeros(x.shape[1]), np.zeros((x.shape[1], x.shape[1]))
    for first in range(0, len(x), BLOCK):
        block = x[first : first + BLOCK][chosen[first : first + BLOCK]].astype(np.float64)
        total += block.sum(axis=0)
        square += block.T @ block
    covariance = square / chosen.sum() - np.outer(total, total) / chosen.sum() ** 2
    found: NDArray[np.float64] = np.linalg.eigh(covariance)[1][:, ::-1].T
    return found
