"""When planted features fire: rates, a Gaussian copula, magnitudes.

In: a recipe, a generator. Out: rates, correlations of the copula, sparse codes of blocks of samples.
Never: directions, a model, a score.

After L. Sharkey, D. Braun, B. Millidge, Taking features out of superposition with sparse autoencoders (LessWrong,
2022): rates that decay exponentially, correlated firing, a set mean number of active features. There a uniform number
is compared with a scaled cumulative probability; here a feature fires where a correlated normal exceeds its threshold,
so that rates and correlations are those asked for.
"""

from typing import Literal

import numpy as np
from pydantic import Field
from scipy import sparse
from scipy.special import ndtri

from sae_utils import arrays
from sae_utils.engine.core.spec import Count, Spec
from sae_utils.studies.known_truth.synthetic import Rng

TOLERANCE = 1e-6  # of an eigenvalue below 0, in units of the largest


class Firing(Spec):
    """How often features fire, together with which, and how strongly."""

    active: float = Field(gt=0, le=1e6)  # mean number of active features of a model
    decay: float = Field(default=0.0, ge=0, le=50)  # the rarest feature fires exp(-decay) times as often as the first
    # of the copula's variance that `rank` common factors carry; 0: features fire independently
    correlated: float = Field(default=0.0, ge=0, le=1)
    rank: Count = 8  # common factors, as topics: the fewer, the stronger two features correlate
    magnitude: Literal["constant", "uniform", "exponential"] = "uniform"  # all of mean 1; uniform: on (0, 2)


def rates(features: int, active: float, decay: float) -> np.ndarray:
    """Rates (features,) that decay exponentially with the index and sum to `active`; none exceeds 1.

    Raises ValueError for more active features than there are.
    """
    if active > features:
        raise ValueError(f"active = {active:g} of {features} features: more cannot fire than exist; lower `active`")
    wanted = np.exp(-decay * np.arange(features) / max(features - 1, 1))
    full = 0  # the first features that always fire
    while full < features and wanted[full] * (active - full) > wanted[full:].sum():
        full += 1
    rest = wanted[full:] * ((active - full) / wanted[full:].sum()) if full < features else wanted[:0]
    return np.minimum(np.concatenate([np.ones(full), rest]), 1)


def correlations(rng: Rng, features: int, of: Firing) -> np.ndarray:
    """Random correlations (features, features) of the copula: a factor model with `of.rank` factors."""
    loadings = arrays.unit(rng.normal(size=(features, of.rank)))
    return np.asarray(of.correlated * loadings @ loadings.T + (1 - of.correlated) * np.eye(features))


def root(covariance: np.ndarray) -> np.ndarray:
    """The symmetric root (features, features), float32, of a covariance that is scaled to correlations.

    Of all roots this one keeps every normal nearest to the number it is made of, so that models with different
    covariances and the same numbers still fire together. Raises ValueError for a matrix that is no covariance.
    """
    covariance = arrays.rows(covariance, "covariance").astype(np.float64)
    if covariance.shape[0] != covariance.shape[1] or not np.allclose(covariance, covariance.T):
        raise ValueError(f"covariance {covariance.shape}: it must be square and symmetric")
    if (np.diag(covariance) <= 0).any():
        raise ValueError("covariance: every variance on the diagonal must be above 0")
    sd = np.sqrt(np.diag(covariance))
    values, vectors = np.linalg.eigh(covariance / sd / sd[:, None])
    if values[0] < -TOLERANCE * values[-1]:
        raise ValueError(
            f"covariance: not positive semi-definite (smallest eigenvalue {values[0]:.3g}); "
            "add its absolute value to the diagonal, or make it from factors"
        )
    found: np.ndarray = ((vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T).astype(np.float32)
    return found


def thresholds(rate: np.ndarray) -> np.ndarray:
    """What a standard normal exceeds with probability `rate`, float32; -inf for 1."""
    return np.asarray(-ndtri(rate), np.float32)


def codes(rng: Rng, normals: np.ndarray, threshold: np.ndarray, law: str) -> sparse.csr_array:
    """Codes (samples, features) that are above 0 where `normals` exceed the thresholds of their features."""
    at = np.flatnonzero(normals > threshold)
    samples, features = normals.shape
    starts = np.searchsorted(at, np.arange(samples + 1) * features)
    return sparse.csr_array((_magnitudes(rng, len(at), law), at % features, starts), shape=normals.shape)


def _magnitudes(rng: Rng, n: int, law: str) -> np.ndarray:
    if law == "uniform":
        return 2 - 2 * rng.random(n, np.float32)  # never 0
    return rng.standard_exponential(n, np.float32) if law == "exponential" else np.ones(n, np.float32)
