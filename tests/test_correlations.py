"""A correlation from the store is the correlation."""

import numpy as np
import pytest

from sae_utils import correlate, matching, pipeline
from sae_utils.engine.saes import activations, correlations


@pytest.fixture(scope="module")
def sides(world):
    return [pipeline.features(world, name) for name in ("one_layer", "two_layer")]


@pytest.mark.parametrize(("split", "swapped"), [("matching", False), ("held_out", True)])
def test_a_stored_correlation_is_the_computed_one(sides, split, swapped):
    a, b = sides
    direct = correlate.features(a.codes, b.codes, k=5, rows=correlations.in_split(a.sites, split))
    for _ in range(2):  # once made, once read
        both = pipeline.correlated(a, b, 5, swapped=swapped)
        for mine, fresh in zip(both.found[:4], direct[:4], strict=True):
            for x, y in zip(mine, fresh, strict=True):
                np.testing.assert_array_equal(x, y)
        np.testing.assert_array_equal(both.found.block(), direct.block())
    assert not (both.on_matching & both.on_held_out).any()
    np.testing.assert_array_equal(both.on_matching, correlations.in_split(a.sites, split))
    pairs = matching.mutual(direct)
    expected = correlate.pairs(a.codes, b.codes, pairs.a, pairs.b, rows=both.on_held_out)
    np.testing.assert_array_equal(both.held_out(pairs), expected)


def test_neurons_are_correlated_as_features(world, sides):
    a, _ = sides
    reader = pipeline.reader(world, "two_layer")
    (kept,) = activations.neurons(["blocks.1.mlp.hook_post"], reader.model, reader.rows, a.sites, reader.skip).values()
    neurons = pipeline.Features(activations.matrix(kept), np.eye(32), a.sites, kept)
    both = pipeline.correlated(a, neurons, 1000)  # cut to 32
    assert both.found.a_to_b.index.shape == (32, 32)
    on = correlations.in_split(a.sites, "matching")
    x, y = a.codes[np.flatnonzero(on)].toarray(), np.asarray(neurons.codes)[on].astype(float)
    i = int(np.flatnonzero(both.found.a.live)[0])
    expected = np.array([np.corrcoef(x[:, i], y[:, j])[0, 1] for j in range(32)])
    np.testing.assert_allclose(both.found.a_to_b.r[i], np.sort(expected)[::-1], atol=1e-5)


def test_other_tokens_are_refused(sides):
    a, b = sides
    other = b._replace(sites=b.kept)
    with pytest.raises(ValueError, match="one tokenizer"):
        pipeline.correlated(a, other, 5)
