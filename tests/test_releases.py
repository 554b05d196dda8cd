"""A released SAE has the codes of its format's own implementation, and reads where it was trained."""

import contextlib
import json
import re
import shutil
import warnings
from types import SimpleNamespace
from typing import get_args

import numpy as np
import pytest
import tiny_hub
import torch
import two
from sae_lens import SAE
from sae_lens.loading import pretrained_sae_loaders
from sae_lens.loading.pretrained_saes_directory import get_norm_scaling_factor, get_repo_id_and_folder_name
from safetensors.torch import load_file, save_file
from sparsify import SparseCoder
from transformers import AutoModelForCausalLM, AutoTokenizer

from sae_utils import pipeline, profiles
from sae_utils.engine.core.spec import ProfileError, build
from sae_utils.engine.lms import models, pretrained
from sae_utils.engine.saes import dictionaries, quality, releases
from sae_utils.engine.text import stories

D, WIDTH = tiny_hub.D, tiny_hub.WIDTH
PYTHIA, GPT2, NEO, GEMMA, LLAMA = (list(tiny_hub.FAMILIES)[i] for i in (0, 2, 3, 5, 6))
X = 3 * torch.randn(200, D, generator=torch.Generator().manual_seed(5))


def read(tmp_path, **fields):
    """The SAE of a record, as everything downstream reads it, and what is known of it."""
    record = build(releases.KINDS[fields["kind"]], {"model": "m"} | fields, "dictionaries.x")
    made = releases.convert(record, releases.locate(record), getattr(record, "hook", "blocks.1.hook_mlp_out"))
    return dictionaries.load(made), made.meta


def codes(sae, x: torch.Tensor = X) -> torch.Tensor:
    with torch.no_grad():
        return sae.encode(x)


def dense(found, n: int = WIDTH) -> torch.Tensor:
    """sparsify's codes as a matrix."""
    return torch.zeros(len(found.top_acts), n).scatter(1, found.top_indices, found.top_acts)


# --- codes are those of the reference


@pytest.mark.parametrize("k", [1, 5, WIDTH])
def test_sparsify_encodes_as_sparsify(tmp_path, k):
    weights = tiny_hub.drawn()
    weights["b_enc"] -= 2  # fewer than k are positive
    tiny_hub.sparsify(tmp_path / "sae" / "layers.1.mlp", weights, k)
    sae, meta = read(tmp_path, kind="sparsify", source=str(tmp_path / "sae"), hookpoint="layers.1.mlp")
    reference = SparseCoder.load_from_disk(tmp_path / "sae" / "layers.1.mlp")
    with torch.no_grad():
        found = reference.encode(X)
        rebuilt = reference.decode(found.top_acts, found.top_indices)
        torch.testing.assert_close(sae.decode(codes(sae)), rebuilt)
    torch.testing.assert_close(codes(sae), dense(found))
    assert ((codes(sae) > 0).sum(1) <= k).all() and (meta["d_in"], meta["width"]) == (D, WIDTH)
    before, _ = read(
        tmp_path, kind="sparsify", source=str(tmp_path / "sae"), hookpoint="layers.1.mlp", codes="pre_acts"
    )
    torch.testing.assert_close(codes(before), found.pre_acts)


def test_sparsify_without_num_latents(tmp_path):
    """As the Llama checkpoints are."""
    weights = tiny_hub.drawn(n=2 * D)
    tiny_hub.sparsify(tmp_path / "sae" / "layers.1", weights, 4, num_latents=0, expansion_factor=2)
    place = tmp_path / "sae" / "layers.1" / "cfg.json"
    config = json.loads(place.read_text())
    del config["num_latents"]
    place.write_text(json.dumps(config))
    sae, _ = read(tmp_path, kind="sparsify", source=str(tmp_path / "sae"), hookpoint="layers.1")
    torch.testing.assert_close(
        codes(sae), dense(SparseCoder.load_from_disk(tmp_path / "sae" / "layers.1").encode(X), 2 * D)
    )


