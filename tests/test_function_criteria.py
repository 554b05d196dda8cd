"""Three criteria of matching on planted features: each finds the partner by what it reads; hubs by hand."""

from types import SimpleNamespace

import numpy as np
import pytest

from sae_utils import correlate, matching
from sae_utils.studies.function import criteria
from sae_utils.studies.function.paired import TRUE, Both
from sae_utils.studies.semantic_subspaces import word2vec

FEATURES = 12


@pytest.fixture
def planted():
    """Features of B that fire as those of A, that promote as those one further, and mean as those two further."""
    rng = np.random.default_rng(0)
    codes = np.maximum(rng.standard_normal((400, FEATURES)), 0).astype(np.float32)
    found = correlate.features(codes, codes + 0.1 * rng.random(codes.shape).astype(np.float32), k=FEATURES)
    unit = rng.standard_normal((FEATURES, 30))
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    side = SimpleNamespace(top=np.repeat([0, 1, 2], 4), labels=[".", "cat", "dog"])
    both = Both(side, side, None, {TRUE: (unit, np.roll(unit, 1, axis=0))}, {})
    return both, found, (unit, np.roll(unit, 2, axis=0))


def test_each_criterion_pairs_by_what_it_reads(planted):
    both, found, meanings = planted
    made = criteria.pairs(both, found, TRUE, meanings)
    for shift, name in enumerate(criteria.CRITERIA):
        np.testing.assert_array_equal(made[name].b, (made[name].a + shift) % FEATURES)
        assert len(made[name]) == FEATURES


def test_features_without_a_meaning_are_not_paired_by_it(planted):
    both, found, (one, two) = planted
    one = one.copy()
    one[:3] = 0
    assert set(criteria.pairs(both, found, TRUE, (one, two))[criteria.MEANING].a) == set(range(3, FEATURES))
    assert criteria.MEANING not in criteria.pairs(both, found, TRUE, (0 * one, two))


def test_vectors_of_labels_are_centred_and_0_where_there_are_none():
    unit = np.array([[1, 0], [0, 1]], np.float32)
    found = criteria.of_labels(word2vec.Vectors({"cat": 0, "dog": 1}, unit), [".", "dog", "cat"])
    np.testing.assert_allclose(found, [[0, 0], [-0.5, 0.5], [0.5, -0.5]])


def test_groups_and_how_their_partners_stand_out(planted):
    both, found, _ = planted
    x = SimpleNamespace(found=found)
    of = criteria.groups(both, x, ".", 1)
    assert [members.tolist() for members in of[criteria.PERIOD]] == [[0, 1, 2, 3]]
    assert [members.tolist() for members in of[criteria.TOKENS]] == [[4, 5, 6, 7], [8, 9, 10, 11]]
    assert of[criteria.HUBS] == [] and len(of[criteria.ALL][0]) == FEATURES
    table = criteria.hubs(both, x, ".", 1).set_index("features that")
    one, two = both.units[TRUE]
    similar = one[:4] @ two[:4].T
    assert table.own[criteria.PERIOD] == pytest.approx(np.diag(similar).mean())
    assert table.others[criteria.PERIOD] == pytest.approx((similar.sum() - np.trace(similar)) / 12)
    assert table.pairs[criteria.ALL] == FEATURES == len(matching.mutual(found))
    assert np.isnan(table.alike[criteria.HUBS])
