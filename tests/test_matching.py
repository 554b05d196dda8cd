"""Matchings against brute force on small matrices, tied and rectangular, with dead features; distances; clusters."""

from itertools import permutations

import networkx
import numpy as np
import pytest
from scipy import sparse
from scipy.optimize import linear_sum_assignment

from sae_utils import correlate, matching
from sae_utils.correlate import Candidates, Correlation, Moments
from sae_utils.engine import pairs as reasons
from sae_utils.engine.kernels import assignment
from sae_utils.matching import Pairs


def from_matrix(r, k=None, dead_a=(), dead_b=()):
    """A Correlation whose matrix is known; the stand-in for two stores."""
    r = np.array(r, np.float32)
    r[list(dead_a)], r[:, list(dead_b)] = np.nan, np.nan

    def top(matrix):
        count = min(k or matrix.shape[1], matrix.shape[1])
        filled = np.where(np.isnan(matrix), -np.inf, matrix)
        order = np.argsort(-filled, axis=1, kind="stable")[:, :count].astype(np.int32)
        value = np.take_along_axis(filled, order, axis=1)
        r = np.where(np.isinf(value), np.float32(np.nan), value)
        return Candidates(np.where(np.isinf(value), np.int32(-1), order), r)

    def moments(n, dead):
        live = np.ones(n, bool)
        live[list(dead)] = False
        return Moments(np.zeros(n), live.astype(float), live.astype(int) * 100, live)

    def block(rows=None, columns=None):
        rows = np.arange(r.shape[0]) if rows is None else rows
        columns = np.arange(r.shape[1]) if columns is None else columns
        return r[np.ix_(rows, columns)]

    return Correlation(moments(r.shape[0], dead_a), moments(r.shape[1], dead_b), top(r), top(r.T), block)


def random_matrix(seed, tied=False):
    """A rectangular matrix of up to 12 by 12, tied or not."""
    rng = np.random.default_rng(seed)
    shape = rng.integers(1, 13, 2)
    return rng.integers(-2, 4, shape) / 4 if tied else rng.uniform(-1, 1, shape)


def test_many_to_one_and_mutual_by_hand():
    r = [[0.9, 0.1, 0.2], [0.8, 0.3, 0.5], [0.1, 0.2, 0.4], [0.0, 0.0, 0.0]]
    c = from_matrix(r, dead_a=[3])
    forward, backward, both = matching.many_to_one(c), matching.many_to_one(c, "b_to_a"), matching.mutual(c)
    assert list(zip(forward.a, forward.b, strict=True)) == [(0, 0), (1, 0), (2, 2)]
    assert list(zip(backward.a, backward.b, strict=True)) == [(0, 0), (1, 1), (1, 2)]
    assert list(zip(both.a, both.b, strict=True)) == [(0, 0)]
    assert matching.left_out(forward) == {
        "a": {"not live: dead or constant": 1},
        "b": {"chosen by nobody": 1},
    }
    assert matching.left_out(both)["a"] == {"not live: dead or constant": 1, "best partner prefers another": 2}


@pytest.mark.parametrize("seed", range(50))
def test_many_to_one_and_mutual_by_brute_force(seed):
    r = random_matrix(seed, tied=seed % 2 == 0).astype(np.float32)
    c = from_matrix(r, k=2)
    forward, backward, both = matching.many_to_one(c), matching.many_to_one(c, "b_to_a"), matching.mutual(c)
    np.testing.assert_array_equal(forward.b, r.argmax(1))
    np.testing.assert_array_equal(forward.r, r.max(1))
    assert set(zip(backward.a, backward.b, strict=True)) == {(i, j) for j, i in enumerate(r.argmax(0))}
    expected = [(i, j) for i, j in enumerate(r.argmax(1)) if r[:, j].argmax() == i]
    assert list(zip(both.a, both.b, strict=True)) == expected


def brute_greedy(r, minimum=-1.0):
    """Sort the full matrix, take what is free."""
    r = np.where(np.isnan(r), -np.inf, r)
    i, j = np.divmod(np.arange(r.size), r.shape[1])
    taken, free_a, free_b = [], set(range(r.shape[0])), set(range(r.shape[1]))
    for e in np.lexsort((j, i, -r.ravel())):
        if r.flat[e] < minimum or np.isinf(r.flat[e]):
            break
        if i[e] in free_a and j[e] in free_b:
            taken.append((int(i[e]), int(j[e])))
            free_a.remove(i[e])
            free_b.remove(j[e])
    return sorted(taken)


