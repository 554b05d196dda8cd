"""Planted relations are parallel and alike in both models; words without features of their own are left out."""

from itertools import combinations, permutations

import numpy as np
import pytest
from scipy import sparse

from sae_utils.engine.core.spec import ProfileError
from sae_utils.engine.text.words import Words
from sae_utils.matching import Pairs
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
    index = np.arange(len(FLAT))
    return Pairs.of(index, index, np.ones(len(FLAT)), len(FLAT), len(FLAT)), (found, found)


def rows(seed, parallel=True):
    """Rows of pairs of words; the second of a pair is a common step from the first, or anywhere."""
    rng = np.random.default_rng(seed)
    base, step = rng.standard_normal((6, 8)), 3 * rng.standard_normal(8)
    other = base + step + 0.3 * rng.standard_normal((6, 8)) if parallel else 3 * rng.standard_normal((6, 8))
    return np.stack([base, other], axis=1).reshape(12, 8)


def test_every_word_finds_its_feature():
    pairs, found = world()
    made = relations.find(pairs, found, [[a.upper(), b] for a, b in PAIRS], share=0.5)
    assert made.words == [tuple(pair) for pair in PAIRS] and not made.missing and made.merged == 0
    assert made.first.tolist() == [0, 2, 4, 6, 8, 10] and made.second.tolist() == [1, 3, 5, 7, 9, 11]


def test_words_without_a_feature_are_named():
    pairs, found = world(extra=["prince"])
    made = relations.find(pairs, found, [*PAIRS, ["prince", "nobody"]], share=0.5)
    assert made.missing == ["prince", "nobody"] and len(made.words) == 6
    assert len(relations.find(pairs, found, PAIRS, share=0.99).words) == 0  # too much goes to the other word


def test_a_group_of_words_counts_as_one():
    pairs, found = world()
    both = Pairs.of(pairs.a[[0]], pairs.b[[1]], pairs.r[[0]], len(FLAT), len(FLAT))  # king in a, queen in b
    assert relations.find(both, found, [["king queen", "man"]], share=0.5).missing == ["man"]
    assert relations.find(both, found, [["king", "queen"]], share=0.5).missing == ["king", "queen"]


def test_two_words_of_one_feature_are_no_relation():
    pairs, found = world()
    one = pairs.subset([0, 2])
    assert relations.find(one, found, [["king", "king"], ["king", "man"]], share=0.5).merged == 1


def test_relations_that_share_a_feature_count_once():
    """In any model a difference is partly parallel to another one that has a feature in common with it."""
    pairs, found = world()
    same = relations.find(pairs, found, [["king", "queen"], ["queen", "king"], ["king", "queen"]], share=0.5)
    assert (same.words, same.shared, same.merged) == ([("king", "queen")], 2, 0)
    chain = relations.find(pairs, found, [["king", "queen"], ["queen", "man"], ["man", "woman"]], share=0.5)
    assert (chain.words, chain.shared) == ([("king", "queen"), ("man", "woman")], 1)
    for relation in (same, chain):
        assert len(np.unique([relation.first, relation.second])) == 2 * len(relation.words)


def test_pairs_that_share_a_feature_of_one_side_do_not_make_a_relation():
    """Many-to-one pairs: king and queen share a feature of b, and so do man and woman."""
    _, found = world()
    a = np.arange(12)
    b = np.where(np.isin(a, [1, 3]), a - 1, a)
    spread = found[1]._replace(mass=found[1].mass + found[1].mass[:, (a + 1) % 12])
    made = relations.find(Pairs.of(a, b, np.ones(12), 99, 99), (found[0], spread), PAIRS, share=0.3)
    assert made.merged == 2 and made.words == [tuple(pair) for pair in PAIRS[2:]]
    crossed = relations.find(
        Pairs.of(a, b, np.ones(12), 99, 99), (found[0], spread), [["king", "boy"], ["queen", "girl"]], share=0.3
    )
    assert (crossed.words, crossed.shared) == ([("king", "boy")], 1)


def test_of_relations_that_share_a_feature_the_best_is_kept():
    pairs, found = world()
    weaker = [side._replace(total=side.total * np.where(np.arange(12) == 1, 1.5, 1)) for side in found]  # queen's
    made = relations.find(pairs, tuple(weaker), [["king", "queen"], ["man", "king"], ["queen", "he"]], share=0.5)
    assert (made.words, made.shared) == ([("man", "king"), ("queen", "he")], 1)


