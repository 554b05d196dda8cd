"""How well what one model activates is carried to the other: by an affine map, or through a code.

In: activations of two models at the same tokens, and codes of the first. Out: the share of the second model's variance
that is not explained (FVU), on other documents than those of the fit.
Never: a choice of text.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from sae_utils import replicates
from sae_utils.studies.joint import training
from sae_utils.studies.joint.dictionary import Recipe
from sae_utils.studies.joint.texts import Texts

AFFINE, CODE, UNIVERSAL, OWN = WAYS = ("affine map", "own code, affine", "universal code", "universal code, read there")
RIDGE = 1e-6  # of the mean variance of the inputs, for inputs that never vary

Floats = NDArray[np.float64]


def affine(x: Any, y: np.ndarray) -> tuple[Floats, Floats]:
    """The matrix (p, d) and the offset (d,) of the least squares fit of `y` (tokens, d) to `x` (tokens, p).

    `x` may be CSR. Raises ValueError for fewer tokens than p + 1.
    """
    n, p = x.shape
    if n <= p:
        raise ValueError(f"{n} tokens for a map from {p} dimensions: give at least {p + 1}")
    mean_x, mean_y = np.asarray(x.mean(axis=0), np.float64), y.mean(axis=0, dtype=np.float64)
    gram, cross = (np.asarray(z.toarray() if sparse.issparse(z) else z, np.float64) for z in (x.T @ x, x.T @ y))
    gram, cross = gram - n * np.outer(mean_x, mean_x), cross - n * np.outer(mean_x, mean_y)
    matrix: Floats = np.linalg.solve(gram + RIDGE * np.trace(gram) / p * np.eye(p), cross)
    return matrix, mean_y - mean_x @ matrix


def unexplained(y: np.ndarray, fitted: np.ndarray) -> float:
    """The share of the variance of `y` (tokens, d) that `fitted` does not explain."""
    return float(np.square(y - fitted).sum() / np.square(y - y.mean(axis=0)).sum())


def by_map(x: Mapping[str, Any], y: Mapping[str, np.ndarray]) -> float:
    """The FVU of an affine map from `x` to `y`, fitted on the split `matching` and judged on `held_out`."""
    matrix, offset = affine(x["matching"], y["matching"])
    return unexplained(y["held_out"], x["held_out"] @ matrix + offset)


def read(texts: Texts, own: tuple[replicates.Side, replicates.Side], recipe: Recipe) -> dict[str, float]:
    """The FVU of each of `WAYS`, a mean over both directions; the universal SAE is trained, or taken from the store.

    The last way reads the model that is written to: what the universal code loses without crossing.
    """
    x = {split: texts.activations(split) for split in ("matching", "held_out")}
    made = training.of(texts, recipe)
    through = [made.unexplained(x["held_out"], route) for route in (0, 1)]
    found = dict.fromkeys(WAYS, 0.0)
    for here, there, name in ((0, 1, "b"), (1, 0, "a")):
        target = {split: values[there] for split, values in x.items()}
        codes = {split: sparse.csr_array(sparse.vstack(own[here].blocks[split])) for split in x}
        found[AFFINE] += by_map({split: values[here] for split, values in x.items()}, target) / 2
        found[CODE] += by_map(codes, target) / 2
        found[UNIVERSAL] += through[here][name] / 2
        found[OWN] += through[there][name] / 2
    return found
