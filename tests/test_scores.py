"""Scores of arms, in planted worlds: features of A and B that share words, or words and structure."""

import numpy as np
import pytest
from scipy import sparse

from sae_utils import inference, measures
from sae_utils.studies.controls import facts, scores
from sae_utils.studies.controls.scores import View

RSA, KNN = measures.measure("rsa_spearman"), measures.measure("mutual_knn", k=5)
WORDS, FEATURES, TOKENS = 120, 60, 6000


def fires_on(word_of, generator):
    """Tokens and codes (tokens, features): a feature fires on one word, not always."""
    tokens = generator.integers(0, WORDS, TOKENS)
    fires = (tokens[:, None] == word_of) & (generator.random((TOKENS, len(word_of))) < 0.9)
    return tokens, sparse.csr_array(np.where(fires, 1 + generator.random(fires.shape), 0))


def world(seed, shared):
    """True and control view: B's features 0 to 59 have A's words, 60 to 119 others; `shared` structure or none.

    Decoder rows are the embedding of the word beside a structure of the feature's own; a structure is of a feature,
    so that no fact about words knows it.
    """
    generator = np.random.default_rng(seed)
    vectors, own, other = (generator.normal(size=(WORDS, 24)) for _ in range(3))
    turn = np.linalg.qr(generator.normal(size=(48, 48)))[0]
    word_a, word_b = np.arange(FEATURES), np.arange(WORDS)
    decoder_a = np.hstack([vectors, own])[:FEATURES]
    decoder_b = np.hstack([vectors, own if shared else other]) @ turn
    read = [fires_on(words, generator) for words in (word_a, word_b)]
    known = tuple(facts.of(codes, tokens, {"token embeddings": vectors}, top=3) for tokens, codes in read)
    made = []
    for start in (0, FEATURES):
        left, right = np.arange(FEATURES), np.arange(start, start + FEATURES)
        r = np.full(FEATURES, 0.6 if start == 0 else 0.3)
        made.append(View(left, right, (decoder_a, decoder_b[right]), r, known, np.zeros((FEATURES, WORDS))))
    return made


def differences(shared):
    """Of the raw similarity and by fact of the partial one, true arm minus control, over worlds."""
    found = []
    for seed in range(6):
        true, control = (scores.explained(view) for view in world(seed, shared))
        raw = {"raw": true[scores.ALL].raw - control[scores.ALL].raw}
        found.append(raw | {fact: true[fact].partial - control[fact].partial for fact in true})
    return {name: np.mean([x[name] for x in found]) for name in found[0]}


def test_what_goes_through_embeddings_alone_vanishes_when_they_are_given():
    found = differences(shared=False)
    assert found["raw"] > 0.35
    assert abs(found["token embeddings"]) < 0.1 and abs(found[scores.ALL]) < 0.1
    assert abs(found["token embeddings"]) < 0.25 * found["raw"]
    assert found["firing frequency"] > 0.3 and found["co-firing"] > 0.3  # which have no part in it


def test_structure_of_their_own_survives_every_fact():
    found = differences(shared=True)
    assert found["raw"] > 0.9 and min(found.values()) > 0.8


def test_excess_is_the_score_over_its_null():
    true, control = world(0, shared=True)
    assert scores.excess(true.rows, RSA) > 0.95 and abs(scores.excess(control.rows, RSA)) < 0.1
    overlap, chance = measures.mutual_knn(*control.rows, k=5), 5 / (FEATURES - 1)
    assert scores.excess(control.rows, KNN) == pytest.approx((overlap - chance) / (1 - chance))
    assert np.isnan(scores.excess(true.subset(np.arange(9)).rows, RSA))
    found = scores.between(true, control.subset(np.arange(40)), RSA)
    assert found.n == 40 and found.difference == found.true - found.control


