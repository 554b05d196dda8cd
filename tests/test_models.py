"""A trained model is what transformers reads, its hooks are its activations, its losses those of plain counting."""

import itertools
import math
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from sae_utils import pipeline
from sae_utils.engine.core.spec import ProfileError
from sae_utils.engine.lms import batching, cross_entropy, models, toys
from sae_utils.engine.text import corpora, tokenization

NAMES = ("one_layer", "two_layer")


@pytest.fixture(scope="module", params=NAMES)
def name(request):
    return request.param


def network_of(model):
    return AutoModelForCausalLM.from_pretrained(model.path, trust_remote_code=False).eval()


def lines(rows, split: str, most: int | None = None) -> list[list[int]]:
    """The rows of a split as lists, without padding; those that are judged, where only so many are."""
    chosen = np.flatnonzero(rows.array("split") == corpora.SPLITS.index(split))
    chosen = chosen if most is None else tokenization.spread_rows(rows, chosen, most)
    return [rows.array("tokens")[row, : rows.array("lengths")[row]].tolist() for row in chosen]


# --- training


def test_the_folder_is_read_as_pythia_is(world, name):
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


@pytest.mark.parametrize(("rows", "batch"), [(1, 4), (7, 7), (100, 8), (1000, 3), (333, 1)])
def test_every_row_is_seen_once_an_epoch(rows, batch):
    lengths = np.random.default_rng(0).integers(2, 50, rows)
    found = list(batching.shuffled(lengths, batch, seed=(0, 0)))
    assert sorted(np.concatenate(found)) == list(range(rows))
    assert max(map(len, found)) <= batch and len(found) == -(-rows // batch)
    again, other = (list(batching.shuffled(lengths, batch, seed=(0, epoch))) for epoch in (0, 1))
    assert all(map(np.array_equal, found, again))
    assert rows < 8 or not all(map(np.array_equal, found, other))


def test_rows_of_like_length_go_together():
    lengths = np.random.default_rng(0).integers(2, 100, 640)
    spread = np.mean([np.ptp(lengths[batch]) for batch in batching.shuffled(lengths, 8, seed=0)])
    assert spread < 10 < np.mean([np.ptp(lengths[i : i + 8]) for i in range(0, 640, 8)])


# --- losses


def test_the_loss_is_that_of_transformers(world, name):
    rows, network = pipeline.rows(world, name), network_of(pipeline.model(world, name))
    chosen = np.array([5, 0, 17])
    tokens, mask = batching.take(rows, chosen)
    assert tokens.shape == mask.shape == (3, rows.array("lengths")[chosen].max())
    with torch.no_grad():
        output = network(tokens, labels=tokens.masked_fill(~mask, -100))
    ours = cross_entropy.next_token(models.load(pipeline.model(world, name)), tokens, mask)
    assert ours.shape == (int(mask.sum()) - 3,)
    torch.testing.assert_close(ours.mean(), output.loss)
    mean = cross_entropy.mean(models.load(pipeline.model(world, name)), rows, chosen)
    assert mean == pytest.approx(output.loss.item(), rel=1e-5)


def test_losses_are_those_of_plain_counting(world, name):
    """Unigram with one added to every count; bigram by absolute discounting, written out with dictionaries."""
    rows = pipeline.rows(world, name)
    found = pipeline.losses(world, name, 40).meta
    size = network_of(pipeline.model(world, name)).config.vocab_size
    training, held_out = lines(rows, "training"), lines(rows, "held_out", 40)

    ones = Counter(token for line in training for token in line[1:])
    twos = Counter(pair for line in training for pair in pairwise(line))
    firsts, followers = Counter(), Counter()
    for (a, _), count in twos.items():
        firsts[a] += count
        followers[a] += 1

    def unigram(b: int) -> float:
        return (ones[b] + 1) / (sum(ones.values()) + size)

    def bigram(a: int, b: int) -> float:
        if not firsts[a]:
            return unigram(b)
        return max(twos[a, b] - 0.75, 0) / firsts[a] + 0.75 * followers[a] / firsts[a] * unigram(b)

    pairs = [pair for line in held_out for pair in pairwise(line)]
    assert sum(bigram(pairs[0][0], b) for b in range(size)) == pytest.approx(1)
    assert found["predictions"] == len(pairs)
    assert found["unigram"] == pytest.approx(-np.mean([math.log(unigram(b)) for _, b in pairs]), rel=1e-9)
    assert found["bigram"] == pytest.approx(-np.mean([math.log(bigram(a, b)) for a, b in pairs]), rel=1e-9)
    assert found["bigram"] < found["unigram"]
    network = network_of(pipeline.model(world, name))
    with torch.no_grad():
        total = sum(
            network(torch.tensor([line]), labels=torch.tensor([line])).loss * (len(line) - 1) for line in held_out
        )
    assert found["model"] == pytest.approx(total.item() / len(pairs), rel=1e-5)


# --- hooks


@pytest.mark.parametrize("hook", ["hook_mlp_out", "hook_resid_post", "hook_attn_out", "mlp.hook_post"])
@pytest.mark.parametrize("skip", [1, 3])
def test_a_hook_gives_what_a_forward_hook_sees(world, name, hook, skip):
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


def test_the_embedding_is_a_hook_too(world):
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


def test_a_hook_does_not_see_what_is_asked_for_beside_it(world):
    """Bit for bit: artefacts of one pass have keys that do not know of each other."""
    rows, bridge = pipeline.rows(world, "two_layer"), models.load(pipeline.model(world, "two_layer"))
    batch = np.array([3, 1, 9])
    (together,) = models.harvest(bridge, rows, iter([batch]), EVERYWHERE, 1)
    assert list(together.activations) == EVERYWHERE
    for hook in EVERYWHERE:
        (alone,) = models.harvest(bridge, rows, iter([batch]), [hook], 1)
        assert torch.equal(alone.activations[hook], together.activations[hook])


@pytest.mark.parametrize(
    ("hooks", "blocks", "unembedded"),
    [
        (["blocks.0.hook_mlp_out"], 1, False),
        (["blocks.0.hook_mlp_out", "blocks.1.hook_resid_post"], 2, False),
        (["blocks.1.mlp.hook_post"], 2, False),
        (["hook_embed", "blocks.0.hook_mlp_out"], 2, True),
    ],
)
def test_what_comes_after_the_hooks_is_not_computed(world, hooks, blocks, unembedded):
    rows, bridge = pipeline.rows(world, "two_layer"), models.load(pipeline.model(world, "two_layer"))
    ran = []
    for part in (*(block.mlp for block in bridge.blocks), bridge.unembed):
        part.register_forward_hook(lambda module, *_: ran.append(module))
    list(models.harvest(bridge, rows, iter([np.array([0])]), hooks, 1))
    assert (len(ran), bridge.unembed in ran) == (blocks + unembedded, unembedded)
    assert cross_entropy.mean(bridge, rows, np.array([0])) > 0 and bridge.unembed in ran  # nothing stays behind


def test_passes_hold_no_more_than_they_may(world, monkeypatch):
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


def test_what_is_replaced_at_a_hook_is_what_the_loss_sees(world, name):
    rows, bridge = pipeline.rows(world, name), models.load(pipeline.model(world, name))
    chosen = np.arange(20)
    hook = f"blocks.{world.models[name].layers - 1}.hook_resid_post"
    clean = cross_entropy.mean(bridge, rows, chosen)
    assert cross_entropy.mean(bridge, rows, chosen, hook, lambda x: x) == clean
    assert cross_entropy.mean(bridge, rows, chosen) == clean  # no hook stays behind
    # without a residual stream all that is left is the unembedding of the final norm's bias
    network = network_of(pipeline.model(world, name))
    logits = network.get_output_embeddings()(network.gpt_neox.final_layer_norm.bias).log_softmax(-1)
    tokens, mask = batching.take(rows, chosen)
    expected = -logits[tokens[:, 1:][mask[:, 1:]]].mean().item()
    assert cross_entropy.mean(bridge, rows, chosen, hook, torch.zeros_like) == pytest.approx(expected, rel=1e-5)


def test_a_stream_is_row_after_row(world, monkeypatch):
    """Whatever the window, as if each row had run alone."""
    rows, bridge = pipeline.rows(world, "two_layer"), models.load(pipeline.model(world, "two_layer"))
    chosen, hook = np.array([3, 40, 7, 7, 12, 0, 31]), "blocks.1.hook_mlp_out"
    each = models.harvest(bridge, rows, ([x] for x in chosen), [hook], 2)
    alone = [part.activations[hook][part.mask] for part in each]
    assert len({len(x) for x in alone}) > 3
    for window in (3, 256):
        monkeypatch.setattr(models, "WINDOW", window)
        parts = [part[hook] for part in models.stream(bridge, rows, chosen, [hook], 2)]
        assert len(parts) == -(-len(chosen) // window)
        torch.testing.assert_close(torch.cat(parts), torch.cat(alone))


def test_batches_in_order_cover_all():
    chosen = np.arange(5, 138)
    found = list(batching.in_order(chosen, 64))
    assert [len(batch) for batch in found] == [64, 64, 5]
    np.testing.assert_array_equal(np.concatenate(found), chosen)


# --- checkpoints and twins


def test_a_checkpoint_is_the_model_on_its_way(world):
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


def test_a_twin_keeps_the_shape_and_what_it_is_told_to_keep(world):
    made = pipeline.model(world, "two_layer")
    original = network_of(made).state_dict()
    everything, blocks, other = (
        network_of(toys.twin(made, random, seed)).state_dict()
        for random, seed in (("all", 0), ("blocks", 0), ("blocks", 1))
    )
    assert {k: v.shape for k, v in everything.items()} == {k: v.shape for k, v in original.items()}
    for key, value in original.items():
        inside, random_start = ".layers." in key, value.dim() == 2
        assert torch.equal(blocks[key], value) == (
            not inside or (not random_start and torch.equal(everything[key], value))
        )
        if random_start:
            assert not torch.equal(everything[key], value)
            assert torch.equal(blocks[key], other[key]) == (not inside)


def test_the_input_of_a_block_is_the_output_of_the_block_before():
    assert models.block_input("blocks.1.hook_mlp_out") == "blocks.0.hook_resid_post"
    assert models.block_input("blocks.0.hook_mlp_out") == "blocks.0.hook_resid_pre"
    with pytest.raises(ValueError, match="is in no block"):
        models.block_input("hook_embed")
