"""Planted relations are parallel and alike in both models; words without features of their own are left out."""

from itertools import combinations, permutations

import numpy as np
import pytest
from scipy import sparse

from sae_utils.engine.core.spec import ProfileError
from sae_utils.engine.text.words import Words
from sae_utils.studies.semantic_subspaces import concepts, relations

PAIRS = [["king", "queen"], ["man", "woman"], ["duke", "duchess"], ["boy", "girl"], ["lord", "lady"], ["he", "she"]]
FLAT = [word for pair in PAIRS for word in pair]


def world(extra=()):
    """Feature i of both sides fires on word i, and a little on one other word."""
    text = sorted({*FLAT, "other", *extra})
    of = np.tile(np.arange(len(text), dtype=np.int32), 20)
    dense = np.zeros((len(of), len(FLAT)), np.float32)
    for i, word in enumerate(FLAT):
        dense[of == text.index(word), i] = 1
        dense[of == text.index("other"), i] = 0.2
    on, documents = np.ones(len(of), bool), np.arange(len(of))
    found = concepts.evidence(sparse.csr_array(dense), Words(tuple(text), of), documents, on, k=5)
    return found


LIVE = np.ones(len(FLAT), bool)


def rows(seed, parallel=True):
    """Rows of first and of second words; the second of a pair is a common step from the first, or anywhere."""
    rng = np.random.default_rng(seed)
    base, step = rng.standard_normal((6, 8)), 3 * rng.standard_normal(8)
    other = base + step + 0.3 * rng.standard_normal((6, 8)) if parallel else 3 * rng.standard_normal((6, 8))
    return np.concatenate([base, other])


def test_every_word_finds_its_feature():
    made = relations.find(world(), LIVE, [[a.upper(), b] for a, b in PAIRS], share=0.5)
    assert made.words == [tuple(pair) for pair in PAIRS] and not made.missing and made.merged == 0
    assert made.first.tolist() == [0, 2, 4, 6, 8, 10] and made.second.tolist() == [1, 3, 5, 7, 9, 11]


def test_words_without_a_feature_are_named():
    found = world(extra=["prince"])
    made = relations.find(found, LIVE, [*PAIRS, ["prince", "nobody"]], share=0.5)
    assert made.missing == ["prince", "nobody"] and len(made.words) == 6
    assert len(relations.find(found, LIVE, PAIRS, share=0.99).words) == 0  # too much goes to the other word


def test_a_feature_that_hardly_fires_is_no_word_s():
    made = relations.find(world(), LIVE & (np.arange(12) != 2), PAIRS, share=0.1)
    assert made.missing == ["man"] and made.words == [tuple(pair) for pair in (PAIRS[0], *PAIRS[2:])]


def test_a_group_of_words_counts_as_one():
    made = relations.find(world(), LIVE, [["king queen", "man"]], share=0.5)
    assert made.words == [("king queen", "man")] and made.first.tolist() == [0]
    spread = world()
    half = spread._replace(mass=spread.mass + spread.mass[:, [1, 0, *range(2, 12)]], total=2 * spread.total)
    assert relations.find(half, LIVE, [["king", "man"]], share=0.5).missing == ["king"]
    assert relations.find(half, LIVE, [["king queen", "man"]], share=0.5).missing == []


def test_two_words_of_one_feature_are_no_relation():
    assert relations.find(world(), LIVE, [["king", "king"], ["king", "man"]], share=0.5).merged == 1


def test_relations_that_share_a_feature_count_once():
    """In any model a difference is partly parallel to another one that has a feature in common with it."""
    same = relations.find(world(), LIVE, [["king", "queen"], ["queen", "king"], ["king", "queen"]], share=0.5)
    assert (same.words, same.shared, same.merged) == ([("king", "queen")], 2, 0)
    chain = relations.find(world(), LIVE, [["king", "queen"], ["queen", "man"], ["man", "woman"]], share=0.5)
    assert (chain.words, chain.shared) == ([("king", "queen"), ("man", "woman")], 1)
    for relation in (same, chain):
        assert len(np.unique([relation.first, relation.second])) == 2 * len(relation.words)


