"""The pairs of a subspace are those found by hand; its tests hold their level and find planted structure."""

import numpy as np
import pytest
from scipy import sparse

from sae_utils import correlate, matching, measures, significance
from sae_utils.matching import Pairs
from sae_utils.studies.semantic_subspaces import concepts, subspaces

N = 40


def chosen(a, b=None) -> Pairs:
    return Pairs.of(a, a if b is None else b, np.ones(len(a)), 99, 99)


def copies(noise: float, seed: int = 0, n: int = N) -> tuple[np.ndarray, np.ndarray]:
    """Rows of side a, and their noisy copies, rotated into more dimensions."""
    rng = np.random.default_rng(seed)
    a = rng.standard_normal((n, 12))
    turn = np.linalg.qr(rng.standard_normal((16, 12)))[0]
    return a.astype(np.float32), (a @ turn.T + noise * rng.standard_normal((n, 16))).astype(np.float32)


@pytest.fixture(scope="module")
def found():
    """A correlation of 30 and 24 features: the first 18 are noisy copies, and the last of each side is dead."""
    rng = np.random.default_rng(0)
    a = rng.random((3000, 30)) * (rng.random((3000, 30)) < 0.1)
    b = np.hstack([a[:, :18] * (rng.random((3000, 18)) < 0.7), rng.random((3000, 6)) * (rng.random((3000, 6)) < 0.1)])
    a[:, 29], b[:, 23] = 0, 0
    return correlate.features(sparse.csr_array(a.astype(np.float32)), sparse.csr_array(b.astype(np.float32)), k=8)


# --- ways


def test_all_pairs_are_the_matching_above_the_threshold(found):
    one, many = (subspaces.all_pairs(found, how, 0.1) for how in ("one-to-one", "many-to-one"))
    every_pair = matching.many_to_one(found)
    assert min(one.r.min(), many.r.min()) >= 0.1 and len(many.a) == (every_pair.r >= 0.1).sum() < len(every_pair.a)
    assert len(np.unique(one.b)) == len(one.b)


def test_a_block_has_the_bits_of_the_whole_matrix(found):
    """In any order, whichever side fires less; way 2 pairs the live features by it."""
    matrix = found.block()
    assert matrix.shape == (30, 24) and np.isnan(matrix[29]).all() and np.isnan(matrix[:, 23]).all()
    rng = np.random.default_rng(2)
    for n, m in ((30, 24), (5, 20), (25, 3), (1, 1)):
        a, b = rng.permutation(30)[:n], rng.permutation(24)[:m]
        np.testing.assert_array_equal(found.block(a, b), matrix[np.ix_(a, b)])
        about = np.isin(np.arange(30), a), np.isin(np.arange(24), b)
        best = subspaces.pairs_among(found, *about, how="many-to-one", least=-1)
        a, b = np.setdiff1d(a, 29), np.setdiff1d(b, 23)
        inside = matrix[np.ix_(a, b)]
        np.testing.assert_array_equal(best.a, a)
        np.testing.assert_array_equal(best.r, inside.max(1))
        np.testing.assert_array_equal(best.b, b[inside.argmax(1)])


def test_way_2_correlates_no_feature_outside_the_concept(found):
    """The whole matrix would take 4.3 GB at 32,768 features a side."""
    asked = []

    def block(rows, columns):
        asked.append((rows.tolist(), columns.tolist()))
        return found.block(rows, columns)

    about = np.isin(np.arange(30), [1, 3, 8]), np.isin(np.arange(24), [1, 7])
    for how in ("one-to-one", "many-to-one"):
        subspaces.pairs_among(found._replace(block=block), *about, how=how, least=0.1)
    assert asked == [([1, 3, 8], [1, 7])] * 2


def test_way_1_keeps_pairs_by_their_sides(found):
    pairs = subspaces.all_pairs(found, "one-to-one", 0.1)
    a, b = np.arange(30) < 6, (np.arange(24) > 3) & (np.arange(24) < 10)
    both, either = (subspaces.pairs_about(pairs, a, b, sides=sides) for sides in ("both", "either"))
    assert [(i, j) for i, j in zip(pairs.a, pairs.b, strict=True) if a[i] and b[j]] == list(
        zip(both.a, both.b, strict=True)
    )
    assert len(either.a) == sum(a[i] or b[j] for i, j in zip(pairs.a, pairs.b, strict=True)) > len(both.a) > 0