def pairs_of(pairs):
    return list(zip(pairs.a.tolist(), pairs.b.tolist(), strict=True))


@pytest.mark.parametrize("seed", range(300))
def test_greedy_and_optimal_by_brute_force(seed):
    """Random, tied, rectangular, with dead features and few candidates, so that most rows run out of them."""
    rng = np.random.default_rng(1000 + seed)
    r = random_matrix(seed, tied=seed % 2 == 0).astype(np.float32)
    dead = [np.flatnonzero(rng.random(n) < 0.2)[: n - 1] for n in r.shape]
    c = from_matrix(r, int(rng.integers(1, 4)), *dead)
    full = c.block()
    for minimum in (-1.0, 0.25):
        assert pairs_of(matching.greedy(c, minimum)) == brute_greedy(full, minimum)
    best = matching.optimal(c)
    proof = best.proof
    live = full[np.ix_(c.a.live, c.b.live)].astype(np.float64)
    i, j = linear_sum_assignment(live, maximize=True)
    assert proof.certified and proof.gap < 1e-9
    np.testing.assert_allclose(best.r.sum(dtype=np.float64), live[i, j].sum(), atol=1e-9)
    assert len(np.unique(best.a)) == len(np.unique(best.b)) == len(best.a) == min(live.shape)
    np.testing.assert_array_equal(best.r, full[best.a, best.b])


