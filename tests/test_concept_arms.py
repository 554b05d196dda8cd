"""Concepts of one replicate: the excess of a planted pair in both arms, against plain numpy."""

import numpy as np
import pytest
from scipy import sparse
from scipy.stats import rankdata

from sae_utils import replicates
from sae_utils.engine.text.words import Words
from sae_utils.replicates import Side
from sae_utils.studies.semantic_subspaces import arms, concepts

FEATURES, TOKENS = 36, 1200
RULE = concepts.rule({"kind": "mass", "share": 0.5})
TEXT = tuple(f"w{i:02d}" for i in range(FEATURES))
LISTED = TEXT[:14]
MEASURE = "rsa_spearman"


def role(name="a", readings=2, alike=True, seed=0):
    """Feature i of a fires on word i, and so does feature (i + 1) of b; in the control arm, feature (i + 20) of b.

    Rows of partners are the same up to noise where they are `alike`.
    """
    rng = np.random.default_rng(seed)
    of = rng.integers(0, FEATURES, TOKENS).astype(np.int32)
    strength = rng.random(TOKENS)
    fires = np.eye(FEATURES)[of] * strength[:, None]
    codes_a = [sparse.csr_array(fires), sparse.csr_array(fires)]
    codes_b = [sparse.csr_array(np.roll(fires, shift, 1) + 0.01 * rng.random(fires.shape)) for shift in (1, 20)]
    rows_a = rng.standard_normal((FEATURES, 8))
    other = rows_a if alike else rng.standard_normal((FEATURES, 8))
    rows_b = np.roll(np.hstack([other, other[:, :2]]) + 0.1 * rng.standard_normal((FEATURES, 10)), 1, 0)
    blocks = [{"matching": [codes] * readings} for codes in (codes_a[0], codes_b[0])]
    own = (Side(rows_a, blocks[0], {}), Side(rows_b, blocks[1], {}))
    true, control = (replicates.correlate(codes_a[:1], [of_b]) for of_b in codes_b)
    on, documents = np.ones(TOKENS, bool), np.arange(TOKENS) // 40
    found = concepts.evidence(codes_a[0] if name == "a" else codes_b[0], Words(TEXT, of), documents, on)
    shares = {"first": (np.arange(FEATURES) < 20).astype(float)}
    return arms.Role(name, own, found, found.firings >= 5, shares, (true, control), (true, control))


def measured(*roles, lists=0):
    return arms.concept(roles, "first", LISTED, RULE, MEASURE, 0.5, lists=lists, seed=0)


def excess(x, y):
    """Excess of Spearman RSA, its null mean being 0."""
    upper = np.triu_indices(len(x), 1)
    ranks = [rankdata(1 - np.corrcoef(rows)[upper]) for rows in (x, y)]
    return np.corrcoef(*ranks)[0, 1]


def test_a_concept_has_the_excess_of_its_features_in_both_arms():
    planted = role()
    found, own, at = measured(planted), planted.own, np.arange(14)
    assert found.n == 14 and found.precision == 1 and found.recall == pytest.approx(14 / 20)
    true, control = (excess(own[0].decoder[at], own[1].decoder[(at + shift) % FEATURES]) for shift in (1, 20))
    assert found.true == pytest.approx(true, abs=0.02) and found.true > 0.8
    assert found.control == pytest.approx(control, abs=0.02) and abs(found.control) < 0.4
    assert found.difference == found.true - found.control


def test_models_that_share_nothing_have_no_difference():
    differences = [measured(role(alike=False, seed=seed)).difference for seed in range(12)]
    assert abs(np.mean(differences)) < 3 * np.std(differences) / np.sqrt(12) < 0.3


def test_a_mean_is_over_the_roles():
    one, other = role(seed=1), role(seed=2)
    both, of_one, of_other = measured(one, other), measured(one), measured(other)
    assert both.true == pytest.approx((of_one.true + of_other.true) / 2)


def test_without_exchanged_words_there_is_no_control():
    found = measured(role(readings=1))
    assert found.true > 0.8 and np.isnan(found.control) and np.isnan(found.difference)


def test_too_few_features_have_no_score():
    found = arms.concept([role()], "other", TEXT[:5], RULE, MEASURE, 0.5, lists=2, seed=0)
    assert found.n == 5 and np.isnan([found.true, found.placebo, found.precision]).all()


def test_placebo_lists_are_as_alike_where_all_features_are():
    found = measured(role(), lists=9)
    assert found.placebo == pytest.approx(found.difference, abs=0.3) and found.placebo > 0.5


def test_the_side_b_chooses_as_well():
    flipped = role("b")
    found = measured(flipped)
    assert found.n == 14 and found.true > 0.8 and flipped.strength.min() > 0.9


def test_the_mean_leaves_out_what_is_not_known():
    assert arms.mean([1.0, float("nan"), 3.0]) == 2 and np.isnan(arms.mean([float("nan")])) and np.isnan(arms.mean([]))