@pytest.mark.parametrize("how", ["one-to-one", "many-to-one"])
def test_way_2_of_all_features_is_the_matching_of_all(found, how):
    pairs = subspaces.all_pairs(found, how, 0.1)
    every = subspaces.pairs_among(found, np.ones(30, bool), np.ones(24, bool), how=how, least=0.1)
    np.testing.assert_array_equal(every.a, pairs.a)
    np.testing.assert_array_equal(every.b, pairs.b)
    np.testing.assert_allclose(every.r, pairs.r, atol=1e-6)


def test_way_2_ignores_features_outside_the_concept(found):
    """The copy of feature 3 is not about the concept, so that the feature gets another partner."""
    a, b = np.isin(np.arange(30), [1, 3]), np.isin(np.arange(24), [1, 7])
    assert list(subspaces.pairs_among(found, a, b, how="one-to-one", least=-1).a) == [1, 3]
    strict = subspaces.pairs_among(found, a, b, how="many-to-one", least=0.2)
    assert (strict.a.tolist(), strict.b.tolist()) == ([1], [1])


def test_without_features_there_are_no_pairs(found):
    none = np.zeros(30, bool)
    for how in ("one-to-one", "many-to-one"):
        assert len(subspaces.pairs_among(found, none, np.ones(24, bool), how=how, least=0.1).a) == 0
        pairs = subspaces.all_pairs(found, how, 0.1)
        assert len(subspaces.pairs_about(pairs, none, none[:24], sides="either").a) == 0


def test_precision_and_recall_of_pairs_by_hand():
    pairs = chosen([0, 2, 4, 5], [1, 1, 3, 4])
    a, b = np.isin(np.arange(6), [0, 2, 3, 5]), np.isin(np.arange(6), [1, 3])
    assert subspaces.pair_recovery(pairs, a, b) == (4, 0.5, 0.75)
    assert np.isnan(subspaces.pair_recovery(pairs, None, None).precision)
    assert np.isnan(subspaces.pair_recovery(chosen([]), a, b).precision)


