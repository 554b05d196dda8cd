"""How alike two sets of paired rows are: the front door to every measure.

In: paired rows `a` (n, d_a) and `b` (n, d_b), one feature pair a row; the dimensions may differ. Out: scores, larger
for more alike (`imd` alone is a distance). This module draws no nulls: a score says little before it is held against
one, and no score is free of n.

Global measures see the whole arrangement: SVCCA, CCA, PWCCA, CKA, RSA, Procrustes. Local ones see near neighbours:
mutual and Jaccard kNN, second-order cosine. IMD compares two sets of rows without a pairing.
"""

import warnings
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch

from sae_utils import arrays, measures
from sae_utils.engine.geometry import neighbours, relational
from sae_utils.engine.geometry.relational import Comparison, Dissimilarity, dissimilarities
from sae_utils.measures import NAMES, NEIGHBOURS, Measure, measure

__all__ = [
    "NAMES",
    "SVCCA",
    "Measure",
    "Procrustes",
    "cca",
    "cka",
    "dissimilarities",
    "imd",
    "jaccard_knn",
    "mantel",
    "measure",
    "mutual_knn",
    "paired",
    "partial_rsa",
    "procrustes",
    "pwcca",
    "rsa",
    "score",
    "second_order_cosine",
    "svcca",
]


FEWEST = 3  # rows that every measure needs


class SVCCA(NamedTuple):
    """`score` in [0, 1]; `k_a`, `k_b`: components in use of either side."""

    score: float
    k_a: int
    k_b: int


class Procrustes(NamedTuple):
    """`alignment` in [0, 1], 1 for rotated copies; `disparity` = 1 - alignment^2, the squares left after the fit."""

    alignment: float
    disparity: float


