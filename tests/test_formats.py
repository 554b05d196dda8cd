"""An SAE of sparsify, Gemma Scope or a file of any layout has the codes of its format's own implementation."""

import json

import numpy as np
import pytest
import tiny_hub
import torch
from safetensors.torch import load_file, save_file
from sparsify import SparseCoder

from sae_utils.engine.core.spec import ProfileError, build
from sae_utils.engine.inputs import hub
from sae_utils.engine.saes import dictionaries, releases

D, WIDTH = tiny_hub.D, tiny_hub.WIDTH
X = 3 * torch.randn(200, D, generator=torch.Generator().manual_seed(5))


def read(tmp_path, **fields):
    """The SAE of a record as it is read from the store, and its meta."""
    given = {"model": "m"} | ({"hook": "blocks.1.hook_mlp_out"} if fields["kind"] != "sparsify" else {}) | fields
    record = build(releases.KINDS[fields["kind"]], given, "dictionaries.x")
    made = releases.convert(record, hub.find(*record.wanted()), getattr(record, "hook", "blocks.1.hook_mlp_out"))
    return dictionaries.load(made), made.meta


def codes(sae, x: torch.Tensor = X) -> torch.Tensor:
    with torch.no_grad():
        return sae.encode(x)


def dense(found, n: int = WIDTH) -> torch.Tensor:
    """Codes of sparsify as a matrix."""
    return torch.zeros(len(found.top_acts), n).scatter(1, found.top_indices, found.top_acts)


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
    """The Llama checkpoints have this layout."""
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


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"signed": True}, "signed is true: the checkpoint keeps negative codes"),
        ({"skip_connection": True}, "skip_connection is true"),
        ({"transcode": True}, "transcode is true: the checkpoint writes elsewhere than it reads"),
        ({"activation": "groupmax"}, "activation 'groupmax'; only topk"),
        ({"num_latents": 99}, r"expected .*encoder\.weight \(99, 16\); found W_dec \(24, 16\)"),
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
    with pytest.raises(ProfileError, match=r"expected .* b_dec \(16\).*; found W_dec \(24, 16\), W_skip \(16,?\)"):
        read(tmp_path, kind="sparsify", source=str(tmp_path / "sae"), hookpoint="layers.1")


def test_gemma_scope_of_other_shapes_is_refused(tmp_path):
    tiny_hub.gemma_scope(tmp_path / "sae" / "x", tiny_hub.drawn() | {"W_dec": torch.ones(3, D)}, threshold=1.0)
    with pytest.raises(ProfileError, match=r"params\.npz: expected .*W_dec \(n, d\).*; found .*W_dec \(3, 16\)"):
        read(tmp_path, kind="gemma_scope", source=str(tmp_path / "sae"), path="x", hook="blocks.1.hook_mlp_out")


def test_gemma_scope_of_whole_numbers_is_refused(tmp_path):
    tiny_hub.gemma_scope(tmp_path / "sae" / "x", tiny_hub.drawn(), threshold=1.0)
    file = tmp_path / "sae" / "x" / "params.npz"
    with np.load(file) as archive:
        changed = dict(archive) | {"W_enc": archive["W_enc"].astype(np.int8)}
    np.savez(file, **changed)
    with pytest.raises(ProfileError, match=r"params\.npz: W_enc \(int8\): weights of floating point"):
        read(tmp_path, kind="gemma_scope", source=str(tmp_path / "sae"), path="x", hook="blocks.1.hook_mlp_out")


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


@pytest.mark.parametrize(("changes", "message"), [
    ({"k": WIDTH + 1}, rf"layers\.1: k must be from 1 to the width of {WIDTH}, found {WIDTH + 1}"),
    ({"k": 0}, r"cfg\.json: k must be a whole number of at least 1, found 0"),
    ({"k": "4"}, r"k must be a whole number of at least 1, found '4'"),
    ({"d_in": None}, r"d_in must be a whole number of at least 1, found None"),
    ({"encoder_scale": 2.0}, r"cfg\.json: unknown encoder_scale: it may change the codes"),
    ({"multi_topk": True}, None),  # a loss of training
])  # fmt: skip
def test_an_unknown_sparsify_configuration_is_refused(tmp_path, changes, message):
    tiny_hub.sparsify(tmp_path / "sae" / "layers.1", tiny_hub.drawn(), **({"k": 4} | changes))
    fields = {"kind": "sparsify", "source": str(tmp_path / "sae"), "hookpoint": "layers.1"}
    if message is None:
        read(tmp_path, **fields)
        return
    with pytest.raises(ProfileError, match=message):
        read(tmp_path, **fields)


@pytest.mark.parametrize(("change", "message"), [
    (lambda w: w.update(b_dec=w["b_dec"][None]), r"expected .*b_dec \(16\).*; found .*b_dec \(1, 16\)"),
    (lambda w: w.update(W_dec=w["W_dec"].T.contiguous()), r"expected .*W_dec \(24, 16\).*; found W_dec \(16, 24\)"),
    (lambda w: w["encoder.bias"].fill_(float("nan")), r"sae\.safetensors: b_enc holds 24 of 24 values that are NaN"),
    (lambda w: w.update(W_dec=w["W_dec"].to(torch.int8)), r"W_dec \(int8\): weights of floating point are expected"),
])  # fmt: skip
def test_sparsify_weights_that_are_not_those_of_the_format_are_refused(tmp_path, change, message):
    tiny_hub.sparsify(tmp_path / "sae" / "layers.1", tiny_hub.drawn(), 4)
    file = tmp_path / "sae" / "layers.1" / "sae.safetensors"
    weights = load_file(file)
    change(weights)
    save_file(weights, file)
    with pytest.raises(ProfileError, match=message):
        read(tmp_path, kind="sparsify", source=str(tmp_path / "sae"), hookpoint="layers.1")


def test_a_damaged_configuration_is_named(tmp_path):
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


def test_a_transcoder_is_refused_by_its_name(tmp_path):
    """The transcoders of Gemma Scope have the same arrays as its SAEs."""
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
def test_a_mapped_file_with_other_codes_is_refused(tmp_path, change, fields, message):
    weights = tiny_hub.drawn()
    change(weights)
    save_file(weights, tmp_path / "own.safetensors")
    given = {"architecture": "relu", "subtract_b_dec": True, "keys": MAPPED} | fields
    if message is None:
        read(tmp_path, kind="mapped", path=str(tmp_path / "own.safetensors"), **given)
        return
    with pytest.raises(ProfileError, match=message):
        read(tmp_path, kind="mapped", path=str(tmp_path / "own.safetensors"), **given)
