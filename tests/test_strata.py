"""Partners within strata: a planted world in which only strata are shared, and one in which pairs are."""

import numpy as np
import pytest

from sae_utils import nulls
from sae_utils.studies.function import strata

PAIRS, GROUPS, WORDS = 60, 6, 200


def planted(rng, own):
    """Logits of pairs that share what their stratum promotes, and `own` of what is theirs; their strata."""
    group = np.repeat(np.arange(GROUPS), PAIRS // GROUPS)
    centre, shared = rng.standard_normal((GROUPS, WORDS)), rng.standard_normal((PAIRS, WORDS))
    sides = [centre[group] + own * shared + rng.standard_normal((PAIRS, WORDS)) for _ in "ab"]
    return np.corrcoef(*sides)[:PAIRS, PAIRS:], group


def test_where_only_strata_are_shared_there_is_no_excess_within_them():
    rng, p, excess = np.random.default_rng(0), [], []
    for draw in range(100):
        similar, group = planted(rng, own=0.0)
        found = strata.tests(similar, {"stratum": group}, m=39, seed=draw)
        assert found[strata.FREE].p == 1 / 40 and found[strata.FREE].excess > 0.3
        p.append(found["stratum"].p)
        excess.append(found["stratum"].excess)
    assert np.mean(np.array(p) <= 0.05) <= 0.11
    assert abs(np.mean(excess)) < 3 * np.std(excess) / 10 + 1e-3


def test_what_pairs_share_beyond_their_strata_is_found():
    similar, group = planted(np.random.default_rng(1), own=1.0)
    found = strata.tests(similar, {"stratum": group}, m=199, seed=0)["stratum"]
    assert found.p == 1 / 200 and found.excess > 0.2 and found.movable == 1


def test_the_mean_of_free_shuffles_is_exact():
    similar, _ = planted(np.random.default_rng(2), own=1.0)
    found = strata.shuffled(similar, nulls.shuffled(), m=2000, seed=0)
    assert found.null_mean == pytest.approx(similar.mean())
    assert found.null_mean == pytest.approx(found.draws.mean(), abs=5 * found.null_sd / np.sqrt(2000))


def test_strata_of_one_cannot_move():
    similar, _ = planted(np.random.default_rng(3), own=1.0)
    found = strata.tests(similar, {"alone": np.arange(PAIRS)}, m=19, seed=0)["alone"]
    assert found.movable == 0 and found.undetermined and found.null_mean == pytest.approx(found.observed)


def test_bins_hold_about_as_many_and_joined_labels_tell_all_apart():
    values = np.random.default_rng(4).exponential(size=100)
    np.testing.assert_array_equal(np.bincount(strata.bins(values, 4)), 25)
    assert (strata.bins(np.ones(10), 4) == 3).all()
    np.testing.assert_array_equal(strata.joined(np.array([0, 0, 1, 1]), np.array([0, 1, 0, 0])), [0, 1, 2, 2])


def test_partners_of_equal_r_are_those_of_other_concepts():
    similar = np.array([[1.0, 0.5, 0.2], [0.4, 0.9, 0.1], [0.3, 0.6, 0.8]])
    r, concept = np.array([0.5, 0.52, 0.9]), np.array([0, 1, 0])
    found = strata.equal_r(similar, r, concept, caliper=0.05)
    assert found == (pytest.approx(0.95), pytest.approx(0.45), pytest.approx(2 / 3))
    assert strata.equal_r(similar, r, np.zeros(3), 0.05).movable == 0
    assert strata.equal_r(similar, np.array([0.5, np.nan, 0.9]), concept, 0.05).movable == 0


def test_a_group_against_itself():
    similar = np.array([[1.0, 0.5, 9], [0.3, 0.8, 9], [9, 9, 9]])
    assert strata.within(similar, np.array([True, True, False])) == (pytest.approx(0.9), pytest.approx(0.4))
    assert np.isnan(strata.within(similar, np.array([True, False, False]))).all()
    rows = np.random.default_rng(5).standard_normal((7, 4))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    assert strata.spread(rows) == pytest.approx((rows @ rows.T)[np.triu_indices(7, 1)].mean())
    assert np.isnan(strata.spread(rows[:1]))
