"""The registry of measures of similarity: every score of paired rows by name, with what it needs and what it can do.

In: paired rows `a` (n, d_a) and `b` (n, d_b), one feature pair a row; the dimensions may differ. Out: scores, larger
for more alike (`imd` alone is a distance), and for each measure a `Measure`, which all other modules use. This module
draws no nulls: a score means little without its null, and every score depends on n.

A measure is added by its function and its entry in `MEASURES` of a module of `engine.geometry`.
"""

import warnings
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sae_utils import arrays
from sae_utils.engine.geometry import linear, neighbours, relational
from sae_utils.engine.geometry.neighbours import imd
from sae_utils.engine.geometry.registry import FEWEST, NEIGHBOURS, Family, Floats, Measure, Undefined
from sae_utils.engine.geometry.relational import Comparison, Dissimilarity, dissimilarities, mantel, partial_rsa

__all__ = [
    "NAMES", "NEIGHBOURS", "Canonical", "Family", "Measure", "Undefined", "caution", "cca", "chosen", "cka",
    "dissimilarities", "imd", "jaccard_knn", "mantel", "measure", "mutual_knn", "of_subsets", "paired",
    "partial_rsa", "procrustes", "pwcca", "rsa", "score", "second_order_cosine", "svcca",
]  # fmt: skip

_NUMBERS = 1 << 22  # of one batch of n x n matrices
_REGISTRY = {what.name: what for module in (linear, relational, neighbours) for what in module.MEASURES}
NAMES: tuple[str, ...] = tuple(_REGISTRY)


def measure(name: str, **option: Any) -> Measure:
    """The measure called `name`, one of `NAMES`, with its option: `measure("svcca", variance=0.95)`, `k=5` for kNN.

    The option may be part of the name, as in a `Measure`: "svcca_0.95", "mutual_knn_5". Raises ValueError for an
    unknown name, and for options that a measure does not have.
    """
    base, _, number = name.rpartition("_")
    found = _REGISTRY.get(name)
    if found and not option:
        return found
    if found and found.variant and set(option) == ({"k"} if found.neighbours else {"variance"}):
        return found.variant(*option.values())
    if not option and (found := _REGISTRY.get(base)) and found.variant and number.replace(".", "", 1).isdigit():
        return found.variant(int(number) if found.neighbours and number.isdigit() else float(number))
    options = f" with {', '.join(option)}" if option else ""
    raise ValueError(f"unknown measure {name!r}{options}: known are {', '.join(NAMES)}")


def chosen(names: Iterable[str], neighbours: int = NEIGHBOURS) -> dict[str, Measure]:
    """Measures by name; local ones use `neighbours`, unless the name contains a number."""
    found = {name: measure(name) for name in names}
    return {
        name: measure(name, k=neighbours) if what.neighbours and name in NAMES else what for name, what in found.items()
    }


# --- scores


