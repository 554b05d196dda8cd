"""Identical models have equal effects up to reliability; partners of others have none in common."""

import numpy as np
import pytest

from sae_utils import pipeline
from sae_utils.studies.function import acted, effects, substituting
from sae_utils.studies.function.effects import KINDS, Plan
from sae_utils.studies.function.paired import TRUE, Paired, View

PLAN = Plan(contexts=4, least=2, common=4, strength=0.5, random=4, seed=0)


@pytest.fixture(scope="module")
def itself(world):
    """The features of a dictionary that fire most, each paired with itself, and what acting on them does."""
    fires = np.asarray((pipeline.features(world, "two_layer").codes > 0).sum(axis=0)).ravel()
    features = np.sort(np.argsort(-fires, kind="stable")[:8])
    view = View("a", {TRUE: Paired(features, features, np.linspace(0.1, 0.9, 8))})
    return view, acted.act(world, ("two_layer", "two_layer"), [view], "held_out", PLAN)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("weighted", [False, True])
def test_identical_models_have_equal_effects(itself, kind, weighted):
    """Two halves of one model are as alike as the halves of two models, so that the share of the ceiling is 1."""
    view, made = itself
    alike = made.likeness(view, TRUE, kind, weighted)
    np.testing.assert_allclose(np.diag(alike.similar), alike.reliability[0], atol=1e-5)
    found = acted.scores(alike, view.arms[TRUE])
    assert found["of ceiling"] == pytest.approx(1, abs=1e-4)
    assert found["n"] == alike.kept.sum() >= 6


def test_on_the_same_contexts_they_are_the_same(itself):
    _, made = itself
    one, two = (effects.own(made.of[side].steered[0], made.of[side].random) for side in "ab")
    np.testing.assert_allclose((one * two).sum(axis=1), 1, atol=1e-5)


def test_a_pair_without_contexts_is_left_out(itself):
    view, made = itself
    before = np.flatnonzero(made.likeness(view, TRUE, "ablated").kept)
    made.of["b"].ablated[1, before[2]] = np.nan
    alike = made.likeness(view, TRUE, "ablated")
    assert np.flatnonzero(alike.kept).tolist() == np.delete(before, 2).tolist()
    assert alike.similar.shape == (len(before) - 1,) * 2
    assert acted.scores(alike, view.arms[TRUE])["retention"] == (len(before) - 1) / 8


def test_a_feature_can_be_replaced_by_itself(world, itself):
    view, _ = itself
    found = substituting.of_view(world, ("two_layer", "two_layer"), view, ("matching", "held_out"), 5)
    assert found["substituted, recovered, own"] == pytest.approx(1, abs=1e-3)
    assert found["substituted, own"] == pytest.approx(found["substituted, clean"], abs=1e-6)
    assert found["substituted, other"] != pytest.approx(found["substituted, clean"], abs=1e-6)
