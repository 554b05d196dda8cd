"""Weights are read in float32; an error names a damaged file and its fault."""

import pytest
import tiny_hub
from safetensors.torch import load_file, save_file

from sae_utils.engine.core.spec import ProfileError
from sae_utils.engine.inputs import headers
from sae_utils.engine.saes import weights


def test_tensors_of_the_right_shape_come_in_float32(tmp_path):
    tensors = {name: value.bfloat16() for name, value in tiny_hub.drawn().items()}
    save_file(tensors, tmp_path / "a.safetensors")
    shapes = {"W_enc": ("d", "n"), "W_dec": ("n", "d"), "b_enc": ("n",), "b_dec": (tiny_hub.D,)}
    found = weights.read(tmp_path / "a.safetensors", shapes)
    for name, value in load_file(tmp_path / "a.safetensors").items():
        assert (found[name] == value.float()).all() and str(found[name].dtype) == "torch.float32"
    for wrong in ({"W_dec": ("d", "n")}, {"b_dec": (3,)}, {"b_dec": (tiny_hub.D, 1)}, {"more": ()}):
        with pytest.raises(ProfileError, match=r"a\.safetensors: expected .*; found W_dec \(24, 16\)"):
            weights.read(tmp_path / "a.safetensors", shapes | wrong)


def noise(tensors: str) -> bytes:
    """A safetensors file with this header and 64 bytes of values."""
    return len(tensors).to_bytes(8, "little") + tensors.encode() + bytes(64)


@pytest.mark.parametrize("content", [
    b"", b"\x01", noise("{"), noise("[]"), noise("[" * 5000), noise('{"W_enc": 3}'),
    noise('{"W_enc": {"data_offsets": []}}'), noise('{"W_enc": {"shape": [4], "data_offsets": [0, 16]}}'),
    noise('{"W_enc": {"dtype": "F32", "shape": [4], "data_offsets": [0, "x"]}}'), b"\xff" * 64,
    noise('{"W_enc": {"dtype": "F32", "data_offsets": [0, 16]}}'),
    noise('{"W_enc": {"dtype": "F32", "shape": [4], "data_offsets": [0, 99]}}'),
])  # fmt: skip
def test_a_file_that_is_not_safetensors_is_named(tmp_path, content):
    (tmp_path / "own.safetensors").write_bytes(content)
    with pytest.raises(ProfileError, match=r"own\.safetensors: cut off.* delete it and fetch it again"):
        headers.safetensors(tmp_path / "own.safetensors")


@pytest.mark.parametrize(("content", "message"), [
    (noise("{}"), "it holds no tensor"), (noise('{"__metadata__": {"format": "pt"}}'), "it holds no tensor"),
    (noise('{"x": {"dtype": "F32", "shape": [3], "data_offsets": [0, 64]}}'), "its weights cannot be read"),
    (noise('{"x": {"dtype": "I32", "shape": [16], "data_offsets": [0, 64]}}'), r"x \(int32\): weights of floating"),
])  # fmt: skip
def test_tensors_that_are_no_weights_are_named(tmp_path, content, message):
    (tmp_path / "own.safetensors").write_bytes(content)
    with pytest.raises(ProfileError, match=rf"own\.safetensors: {message}"):
        weights.read(tmp_path / "own.safetensors")
