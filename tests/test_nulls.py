"""What each null moves, what it keeps, and the false positives that the right null avoids."""

from functools import partial
from itertools import permutations

import numpy as np
import pytest
from scipy.stats import binom

from sae_utils import nulls, significance, tables


def drawn(null: nulls.Null, n: int, m: int = 200, seed: int = 0) -> np.ndarray:
    return null.draw(np.random.default_rng(seed), m, n)


def test_shuffled_draws_every_permutation_equally_often():
    found, counts = np.unique(drawn(nulls.shuffled(), 4, m=24_000), axis=0, return_counts=True)
    assert len(found) == 24
    assert ((counts - 1000) ** 2 / 1000).sum() < 49.7  # chi-squared with 23 degrees of freedom at 0.001


def test_strata_keep_their_rows_and_tell_the_share_that_can_move():
    labels = np.array(["rare", "often", "rare", "single", "often", "rare"])
    null = nulls.strata(labels)
    index = drawn(null, 6)
    assert (labels[index] == labels).all()
    assert (np.sort(index, axis=1) == np.arange(6)).all()
    assert len(np.unique(index, axis=0)) == 12  # 3! x 2!
    assert null.movable == pytest.approx(5 / 6)


def test_within_documents_moves_tokens_within_their_document_only():
    document = np.repeat(np.arange(5), [3, 1, 40, 2, 10]).astype(np.int32)
    null = nulls.within_documents(document)
    assert (document[drawn(null, 56)] == document).all()
    assert null.movable == pytest.approx(55 / 56)


def test_blocks_move_whole_families_in_order():
    families = np.array([7, 3, 3, 7, 5, 5, 5, 9, 9])
    null = nulls.blocks(families)
    index = drawn(null, 9)
    members = {f: np.flatnonzero(families == f) for f in (3, 5, 7, 9)}
    assert (np.sort(index, axis=1) == np.arange(9)).all()
    for row in index:
        for rows in members.values():
            assert any((row[rows] == other).all() for other in members.values() if len(other) == len(rows))
    assert (index[:, members[5]] == members[5]).all()
    assert len(np.unique(index, axis=0)) == 6
    assert null.movable == pytest.approx(6 / 9)


def test_reassigned_gives_every_group_one_row_of_another():
    groups = np.array([4, 4, 2, 9, 9, 9])
    null = nulls.reassigned(groups)
    index = drawn(null, 6)
    first = {4: 0, 2: 2, 9: 3}
    expected = {tuple(first[to[g]] for g in map((4, 2, 9).index, groups)) for to in permutations((4, 2, 9))}
    assert {tuple(row) for row in index.tolist()} == expected
    assert not null.permutes


@pytest.mark.parametrize("make", [nulls.strata, nulls.blocks, nulls.reassigned])
def test_draws_do_not_depend_on_batches(make):
    null = make(np.repeat(np.arange(6), 3))
    rng = np.random.default_rng(0)
    batches = np.concatenate([null.draw(rng, m, 18) for m in (3, 1, 6)])
    assert (batches == drawn(null, 18, m=10)).all()


def rejections(make: nulls.Null, world, names: list[str], repeats: int) -> dict[str, float]:
    """Share of p <= 0.1 over data sets in which geometry is unrelated."""
    ps = {name: [] for name in names}
    for seed in range(repeats):
        a, b = world(np.random.default_rng([3, seed]))
        for name, result in significance.test(a, b, names, null=make, m=9, seed=seed).items():
            ps[name].append(result.p)
    return {name: float(np.mean(np.array(p) <= 0.1)) for name, p in ps.items()}


GROUPS = np.repeat(np.arange(8), [1, 2, 3, 3, 4, 2, 1, 4])


