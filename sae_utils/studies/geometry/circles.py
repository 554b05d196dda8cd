"""Circularity: do ordered items lie on a circle, in the order of their calendar?

In: vectors of items, one a row, in calendar order. Out: how well their angles agree with the calendar in the best
plane, and how much of their variance a circle explains; both against draws that repeat the whole search.
Never: a plane that is chosen once and kept for the draws.

**Agreement.** In every plane of two of the first principal components, the angles of the items are ranked around the
circle. The circular rank correlation (Mardia 1975) is the length of the mean of exp(i (rank - calendar)), in whichever
direction is longer: 1 where the angles have the order of the calendar. The best plane counts.
**Variance.** The share of the items' variance that the best circle in calendar order explains: a turn and a scale of
(cos, sin), in any plane of the whole space, in closed form by Procrustes.
"""

from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sae_utils import nulls, significance
from sae_utils.significance import Result

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
COMPONENTS = 6  # principal components of which any two make a plane
AGREEMENT, VARIANCE = "agreement", "variance"
STATISTICS = (AGREEMENT, VARIANCE)
FEWEST = 5  # items; four have three orders around a circle, so that chance is often right


class Plane(NamedTuple):
    """The plane in which the angles of items agree best with the calendar."""

    agreement: float
    components: tuple[int, int]  # numbers of the principal components, from 0
    points: NDArray[np.complex128]  # (n,) places of the items, as complex numbers


def calendar(n: int) -> NDArray[np.complex128]:
    """(n,) points of the unit circle, evenly once around."""
    return np.exp(2j * np.pi * np.arange(n) / n)


def centred(vectors: np.ndarray, index: Ints) -> Floats:
    """(m, n, n) inner products of the vectors at each row of `index` (m, n), less their mean.

    Agreement and variance follow from these alone, so that many draws cost little.
    """
    products = vectors.astype(np.float64) @ vectors.T
    chosen = products[index[:, :, None], index[:, None, :]]
    mean = chosen.mean(axis=1, keepdims=True)
    return np.asarray(chosen - mean - mean.transpose(0, 2, 1) + mean.mean(axis=2, keepdims=True))


def planes(products: Floats, components: int = COMPONENTS) -> tuple[list[tuple[int, int]], NDArray[np.complex128]]:
    """All planes of two principal components, and the places of the items in each: (m, planes, n) complex.

    `products` (m, n, n) as of `centred`.
    """
    values, vectors = np.linalg.eigh(products)
    count = min(components, products.shape[1] - 1)
    scores = vectors[..., ::-1][..., :count] * np.sqrt(np.maximum(values[:, None, ::-1][..., :count], 0))
    pairs = list(combinations(range(count), 2))
    return pairs, np.stack([scores[..., i] + 1j * scores[..., j] for i, j in pairs], axis=1)


def rank_correlation(points: NDArray[np.complex128], order: NDArray[np.complex128]) -> Floats:
    """(...,) circular rank correlation of the angles of `points` (..., n) with `order` (n,), points of the unit circle.

    Source: K. V. Mardia, Statistics of directional data, J. R. Stat. Soc. B 37 (1975).
    """
    n = points.shape[-1]
    ranks = np.angle(points).argsort(axis=-1, kind="stable").argsort(axis=-1, kind="stable")
    turned = calendar(n)[ranks]
    return np.maximum(np.abs((turned * order.conj()).mean(axis=-1)), np.abs((turned * order).mean(axis=-1)))


def explained(products: Floats) -> Floats:
    """(m,) share of the variance of the items that the best circle in calendar order explains."""
    n = products.shape[1]
    axes = np.stack([calendar(n).real, calendar(n).imag], axis=1)
    small = axes.T @ products @ axes  # (m, 2, 2); its roots are the singular values of the fit
    trace, determinant = np.trace(small, axis1=1, axis2=2), np.maximum(np.linalg.det(small), 0)
    total = np.maximum(np.trace(products, axis1=1, axis2=2), np.finfo(float).tiny)
    return np.asarray((trace + 2 * np.sqrt(determinant)) / (n * total))


def statistics(vectors: np.ndarray, index: Ints) -> dict[str, Floats]:
    """Agreement and variance (m,) of the vectors at each row of `index` (m, n), whose order is the calendar."""
    products = centred(vectors, index)
    _, points = planes(products)
    agreement = rank_correlation(points, calendar(index.shape[1])).max(axis=1)
    return {AGREEMENT: agreement, VARIANCE: explained(products)}


def best(vectors: np.ndarray) -> Plane:
    """The best plane of items (n, d) in calendar order.

    Raises ValueError for fewer than `FEWEST` items.
    """
    enough(len(vectors))
    pairs, points = planes(centred(vectors, np.arange(len(vectors))[None]))
    found = rank_correlation(points[0], calendar(len(vectors)))
    place = int(found.argmax())
    return Plane(float(found[place]), pairs[place], points[0, place])


def enough(n: int) -> None:
    """Refuse fewer items than have an order. Raises ValueError."""
    if n < FEWEST:
        raise ValueError(f"{n} items: an order around a circle needs {FEWEST} or more")


def against(vectors: np.ndarray, items: Ints, drawn: Ints, null: str) -> dict[str, Result]:
    """Agreement and variance of the vectors at `items` (n,), in calendar order, against those at each row of `drawn`.

    `drawn` (m, n): of `orders` or `subsets`; `null` names it. Raises ValueError for fewer than `FEWEST` items.
    """
    enough(len(items))
    observed, null_scores = statistics(vectors, items[None]), statistics(vectors, drawn)
    return {
        name: significance.summarise(
            float(observed[name][0]), null_scores[name], measure=name, null=null, n=len(items)
        )
        for name in STATISTICS
    }  # fmt: skip


def orders(items: Ints, m: int, rng: np.random.Generator, lists: np.ndarray | None = None) -> Ints:
    """(m, n) the items in random order; with labels `lists` (n,), every item keeps the place of one of its own list."""
    null = nulls.shuffled() if lists is None else nulls.strata(lists)
    return items[null.draw(rng, m, len(items))]


def subsets(pool: Ints, n: int, m: int, rng: np.random.Generator) -> Ints:
    """(m, n) random items of the `pool`, each draw without repetition and in random order.

    Raises ValueError for a pool of fewer than `n`.
    """
    if len(pool) < n:
        raise ValueError(f"a pool of {len(pool)} items for subsets of {n}: take a wider one")
    return np.stack([rng.choice(pool, n, replace=False) for _ in range(m)])
