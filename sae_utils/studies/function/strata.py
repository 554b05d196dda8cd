"""Are paired features alike beyond what they trivially share? Partners are exchanged among features alike in that.

In: similarities of all paired features of A with all paired features of B, labels of the pairs. Out: `Result`s of
shuffled partners, freely and within strata; partners of other pairs with an equal r.
Never: a choice of pairs; a p over replicates.

Shuffles within strata describe: a stratum is a rough label, and what it leaves within it is shared as well.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sae_utils import arrays, nulls
from sae_utils.engine.chance.results import Result, excess, summarise
from sae_utils.engine.geometry.registry import Floats
from sae_utils.nulls import Null

FREE = "any partner"


def shuffled(similar: np.ndarray, null: Null, *, m: int, seed: int) -> Result:
    """The mean similarity of the pairs against `m` pairings of a `null`, whose mean is exact where it is uniform.

    `similar` (n, n): of every feature of A with every partner, the own ones on its diagonal.
    """
    n = len(similar)
    drawn = null.draw(arrays.generator(seed), m, n)
    values = similar[np.arange(n), drawn].mean(axis=1)
    observed = float(np.trace(similar)) / n
    found = summarise(observed, values, measure="logits", null=null.name, n=n, movable=null.movable)
    if not null.uniform:
        return found
    mean = float(similar.mean(dtype=np.float64))
    return found._replace(null_mean=mean, excess=excess(observed, mean))


def tests(similar: np.ndarray, labels: Mapping[str, np.ndarray], *, m: int, seed: int) -> dict[str, Result]:
    """`shuffled` freely, and within the strata of each of the `labels`, name -> (n,)."""
    every = {FREE: nulls.shuffled()} | {name: nulls.strata(label) for name, label in labels.items()}
    return {name: shuffled(similar, null, m=m, seed=seed) for name, null in every.items()}


def bins(values: np.ndarray, number: int) -> NDArray[np.int64]:
    """(n,) the bin of every value: `number` bins of about equal size, equal values in one."""
    edges = np.quantile(values, np.arange(1, number) / number)
    return np.asarray(np.searchsorted(edges, values, side="right"))


def joined(*labels: np.ndarray) -> NDArray[np.int64]:
    """(n,) one label for each combination of labels."""
    return np.asarray(np.unique(np.column_stack(labels), axis=0, return_inverse=True)[1]).ravel()


class Crossed(NamedTuple):
    """Pairs against the partners of other pairs."""

    own: float  # mean similarity with the own partner, of the pairs that have such others
    other: float  # with the partners of these others
    movable: float  # share of the pairs that have any


def equal_r(similar: np.ndarray, r: np.ndarray, concept: np.ndarray, caliper: float) -> Crossed:
    """Every feature with the partners of pairs of another concept whose held-out r is equal within the caliper.

    `similar` (n, n), `r` (n,) and `concept` (n,) of the pairs. The others of a pair are averaged.
    """
    with np.errstate(invalid="ignore"):
        others = (np.abs(r[:, None] - r) <= caliper) & (concept[:, None] != concept)
    count = others.sum(axis=1)
    some = count > 0
    if not some.any():
        return Crossed(np.nan, np.nan, 0.0)
    mean = (similar * others).sum(axis=1)[some] / count[some]
    return Crossed(float(np.diag(similar)[some].mean()), float(mean.mean()), float(some.mean()))


def within(similar: Floats, group: np.ndarray) -> tuple[float, float]:
    """Mean similarity with the own partner, and with those of the others, of the pairs in a mask `group` (n,)."""
    part = similar[np.ix_(group, group)]
    n = len(part)
    if n < 2:
        return np.nan, np.nan
    own = float(np.trace(part))
    return own / n, (float(part.sum(dtype=np.float64)) - own) / (n * (n - 1))


def spread(unit: np.ndarray) -> float:
    """Mean similarity of all two of some features, whose rows (n, k) have norm 1; NaN of fewer than two."""
    n = len(unit)
    return (float((unit.sum(axis=0, dtype=np.float64) ** 2).sum()) - n) / (n * (n - 1)) if n > 1 else np.nan
