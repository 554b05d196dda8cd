"""A model of the hub has the weights, activations and tokens that its own libraries give it."""

import ast
import json
import shutil

import numpy as np
import pytest
import tiny_hub
import torch
from hub_server import commit
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer

from sae_utils import store
from sae_utils.engine.core.sources import REPOSITORY
from sae_utils.engine.core.spec import ProfileError
from sae_utils.engine.lms import batching, cross_entropy, models, pretrained, toys
from sae_utils.engine.lms.pretrained import Pretrained
from sae_utils.engine.text import corpora, tokenization

FAMILIES = list(tiny_hub.FAMILIES)
PYTHIA, GPT2, GEMMA, LLAMA = (FAMILIES[i] for i in (0, 2, 5, 6))
STORIES = corpora.Stories(kind="stories", documents=60, seed=3, context=24, shares=[0.2, 0.4, 0.4], split_seed=0)


def record(source: str, **changes) -> Pretrained:
    return Pretrained(kind="pretrained", source=source, **changes)


def made(source: str, **changes) -> store.Artefact:
    chosen = record(source, **changes)
    words = pretrained.tokenizer(pretrained.tokenizer_spec(chosen))
    return pretrained.link(pretrained.locate(chosen), chosen.dtype, words)


def rows(source: str) -> store.Artefact:
    return tokenization.rows(corpora.text(STORIES), pretrained.tokenizer(pretrained.tokenizer_spec(record(source))), 24)


def assert_same(found: torch.Tensor, expected: torch.Tensor) -> None:
    """Equal up to 1e-5 of the largest value, as sums run in another order."""
    torch.testing.assert_close(found, expected, atol=1e-5 * expected.abs().max().item(), rtol=0)


@pytest.fixture(params=FAMILIES)
def family(request, cached):
    return request.param


@pytest.fixture
def copied(tiny, tmp_path):
    """A copy of a checkpoint that a test may change."""

    def copy(name: str):
        return shutil.copytree(tiny_hub.folder(tiny, name), tmp_path / "copied")

    return copy


# --- models


def test_activations_and_logits_are_transformers_own(family, tiny):
    network = AutoModelForCausalLM.from_pretrained(
        tiny_hub.folder(tiny, family), attn_implementation="eager", trust_remote_code=False
    ).eval()
    blocks = next(part for part in network.modules() if isinstance(part, torch.nn.ModuleList))
    seen = {}

    def keep(name):
        def hook(module, given, out):
            seen[name] = out[0] if isinstance(out, tuple) else out

        return hook

    for block in (1, tiny_hub.LAYERS - 1):
        blocks[block].register_forward_hook(keep(f"blocks.{block}.hook_resid_post"))
    blocks[1].mlp.register_forward_hook(keep("blocks.1.mlp.hook_out"))
    bridge, tokens = models.load(made(family)), rows(family)
    chosen = np.arange(8)
    ids, _ = batching.take(tokens, chosen)
    with torch.no_grad():
        logits = network(ids).logits
        assert_same(bridge(ids), logits)
    bridge.unembed.register_forward_hook(lambda *_: pytest.fail("nobody asked for the logits"))
    for hook, expected in seen.items():
        [batch] = models.harvest(bridge, tokens, iter([chosen]), [hook], 1)
        assert_same(batch.activations[hook], expected)


def test_transformerlens_and_nnsight_agree(family, tiny):
    from nnsight import TransformersModel

    place, tokens = tiny_hub.folder(tiny, family), rows(family)
    chosen = np.arange(4)
    ids, _ = batching.take(tokens, chosen)
    network = AutoModelForCausalLM.from_pretrained(place, attn_implementation="eager", trust_remote_code=False).eval()
    traced = TransformersModel(
        network, tokenizer=AutoTokenizer.from_pretrained(place, trust_remote_code=False), task="text-generation"
    )
    blocks = next(name for name, part in network.named_modules() if isinstance(part, torch.nn.ModuleList))
    block = traced.get(f"{blocks}.1")
    with torch.no_grad(), traced.trace(ids):
        within = block.mlp.output.save()
        after = block.output.save()
    after = after[0] if isinstance(after, tuple) else after
    bridge = models.load(made(family))
    for hook, expected in (("blocks.1.mlp.hook_out", within), ("blocks.1.hook_resid_post", after)):
        [batch] = models.harvest(bridge, tokens, iter([chosen]), [hook], 1)
        assert_same(batch.activations[hook], expected)


