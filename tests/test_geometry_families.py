"""Families: planted groups are found, and shared where they are shared."""

import networkx
import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from sae_utils.studies.geometry import families, planted
from sae_utils.studies.geometry.paired import CONTROL, TRUE, Paired

RNG = np.random.default_rng
GROUPS = np.arange(60) // 10


def drawn(strength, seed):
    return planted.codes(60, 6, 1500, strength, RNG(seed))


@pytest.mark.parametrize("kind", families.KINDS)
def test_planted_groups_are_found_and_nothing_is_not(kind):
    assert families.rand(families.of(drawn(0.5, 0), kind, 5, 0), GROUPS) == 1
    none = [families.rand(families.of(drawn(0.0, i), kind, 5, 0), GROUPS) for i in range(5)]
    assert abs(np.mean(none)) < 0.03


def test_separate_cliques_are_families():
    similar = np.where(GROUPS[:, None] == GROUPS, 0.9, -0.1)
    np.fill_diagonal(similar, np.nan)
    assert families.rand(families.communities(similar, 9, 0), GROUPS) == 1


def test_the_rand_index_is_that_of_scikit_learn():
    rng = RNG(0)
    for _ in range(20):
        one, two = (rng.integers(4, size=30) for _ in "ab")
        assert families.rand(one, two) == pytest.approx(adjusted_rand_score(one, two))
    assert families.rand(one, (one + 1) % 4) == 1


def test_the_same_seed_gives_the_same_families_and_more_modularity_than_the_groups_at_random():
    similar = families.similarity(drawn(0.5, 0), families.COFIRING)
    found = [families.communities(similar, 5, 3) for _ in "ab"]
    assert (found[0] == found[1]).all() and networkx.__version__
    assert np.isnan(np.diag(similar)).all() and (np.bincount(found[0])[:-1] >= np.bincount(found[0])[1:]).all()


@pytest.mark.parametrize("kind", families.KINDS)
def test_shared_families_are_told_from_a_control_with_others(kind):
    """B has the groups of A, the control has groups of its own, in another order."""
    order = RNG(9).permutation(60)
    other = drawn(0.5, 2)
    control = other._replace(rows=other.rows[order], codes=other.codes[:, order])
    own = Paired(np.arange(60), {}, drawn(0.5, 0), {TRUE: drawn(0.5, 1), CONTROL: control}, 60)
    found = families.compare(own, 5, 19, 0)
    assert found[TRUE, kind].across.observed == 1 and found[TRUE, kind].across.p == 0.05
    assert abs(found[CONTROL, kind].across.observed) < 0.1 and found[TRUE, kind].within == 1
    frame = families.frame({0: found, 1: found})
    assert families.gaps(frame)[kind].tolist() == pytest.approx([1, 1], abs=0.1)
    assert len(families.gaps(frame[frame.arm == TRUE])) == 0


def test_shuffled_pairings_keep_the_level():
    rng, found = RNG(1), []
    for _ in range(100):
        one, two = (rng.integers(5, size=50) for _ in "ab")
        found.append(families.across(one, two, 39, int(rng.integers(1000))).p)
    assert np.mean(np.array(found) <= 0.05) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 100)


def test_too_few_features_are_refused():
    with pytest.raises(ValueError, match="5 features, of 5 neighbours each: give more features or fewer neighbours"):
        families.communities(np.eye(5), 5, 0)
