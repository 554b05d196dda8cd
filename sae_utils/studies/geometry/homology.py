"""Persistent homology of points: pieces and loops, and how alike two sets of points are in them.

In: rows of points. Out: diagrams (birth and death of every class), lifetimes, bottleneck distances. Distances are
Euclidean, divided by their mean, so that sets of points of any scale can be compared.
Never: a pairing of the points; a diagram does not know which point is which.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import pdist, squareform

from sae_utils import significance
from sae_utils.significance import Result

Floats = NDArray[np.float64]
PIECES, LOOPS, HOLLOWS = 0, 1, 2  # dimensions of homology
LEAST = 4  # points


def distances(rows: np.ndarray) -> Floats:
    """(n, n) distances in units of their mean.

    Raises ValueError for fewer than `LEAST` points, and where all of them are equal.
    """
    if len(rows) < LEAST:
        raise ValueError(f"{len(rows)} points have no shape: give {LEAST} or more")
    between = pdist(rows)
    if (scale := between.mean()) == 0:
        raise ValueError("all distances are 0: the rows are one point")
    return np.asarray(squareform(between / scale))


def diagrams(rows: np.ndarray, most: int = LOOPS) -> list[Floats]:
    """Birth and death of every class of dimension 0 to `most`, (classes, 2) each, by Ripser (U. Bauer 2021).

    The piece that never dies is left out.
    """
    from ripser import ripser  # these libraries take a second to load

    found = ripser(distances(rows), maxdim=most, distance_matrix=True)["dgms"]
    return [np.asarray(x[np.isfinite(x[:, 1])], np.float64) for x in found]


def lifetimes(diagram: Floats) -> Floats:
    """(classes,) death less birth, the longest first."""
    return np.sort(diagram[:, 1] - diagram[:, 0])[::-1]


def longest(rows: np.ndarray, count: int, dimension: int = LOOPS) -> Floats:
    """(count,) the longest lifetimes of a dimension, 0 where there are fewer classes."""
    found = lifetimes(diagrams(rows, max(dimension, LOOPS))[dimension])[:count]
    return np.pad(found, (0, count - len(found)))


def bottleneck(one: Floats, two: Floats) -> float:
    """How far classes of one diagram must move at least to be those of the other; 0 if both are empty."""
    from persim import bottleneck as distance

    if not len(one) and not len(two):
        return 0.0
    empty = np.zeros((1, 2))  # a class on the diagonal, which persim asks for in place of none
    return float(distance(one if len(one) else empty, two if len(two) else empty))


def alike_in_covariance(rows: np.ndarray, rng: np.random.Generator) -> Floats:
    """As many Gaussian points with the mean and covariance of the rows: no shape beyond its axes."""
    centre = rows - rows.mean(axis=0)
    return np.asarray(rng.normal(size=(len(rows), len(rows))) @ centre / np.sqrt(len(rows) - 1))


def shape(rows: np.ndarray, m: int, seed: int) -> dict[str, Result]:
    """The longest loop, the second, and the widest gap between pieces, against Gaussian points of equal covariance."""
    rng = np.random.default_rng(seed)
    observed, drawn = _sizes(rows), np.array([_sizes(alike_in_covariance(rows, rng)) for _ in range(m)])
    return {
        name: significance.summarise(value, drawn[:, i], measure=name, null="Gaussian points", n=len(rows))
        for i, (name, value) in enumerate(zip(SIZES, observed, strict=True))
    }


SIZES = ("longest loop", "second loop", "gap")


def _sizes(rows: np.ndarray) -> tuple[float, float, float]:
    pieces, loops = (np.pad(lifetimes(x), (0, 2))[:2] for x in diagrams(rows))
    return float(loops[0]), float(loops[1]), float(pieces[0] - pieces[1])


class Distance(NamedTuple):
    """The bottleneck distance of some features of A and their partners."""

    n: int
    observed: float
    null: float  # mean over shuffled pairings: as many partners of other features
    excess: float  # share of the null by which the observed is smaller; 1 for equal diagrams


def across(a: np.ndarray, b: np.ndarray, chosen: NDArray[np.int64], m: int, seed: int) -> dict[int, Distance]:
    """By dimension, diagrams of the rows `chosen` of A against those of their partners.

    Row i of `b` is the partner of row i of `a`. A shuffled pairing gives the chosen features of A the partners of
    others; `m` draws.
    """
    rng, own = np.random.default_rng(seed), diagrams(a[chosen])

    def between(rows: np.ndarray) -> list[float]:
        return [bottleneck(*pair) for pair in zip(own, diagrams(rows), strict=True)]

    observed = between(b[chosen])
    null = np.mean([between(b[rng.choice(len(b), len(chosen), replace=False)]) for _ in range(m)], axis=0)
    return {
        dimension: Distance(len(chosen), observed[dimension], float(x), 1 - observed[dimension] / x if x else np.nan)
        for dimension, x in enumerate(null)
    }