def test_gemma_scope_encodes_as_published(tmp_path, tiny):
    """Their notebook: mask = pre_acts > threshold; acts = mask * relu(pre_acts)."""
    weights = tiny_hub.drawn()
    tiny_hub.gemma_scope(tmp_path / "sae" / "layer_1" / "width_16k" / "average_l0_5", weights, threshold=1.5)
    fields = {"kind": "gemma_scope", "source": str(tmp_path / "sae"), "path": "layer_1/width_16k/average_l0_5"}
    sae, _ = read(tmp_path, **fields, hook="blocks.1.hook_mlp_out")
    before = X @ weights["W_enc"] + weights["b_enc"]
    acts = (before > 1.5) * torch.relu(before)
    torch.testing.assert_close(codes(sae), acts)
    with torch.no_grad():
        torch.testing.assert_close(sae.decode(acts), acts @ weights["W_dec"] + weights["b_dec"])
    relu, _ = read(tmp_path, **fields, hook="blocks.1.hook_mlp_out", codes="pre_acts")
    torch.testing.assert_close(codes(relu), torch.relu(before))


def test_llama_scope_encodes_as_saelens(tmp_path, cached):
    release, name = "llama_scope_lxr_8x", "l16r_8x"
    repository, folder = get_repo_id_and_folder_name(release, name)
    scale = get_norm_scaling_factor(release, name)
    in_cache(
        cached, repository, folder,
        lambda place: tiny_hub.llama_scope(place, tiny_hub.drawn(), "blocks.16.hook_resid_post", scale),
    )  # fmt: skip
    sae, meta = read(tmp_path, kind="saelens", source=release, id=name)
    assert meta["hook"] == "blocks.16.hook_resid_post" and {w.dtype for w in sae.parameters()} == {torch.float32}
    reference = SAE.from_pretrained(release, name)  # in bfloat16, which is not ours to round to
    expected = X @ reference.W_enc.float() + reference.b_enc.float()
    torch.testing.assert_close(codes(sae), torch.relu(expected))
    torch.testing.assert_close(sae.W_dec.data, reference.W_dec.data.float())


def in_cache(home, repository: str, folder: str, write) -> None:
    """A repository of SAEs in the cache of the hub."""
    sha = "ab" * 20
    store = home / f"models--{repository.replace('/', '--')}"
    if not (store / "snapshots" / sha / folder).exists():
        write(store / "snapshots" / sha / folder)
    (store / "refs").mkdir(exist_ok=True)
    (store / "refs" / "main").write_text(sha)


OAI = {"architecture": "topk", "activation_fn_str": "topk", "activation_fn_kwargs": {"k": 4},
       "normalize_activations": "layer_norm"}  # fmt: skip
pytestmark = pytest.mark.filterwarnings("ignore:(?s).*non-empty model_from_pretrained_kwargs")
RELEASES = {
    "gpt2-small-mlp-out-v5-32k": ("jbloom/GPT2-Small-OAI-v5-32k-mlp-out-SAEs", "v5_32k_layer_1", OAI),
    "gpt2-small-res-jb": ("jbloom/GPT2-Small-SAEs-Reformatted", "blocks.1.hook_resid_pre", {}),
    "gpt2-small-mlp-tm": (
        "tommmcgrath/gpt2-small-mlp-out-saes", "sae_group_gpt2_blocks.1.hook_mlp_out_24576:v0",
        {"normalize_activations": "expected_average_only_in"},
    ),
    "pythia-70m-deduped-mlp-sm": ("ctigges/pythia-70m-deduped__mlp-sm_processed", "1-mlp-sm", {}),
}  # fmt: skip


def sae_id(release: str) -> str:
    return f"blocks.1.hook_{'resid_pre' if 'res' in release else 'mlp_out'}"


@pytest.fixture
def released_in_cache(cached):
    for release, (repository, _, changes) in RELEASES.items():
        looked_up = pretrained_sae_loaders.get_repo_id_and_folder_name(release, sae_id(release))
        assert looked_up[0] == repository
        in_cache(
            cached, repository, looked_up[1],
            lambda place, changes=changes, release=release: tiny_hub.saelens(
                place, tiny_hub.drawn(), sae_id(release), **changes
            ),
        )  # fmt: skip
    return cached


