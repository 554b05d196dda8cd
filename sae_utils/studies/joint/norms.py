"""To which model a latent of a joint dictionary belongs, by the norms of its two decoder rows.

In: a trained `Joint`, which latents are live. Out: relative norms, the kind of every latent, shares of kinds.
Never: a code, a truth.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field, model_validator

from sae_utils.engine.core.spec import Spec
from sae_utils.studies.joint.dictionary import Joint

ONLY_A, SHARED, ONLY_B, BETWEEN = KINDS = ("only A", "shared", "only B", "between")


class Bounds(Spec):
    """Relative norms at which a latent is called exclusive or shared; both ends of the scale are treated alike."""

    exclusive: float = Field(gt=0, lt=0.5)  # below it only A has the latent, above 1 - it only B
    shared: float = Field(gt=0, lt=0.5)  # between it and 1 - it both have

    @model_validator(mode="after")
    def _in_order(self) -> "Bounds":
        if self.exclusive > self.shared:
            raise ValueError(f"exclusive {self.exclusive:g} above shared {self.shared:g}: a latent would be both")
        return self


def relative(made: Joint) -> NDArray[np.float64]:
    """(width,) the norm of the row in B over the sum of both norms: 0 only A, 1/2 both alike, 1 only B.

    Norms are those of normalised activations. NaN where both are 0.
    """
    a, b = (np.linalg.norm(made.rows(place).numpy().astype(np.float64), axis=1) for place in (0, 1))
    with np.errstate(invalid="ignore"):
        found: NDArray[np.float64] = b / (a + b)
    return found


def kinds(relation: np.ndarray, bounds: Bounds) -> NDArray[np.str_]:
    """The kind, one of `KINDS`, of every latent by its relative norm (latents,)."""
    named = [relation < bounds.exclusive, relation > 1 - bounds.exclusive, abs(relation - 0.5) <= 0.5 - bounds.shared]
    return np.select(named, [ONLY_A, ONLY_B, SHARED], BETWEEN)


def shares(kind: np.ndarray) -> dict[str, float]:
    """The share of latents of every kind."""
    counts = pd.Series(kind).value_counts(normalize=True)
    return {name: float(counts.get(name, 0.0)) for name in KINDS}