def test_enough_pairs_and_partners():
    assert subspaces.enough(chosen(np.arange(12)), 12) and not subspaces.enough(chosen(np.arange(12)), 13)
    assert not subspaces.enough(chosen(np.arange(20), np.arange(20) // 4), 12)


def test_features_about_two_keywords_are_about_neither_only():
    about = {"she": np.array([1, 1, 0, 0], bool), "he": np.array([0, 1, 1, 0], bool)}
    assert subspaces.only_about(about, "she").tolist() == [True, False, False, False]
    assert subspaces.only_about({"she": about["she"]}, "she").tolist() == about["she"].tolist()


# --- tests


def arranged(pairs, a, b, names=("rsa_pearson",), *, m=99, seed=0, pool=None, part=None):
    return subspaces.arrangement(pairs, subspaces.Scoring(a, b, names, 5, pool), m=m, seed=seed, part=part)


def test_shuffled_pairings_are_those_of_significance():
    a, b = copies(1.0)
    at = np.random.default_rng(3).permutation(N)[:25]
    names = ["rsa_spearman", "rsa_pearson", "cka_debiased", "mutual_knn"]
    ours = arranged(chosen(at), a, b, names, m=300, seed=1)
    asked = [measures.measure(n, k=5) if n == "mutual_knn" else measures.measure(n) for n in names]
    theirs = significance.test(a[at], b[at], asked, m=300, seed=1)
    for name, other in zip(names, theirs.values(), strict=True):
        assert ours[name].observed == pytest.approx(other.observed, abs=1e-6)
        assert ours[name].null_mean == pytest.approx(other.null_mean, abs=0.02)
        assert ours[name].null_sd == pytest.approx(other.null_sd, rel=0.2)
        assert ours[name].p == pytest.approx(other.p, abs=0.01) and ours[name].null == "shuffled pairing"


def test_pairs_that_share_a_partner_get_another_one_jointly():
    a, b = copies(1.0)
    many = Pairs.of(np.arange(30), np.arange(30) // 3, np.ones(30), N, N)
    ours = arranged(many, a, b, ["rsa_spearman"], m=300, seed=1)["rsa_spearman"]
    pairs = matching.Pairs(many.a, many.b, many.r, np.zeros(N), np.zeros(N))
    theirs = significance.test_pairs(pairs, a, b, "rsa_spearman", m=300, seed=1)
    assert ours.null == theirs.null == "reassigned among groups"
    assert (ours.observed, ours.null_mean) == pytest.approx((theirs.observed, theirs.null_mean), abs=0.02)


def test_random_pairings_reject_at_the_nominal_rate():
    """Of 40 random pairings about four have p <= 0.1."""
    p = []
    for seed in range(40):
        a, b = copies(0.5, seed)
        wrong = chosen(np.arange(20), np.random.default_rng(seed).permutation(20))
        p.append(arranged(wrong, a, b, seed=seed)["rsa_pearson"].p)
    assert sum(x <= 0.1 for x in p) <= 9 and np.mean(p) == pytest.approx(0.5, abs=0.15)


def test_random_subsets_are_a_baseline():
    """Twelve pairs that are copies score more than twelve random pairs."""
    a, b = copies(3.0)
    b[:12] = copies(0.0)[1][:12]  # the first twelve pairs are copies, the others hardly
    pool, scoring = chosen(np.arange(N)), subspaces.Scoring(a, b, ["rsa_pearson"], 5)
    found = subspaces.random_subsets(12, pool, scoring, m=199, seed=0)["rsa_pearson"]
    assert found.mean == pytest.approx(found.draws.mean()) and len(found.draws) == 199
    special, worse = (measures.rsa(a[at : at + 12], b[at : at + 12]) for at in (0, 20))
    assert special > np.quantile(found.draws, 0.98) and worse < np.quantile(found.draws, 0.7)
    with pytest.raises(ValueError, match="40 pairs to draw 41"):
        subspaces.random_subsets(41, pool, scoring, m=199, seed=0)


@pytest.mark.parametrize("name", measures.NAMES)
def test_every_measure_tests_a_subspace(name):
    """One-to-one and many-to-one, with and without parts, and for the power."""
    a, b = copies(0.3)
    scoring = subspaces.Scoring(a, b, [name], 3, chosen(np.arange(N)))
    for pairs in (chosen(np.arange(30)), chosen(np.arange(30), np.arange(30) // 2)):
        for part in (None, np.arange(N) // 20):
            found = subspaces.arrangement(pairs, scoring, m=19, seed=0, part=part)[name]
            assert np.isfinite([found.observed, found.null_mean, found.p]).all()
    assert found.p > 0.05  # most partners of these pairs are wrong
    assert subspaces.arrangement(chosen(np.arange(30)), scoring, m=19, seed=0)[name].p == 0.05
    assert np.isfinite(subspaces.random_subsets(12, scoring.pool, scoring, m=9, seed=0)[name].mean)
    assert subspaces.power(scoring.pool, scoring, [30], trials=2, m=19, seed=0).tolist() == [1.0]


# --- unions


def two_parts(seed: int, inside: float, n: int = 24) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of two parts that lie apart on both sides, and the part of each; within a part b is a copy with noise."""
    a, b = copies(inside, seed, n)
    part = np.arange(n) % 2
    a[part == 1, 0] += 8
    b[part == 1, 0] += 8
    return a, b, part


def test_the_main_part_has_most_of_the_activation():
    mass = sparse.csr_array(np.array([[3.0, 0, 1], [0, 2, 0], [0, 1, 2]]))  # (words, features)
    found = concepts.Evidence(("x", "y", "z"), np.zeros((3, 1), np.int32), mass, np.ones(3), np.ones(3), np.ones(3))
    masks = [np.array([True, False, False]), np.array([False, True, True])]
    assert subspaces.main_part(found, masks, np.ones(3, bool)).tolist() == [0, 1, 1]
    assert subspaces.main_part(found, masks, np.array([True, False, True])).tolist() == [0, 2, 1]


@pytest.mark.parametrize("many", [False, True], ids=["one-to-one", "many-to-one"])
def test_partners_change_places_within_their_part(many, monkeypatch):
    a, b, part = two_parts(0, 1.0)
    pairs = Pairs.of(np.arange(24), np.arange(24) // 2 if many else np.arange(24), np.ones(24), N, N)
    seen = []
    monkeypatch.setattr(
        subspaces, "of_subsets", lambda x, y, i, j, *rest, **more: seen.append(j) or {"s": np.arange(len(j))}
    )
    arranged(pairs, a, b, ["s"], m=50, part=part)
    assert (seen[0][0] == pairs.b).all()
    moved = seen[0][1:]
    assert moved.shape == (50, 24) and len(np.unique(moved, axis=0)) > 40
    assert (part[moved] == part[pairs.b]).all()
    assert all(sorted(row) == sorted(pairs.b) for row in moved)  # of groups of one size
    assert all(len(np.unique(row[pairs.b == partner])) == 1 for row in moved for partner in np.unique(pairs.b))


def test_separated_parts_are_in_the_null_of_a_union():
    """A shuffle within the parts does not reject where the parts alone are alike, as a full shuffle does."""
    full, within = [], []
    for seed in range(20):
        a, b, part = two_parts(seed, 1.0)
        b[part == 0], b[part == 1] = b[part == 0][::-1], b[part == 1][::-1]  # wrong partners in the right part
        full.append(arranged(chosen(np.arange(24)), a, b, seed=seed)["rsa_pearson"].p)
        within.append(arranged(chosen(np.arange(24)), a, b, seed=seed, part=part)["rsa_pearson"].p)
    assert max(full) < 0.05 and sum(p < 0.05 for p in within) <= 4 and np.mean(within) > 0.3
    a, b, part = two_parts(0, 0.2)
    found = arranged(chosen(np.arange(24)), a, b, seed=19, part=part)["rsa_pearson"]
    assert found.p == 0.01 and found.null == "shuffled within the parts" and found.movable == 1


def test_pairs_that_cannot_move_within_their_part_are_counted():
    a, b, _ = two_parts(0, 1.0)
    part = np.where(np.arange(24) < 18, np.arange(24), 30)  # six share a part, each of the others has its own
    found = arranged(chosen(np.arange(24)), a, b, m=19, part=part)["rsa_pearson"]
    assert found.movable == 0.25 and found.undetermined


# --- the rotation from other pairs


def test_a_common_rotation_aligns_pairs_on_which_it_was_not_fitted():
    a, b = copies(0.0)
    inside, pool = chosen(np.arange(10)), chosen(np.arange(N))
    exact = arranged(inside, a, b, pool=pool)
    assert exact[subspaces.OUTSIDE].observed == pytest.approx(1, abs=1e-5)
    assert exact[subspaces.OUTSIDE].p == 0.01 and exact[subspaces.OUTSIDE].n == 10
    without = arranged(inside, a, b)
    assert list(without) == ["rsa_pearson"] and (without["rsa_pearson"].draws == exact["rsa_pearson"].draws).all()
    b[:10] = -b[:10]  # another rotation inside than outside
    assert arranged(inside, a, b, [], pool=pool)[subspaces.OUTSIDE].observed < 0


def test_the_rotation_is_fitted_on_no_pair_of_the_subspace():
    a, b = copies(0.5)
    inside, pool = chosen(np.arange(10)), chosen(np.arange(N))
    found = subspaces.rotated_cosine(inside.a[None], inside.b[None], pool, a, b)
    x, y = a[10:].astype(float), b[10:].astype(float)
    left, _, right = np.linalg.svd((x - x.mean(0)).T @ (y - y.mean(0)), full_matrices=False)
    u, v = (a[:10] - x.mean(0)) @ left @ right, b[:10] - y.mean(0)
    expected = (u * v).sum() / np.linalg.norm(a[:10] - x.mean(0)) / np.linalg.norm(v)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


# --- power


def test_power_grows_with_n_up_to_the_fewest_pairs():
    a, b = copies(1.5, n=60)
    sizes = [6, 12, 24, 48, 96]
    scoring = subspaces.Scoring(a, b, ["rsa_pearson"], 5)
    power = subspaces.power(chosen(np.arange(60)), scoring, sizes, trials=20, m=59, seed=0)
    assert np.isnan(power[4]) and power[3] > power[0] + 0.4
    n = subspaces.fewest_pairs(sizes, power, 0.8)
    assert n in sizes and power[sizes.index(n)] >= 0.8


def test_the_fewest_pairs_are_those_from_which_on_the_power_stays():
    sizes = [5, 10, 20, 40]
    assert subspaces.fewest_pairs([40, 5, 20, 10], np.array([1, 0.9, 0.8, 0.5]), 0.8) == 20
    assert subspaces.fewest_pairs(sizes, np.array([0.9, 0.5, 0.8, 1]), 0.8) == 20
    assert subspaces.fewest_pairs(sizes, np.array([0.1, 0.5, 0.8, np.nan]), 0.8) == 20
    assert subspaces.fewest_pairs(sizes, np.array([0.1, 0.2, 0.3, np.nan]), 0.8) == 21
    assert subspaces.fewest_pairs(sizes, np.full(4, np.nan), 0.8) == 1


def test_one_partner_for_all_is_never_found():
    a, b = copies(1.0)
    same = chosen(np.arange(20), np.zeros(20, int))
    scoring = subspaces.Scoring(a, b, ["rsa_pearson"], 5)
    assert subspaces.power(same, scoring, [10], trials=3, m=19, seed=0).tolist() == [0.0]
