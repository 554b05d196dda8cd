"""Placebo lists give as many pairs as a concept, and similar ones, but from other words."""

from functools import partial

import numpy as np
import pytest
from scipy import sparse
from scipy.stats import binom

from sae_utils.correlate import Candidates, Correlation, Moments
from sae_utils.engine.text.words import Words
from sae_utils.matching import Pairs
from sae_utils.studies.semantic_subspaces import concepts, placebos, subspaces

WORDS, FEATURES = 120, 90
LIVE = np.ones(FEATURES, bool)
RULE = concepts.rule({"kind": "mass", "share": 0.5})


@pytest.fixture(scope="module")
def world():
    """Features that fire on two or three words each on both sides; feature i of a correlates with feature i of b."""
    rng = np.random.default_rng(0)
    of = rng.integers(0, WORDS, 9000).astype(np.int32)
    words = Words(tuple(f"w{i:03d}" for i in range(WORDS)), of)
    own = [rng.choice(WORDS, rng.integers(2, 4), replace=False) for _ in range(FEATURES)]
    documents, on, found = np.arange(9000) // 50, np.arange(9000) % 2 == 0, []
    for _ in range(2):
        dense = np.stack([np.isin(of, w) * rng.random(9000) for w in own], axis=1) * (rng.random((9000, 90)) < 0.8)
        found.append(concepts.evidence(sparse.csr_array(dense.astype(np.float32)), words, documents, on, k=10))
    r = np.full((FEATURES, FEATURES), 0.05, np.float32) + np.eye(FEATURES, dtype=np.float32) * 0.9
    r[np.arange(90), np.arange(90)] -= rng.random(90).astype(np.float32) * 0.5
    return tuple(found), r


def correlation_of(r):
    """A correlation whose matrix is `r`, with as much as `pairs_among` needs."""
    n = len(r)
    moments, candidates = Moments(np.zeros(n), np.ones(n), np.ones(n), LIVE), Candidates(np.zeros((n, 1)), r[:, :1])
    return Correlation(moments, moments, candidates, candidates, lambda a, b: r[np.ix_(a, b)])


def drawn(world, listed, how="one-to-one", m=60):
    found, r = world
    way = partial(subspaces.pairs_among, correlation_of(r), how=how, least=0.1)
    pairs = way(*(concepts.about(side, listed, RULE) for side in found))
    return pairs, placebos.draw(pairs, found, (LIVE, LIVE), listed, RULE, way, m=m, seed=0)


@pytest.mark.parametrize("how", ["one-to-one", "many-to-one"])
def test_placebos_have_as_many_and_similar_pairs(world, how):
    listed = np.arange(WORDS) < 20
    pairs, made = drawn(world, listed, how)
    n = len(pairs.a)
    assert n >= 8 and made.a.shape == made.b.shape == (60, n) and made.tried >= 120
    assert all(len(set(row)) == n for row in made.a)
    assert len({tuple(row) for row in made.a}) > 50
    assert made.distance < placebos.TOO_FAR
    differences = np.abs(made.covariates.mean(0) - made.target) / made.spread
    assert made.distance == pytest.approx(differences.max())
    assert made.target[1] == pytest.approx(pairs.r.mean(), abs=1e-5)


def test_a_placebo_has_all_pairs_of_its_words(world):
    """The list is cut where it first gives n pairs, and no pair of its words is left out."""
    found, r = world
    way = partial(subspaces.pairs_among, correlation_of(r), how="one-to-one", least=0.1)

    def chosen(words):
        return way(*(concepts.about(side, np.isin(np.arange(WORDS), words), RULE) for side in found))

    hits = 0
    for seed in range(12):
        order = np.random.default_rng(seed).permutation(WORDS)
        sizes = [len(chosen(order[:length]).a) for length in range(1, WORDS)]
        cut = placebos._cut(order, 7, WORDS, lambda listed: chosen(np.flatnonzero(listed)))
        assert (cut is not None) == (7 in sizes)
        if cut is not None:
            words = order[: sizes.index(7) + 1]
            assert set(np.flatnonzero(cut[1])) == set(words)
            np.testing.assert_array_equal(cut[0].a, chosen(words).a)
            hits += 1
    assert 1 < hits < 12


