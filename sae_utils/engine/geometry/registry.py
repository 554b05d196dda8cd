"""The types of the registry of similarity measures, which `measures` holds.

The other modules of this package define measures and list them in their `MEASURES`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sae_utils.engine.geometry.moments import Moments

Floats = NDArray[np.float64]
FEWEST = 3  # rows that every measure needs
NEIGHBOURS = 10


class Undefined(ValueError):
    """The score is undefined for these rows; other measures may be defined."""


class Family(NamedTuple):
    """The work that several measures share and that a permutation leaves unchanged.

    `side(rows)` is computed once a side, `cross(side_a, side_b, permutations)` once a batch of pairings.
    `width(side)`: numbers a row that one pairing gathers, by which batches are sized.
    """

    side: Callable[[np.ndarray], Any]
    cross: Callable[[Any, Any, np.ndarray], np.ndarray]
    width: Callable[[Any], int]


class Batched(NamedTuple):
    """Scores of many small subsets of features at once, from blocks of one matrix over all features of a side."""

    prepare: Callable[[np.ndarray], Floats]  # (features, features) of rows
    side: Callable[[Floats, int], Floats]  # what is compared, of blocks (m, n, n) and the number of neighbours
    compare: Callable[[Floats, Floats], Floats]  # (m,) of two sides


def _as_is(a: Any, b: Any, cross: np.ndarray, permutations: np.ndarray) -> np.ndarray:
    return cross


@dataclass(frozen=True)
class Measure:
    """One similarity measure: how to compute it, and its properties."""

    name: str  # as in params and tables; an option that is not the default is part of it: `mutual_knn_5`, `svcca_0.95`
    label: str  # for legends, tables and sentences
    formula: str  # in one line
    source: str  # the paper that introduced it
    scope: Literal["global", "local"]  # whether it sees the whole arrangement or near neighbours
    family: Family  # the shared work
    # (batch,) of side_a, side_b, what the family's `cross` gave, and the permutations
    score: Callable[[Any, Any, np.ndarray, np.ndarray], np.ndarray] = _as_is
    # components or neighbours in use of two sides; () where there are none
    k: Callable[[Any, Any], tuple[int, ...]] = lambda a, b: ()
    least: int = FEWEST  # pairs that it needs
    neighbours: int = 0  # that a local measure compares
    # mean and SD over all pairings in closed form, of two sides; None where they are not known
    moments: Callable[[Any, Any], Moments] | None = None
    batched: Batched | None = None  # a fast way to score many small subsets; without one they are scored one by one
    repeats: bool = True  # whether rows of a side may be equal, as they are where many features share a partner
    symmetric: bool = True  # whether the two sides may change places
    # the measure with another option: `k` neighbours, or the share of `variance` that is kept
    variant: "Callable[[Any], Measure] | None" = None

    @property
    def closed_form(self) -> bool:
        """Whether the mean and SD of its null are known without draws."""
        return self.moments is not None
