"""Correlation against numpy in float64, and what must not change it: order, threads, blocks, chosen tokens."""

import numpy as np
import pytest
from scipy import sparse

from sae_utils import correlate
from sae_utils.engine.kernels import device, sides, tiles


def sparse_codes(tokens, features, active, seed, *, dead=()):
    """Random codes; ``active`` is the chance that a feature fires on a token."""
    rng = np.random.default_rng(seed)
    dense = rng.random((tokens, features), dtype=np.float32) * (rng.random((tokens, features)) < active)
    dense[:, list(dead)] = 0
    return sparse.csr_array(dense.astype(np.float32))


def oracle(a, b):
    """float64 correlations (features_a, features_b), NaN where a feature is constant."""
    a, b = (np.asarray(s.todense() if sparse.issparse(s) else s, np.float64) for s in (a, b))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.corrcoef(a.T, b.T)[: a.shape[1], a.shape[1] :]


def best(r, k):
    """The k best columns of every row and their values: ties by index, NaN last."""
    filled = np.where(np.isnan(r), -np.inf, r)
    order = np.argsort(-filled, axis=1, kind="stable")[:, :k]
    value = np.take_along_axis(filled, order, axis=1)
    return np.where(np.isinf(value), -1, order), np.where(np.isinf(value), np.nan, value)


def test_agrees_with_numpy():
    a, b = sparse_codes(400, 50, 0.1, 0, dead=[3]), sparse_codes(400, 70, 0.15, 1, dead=[0, 69])
    found = correlate.features(a, b, k=8)
    full = found.block()
    np.testing.assert_allclose(full, oracle(a, b), atol=1e-6)
    for candidates, matrix in ((found.a_to_b, full), (found.b_to_a, full.T)):
        index, r = best(matrix, 8)
        np.testing.assert_array_equal(candidates.index, index)
        np.testing.assert_array_equal(candidates.r, r.astype(np.float32))
    dense = a.todense().astype(np.float64)
    np.testing.assert_allclose(found.a.mean, dense.mean(0))
    np.testing.assert_allclose(found.a.sd, dense.std(0))
    np.testing.assert_array_equal(found.a.count, (dense > 0).sum(0))
    np.testing.assert_array_equal(np.flatnonzero(~found.b.live), [0, 69])


def test_sides_exchanged_and_threads_give_the_same_bits():
    a, b = sparse_codes(3000, 600, 0.02, 2), sparse_codes(3000, 300, 0.05, 3)
    one, two = correlate.features(a, b, k=16), correlate.features(b, a, k=16, threads=3)
    for x, y in ((one.a_to_b, two.b_to_a), (one.b_to_a, two.a_to_b)):
        np.testing.assert_array_equal(x.index, y.index)
        np.testing.assert_array_equal(x.r, y.r)
    np.testing.assert_array_equal(one.block(), two.block().T)


def test_permuted_features_give_the_permuted_answer():
    a, b = sparse_codes(500, 40, 0.1, 4), sparse_codes(500, 60, 0.1, 5)
    order = np.random.default_rng(6).permutation(60)
    one, two = correlate.features(a, b, k=1), correlate.features(a, sparse.csr_array(b[:, order]), k=1)
    np.testing.assert_array_equal(one.a_to_b.index, order[two.a_to_b.index])
    np.testing.assert_array_equal(one.block()[:, order], two.block())


def test_any_block_equals_that_of_the_full_matrix():
    a, b = sparse_codes(500, 90, 0.1, 7), sparse_codes(500, 60, 0.05, 8)
    block = correlate.blocks(a, b)
    matrix, rng = block(), np.random.default_rng(9)
    for rows, columns in ((3, 60), (90, 2), (5, 5)):
        rows, columns = rng.choice(90, rows), rng.choice(60, columns)
        np.testing.assert_array_equal(block(rows, columns), matrix[np.ix_(rows, columns)])


