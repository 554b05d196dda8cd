"""Mean, variance and skew of a matrix correlation over all pairings, in closed form.

In: for either side, the sums of products of entries of its matrix over small graphs. Out: the moments of
`T = sum_ij A_ij B_{p_i p_j}` over uniform permutations p. RSA, kNN overlap, biased CKA and mean squared CCA are such T.

The r-th moment sorts the 2r indices by which of them are equal (a set partition): given the partition, a permutation
sends distinct indices to uniform distinct ones, so that the mean is `I_A I_B / (n (n-1) ... (n-v+1))`, with I the sum
over distinct indices, itself a Moebius sum of free ones (Mantel 1967; for Gram matrices Kazi-Aoual et al. 1995, Comput.
Stat. Data Anal. 20, 643). Free sums factor over connected components, of which few do not vanish. They are combined in
exact arithmetic, since large terms cancel. This module draws no permutations.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from functools import cache, lru_cache
from itertools import combinations, permutations
from typing import Any, NamedTuple

import numba
import numpy as np
from scipy.sparse import csr_array
from scipy.stats import norm, pearson3
from tqdm.auto import tqdm

Component = tuple[tuple[int, int], ...]  # arcs of a connected graph on vertices 0, 1, ..., in canonical form
Sums = Callable[[Component], float]
Terms = Sequence[tuple[tuple[Component, ...], int]]  # products of free sums, signed

LOOP, LOOP2, LOOP3 = ((0, 0),), ((0, 0),) * 2, ((0, 0),) * 3
EDGE2, EDGE3 = ((0, 1),) * 2, ((0, 1),) * 3
LOOP_EDGE2, LOOP_EDGE_LOOP = ((0, 0), (0, 1), (0, 1)), ((0, 0), (0, 1), (1, 1))
PATH, PENDANT, TRIANGLE = ((0, 1), (0, 2)), ((0, 1), (0, 1), (0, 2)), ((0, 1), (0, 2), (1, 2))
_DOUBLE_UP_TO = 2048  # rows
_BITS = 256  # after the point, of free sums as integers
STAR, LONG_PATH = ((0, 1), (0, 2), (0, 3)), ((0, 1), (0, 2), (1, 3))


class Moments(NamedTuple):
    """Of a score over all n! pairings: `mean`, `sd`, `skew` (nan where the score does not vary)."""

    mean: float
    sd: float
    skew: float


def combined(a: Sums, b: Sums, n: int, *, directed: bool = False, scale: float = 1.0) -> Moments:
    """Moments of `scale * T` over the permutations of n rows, from the free sums of either side.

    `directed`: the matrices are not symmetric. O(1) beside the sums.
    """
    known_a, known_b = _integers(a, directed), _integers(b, directed)
    first, second, third = (_raw_moment(known_a, known_b, n, order, directed) for order in (1, 2, 3))
    variance = second - first**2
    mean, factor = float(first) * scale, abs(scale)
    if variance <= Fraction(1, 10**14) * max(second, Fraction(1, 10**14)):
        return Moments(mean, 0.0, math.nan)
    skew = float(third - 3 * first * second + 2 * first**3) / float(variance) ** 1.5
    return Moments(mean, factor * math.sqrt(variance), math.copysign(1, scale) * skew)


def _integers(sums: Sums, directed: bool) -> Mapping[Component, int]:
    """The free sums that do not vanish, in units of 2^-_BITS."""
    found = {c: int(Fraction(float(sums(c))) * (1 << _BITS)) for c in _connected(directed)}
    return {c: value for c, value in found.items() if value}


def _raw_moment(a: Mapping[Component, int], b: Mapping[Component, int], n: int, order: int, directed: bool) -> Fraction:
    def distinct(known: Mapping[Component, int], terms: Terms) -> int:
        """Sum over distinct indices, in units of 2^(-_BITS order)."""
        total = 0
        for components, product in terms:
            for c in components:
                product *= known[c]
            total += product << _BITS * (order - len(components))
        return total

    total, most = 0, min(n, 2 * order)  # vertices that a pattern has at most: over their arrangements all is summed
    plans = (_plan_of(order, directed, frozenset(known)) for known in (a, b))
    for (count, vertices, terms_a), (_, _, terms_b) in zip(*plans, strict=True):
        if vertices <= n and terms_a and terms_b:
            total += count * distinct(a, terms_a) * distinct(b, terms_b) * math.perm(n - vertices, most - vertices)
    return Fraction(total, math.perm(n, most) << 2 * _BITS * order)


@lru_cache(maxsize=64)
def _plan_of(order: int, directed: bool, present: frozenset[Component]) -> Sequence[tuple[int, int, Terms]]:
    """The plan for a matrix of whose free sums only those `present` do not vanish: for most matrices they are few."""
    return [
        (count, vertices, [(components, sign) for components, sign in terms.items() if present.issuperset(components)])
        for count, vertices, terms in _plan(order, directed)
    ]


@cache
def _connected(directed: bool) -> Sequence[Component]:
    """All components that the plans ask for."""
    plans = [terms for order in (1, 2, 3) for _, _, terms in _plan(order, directed)]
    return list(dict.fromkeys(c for terms in plans for components in terms for c in components))


@cache
def _plan(order: int, directed: bool) -> Sequence[tuple[int, int, Mapping[tuple[Component, ...], int]]]:
    """Index patterns of T^order: how many, their vertices, and their distinct sum as signed products of free sums."""
    counts: Counter[tuple[Component, ...]] = Counter()
    example: dict[tuple[Component, ...], list[tuple[int, int]]] = {}
    for blocks in _partitions(2 * order):
        arcs = [(blocks[2 * e], blocks[2 * e + 1]) for e in range(order)]
        key = _components(arcs, directed)
        counts[key] += 1
        example.setdefault(key, arcs)
    plan = []
    for key, count in counts.items():
        vertices = max(max(arc) for arc in example[key]) + 1
        terms: Counter[tuple[Component, ...]] = Counter()
        for merge in _partitions(vertices):
            sign = math.prod((-1) ** (size - 1) * math.factorial(size - 1) for size in Counter(merge).values())
            terms[_components([(merge[i], merge[j]) for i, j in example[key]], directed)] += sign
        plan.append((count, vertices, {k: v for k, v in terms.items() if v}))
    return plan


def _partitions(size: int) -> Iterator[list[int]]:
    """Set partitions of `size` items, as the block of every item; blocks are numbered as they first occur."""
    if size == 0:
        yield []
        return
    for head in _partitions(size - 1):
        for block in range(max(head, default=-1) + 2):
            yield [*head, block]


def _components(arcs: list[tuple[int, int]], directed: bool) -> tuple[Component, ...]:
    """Connected components of a graph of arcs, each in canonical form, sorted."""
    groups: list[set[int]] = []
    for arc in arcs:
        touching = [g for g in groups if g & set(arc)]
        groups = [g for g in groups if g not in touching] + [set(arc).union(*touching)]
    return tuple(sorted(_canonical([arc for arc in arcs if arc[0] in g], directed) for g in groups))


def _canonical(arcs: list[tuple[int, int]], directed: bool) -> Component:
    """The least arc list over all namings of the vertices (and orientations, if not directed)."""
    vertices = sorted({v for arc in arcs for v in arc})

    def named(names: tuple[int, ...]) -> Component:
        to = dict(zip(vertices, names, strict=True))
        return tuple(sorted((to[i], to[j]) if directed else (min(to[i], to[j]), max(to[i], to[j])) for i, j in arcs))

    return min(named(names) for names in permutations(range(len(vertices))))


def matrix_sums(matrix: np.ndarray | csr_array) -> Sums:
    """Free sums of a dense or sparse matrix (n, n), symmetric or not; a triangle costs one matrix product."""
    diagonal = matrix.diagonal()

    def total(component: Component) -> float:
        n = matrix.shape[0]
        weight: dict[int, Any] = {v: np.ones(n) for arc in component for v in arc}
        between: dict[tuple[int, int], Any] = {}
        for i, j in component:
            if i == j:
                weight[i] = weight[i] * diagonal
            else:
                entry, pair = (matrix, (i, j)) if i < j else (matrix.T, (j, i))
                between[pair] = between[pair] * entry if pair in between else entry
        while between:
            degree = Counter(v for pair in between for v in pair)
            ends = [v for v in degree if degree[v] == 1]
            if not ends:
                return _triangle(between)
            pair = next(p for p in between if ends[0] in p)
            block = between.pop(pair)
            if pair[1] == ends[0]:
                weight[pair[0]] = weight[pair[0]] * (block @ weight.pop(pair[1]))
            else:
                weight[pair[1]] = weight[pair[1]] * (block.T @ weight.pop(pair[0]))
        return float(next(iter(weight.values())).sum())

    return total


def _triangle(between: Mapping[tuple[int, int], Any]) -> float:
    """Three arcs leave no room for loops here. Dense products are float32 above 2,048 rows."""
    (i, j, k) = sorted({v for pair in between for v in pair})
    blocks = between[i, j], between[j, k], between[i, k]
    if isinstance(blocks[0], np.ndarray) and len(blocks[0]) > _DOUBLE_UP_TO:
        blocks = tuple(block.astype(np.float32) for block in blocks)
    product = blocks[0] @ blocks[1]
    return float((product * blocks[2]).sum(dtype=np.float64))


def gram_sums(rows: np.ndarray) -> Sums:
    """Free sums of `rows rows^T` for `rows` (n, r) whose columns sum to 0, without the (n, n) matrix; O(n^2 r)."""
    energy = (rows**2).sum(axis=1)
    square = rows.T @ rows

    known: dict[Component, Callable[[], float]] = {
        LOOP: lambda: energy.sum(),
        LOOP2: lambda: (energy**2).sum(),
        LOOP3: lambda: (energy**3).sum(),
        EDGE2: lambda: (square**2).sum(),
        EDGE3: lambda: _cubes(rows, rows) + (energy**3).sum(),
        TRIANGLE: lambda: np.vdot(square @ square, square),
        LOOP_EDGE2: lambda: energy @ ((rows @ square) * rows).sum(axis=1),
        LOOP_EDGE_LOOP: lambda: ((energy @ rows) ** 2).sum(),
    }
    return lambda component: float(known[component]()) if component in known else 0.0


def unit_sums(rows: np.ndarray, energy: np.ndarray, mean: float) -> Sums:
    """Free sums of the matrix with entries `mean - d_ij` off the diagonal and 0 on it.

    `rows` (n, r): y, whose columns sum to 0; `energy` (n,): |y_i|^2 less its mean; `mean`: of the off-diagonal
    `d_ij = |y_i - y_j|^2 / 2`. So the entries are `y_i y_j - (energy_i + energy_j) / 2 + mean / n`, which is `mean` on
    the diagonal, and those of a row sum to `-n energy_i / 2`. No (n, n) matrix; O(n^2 r).
    """
    n = len(rows)
    square, column, spread = rows.T @ rows, energy @ rows, energy @ energy
    sums, constant = -n / 2 * energy, mean / n
    squares = ((rows @ square - column) * rows).sum(axis=1) + n * (constant - energy / 2) ** 2 + spread / 4 - mean**2

    def triangle() -> float:
        """Trace of the cube: a product of `[y, energy, 1]` with itself, less its constant diagonal."""
        none = np.zeros((len(column), 1))
        core = np.block(
            [
                [square, column[:, None], none],
                [none.T, np.zeros((1, 1)), np.full((1, 1), -n / 2)],
                [-column[None] / 2, np.full((1, 1), -spread / 2), np.full((1, 1), constant * n)],
            ]
        )
        powers = np.trace(core), np.vdot(core.T, core), np.vdot((core @ core).T, core)
        return float(powers[2] - 3 * mean * powers[1] + 3 * mean**2 * powers[0] - mean**3 * n)

    one = np.ones(n)
    left, right = np.column_stack([rows, energy, one]), np.column_stack([rows, -one / 2, constant - energy / 2])
    known: dict[Component, Callable[[], float]] = {
        EDGE2: lambda: squares.sum(),
        PATH: lambda: (sums**2).sum(),
        EDGE3: lambda: _cubes(left, right),
        TRIANGLE: triangle,
        PENDANT: lambda: squares @ sums,
        STAR: lambda: (sums**3).sum(),
        LONG_PATH: lambda: ((sums @ rows) ** 2).sum() - mean * (sums**2).sum(),
    }
    return lambda component: float(known[component]()) if component in known else 0.0


def _cubes(left: np.ndarray, right: np.ndarray) -> float:
    """Sum over i != j of the cubes of the symmetric `left right^T`, block by block; in float32 above 2,048 rows."""
    kind = left.dtype if len(left) <= _DOUBLE_UP_TO else np.float32
    parts = [
        (left[i : i + _DOUBLE_UP_TO].astype(kind), right[i : i + _DOUBLE_UP_TO].astype(kind))
        for i in range(0, len(left), _DOUBLE_UP_TO)
    ]
    own = sum(float(_sum_of_cubes(one @ other.T, False)) for one, other in parts)
    pairs = list(combinations(parts, 2))
    bar = tqdm(pairs, "third moments", leave=False, disable=None if len(pairs) > 50 else True)
    return own + 2 * sum(float(_sum_of_cubes(one @ other.T, True)) for (one, _), (_, other) in bar)


@numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def _sum_of_cubes(products: np.ndarray, diagonal: bool) -> float:
    """Sum of the cubes, with or without the diagonal, in one pass over memory."""
    total = 0.0
    for i in range(products.shape[0]):
        row = 0.0
        for j in range(products.shape[1]):
            entry = products[i, j]
            row += entry * entry * entry
        if not diagonal:
            row -= products[i, i] ** 3
        total += row
    return total


def pearson_iii(moments: Moments, observed: float) -> float:
    """Approximate p: the tail at `observed` of the Pearson III law with these moments (Kazi-Aoual et al. 1995)."""
    if not moments.sd > 0:
        return math.nan
    z = (observed - moments.mean) / moments.sd
    return float(norm.sf(z) if abs(moments.skew) < 1e-6 else pearson3.sf(z, moments.skew))


def wachter(k_a: int, k_b: int, n: int) -> float:
    """Mean canonical correlation that independent Gaussian rows approach for large n, k_a, k_b (Wachter 1980).

    The squared correlations of the smaller side, of k = min(k_a, k_b) components, have density
    `sqrt((u - x)(x - l)) / (2 pi s x (1 - x))` between l and u = (sqrt(s (1 - t)) -+ sqrt(t (1 - s)))^2, with
    s, t = min, max of k_a, k_b over n - 1, and the mass `(s + t - 1) / s`, if positive, at 1.
    """
    s, t = sorted((k_a / (n - 1), k_b / (n - 1)))
    if t >= 1:
        return 1.0
    low, high = (math.sqrt(s * (1 - t)) + sign * math.sqrt(t * (1 - s)) for sign in (-1, 1))
    low, high = low**2, high**2
    angle = (np.arange(20_000) + 0.5) * np.pi / 20_000
    x = (low + high) / 2 + (high - low) / 2 * np.cos(angle)
    density = ((high - low) / 2 * np.sin(angle)) ** 2 / (2 * np.pi * s * x * (1 - x))
    return float((np.sqrt(x) * density).sum() * np.pi / 20_000 + max(0.0, (s + t - 1) / s))