def test_features_without_a_shared_token_are_the_same_in_both_arms():
    true, control = world(0, shared=True)
    right = np.concatenate([true.right[:30], control.right[30:]])  # half of the partners have another word
    mixed = true._replace(right=right)
    found = scores.without_shared_token(mixed, control, RSA)
    assert found.n == 30
    later = np.arange(30, FEATURES)
    assert found.control == scores.excess(control.subset(later).rows, RSA)
    assert found.true == scores.excess(mixed.subset(later).rows, RSA)


def test_equally_correlated_pairs_are_those_within_both_calipers():
    true, control = world(0, shared=True)
    assert scores.equally_correlated(true, control, RSA, (0.1, 5.0)).n == 0
    generator = np.random.default_rng(0)
    one, two = (view._replace(held_out=generator.random(FEATURES)) for view in (true, control))
    found = scores.equally_correlated(one, two, RSA, (0.02, 5.0))
    kept = inference.alike(one.held_out[:, None], two.held_out[:, None], [0.02])
    assert found.n == len(kept[0]) and found.true == scores.excess(one.subset(kept[0]).rows, RSA)
    narrow = scores.equally_correlated(one, two, RSA, (0.02, 1e-9))  # the same firings: the same feature
    assert narrow.n < found.n


def test_a_cut_by_r_is_made_in_each_arm():
    true, control = world(0, shared=True)
    one = true._replace(held_out=np.linspace(0, 1, FEATURES))
    found = scores.from_r(one, control._replace(held_out=np.ones(FEATURES)), RSA, 0.5)
    assert found.n == 30 and found.true == scores.excess(true.subset(np.arange(30, 60)).rows, RSA)


def test_counterparts_by_firing_alone_are_found_where_firing_tells_features_apart():
    """Features that fire on one and the same set of tokens, each with a rate of its own, and then all with one."""
    generator = np.random.default_rng(0)
    true, _ = world(0, shared=True)
    for rates, share in ((np.linspace(0.05, 0.9, FEATURES), 1.0), (np.full(FEATURES, 0.3), None)):
        codes = sparse.csr_array((generator.random((TOKENS, FEATURES)) < rates) * 1.0)
        order = generator.permutation(FEATURES)
        both = codes, sparse.csr_array(codes[:, order])
        known = tuple(facts.of(x, np.zeros(TOKENS, int), {"words": np.ones((1, 2))}, top=1) for x in both)
        r = np.corrcoef(both[0].toarray().T, both[1].toarray().T)[:FEATURES, FEATURES:]
        view = true._replace(right=np.argsort(order), facts=known, judged=r)
        found = scores.by_firings(view, 0.5)
        brute = [np.abs(np.log(known[1].firings / x)).argmin() for x in known[0].firings]
        assert found == np.mean(r[np.arange(FEATURES), brute] >= 0.5)
        assert found == share or share is None
        assert scores.in_strata(view, 0.5, FEATURES, seed=0) == 1  # strata of one feature: nothing moves
        assert scores.in_strata(view, 0.5, 1, seed=0) < 0.2


def test_arms_are_averaged_over_their_views():
    views = [world(seed, shared=True) for seed in range(3)]
    true, control = (list(side) for side in zip(*views, strict=True))
    found = scores.over_views(true, control, lambda x, y: scores.between(x, y, RSA))
    assert found.control == pytest.approx(np.mean([scores.excess(view.rows, RSA) for view in control]))
    short = [control[0].subset([0, 1]), *control[1:]]  # in which the first has no score
    few = scores.over_views(true, short, lambda x, y: scores.between(x, y, RSA))
    rest = np.mean([scores.excess(view.rows, RSA) for view in control[1:]])
    assert few.n == FEATURES and few.control == pytest.approx(rest)
    partial = scores.mean_accounts(control)["co-firing"].partial
    assert partial == pytest.approx(np.mean([scores.explained(view)["co-firing"].partial for view in control]))
    assert scores.mean_accounts([control[0], control[1].subset([0, 1])]) == {}
    assert np.isnan(scores.mean([])) and np.isnan(scores.mean([1, np.nan])) and scores.mean([1, 2]) == 1.5
