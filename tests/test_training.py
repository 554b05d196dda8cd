"""A toy's size and checkpoints are those that its training kept."""

import pytest

from sae_utils import pipeline
from sae_utils.spec import ProfileError
from sae_utils.studies import training


def test_the_checkpoints_of_a_toy(world):
    found = training.checkpoints(world, "one_layer")
    kept = pipeline.model(world, "one_layer").meta
    assert list(found) == kept["checkpoints"] and {x.meta["steps"] for x in found.values()} == set(found)
    assert training.size(world, "one_layer") == (1, 16, kept["parameters"], kept["steps"])


def test_a_toy_that_kept_none(world):
    with pytest.raises(ProfileError, match=r"models.two_layer: none of its checkpoints is known; give a toy"):
        training.checkpoints(world, "two_layer")
