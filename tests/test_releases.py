"""A released SAE is read at the hook at which it was trained."""

import json
import re
import shutil
from typing import get_args

import numpy as np
import pytest
import tiny_hub
import torch
import two
from transformers import AutoModelForCausalLM, AutoTokenizer

from sae_utils import pipeline, profiles
from sae_utils.engine import params
from sae_utils.engine.core.spec import ProfileError, build
from sae_utils.engine.inputs import hub
from sae_utils.engine.lms import models, pretrained
from sae_utils.engine.saes import dictionaries, releases
from sae_utils.engine.text import stories

D, WIDTH = tiny_hub.D, tiny_hub.WIDTH
PYTHIA, GPT2, NEO, GEMMA, LLAMA = (list(tiny_hub.FAMILIES)[i] for i in (0, 2, 3, 5, 6))
X = 3 * torch.randn(200, D, generator=torch.Generator().manual_seed(5))


def read(tmp_path, **fields):
    """The SAE of a record as it is read from the store, and its meta."""
    record = build(releases.KINDS[fields["kind"]], {"model": "m"} | fields, "dictionaries.x")
    made = releases.convert(record, hub.find(*record.wanted()), getattr(record, "hook", "blocks.1.hook_mlp_out"))
    return dictionaries.load(made), made.meta


def codes(sae, x: torch.Tensor = X) -> torch.Tensor:
    with torch.no_grad():
        return sae.encode(x)


pytestmark = pytest.mark.filterwarnings("ignore:(?s).*non-empty model_from_pretrained_kwargs")


# --- hooks


@pytest.mark.parametrize(
    ("name", "hookpoint", "hook"),
    [
        (PYTHIA, "layers.1", "blocks.1.hook_resid_post"), (PYTHIA, "layers.1.mlp", "blocks.1.hook_mlp_out"),
        (PYTHIA, "layers.1.mlp.act", "blocks.1.mlp.hook_post"),
        (PYTHIA, "layers.1.attention", "blocks.1.hook_attn_out"),
        (GPT2, "h.1.mlp", "blocks.1.hook_mlp_out"), (GPT2, "h.1.attn", "blocks.1.hook_attn_out"),
        (NEO, "h.1", "blocks.1.hook_resid_post"), (LLAMA, "layers.1.mlp", "blocks.1.hook_mlp_out"),
        (LLAMA, "layers.1.self_attn", "blocks.1.hook_attn_out"), (GEMMA, "layers.1.mlp", "blocks.1.mlp.hook_out"),
        (GEMMA, "layers.1.self_attn", "blocks.1.attn.hook_out"), (GEMMA, "layers.1", "blocks.1.hook_resid_post"),
    ],
)  # fmt: skip
def test_a_hookpoint_is_the_output_of_its_module(tiny, cached, name, hookpoint, hook):
    made = linked(name)
    assert releases.Sparsify(kind="sparsify", model="m", source="x", hookpoint=hookpoint).hook_in(made) == hook
    expected = outputs(tiny_hub.folder(tiny, name), hookpoint, torch.arange(2, 40)[None])
    with torch.no_grad():
        _, cache = models.load(made).run_with_cache(torch.arange(2, 40)[None], names_filter=[hook])
    torch.testing.assert_close(cache[hook], expected, atol=1e-4, rtol=1e-4)


def linked(name: str):
    chosen = pretrained.Pretrained(kind="pretrained", source=name)
    return pretrained.link(
        pretrained.locate(chosen), "float32", pretrained.tokenizer(pretrained.tokenizer_spec(chosen))
    )


def outputs(place, hookpoint: str, ids: torch.Tensor) -> torch.Tensor:
    """The output of a module of the base model, by transformers and a plain hook."""
    network = AutoModelForCausalLM.from_pretrained(place, attn_implementation="eager", trust_remote_code=False).eval()
    seen = []
    network.base_model.get_submodule(hookpoint).register_forward_hook(lambda module, given, out: seen.append(out))
    with torch.no_grad():
        network(ids)
    return seen[0][0] if isinstance(seen[0], tuple) else seen[0]


@pytest.mark.parametrize(("name", "hookpoint", "message"), [
    (PYTHIA, "layers.1.mlp.dense", r"-70m \(gpt_neox, float32\) has no module 'layers\.1\.mlp\.dense'; did you mean"),
    (PYTHIA, "layers.1.self_attn", r"no module 'layers\.1\.self_attn'; did you mean"),
    (LLAMA, "layers.1.mlp.act_fn", r"\(llama, float32\): no hook .* holds the output of layers\.1\.mlp\.act_fn"),
])  # fmt: skip
def test_another_module_is_refused(cached, name, hookpoint, message):
    with pytest.raises(ProfileError, match=message):
        releases.Sparsify(kind="sparsify", model="m", source="x", hookpoint=hookpoint).hook_in(linked(name))


