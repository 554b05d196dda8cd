"""Hooks hold what the modules of a model compute, in every family; other hooks are refused."""

import shutil

import numpy as np
import pytest
import tiny_hub
import torch
from safetensors.torch import load_file, save_file
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

from sae_utils.engine.core.spec import ProfileError
from sae_utils.engine.lms import cross_entropy, hooking, models, pretrained
from sae_utils.engine.saes import quality
from sae_utils.store import Artefact
from sae_utils.studies.llm_vs_sae import units

SHAPE = {
    "hidden_size": 32, "n_embd": 32, "num_hidden_layers": 2, "n_layer": 2, "num_attention_heads": 4, "n_head": 4,
    "num_key_value_heads": 2, "intermediate_size": 48, "ffn_dim": 48, "head_dim": 8, "rotary_dim": 4,
    "max_position_embeddings": 64, "n_positions": 64, "word_embed_proj_dim": 32, "query_pre_attn_scalar": 8,
}  # fmt: skip
IDS = torch.arange(5, 45)[None]


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    place = tmp_path_factory.mktemp("words")
    tiny_hub.tokenizer(place, tiny_hub.FAMILIES["openai-community/gpt2"][2], ["once upon a time there was a fox"])
    return place


def made(tmp_path, words, family: str, **changes) -> Artefact:
    """A tiny random model of a family, weights large enough for its modules to differ."""
    logging.disable_progress_bar()
    shape = {key: value for key, value in SHAPE.items() if hasattr(CONFIG_MAPPING[family](), key)}
    shape = {key: value for key, value in shape.items() if (family, key) != ("falcon", "head_dim")}
    special = {"pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0}
    config = CONFIG_MAPPING[family](**(shape | special | {"vocab_size": 320, "initializer_range": 0.3} | changes))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
        for parameter in network.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
    place = tmp_path / family
    network.save_pretrained(place)
    for file in words.iterdir():
        shutil.copy(file, place)
    return Artefact(str(place), place, {"source": f"org/{family}"})


def by_plain_hooks(model: Artefact, modules: list[str]) -> tuple[list[torch.Tensor], tuple[torch.Tensor, ...]]:
    """Outputs of modules of the base model, and its hidden states, by transformers without TransformerLens."""
    network = AutoModelForCausalLM.from_pretrained(model.path, trust_remote_code=False).eval()
    seen: dict[str, torch.Tensor] = {}

    def keep(name):
        return lambda module, given, out: seen.update({name: (out[0] if isinstance(out, tuple) else out).clone()})

    for name in modules:
        network.base_model.get_submodule(name).register_forward_hook(keep(name))
    with torch.no_grad():
        hidden = network(IDS, output_hidden_states=True, use_cache=False).hidden_states
    return [seen[name] for name in modules], hidden


GRANITE = {"residual_multiplier": 0.22, "embedding_multiplier": 12.0, "logits_scaling": 8.0}
FAMILIES = {
    "llama": ({"rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 1e4}}, "layers.1", "self_attn"),
    "granite": (GRANITE, "layers.1", "self_attn"), "exaone4": ({}, "layers.1", "self_attn"),
    "olmo2": ({}, "layers.1", "self_attn"), "gemma3_text": ({"sliding_window": 8}, "layers.1", "self_attn"),
    "gpt_neox": ({"use_parallel_residual": False}, "layers.1", "attention"), "gptj": ({}, "h.1", "attn"),
    "bloom": ({"apply_residual_connection_post_layernorm": True}, "h.1", "self_attention"),
    "falcon": ({}, "h.1", "self_attention"), "stablelm": ({}, "layers.1", "self_attn"),
    "glm4": ({}, "layers.1", "self_attn"),
    "phi": ({}, "layers.1", "self_attn"), "qwen3": ({}, "layers.1", "self_attn"),
}  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_a_hookpoint_is_the_output_of_its_module(tmp_path, words, family):
    changes, block, attention = FAMILIES[family]
    model = made(tmp_path, words, family, **changes)
    names = [f"{block}.mlp", f"{block}.{attention}", block]
    own, hidden = by_plain_hooks(model, names)
    hooks = [models.hook_of.__wrapped__(tmp_path, model, name)["hook"] for name in names]
    bridge = models.load(model)
    with torch.no_grad():
        _, cache = bridge.run_with_cache(IDS, names_filter=[*hooks, "blocks.0.hook_resid_post"])
    for hook, expected in zip(hooks, own, strict=True):
        torch.testing.assert_close(cache[hook], expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(cache["blocks.0.hook_resid_post"], hidden[1], atol=1e-4, rtol=1e-4)
    if family == "granite":  # the block adds .22 of it, and an SAE reads all of it
        assert hooks[:2] == ["blocks.1.mlp.hook_out", "blocks.1.attn.hook_out"]
        assert {"blocks.1.hook_mlp_out", "blocks.1.mlp.hook_out"} <= set(quality.neighbours(bridge, hooks[0]))
        assert {"blocks.1.hook_mlp_out", "blocks.1.mlp.hook_out"} <= set(
            quality.neighbours(bridge, "blocks.1.hook_mlp_out")
        )


@pytest.mark.parametrize(("family", "changes", "message"), [
    ("cohere", {}, r"org/cohere \(cohere, float32\): TransformerLens computes other activations .*_post: \d+% off"),
    ("cohere2", {}, "computes other activations"),
    ("hunyuan_v1_dense", {}, "computes other activations"),
    ("falcon", {"alibi": True, "parallel_attn": False}, "computes other activations"),  # unlike sdpa, the default
    ("cohere", {"use_qk_norm": True}, r"TransformerLens cannot hook this architecture \(.*q_norm"),
    ("persimmon", {}, r"TransformerLens cannot hook this architecture"),
])  # fmt: skip
def test_a_family_that_the_bridge_computes_wrongly_is_refused(tmp_path, words, family, changes, message):
    with pytest.raises(ProfileError, match=message):
        models.load(made(tmp_path, words, family, **changes))


def test_a_hook_with_another_value_than_its_name_is_refused(tmp_path, words):
    """A mixture of experts has no single last map, and behind a norm there is no output that is added."""
    model = made(tmp_path, words, "mixtral")
    experts = models.load(model)
    hooking.refuse_hook(experts, "blocks.1.hook_mlp_out")
    with pytest.raises(
        ProfileError, match=r"'blocks\.1\.mlp\.hook_post': in org/mixtral .* did you mean `blocks\.1\.mlp"
    ):
        hooking.refuse_hook(experts, "blocks.1.mlp.hook_post")
    with pytest.raises(ProfileError, match=r"'blocks\.1\.mlp\.hook_post': in org/mixtral"):
        units.output_weights.__wrapped__(tmp_path, model, 1)
    bloom = models.load(made(tmp_path, words, "bloom", apply_residual_connection_post_layernorm=True))
    hooking.refuse_hook(bloom, "blocks.1.mlp.hook_post")
    with pytest.raises(ProfileError, match=r"'blocks\.1\.hook_mlp_out': in org/bloom"):
        hooking.refuse_hook(bloom, "blocks.1.hook_mlp_out")
    with pytest.raises(ProfileError, match=r"none of that name; did you mean `blocks\.1\.hook_mlp_out`"):
        hooking.refuse_hook(bloom, "blocks.1.hook_mlp_outs")


def test_half_precision_may_differ_by_rounding(tmp_path, words):
    for family, changes in (("olmo2", {}), ("granite", GRANITE)):
        model = made(tmp_path, words, family, dtype="bfloat16", **changes)
        assert models.load(model).original_model.dtype == torch.bfloat16
        assert models.hook_of.__wrapped__(tmp_path, model, "layers.1.mlp")["hook"] == "blocks.1.mlp.hook_out"
    with pytest.raises(ProfileError, match=r"\(cohere, bfloat16\): TransformerLens computes other activations"):
        models.load(made(tmp_path, words, "cohere", dtype="bfloat16"))


def test_a_model_of_few_positions_is_compared_on_them(tmp_path, words):
    assert "blocks.1.hook_mlp_out" in models.load(made(tmp_path, words, "gpt2", n_positions=5)).readable


# --- rows that a model cannot read


def rows(tmp_path, tokens: np.ndarray) -> Artefact:
    place = tmp_path / "rows"
    place.mkdir(exist_ok=True)
    np.save(place / "tokens.npy", tokens.astype(np.int32))
    np.save(place / "lengths.npy", np.full(len(tokens), tokens.shape[1]))
    np.save(place / "places.npy", np.tile(np.arange(tokens.shape[1]), (len(tokens), 1)))
    return Artefact("rows", place, {})


@pytest.mark.parametrize("family", ["gpt2", "llama"])  # absolute positions, rotary positions
@pytest.mark.parametrize(("length", "token", "message"), [
    (64, 319, None),
    (65, 319, r"rows have 65 tokens, and the model was made for 64 .*set `corpus\.context` to at most 64"),
    (12, 320, r"rows hold the token 320, and the model embeds 320 .*name a folder or revision that holds both"),
])  # fmt: skip
def test_tokens_and_positions_that_a_model_lacks_are_refused(tmp_path, words, family, length, token, message):
    bridge, given = models.load(made(tmp_path, words, family)), rows(tmp_path, np.full((2, length), token))
    reading = (
        lambda: list(models.harvest(bridge, given, iter([np.arange(2)]), ["blocks.0.hook_mlp_out"], 1)),
        lambda: cross_entropy.mean(bridge, given, np.arange(2)),
    )
    for read in reading:
        if message is None:
            read()
            continue
        with pytest.raises(ProfileError, match=rf"org/{family} \({family}, float32\): {message}"):
            read()


# --- activations that are not finite


def spoilt(tmp_path, words, change, **changes) -> Artefact:
    model = made(tmp_path, words, "gpt_neox", **changes)
    weights = load_file(model.path / "model.safetensors")
    change(weights)
    save_file(weights, model.path / "model.safetensors", metadata={"format": "pt"})
    return model


EMBEDDING = "gpt_neox.embed_in.weight"


def test_overflow_is_named(tmp_path, words):
    """The same weights are read in float32."""

    def large(weights):
        weights["gpt_neox.layers.0.mlp.dense_4h_to_h.weight"] *= 2e4

    bridge = models.load(spoilt(tmp_path, words, large, dtype="float32"))
    given = rows(tmp_path, np.arange(24).reshape(2, 12))
    assert len(list(models.harvest(bridge, given, iter([np.arange(2)]), ["blocks.0.hook_mlp_out"], 1)))
    message = (
        r"org/gpt_neox \(gpt_neox, float16\): .*activations are not finite in float16, which overflows; "
        r"set `dtype: float32`"
    )
    with pytest.raises(ProfileError, match=message):
        models.load(spoilt(tmp_path, words, large, dtype="float16"))


def test_overflow_at_one_token_names_its_row(tmp_path, words):
    def large(weights):
        weights[EMBEDDING][17] = 6e4

    def doubled(weights):
        large(weights)
        weights["gpt_neox.layers.0.mlp.dense_4h_to_h.bias"] += 3e4

    bridge = models.load(spoilt(tmp_path, words, doubled, dtype="float16"))
    given = rows(tmp_path, np.arange(24).reshape(2, 12))
    hook = "blocks.0.hook_resid_post"
    with pytest.raises(
        ProfileError, match=rf"float16\): {hook}, row 1, position 5: activations are not finite in float16"
    ):
        list(models.harvest(bridge, given, iter([np.arange(2)]), [hook], 1))
    with pytest.raises(ProfileError, match=r"its loss is nan; activations are not finite in float16"):
        cross_entropy.mean(bridge, given, np.arange(2))


def test_weights_that_are_not_finite_are_named(tmp_path, words):
    model = spoilt(tmp_path, words, lambda weights: weights[EMBEDDING].fill_(float("nan")))
    with pytest.raises(ProfileError, match=r"activations are not finite in float32: its weights are damaged"):
        models.load(model)


def test_a_linked_model_is_compared_with_its_bridge(tmp_path, words):
    """The comparison comes before any use of the model."""
    model = made(tmp_path, words, "cohere")
    record = pretrained.Pretrained(kind="pretrained", source=str(model.path))
    with pytest.raises(ProfileError, match=r"cohere \(cohere, float32\): TransformerLens computes other activations"):
        pretrained.link(pretrained.locate(record), "float32", pretrained.tokenizer(pretrained.tokenizer_spec(record)))
    assert AutoTokenizer.from_pretrained(model.path, trust_remote_code=False).pad_token is None