def paired(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both sides (n, d_a), (n, d_b) as `arrays.rows`, in the precision that came, by which ranks are judged.

    Raises ValueError on unequal lengths, fewer than 3 rows, and as `arrays.rows`.
    """
    a, b = arrays.rows(a, "side a", FEWEST), arrays.rows(b, "side b", FEWEST)
    if len(a) != len(b):
        raise ValueError(f"side a has {len(a)} rows and side b has {len(b)}: row t of both must be one pair")
    return a, b


def score(a: np.ndarray, b: np.ndarray, what: str | Measure) -> float:
    """Score of paired rows `a` (n, d_a), `b` (n, d_b) by one measure or its name, in float64.

    Warns where n is too small for the components of a canonical correlation.
    """
    return _scored(a, b, measure(what) if isinstance(what, str) else what)[0]


def _scored(a: np.ndarray, b: np.ndarray, what: Measure) -> tuple[float, tuple[int, ...]]:
    a, b = paired(a, b)
    if len(a) < what.least:
        raise ValueError(f"n = {len(a)} pairs: {what.name} needs at least {what.least}")
    sides = what.family.side(a), what.family.side(b)
    if told := measures.caution(what, *sides, len(a)):
        warnings.warn(f"{what.name}: {told}", stacklevel=4)
    identity = torch.arange(len(a))[None]
    found = what.score(*sides, what.family.cross(*sides, identity), identity)
    return float(found[0]), what.k(*sides)


def svcca(
    a: np.ndarray,
    b: np.ndarray,
    *,
    variance: float = 0.99,
    estimator: Literal["svcca", "first_component"] = "svcca",
) -> SVCCA:
    """Singular vector canonical correlation analysis (Raghu et al. 2017, arXiv 1706.05806). Global.

    Centre the columns, keep the principal components that hold `variance` of either side, and average the
    min(k_a, k_b) canonical correlations of what is left: the singular values of `U_a^T U_b`.
    `estimator="first_component"` is what arXiv 2410.06981 reported under this name: |Pearson r| of the two first
    principal components (its null mean is about sqrt(2 / (pi n))).

    Range [0, 1]; some correlations are 1 for any rows once k_a + k_b >= n (a warning says so), and the score is
    inflated well before: read it beside its null. Unchanged by rotation, one scale and translation of either side.
    O(n d min(n, d)).
    """
    if estimator not in ("svcca", "first_component"):
        raise ValueError(f"unknown estimator {estimator!r}: known are 'svcca', 'first_component'")
    what = measure("svcca", variance=variance) if estimator == "svcca" else measure("svcca_first_component")
    found, (k_a, k_b) = _scored(a, b, what)
    return SVCCA(found, k_a, k_b)


def cca(a: np.ndarray, b: np.ndarray, *, squared: bool = False) -> SVCCA:
    """Mean canonical correlation, or mean squared one (Hotelling 1936; Kornblith et al. 2019). Global.

    Mean over min(rank_a, rank_b) of the singular values of `U_a^T U_b`, or of their squares. Range [0, 1]; over
    shuffled pairings the mean square has mean max(k_a, k_b) / (n - 1). Unchanged by every invertible linear map and
    translation of either side, hence blind to how strong a direction is. O(n d min(n, d)).
    """
    found, (k_a, k_b) = _scored(a, b, measure("cca_squared" if squared else "cca"))
    return SVCCA(found, k_a, k_b)


def pwcca(a: np.ndarray, b: np.ndarray) -> SVCCA:
    """Projection-weighted CCA (Morcos, Raghu & Bengio 2018, arXiv 1806.05759). Global, not symmetric.

    `sum_i w_i rho_i / sum_i w_i` with `w_i = sum_j |<h_i, x_j>|`: rho_i the canonical correlations, h_i the canonical
    variates of a, x_j the centred columns of a. Range [0, 1]. Unchanged by one scale and translation of either side
    and by every invertible linear map of b; a rotation of a changes the weights. O(n d min(n, d)).
    """
    found, (k_a, k_b) = _scored(a, b, measure("pwcca"))
    return SVCCA(found, k_a, k_b)


def cka(a: np.ndarray, b: np.ndarray, *, debiased: bool = False) -> float:
    """Linear centred kernel alignment, biased (Kornblith et al. 2019, arXiv 1905.00414; the RV coefficient). Global.

    With centred columns `|A^T B|^2 / (|A^T A| |B^T B|)`, in [0, 1]; over shuffled pairings its mean is
    tr(AA^T) tr(BB^T) / ((n - 1) |A^T A| |B^T B|), not 0. `debiased`: the unbiased estimates of HSIC of Song et al. 2012
    (JMLR 13) in place of the three inner products; mean 0 over shuffles, at most 1, needs n >= 4.
    Unchanged by rotation, one scale and translation of either side. O(n d min(n, d)), no (n, n) matrix.
    """
    return score(a, b, "cka_debiased" if debiased else "cka")


def procrustes(a: np.ndarray, b: np.ndarray, *, half: bool = False) -> Procrustes:
    """Orthogonal Procrustes (Schoenemann 1966; Williams et al. 2021, arXiv 2110.14739). Global.

    Centre both sides, scale them to norm 1, rotate a onto b: the alignment is the nuclear norm of `A^T B`; missing
    dimensions count as 0. `half`: fit the rotation on half of the rows (`linear.halves_cross` says which) and take the
    cosine of both sides on the other, both ways averaged; range [-1, 1], mean about 0 for unrelated rows, needs n >= 6.
    Unchanged by rotation, one scale and translation of either side. O(n d min(n, d) + d^3).
    """
    found = score(a, b, "procrustes_half" if half else "procrustes")
    return Procrustes(found, 1 - found**2)


def rsa(
    a: np.ndarray,
    b: np.ndarray,
    *,
    dissimilarity: Dissimilarity = "pearson",
    comparison: Comparison = "pearson",
) -> float:
    """Representational similarity analysis (Kriegeskorte et al. 2008, doi:10.3389/neuro.06.004.2008). Global.

    Correlation, over all n (n - 1) / 2 pairs of rows, of their dissimilarities in `a` and in `b`.
    `dissimilarity`: 1 - Pearson within rows, 1 - cosine, or Euclidean. `comparison`: Pearson, or Spearman with mean
    ranks for ties. Range [-1, 1]; mean 0 over shuffled pairings. Cosine is unchanged by rotation and by a scale of
    every row, Euclidean by rotation, translation and one scale, Pearson by shift and scale within every row: a
    rotation changes it. Pearson or cosine compared by Pearson: O(n d_a d_b), no (n, n) matrix; the others O(n^2 d) and
    one such matrix a side. Raises ValueError on rows without direction (constant for Pearson, zero for cosine).
    """
    name = f"rsa_{comparison}" if dissimilarity == "pearson" else f"rsa_{dissimilarity}_{comparison}"
    return score(a, b, name)


def mantel(x: np.ndarray, y: np.ndarray, *, comparison: Comparison = "pearson") -> float:
    """Correlation of the off-diagonal entries of two symmetric dissimilarity matrices (n, n); Mantel 1967. Global.

    Range [-1, 1]; unchanged by one scale and shift of either matrix, for Spearman by any increasing map. O(n^2 log n).
    """
    return float(_correlations([x, y], comparison)[0, 1])


def partial_rsa(
    x: np.ndarray, y: np.ndarray, controls: Sequence[np.ndarray], *, comparison: Comparison = "pearson"
) -> float:
    """Correlation of two dissimilarity matrices (n, n) that no linear use of `controls` (n, n) explains. Global.

    Partial correlation from the inverse of the correlation matrix, of ranks for Spearman. Range [-1, 1]. An effect
    size: permutations break the controls' own ties to either side, so that no p is offered (Guillot & Rousset 2013).
    Raises ValueError where a control holds all of a side.
    """
    r = _correlations([x, y, *controls], comparison)
    if np.linalg.eigvalsh(r)[0] < 1e-10:
        raise ValueError(f"x, y and the {len(controls)} controls are linearly dependent: drop a control")
    precision = np.linalg.inv(r)
    return float(-precision[0, 1] / np.sqrt(precision[0, 0] * precision[1, 1]))


def _correlations(matrices: Sequence[np.ndarray], comparison: Comparison) -> np.ndarray:
    """Correlations (count, count) of the off-diagonal entries."""
    matrices = [arrays.rows(m, f"dissimilarity matrix {number}") for number, m in enumerate(matrices, 1)]
    shapes = {m.shape for m in matrices}
    n = len(matrices[0])
    if shapes != {(n, n)} or n < 3:
        raise ValueError(f"dissimilarity matrices of shapes {sorted(shapes)}: give square ones, all of one n >= 3")
    for matrix in matrices:
        if not np.allclose(matrix, matrix.T, atol=1e-8 * np.abs(matrix).max()):
            raise ValueError("a dissimilarity matrix is not symmetric")
    matrices = [np.ldexp(m, -arrays.exponent(m)) for m in matrices]  # their squares fit
    flat = np.stack([relational.relation(m, comparison).matrix.numpy().ravel() for m in matrices])
    return flat @ flat.T


def mutual_knn(a: np.ndarray, b: np.ndarray, *, k: int = NEIGHBOURS) -> float:
    """Mean share of a row's k nearest neighbours in `a` that are also its nearest in `b`, by cosine. Local.

    `sum_i |N_a(i) & N_b(i)| / (n k)` (Huh et al. 2024, arXiv 2405.07987). Range [0, 1], mean k / (n - 1)
    over shuffled pairings. A row is never its own neighbour; tied last places (equal rows) are shared, so that a
    score with itself is below 1 where there are ties. Unchanged by rotation and by a scale of every row. O(n^2 d).
    Raises ValueError unless 1 <= k < n.
    """
    return score(a, b, measure("mutual_knn", k=k))


def jaccard_knn(a: np.ndarray, b: np.ndarray, *, k: int = NEIGHBOURS) -> float:
    """Mean over rows of `|N_a & N_b| / |N_a or N_b|` of their k nearest neighbours by cosine. Local.

    Range [0, 1] (Klabunde et al. 2023, arXiv 2305.06329); shared places count by least and largest share.
    Unchanged by rotation and by a scale of every row. O(n^2 d). Raises ValueError unless 1 <= k < n.
    """
    return score(a, b, measure("jaccard_knn", k=k))


def second_order_cosine(a: np.ndarray, b: np.ndarray, *, k: int = NEIGHBOURS) -> float:
    """Mean cosine, over rows, of their cosines to all neighbours on either side (Hamilton et al. 2016). Local.

    With J the union of a row's k nearest in `a` and in `b`, the cosine of `(cos_a(i, j))_J` and `(cos_b(i, j))_J`
    (arXiv 1606.02821). Range [-1, 1]. Unchanged by rotation and by a scale of every row. O(n^2 d), one
    (n, n) matrix a side. Raises ValueError unless 1 <= k < n.
    """
    return score(a, b, measure("second_order_cosine", k=k))


def imd(a: np.ndarray, b: np.ndarray, *, k: int = 5) -> float:
    """Intrinsic multi-scale distance of two sets of rows, which need no pairing (Tsitsulin et al. 2020).

    `max_t exp(-2 (t + 1/t)) |h_a(t) - h_b(t)|` over 256 t from 0.1 to 10, with h the mean of exp(-t lambda) over the
    eigenvalues of the normalised Laplacian of the symmetric k nearest neighbour graph (arXiv 1905.11141; exact
    eigenvalues, neighbours by cosine). 0 for alike; unchanged by rotation, by a scale of every row, and by the order
    of rows, so that only random rows make a baseline. `a` (n_a, d_a), `b` (n_b, d_b). O(n^3).
    """
    times = np.logspace(-1, 1, 256)
    sides = arrays.rows(a, "side a", FEWEST), arrays.rows(b, "side b", FEWEST)
    one, other = (neighbours.heat_trace(rows, k, times) for rows in sides)
    return float((np.exp(-2 * (times + 1 / times)) * np.abs(one - other)).max())
