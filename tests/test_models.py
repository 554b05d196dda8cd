"""Activations at a hook are those of a plain torch hook, alone or beside others, in the order of the rows."""

import itertools

import numpy as np
import pytest
import torch
from networks import network_of

from sae_utils import pipeline
from sae_utils.engine.lms import batching, cross_entropy, models

NAMES = ("one_layer", "two_layer")


@pytest.fixture(scope="module", params=NAMES)
def name(request):
    return request.param


# --- hooks


@pytest.mark.parametrize("hook", ["hook_mlp_out", "hook_resid_post", "hook_attn_out", "mlp.hook_post"])
@pytest.mark.parametrize("skip", [1, 3])
def test_a_hook_holds_the_value_of_a_torch_hook(world, name, hook, skip):
    rows, made = pipeline.rows(world, name), pipeline.model(world, name)
    network, layer = network_of(made), world.models[name].layers - 1
    block = network.gpt_neox.layers[layer]
    part = {
        "hook_mlp_out": block.mlp,
        "hook_resid_post": block,
        "hook_attn_out": block.attention,
        "mlp.hook_post": block.mlp.act,
    }[hook]
    seen = []
    part.register_forward_hook(lambda *a: seen.append(a[2][0] if isinstance(a[2], tuple) else a[2]))
    batches = [np.array([3, 1]), np.array([8])]
    name = f"blocks.{layer}.{hook}"
    found = list(models.harvest(models.load(made), rows, iter(batches), [name], skip))
    for batch, chosen in zip(found, batches, strict=True):
        tokens, mask = batching.take(rows, chosen)
        with torch.no_grad():
            network(tokens)
        torch.testing.assert_close(batch.activations[name], seen.pop(), rtol=0, atol=1e-5)
        np.testing.assert_array_equal(batch.rows, chosen)
        mask[:, :skip] = False
        assert torch.equal(batch.mask, mask) and not batch.activations[name].requires_grad


def test_the_embedding_has_a_hook(world):
    rows, made = pipeline.rows(world, "one_layer"), pipeline.model(world, "one_layer")
    (batch,) = models.harvest(models.load(made), rows, iter([np.array([2])]), ["hook_embed"], 1)
    tokens, _ = batching.take(rows, np.array([2]))
    torch.testing.assert_close(batch.activations["hook_embed"], network_of(made).gpt_neox.embed_in(tokens))


EVERYWHERE = [
    "hook_embed",
    "blocks.0.mlp.hook_post",
    "blocks.1.hook_resid_post",
    "blocks.1.hook_mlp_out",
    "ln_final.hook_in",
]


def test_a_hook_has_the_same_value_beside_other_hooks(world):
    """Bit for bit, as the keys of artefacts of one pass do not depend on each other."""
    rows, bridge = pipeline.rows(world, "two_layer"), models.load(pipeline.model(world, "two_layer"))
    batch = np.array([3, 1, 9])
    (jointly,) = models.harvest(bridge, rows, iter([batch]), EVERYWHERE, 1)
    assert list(jointly.activations) == EVERYWHERE
    for hook in EVERYWHERE:
        (singly,) = models.harvest(bridge, rows, iter([batch]), [hook], 1)
        assert torch.equal(singly.activations[hook], jointly.activations[hook])


@pytest.mark.parametrize(
    ("hooks", "blocks", "unembedded"),
    [
        (["blocks.0.hook_mlp_out"], 1, False),
        (["blocks.0.hook_mlp_out", "blocks.1.hook_resid_post"], 2, False),
        (["blocks.1.mlp.hook_post"], 2, False),
        (["hook_embed", "blocks.0.hook_mlp_out"], 2, True),
    ],
)
def test_blocks_behind_the_hooks_are_not_computed(world, hooks, blocks, unembedded):
    rows, bridge = pipeline.rows(world, "two_layer"), models.load(pipeline.model(world, "two_layer"))
    ran = []
    for part in (*(block.mlp for block in bridge.blocks), bridge.unembed):
        part.register_forward_hook(lambda module, *_: ran.append(module))
    list(models.harvest(bridge, rows, iter([np.array([0])]), hooks, 1))
    assert (len(ran), bridge.unembed in ran) == (blocks + unembedded, unembedded)
    assert cross_entropy.mean(bridge, rows, np.array([0])) > 0 and bridge.unembed in ran  # the hook is removed


def test_passes_hold_limited_memory(world, monkeypatch):
    rows, bridge = pipeline.rows(world, "two_layer"), models.load(pipeline.model(world, "two_layer"))
    narrow = [f"blocks.{block}.hook_{kind}" for block in (0, 1) for kind in ("mlp_out", "resid_post")]
    assert list(models.passes(bridge, rows, [*narrow, narrow[0]])) == [narrow]
    window = models.WINDOW * rows.array("tokens").shape[1] * 4 * bridge.cfg.d_model
    for held, groups in ((2 * window, [2, 2]), (3 * window, [3, 1]), (1, [1, 1, 1, 1])):
        monkeypatch.setattr(models, "HELD", held)
        found = list(models.passes(bridge, rows, narrow))
        assert [len(group) for group in found] == groups and [*itertools.chain(*found)] == narrow


def test_an_unknown_hook_names_the_nearest(world):
    bridge = models.load(pipeline.model(world, "one_layer"))
    rows = pipeline.rows(world, "one_layer")
    with pytest.raises(ValueError, match=r"'blocks\.0\.hook_mlp_ou'.* did you mean `blocks\.0\.hook_mlp_out`"):
        next(models.harvest(bridge, rows, iter([np.array([0])]), ["blocks.0.hook_mlp_out", "blocks.0.hook_mlp_ou"], 1))
    with pytest.raises(ValueError, match=r"'blocks\.7\.hook_mlp_out'"):
        next(models.harvest(bridge, rows, iter([np.array([0])]), ["blocks.7.hook_mlp_out"], 1))


def test_a_stream_has_the_order_of_the_rows(world, monkeypatch):
    """For any window, as if each row had run by itself."""
    rows, bridge = pipeline.rows(world, "two_layer"), models.load(pipeline.model(world, "two_layer"))
    chosen, hook = np.array([3, 40, 7, 7, 12, 0, 31]), "blocks.1.hook_mlp_out"
    each = models.harvest(bridge, rows, ([x] for x in chosen), [hook], 2)
    by_row = [part.activations[hook][part.mask] for part in each]
    assert len({len(x) for x in by_row}) > 3
    for window in (3, 256):
        monkeypatch.setattr(models, "WINDOW", window)
        parts = [part[hook] for part in models.stream(bridge, rows, chosen, [hook], 2)]
        assert len(parts) == -(-len(chosen) // window)
        torch.testing.assert_close(torch.cat(parts), torch.cat(by_row))


def test_the_input_of_a_block_is_the_output_of_the_block_before():
    assert models.block_input("blocks.1.hook_mlp_out") == "blocks.0.hook_resid_post"
    assert models.block_input("blocks.0.hook_mlp_out") == "blocks.0.hook_resid_pre"
    with pytest.raises(ValueError, match="is in no block"):
        models.block_input("hook_embed")