def test_there_are_no_placebos_where_lists_cannot_give_enough_pairs(world):
    found, r = world
    way = partial(subspaces.pairs_among, correlation_of(r), how="one-to-one", least=0.1)
    many = Pairs.of(np.tile(np.arange(90), 2), np.tile(np.arange(90), 2), np.ones(180), 90, 90)
    made = placebos.draw(many, found, (LIVE, LIVE), np.arange(WORDS) < 20, RULE, way, m=2, seed=0)
    assert made.tried == 2 * placebos.TRIES and made.a.shape == (0, 180) and np.isnan(made.distance)


def test_the_lists_with_the_nearest_means_are_kept():
    means = np.array([[0.0, 0], [4, 1], [5, 0], [6, 1], [9, 0]])
    assert placebos._nearest(means, np.array([5.0, 0.5]), 3).tolist() == [1, 2, 3]


def test_covariates_by_hand(world):
    found, _ = world
    listed = np.arange(WORDS) < 20
    a = np.flatnonzero(concepts.about(found[0], listed, RULE))
    chosen = Pairs.of(a, a % 3, np.full(len(a), 0.5), FEATURES, FEATURES)
    held = placebos._covariates(chosen, listed, found)
    word = [int(found[0].mass[:20, [f]].toarray().argmax()) for f in a]
    assert np.exp(held[:, 3]) == pytest.approx([word.count(w) for w in word])
    assert np.exp(held[:, 2]) == pytest.approx([np.sum(a % 3 == f % 3) for f in a])
    assert (held[:, 1] == 0.5).all()


@pytest.mark.parametrize("features", [(1, 1), (3, 6)])
def test_a_random_list_rejects_at_the_nominal_rate(features):
    """Features of one word are alike on both sides, so that lists must keep them together."""
    p = []
    for seed in range(50):
        rng = np.random.default_rng([5, seed])
        of = np.repeat(np.arange(100), rng.integers(features[0], features[1] + 1, 100))
        occurs = rng.integers(50, 500, 100)
        mass = sparse.csr_array((np.ones(len(of)), (of, np.arange(len(of)))), shape=(100, len(of)))
        found = concepts.Evidence(tuple("w" * 100), of[:, None].astype(np.int32), mass, np.ones(len(of)), of, occurs)
        of_words = rng.standard_normal((2, 100, 12))
        a, b = (words[of] + 0.5 * rng.standard_normal((len(of), 12)) for words in (of_words[0], of_words.sum(0)))
        every = Pairs.of(np.arange(len(of)), np.arange(len(of)), rng.random(len(of)), len(of), len(of))
        way, live = partial(subspaces.pairs_about, every, sides="both"), np.ones(len(of), bool)
        listed = np.isin(np.arange(100), rng.choice(100, 30 if features[1] == 1 else 8, replace=False))
        chosen = way(*(concepts.about(found, listed, RULE) for _ in "ab"))
        made = placebos.draw(chosen, (found, found), (live, live), listed, RULE, way, m=9, seed=seed)
        measures = ["rsa_spearman", "cka_debiased", "mutual_knn"]
        scores = placebos.test(chosen, made, subspaces.Scoring(a, b, measures, 3, every))
        p.append([x.p for x in scores.values()])
    rejected = (np.array(p) <= 0.1 + 1e-9).mean(axis=0)
    assert (rejected <= binom.ppf(0.995, 50, 0.1) / 50).all()