@pytest.mark.parametrize("release", RELEASES)
def test_a_saelens_release_encodes_as_saelens(tmp_path, released_in_cache, release, monkeypatch):
    sae, meta = read(tmp_path, kind="saelens", source=release, id=sae_id(release))
    assert meta["hook"] == sae_id(release) and meta["commit"] == "ab" * 20
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reference = SAE.from_pretrained(release, sae_id(release))
    given = X - X.mean(-1, keepdim=True) if dictionaries.is_centred(sae) else X
    assert dictionaries.is_centred(sae) == (release in ("gpt2-small-res-jb", "gpt2-small-mlp-tm"))
    torch.testing.assert_close(codes(sae), codes(reference, given))
    before, _ = read(tmp_path, kind="saelens", source=release, id=sae_id(release), codes="pre_acts")
    kept = codes(sae) > 0
    torch.testing.assert_close(codes(before)[kept], codes(sae)[kept])
    assert (codes(before) > 0).sum() > kept.sum() or "topk" not in str(RELEASES[release])


def test_a_pretrained_release_folds_its_scale(tmp_path, released_in_cache):
    sae, _ = read(tmp_path, kind="saelens", source="gpt2-small-mlp-tm", id="blocks.1.hook_mlp_out")
    factor = (
        torch.from_numpy(np.array(1.0)).float()
        * pretrained_sae_loaders.get_pretrained_saes_directory()["gpt2-small-mlp-tm"].norm_scaling_factor[
            "blocks.1.hook_mlp_out"
        ]
    )
    weights, given = tiny_hub.drawn(), X - X.mean(-1, keepdim=True)
    expected = torch.relu((given * factor - weights["b_dec"]) @ weights["W_enc"] + weights["b_enc"])
    torch.testing.assert_close(codes(sae), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("hook", ["", "blocks.2.hook_resid_post"])
def test_a_saelens_folder(tmp_path, hook):
    tiny_hub.saelens(tmp_path / "sae", tiny_hub.drawn(), "blocks.1.hook_mlp_out")
    sae, meta = read(tmp_path, kind="saelens", source=str(tmp_path / "sae"), hook=hook)
    torch.testing.assert_close(codes(sae), codes(SAE.load_from_disk(tmp_path / "sae")))
    assert meta["hook"] == (hook or "blocks.1.hook_mlp_out")


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(("architecture", "subtract"), [("relu", True), ("topk", False), ("jumprelu", False)])
def test_a_file_of_any_layout(tmp_path, transposed, architecture, subtract):
    weights = tiny_hub.drawn()
    turned = {"e.w": weights["W_enc"].T if transposed else weights["W_enc"],
              "d.w": weights["W_dec"].T if transposed else weights["W_dec"],
              "e.b": weights["b_enc"], "d.b": weights["b_dec"], "t": torch.full((1,), 0.7)}  # fmt: skip
    save_file({name: value.contiguous() for name, value in turned.items()}, tmp_path / "own.safetensors")
    keys = {"W_enc": "e.w", "W_dec": "d.w", "b_enc": "e.b", "b_dec": "d.b"}
    keys |= {"threshold": "t"} if architecture == "jumprelu" else {}
    sae, _ = read(
        tmp_path, kind="mapped", path=str(tmp_path / "own.safetensors"), hook="blocks.1.hook_mlp_out", keys=keys,
        architecture=architecture, k=3 if architecture == "topk" else 0, subtract_b_dec=subtract,
    )  # fmt: skip
    before = (X - subtract * weights["b_dec"]) @ weights["W_enc"] + weights["b_enc"]
    expected = torch.relu(before)
    if architecture == "topk":
        expected[before < before.topk(3).values[:, -1:]] = 0
    if architecture == "jumprelu":
        expected[before <= 0.7] = 0
    torch.testing.assert_close(codes(sae), expected)


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
    assert releases.hook(releases.Sparsify(kind="sparsify", model="m", source="x", hookpoint=hookpoint), made) == hook
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
    """What a module of the base model gives, by transformers and a plain hook."""
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
        releases.hook(releases.Sparsify(kind="sparsify", model="m", source="x", hookpoint=hookpoint), linked(name))


# --- centring


@pytest.mark.parametrize("hook", ["blocks.1.hook_resid_pre", "blocks.2.hook_mlp_out"])
def test_centring_is_that_of_the_library(tmp_path, cached, tiny, hook):
    """An SAE trained on a model with centred writing weights has, given raw activations, the codes it has there."""
    from transformer_lens.model_bridge import TransformerBridge

    changes = {"model_from_pretrained_kwargs": {"center_writing_weights": True}}
    tiny_hub.saelens(tmp_path / "sae", tiny_hub.drawn(), hook, **changes)
    sae, _ = read(tmp_path, kind="saelens", source=str(tmp_path / "sae"))
    assert dictionaries.is_centred(sae)
    place, ids = tiny_hub.folder(tiny, GPT2), torch.arange(2, 40)[None]
    bridges = [TransformerBridge.boot_transformers(str(place), device="cpu", trust_remote_code=False) for _ in range(2)]
    bridges[1].enable_compatibility_mode(fold_ln=False, center_unembed=False, fold_value_biases=False)
    with torch.no_grad():
        raw, centred = (bridge.run_with_cache(ids, names_filter=[hook])[1][hook] for bridge in bridges)
        assert raw.mean(-1).abs().max() > 0.1 > 1e-4 > centred.mean(-1).abs().max()
        plain = SAE.load_from_disk(tmp_path / "sae")
        torch.testing.assert_close(sae.encode(raw), plain.encode(centred), atol=1e-3, rtol=1e-3)
        # and puts the mean back, so that the model goes on as it was
        rebuilt = sae.decode(sae.encode(raw)) - raw.mean(-1, keepdim=True)
        torch.testing.assert_close(rebuilt, plain.decode(plain.encode(centred)), atol=1e-3, rtol=1e-3)


def test_nothing_else_is_centred(tmp_path):
    changes = {"model_from_pretrained_kwargs": {"center_writing_weights": True}}
    tiny_hub.saelens(tmp_path / "post", tiny_hub.drawn(), "blocks.1.mlp.hook_post", **changes)
    tiny_hub.saelens(tmp_path / "plain", tiny_hub.drawn(), "blocks.1.hook_resid_pre")
    for name in ("post", "plain"):
        sae, _ = read(tmp_path, kind="saelens", source=str(tmp_path / name))
        torch.testing.assert_close(codes(sae), codes(SAE.load_from_disk(tmp_path / name)))


# --- from a profile: the hook is verified


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

    def write(source: str, a: str, b: str | None = None) -> profiles.Profile:
        folder = tmp_path / "params"
        shutil.copytree(profiles.PARAMS, folder, dirs_exist_ok=True)
        (folder / "own.yaml").write_text(PROFILE.format(source=source, a=a, b=b or a) + two.sections("a", "n"), "utf-8")
        with monkeypatch.context() as patch:
            patch.setattr(profiles, "PARAMS", folder)
            return profiles.load("own")

    return write


def seen(tiny, name: str, hookpoint: str) -> np.ndarray:
    """Activations of stories at a module's output, (tokens, d), by transformers."""
    place = tiny_hub.folder(tiny, name)
    words = AutoTokenizer.from_pretrained(place, trust_remote_code=False)
    texts = [document.text for document in stories.stories(seed=8, documents=30)]
    rows = [ids[:24] for ids in words(texts, add_special_tokens=False, truncation=False)["input_ids"]]
    return outputs(place, hookpoint, torch.tensor(rows))[:, 1:].flatten(0, 1).numpy()


@pytest.mark.parametrize(
    ("name", "hookpoint"),
    [(PYTHIA, "layers.1"), (PYTHIA, "layers.1.mlp"), (GPT2, "h.2.mlp"), (NEO, "h.0"), (GEMMA, "layers.1.mlp"),
     (LLAMA, "layers.2.mlp")],
)  # fmt: skip
def test_an_sae_is_confirmed_where_it_was_made(tiny, cached, profile, tmp_path, name, hookpoint):
    tiny_hub.sparsify(tmp_path / "sae" / hookpoint, tiny_hub.planted(seen(tiny, name, hookpoint)), D // 2)
    run = profile(name, f"{{kind: sparsify, model: m, source: {tmp_path / 'sae'}, hookpoint: {hookpoint}}}")
    reader = pipeline.reader(run, "a")
    assert (reader.width, reader.hook) == (D, reader.dictionary.meta["hook"])
    found = reader.locate(pipeline.CONFIRMED_ON).meta
    assert found["best"] == reader.hook and len(found["fvu"]) >= 6
    features = pipeline.features(run, "a")
    assert features.codes.shape == (features.sites.meta["tokens"], D) and features.decoder.shape == (D, D)
    assert features.codes.nnz > features.codes.shape[0]


def test_a_neighbour_that_is_hardly_better_is_none(tmp_path):
    for fvu, refused in ((0.27, False), (0.22, True)):
        found = SimpleNamespace(meta={"fvu": {"here": 0.3, "there": fvu}, "best": "there"})
        with pytest.raises(ProfileError, match="fits there") if refused else contextlib.nullcontext():
            quality.confirm(found, "here")


@pytest.mark.parametrize(("trained_at", "said", "fits"), [
    ("layers.0", "layers.1", "blocks.0.hook_resid_post"),  # hidden_states[1] taken for the output of block 1
    ("layers.1", "layers.0", "blocks.1.hook_resid_post"),
    ("layers.1.mlp", "layers.1", "blocks.1.hook_mlp_out"),
    ("layers.2.mlp", "layers.1.mlp", "blocks.2.hook_mlp_out"),
])  # fmt: skip
def test_an_sae_of_a_neighbour_is_refused(tiny, cached, profile, tmp_path, trained_at, said, fits):
    tiny_hub.sparsify(tmp_path / "sae" / said, tiny_hub.planted(seen(tiny, PYTHIA, trained_at)), D // 2)
    run = profile(PYTHIA, f"{{kind: sparsify, model: m, source: {tmp_path / 'sae'}, hookpoint: {said}}}")
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
    np.testing.assert_array_equal(best.index[:, 0], np.arange(D))  # the same directions, whatever the format


def shifted(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same codes without subtracting b_dec first."""
    return weights | {"b_enc": weights["b_enc"] - weights["b_dec"] @ weights["W_enc"]}


# --- what is refused


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"signed": True}, "signed is true: the checkpoint keeps negative codes"),
        ({"skip_connection": True}, "skip_connection is true"),
        ({"transcode": True}, "transcode is true: the checkpoint writes elsewhere than it reads"),
        ({"activation": "groupmax"}, "activation 'groupmax'; only topk"),
        ({"num_latents": 99}, r"expected encoder\.weight \(99, 16\), .*; found W_dec \(24, 16\)"),
    ],
)
def test_a_sparsify_checkpoint_of_another_kind_is_refused(tmp_path, changes, message):
    tiny_hub.sparsify(tmp_path / "sae" / "layers.1", tiny_hub.drawn(), 4, **changes)
    with pytest.raises(ProfileError, match=rf"layers\.1/(cfg\.json|sae\.safetensors): {message}"):
        read(tmp_path, kind="sparsify", source=str(tmp_path / "sae"), hookpoint="layers.1")


def test_other_keys_are_named(tmp_path):
    tiny_hub.sparsify(tmp_path / "sae" / "layers.1", tiny_hub.drawn(), 4)
    file = tmp_path / "sae" / "layers.1" / "sae.safetensors"
    weights = load_file(file)
    save_file({"W_skip": weights.pop("b_dec"), **weights}, file)
    with pytest.raises(ProfileError, match=r"expected .* b_dec \(16\); found W_dec \(24, 16\), W_skip \(16,?\)"):
        read(tmp_path, kind="sparsify", source=str(tmp_path / "sae"), hookpoint="layers.1")


def test_gemma_scope_of_other_shapes_is_refused(tmp_path):
    tiny_hub.gemma_scope(tmp_path / "sae" / "x", tiny_hub.drawn() | {"W_dec": torch.ones(3, D)}, threshold=1.0)
    with pytest.raises(ProfileError, match=r"params\.npz: expected .*W_dec \(24, 16\).*; found .*W_dec \(3, 16\)"):
        read(tmp_path, kind="gemma_scope", source=str(tmp_path / "sae"), path="x", hook="blocks.1.hook_mlp_out")


def test_gemma_scope_of_whole_numbers_is_refused(tmp_path):
    tiny_hub.gemma_scope(tmp_path / "sae" / "x", tiny_hub.drawn(), threshold=1.0)
    file = tmp_path / "sae" / "x" / "params.npz"
    with np.load(file) as archive:
        changed = dict(archive) | {"W_enc": archive["W_enc"].astype(np.int8)}
    np.savez(file, **changed)
    with pytest.raises(ProfileError, match=r"params\.npz: W_enc \(int8\): weights of floating point"):
        read(tmp_path, kind="gemma_scope", source=str(tmp_path / "sae"), path="x", hook="blocks.1.hook_mlp_out")


def test_saelens_weights_of_other_shapes_are_refused(tmp_path):
    tiny_hub.saelens(tmp_path / "sae", tiny_hub.drawn(), "blocks.1.hook_mlp_out", d_sae=30)
    with pytest.raises(ProfileError, match=r"weights and configuration do not fit .*24.*30"):
        read(tmp_path, kind="saelens", source=str(tmp_path / "sae"))


def test_an_sae_that_names_no_hook_is_refused(tmp_path):
    tiny_hub.saelens(tmp_path / "sae", tiny_hub.drawn(), "x")
    config = json.loads((tmp_path / "sae" / "cfg.json").read_text())
    del config["hook_point"]
    (tmp_path / "sae" / "cfg.json").write_text(json.dumps(config))
    with pytest.raises(ProfileError, match=r"names no hook; add `hook: blocks\.L\.\.\.`"):
        read(tmp_path, kind="saelens", source=str(tmp_path / "sae"))


@pytest.mark.parametrize(
    ("keys", "changes", "message"),
    [
        ({"W_enc": "W_enc"}, {}, r"`keys` or the file lacks W_dec; in the file: W_dec \(24, 16\)"),
        ({"W_enc": "e", "W_dec": "W_dec"}, {}, r"lacks e; in the file"),
        ({"W_enc": "W_enc", "W_dec": "W_dec"}, {}, "name at least one bias"),
        ({"W_enc": "W_enc", "W_dec": "b_dec", "b_dec": "b_dec"}, {}, r"found W_dec \(16\), W_enc \(16, 24\)"),
        ({"W_enc": "W_enc", "W_dec": "W_dec", "b_dec": "b_dec"}, {"architecture": "topk"}, "a topk SAE needs `k`"),
        ({"W_enc": "W_enc", "W_dec": "W_dec", "b_dec": "b_dec"}, {"architecture": "jumprelu"}, "lacks threshold"),
    ],
)
def test_a_map_that_does_not_fit_is_refused(tmp_path, keys, changes, message):
    save_file(tiny_hub.drawn(), tmp_path / "own.safetensors")
    fields = {"architecture": "relu", "subtract_b_dec": True} | changes
    with pytest.raises(ProfileError, match=message):
        read(tmp_path, kind="mapped", path=str(tmp_path / "own.safetensors"), hook="x", keys=keys, **fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"source": "gpt2-small-res-jp", "id": "x"},
            r"no release 'gpt2-small-res-jp'; did you mean `gpt2-small-res-jb`",
        ),
        (
            {"source": "gpt2-small-res-jb", "id": "blocks.12.hook_resid_pre"},
            r"no SAE 'blocks\.12\.hook_resid_pre'; did",
        ),
        ({"source": "gpt2-small-hook-z-kk", "id": "blocks.0.hook_z"}, r"format 'connor_rob_hook_z', which is pickled"),
    ],
)
def test_a_release_that_is_not_there_or_pickled_is_refused(tmp_path, fields, message):
    with pytest.raises(ProfileError, match=message):
        read(tmp_path, kind="saelens", **fields)


def test_no_layout_that_is_read_unpickles():
    """Whatever SAELens' loaders become."""
    import inspect

    loaders = pretrained_sae_loaders.NAMED_PRETRAINED_SAE_LOADERS
    pickled = {name for name, loader in loaders.items() if "torch.load(" in inspect.getsource(loader)}
    assert pickled and not pickled & set(releases.LAYOUTS) and set(releases.LAYOUTS) <= set(loaders)


def test_checkpoints_are_those_of_what_is_trained_here(profile, cached):
    sae = "{kind: saelens, model: m, source: ./x}"
    with pytest.raises(ProfileError, match=r"dictionaries\.b\.of: only what is trained here keeps checkpoints"):
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
