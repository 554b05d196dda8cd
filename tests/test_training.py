"""A toy's size and checkpoints are those that its training kept."""

import pytest

from sae_utils import pipeline
from sae_utils.engine.core.spec import ProfileError
from sae_utils.engine.lms import pretrained, toys
from sae_utils.studies.models_and_dictionaries import training


def test_the_checkpoints_of_a_toy(world):
    found = training.checkpoints(world, "one_layer")
    kept = pipeline.model(world, "one_layer").meta
    assert list(found) == kept["checkpoints"] and {x.meta["steps"] for x in found.values()} == set(found)
    assert training.size(world, "one_layer") == (1, 16, kept["parameters"], kept["steps"])


def test_what_was_trained_to_its_end(world):
    hub = {"kind": "pretrained", "source": "org/a"}
    models = world.models | {
        "early": toys.ToyCheckpoint(kind="checkpoint", of="one_layer", step=1),
        "random": toys.Twin(kind="twin", of="one_layer", random="all", seed=0),
        "a": pretrained.Pretrained(**hub), "a_100": pretrained.Pretrained(**hub, revision="step100"),
        "b_10": pretrained.Pretrained(**hub | {"source": "org/b"}, revision="step10"),
        "b_9": pretrained.Pretrained(**hub | {"source": "org/b"}, revision="step9"),
    }  # fmt: skip
    profile = world._replace(models=models)
    assert {name for name in models if training.finished(profile, name)} == {"one_layer", "two_layer", "a", "b_10"}


def test_a_toy_that_kept_none(world):
    with pytest.raises(ProfileError, match=r"models.two_layer: none of its checkpoints is known; give a toy"):
        training.checkpoints(world, "two_layer")


def test_what_speaks_against_an_sae_is_said_or_none(world):
    made = pipeline.reader(world, "one_layer").dictionary
    assert training.doubts(made, {"dead": 0.5}) == "100 steps, 50% dead"
    released = type("Released", (), {"meta": {"hook": "blocks.0.hook_mlp_out"}})
    assert training.doubts(released, {"dead": 0.1}) == "none"


def test_massive_dimensions_in_words():
    found = {"massive": [3, 9], "massive_share": 0.553, "fvu_rest": 0.2}
    assert training.massive(found) == "2 with 55%, else FVU 0.200"
    assert training.massive(found | {"massive": []}) == "none"