def test_scores_against_placebos(world):
    """Placebos score less than the concept where only its own pairs are copies, and as much where all are."""
    listed = np.arange(WORDS) < 20
    pairs, made = drawn(world, listed, m=99)
    rng = np.random.default_rng(1)
    a = rng.standard_normal((FEATURES, 8))
    same = np.hstack([a, 0.5 * rng.standard_normal((FEATURES, 3))])
    every = Pairs.of(np.arange(90), np.arange(90), np.ones(90), 90, 90)
    own = np.where(np.isin(np.arange(90), pairs.b)[:, None], same, rng.standard_normal(same.shape))
    scoring = subspaces.Scoring(a, same, ["rsa_pearson"], 3, every)
    special = placebos.test(pairs, made, scoring._replace(rows_b=own))
    common = placebos.test(pairs, made, scoring)
    assert set(special) == {"rsa_pearson", "procrustes_outside"}
    assert special["rsa_pearson"].p == 0.01 and special["rsa_pearson"].m == 99
    assert special["rsa_pearson"].null_mean < 0.2 and common["rsa_pearson"].null_mean > 0.9
    assert common["procrustes_outside"].null_mean > 0.8
    with pytest.raises(ValueError, match=r"0 of \d+ placebo lists"):
        placebos.test(pairs, made._replace(a=made.a[:0], b=made.b[:0]), scoring)


# --- random orders of words


@pytest.fixture(scope="module")
def text():
    """800 words with frequencies by Zipf's law, and a list of ten."""
    occurs = np.maximum(20_000 // np.arange(1, 801), 1)
    occurs[::50] = 0
    empty = sparse.csr_array((800, 1))
    found = concepts.Evidence(
        tuple(f"w{i}" for i in range(800)), np.zeros((1, 5), np.int32), empty, np.zeros(1), np.zeros(1, int), occurs
    )
    return found, np.isin(np.arange(800), [3, 20, 33, 101, 160, 222, 240, 355, 404, 501])


def test_an_order_holds_every_word_that_occurs_once(text):
    found, listed = text
    order = placebos.word_order(found, listed, np.random.default_rng(0))
    assert len(order) == len(set(order)) == (found.occurs > 0).sum() and (found.occurs[order] > 0).all()


def test_listed_words_come_first_as_often_as_others(text):
    """Lists that avoid them would be less unlike each other than a random list is unlike them."""
    found, listed = text
    firsts = [placebos.word_order(found, listed, np.random.default_rng(s))[:9] for s in range(400)]
    near = np.abs(np.log(found.occurs[:, None].clip(1e-9)) - np.log(found.occurs[listed & (found.occurs > 0)])) < 0.1
    share = np.bincount(np.concatenate(firsts), minlength=800) / 400
    assert share[listed & near.any(1)].mean() == pytest.approx(share[~listed & near.any(1)].mean(), abs=0.05)


def test_first_words_are_about_as_frequent_as_listed_ones(text):
    found, listed = text
    wanted = np.sort(np.log(found.occurs[listed & (found.occurs > 0)]))
    firsts = [placebos.word_order(found, listed, np.random.default_rng(s))[: len(wanted)] for s in range(200)]
    got = np.array([np.sort(np.log(found.occurs[first])) for first in firsts])
    assert np.abs(got.mean(0) - wanted)[:-1].max() < 0.4  # the most frequent word has no equal
    assert got.mean() == pytest.approx(wanted.mean(), abs=0.2)
    assert got.mean() - np.log(found.occurs[~listed & (found.occurs > 0)]).mean() > 0.3  # any words would be rarer
    assert len({tuple(first) for first in firsts}) == 200


def test_words_of_other_frequencies_come_last(text):
    found, _ = text
    order = placebos.word_order(found, np.isin(np.arange(800), [4, 5]), np.random.default_rng(0), reach=30)
    assert set(order[:30]) == set(np.argsort(-found.occurs, kind="stable")[:30])


def test_the_order_follows_from_the_seed(text):
    found, listed = text
    one, two = (placebos.word_order(found, listed, np.random.default_rng(7)) for _ in range(2))
    np.testing.assert_array_equal(one, two)


def test_an_empty_list_has_no_order(text):
    found, listed = text
    assert placebos.word_order(found, listed & ~listed, np.random.default_rng(0)).size == 0