# --- the hook of a profile is verified


PROFILE = """
extends: smoke
corpus: {{kind: stories, documents: 60, seed: 3, context: 24, shares: [0.2, 0.4, 0.4], split_seed: 0}}
models:
  m: {{kind: pretrained, source: {source}}}
  n: {{kind: twin, of: m, random: all, seed: 0}}
dictionaries:
  a: {a}
  b: {b}
  n: {{kind: trained, model: n, hook: blocks.0.hook_mlp_out, width: 8, k: 2, seed: 0, samples: 64, batch: 8,
      learning_rate: 0.01}}
primary: {{pair: [a, n], matching: mutual, measure: rsa_spearman, permutations: 99}}
"""


@pytest.fixture
def profile(tmp_path, monkeypatch):
    """A profile of one pretrained model with two SAEs, and its random twin."""

    def write(source: str, a: str, b: str | None = None) -> params.Profile:
        folder = tmp_path / "params"
        shutil.copytree(params.PARAMS, folder, dirs_exist_ok=True)
        (folder / "own.yaml").write_text(PROFILE.format(source=source, a=a, b=b or a) + two.sections("a", "n"), "utf-8")
        with monkeypatch.context() as patch:
            patch.setattr(params, "PARAMS", folder)
            return profiles.load("own")

    return write


def seen(tiny, name: str, hookpoint: str) -> np.ndarray:
    """Activations of stories at a module's output, (tokens, d), by transformers."""
    place = tiny_hub.folder(tiny, name)
    words = AutoTokenizer.from_pretrained(place, trust_remote_code=False)
    texts = [document.text for document in stories.stream(seed=8, documents=30)]
    rows = [ids[:24] for ids in words(texts, add_special_tokens=False, truncation=False)["input_ids"]]
    return outputs(place, hookpoint, torch.tensor(rows))[:, 1:].flatten(0, 1).numpy()


