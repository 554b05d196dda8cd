"""An SAE of SAELens has the codes of SAELens; a scale or an architecture that would change them is refused."""

import inspect
import json
import re
import warnings

import numpy as np
import pytest
import tiny_hub
import torch
from sae_lens import SAE, LoggingConfig, SAETrainer
from sae_lens.config import SAETrainerConfig
from sae_lens.loading import pretrained_sae_loaders
from sae_lens.loading.pretrained_saes_directory import get_norm_scaling_factor, get_repo_id_and_folder_name
from sae_lens.registry import get_sae_class, get_sae_training_class
from sae_lens.training.activation_scaler import ActivationScaler
from safetensors.torch import load_file, save_file

from sae_utils.engine.core.spec import ProfileError, build
from sae_utils.engine.inputs import hub
from sae_utils.engine.saes import dictionaries, releases, saelens
from sae_utils.studies.published_tables import views

D, WIDTH = tiny_hub.D, tiny_hub.WIDTH
GPT2 = "openai-community/gpt2"
X = 3 + 5 * torch.randn(200, D, generator=torch.Generator().manual_seed(5))
Y = 3 * torch.randn(200, D, generator=torch.Generator().manual_seed(5))
pytestmark = pytest.mark.filterwarnings("ignore:(?s).*non-empty model_from_pretrained_kwargs")


def converted(tmp_path, **fields):
    """The SAE of a record as it is read from the store, and its meta."""
    record = build(releases.Saelens, {"model": "m"} | fields, "dictionaries.x")
    made = releases.convert(record, hub.find(*record.wanted()), record.hook)
    return dictionaries.load(made), made.meta


def read(tmp_path, **fields):
    """The SAE of a record that names its hook."""
    return converted(tmp_path, hook="blocks.1.hook_mlp_out", **fields)[0]


def codes(sae, x: torch.Tensor = Y) -> torch.Tensor:
    with torch.no_grad():
        return sae.encode(x)


def both(sae, x: torch.Tensor = X) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes and reconstruction."""
    with torch.no_grad():
        codes = sae.encode(x)
        return codes, sae.decode(codes)


# --- a checkpoint of training


def checkpoint(tmp_path, architecture: str, kind: str):
    """Checkpoints that SAELens' trainer writes in the middle and at the end of training on scaled activations."""
    of, config = get_sae_training_class(architecture)
    options = {"k": 4} if "topk" in architecture else {}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        sae = of(config(d_in=D, d_sae=WIDTH, normalize_activations=kind, **options))
        sae.cfg.metadata.hook_name = "blocks.1.hook_mlp_out"
        batches = (3 + 5 * torch.randn(64, D) for _ in iter(int, 1))
        trainer = SAETrainer(
            SAETrainerConfig(
                total_training_samples=64 * 20, train_batch_size_samples=64, lr=1e-2, lr_end=1e-3, device="cpu",
                n_checkpoints=1, checkpoint_path=str(tmp_path / "run"), save_final_checkpoint=True,
                n_batches_for_norm_estimate=20, logger=LoggingConfig(log_to_wandb=False),
            ),
            sae, batches,
        )  # fmt: skip
        trainer.fit()
    middle, final = sorted((tmp_path / "run").glob("*"), key=lambda place: place.name.startswith("final"))
    return middle, final


