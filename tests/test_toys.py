"""Toys are saved as transformers saves Pythia; a seed gives the same bytes; checkpoints and twins keep their shape."""

import math

import pytest
import torch
from networks import network_of
from transformers import AutoTokenizer

from sae_utils import pipeline
from sae_utils.engine.core.spec import ProfileError
from sae_utils.engine.lms import cross_entropy, toys

NAMES = ("one_layer", "two_layer")


@pytest.fixture(scope="module", params=NAMES)
def name(request):
    return request.param


def test_a_toy_is_read_as_pythia_is(world, name):
    made, record = pipeline.model(world, name), world.models[name]
    network = network_of(made)
    config = network.config
    assert config.model_type == "gpt_neox"
    assert (config.num_hidden_layers, config.hidden_size, config.intermediate_size, config.num_attention_heads) == (
        record.layers,
        record.d_model,
        record.d_mlp,
        record.heads,
    )
    words = AutoTokenizer.from_pretrained(made.path, trust_remote_code=False)
    assert len(words) == config.vocab_size and words.bos_token_id == config.bos_token_id
    assert made.meta["parameters"] == sum(p.numel() for p in network.parameters())
    assert (made.path / "model.safetensors").exists()


def test_training_lowers_the_loss(world, name):
    found = pipeline.losses(world, name, 1000).meta
    size = network_of(pipeline.model(world, name)).config.vocab_size
    assert found["model"] < math.log(size) - 1
    random = toys.twin(pipeline.model(world, name), "all", 3)
    assert cross_entropy.held_out(random, pipeline.rows(world, name), 1000).meta["model"] == pytest.approx(
        math.log(size), rel=0.05
    )


def weights(world, folder, spec) -> bytes:
    folder.mkdir()
    toys.train.__wrapped__(folder, spec, pipeline.rows(world, "one_layer"), pipeline.tokenizer(world, "one_layer"))
    return (folder / "model.safetensors").read_bytes()


def test_a_seed_gives_its_weights_bit_for_bit(world, tmp_path):
    small = world.models["one_layer"].model_copy(update={"d_model": 8, "d_mlp": 8, "batch": 64})
    torch.manual_seed(1)
    first = weights(world, tmp_path / "a", small)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    assert weights(world, tmp_path / "b", small) == first  # whatever was drawn before
    assert torch.equal(torch.get_rng_state(), state)  # and nothing is drawn from the caller
    assert weights(world, tmp_path / "c", small.model_copy(update={"seed": 1})) != first


def test_a_checkpoint_is_the_model_at_a_step(world):
    made = pipeline.model(world, "one_layer")
    kept = made.meta["checkpoints"]
    assert kept[0] == 1 and kept[-1] == made.meta["steps"] == 30 and len(kept) == 3
    last = toys.at_step(made, kept[-1])
    assert (last.path / "model.safetensors").read_bytes() == (made.path / "model.safetensors").read_bytes()
    rows = pipeline.rows(world, "one_layer")
    found = [cross_entropy.held_out(toys.at_step(made, step), rows, 40).meta["model"] for step in kept]
    assert found == sorted(found, reverse=True) and found[-1] == cross_entropy.held_out(made, rows, 40).meta["model"]
    with pytest.raises(ProfileError, match=r"step 2: no checkpoint was kept then; there are \[1, "):
        toys.at_step(made, 2)


@pytest.mark.parametrize(("steps", "number"), [(30, 0), (30, 1), (30, 3), (5, 8), (1, 4), (10000, 8)])
def test_checkpoints_are_distinct_steps_of_the_run(steps, number):
    found = toys.checkpoint_steps(steps, number)
    assert found == sorted(set(found)) and len(found) <= number
    assert all(1 <= step <= steps for step in found)
    assert number < 2 or (found[0], found[-1]) == (1, steps)


def test_a_twin_keeps_the_shape_and_the_chosen_weights(world):
    made = pipeline.model(world, "two_layer")
    original = network_of(made).state_dict()
    all_random, blocks, other = (
        network_of(toys.twin(made, random, seed)).state_dict()
        for random, seed in (("all", 0), ("blocks", 0), ("blocks", 1))
    )
    assert {k: v.shape for k, v in all_random.items()} == {k: v.shape for k, v in original.items()}
    for key, value in original.items():
        inside, random_start = ".layers." in key, value.dim() == 2
        assert torch.equal(blocks[key], value) == (
            not inside or (not random_start and torch.equal(all_random[key], value))
        )
        if random_start:
            assert not torch.equal(all_random[key], value)
            assert torch.equal(blocks[key], other[key]) == (not inside)
