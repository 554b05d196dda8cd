"""What lies beside an SAE's weights and changes its codes is applied as SAELens applies it, or refused by name."""

import json
import re

import numpy as np
import pytest
import tiny_hub
import torch
from sae_lens import SAE, LoggingConfig, SAETrainer
from sae_lens.config import SAETrainerConfig
from sae_lens.registry import get_sae_class, get_sae_training_class
from sae_lens.training.activation_scaler import ActivationScaler
from safetensors.torch import load_file, save_file

from sae_utils.engine.core.spec import ProfileError, build
from sae_utils.engine.inputs import headers
from sae_utils.engine.saes import dictionaries, releases, soundness
from sae_utils.studies.published_tables import views

D, WIDTH = tiny_hub.D, tiny_hub.WIDTH
X = 3 + 5 * torch.randn(200, D, generator=torch.Generator().manual_seed(5))
pytestmark = pytest.mark.filterwarnings("ignore:(?s).*non-empty model_from_pretrained_kwargs")


def read(tmp_path, **fields):
    """The SAE of a record, as everything downstream reads it."""
    given = {"model": "m", "hook": "blocks.1.hook_mlp_out"} | fields
    if fields["kind"] == "sparsify":
        del given["hook"]
    record = build(releases.KINDS[fields["kind"]], given, "dictionaries.x")
    return dictionaries.load(releases.convert(record, releases.locate(record), "blocks.1.hook_mlp_out"))


def both(sae, x: torch.Tensor = X) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes and what they rebuild."""
    with torch.no_grad():
        codes = sae.encode(x)
        return codes, sae.decode(codes)


# --- a checkpoint of training


def checkpoint(tmp_path, architecture: str, kind: str):
    """What SAELens' trainer writes in the middle of training on activations that are scaled."""
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
def test_a_scale_that_is_none_is_refused(tmp_path, factor):
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


def test_a_state_of_training_that_no_inference_knows_is_refused(tmp_path):
    middle, _ = checkpoint(tmp_path, "batchtopk", "none")
    with pytest.raises(ProfileError, match="architecture 'batchtopk' is not read: it is a state of training; save it"):
        read(tmp_path, kind="saelens", source=str(middle))


# --- what SAELens applies


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("kind", ["none", "layer_norm", "constant_norm_rescale"])
def test_normalisation_is_that_of_the_library(tmp_path, kind, centred):
    """Also beside centring, which changes what is given and not what is done with it."""
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


def noise(tensors: str) -> bytes:
    """A safetensors file by its header, with 64 bytes of values."""
    return len(tensors).to_bytes(8, "little") + tensors.encode() + bytes(64)


@pytest.mark.parametrize("content", [
    b"", b"\x01", noise("{"), noise("[]"), noise("[" * 5000), noise('{"W_enc": 3}'),
    noise('{"W_enc": {"data_offsets": []}}'), noise('{"W_enc": {"shape": [4], "data_offsets": [0, 16]}}'),
    noise('{"W_enc": {"dtype": "F32", "shape": [4], "data_offsets": [0, "x"]}}'), b"\xff" * 64,
    noise('{"W_enc": {"dtype": "F32", "data_offsets": [0, 16]}}'),
    noise('{"W_enc": {"dtype": "F32", "shape": [4], "data_offsets": [0, 99]}}'),
])  # fmt: skip
def test_what_is_no_safetensors_file_is_named(tmp_path, content):
    (tmp_path / "own.safetensors").write_bytes(content)
    with pytest.raises(ProfileError, match=r"own\.safetensors: cut off.* delete it and fetch it again"):
        headers.safetensors(tmp_path / "own.safetensors")


@pytest.mark.parametrize(("content", "message"), [
    (noise("{}"), "it holds no tensor"), (noise('{"__metadata__": {"format": "pt"}}'), "it holds no tensor"),
    (noise('{"x": {"dtype": "F32", "shape": [3], "data_offsets": [0, 64]}}'), "safetensors cannot read it"),
    (noise('{"x": {"dtype": "I32", "shape": [16], "data_offsets": [0, 64]}}'), r"x \(I32\): weights of floating point"),
])  # fmt: skip
def test_tensors_that_cannot_be_weights_are_named(tmp_path, content, message):
    (tmp_path / "own.safetensors").write_bytes(content)
    with pytest.raises(ProfileError, match=rf"own\.safetensors: {message}"):
        soundness.load(tmp_path / "own.safetensors")


# --- what is refused by name


def test_gated_has_no_codes_before_selection(tmp_path):
    of, config = get_sae_class("gated")
    of(config(d_in=D, d_sae=WIDTH)).save_model(tmp_path / "sae")
    with pytest.raises(ProfileError, match=r"`codes: pre_acts`: a gated SAE has none"):
        read(tmp_path, kind="saelens", source=str(tmp_path / "sae"), codes="pre_acts")
    with pytest.raises(ProfileError, match="a gated SAE has no codes before its nonlinearity"):
        views.before(read(tmp_path, kind="saelens", source=str(tmp_path / "sae")), X)


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