def test_weights_are_linked_and_sizes_are_kept(family, cached):
    found = made(family)
    assert (found.path / "model.safetensors").is_symlink()
    network = AutoModelForCausalLM.from_pretrained(found.path, trust_remote_code=False)
    parameters = sum(p.numel() for p in network.parameters())
    assert found.meta == {
        "source": family,
        "commit": commit("models", family, "main"),
        "parameters": parameters,
        "layers": tiny_hub.LAYERS,
        "d_model": tiny_hub.FAMILIES[family][1].get("hidden_size", tiny_hub.D),
    }


def test_a_revision_is_its_own_model(cached):
    main, early = made(PYTHIA), made(PYTHIA, revision="step1000")
    by_commit = made(PYTHIA, revision=commit("models", PYTHIA, "step1000"))
    assert main.key != early.key == by_commit.key
    first, second = (load_file(found.path / "model.safetensors") for found in (main, early))
    assert not torch.equal(first["gpt_neox.embed_in.weight"], second["gpt_neox.embed_in.weight"])


def test_a_folder_is_keyed_by_its_content(cached, copied, tmp_path):
    place = copied(PYTHIA)
    first = made(str(place))
    moved = shutil.copytree(place, tmp_path / "moved")
    assert made(str(moved)).key == first.key
    weights = load_file(place / "model.safetensors")
    weights["gpt_neox.embed_in.weight"] *= 2  # the same names, shapes and size
    save_file(weights, place / "model.safetensors", metadata={"format": "pt"})
    again = made(str(place))
    assert again.key != first.key and again.meta["source"] == ""


def test_a_sharded_checkpoint_is_read(cached, copied, tmp_path):
    network = AutoModelForCausalLM.from_pretrained(copied(PYTHIA), trust_remote_code=False)
    place = tmp_path / "parts"
    network.save_pretrained(place, max_shard_size="8KB")
    shutil.copy(tmp_path / "copied" / "tokenizer.json", place)
    shutil.copy(tmp_path / "copied" / "tokenizer_config.json", place)
    assert len(list(place.glob("*.safetensors"))) > 2
    read = AutoModelForCausalLM.from_pretrained(made(str(place)).path, trust_remote_code=False)
    for (name, value), other in zip(network.state_dict().items(), read.state_dict().values(), strict=True):
        assert torch.equal(value, other), name


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_model_computes_in_its_dtype_and_gives_float32(cached, dtype):
    bridge, tokens = models.load(made(PYTHIA, dtype=dtype)), rows(PYTHIA)
    assert {p.dtype for p in bridge.parameters()} == {getattr(torch, dtype)}
    hook = "blocks.1.hook_mlp_out"
    [low] = models.harvest(bridge, tokens, iter([np.arange(4)]), [hook], 1)
    [full] = models.harvest(models.load(made(PYTHIA)), tokens, iter([np.arange(4)]), [hook], 1)
    x, y = low.activations[hook], full.activations[hook]
    assert x.dtype == torch.float32
    error = (x - y)[low.mask].norm() / y[low.mask].norm()
    assert 0 < error < 0.1
    clean = cross_entropy.mean(bridge, tokens, np.arange(4))
    assert cross_entropy.mean(bridge, tokens, np.arange(4), hook, lambda x: x) == clean


def test_heads_lie_side_by_side(cached):
    bridge, tokens = models.load(made(GPT2)), rows(GPT2)
    [batch] = models.harvest(bridge, tokens, iter([np.arange(3)]), ["blocks.1.attn.hook_z"], 1)
    assert batch.activations["blocks.1.attn.hook_z"].shape[2:] == (tiny_hub.D,)
    clean = cross_entropy.mean(bridge, tokens, np.arange(3))
    assert cross_entropy.mean(bridge, tokens, np.arange(3), "blocks.1.attn.hook_z", lambda x: x) == clean
    assert cross_entropy.mean(bridge, tokens, np.arange(3), "blocks.1.attn.hook_z", torch.zeros_like) != clean


