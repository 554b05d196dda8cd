"""Effects are what single passes give; what all effects share is taken off; sites are drawn as they should be."""

import numpy as np
import pytest
import torch

from sae_utils.studies.function import acting, effects, resuming
from sae_utils.studies.function.acting import Edit
from sae_utils.studies.function.effects import Plan

PLAN = Plan(contexts=4, least=2, common=3, strength=0.5, random=4, seed=0)


@pytest.fixture(scope="module")
def at(world):
    return effects.site(world, "two_layer", "held_out")


@pytest.fixture(scope="module")
def features(at):
    """The five features that fire most."""
    return np.argsort(-np.asarray((at.codes > 0).sum(axis=0)).ravel(), kind="stable")[:5].tolist()


def test_sites_fire_in_their_half(at, features):
    for feature, halves in zip(features, effects.chosen(at, features, PLAN), strict=True):
        for half, sites in enumerate(halves):
            assert len(sites) == PLAN.contexts
            assert (at.codes[sites][:, [feature]].toarray() > 0).all()
            assert (at.half[sites] == half).all()
            assert len(np.unique(at.row[sites])) == len(sites)  # each fires in more rows than are drawn


def test_second_sites_of_a_row_come_last():
    sites, rank = np.array([3, 4, 5, 9, 11]), np.array([1, 1, 1, 0, 2])
    assert effects._spread(sites, rank).tolist() == [9, 3, 11, 4, 5]


def test_sites_for_all_and_for_random_directions_are_apart(at):
    shared, others = effects.common(at, PLAN)
    assert [len(x) for x in shared] == [3, 3]
    assert len(others) == 6
    assert not np.intersect1d(np.concatenate(shared), others).size


def test_an_effect_is_the_mean_of_single_passes(at, features):
    words = np.array([7, 20, 3])
    found = effects.of_features(at, features[:2], words, PLAN)
    sites = effects.chosen(at, features[:2], PLAN)[1][0]
    changes = []
    for site in sites:
        tokens = torch.from_numpy(at.rows.array("tokens")[at.row[site], : at.place[site] + 1].astype(np.int64))[None]
        write = at.codes[[site]][:, [features[1]]].toarray().item() * torch.from_numpy(at.decoder[features[1]])

        def subtract(x, hook, write=write):
            return torch.cat([x[:, :-1], x[:, -1:] - write], dim=1)

        with torch.no_grad():
            runs = [at.bridge.run_with_hooks(tokens, fwd_hooks=hooks) for hooks in ([(at.hook, subtract)], [])]
        new, old = (run[0, -1].log_softmax(-1) for run in runs)
        changes.append((new - old)[words].numpy())
    np.testing.assert_allclose(found.ablated[0, 1], np.mean(changes, axis=0), atol=1e-5)


def test_codes_at_all_places(at, features):
    """At a hook that later blocks read, a feature has its code at every place of a context, and 0 where masked."""
    sites = np.flatnonzero(at.half == 0)[:3]
    given = resuming.contexts(at.rows, at.row[sites], at.place[sites])
    resumed = resuming.resume(at.bridge, given, "blocks.0.hook_mlp_out")
    found = effects.codes_at(at, resumed, sites, features[:2]).numpy()
    assert found.shape == (2, *given.tokens.shape)
    for number, site in enumerate(sites):
        of_row = np.flatnonzero(at.row == at.row[site])
        for place in range(found.shape[2]):
            here = of_row[at.place[of_row] == place]
            wanted = at.codes[here][:, features[:2]].toarray()[0] if len(here) else [0, 0]
            np.testing.assert_array_equal(found[:, number, place], wanted)


def test_a_feature_with_few_contexts_has_no_effect(at, features):
    rare = [*features[:1], int(np.flatnonzero(np.asarray((at.codes > 0).sum(axis=0)).ravel() == 0)[0])]
    found = effects.of_features(at, rare, np.array([5, 6]), PLAN)
    assert np.isfinite(found.ablated[:, 0]).all()
    assert np.isnan(found.ablated[:, 1]).all()


@pytest.mark.parametrize("weighted", [False, True])
def test_what_is_common_is_taken_off(weighted):
    """Two models share the own part of their effects; the rest is equal for all, or along random directions."""
    rng = np.random.default_rng(0)
    own, shift, random = rng.standard_normal((40, 3000)), rng.standard_normal(3000), rng.standard_normal(3000)
    weights = rng.random(3000) if weighted else None

    def seen(own):
        return own + 5 * shift + rng.normal(0, 3, (40, 1)) * random

    one, two, other = (effects.own(seen(x), random, weights) for x in (own, own, rng.standard_normal(own.shape)))
    assert np.diag(one @ two.T).min() > 0.99
    assert abs(np.diag(one @ other.T).mean()) < 0.02
    assert np.linalg.norm(one, axis=1) == pytest.approx(1, abs=1e-5)


def test_equal_weights_are_no_weights():
    x, common = np.random.default_rng(1).standard_normal((2, 5, 30))
    np.testing.assert_allclose(effects.own(x, common[0], np.full(30, 0.2)), effects.own(x, common[0]), atol=1e-6)


def test_strength_is_of_the_mean_norm(at, features):
    words = np.arange(50)
    found = effects.of_features(at, features[:1], words, PLAN._replace(common=1))
    ((one, _), others) = effects.common(at, PLAN._replace(common=1))
    every = np.unique(
        np.concatenate(
            [
                *(x for h in effects.chosen(at, features[:1], PLAN) for x in h),
                *effects.common(at, PLAN._replace(common=1))[0],
                others,
            ]
        )
    )
    resumed = resuming.resume(at.bridge, resuming.contexts(at.rows, at.row[every], at.place[every]), at.hook)
    row = torch.from_numpy(at.decoder[features[0]])
    edit = Edit("add", row / row.norm(), 0.5 * resumed.values.flatten(0, 1).norm(dim=1).mean().item())
    (wanted,) = acting.effects(resumed, [edit])
    np.testing.assert_allclose(found.steered[0, 0], wanted[np.searchsorted(every, one[0]), words], atol=1e-5)