def test_fewer_live_partners_than_candidates():
    a, b = sparse_codes(200, 30, 0.3, 32), sparse_codes(200, 40, 0.3, 33, dead=range(3, 40))
    found = correlate.features(a, b, k=5)
    assert (np.sort(found.a_to_b.index, axis=1) == [-1, -1, 0, 1, 2]).all()
    assert (found.b_to_a.index[3:] == -1).all() and (found.b_to_a.index[:3] >= 0).all()


def test_memory_mapped_stores_of_mixed_index_widths(tmp_path):
    a, b = sparse_codes(300, 30, 0.2, 34), sparse_codes(300, 20, 0.2, 35)
    mapped = sparse.csr_array(a.shape, dtype=np.float32)
    for name, kind in (("data", np.float32), ("indices", np.int32), ("indptr", np.int64)):
        np.save(tmp_path / f"{name}.npy", getattr(a, name).astype(kind))
        setattr(mapped, name, np.load(tmp_path / f"{name}.npy", mmap_mode="r"))
    np.testing.assert_array_equal(correlate.blocks(mapped, b)(), correlate.blocks(a, b)())


def dense_side(seed, kind=np.float32):
    """Neurons (tokens, 45) with means from 0 to 1000, one of them constant and one dead."""
    rng = np.random.default_rng(seed)
    side = rng.normal(size=(700, 45)) + np.geomspace(0.01, 100 if kind == np.float16 else 1000, 45)
    side[:, 7], side[:, 8] = 3.0, 0.0
    return side.astype(kind)


@pytest.mark.parametrize("kind", [np.float16, np.float32])
def test_dense_sides_agree_with_numpy(kind):
    codes = sparse_codes(700, 30, 0.1, 36)
    for a, b in (
        (dense_side(37, kind), dense_side(38, kind)),
        (dense_side(37, kind), codes),
        (codes, dense_side(38, kind)),
    ):
        found = correlate.features(a, b, k=6)
        full = found.block()
        np.testing.assert_allclose(full, oracle(a, b), atol=1e-6)
        for candidates, matrix in ((found.a_to_b, full), (found.b_to_a, full.T)):
            index, r = best(matrix, 6)
            np.testing.assert_array_equal(candidates.index, index)
            np.testing.assert_array_equal(candidates.r, r.astype(np.float32))
        left, right = np.arange(30), np.arange(30)[::-1]
        np.testing.assert_allclose(correlate.pairs(a, b, left, right), full[left, right], atol=1e-6)
        np.testing.assert_array_equal(found.block([3, 9], [8, 2, 1]), full[np.ix_([3, 9], [8, 2, 1])])


@pytest.mark.parametrize("way", ["tiles", "torch"])
def test_tiles_and_torch_give_what_the_kernels_give(monkeypatch, way):
    """Tiles of dense sides, and what CUDA does, here with tensors on the CPU: the same candidates and ties."""
    a, b = sparse_codes(900, 60, 0.1, 39, dead=[4]), sparse_codes(900, 50, 0.1, 40, dead=[0])
    b.data[:], a.data[:] = 1, 1  # many ties
    expected = correlate.features(a, b, k=9)
    monkeypatch.setattr(correlate, "_both_sparse", lambda *_: False)
    if way == "torch":
        monkeypatch.setattr(tiles, "rank", lambda one, two, k: device.rank(one, two, k, "cpu"))
        monkeypatch.setattr(tiles, "block", lambda *sides: device.block(*sides, "cpu"))
    for block, tile in ((4096, 2**27), (100, 8 * 50 * 7)):
        monkeypatch.setattr(sides, "BLOCK", block)
        for module in (tiles, device):
            monkeypatch.setattr(module, "TILE", tile)
        found = correlate.features(a, b, k=9)
        for x, y in ((found.a_to_b, expected.a_to_b), (found.b_to_a, expected.b_to_a)):
            for field, other in zip(x, y, strict=True):
                np.testing.assert_array_equal(field, other)
        np.testing.assert_array_equal(found.block(), expected.block())
        np.testing.assert_array_equal(found.block([7, 4, 0], [3, 0]), expected.block([7, 4, 0], [3, 0]))