def planted(n, width, noise, seed):
    """Two dictionaries of unit rows, a permutation and noise apart, and the permutation."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, width))
    order = rng.permutation(n)
    y = np.empty_like(x)
    y[order] = x + noise * rng.normal(size=x.shape)
    return x.astype(np.float32), y.astype(np.float32), order


def test_candidates_only_would_miss_both():
    """At a size where candidates run out: the full matrix agrees, the first candidates alone do not."""
    x, y, _ = planted(600, 6, 1.5, 5)
    c = correlate.cosines(x, y, k=4)
    full = c.block()
    assert pairs_of(matching.greedy(c)) == brute_greedy(full)
    best = matching.optimal(c)
    proof = best.proof
    i, j = linear_sum_assignment(full.astype(np.float64), maximize=True)
    np.testing.assert_allclose(proof.primal, full[i, j].sum(dtype=np.float64), atol=1e-6)
    assert proof.certified and proof.rounds > 1 and len(best.a) == 600


def test_a_planted_permutation_of_many_features_is_recovered():
    """32,768 features of sparse codes; a third of the firings of their twins are on other features."""
    rng, tokens, features, active = np.random.default_rng(6), 40_000, 32_768, 32
    order = rng.permutation(features)
    fires = rng.integers(0, features, (tokens, active))
    value = rng.random(fires.shape, dtype=np.float32) + 0.5
    strayed = np.where(rng.random(fires.shape) < 1 / 3, rng.integers(0, features, fires.shape), fires)
    noisy = value * (1 + 0.2 * rng.normal(size=fires.shape).clip(-3, 3)).astype(np.float32)
    row = np.repeat(np.arange(tokens), active)
    a, b = (
        sparse.csr_array(sparse.coo_array((v.ravel(), (row, f.ravel())), (tokens, features)))
        for v, f in ((value, fires), (noisy, order[strayed]))
    )
    c = correlate.features(a, b, k=8)
    for pairs in (matching.mutual(c), matching.greedy(c)):
        np.testing.assert_array_equal(pairs.a, np.arange(features))
        np.testing.assert_array_equal(pairs.b, order)


def test_features_in_another_order_are_paired_alike():
    r = np.random.default_rng(8).uniform(-1, 1, (40, 30))
    order = np.random.default_rng(9).permutation(30)
    for match in (matching.mutual, matching.greedy, matching.optimal, matching.many_to_one):
        one, two = match(from_matrix(r, 3)), match(from_matrix(r[:, order], 3))
        np.testing.assert_array_equal(one.b, order[two.b])


def test_identity_and_random_pairs():
    r = np.random.default_rng(10).uniform(-1, 1, (20, 20)).astype(np.float32)
    c = from_matrix(r, 5, dead_a=[3], dead_b=[4])
    same = matching.identity(c)
    assert pairs_of(same) == [(i, i) for i in range(20) if i not in (3, 4)]
    np.testing.assert_array_equal(same.r, np.diagonal(r)[same.a])
    chosen = matching.many_to_one(c)
    shuffled = matching.random(c, chosen, seed=1)
    np.testing.assert_array_equal(shuffled.a, chosen.a)
    np.testing.assert_array_equal(np.sort(shuffled.b), np.sort(chosen.b))
    np.testing.assert_array_equal(shuffled.r, c.block()[shuffled.a, shuffled.b])
    assert (shuffled.b != chosen.b).any()
    with pytest.raises(ValueError, match="side b 4"):
        matching.identity(from_matrix(np.zeros((3, 4))))


def test_soft_matching_moves_all_mass_and_finds_the_optimum():
    """Between sides of one width a vertex of the transport polytope is a permutation."""
    r = np.random.default_rng(11).uniform(-1, 1, (12, 12))
    c = from_matrix(r, dead_a=[1], dead_b=[7])
    found = matching.soft(c)
    assert pairs_of(found) == pairs_of(matching.optimal(c))
    wide = matching.soft(from_matrix(np.random.default_rng(12).uniform(-1, 1, (6, 9))))
    assert wide.marginal_error < 1e-12
    np.testing.assert_allclose(np.bincount(wide.a, wide.weight), 1 / 6)
    np.testing.assert_allclose(np.bincount(wide.b, wide.weight), 1 / 9)
    assert len(wide.weight) <= 6 + 9 - 1


def test_a_threshold_outside_is_refused():
    with pytest.raises(ValueError, match=r"minimum = 1.5: a correlation lies between -1 and 1"):
        matching.greedy(from_matrix([[1.0]]), 1.5)


def test_unknown_direction_names_the_valid_ones():
    with pytest.raises(ValueError, match="'a_to_b' or 'b_to_a'"):
        matching.many_to_one(from_matrix([[1.0]]), "forward")


def test_a_plan_that_misses_its_marginals_is_refused(monkeypatch):
    import ot

    cost = np.random.default_rng(0).random((4, 6))
    plan, error = assignment.transport(cost)
    assert plan.sum(1) == pytest.approx(np.full(4, 1 / 4)) and plan.sum(0) == pytest.approx(np.full(6, 1 / 6))
    assert error < 1e-12
    monkeypatch.setattr(ot, "emd", lambda *_, **__: 0.9 * plan)  # as after too few iterations
    with pytest.raises(RuntimeError, match=r"misses its marginals by 2\.5e-02: correlate fewer"):
        assignment.transport(cost)


def test_the_heaviest_pair_of_a_soft_matching():
    pairs = Pairs.of([0, 0, 1, 1, 2], [0, 1, 1, 2, 2], [0.5, 0.9, 0.8, 0.3, 0.2], 4, 4)
    soft = matching.Soft(**vars(pairs), weight=np.array([0.3, 0.1, 0.2, 0.2, 0.4]), marginal_error=0.0, distance=0.0)
    found = soft.heaviest()
    assert pairs_of(found) == [(0, 0), (1, 1), (2, 2)]  # 2-2, 0-0, then r decides for 1
    assert found.r == pytest.approx([0.5, 0.8, 0.2]), "the correlation, not the weight"


def test_common_pairs():
    first, second = (
        Pairs.of(a, b, np.ones(len(a)), 10, 10) for a, b in ([[0, 1, 2], [5, 6, 7]], [[2, 1, 0, 9], [7, 5, 5, 9]])
    )
    assert matching.common(first, second).tolist() == [0, 2]
    assert matching.common(second, first).tolist() == [0, 2]
    assert matching.common(first, Pairs.of([], [], [], 10, 10)).tolist() == []


def test_subsets_unions_and_what_shares_no_feature():
    one, two = Pairs.of([0, 1, 2], [5, 5, 6], [0.1, 0.2, 0.3], 8, 9), Pairs.of([1, 3], [5, 7], [0.9, 0.4], 8, 9)
    both = one.union(two)
    assert pairs_of(both) == [(0, 5), (1, 5), (2, 6), (3, 7)] and len(both) == 4
    np.testing.assert_allclose(both.r, [0.1, 0.2, 0.3, 0.4])  # of a pair in both, the first
    assert matching.left_out(both) == {"a": {"not selected": 4}, "b": {"not selected": 6}}
    assert pairs_of(both.without(Pairs.of([0], [8], [0], 8, 9))) == [(1, 5), (2, 6), (3, 7)]
    assert pairs_of(both.without(Pairs.of([7], [5], [0], 8, 9))) == [(2, 6), (3, 7)]
    for places in ([0, 2], np.array([True, False, True, False])):
        part = both.subset(places, reasons.WEAK)
        assert pairs_of(part) == [(0, 5), (2, 6)]
        assert matching.left_out(part)["a"] == {"not selected": 4, "correlation below the threshold": 2}
    with pytest.raises(ValueError, match="widths"):
        one.union(Pairs.of([0], [0], [0], 8, 8))


def test_held_out_is_the_correlation_on_other_tokens():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 5)), rng.normal(size=(60, 4))
    pairs = Pairs.of([0, 3], [1, 1], [0, 0], 5, 4)
    expected = [np.corrcoef(x[:, a], y[:, b])[0, 1] for a, b in pairs_of(pairs)]
    np.testing.assert_allclose(pairs.held_out(x, y), expected, atol=1e-6)


# --- directions


def rows(n, d, seed):
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def cosine(a, b):
    a, b = (x.astype(np.float64) / np.linalg.norm(x.astype(np.float64), axis=1, keepdims=True) for x in (a, b))
    return a @ b.T


def test_cosines_by_numpy():
    a, b = rows(40, 8, 0), 3 * rows(30, 8, 1)
    live = np.arange(40) != 5
    a[7] = 0
    found = correlate.cosines(a, b, k=4, live_a=live)
    full = found.block()
    assert np.isnan(full[[5, 7]]).all()
    taking = found.a.live
    np.testing.assert_allclose(full[taking], cosine(a[taking], b), atol=1e-6)
    np.testing.assert_array_equal(found.a_to_b.index[taking, 0], full[taking].argmax(1))
    np.testing.assert_allclose(matching.mmcs(found), full[taking].max(1).mean(), atol=1e-6)
    i, j = linear_sum_assignment(full[taking], maximize=True)
    np.testing.assert_allclose(matching.pw_mcc(found), full[taking][i, j].mean(), atol=1e-6)


def test_a_dictionary_against_itself_in_another_order():
    a = rows(200, 32, 2)
    order = np.random.default_rng(3).permutation(200)
    found = correlate.cosines(a, 5 * a[order], k=3)
    np.testing.assert_array_equal(order[matching.mutual(found).b], np.arange(200))
    assert matching.mmcs(found) == pytest.approx(1) and matching.pw_mcc(found) == pytest.approx(1)


@pytest.mark.parametrize("d_a, d_b", [(12, 12), (8, 12), (12, 8)])
def test_an_orthogonal_map_is_found_again(d_a, d_b):
    """Fitted on half of the pairs, it carries the other half; where b is narrower, the part that it keeps."""
    wide, narrow = max(d_a, d_b), min(d_a, d_b)
    turn = np.linalg.qr(np.random.default_rng(4).normal(size=(wide, wide)))[0][:narrow]
    small = rows(100, narrow, 5)
    a, b = (small, small @ turn) if d_a <= d_b else (small @ turn, small)
    half = np.arange(50, dtype=np.int32)
    pairs = matching.Pairs(half, half, np.ones(50, np.float32), np.zeros(100, np.int8), np.zeros(100, np.int8))
    np.testing.assert_allclose(matching.align(a, b, pairs), b, atol=1e-4)


def test_rows_that_cannot_be_compared_are_named():
    with pytest.raises(ValueError, match="align them first"):
        correlate.cosines(rows(5, 3, 6), rows(5, 4, 7), k=2)
    with pytest.raises(ValueError, match="k = 9"):
        correlate.cosines(rows(5, 3, 6), rows(5, 3, 7), k=9)
    broken = rows(5, 3, 8)
    broken[2, 0] = np.nan
    with pytest.raises(ValueError, match=r"rows of side b hold NaN or infinity \(first: row 2\), there in column 0"):
        correlate.cosines(rows(5, 3, 6), broken, k=2)
    with pytest.raises(ValueError, match="side a has no live row"):
        correlate.cosines(np.zeros((5, 3)), rows(5, 3, 6), k=2)
    few = matching.Pairs(*(np.arange(2, dtype=np.int32),) * 2, np.ones(2), np.zeros(5, np.int8), np.zeros(5, np.int8))
    with pytest.raises(ValueError, match="2 pairs for a map"):
        matching.align(rows(5, 3, 6), rows(5, 3, 7), few)


# --- distances between sides that may permute features, but not mix them


def codes(features, seed, tokens=200):
    rng = np.random.default_rng(seed)
    return (rng.random((tokens, features)) * (rng.random((tokens, features)) < 0.3)).astype(np.float32)


def correlated(a, b):
    return correlate.features(sparse.csr_array(a), sparse.csr_array(b), k=1)


def scaled(x, scale):
    x = x - x.mean(0)
    if scale == "matrix":
        return x / np.linalg.norm(x)
    return x / np.where(x.std(0) > 0, x.std(0), 1) / np.sqrt(len(x))


@pytest.mark.parametrize("scale", ["matrix", "feature"])
def test_every_permutation_of_small_sides(scale):
    a, b = codes(4, 0).astype(np.float64), codes(6, 1).astype(np.float64)
    x, y = scaled(a, scale), scaled(b, scale)
    x = np.column_stack([x, np.zeros((len(x), 2))])
    expected = min(np.linalg.norm(x - y[:, list(p)]) for p in permutations(range(6)))
    found = matching.permutation(correlated(codes(4, 0), codes(6, 1)), scale)
    assert found.distance == pytest.approx(expected, abs=1e-5)
    assert len(found.a) == 4


@pytest.mark.parametrize("scale", ["matrix", "feature"])
@pytest.mark.parametrize("seed", range(3))
def test_features_in_another_order_are_at_no_distance(scale, seed):
    a = codes(12, seed)
    order = np.random.default_rng(seed).permutation(12)
    same = correlated(a, a[:, order])
    for distance in (matching.permutation, matching.soft):
        found = distance(same, scale)
        assert found.distance < 2e-3  # the root of what float32 correlations round
        np.testing.assert_array_equal(order[found.b], np.arange(12))


def test_soft_is_permutation_over_root_width_on_sides_of_one_width():
    c = correlated(codes(9, 5), codes(9, 6))
    hard, soft = matching.permutation(c, "feature"), matching.soft(c)
    assert soft.distance == pytest.approx(hard.distance / 3, abs=1e-6)


def test_soft_obeys_the_triangle_and_exchange():
    sides = [codes(n, 10 + n) for n in (5, 7, 9)]
    d = {(i, j): matching.soft(correlated(sides[i], sides[j])).distance for i in range(3) for j in range(3)}
    assert d[0, 2] <= d[0, 1] + d[1, 2] and d[0, 1] == pytest.approx(d[1, 0], abs=1e-6)


def test_unknown_scale_names_the_valid_ones():
    with pytest.raises(ValueError, match="'feature' or 'matrix'"):
        matching.soft(correlated(codes(3, 0), codes(3, 1)), "none")


# --- clusters


def matching_of(seed, n_a=30, n_b=25, edges=18):
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, n_a, edges).astype(np.int32), rng.integers(0, n_b, edges).astype(np.int32)
    return Pairs(a, b, rng.random(edges, dtype=np.float32), np.zeros(n_a, np.int8), np.zeros(n_b, np.int8))


@pytest.mark.parametrize("seed", range(20))
def test_agree_with_networkx(seed):
    one, two = matching_of(seed), matching_of(seed + 100)
    found = matching.clusters(one, two)
    graph = networkx.Graph()
    for pairs in (one, two):
        graph.add_edges_from((("a", i), ("b", j)) for i, j in zip(pairs.a.tolist(), pairs.b.tolist(), strict=True))
    expected = {frozenset(part) for part in networkx.connected_components(graph)}
    got = []
    for c in range(len(found.edges)):
        nodes = {("a", i) for i in np.flatnonzero(found.of_a == c).tolist()}
        nodes |= {("b", j) for j in np.flatnonzero(found.of_b == c).tolist()}
        assert (found.size_a[c], found.size_b[c]) == (sum(s == "a" for s, _ in nodes), sum(s == "b" for s, _ in nodes))
        assert found.edges[c] == graph.subgraph(nodes).number_of_edges()
        got.append(frozenset(nodes))
    assert set(got) == expected
    sizes = found.size_a + found.size_b
    assert (np.diff(sizes) <= 0).all()


def test_other_sides_are_refused():
    with pytest.raises(ValueError, match="widths"):
        matching.clusters(matching_of(0), matching_of(1, n_a=31))