def paired(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both sides (n, d_a), (n, d_b) as `arrays.rows`, in their own precision, which decides ranks.

    Raises ValueError for unequal lengths, fewer than 3 rows, and as `arrays.rows`.
    """
    a, b = arrays.rows(a, "side a", FEWEST), arrays.rows(b, "side b", FEWEST)
    if len(a) != len(b):
        raise ValueError(f"side a has {len(a)} rows and side b has {len(b)}: row t of both must be one pair")
    return a, b


def score(a: np.ndarray, b: np.ndarray, what: str | Measure) -> float:
    """Score of paired rows `a` (n, d_a), `b` (n, d_b) by one measure or its name, in float64.

    Warns where n is too small for the components of a canonical correlation. Raises ValueError for rows that have no
    such score, and as `paired`.
    """
    return _scored(a, b, what)[0]


def _scored(a: np.ndarray, b: np.ndarray, what: str | Measure) -> tuple[float, tuple[int, ...]]:
    what = measure(what) if isinstance(what, str) else what
    a, b = paired(a, b)
    if len(a) < what.least:
        raise ValueError(f"n = {len(a)} pairs: {what.name} needs at least {what.least}")
    sides = what.family.side(a), what.family.side(b)
    if note := caution(what, *sides, len(a)):
        warnings.warn(f"{what.name}: {note}", stacklevel=4)
    return _of_sides(what, *sides, len(a)), what.k(*sides)


def _of_sides(what: Measure, a: Any, b: Any, n: int) -> float:
    identity = np.arange(n)[None]
    return float(what.score(a, b, what.family.cross(a, b, identity), identity)[0])


def caution(what: Measure, side_a: Any, side_b: Any, n: int) -> str:
    """A caveat for a canonical correlation at this n; empty if there is none."""
    k = what.k(side_a, side_b)
    if what.family is not linear.LINEAR or len(k) < 2 or sum(k) < n:
        return ""
    return (
        f"n = {n} rows for k = {k[0]} + {k[1]} components: {sum(k) - n + 1} canonical correlations are 1 whatever the "
        "rows hold; take more pairs or fewer components"
    )


def of_subsets(
    rows_a: np.ndarray, rows_b: np.ndarray, a: np.ndarray, b: np.ndarray, names: Sequence[str], *,
    neighbours: int = NEIGHBOURS,
) -> dict[str, Floats]:  # fmt: skip
    """Scores (m,) by name of m sets of n pairs: feature a[s, i] of side a with b[s, i] of side b.

    `rows_a` (features_a, d_a) and `rows_b` (features_b, d_b): decoder rows. `a`, `b` (m, n), or `a` (1, n) where it is
    the same in every set; features may repeat. A set without such a score gives NaN. `neighbours`: as in `chosen`.
    Raises ValueError for an unknown measure, fewer pairs than one needs, or rows and features as `arrays` refuses them.
    """
    rows_a, rows_b = arrays.rows(rows_a, "rows_a"), arrays.rows(rows_b, "rows_b")
    a, b = (_features(index, len(rows), side) for index, rows, side in ((a, rows_a, "a"), (b, rows_b, "b")))
    found = {}
    for name, what in chosen(names, neighbours).items():
        if a.shape[1] < what.least:
            raise ValueError(f"n = {a.shape[1]} pairs: {what.name} needs at least {what.least}")
        found[name] = (_in_batches if what.batched else _one_by_one)(rows_a, rows_b, a, b, what)
    return found


def _features(index: np.ndarray, n: int, name: str) -> NDArray[np.int64]:
    """Features (m, n) of the sets, checked. Raises ValueError for other numbers, shapes, and features outside."""
    found = arrays.numbers(index, name, 2)
    return arrays.positions(found.ravel(), n, name, "feature").reshape(found.shape)


def _in_batches(
    rows_a: np.ndarray, rows_b: np.ndarray, a: NDArray[np.int64], b: NDArray[np.int64], what: Measure
) -> Floats:
    assert what.batched
    prepare, side, compare = what.batched
    size = max(1, _NUMBERS // a.shape[1] ** 2)
    (used_a, at_a), (used_b, at_b) = (np.unique(index, return_inverse=True) for index in (a, b))
    matrix_a, matrix_b = prepare(rows_a[used_a]), prepare(rows_b[used_b])
    at_a, at_b = at_a.reshape(a.shape), at_b.reshape(b.shape)

    def sides(matrix: np.ndarray, at: np.ndarray) -> Floats:
        return side(matrix[at[:, :, None], at[:, None, :]], what.neighbours)  # of (m, n, n)

    fixed = sides(matrix_a, at_a) if len(a) == 1 else None
    parts = []
    for start in range(0, len(b), size):
        one = sides(matrix_a, at_a[start : start + size]) if fixed is None else fixed
        parts.append(compare(one, sides(matrix_b, at_b[start : start + size])))
    return np.concatenate(parts)


def _one_by_one(
    rows_a: np.ndarray, rows_b: np.ndarray, a: NDArray[np.int64], b: NDArray[np.int64], what: Measure
) -> Floats:
    def side(rows: np.ndarray) -> Any:
        try:
            return what.family.side(rows)
        except Undefined:
            return None

    fixed = side(rows_a[a[0]])
    found = np.full(len(b), np.nan)
    for s, partners in enumerate(b):
        one, other = fixed if len(a) == 1 else side(rows_a[a[s]]), side(rows_b[partners])
        if one is not None and other is not None:
            found[s] = _of_sides(what, one, other, a.shape[1])
    return found


# --- the measures as functions


class Canonical(NamedTuple):
    """`score` in [0, 1]; `k_a`, `k_b`: components in use of either side."""

    score: float
    k_a: int
    k_b: int


def _canonical(a: np.ndarray, b: np.ndarray, what: str | Measure) -> Canonical:
    found, (k_a, k_b) = _scored(a, b, what)
    return Canonical(found, k_a, k_b)


def svcca(
    a: np.ndarray, b: np.ndarray, *, variance: float = 0.99, estimator: Literal["svcca", "first_component"] = "svcca"
) -> Canonical:
    """Singular vector canonical correlation analysis: mean of the min(k_a, k_b) canonical correlations.

    k_a, k_b: principal components that hold `variance` of either side. `estimator="first_component"` is what arXiv
    2410.06981 reported under this name; its null mean is about sqrt(2 / (pi n)).
    Some correlations are 1 for any rows once k_a + k_b >= n (a warning says so), and the score is inflated well before;
    compare it with its null. Unchanged by rotation, one scale and translation of either side. O(n d min(n, d)).
    """
    if estimator not in ("svcca", "first_component"):
        raise ValueError(f"unknown estimator {estimator!r}: known are 'svcca', 'first_component'")
    return _canonical(a, b, measure("svcca", variance=variance) if estimator == "svcca" else "svcca_first_component")


def cca(a: np.ndarray, b: np.ndarray, *, squared: bool = False) -> Canonical:
    """Mean canonical correlation, or mean squared one, over min(rank_a, rank_b).

    Over shuffled pairings the mean square has mean max(k_a, k_b) / (n - 1). Unchanged by every invertible linear map
    and translation of either side, hence blind to how strong a direction is. O(n d min(n, d)).
    """
    return _canonical(a, b, "cca_squared" if squared else "cca")


def pwcca(a: np.ndarray, b: np.ndarray) -> Canonical:
    """Projection-weighted CCA, not symmetric: canonical correlations weighted by what they carry of side a.

    Unchanged by one scale and translation of either side and by every invertible linear map of b; a rotation of a
    changes the weights. O(n d min(n, d)).
    """
    return _canonical(a, b, "pwcca")


def cka(a: np.ndarray, b: np.ndarray, *, debiased: bool = False) -> float:
    """Linear centred kernel alignment, in [0, 1]; over shuffled pairings its mean is not 0.

    `debiased`: from unbiased estimates of HSIC; mean 0 over shuffles, at most 1, needs n >= 4.
    Unchanged by rotation, one scale and translation of either side. O(n d min(n, d)), no (n, n) matrix.
    """
    return score(a, b, "cka_debiased" if debiased else "cka")


def procrustes(a: np.ndarray, b: np.ndarray, *, half: bool = False) -> float:
    """Alignment after the best rotation, in [0, 1]; 1 - alignment^2 is what scipy calls disparity.

    `half`: on pairs that the rotation was not fitted on; without it unrelated rows of many dimensions reach .5.
    Unchanged by rotation, one scale and translation of either side. O(n d min(n, d)).
    """
    return score(a, b, "procrustes_half" if half else "procrustes")


def rsa(
    a: np.ndarray, b: np.ndarray, *, dissimilarity: Dissimilarity = "pearson", comparison: Comparison = "pearson"
) -> float:
    """Representational similarity analysis, in [-1, 1]: correlation of pairwise dissimilarities; mean 0 over shuffles.

    `comparison`: Pearson, or Spearman with mean ranks for ties. Cosine is unchanged by rotation and by a scale of
    every row, Euclidean by rotation, translation and one scale, Pearson by shift and scale within every row.
    Pearson or cosine compared by Pearson: O(n d_a d_b), no (n, n) matrix; the others O(n^2 d) and one such matrix a
    side. Raises ValueError for rows without direction (constant for Pearson, zero for cosine).
    """
    return score(a, b, f"rsa_{comparison}" if dissimilarity == "pearson" else f"rsa_{dissimilarity}_{comparison}")


def mutual_knn(a: np.ndarray, b: np.ndarray, *, k: int = NEIGHBOURS) -> float:
    """Mean share of a row's k nearest neighbours in `a` that are also its nearest in `b`, by cosine, in [0, 1].

    Its mean over shuffled pairings is k / (n - 1). A row is never its own neighbour; tied last places (equal rows) are
    shared, so that a score with itself is below 1 where there are ties. Unchanged by rotation and by a scale of every
    row. O(n^2 d). Raises ValueError unless 1 <= k < n.
    """
    return score(a, b, measure("mutual_knn", k=k))


def jaccard_knn(a: np.ndarray, b: np.ndarray, *, k: int = NEIGHBOURS) -> float:
    """Mean over rows of intersection over union of their k nearest neighbours, in [0, 1]; otherwise as `mutual_knn`."""
    return score(a, b, measure("jaccard_knn", k=k))


def second_order_cosine(a: np.ndarray, b: np.ndarray, *, k: int = NEIGHBOURS) -> float:
    """Mean cosine, over rows, of their cosines to the k nearest neighbours of both sides, in [-1, 1].

    Unchanged by rotation and by a scale of every row. O(n^2 d), one (n, n) matrix a side. Raises ValueError unless
    1 <= k < n.
    """
    return score(a, b, measure("second_order_cosine", k=k))
