"""Placebo lists give as many pairs as the concept's, like them, and chosen by other words."""

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import sparse

from sae_utils.studies import concepts, placebos, subspaces
from sae_utils.studies.words import Words

WORDS, FEATURES = 120, 90
LIVE = np.ones(FEATURES, bool)
RULE = concepts.rule({"kind": "mass", "share": 0.5})


@pytest.fixture(scope="module")
def world():
    """Either side has features that fire on two or three words each; feature i of a pairs with feature i of b."""
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


def drawn(world, listed, how="one-to-one", m=60):
    found, r = world
    priced = SimpleNamespace(price=lambda a, b: r[np.ix_(a, b)])  # what `within` asks of a correlation
    way = partial(subspaces.within, priced, how=how, least=0.1)
    pairs = way(*(concepts.about(side, listed, RULE) for side in found))
    return pairs, placebos.drawn(pairs, found, (LIVE, LIVE), listed, RULE, way, m=m, seed=0)


@pytest.mark.parametrize("how", ["one-to-one", "many-to-one"])
def test_placebos_are_as_many_and_alike(world, how):
    listed = np.arange(WORDS) < 20
    pairs, made = drawn(world, listed, how)
    n = len(pairs.a)
    assert n >= 8 and made.a.shape == made.b.shape == (60, n) and made.failed == 0
    assert all(len(set(row)) == n for row in made.a)
    assert len({tuple(row) for row in made.a}) > 50
    assert made.apart < placebos.TOO_FAR
    differences = np.abs(made.alike.mean(0) - made.wanted) / made.spread
    assert made.apart == pytest.approx(differences.max())
    assert made.wanted[1] == pytest.approx(pairs.r.mean(), abs=1e-5)


def test_every_placebo_labels_its_features_anew(world):
    """A pair of the concept is drawn only where one of its features is about other words too."""
    listed = np.arange(WORDS) < 20
    found, _ = world
    _, made = drawn(world, listed)
    about_other = concepts.about(found[0], ~listed, RULE)
    assert about_other[made.a].all()


def test_what_other_words_cannot_give_is_counted_as_failed(world):
    listed = np.arange(WORDS) < 110
    pairs, made = drawn(world, listed, m=5)
    assert made.failed == 5 and made.a.shape == (0, len(pairs.a)) and np.isnan(made.apart)


def test_the_nearest_that_is_left_by_hand():
    pool = np.array([[0.0, 0], [1, 0], [5, 0], [9, 0]])
    at = placebos._nearest(pool, np.array([[8.0, 0], [4, 0], [0.4, 0]]), np.random.default_rng(0))
    assert at.tolist() == [3, 2, 0]


def test_scores_against_placebos(world):
    """Where only the concept's own pairs are copies, its placebos do not reach it; where all are, they do."""
    listed = np.arange(WORDS) < 20
    pairs, made = drawn(world, listed, m=99)
    rng = np.random.default_rng(1)
    a = rng.standard_normal((FEATURES, 8))
    same = np.hstack([a, 0.5 * rng.standard_normal((FEATURES, 3))])
    every = subspaces.Chosen(np.arange(90), np.arange(90), np.ones(90, np.float32))
    apart = np.where(np.isin(np.arange(90), pairs.b)[:, None], same, rng.standard_normal(same.shape))
    settings = {"pool": every, "neighbours": 3}
    special = placebos.against(pairs, made, a, apart, ["rsa_pearson"], **settings)
    common = placebos.against(pairs, made, a, same, ["rsa_pearson"], **settings)
    assert set(special) == {"rsa_pearson", "procrustes_outside"}
    assert special["rsa_pearson"].p == 0.01 and special["rsa_pearson"].m == 99
    assert special["rsa_pearson"].null_mean < 0.2 and common["rsa_pearson"].null_mean > 0.9
    assert common["procrustes_outside"].null_mean > 0.8
    with pytest.raises(ValueError, match="0 placebo lists"):
        placebos.against(pairs, made._replace(a=made.a[:0], b=made.b[:0]), a, same, ["rsa_pearson"], **settings)
