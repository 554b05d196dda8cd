"""Relations and relatedness of one replicate: planted ones, and rows against those of all correlations."""

import numpy as np
import pytest
from scipy import sparse

from sae_utils import replicates
from sae_utils.engine.text.words import Words
from sae_utils.replicates import Side
from sae_utils.studies.semantic_subspaces import concepts, word_arms
from sae_utils.studies.semantic_subspaces.word2vec import Vectors

FEATURES, TOKENS = 36, 1200
TEXT = tuple(f"w{i:02d}" for i in range(FEATURES))
RULE = concepts.rule({"kind": "mass", "share": 0.5})


def role(readings=2, seed=0, side="a"):
    """Feature i of a fires on word i, and so does feature (i + 1) of b; with words exchanged, feature (i + 20)."""
    rng = np.random.default_rng(seed)
    of = rng.integers(0, FEATURES, TOKENS).astype(np.int32)
    exchanged = (of + 17) % FEATURES
    texts = [np.eye(FEATURES)[x] * rng.random(TOKENS)[:, None] for x in (of, exchanged)][:readings]
    a = [sparse.csr_array(x) for x in texts]
    b = [sparse.csr_array(np.roll(x, 1, 1) + 0.01 * rng.random(x.shape)) for x in texts]
    rows_a = rng.standard_normal((FEATURES, 8))
    rows_b = np.roll(np.hstack([rows_a, rows_a[:, :2]]) + 0.1 * rng.standard_normal((FEATURES, 10)), 1, 0)
    own, other = Side(rows_a, {"matching": a}, {}), Side(rows_b, {"matching": b}, {})
    own, other = (own, other) if side == "a" else (other, own)
    found = concepts.evidence(
        own.blocks["matching"][0], Words(TEXT, of), np.arange(TOKENS) // 40, np.ones(TOKENS, bool)
    )
    return word_arms.Role(own, other, "matching", found, found.firings >= 5)


@pytest.mark.parametrize("side", ["a", "b"])
def test_partners_of_a_few_are_those_by_all_correlations(side):
    chosen, features = role(side=side), np.array([3, 30, 8, 11])
    of_own, of_other = (x.blocks["matching"] for x in (chosen.own, chosen.other))
    arms = replicates.correlate(of_own, of_other), replicates.correlate(of_own, of_other[::-1])
    whole = replicates.match("a", features, arms, arms)
    for (mine, partners), expected in zip(chosen.rows(features), (whole.true, whole.control), strict=True):
        np.testing.assert_array_equal(mine, chosen.own.decoder[features])
        np.testing.assert_array_equal(partners, chosen.other.decoder[expected])


def test_a_relation_has_its_excess_in_both_arms():
    pairs = [[TEXT[i], TEXT[i + 6]] for i in range(6)]
    found = word_arms.relation([role()], pairs, 0.5, m=99, seed=0)
    assert found.n == 6 and found.true > 0.8 and found.difference > 0.3
    few = word_arms.relation([role()], pairs[:2], 0.5, m=99, seed=0)
    assert few.n == 2 and np.isnan([few.true, few.parallel, few.difference]).all()


def test_without_exchanged_words_there_is_no_control():
    found = word_arms.relation([role(1)], [[TEXT[i], TEXT[i + 6]] for i in range(6)], 0.5, m=99, seed=0)
    assert found.true > 0.8 and np.isnan(found.control)


def test_the_words_of_a_concept_are_related_where_their_vectors_are():
    rng = np.random.default_rng(2)
    unit = rng.standard_normal((FEATURES, 6))
    unit[:8] = rng.standard_normal(6) * 2 + 0.3 * unit[:8]
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    vectors = Vectors({word: i for i, word in enumerate(TEXT)}, unit.astype(np.float32))
    near, far = (word_arms.related([role()], x, RULE, vectors, m=99, seed=0) for x in (TEXT[:8], TEXT[20:28]))
    assert near.words == 8 and near.unknown == 0
    assert near.related == pytest.approx((unit[:8] @ unit[:8].T)[np.triu_indices(8, 1)].mean(), abs=1e-5)
    assert near.difference > 0.5 > abs(far.difference)


def test_without_features_nothing_is_related():
    vectors = Vectors({}, np.zeros((0, 6), np.float32))
    assert np.isnan(word_arms.related([role()], TEXT[:8], RULE, vectors, m=9, seed=0)).all()