def test_of_relations_that_share_a_feature_the_best_is_kept():
    found = world()
    weaker = found._replace(total=found.total * np.where(np.arange(12) == 1, 1.5, 1))  # queen's
    made = relations.find(weaker, LIVE, [["king", "queen"], ["man", "king"], ["queen", "he"]], share=0.5)
    assert (made.words, made.shared) == ([("man", "king"), ("queen", "he")], 1)


@pytest.mark.parametrize("bad", ["king queen", ["king"], ["king", ""], ["king", " "], ["king", 1], ["a", "b", "c"]])
def test_a_relation_that_is_not_of_two_words_is_refused(bad):
    with pytest.raises(ProfileError, match=r"relation\.words: .* is no relation; write two words"):
        relations.find(world(), LIVE, [["king", "queen"], bad], share=0.5)


def test_planted_relations_are_found():
    result = relations.test(rows(0), rows(1), m=199, seed=0)
    assert result["parallel"].p == 1 / 200 and result["parallel"].observed > 0.8
    assert result["across"].n == 6


def test_unrelated_differences_reject_at_the_nominal_rate():
    p = [[x.p for x in relations.test(rows(s, False), rows(s + 50, False), m=49, seed=s).values()] for s in range(20)]
    assert ((np.array(p) <= 0.1).sum(0) <= 6).all()


def test_the_same_arrangement_is_found_across():
    """The differences are not parallel, but the same in both models up to a rotation."""
    a = rows(3, parallel=False)
    turn = np.linalg.qr(np.random.default_rng(9).standard_normal((11, 8)))[0]
    result = relations.test(a, a @ turn.T, m=199, seed=0)
    assert result["across"].observed == pytest.approx(1) and result["across"].p == 1 / 200


def test_too_few_relations_are_refused():
    with pytest.raises(ValueError, match="rows of 4 and 4 words: two for each of at least 3"):
        relations.test(rows(0)[:4], rows(1)[:4], m=19, seed=0)


def naive(a, b, order_a, order_b):
    """Mean cosine in a, and the correlation of the cosines, in a loop; relation i has the rows i and n + i."""
    cosines, n = [], len(a) // 2
    for side, order in ((a, order_a), (b, order_b)):
        steps = [side[order[i]] - side[order[n + i]] for i in range(n)]
        cosines.append([u @ v / np.linalg.norm(u) / np.linalg.norm(v) for u, v in combinations(steps, 2)])
    return np.mean(cosines[0]), np.corrcoef(*cosines)[0, 1]


@pytest.mark.parametrize("parallel", [True, False])
def test_three_relations_against_all_orders_of_their_features(parallel):
    chosen = [0, 1, 2, 6, 7, 8]
    a, b = rows(2, parallel)[chosen], rows(52, parallel)[chosen]
    result = relations.test(a, b, m=3999, seed=0)
    here = list(range(6))
    observed = naive(a, b, here, here)
    every = np.array([[naive(a, b, order, here)[0], naive(a, b, here, order)[1]] for order in permutations(here)])
    for place, name in enumerate(relations.SCORES):
        assert result[name].observed == pytest.approx(observed[place])
        assert result[name].null_mean == pytest.approx(every[:, place].mean(), abs=0.03)
        assert result[name].p == pytest.approx(np.mean(every[:, place] >= observed[place] - 1e-9), abs=0.025)
    if parallel:  # of 720 orders 12 are the same relations
        assert result["parallel"].p < 0.03


def test_features_of_other_words_make_no_relation():
    """The planted features are given to the wrong words."""
    wrong = np.random.default_rng(4)
    p = [relations.test(rows(s)[wrong.permutation(12)], rows(s + 50), m=99, seed=s)["parallel"].p for s in range(20)]
    assert sum(x <= 0.1 for x in p) <= 5
