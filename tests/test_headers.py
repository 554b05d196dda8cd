"""A damaged or unsafe file is refused by its header, before its arrays are read."""

import json
import zipfile

import numpy as np
import pytest

from sae_utils.engine.core.spec import ProfileError
from sae_utils.engine.inputs import headers, hub
from sae_utils.engine.lms import pretrained


@pytest.fixture
def npz(tmp_path):
    def save(**arrays):
        np.savez(tmp_path / "params.npz", **arrays)
        return tmp_path / "params.npz"

    return save


def found(file):
    return hub.find(str(file.parent), "", [[file.name]])


def test_the_shapes_of_an_archive_of_numbers(npz):
    kinds = ("f2", "f4", "f8", "i8", "?")
    file = npz(**{kind.strip("?") or "b": np.zeros((3, 2), kind) for kind in kinds}, scalar=np.float32(1))
    assert file.name in found(file)
    assert headers.npz(file) == {"f2": (3, 2), "f4": (3, 2), "f8": (3, 2), "i8": (3, 2), "b": (3, 2), "scalar": ()}


class Bomb:
    """Its pickle creates a file when it is read."""

    def __reduce__(self):
        return (open, ("bomb", "w"))


@pytest.mark.parametrize("shape", [(), (1,), (2, 2)])
def test_pickled_objects_are_refused_unread(npz, shape, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bombs = np.empty(shape, object)
    bombs[...] = Bomb()
    file = npz(W_enc=np.zeros((2, 2)), threshold=bombs)
    with pytest.raises(ProfileError, match=r"params\.npz: threshold\.npy holds Python objects.* refused: save it as"):
        found(file)
    assert not (tmp_path / "bomb").exists()


@pytest.mark.parametrize("kind", ["U1", "S3", "c8", "M8[s]", "V2", [("x", "f4")]])
def test_arrays_of_other_types_than_numbers_are_refused(npz, kind):
    with pytest.raises(ProfileError, match=r"params\.npz: W\.npy: not an array of numbers \(its type is"):
        found(npz(W=np.zeros(2, kind)))


def repacked(file, change) -> None:
    """Write an archive again with its members changed."""
    with zipfile.ZipFile(file) as zipped:
        members = {name: zipped.read(name) for name in zipped.namelist()}
    with zipfile.ZipFile(file, "w") as zipped:
        for name, content in change(members).items():
            zipped.writestr(name, content)


@pytest.mark.parametrize(
    "change",
    [
        lambda members: {name: content[:-8] for name, content in members.items()},
        lambda members: {name: content + b"more" for name, content in members.items()},
        lambda members: {name: content.replace(b"(30, 30)", b"(30, 31)") for name, content in members.items()},
        lambda members: {name: b"" for name in members},
        lambda members: {name: b"\x93NUMPY\x01\x00\x10\x00{'descr': 1}     " for name in members},
        lambda members: {name: b"\x93NUMPY\x09\x00" + content[8:] for name, content in members.items()},
        lambda members: members | {"README.txt": b"about"},
    ],
    ids=["short", "long", "another shape", "empty", "no header", "another version", "a text beside them"],
)
def test_an_incomplete_member_is_refused(npz, change):
    file = npz(W_enc=np.zeros((30, 30)))
    repacked(file, change)
    with pytest.raises(ProfileError, match=r"params\.npz: (W_enc\.npy|README\.txt): not an array of numbers \("):
        found(file)


@pytest.mark.parametrize("harm", [
    lambda data: data[: len(data) // 2], lambda data: b"", lambda data: b"not a zip", lambda data: data[:-30],
])  # fmt: skip
def test_an_archive_that_is_cut_off_is_refused(npz, harm):
    file = npz(W_enc=np.zeros((30, 30)))
    file.write_bytes(harm(file.read_bytes()))
    with pytest.raises(ProfileError, match=r"params\.npz: cut off or not an npz archive .*; delete it and fetch"):
        found(file)


# --- checkpoints in parts


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"not the index of a checkpoint \(JSONDecodeError"),
        ("", r"not the index of a checkpoint"),
        ("[]", r"not the index of a checkpoint"),
        ("{}", r"not the index of a checkpoint \(KeyError: 'weight_map'"),
        ('{"weight_map": ["model.safetensors"]}', r"not the index of a checkpoint"),
        ('{"weight_map": {"a": ["x"]}}', r"not the index of a checkpoint"),
        ("[" * 100_000, r"not the index of a checkpoint \(RecursionError"),
        ('{"weight_map": {}}', r"weight_map names no file"),
        ('{"weight_map": {"a": 7}}', r"weight_map names 7"),
        ('{"weight_map": {"a": "../other.safetensors"}}', r"names '\.\./other\.safetensors'"),
        ('{"weight_map": {"a": "/etc/x.safetensors"}}', r"names '/etc/x\.safetensors'"),
        ('{"weight_map": {"a": "sub/x.safetensors"}}', r"names 'sub/x\.safetensors'"),
        ('{"weight_map": {"a": "..\\\\x.safetensors"}}', r"weight_map names"),
        ('{"weight_map": {"a": ".safetensors"}}', r"weight_map names"),
        ('{"weight_map": {"a": "pytorch_model-1.bin"}}', r"only safetensors files in the folder of the index are read"),
    ],
)
def test_a_wrong_index_or_one_that_leads_elsewhere_is_refused(tmp_path, content, message):
    file = tmp_path / "model.safetensors.index.json"
    file.write_text(content)
    with pytest.raises(ProfileError, match=message) as caught:
        headers.shards(file)
    assert str(file) in str(caught.value)


def test_missing_parts_of_a_checkpoint_are_named(tmp_path):
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors", "c": "model-1.safetensors"}}
    for name, content in {"config.json": {}, "tokenizer.json": {}, pretrained.INDEX: index}.items():
        (tmp_path / name).write_text(json.dumps(content))
    assert headers.shards(tmp_path / pretrained.INDEX) == ["model-1.safetensors", "model-2.safetensors"]
    with pytest.raises(ProfileError, match=r"there is no model-1\.safetensors, no model-2\.safetensors; there are"):
        pretrained.locate(pretrained.Pretrained(kind="pretrained", source=str(tmp_path)))