def test_a_random_twin_has_its_shape(cached):
    model = made(GPT2)
    twin = toys.twin(model, "blocks", 0)
    trained, random = (
        AutoModelForCausalLM.from_pretrained(found.path, trust_remote_code=False).state_dict()
        for found in (model, twin)
    )
    assert {k: v.shape for k, v in trained.items()} == {k: v.shape for k, v in random.items()}
    assert torch.equal(trained["transformer.wte.weight"], random["transformer.wte.weight"])
    assert not torch.equal(trained["transformer.h.0.mlp.c_fc.weight"], random["transformer.h.0.mlp.c_fc.weight"])


# --- tokenizers


def test_tokens_are_those_of_the_models_own_tokenizer(family, tiny):
    own = AutoTokenizer.from_pretrained(tiny_hub.folder(tiny, family), trust_remote_code=False)
    found, source = rows(family), corpora.text(STORIES)
    text = next(corpora.blocks(source)).texts
    for document in (0, 7, 59):
        mine = np.flatnonzero((found.array("documents") == document).any(axis=1))
        tokens, lengths = found.array("tokens"), found.array("lengths")
        joined = np.concatenate([tokens[row, 1 : lengths[row]] for row in mine])
        expected = own(text[document], add_special_tokens=False, truncation=False)["input_ids"]
        assert joined.tolist() == expected and len(mine) > 1
        assert (tokens[mine, 0] == own.convert_tokens_to_ids(tiny_hub.FAMILIES[family][2]["bos"])).all()


def test_models_with_equal_tokenizers_share_rows(cached):
    assert rows(FAMILIES[0]).key == rows(FAMILIES[1]).key  # Pythia 70m, 160m
    assert len({rows(name).key for name in FAMILIES[1:]}) > 2
    assert made(FAMILIES[0]).key != made(FAMILIES[1]).key


@pytest.mark.parametrize(
    ("name", "stands_in"), [(PYTHIA, ["bos"]), (GPT2, ["bos", "pad"]), (GEMMA, []), (LLAMA, ["pad"])]
)
def test_the_end_of_text_replaces_missing_tokens(cached, name, stands_in):
    assert pretrained.tokenizer(pretrained.tokenizer_spec(record(name))).meta["stands_in"] == stands_in
    found = rows(name)
    tokens, lengths = found.array("tokens"), found.array("lengths")
    outside = np.arange(tokens.shape[1]) >= lengths[:, None]
    words = AutoTokenizer.from_pretrained(made(name).path, trust_remote_code=False)
    assert outside.any() and (tokens[outside] == words.pad_token_id).all()
    assert (words.pad_token == words.eos_token) == ("pad" in stands_in)


def test_a_tokenizer_without_end_of_text_is_refused(cached, copied):
    place = copied(PYTHIA)
    (place / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))
    with pytest.raises(ProfileError, match=r"copied: the tokenizer has no bos token, .* tokenizer_config\.json"):
        pretrained.tokenizer_spec(record(str(place)))


def test_a_folder_without_tokenizer_is_refused(cached, copied):
    place = copied(PYTHIA)
    (place / "tokenizer.json").unlink()
    with pytest.raises(ProfileError, match=r"copied: there is no tokenizer\.json or tokenizer\.model or vocab\.json"):
        pretrained.tokenizer_spec(record(str(place)))


def test_a_damaged_tokenizer_is_refused(cached, copied):
    place = copied(PYTHIA)
    (place / "tokenizer.json").write_text("{")
    with pytest.raises(ProfileError, match="no fast tokenizer can be read"):
        pretrained.tokenizer_spec(record(str(place)))


def test_a_token_that_the_model_does_not_know_is_refused(cached, copied):
    place = copied(GPT2)
    config = json.loads((place / "tokenizer_config.json").read_text())
    (place / "tokenizer_config.json").write_text(json.dumps(config | {"pad_token": "<new>"}))
    change_weights(
        place, lambda weights: weights.update({"transformer.wte.weight": weights["transformer.wte.weight"][:320]})
    )
    shape = json.loads((place / "config.json").read_text())
    (place / "config.json").write_text(json.dumps(shape | {"vocab_size": 320}))
    with pytest.raises(ProfileError, match=r"<new> \(320\), and the model knows 320 tokens"):
        made(str(place))


# --- refusals


def change_weights(place, change) -> None:
    weights = load_file(place / "model.safetensors")
    change(weights)
    save_file({name: value.contiguous() for name, value in weights.items()}, place / "model.safetensors")