def test_dense_sides_through_torch():
    a, b = dense_side(43), sparse_codes(700, 30, 0.1, 44)
    for x, y in ((a, b), (b, a), (a, dense_side(45))):
        one, two = (sides.prepare(s, np.arange(700), "") for s in (x, y))
        features = np.arange(one.features), np.arange(two.features)
        found = device.block(one, features[0], two, features[1], "cpu")
        np.testing.assert_allclose(found, correlate.blocks(x, y)(), atol=1e-7)


def test_dense_results_do_not_depend_on_blocks_of_tokens(monkeypatch):
    a, b = dense_side(41), sparse_codes(700, 30, 0.1, 42)
    expected = correlate.features(a, b, k=6)
    for block in (1, 64, 699):
        monkeypatch.setattr(sides, "BLOCK", block)
        found = correlate.features(a, b, k=6)
        np.testing.assert_array_equal(found.a_to_b.index, expected.a_to_b.index)
        np.testing.assert_array_equal(found.block(), expected.block())


def test_chosen_tokens_equal_a_rewritten_store():
    a, b = sparse_codes(300, 30, 0.2, 10), sparse_codes(300, 20, 0.2, 11)
    rng = np.random.default_rng(12)
    mask = rng.random(300) < 0.5
    for rows in (mask, np.flatnonzero(mask), np.sort(rng.integers(0, 300, 300))):
        found = correlate.features(a, b, k=5, rows=rows)
        copied = correlate.features(sparse.csr_array(a[rows]), sparse.csr_array(b[rows]), k=5)
        np.testing.assert_array_equal(found.a_to_b.index, copied.a_to_b.index)
        np.testing.assert_array_equal(found.block(), copied.block())
        np.testing.assert_array_equal(found.a.count, copied.a.count)
    shuffled = rng.permutation(300)
    found = correlate.features(a, b, k=5, rows_b=shuffled)
    np.testing.assert_allclose(found.block(), oracle(a, b[shuffled]), atol=1e-6)
    pairs = np.arange(20), np.arange(20)
    np.testing.assert_array_equal(correlate.pairs(a, b, *pairs, rows_b=shuffled), np.diagonal(found.block()[:20]))


@pytest.mark.parametrize("make", [lambda seed: sparse_codes(300, 30, 0.2, seed), lambda seed: dense_side(seed)[:300]])
def test_prepared_sides_stand_for_their_codes(make):
    a, b, rows = make(70), make(71), np.flatnonzero(np.random.default_rng(72).random(300) < 0.6)
    one, two = (sides.prepare(x, rows, "") for x in (a, b))
    for mine, expected in zip(
        correlate.features(one, two, k=5)[:4], correlate.features(a, b, k=5, rows=rows)[:4], strict=True
    ):
        for x, y in zip(mine, expected, strict=True):
            np.testing.assert_array_equal(x, y)
    np.testing.assert_array_equal(correlate.blocks(one, two)(), correlate.blocks(a, b, rows=rows)())
    pairs = [4, 9, 2], [0, 1, 1]
    np.testing.assert_array_equal(correlate.pairs(one, two, *pairs), correlate.pairs(a, b, *pairs, rows=rows))
    for wrong in ({"a": one, "b": b}, {"a": one, "b": two, "rows": rows}):
        with pytest.raises(ValueError, match="its tokens are chosen already"):
            correlate.features(**wrong, k=5)
    with pytest.raises(ValueError, match=f"{len(rows)} tokens of a, rows_b 7 of b"):
        correlate.features(one, sides.prepare(b, rows[:7], ""), k=5)