@pytest.mark.parametrize("kind", ["expected_average_only_in", "covariance_whitening"])
@pytest.mark.parametrize("architecture", ["standard", "topk", "gated", "jumprelu"])
def test_a_checkpoint_of_training_reads_scaled_activations(tmp_path, architecture, kind):
    middle, final = checkpoint(tmp_path, architecture, kind)
    scaler = ActivationScaler()
    scaler.load(middle / "activation_scaler.json")
    trained = SAE.load_from_disk(middle)
    codes, rebuilt = both(trained, scaler.scale(X))
    found, found_rebuilt = both(read(tmp_path, kind="saelens", source=str(middle)))
    torch.testing.assert_close(found, codes, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(found_rebuilt, scaler.unscale(rebuilt), atol=1e-2, rtol=1e-3)
    assert (found > 0).any() and not torch.allclose(found, both(trained)[0], atol=0.1)
    # after training nothing is left to scale
    torch.testing.assert_close(
        both(read(tmp_path, kind="saelens", source=str(final)))[0], both(SAE.load_from_disk(final))[0]
    )
    (middle / "activation_scaler.json").unlink()
    (middle / "activation_whitening.safetensors").unlink(missing_ok=True)
    needed = "activation_scaler.json" if kind == "expected_average_only_in" else "activation_whitening.safetensors"
    with pytest.raises(
        ProfileError, match=rf"cfg\.json: normalize_activations is '{kind}', .*: put {re.escape(needed)}"
    ):
        read(tmp_path, kind="saelens", source=str(middle))


@pytest.mark.parametrize("factor", [0, -1.0, float("nan"), "1", True])
def test_a_scale_that_is_not_positive_is_refused(tmp_path, factor):
    tiny_hub.saelens(
        tmp_path / "sae", tiny_hub.drawn(), "blocks.1.hook_mlp_out", normalize_activations="expected_average_only_in"
    )
    (tmp_path / "sae" / "activation_scaler.json").write_text(json.dumps({"scaling_factor": factor}))
    with pytest.raises(ProfileError, match=r"activation_scaler\.json: scaling_factor must be a positive number"):
        read(tmp_path, kind="saelens", source=str(tmp_path / "sae"))


def test_a_scale_that_the_configuration_denies_is_refused(tmp_path):
    tiny_hub.saelens(tmp_path / "sae", tiny_hub.drawn(), "blocks.1.hook_mlp_out")
    (tmp_path / "sae" / "activation_scaler.json").write_text('{"scaling_factor": 0.5}')
    with pytest.raises(
        ProfileError, match=r"cfg\.json says normalize_activations 'none': one is of another checkpoint"
    ):
        read(tmp_path, kind="saelens", source=str(tmp_path / "sae"))


def test_a_training_state_without_inference_class_is_refused(tmp_path):
    middle, _ = checkpoint(tmp_path, "batchtopk", "none")
    with pytest.raises(ProfileError, match="architecture 'batchtopk' is not read: it is a state of training; save it"):
        read(tmp_path, kind="saelens", source=str(middle))


# --- normalisation and architectures


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("kind", ["none", "layer_norm", "constant_norm_rescale"])
def test_normalisation_is_that_of_the_library(tmp_path, kind, centred):
    """Also for a centred SAE: centring comes before the normalisation."""
    kwargs = {"model_from_pretrained_kwargs": {"center_writing_weights": True}} if centred else {}
    tiny_hub.saelens(tmp_path / "sae", tiny_hub.drawn(), "blocks.1.hook_mlp_out", normalize_activations=kind, **kwargs)
    mean = X.mean(-1, keepdim=True) if centred else torch.zeros(())
    codes, rebuilt = both(SAE.load_from_disk(tmp_path / "sae"), X - mean)
    found, found_rebuilt = both(read(tmp_path, kind="saelens", source=str(tmp_path / "sae")))
    torch.testing.assert_close(found, codes, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found_rebuilt, rebuilt + mean, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("options", [
    {"architecture": "topk", "k": 4, "rescale_acts_by_decoder_norm": True},
    {"architecture": "topk", "k": 4, "rescale_acts_by_decoder_norm": False},
    {"architecture": "standard", "apply_b_dec_to_input": False}, {"architecture": "standard", "dtype": "bfloat16"},
    {"architecture": "gated"}, {"architecture": "jumprelu"},
])  # fmt: skip
def test_an_architecture_is_that_of_the_library(tmp_path, options):
    of, config = get_sae_class(options["architecture"])
    made = of(config(d_in=D, d_sae=WIDTH, **{key: value for key, value in options.items() if key != "architecture"}))
    for number, weight in enumerate(made.parameters()):
        weight.data = torch.randn(weight.shape, generator=torch.Generator().manual_seed(number)).to(weight.dtype)
    made.save_model(tmp_path / "sae")
    expected = both(SAE.load_from_disk(tmp_path / "sae", dtype="float32"))
    found = both(read(tmp_path, kind="saelens", source=str(tmp_path / "sae")))
    torch.testing.assert_close(found, expected)
    assert (found[0] >= 0).all() and (found[0] > 0).any()


# --- refusals


def test_gated_has_no_codes_before_selection(tmp_path):
    of, config = get_sae_class("gated")
    of(config(d_in=D, d_sae=WIDTH)).save_model(tmp_path / "sae")
    with pytest.raises(ProfileError, match=r"`codes: pre_acts`: a gated SAE has none"):
        read(tmp_path, kind="saelens", source=str(tmp_path / "sae"), codes="pre_acts")
    with pytest.raises(ProfileError, match="a gated SAE has no codes before its nonlinearity"):
        views.rectified(read(tmp_path, kind="saelens", source=str(tmp_path / "sae")), X)


@pytest.mark.parametrize(("changes", "message"), [
    ({"architecture": "abstopk", "k": 3}, r"cfg\.json: architecture 'abstopk' is not read: its codes are signed"),
    ({"architecture": "temporal"}, "architecture 'temporal' is not read: its codes depend on the tokens before"),
    ({"architecture": "matching_pursuit"}, "architecture 'matching_pursuit' is not read"),
    ({"architecture": "matryoshka_batchtopk"}, "is not read: it is a state of training"),
    ({"architecture": "of_tomorrow"}, "'of_tomorrow' is not read: nothing is known of its codes"),
    ({"architecture": "transcoder", "d_out": D}, "a transcoder writes elsewhere than it reads"),
    ({"architecture": "jumprelu_skip_transcoder"}, "a transcoder writes elsewhere than it reads"),
    ({"hook_name_out": "blocks.1.hook_mlp_out"}, "a transcoder writes elsewhere than it reads"),
    ({"activation_fn_str": "tanh-relu"}, "activation function 'tanh-relu' is not read"),
    ({"activation_fn_str": "topk", "activation_fn_kwargs": {"k": WIDTH + 1}}, rf"k must be from 1 to .* of {WIDTH}"),
    ({"activation_fn_str": "topk", "activation_fn_kwargs": {"k": 0}}, r"k must be from 1"),
    ({"d_sae": None}, r"cfg\.json: weights and configuration do not fit"),
])  # fmt: skip
def test_a_saelens_folder_of_another_kind_is_refused(tmp_path, changes, message):
    tiny_hub.saelens(tmp_path / "sae", tiny_hub.drawn(), "blocks.1.hook_mlp_out", **changes)
    with pytest.raises(ProfileError, match=message):
        read(tmp_path, kind="saelens", source=str(tmp_path / "sae"))


@pytest.mark.parametrize(("change", "message"), [
    (lambda w: w.update(b_dec=w["b_dec"][None]), r"do not fit .*b_dec.*\[1, 16\]"),
    (lambda w: w.update(W_dec=w["W_dec"].T.contiguous()), r"do not fit .*W_dec"),
    (lambda w: w.pop("b_enc"), r"do not fit .*b_enc"),
    (lambda w: w.update(W_skip=torch.ones(2)), r"do not fit .*W_skip"),
    (lambda w: w["W_enc"].fill_(float("nan")), r"sae_weights\.safetensors: W_enc holds 384 of 384 values that are NaN"),
    (lambda w: w["b_dec"][:1].fill_(float("inf")), r"b_dec holds 1 of 16 values that are NaN or infinite"),
    (lambda w: w.update(scaling_factor=torch.full((24,), 2.0)), r"`scaling_factor` rescales every feature"),
    (lambda w: w.update(finetuning_scaling_factor=torch.full((24,), 2.0)), r"`finetuning_scaling_factor` rescales"),
    (lambda w: w.clear(), r"sae_weights\.safetensors: it holds no tensor"),
])  # fmt: skip
def test_saelens_weights_that_are_not_those_of_the_format_are_refused(tmp_path, change, message):
    tiny_hub.saelens(tmp_path / "sae", tiny_hub.drawn(), "blocks.1.hook_mlp_out", finetuning_scaling_factor=True)
    file = tmp_path / "sae" / "sae_weights.safetensors"
    weights = load_file(file)
    change(weights)
    save_file(weights, file)
    with pytest.raises(ProfileError, match=message):
        read(tmp_path, kind="saelens", source=str(tmp_path / "sae"))


# --- releases


def test_llama_scope_encodes_as_saelens(tmp_path, cached):
    release, name = "llama_scope_lxr_8x", "l16r_8x"
    repository, folder = get_repo_id_and_folder_name(release, name)
    scale = get_norm_scaling_factor(release, name)
    in_cache(
        cached, repository, folder,
        lambda place: tiny_hub.llama_scope(place, tiny_hub.drawn(), "blocks.16.hook_resid_post", scale),
    )  # fmt: skip
    sae, meta = converted(tmp_path, kind="saelens", source=release, id=name)
    assert meta["hook"] == "blocks.16.hook_resid_post" and {w.dtype for w in sae.parameters()} == {torch.float32}
    reference = SAE.from_pretrained(release, name)  # in bfloat16, to which our codes are not rounded
    expected = Y @ reference.W_enc.float() + reference.b_enc.float()
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
    sae, meta = converted(tmp_path, kind="saelens", source=release, id=sae_id(release))
    assert meta["hook"] == sae_id(release) and meta["commit"] == "ab" * 20
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reference = SAE.from_pretrained(release, sae_id(release))
    given = Y - Y.mean(-1, keepdim=True) if dictionaries.is_centred(sae) else Y
    assert dictionaries.is_centred(sae) == (release in ("gpt2-small-res-jb", "gpt2-small-mlp-tm"))
    torch.testing.assert_close(codes(sae), codes(reference, given))
    before, _ = converted(tmp_path, kind="saelens", source=release, id=sae_id(release), codes="pre_acts")
    kept = codes(sae) > 0
    torch.testing.assert_close(codes(before)[kept], codes(sae)[kept])
    assert (codes(before) > 0).sum() > kept.sum() or "topk" not in str(RELEASES[release])


def test_a_pretrained_release_folds_its_scale(tmp_path, released_in_cache):
    sae, _ = converted(tmp_path, kind="saelens", source="gpt2-small-mlp-tm", id="blocks.1.hook_mlp_out")
    factor = (
        torch.from_numpy(np.array(1.0)).float()
        * pretrained_sae_loaders.get_pretrained_saes_directory()["gpt2-small-mlp-tm"].norm_scaling_factor[
            "blocks.1.hook_mlp_out"
        ]
    )
    weights, given = tiny_hub.drawn(), Y - Y.mean(-1, keepdim=True)
    expected = torch.relu((given * factor - weights["b_dec"]) @ weights["W_enc"] + weights["b_enc"])
    torch.testing.assert_close(codes(sae), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("hook", ["", "blocks.2.hook_resid_post"])
def test_a_saelens_folder(tmp_path, hook):
    tiny_hub.saelens(tmp_path / "sae", tiny_hub.drawn(), "blocks.1.hook_mlp_out")
    sae, meta = converted(tmp_path, kind="saelens", source=str(tmp_path / "sae"), hook=hook)
    torch.testing.assert_close(codes(sae), codes(SAE.load_from_disk(tmp_path / "sae")))
    assert meta["hook"] == (hook or "blocks.1.hook_mlp_out")


@pytest.mark.parametrize("hook", ["blocks.1.hook_resid_pre", "blocks.2.hook_mlp_out"])
def test_centring_is_that_of_the_library(tmp_path, cached, tiny, hook):
    """An SAE trained on centred activations has the same codes for raw ones."""
    from transformer_lens.model_bridge import TransformerBridge

    changes = {"model_from_pretrained_kwargs": {"center_writing_weights": True}}
    tiny_hub.saelens(tmp_path / "sae", tiny_hub.drawn(), hook, **changes)
    sae, _ = converted(tmp_path, kind="saelens", source=str(tmp_path / "sae"))
    assert dictionaries.is_centred(sae)
    place, ids = tiny_hub.folder(tiny, GPT2), torch.arange(2, 40)[None]
    bridges = [TransformerBridge.boot_transformers(str(place), device="cpu", trust_remote_code=False) for _ in range(2)]
    bridges[1].enable_compatibility_mode(fold_ln=False, center_unembed=False, fold_value_biases=False)
    with torch.no_grad():
        raw, centred = (bridge.run_with_cache(ids, names_filter=[hook])[1][hook] for bridge in bridges)
        assert raw.mean(-1).abs().max() > 0.1 > 1e-4 > centred.mean(-1).abs().max()
        plain = SAE.load_from_disk(tmp_path / "sae")
        torch.testing.assert_close(sae.encode(raw), plain.encode(centred), atol=1e-3, rtol=1e-3)
        # the reconstruction has the mean again, as the model needs it
        rebuilt = sae.decode(sae.encode(raw)) - raw.mean(-1, keepdim=True)
        torch.testing.assert_close(rebuilt, plain.decode(plain.encode(centred)), atol=1e-3, rtol=1e-3)


def test_nothing_else_is_centred(tmp_path):
    changes = {"model_from_pretrained_kwargs": {"center_writing_weights": True}}
    tiny_hub.saelens(tmp_path / "post", tiny_hub.drawn(), "blocks.1.mlp.hook_post", **changes)
    tiny_hub.saelens(tmp_path / "plain", tiny_hub.drawn(), "blocks.1.hook_resid_pre")
    for name in ("post", "plain"):
        sae, _ = converted(tmp_path, kind="saelens", source=str(tmp_path / name))
        torch.testing.assert_close(codes(sae), codes(SAE.load_from_disk(tmp_path / name)))


def test_saelens_weights_of_other_shapes_are_refused(tmp_path):
    tiny_hub.saelens(tmp_path / "sae", tiny_hub.drawn(), "blocks.1.hook_mlp_out", d_sae=30)
    with pytest.raises(ProfileError, match=r"weights and configuration do not fit .*24.*30"):
        converted(tmp_path, kind="saelens", source=str(tmp_path / "sae"))


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
def test_an_unknown_or_pickled_release_is_refused(tmp_path, fields, message):
    with pytest.raises(ProfileError, match=message):
        converted(tmp_path, kind="saelens", **fields)


def test_no_layout_that_is_read_unpickles():
    """A loader that unpickles in a later SAELens is found."""
    loaders = pretrained_sae_loaders.NAMED_PRETRAINED_SAE_LOADERS
    pickled = {name for name, loader in loaders.items() if "torch.load(" in inspect.getsource(loader)}
    assert pickled and not pickled & set(saelens.LAYOUTS) and set(saelens.LAYOUTS) <= set(loaders)