def test_other_keys_are_named(cached, copied):
    place = copied(PYTHIA)
    key = "gpt_neox.layers.1.mlp.dense_h_to_4h.weight"
    change_weights(place, lambda weights: weights.update({"other.weight": weights.pop(key)}))
    with pytest.raises(ProfileError, match=rf"missing {key}; found instead other\.weight"):
        made(str(place))


def test_other_shapes_are_named(cached, copied):
    place = copied(PYTHIA)
    key = "gpt_neox.layers.1.mlp.dense_h_to_4h.weight"
    change_weights(place, lambda weights: weights.update({key: weights[key][:, :8]}))
    with pytest.raises(ProfileError, match=rf"{key}: \(32, 8\) where \(32, 16\) is expected"):
        made(str(place))


def test_a_model_that_is_no_language_model_is_refused(cached, copied):
    place = copied(PYTHIA)
    config = json.loads((place / "config.json").read_text())
    (place / "config.json").write_text(json.dumps(config | {"model_type": "vit"}))
    with pytest.raises(ProfileError, match="transformers cannot load it as a causal language model"):
        made(str(place))


@pytest.mark.parametrize(("file", "own"), [
    ("config.json", {"AutoModelForCausalLM": "own.Own", "AutoConfig": "own.OwnConfig"}),
    ("tokenizer_config.json", {"AutoTokenizer": ["own.Own", None]}),
])  # fmt: skip
@pytest.mark.parametrize("family", [None, "own"])
def test_code_of_a_repository_is_refused(cached, copied, tmp_path, monkeypatch, file, own, family):
    """Also where transformers knows the architecture itself; no question is asked at a terminal."""
    place = copied(PYTHIA)
    (place / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Own: pass\nclass OwnConfig: pass\n")
    changes = {"config.json": {"model_type": family} if family else {}, "tokenizer_config.json": {}}
    changes[file] |= {"auto_map": own}
    for name, change in changes.items():
        (place / name).write_text(json.dumps(json.loads((place / name).read_text()) | change))
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked at a terminal"))
    for read in (lambda: made(str(place)), lambda: pretrained.tokenizer_spec(record(str(place)))):
        with pytest.raises(
            ProfileError, match=rf"copied: {file}: `auto_map` names code .* never run; .* without that key"
        ):
            read()
    assert not (tmp_path / "ran").exists()


ASKING = ("from_pretrained", "from_config", "boot_transformers")  # of transformers and TransformerLens


def test_every_call_refuses_code_of_repositories():
    """Without `trust_remote_code`, transformers asks at a terminal whether to run it. SAELens has no such argument."""
    silent = []
    for folder in ("sae_utils", "notebooks", "tests", "benchmarks"):
        for file in (REPOSITORY / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text("utf-8"))):
                if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                    continue
                arguments = {key.arg: ast.unparse(key.value) for key in node.keywords}
                if node.func.attr in ASKING and ast.unparse(node.func.value) != "SAE":
                    if arguments.get("trust_remote_code") != "False":
                        silent.append(f"{file.relative_to(REPOSITORY)}:{node.lineno}")
                elif arguments.get("trust_remote_code", "False") != "False":
                    silent.append(f"{file.relative_to(REPOSITORY)}:{node.lineno}")
    assert silent == []


@pytest.mark.parametrize(("special", "same"), [(True, True), (False, False)])
def test_an_unused_special_token_may_have_another_name(tmp_path, special, same):
    found = []
    for name in ("<|reserved_special_token_2|>", "<|finetune_right_pad_id|>"):
        place = tmp_path / name
        place.mkdir()
        tiny_hub.tokenizer(place, tiny_hub.FAMILIES[LLAMA][2], ["once upon a time there was a fox"])
        (place / "config.json").write_text('{"model_type": "llama"}')
        save_file({"x": torch.zeros(1)}, place / "model.safetensors")
        words = Tokenizer.from_file(str(place / "tokenizer.json"))
        words.add_tokens([AddedToken(name, special=special)])
        words.save(str(place / "tokenizer.json"))
        found.append(pretrained.tokenizer_spec(record(str(place))))
    assert found[0].content != found[1].content
    assert (found[0].sha256 == found[1].sha256) is same
