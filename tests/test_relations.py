"""Planted relations are parallel and alike in both models; words without a feature are said."""

import numpy as np
import pytest
from scipy import sparse

from sae_utils.studies import concepts, relations
from sae_utils.studies.subspaces import Chosen
from sae_utils.studies.words import Words

PAIRS = [["king", "queen"], ["man", "woman"], ["duke", "duchess"], ["boy", "girl"], ["lord", "lady"], ["he", "she"]]
FLAT = [word for pair in PAIRS for word in pair]


def world(extra=()):
    """Feature i of both sides fires on word i alone, and a little on another."""
    text = sorted({*FLAT, "other", *extra})
    of = np.tile(np.arange(len(text), dtype=np.int32), 20)
    dense = np.zeros((len(of), len(FLAT)), np.float32)
    for i, word in enumerate(FLAT):
        dense[of == text.index(word), i] = 1
        dense[of == text.index("other"), i] = 0.2
    on, documents = np.ones(len(of), bool), np.arange(len(of))
    found = concepts.evidence(sparse.csr_array(dense), Words(tuple(text), of), documents, on, k=5)
    index = np.arange(len(FLAT))
    return Chosen(index, index, np.ones(len(FLAT), np.float32)), (found, found)


def rows(seed, parallel=True):
    """One random row a pair of words; the second word is one common step away, or any."""
    rng = np.random.default_rng(seed)
    base, step = rng.standard_normal((6, 8)), 3 * rng.standard_normal(8)
    other = base + step + 0.3 * rng.standard_normal((6, 8)) if parallel else 3 * rng.standard_normal((6, 8))
    return np.stack([base, other], axis=1).reshape(12, 8)


def test_every_word_finds_its_feature():
    pairs, found = world()
    made = relations.find(pairs, found, [[a.upper(), b] for a, b in PAIRS], share=0.5)
    assert made.words == [tuple(pair) for pair in PAIRS] and not made.without and made.merged == 0
    assert made.first.tolist() == [0, 2, 4, 6, 8, 10] and made.second.tolist() == [1, 3, 5, 7, 9, 11]


def test_words_without_a_feature_are_said():
    pairs, found = world(extra=["prince"])
    made = relations.find(pairs, found, [*PAIRS, ["prince", "nobody"]], share=0.5)
    assert made.without == ["prince", "nobody"] and len(made.words) == 6
    assert len(relations.find(pairs, found, PAIRS, share=0.99).words) == 0  # too much goes to the other word


def test_a_group_of_words_counts_as_one():
    pairs, found = world()
    both = Chosen(pairs.a[[0]], pairs.b[[1]], pairs.r[[0]])  # king in a, queen in b
    assert relations.find(both, found, [["king queen", "man"]], share=0.5).without == ["man"]
    assert relations.find(both, found, [["king", "queen"]], share=0.5).without == ["king", "queen"]


def test_two_words_of_one_feature_are_no_relation():
    pairs, found = world()
    one = Chosen(pairs.a[[0, 2]], pairs.b[[0, 2]], pairs.r[[0, 2]])
    assert relations.find(one, found, [["king", "king"], ["king", "man"]], share=0.5).merged == 1


def test_no_pairs_no_relations():
    pairs, found = world()
    none = Chosen(pairs.a[:0], pairs.b[:0], pairs.r[:0])
    assert relations.find(none, found, PAIRS, share=0.5).words == []


def test_planted_relations_are_found():
    pairs, found = world()
    made = relations.find(pairs, found, PAIRS, share=0.5)
    result = relations.test(made, rows(0), rows(1), m=199, seed=0)
    assert result["parallel a"].p == result["parallel b"].p == 1 / 200 and result["parallel a"].observed > 0.8
    assert result["across"].n == 6


def test_unrelated_differences_are_not():
    pairs, found = world()
    made = relations.find(pairs, found, PAIRS, share=0.5)
    p = np.array(
        [
            [x.p for x in relations.test(made, rows(s, False), rows(s + 50, False), m=49, seed=s).values()]
            for s in range(20)
        ]
    )
    assert ((p <= 0.1).sum(0) <= 6).all()


def test_the_same_arrangement_is_found_across():
    """Differences that are no more parallel than any, but the same in both models up to a rotation."""
    pairs, found = world()
    made = relations.find(pairs, found, PAIRS, share=0.5)
    a = rows(3, parallel=False)
    turn = np.linalg.qr(np.random.default_rng(9).standard_normal((11, 8)))[0]
    result = relations.test(made, a, a @ turn.T, m=199, seed=0)
    assert result["across"].observed == pytest.approx(1) and result["across"].p == 1 / 200
    assert result["parallel a"].observed == pytest.approx(result["parallel b"].observed)


def test_too_few_relations_are_refused():
    pairs, found = world()
    made = relations.find(pairs, found, PAIRS[:2], share=0.5)
    with pytest.raises(ValueError, match="2 relations"):
        relations.test(made, rows(0), rows(1), m=19, seed=0)