@pytest.mark.parametrize("bad", ["king queen", ["king"], ["king", ""], ["king", " "], ["king", 1], ["a", "b", "c"]])
def test_a_relation_that_is_not_of_two_words_is_refused(bad):
    pairs, found = world()
    with pytest.raises(ProfileError, match=r"relation\.words: .* is no relation; write two words"):
        relations.find(pairs, found, [["king", "queen"], bad], share=0.5)


def test_without_pairs_there_are_no_relations():
    _, found = world()
    none = Pairs.of([], [], [], len(FLAT), len(FLAT))
    assert relations.find(none, found, PAIRS, share=0.5).words == []


def test_planted_relations_are_found():
    pairs, found = world()
    made = relations.find(pairs, found, PAIRS, share=0.5)
    result = relations.test(made, rows(0), rows(1), m=199, seed=0)
    assert result["parallel a"].p == result["parallel b"].p == 1 / 200 and result["parallel a"].observed > 0.8
    assert result["across"].n == 6


def test_unrelated_differences_reject_at_the_nominal_rate():
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
    """The differences are not parallel, but the same in both models up to a rotation."""
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


def test_a_pair_of_features_in_two_relations_is_refused():
    pairs, found = world()
    made = relations.find(pairs, found, PAIRS, share=0.5)
    with pytest.raises(ValueError, match="6 relations of 11 pairs of features"):
        relations.test(made._replace(second=made.second[[0, 0, 2, 3, 4, 5]]), rows(0), rows(1), m=19, seed=0)


def naive(a, b, order_a, order_b):
    """Mean cosines and their correlation in a loop; relation i has the features 2i and 2i + 1."""
    cosines = []
    for side, order in ((a, order_a), (b, order_b)):
        steps = [side[order[i]] - side[order[i + 1]] for i in range(0, len(order), 2)]
        cosines.append([u @ v / np.linalg.norm(u) / np.linalg.norm(v) for u, v in combinations(steps, 2)])
    return np.mean(cosines[0]), np.mean(cosines[1]), np.corrcoef(*cosines)[0, 1]


@pytest.mark.parametrize("parallel", [True, False])
def test_three_relations_against_all_orders_of_their_features(parallel):
    pairs, found = world()
    made = relations.find(pairs, found, PAIRS[:3], share=0.5)
    a, b = rows(2, parallel), rows(52, parallel)
    result = relations.test(made, a, b, m=3999, seed=0)
    here = list(range(6))
    observed = naive(a, b, here, here)
    every = np.array(
        [[naive(a, b, order, here)[0], *naive(a, b, here, order)[1:]] for order in map(list, permutations(here))]
    )
    for place, name in enumerate(relations.SCORES):
        assert result[name].observed == pytest.approx(observed[place])
        assert result[name].null_mean == pytest.approx(every[:, place].mean(), abs=0.03)
        exact = np.mean(every[:, place] >= observed[place] - 1e-9)
        assert result[name].p == pytest.approx(exact, abs=0.025)
    if parallel:  # of 720 orders 12 are the same relations
        assert result["parallel a"].p < 0.03 and result["parallel b"].p < 0.03


def test_features_of_other_words_make_no_relation():
    """The planted features are given to the wrong words."""
    pairs, found = world()
    made = relations.find(pairs, found, PAIRS, share=0.5)
    wrong = np.random.default_rng(4)
    p = [
        relations.test(made, rows(s)[wrong.permutation(12)], rows(s + 50), m=99, seed=s)["parallel a"].p
        for s in range(20)
    ]
    assert sum(x <= 0.1 for x in p) <= 5


def test_columns_have_the_scores_or_too_few():
    pairs, found = world()
    made, few = (relations.find(pairs, found, PAIRS[:n], share=0.5) for n in (3, 2))
    result = relations.test(made, rows(0), rows(1), m=19, seed=0)
    cells = relations.columns(made, result)
    assert cells["n"] == "3" and cells["across"] == f"{result['across'].observed:.2f}"
    assert cells["parallel a, p"] == f"{result['parallel a'].p:.3f}"
    assert relations.columns(few, None) == {
        "n": "2", "parallel a": "too few", "parallel a, p": "", "parallel b": "too few", "parallel b, p": "",
        "across": "too few", "across, p": "",
    }  # fmt: skip
