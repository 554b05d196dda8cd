"""The measures by name: how each is computed, what it shares with others, and what is known of its null.

In: a name as written in params. Out: a `Measure`, which `similarity` scores and `significance` tests. A `Family` is the
work that several measures share and that a permutation leaves unchanged. Nothing here touches data.
"""

from collections.abc import Callable
from functools import cache, partial
from typing import Any, Literal, NamedTuple

import numpy as np
from torch import Tensor

from sae_utils.engine.geometry import linear, moments, neighbours, relational
from sae_utils.engine.geometry.linear import LinearSide
from sae_utils.engine.geometry.moments import Moments
from sae_utils.engine.geometry.neighbours import NeighbourSide
from sae_utils.engine.geometry.relational import Comparison, Dissimilarity, Relation, Unit

NEIGHBOURS = 10
_DENSE_UP_TO = 256  # rows; below, sparse bookkeeping costs more than it saves


class Family(NamedTuple):
    """Shared work: `side(rows)` once a side, `cross(side_a, side_b, permutations)` once a batch of pairings.

    `width(side)`: numbers a row that one pairing gathers, by which batches are sized.
    """

    side: Callable[[np.ndarray], Any]
    cross: Callable[[Any, Any, Tensor], Tensor]
    width: Callable[[Any], int]


class Measure(NamedTuple):
    """One score of paired rows.

    `name`: as in params and tables. `scope`: "global" (the whole arrangement) or "local" (near neighbours).
    `family`: the shared work. `score(side_a, side_b, cross, permutations)`: (batch,). `k(side_a, side_b)`: components
    or neighbours in use, () where there are none. `least`: rows that it needs.
    `moments(side_a, side_b)`: of its null over all pairings in closed form, None where unknown.
    """

    name: str
    scope: Literal["global", "local"]
    family: Family
    score: Callable[[Any, Any, Tensor, Tensor], Tensor]
    k: Callable[[Any, Any], tuple[int, ...]] = lambda a, b: ()
    least: int = 3
    moments: Callable[[Any, Any], Moments] | None = None


def _as_is(a: Any, b: Any, cross: Tensor, permutations: Tensor) -> Tensor:
    return cross


LINEAR = Family(linear.side, linear.cross, lambda s: s.basis.shape[1])
_HALVES = Family(linear.halves_side, linear.halves_cross, lambda s: 4 * s.rows.shape[1])


@cache
def _relational(dissimilarity: Dissimilarity, comparison: Comparison) -> Family:
    if comparison == "pearson" and dissimilarity != "euclidean":
        prepare = partial(relational.unit_side, dissimilarity=dissimilarity)
        return Family(prepare, relational.unit_scores, lambda s: s.rows.shape[1])

    def side(rows: np.ndarray) -> Relation:
        return relational.relation(relational.dissimilarities(rows, dissimilarity), comparison)

    return Family(side, relational.relation_scores, lambda s: len(s.matrix))


@cache
def _overlaps(k: int) -> Family:
    return Family(partial(neighbours.side, k=k), neighbours.overlap_cross, lambda s: s.near.shape[1] ** 2)


@cache
def _second_order(k: int) -> Family:
    prepare = partial(neighbours.side, k=k, keep_cosines=True)
    return Family(prepare, neighbours.second_order_cross, lambda s: s.near.shape[1] ** 2 + 8 * s.near.shape[1])


def _svcca(variance: float = 0.99) -> Measure:
    if not 0 < variance <= 1:
        raise ValueError(f"variance = {variance}: give the share of variance to keep, above 0 and at most 1")
    name = "svcca" if variance == 0.99 else f"svcca_{variance:g}"

    def k(a: LinearSide, b: LinearSide) -> tuple[int, ...]:
        return linear.components(a.spectrum, variance), linear.components(b.spectrum, variance)

    return Measure(name, "global", LINEAR, linear.svcca(variance), k)


def _ranks(a: LinearSide, b: LinearSide) -> tuple[int, ...]:
    return len(a.spectrum), len(b.spectrum)


def _linear(name: str, score: linear.Score, **known: Any) -> Measure:
    return Measure(name, "global", LINEAR, score, **known)


def _mean_square_moments(a: LinearSide, b: LinearSide) -> Moments:
    one, other = (moments.gram_sums(s.basis.numpy()) for s in (a, b))
    return moments.combined(one, other, len(a.basis), scale=1 / min(_ranks(a, b)))


def _cka_moments(a: LinearSide, b: LinearSide) -> Moments:
    def sums(s: LinearSide) -> moments.Sums:
        return moments.gram_sums((s.basis * s.spectrum / s.spectrum.square().norm().sqrt()).numpy())

    return moments.combined(sums(a), sums(b), len(a.basis))


