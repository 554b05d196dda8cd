"""Attribution: logits of a known unembedding, copies and rotated copies, weights that are equal."""

import numpy as np
import pytest

from sae_utils import measures
from sae_utils.studies.function import attribution
from sae_utils.studies.function.heads import Head

WORDS, D, FEATURES = 60, 12, 20


@pytest.fixture(scope="module")
def known():
    """A head and decoder rows."""
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((WORDS, D)).astype(np.float32)
    return Head(rng.uniform(0.5, 2, D), True, weight), rng.standard_normal((FEATURES, D)).astype(np.float32)


def units(decoder_a, u_a, decoder_b, u_b):
    found = attribution.space(u_a, u_b)
    return attribution.unit(decoder_a, found.a), attribution.unit(decoder_b, found.b)


def test_products_of_the_space_are_correlations_of_logits(known):
    head, decoder = known
    rng = np.random.default_rng(1)
    u, other = head.effective(np.arange(WORDS)), rng.standard_normal((WORDS, 7)).astype(np.float32)
    other -= other.mean(axis=0)
    rows = rng.standard_normal((15, 7)).astype(np.float32)
    a, b = units(decoder, u, rows, other)
    expected = np.corrcoef(decoder @ u.T, rows @ other.T)
    np.testing.assert_allclose(a @ b.T, expected[:FEATURES, FEATURES:], atol=1e-5)
    np.testing.assert_allclose(a @ a.T, expected[:FEATURES, :FEATURES], atol=1e-5)


def test_a_rotated_copy_is_the_same_through_its_own_unembedding(known):
    head, decoder = known
    u = head.effective(np.arange(WORDS))
    rotation = np.linalg.qr(np.random.default_rng(2).standard_normal((D, D)))[0].astype(np.float32)
    for rotated in (np.eye(D, dtype=np.float32), rotation):
        a, b = units(decoder, u, decoder @ rotated, u @ rotated)
        np.testing.assert_allclose((a * b).sum(axis=1), 1, atol=1e-5)
        tops = attribution.promoted(decoder, u, 5), attribution.promoted(decoder @ rotated, u @ rotated, 5)
        np.testing.assert_array_equal(attribution.overlap(*tops), 1)
    a, b = units(decoder, u, decoder, u @ rotation)  # through another's unembedding it is another
    assert np.abs((a * b).sum(axis=1)).mean() < 0.6


def test_the_effective_unembedding_gives_the_logits_of_layer_norm(known):
    head, decoder = known
    x = decoder[0] - decoder[0].mean()
    logits = head.weight @ (x * head.scale)
    np.testing.assert_allclose(head.effective(np.arange(WORDS)) @ decoder[0], logits - logits.mean(), atol=1e-4)
    plain = head._replace(centred=False).effective(np.arange(WORDS)) @ decoder[0]
    np.testing.assert_allclose(plain, (v := head.weight @ (decoder[0] * head.scale)) - v.mean(), atol=1e-4)


def test_the_promoted_words_are_those_with_the_largest_logits_in_blocks_too(known, monkeypatch):
    head, decoder = known
    u = head.effective(np.arange(WORDS))
    expected = np.argsort(-(decoder @ u.T), axis=1)[:, :4]
    monkeypatch.setattr(attribution, "BLOCK", 3 * WORDS)
    np.testing.assert_array_equal(attribution.promoted(decoder, u, 4), expected)
    for top in (0, WORDS + 1):
        with pytest.raises(ValueError, match="of 60 words"):
            attribution.promoted(decoder, u, top)


def test_blocks_of_words_change_nothing(known, monkeypatch):
    head, decoder = known
    u = head.effective(np.arange(WORDS))
    whole = units(decoder, u, decoder[::-1], u)
    monkeypatch.setattr(attribution, "BLOCK", 5 * 2 * D)
    parts = units(decoder, u, decoder[::-1], u)
    np.testing.assert_allclose(parts[0] @ parts[1].T, whole[0] @ whole[1].T, atol=1e-5)


def test_what_does_not_fit_is_refused(known):
    head, decoder = known
    u = head.effective(np.arange(WORDS))
    with pytest.raises(ValueError, match="the same words"):
        attribution.space(u, u[:-1])
    with pytest.raises(ValueError, match="residual stream of 12"):
        attribution.unit(decoder[:, :5], attribution.space(u, u).a)


def test_a_feature_that_no_word_tells_apart_is_like_none():
    u = np.zeros((10, 3), np.float32)
    u[:, 0] = np.arange(10) - 4.5
    space = attribution.space(u, u)
    np.testing.assert_array_equal(attribution.unit(np.eye(3, dtype=np.float32), space.a)[1:], 0)


def test_equal_weights_give_rsa_and_a_weight_can_silence_a_pair():
    rng = np.random.default_rng(3)
    a, b = rng.standard_normal((30, 8)), rng.standard_normal((30, 6))
    b[:, :6] += a[:, :6]
    found = attribution.weighted_rsa(a, b, np.full(30, 2.0))
    assert found == pytest.approx(measures.score(a, b, "rsa_spearman"), abs=1e-9)
    b[0] = 100 * rng.standard_normal(6)  # one pair that does not fit
    weights = np.ones(30)
    weights[0] = 1e-9
    assert attribution.weighted_rsa(a, b, weights) == pytest.approx(found, abs=0.05)
    with pytest.raises(ValueError, match="a positive one each"):
        attribution.weighted_rsa(a, b, np.zeros(30))


def test_strength_is_the_size_of_what_is_written(known):
    head, decoder = known
    u = head.effective(np.arange(WORDS))
    found = attribution.strength(decoder, attribution.space(u, u).a, np.full(FEATURES, 3.0))
    np.testing.assert_allclose(found, 3 * np.linalg.norm(decoder @ u.T, axis=1), rtol=1e-4)