def test_rare_features_keep_five_digits():
    """10 firings among a million tokens, 5 of them together."""
    rng, n = np.random.default_rng(13), 1_000_000
    tokens = rng.choice(n, 15, replace=False)
    sides = []
    for own in (tokens[:10], tokens[5:]):
        column = sparse.coo_array((rng.random(10).astype(np.float32) * 30, (own, np.zeros(10, int))), (n, 1))
        sides.append(column)
    often = sparse.random_array((n, 1), density=0.5, rng=rng, dtype=np.float32)
    a, b = (sparse.csr_array(sparse.hstack([s, often]), dtype=np.float32) for s in sides)
    np.testing.assert_allclose(correlate.blocks(a, b)(), oracle(a, b), atol=1e-7)


def test_a_large_constant_activation_beside_a_small_variation():
    rng = np.random.default_rng(14)
    a = sparse.csr_array((1000 + rng.random((5000, 4))).astype(np.float32))
    b = sparse.csr_array((a.todense() + rng.random((5000, 4))).astype(np.float32))
    np.testing.assert_allclose(correlate.blocks(a, b)(), oracle(a, b), atol=1e-5)


def test_pairs_measured():
    a, b = sparse_codes(400, 30, 0.3, 15, dead=[2]), sparse_codes(400, 25, 0.3, 16)
    left, right = np.repeat(np.arange(30), 25), np.tile(np.arange(25), 30)
    found = correlate.pairs(a, b, left, right)
    np.testing.assert_array_equal(found, correlate.blocks(a, b)().ravel())


def test_bad_input_is_named():
    a, b = sparse_codes(50, 10, 0.3, 17), sparse_codes(50, 12, 0.3, 18)
    with pytest.raises(ValueError, match="side a has 50 tokens, side b 40"):
        correlate.features(a, sparse.csr_array(b[:40]), k=2)
    with pytest.raises(ValueError, match="k = 64 candidates, but side a has 10 features"):
        correlate.features(a, b)
    with pytest.raises(ValueError, match="rows asks for token 50"):
        correlate.features(a, b, k=2, rows=[0, 50])
    with pytest.raises(ValueError, match="mask of shape"):
        correlate.features(a, b, k=2, rows=np.ones(49, bool))
    with pytest.raises(ValueError, match="at least 2 tokens"):
        correlate.features(a, b, k=2, rows=[])
    with pytest.raises(ValueError, match="rows_b 3"):
        correlate.features(a, b, k=2, rows=[1, 2], rows_b=[1, 2, 3])
    with pytest.raises(ValueError, match="no live feature"):
        correlate.features(a, sparse.csr_array((50, 12), dtype=np.float32), k=2)
    with pytest.raises(ValueError, match="pairs_a asks for feature -1"):
        correlate.pairs(a, b, [-1], [0])
    for bad in (np.nan, np.inf):
        broken = a.copy()
        broken.data[0] = bad
        with pytest.raises(
            ValueError, match=f"side a holds NaN or infinite activations, first in row 0, column {a.indices[0]}"
        ):
            correlate.features(broken, b, k=2)


def test_a_matrix_that_does_not_fit_is_refused(monkeypatch):
    a, b = sparse_codes(50, 10, 0.3, 60), sparse_codes(50, 12, 0.3, 61)
    block = correlate.blocks(a, b)
    monkeypatch.setattr(correlate.os, "sysconf", lambda _: 25)  # 25 pages of 25 bytes
    assert block([0, 1], [0, 1]).shape == (2, 2)
    with pytest.raises(ValueError, match="a block of 10 x 12 correlations takes"):
        block()


def test_pairs_threads_and_sides_that_do_not_fit_are_refused():
    codes = sparse.random_array((40, 6), density=0.3, rng=0, format="csr", dtype=np.float32)
    with pytest.raises(ValueError, match="2 features of a, 1 of b: a pair needs one of each"):
        correlate.pairs(codes, codes, [0, 1], [0])
    with pytest.raises(ValueError, match="threads = 0: at least 1"):
        correlate.features(codes, codes, k=2, threads=0)
    with pytest.raises(ValueError, match="a mask or a list of positions, found float64"):
        correlate.features(codes, codes, k=2, rows=np.linspace(0, 1, 5))