def _rsa(dissimilarity: Dissimilarity = "pearson", comparison: Comparison = "pearson") -> Measure:
    name = f"rsa_{comparison}" if dissimilarity == "pearson" else f"rsa_{dissimilarity}_{comparison}"
    return Measure(name, "global", _relational(dissimilarity, comparison), _as_is, moments=_rsa_moments)


def _rsa_moments(a: Unit | Relation, b: Unit | Relation) -> Moments:
    def sums(side: Unit | Relation) -> moments.Sums:
        if isinstance(side, Unit):
            return moments.unit_sums(side.rows.numpy(), side.energy.numpy(), side.mean)
        return moments.matrix_sums(side.matrix.numpy())

    return moments.combined(sums(a), sums(b), len(a[0]))


def _neighbour(name: str, score: Any, family: Callable[[int], Family], k: int, **known: Any) -> Measure:
    full = name if k == NEIGHBOURS else f"{name}_{k}"
    return Measure(full, "local", family(k), score, lambda a, b: (a.k, b.k), **known)


def _overlap_moments(a: NeighbourSide, b: NeighbourSide) -> Moments:
    n = len(a.near)
    graphs = (neighbours.as_graph(s) for s in (a, b))
    one, other = (moments.matrix_sums(graph.toarray() if n <= _DENSE_UP_TO else graph) for graph in graphs)
    return moments.combined(one, other, n, directed=True, scale=1 / (n * a.k))


def _mutual_knn(k: int = NEIGHBOURS) -> Measure:
    return _neighbour("mutual_knn", neighbours.mutual, _overlaps, k, moments=_overlap_moments)


def _jaccard_knn(k: int = NEIGHBOURS) -> Measure:
    return _neighbour("jaccard_knn", neighbours.jaccard, _overlaps, k)


def _second_order_cosine(k: int = NEIGHBOURS) -> Measure:
    return _neighbour("second_order_cosine", _as_is, _second_order, k)


_MEASURES: dict[str, Callable[..., Measure]] = {
    "svcca": _svcca,
    "svcca_first_component": lambda: _linear("svcca_first_component", linear.first_component, k=lambda a, b: (1, 1)),
    "cca": lambda: _linear("cca", linear.mean_cca, k=_ranks),
    "cca_squared": lambda: _linear("cca_squared", linear.mean_square_cca, k=_ranks, moments=_mean_square_moments),
    "pwcca": lambda: _linear("pwcca", linear.pwcca, k=_ranks),
    "cka": lambda: _linear("cka", linear.cka, moments=_cka_moments),
    "cka_debiased": lambda: _linear("cka_debiased", linear.cka_debiased, least=4),
    "procrustes": lambda: _linear("procrustes", linear.procrustes),
    "procrustes_half": lambda: Measure("procrustes_half", "global", _HALVES, _as_is, least=6),
    "rsa_pearson": _rsa,
    "rsa_spearman": partial(_rsa, comparison="spearman"),
    "rsa_cosine_pearson": partial(_rsa, "cosine"),
    "rsa_cosine_spearman": partial(_rsa, "cosine", "spearman"),
    "rsa_euclidean_pearson": partial(_rsa, "euclidean"),
    "rsa_euclidean_spearman": partial(_rsa, "euclidean", "spearman"),
    "mutual_knn": _mutual_knn,
    "jaccard_knn": _jaccard_knn,
    "second_order_cosine": _second_order_cosine,
}
NAMES: tuple[str, ...] = tuple(_MEASURES)


def measure(name: str, **options: Any) -> Measure:
    """The measure called `name` (one of `NAMES`), with its options: `measure("svcca", variance=0.95)`, `k=5` for kNN.

    `rsa_pearson` and `rsa_spearman` compare Pearson dissimilarities; the others name both. Raises ValueError on an
    unknown name.
    """
    if name not in _MEASURES:
        raise ValueError(f"unknown measure {name!r}: known are {', '.join(NAMES)}")
    return _MEASURES[name](**options)


def caution(what: Measure, side_a: Any, side_b: Any, n: int) -> str:
    """What a reader must know of a canonical correlation at this n; empty where there is nothing."""
    k = what.k(side_a, side_b)
    if what.family is not LINEAR or len(k) < 2 or sum(k) < n:
        return ""
    return (
        f"n = {n} rows for k = {k[0]} + {k[1]} components: {sum(k) - n + 1} canonical correlations are 1 whatever the "
        "rows hold; take more pairs or fewer components"
    )