@pytest.mark.parametrize(("changes", "message"), [
    ({"k": WIDTH + 1}, rf"layers\.1: k must be from 1 to the width of {WIDTH}, found {WIDTH + 1}"),
    ({"k": 0}, r"cfg\.json: k must be a whole number of at least 1, found 0"),
    ({"k": "4"}, r"k must be a whole number of at least 1, found '4'"),
    ({"d_in": None}, r"d_in must be a whole number of at least 1, found None"),
    ({"encoder_scale": 2.0}, r"cfg\.json: unknown encoder_scale: it may change the codes"),
    ({"multi_topk": True}, None),  # a loss of training
])  # fmt: skip
def test_a_sparsify_configuration_is_read_whole(tmp_path, changes, message):
    tiny_hub.sparsify(tmp_path / "sae" / "layers.1", tiny_hub.drawn(), **({"k": 4} | changes))
    fields = {"kind": "sparsify", "source": str(tmp_path / "sae"), "hookpoint": "layers.1"}
    if message is None:
        read(tmp_path, **fields)
        return
    with pytest.raises(ProfileError, match=message):
        read(tmp_path, **fields)


@pytest.mark.parametrize(("change", "message"), [
    (lambda w: w.update(b_dec=w["b_dec"][None]), r"expected .*b_dec \(16\); found .*b_dec \(1, 16\)"),
    (lambda w: w.update(W_dec=w["W_dec"].T.contiguous()), r"expected .*W_dec \(24, 16\).*; found W_dec \(16, 24\)"),
    (lambda w: w["encoder.bias"].fill_(float("nan")), r"sae\.safetensors: b_enc holds 24 of 24 values that are NaN"),
    (lambda w: w.update(W_dec=w["W_dec"].to(torch.int8)), r"W_dec \(I8\): weights of floating point are expected"),
])  # fmt: skip
def test_sparsify_weights_that_are_not_those_of_the_format_are_refused(tmp_path, change, message):
    tiny_hub.sparsify(tmp_path / "sae" / "layers.1", tiny_hub.drawn(), 4)
    file = tmp_path / "sae" / "layers.1" / "sae.safetensors"
    weights = load_file(file)
    change(weights)
    save_file(weights, file)
    with pytest.raises(ProfileError, match=message):
        read(tmp_path, kind="sparsify", source=str(tmp_path / "sae"), hookpoint="layers.1")


def test_what_is_no_configuration_is_named(tmp_path):
    tiny_hub.sparsify(tmp_path / "sae" / "layers.1", tiny_hub.drawn(), 4)
    file = tmp_path / "sae" / "layers.1" / "cfg.json"
    for text, message in (("{", r"cfg\.json: not JSON"), ("[]", r"cfg\.json: a JSON object is expected, found list")):
        file.write_text(text)
        with pytest.raises(ProfileError, match=message):
            read(tmp_path, kind="sparsify", source=str(tmp_path / "sae"), hookpoint="layers.1")


@pytest.mark.parametrize(("write", "message"), [
    (lambda file: file.write_bytes(b"PK\x03\x04"), r"params\.npz: (cut off|not an archive)"),
    (lambda file: np.savez(file, W_enc=np.array([{}], object)), r"params\.npz: W_enc\.npy holds Python objects"),
    (lambda file: file.write_bytes(file.read_bytes().replace(b"NUMPY", b"NOMPY")), r"npz: cut off or not an npz"),
])  # fmt: skip
def test_a_damaged_archive_is_named(tmp_path, write, message):
    tiny_hub.gemma_scope(tmp_path / "sae" / "x", tiny_hub.drawn(), threshold=1.0)
    write(tmp_path / "sae" / "x" / "params.npz")
    with pytest.raises(ProfileError, match=message):
        read(tmp_path, kind="gemma_scope", source=str(tmp_path / "sae"), path="x")


def test_a_transcoder_is_told_by_its_name(tmp_path):
    """Gemma Scope's have the same arrays as its SAEs."""
    tiny_hub.gemma_scope(tmp_path / "gemma-scope-2b-pt-transcoders" / "x", tiny_hub.drawn(), threshold=1.0)
    with pytest.raises(ProfileError, match=r"a transcoder writes elsewhere than it reads"):
        read(tmp_path, kind="gemma_scope", source=str(tmp_path / "gemma-scope-2b-pt-transcoders"), path="x")


MAPPED = {"W_enc": "W_enc", "W_dec": "W_dec", "b_enc": "b_enc", "b_dec": "b_dec"}


@pytest.mark.parametrize(("change", "fields", "message"), [
    (lambda w: w.update(b_dec=w["b_dec"][None]), {}, r"found .*b_dec \(1, 16\)"),
    (lambda w: w["W_dec"].fill_(float("inf")), {}, r"own\.safetensors: W_dec holds 384 of 384"),
    (lambda w: None, {"architecture": "topk", "k": WIDTH + 1}, r"k must be from 1 to the width"),
    (lambda w: w.update(r_mag=torch.ones(24)), {}, r'\["r_mag"\] would change the codes, and no key'),
    (lambda w: w.update(log_threshold=torch.ones(24)), {}, r"would change the codes"),
    (lambda w: w.update(t=torch.ones(24)), {"keys": MAPPED | {"threshold": "t"}}, r"which relu does not read"),
    (lambda w: w.update(steps=torch.ones(1)), {}, None),
])  # fmt: skip
def test_a_mapped_file_is_read_whole(tmp_path, change, fields, message):
    weights = tiny_hub.drawn()
    change(weights)
    save_file(weights, tmp_path / "own.safetensors")
    given = {"architecture": "relu", "subtract_b_dec": True, "keys": MAPPED} | fields
    if message is None:
        read(tmp_path, kind="mapped", path=str(tmp_path / "own.safetensors"), **given)
        return
    with pytest.raises(ProfileError, match=message):
        read(tmp_path, kind="mapped", path=str(tmp_path / "own.safetensors"), **given)
