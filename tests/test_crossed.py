"""Correlations that are summed while two models run are those of their activations, in both arms."""

import numpy as np
import pytest
import torch

from sae_utils import matching, pipeline
from sae_utils.engine.saes import activations
from sae_utils.studies.llm_vs_sae import crossed

NAMES = ("one_layer", "two_layer")
HOOKS = ("blocks.0.mlp.hook_post", "blocks.1.mlp.hook_post")
RNG = np.random.default_rng(0)


def correlations(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(units_a, units_b), NaN where either does not vary."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.corrcoef(x.T, y.T)[: x.shape[1], x.shape[1] :]


def torched(x: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(x.astype(np.float32))


def test_sums_over_parts_are_the_correlations_of_all_tokens():
    x = RNG.normal(size=(900, 5)) + np.array([0, 0, 1000, 0, 0])  # a large mean costs no digits
    y = x @ RNG.normal(size=(5, 7)) + 5 * RNG.normal(size=(900, 7))
    x[:, 3], y[:, 2] = 0, 7
    content = RNG.random(900) < 0.3
    found = crossed.Sums(torched(x[:10]), torched(y[:10]))
    for at in np.split(np.arange(900), [300, 800]):
        found.add([torched(x[at])], [torched(y[at])], torch.from_numpy(content[at]))
    np.testing.assert_allclose(found.r()[0], correlations(x, y), atol=2e-4)
    moments = found.a.moments()
    np.testing.assert_allclose(moments.mean, x.mean(0), atol=1e-3)
    np.testing.assert_allclose(moments.sd, x.std(0), rtol=1e-3)
    assert moments.count.tolist() == (x > 0).sum(0).tolist() and moments.live.tolist() == [True] * 3 + [False, True]
    with np.errstate(invalid="ignore"):
        share = np.maximum(x, 0)[content].sum(0) / np.maximum(x, 0).sum(0)
    np.testing.assert_allclose(found.a.share(), share, rtol=1e-4)


def test_the_second_arm_sets_each_token_beside_the_exchanged_one():
    x, y = RNG.normal(size=(2, 400, 3)), RNG.normal(size=(2, 400, 4))  # two readings
    y[1] += x[0] @ RNG.normal(size=(3, 4))  # what shows in the second arm alone
    found = crossed.Sums(torched(x[0]), torched(y[0]), arms=2)
    for at in (slice(0, 150), slice(150, 400)):
        found.add(*([torched(reading[at]) for reading in side] for side in (x, y)))
    np.testing.assert_allclose(found.r()[0], correlations(np.concatenate(x), np.concatenate(y)), atol=1e-5)
    np.testing.assert_allclose(found.r()[1], correlations(np.concatenate(x), np.concatenate(y[::-1])), atol=1e-5)


@pytest.mark.parametrize("split", crossed.SPLITS)
def test_of_two_models_they_are_those_of_their_stored_activations(world, split):
    """As `activations.neurons` stores them, in float16."""
    a, b = (pipeline.reader(world, name) for name in NAMES)
    sites = activations.sites(a.rows, a.skip)
    made = crossed.crossed([HOOKS], a.model, b.model, [a.rows], sites, a.skip)[HOOKS]
    at = sites.array("split") == ["training", "matching", "held_out"].index(split)
    x, y = (
        activations.neurons([hook], side.model, side.rows, sites, side.skip)[hook].array("values")[at].astype(float)
        for hook, side in zip(HOOKS, (a, b), strict=True)
    )
    r, found = correlations(x, y), crossed.correlation(made, 0, split, 8)
    np.testing.assert_allclose(found.block(), r, atol=2e-3)
    np.testing.assert_allclose(found.block([3, 1], [2, 0, 5]), r[np.ix_([3, 1], [2, 0, 5])], atol=2e-3)
    assert found.a.live.sum() == (x.std(0) > 0).sum()
    best = matching.mutual(found)
    own = found.block()
    assert all(own[i].argmax() == j and own[:, j].argmax() == i for i, j in zip(best.a, best.b, strict=True))
    assert sum(file.stat().st_size for file in made.path.glob("*.npy")) < 40_000, "no activation is stored"
