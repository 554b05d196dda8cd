"""Pairing first and labelling first: planted partners, and all pairings of a few features."""

from itertools import permutations

import numpy as np
import pytest

from sae_utils.studies.semantic_subspaces import ways


def correlations(seed=0, n=6):
    """Feature i of A goes with feature i of B."""
    rng = np.random.default_rng(seed)
    return np.eye(n) + 0.3 * rng.random((n, n))


def mask(*at, n=6):
    return np.isin(np.arange(n), at)


def test_partners_have_the_largest_total_of_all_pairings():
    r, of_a, of_b = np.random.default_rng(1).random((6, 7)), np.array([0, 2, 5]), np.array([1, 3, 4, 6])
    found = ways.partners(r, of_a, of_b)
    assert (found[[1, 3, 4]] == -1).all()
    best = max(permutations(of_b, 3), key=lambda chosen: r[of_a, list(chosen)].sum())
    assert found[of_a].tolist() == list(best)
    fewer = ways.partners(r, of_a, of_b[:2])
    assert (fewer[of_a] >= 0).sum() == 2


def test_the_ways_agree_where_labels_and_activations_do():
    r = correlations()
    paired = ways.partners(r, np.arange(6), np.arange(6))
    assert paired.tolist() == list(range(6))
    assert ways.compare(r, paired, mask(0, 1, 2), mask(0, 1, 2)) == (3, 3, 1, 1)


def test_labelling_first_forces_partners():
    """Of features 0, 1, 2 in A the partners 0 and 1 are about the concept in B, and so is 4, which goes with 4."""
    r = correlations()
    paired = ways.partners(r, np.arange(6), np.arange(6))
    assert ways.compare(r, paired, mask(0, 1, 2), mask(0, 1, 4)) == (2, 3, pytest.approx(2 / 3), 1)


def test_the_partner_may_differ():
    """All features pair 0 with 1; inside the concept, feature 1 of A needs that partner more."""
    r = np.zeros((3, 3))
    r[0, 1], r[0, 0], r[1, 2], r[1, 1] = 0.9, 0.8, 1.0, 0.7
    paired = ways.partners(r, np.arange(3), np.arange(3))
    found = ways.compare(r, paired, mask(0, 1, n=3), mask(0, 1, n=3))
    assert (found.pairing, found.labelling, found.by_both, found.same_partner) == (1, 2, 0.5, 0)


def test_without_features_there_is_no_share():
    r = correlations()
    found = ways.compare(r, ways.partners(r, np.arange(6), np.arange(6)), mask(), mask(0, 1))
    assert found[:2] == (0, 0) and np.isnan(found[2:]).all()
