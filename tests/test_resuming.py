"""A pass that goes on from a hook computes what the whole network computes, in every family and at every hook."""

import numpy as np
import pytest
import torch
from test_hooking import made, words  # noqa: F401

from sae_utils import pipeline
from sae_utils.engine.core.spec import ProfileError
from sae_utils.engine.lms import models
from sae_utils.studies.function import resuming
from sae_utils.studies.function.resuming import Contexts

HOOKS = [  # and whether one place is enough in a model of two blocks
    ("blocks.1.hook_mlp_out", True), ("blocks.1.hook_resid_post", True), ("blocks.1.attn.hook_out", True),
    ("blocks.0.hook_mlp_out", False), ("blocks.1.hook_resid_pre", False), ("embed.hook_out", False),
]  # fmt: skip


@pytest.fixture(scope="module")
def two_layer(world):
    """The model of two blocks, and contexts in which a row ends at several places."""
    rows = pipeline.rows(world, "two_layer")
    row = np.repeat(np.arange(6), 2)
    place = np.column_stack([rows.array("lengths")[:6] // 2, rows.array("lengths")[:6] - 1]).ravel()
    return models.load(pipeline.model(world, "two_layer")), resuming.contexts(rows, row, place)


def whole(bridge, given: Contexts, hook: str, change) -> torch.Tensor:
    """Next-token log-probabilities by one pass over the whole network."""
    with torch.no_grad():
        logits = bridge.run_with_hooks(given.tokens, fwd_hooks=[(hook, lambda x, hook: change(x))])
    return logits[torch.arange(len(given.at)), given.at].log_softmax(-1)


@pytest.mark.parametrize(("hook", "one_place"), HOOKS)
def test_it_computes_what_the_whole_network_computes(two_layer, hook, one_place):
    bridge, given = two_layer
    at = resuming.resume(bridge, given, hook, batch=4)
    assert at.one_place == one_place
    torch.testing.assert_close(at.clean, whole(bridge, given, hook, lambda x: x), atol=1e-5, rtol=0)
    added = torch.randn(at.values.shape[-1], generator=torch.Generator().manual_seed(0))
    which = torch.tensor([11, 0, 3, 3])
    found = at.log_probabilities(which, at.values[which] + added)
    torch.testing.assert_close(found, whole(bridge, given, hook, lambda x: x + added)[which], atol=1e-5, rtol=0)
    assert not torch.allclose(found, at.clean[which], atol=1e-3)


def test_unchanged_values_give_the_clean_ones_bit_by_bit(two_layer):
    at = resuming.resume(*two_layer, "blocks.0.hook_mlp_out")
    which = torch.arange(len(at.clean))
    assert torch.equal(at.log_probabilities(which, at.values.clone()), at.clean)


def test_the_model_is_as_before(two_layer):
    bridge, given = two_layer
    before = whole(bridge, given, "blocks.0.hook_mlp_out", lambda x: x)
    at = resuming.resume(bridge, given, "blocks.0.hook_mlp_out")
    at.log_probabilities(torch.arange(2), at.values[:2] + 1)
    assert torch.equal(whole(bridge, given, "blocks.0.hook_mlp_out", lambda x: x), before)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3_text", "falcon", "opt"])
def test_other_families(tmp_path, words, family):  # noqa: F811
    bridge = models.load(made(tmp_path, words, family))
    given = Contexts(torch.arange(5, 45).reshape(4, 10), torch.tensor([9, 3, 6, 9]))
    for hook in ("blocks.0.hook_resid_post", "blocks.1.hook_mlp_out"):
        if hook not in bridge.readable:
            continue
        at = resuming.resume(bridge, given, hook)
        added = torch.linspace(-1, 1, at.values.shape[-1])
        found = at.log_probabilities(torch.arange(4), at.values + added)
        torch.testing.assert_close(found, whole(bridge, given, hook, lambda x: x + added), atol=1e-4, rtol=1e-4)  # noqa: B023


def test_a_hook_outside_the_model(two_layer):
    bridge, given = two_layer
    with pytest.raises(ProfileError, match=r"'blocks\.7\.hook_mlp_out': the model has none.*did you mean"):
        resuming.resume(bridge, given, "blocks.7.hook_mlp_out")


def test_a_context_outside_its_row(world):
    rows = pipeline.rows(world, "two_layer")
    with pytest.raises(ValueError, match="outside its row"):
        resuming.contexts(rows, np.array([0]), rows.array("lengths")[:1])
