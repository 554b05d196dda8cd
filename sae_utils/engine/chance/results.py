"""The result of a score against its null: z, p, excess and their conditions.

In: an observed score and draws or exact moments of its null. Out: a `Result`. This module draws nothing.
"""

import math
from typing import NamedTuple

import numpy as np

from sae_utils import arrays
from sae_utils.engine.geometry.moments import Moments

ROUNDING = 1e-6  # of float32 draws: a draw so little below the observed score ties with it
FLAT = 1e-6  # a null whose SD is smaller does not vary


class Result(NamedTuple):
    """One score compared with one null.

    `measure`, `null`: names. `n`: pairs. `k`: components or neighbours in use, () where there are none.
    `observed`: the score, float64. `null_mean`, `null_sd`: of the null, exact where a closed form is known.
    `z` = (observed - null_mean) / null_sd. `excess` = (observed - null_mean) / (1 - null_mean).
    `m`: draws; `p` = (b + 1) / (m + 1) with b draws at least as large as observed, over all n! arrangements for
    m="exact", NaN for m = 0. `movable`: share of rows that the null can move. `note`: a caveat for the reader, or "".
    `draws` (m,): the null's scores.
    """

    measure: str
    null: str
    n: int
    k: tuple[int, ...]
    observed: float
    null_mean: float
    null_sd: float
    z: float
    p: float
    excess: float
    movable: float
    m: int
    note: str
    draws: np.ndarray

    @property
    def undefined(self) -> bool:
        """Whether these rows have no such score; the note says why."""
        return math.isnan(self.observed)

    @property
    def undetermined(self) -> bool:
        """Whether less than half of the rows can move, so that p says nothing about the pairing."""
        return self.movable < 0.5


def summarise(
    observed: float, drawn: np.ndarray, *, measure: str, null: str, n: int, k: tuple[int, ...] = (),
    moments: Moments | None = None, exact: bool = False, movable: float = 1.0, note: str = "",
) -> Result:  # fmt: skip
    """The result of any `observed` score of order 1, larger for more alike, against `drawn` (m,) of its null.

    `moments`: exact ones of the null, else they come from `drawn`. `exact`: the draws are all arrangements, the
    observed one among them. A draw within rounding of the observed score counts as large, which is
    conservative. Undefined where the score or one of its draws is not finite. Raises ValueError for fewer than 2 draws
    without exact moments.
    """
    drawn = arrays.numbers(drawn, "drawn", 1).astype(np.float64)
    if not (math.isfinite(observed) and np.isfinite(drawn).all()):
        why = "the score" if not math.isfinite(observed) else "one of the draws"
        return undefined(f"{why} is not finite", measure=measure, null=null, n=n, m=len(drawn))
    if len(drawn) < 2 and moments is None:
        raise ValueError(f"{measure}: {len(drawn)} draws; a null needs at least 2 where no closed form is known")
    mean, sd = moments or (float(drawn.mean()), float(drawn.std(ddof=0 if exact else 1)))
    m = len(drawn) - exact
    larger = int((drawn >= observed - ROUNDING).sum()) - exact
    if not sd > FLAT:
        note = f"{note}; the null does not vary".removeprefix("; ")
    z, p = (observed - mean) / sd if sd > FLAT else math.nan, (larger + 1) / (m + 1) if m else math.nan
    return Result(
        measure=measure, null=null, n=n, k=k, observed=observed, null_mean=mean, null_sd=sd, z=z, p=p,
        excess=excess(observed, mean), movable=movable, m=m, note=note, draws=drawn,
    )  # fmt: skip


def undefined(why: str, *, measure: str, null: str, n: int, m: int) -> Result:
    """The result of a score that does not exist: NaN throughout, and the note says why."""
    nothing = dict.fromkeys(("observed", "null_mean", "null_sd", "z", "p", "excess"), math.nan)
    note = f"undefined: {why}"
    return Result(measure, null, n, (), movable=1.0, m=m, note=note, draws=np.full(m, math.nan), **nothing)


def excess(observed: float, null_mean: float) -> float:
    """`(observed - null_mean) / (1 - null_mean)`: 0 at chance, 1 at most; NaN where chance alone gives 1."""
    return (observed - null_mean) / (1 - null_mean) if null_mean < 1 - 1e-9 else math.nan


def relative(excess: float, ceiling_a: float | None, ceiling_b: float | None) -> float:
    """`excess / sqrt(ceiling_a ceiling_b)`; the ceilings are excesses of seed against seed at the same n and filters.

    NaN where a ceiling is missing or below 0.05; it may exceed 1.
    """
    if ceiling_a is None or ceiling_b is None or not min(ceiling_a, ceiling_b) >= 0.05:
        return math.nan
    return excess / math.sqrt(ceiling_a * ceiling_b)