@pytest.mark.parametrize(
    ("name", "hookpoint"),
    [(PYTHIA, "layers.1"), (PYTHIA, "layers.1.mlp"), (GPT2, "h.2.mlp"), (NEO, "h.0"), (GEMMA, "layers.1.mlp"),
     (LLAMA, "layers.2.mlp")],
)  # fmt: skip
def test_an_sae_is_confirmed_at_its_hook(tiny, cached, profile, tmp_path, name, hookpoint):
    tiny_hub.sparsify(tmp_path / "sae" / hookpoint, tiny_hub.planted(seen(tiny, name, hookpoint)), D // 2)
    run = profile(name, f"{{kind: sparsify, model: m, source: {tmp_path / 'sae'}, hookpoint: {hookpoint}}}")
    reader = pipeline.reader(run, "a")
    assert (reader.width, reader.hook) == (D, reader.dictionary.meta["hook"])
    found = reader.locate(pipeline.CONFIRMED_ON).meta
    assert found["best"] == reader.hook and len(found["fvu"]) >= 6
    features = pipeline.features(run, "a")
    assert features.codes.shape == (features.sites.meta["tokens"], D) and features.decoder.shape == (D, D)
    assert features.codes.nnz > features.codes.shape[0]


@pytest.mark.parametrize(("trained_at", "message", "fits"), [
    ("layers.0", "layers.1", "blocks.0.hook_resid_post"),  # hidden_states[1] taken for the output of block 1
    ("layers.1", "layers.0", "blocks.1.hook_resid_post"),
    ("layers.1.mlp", "layers.1", "blocks.1.hook_mlp_out"),
    ("layers.2.mlp", "layers.1.mlp", "blocks.2.hook_mlp_out"),
])  # fmt: skip
def test_an_sae_of_a_neighbour_is_refused(tiny, cached, profile, tmp_path, trained_at, message, fits):
    tiny_hub.sparsify(tmp_path / "sae" / message, tiny_hub.planted(seen(tiny, PYTHIA, trained_at)), D // 2)
    run = profile(PYTHIA, f"{{kind: sparsify, model: m, source: {tmp_path / 'sae'}, hookpoint: {message}}}")
    with pytest.raises(ProfileError, match=rf"own\.yaml: dictionaries\.a: fits {re.escape(fits)} \(FVU 0\.\d+\) more"):
        pipeline.reader(run, "a")


def test_an_sae_of_another_width_is_refused(cached, profile, tmp_path):
    tiny_hub.sparsify(tmp_path / "sae" / "layers.1", tiny_hub.drawn(d=12), 4)
    run = profile(PYTHIA, f"{{kind: sparsify, model: m, source: {tmp_path / 'sae'}, hookpoint: layers.1}}")
    with pytest.raises(ProfileError, match=r"blocks\.1\.hook_resid_post: the model has 16 dimensions .* reads 12"):
        pipeline.reader(run, "a")


def test_a_context_beyond_the_positions_is_refused_with_its_key(cached, profile, monkeypatch):
    monkeypatch.setattr("test_releases.PROFILE", PROFILE.replace("context: 24", "context: 80"))
    run = profile(PYTHIA, "{kind: saelens, model: m, source: ./x}")
    message = (
        r"own\.yaml: models\.m: EleutherAI/pythia-70m: rows have 80 tokens, .* made for 64 .*`corpus\.context` to at"
    )
    with pytest.raises(ProfileError, match=message):
        pipeline.model(run, "m")


def test_a_hook_that_the_model_lacks_is_refused(cached, profile, tmp_path):
    tiny_hub.saelens(tmp_path / "sae", tiny_hub.drawn(), "blocks.7.hook_mlp_out")
    run = profile(PYTHIA, f"{{kind: saelens, model: m, source: {tmp_path / 'sae'}}}")
    with pytest.raises(ValueError, match=r"'blocks\.7\.hook_mlp_out'.*did you mean"):
        pipeline.reader(run, "a")


def test_formats_are_compared_with_one_another(tiny, cached, profile, tmp_path):
    """A sparsify SAE of Pythia 70m and a Gemma Scope file over the same tokens; the pair is correlated."""
    x = seen(tiny, PYTHIA, "layers.1")
    tiny_hub.sparsify(tmp_path / "sae" / "layers.1", tiny_hub.planted(x), D // 2)
    tiny_hub.gemma_scope(tmp_path / "scope" / "layer_1", shifted(tiny_hub.planted(x)), threshold=0.0)
    run = profile(
        PYTHIA, f"{{kind: sparsify, model: m, source: {tmp_path / 'sae'}, hookpoint: layers.1}}",
        f"{{kind: gemma_scope, model: m, source: {tmp_path / 'scope'}, path: layer_1, hook: blocks.1.hook_resid_post}}",
    )  # fmt: skip
    a, b = (pipeline.features(run, name) for name in ("a", "b"))
    both = pipeline.correlated(a, b, 4)
    best = both.found.a_to_b
    np.testing.assert_array_equal(best.index[:, 0], np.arange(D))  # the same directions in both formats


def shifted(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same codes without subtracting b_dec first."""
    return weights | {"b_enc": weights["b_enc"] - weights["b_dec"] @ weights["W_enc"]}


def test_an_sae_that_names_no_hook_is_refused(tmp_path):
    tiny_hub.saelens(tmp_path / "sae", tiny_hub.drawn(), "x")
    config = json.loads((tmp_path / "sae" / "cfg.json").read_text())
    del config["hook_point"]
    (tmp_path / "sae" / "cfg.json").write_text(json.dumps(config))
    with pytest.raises(ProfileError, match=r"names no hook; add `hook: blocks\.L\.\.\.`"):
        read(tmp_path, kind="saelens", source=str(tmp_path / "sae"))


def test_released_saes_have_no_checkpoints(profile, cached):
    sae = "{kind: saelens, model: m, source: ./x}"
    with pytest.raises(ProfileError, match=r"dictionaries\.b\.of: only SAEs trained here keep checkpoints"):
        profile(PYTHIA, sae, "{kind: checkpoint, of: a, number: 0}")


def test_every_kind_is_documented():
    for name, kind in releases.KINDS.items():
        assert get_args(kind.model_fields["kind"].annotation) == (name,) and kind.__doc__


def test_an_sae_is_trained_on_a_pretrained_model(cached, profile):
    fields = "kind: trained, model: m, hook: blocks.1.hook_resid_post, width: 20, k: 3, samples: 640, batch: 64"
    run = profile(GPT2, f"{{{fields}, seed: 0, learning_rate: 0.01}}", f"{{{fields}, seed: 1, learning_rate: 0.01}}")
    features = pipeline.features(run, "a")
    assert features.codes.shape == (features.sites.meta["tokens"], 20) and features.decoder.shape == (20, D)
    assert np.isfinite(pipeline.losses(run, "m", 8).meta["bigram"])
