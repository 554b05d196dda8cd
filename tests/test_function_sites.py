"""What follows the sites of a feature: counts by hand, and texts that explain likeness or do not."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy import sparse

from sae_utils.studies.function import sites
from sae_utils.studies.function.sites import Told


def stored(**arrays):
    meta = {"lexis": 9} if arrays.pop("words", False) else {}
    return SimpleNamespace(meta=meta, array=lambda name: np.asarray(arrays[name]))


def test_the_next_word_stays_within_its_row_and_skips_no_position():
    place = np.array([0, 1, -1, 2])
    found = sites.next_places(
        stored(tokens=[0, 1, 3, 0, 2, 1], rows=[0, 0, 0, 1, 1, 1], positions=[1, 2, 3, 1, 2, 4]), place
    )
    assert found.tolist() == [1, 2, -1, -1, -1, -1]  # a new row, no shared word, a gap, the end
    worded = stored(words=True, tokens=[0, 1, 3], rows=[0, 0, 0], positions=[1, 4, 5], documents=[0, 0, 1])
    assert sites.next_places(worded, place).tolist() == [1, -1, -1]


def test_counts_are_those_of_firings():
    codes = sparse.csr_array(np.array([[0.5, 0], [2.0, 1.0], [0, 3.0], [4.0, 0]]))
    found = sites.counts(codes, np.array([1, 1, 2, -1]), 4).toarray()
    np.testing.assert_array_equal(found, [[0, 2, 0, 0], [0, 1, 1, 0]])
    np.testing.assert_allclose(sites.totals([np.array([1, 1, 2, -1])], 4), [0, 2 / 3, 1 / 3, 0])


def test_lift_is_0_where_a_word_follows_as_often_as_anywhere():
    share = np.array([0.5, 0.25, 0.25])
    np.testing.assert_allclose(sites.lift(np.array([[4.0, 2, 2]]), share), 0)
    assert (sites.lift(np.array([[8.0, 0, 0]]), share)[0] * [1, -1, -1] > 0).all()


def told(rng, u, decoder, probability, firings=4000):
    share = np.full(len(u), 1 / len(u))
    counts = np.array([rng.multinomial(firings, p) for p in probability])
    return Told(decoder.astype(np.float32), u.astype(np.float32), sparse.csr_array(counts), share)


def test_likeness_that_comes_from_the_text_is_gone_given_the_text():
    rng, n, words = np.random.default_rng(0), 200, 80
    text = rng.standard_normal((n, words))
    probability = np.exp(text) / np.exp(text).sum(axis=1, keepdims=True)
    own = rng.standard_normal((n, words))
    for shared, low, high in ((0.0, -0.05, 0.1), (1.0, 0.35, 0.65)):
        sides = [
            told(rng, np.eye(words), text + shared * own + rng.standard_normal((n, words)), probability) for _ in "ab"
        ]
        found = sites.explained(*sides)
        assert found.logits.mean() > 0.35 and low < found.partial.mean() < high
    assert found.own_text.mean() > 0.4 and found.text.mean() > 0.4


def test_the_partial_correlation_is_that_of_residuals_and_blocks_change_nothing(monkeypatch):
    rng, words = np.random.default_rng(1), 50
    probability = rng.dirichlet(np.ones(words), 6)
    sides = [told(rng, rng.standard_normal((words, 8)), rng.standard_normal((6, 8)), probability, 300) for _ in "ab"]
    found = sites.explained(*sides)
    texts = [sites.lift(side.counts.toarray(), side.share) for side in sides]
    for i in range(6):
        design = np.column_stack([np.ones(words), texts[0][i], texts[1][i]])
        left = [y - design @ np.linalg.lstsq(design, y, rcond=None)[0] for y in (s.u @ s.decoder[i] for s in sides)]
        assert found.partial[i] == pytest.approx(np.corrcoef(*left)[0, 1], abs=1e-6)
    monkeypatch.setattr(sites, "blocks", lambda n, w: (slice(i, i + 4) for i in range(0, n, 4)))
    for one, two in zip(found, sites.explained(*sides), strict=True):
        np.testing.assert_allclose(one, two, atol=1e-9)


def test_a_feature_that_promotes_nothing_has_no_partial_correlation():
    rng = np.random.default_rng(2)
    sides = [told(rng, np.eye(5), np.zeros((1, 5)), np.full((1, 5), 0.2)) for _ in "ab"]
    found = sites.explained(*sides)
    assert found.logits[0] == 0 and np.isnan(found.partial[0])