def many_to_one(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Features of A that chose the same partner are alike; partners are placed at random."""
    near = rng.normal(size=(8, 5))[GROUPS] + 0.3 * rng.normal(size=(20, 5))
    return near, rng.normal(size=(8, 6))[GROUPS]


def test_many_to_one_pairs_need_reassignment():
    names = ["rsa_pearson", "svcca"]
    naive = rejections(nulls.shuffled(), many_to_one, names, 200)
    right = rejections(nulls.reassigned(GROUPS), many_to_one, names, 1000)
    for name in names:
        assert naive[name] > 0.3
        assert abs(right[name] - 0.1) < 0.031  # 3.3 standard errors


def with_hub_size(rng: np.random.Generator, *, strength: float) -> tuple[np.ndarray, np.ndarray]:
    """The features of hubs, and the hubs, lie the further out the larger a hub is; else nothing is shared."""
    size = np.log(np.bincount(GROUPS))
    out = np.exp(strength * (size - size.mean()))[:, None]
    a, b = out * rng.normal(size=(8, 5)), out * rng.normal(size=(8, 6))
    return a[GROUPS] + 0.3 * rng.normal(size=(20, 5)), b[GROUPS]


def test_reassignment_warns_where_hub_size_goes_with_geometry():
    assert rejections(nulls.reassigned(GROUPS), partial(with_hub_size, strength=1.0), ["cka"], 100)["cka"] > 0.3
    groups = np.repeat(np.arange(60), 1 + np.arange(60) % 7)
    size = np.log(np.bincount(groups))[:, None]
    unrelated, noted = 0, 0
    for seed in range(100):
        rows = np.random.default_rng([4, seed]).normal(size=(60, 5))
        unrelated += bool(nulls.reassigned(groups).caution(rows[groups]))
        noted += bool(nulls.reassigned(groups).caution((rows * size)[groups]))
    assert noted == 100 and unrelated <= binom.ppf(0.995, 100, 0.05)
    assert nulls.reassigned(np.repeat(np.arange(5), 2)).caution(np.ones((10, 2))) == ""
    a = np.random.default_rng(0).normal(size=(len(groups), 4))
    for near, expected in ((rows, False), (rows * size, True)):
        found = significance.test(a, near[groups], ["cka"], null=nulls.reassigned(groups), m=9)["cka"]
        assert (nulls.RELATED in found.note) == expected == bool(tables.hub_size(found))


FAMILIES = np.repeat(np.arange(10), 3)


def families(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Near-duplicates on both sides, whole families placed at random."""
    return tuple(rng.normal(size=(10, d))[FAMILIES] + 0.3 * rng.normal(size=(30, d)) for d in (5, 6))


def test_families_of_near_duplicates_need_blocks():
    names = ["rsa_pearson", "svcca_first_component"]
    naive = rejections(nulls.shuffled(), families, names, 200)
    right = rejections(nulls.blocks(FAMILIES), families, names, 1000)
    assert naive["rsa_pearson"] > 0.5
    for name in names:
        assert abs(right[name] - 0.1) < 0.031


STRATA = np.repeat(np.arange(3), 10)


def confounded(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Both sides are placed by the same label, and by nothing else that they share."""
    return tuple(2 * rng.normal(size=(3, d))[STRATA] + rng.normal(size=(30, d)) for d in (5, 6))


def test_a_shared_confounder_needs_strata():
    names = ["rsa_pearson", "cka"]
    naive = rejections(nulls.shuffled(), confounded, names, 200)
    right = rejections(nulls.strata(STRATA), confounded, names, 1000)
    for name in names:
        assert naive[name] > 0.5
        assert abs(right[name] - 0.1) < 0.031


def test_bad_labels_are_named():
    with pytest.raises(ValueError, match=r"labels of shape \(0,\) make no strata"):
        nulls.strata(np.zeros(0))
    with pytest.raises(ValueError, match="1 of 3 labels are missing"):
        nulls.blocks(np.array([1.0, np.nan, 1.0]))
    with pytest.raises(ValueError, match="1 of 2 labels are missing"):
        nulls.reassigned(np.array(["x", None], dtype=object))
    with pytest.raises(ValueError, match="built from 3 labels, but there are 5 rows"):
        drawn(nulls.strata(np.array([1, 1, 2])), 5)
