"""Placebo lists label as many features as a concept, and similar ones, but of other words."""

import numpy as np
import pytest
from scipy import sparse
from scipy.stats import binom

from sae_utils.engine.text.words import Words
from sae_utils.studies.semantic_subspaces import concepts, placebos

WORDS, FEATURES = 120, 90
LIVE = np.ones(FEATURES, bool)
RULE = concepts.rule({"kind": "mass", "share": 0.5})
LISTED = np.arange(WORDS) < 20


@pytest.fixture(scope="module")
def found():
    """Features that fire on two or three words each."""
    rng = np.random.default_rng(0)
    of = rng.integers(0, WORDS, 9000).astype(np.int32)
    own = [rng.choice(WORDS, rng.integers(2, 4), replace=False) for _ in range(FEATURES)]
    dense = np.stack([np.isin(of, w) * rng.random(9000) for w in own], axis=1) * (rng.random((9000, 90)) < 0.8)
    words = Words(tuple(f"w{i:03d}" for i in range(WORDS)), of)
    return concepts.evidence(
        sparse.csr_array(dense.astype(np.float32)), words, np.arange(9000) // 50, np.arange(9000) % 2 == 0
    )


@pytest.fixture(scope="module")
def strength():
    return np.random.default_rng(1).random(FEATURES)


def drawn(found, strength, listed=LISTED, live=LIVE, m=60):
    return placebos.draw(found, live, listed, RULE, strength, m=m, seed=0)


def test_placebos_have_as_many_and_similar_features(found, strength):
    own = np.flatnonzero(concepts.about(found, LISTED, RULE))
    made = drawn(found, strength)
    assert len(own) >= 8 and made.shape == (60, len(own))
    assert all(len(set(row)) == len(own) for row in made) and len({tuple(row) for row in made}) > 50
    means = np.array([placebos.covariates(row, found, strength) for row in made])
    target = placebos.covariates(own, found, strength)
    any_ = [np.random.default_rng(s).choice(FEATURES, len(own), replace=False) for s in range(60)]
    others = np.array([placebos.covariates(row, found, strength) for row in any_])
    near, far = (np.abs((x - target) / others.std(0)).mean() for x in (means, others))
    assert near < 0.8 * far


def test_a_placebo_has_all_features_of_its_words(found, strength):
    """A list of words that labels exactly these features exists: the features that its words have in common."""
    shares = (found.mass / np.maximum(found.total, 1e-9)).toarray()  # (words, features)
    for row in drawn(found, strength, m=10):
        words = (shares[:, row] > 0).any(1)  # every word of a chosen feature, at most
        assert set(row) <= set(np.flatnonzero(concepts.about(found, words, RULE)))


def test_features_that_hardly_fire_are_in_no_placebo(found, strength):
    live = np.arange(FEATURES) % 2 == 0
    own = concepts.about(found, LISTED, RULE) & live
    made = drawn(found, strength, live=live, m=20)
    assert made.shape == (20, own.sum()) and live[made].all()


def test_there_are_no_placebos_where_no_list_gives_as_many(found, strength):
    every = np.ones(WORDS, bool)
    assert len(drawn(found, strength, listed=~every, m=5)) == 0
    at_once = found._replace(mass=sparse.csr_array(np.tile(found.total / WORDS, (WORDS, 1))))  # 60 words label all
    five = found._replace(mass=at_once.mass, total=np.where(np.arange(FEATURES) < 5, found.total / 2, found.total))
    assert drawn(at_once, strength, listed=np.arange(WORDS) < 61, m=5).shape == (5, FEATURES)
    assert drawn(five, strength, listed=np.arange(WORDS) < 31, m=5).shape == (5, 5)


def test_covariates_by_hand(found, strength):
    features = np.array([0, 3, 5])
    word = [int(found.mass[:, [f]].toarray().argmax()) for f in features]
    expected = [np.log1p(found.firings[features]).mean(), strength[features].mean()]
    expected.append(np.mean([np.log(word.count(w)) for w in word]))
    assert placebos.covariates(features, found, strength) == pytest.approx(expected)


def test_a_random_list_rejects_at_the_nominal_rate():
    """Features of one word are alike on both sides, so that lists must keep them together."""
    p = []
    for seed in range(60):
        rng = np.random.default_rng([5, seed])
        of = np.repeat(np.arange(100), rng.integers(3, 7, 100))
        mass = sparse.csr_array((np.ones(len(of)), (of, np.arange(len(of)))), shape=(100, len(of)))
        occurs, ones = rng.integers(50, 500, 100), np.ones(len(of))
        found = concepts.Evidence(tuple("w" * 100), of[:, None].astype(np.int32), mass, ones, of, occurs)
        of_words = rng.standard_normal((2, 100, 12))
        a, b = (words[of] + 0.5 * rng.standard_normal((len(of), 12)) for words in (of_words[0], of_words.sum(0)))
        listed = np.isin(np.arange(100), rng.choice(100, 8, replace=False))
        chosen = np.flatnonzero(concepts.about(found, listed, RULE))
        made = placebos.draw(found, ones > 0, listed, RULE, rng.random(len(of)), m=9, seed=seed)

        def score(at, a=a, b=b):
            return np.corrcoef(*(np.corrcoef(x[at])[np.triu_indices(len(at), 1)] for x in (a, b)))[0, 1]

        p.append((sum(score(at) >= score(chosen) for at in made) + 1) / (len(made) + 1))
    assert (np.array(p) <= 0.1 + 1e-9).sum() <= binom.ppf(0.995, 60, 0.1)


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
