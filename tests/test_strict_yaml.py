"""The strict reader takes every value as it looks, and no file exhausts the memory."""

import itertools
import os
import resource
import subprocess
import sys

import pytest

from sae_utils.engine.core.sources import REPOSITORY
from sae_utils.engine.core.spec import ProfileError
from sae_utils.engine.inputs import strict_yaml


@pytest.fixture
def read(tmp_path):
    def of(content: str | bytes):
        (tmp_path / "x.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
        return strict_yaml.read(tmp_path / "x.yaml", "x.yaml")

    return of


def test_what_looks_like_something_else_is_text(read):
    """`no`, dates, times, octal and sexagesimal numbers stay the text that they look like."""
    text = "no: 1\nyes: [on, off, y, n]\n2024-01-01: 2024-01-01\na: 12:30:45\nb: 010\nc: 0x1F\nd: 1e-3\ne: =\n"
    assert read(text) == {
        "no": 1, "yes": ["on", "off", "y", "n"], "2024-01-01": "2024-01-01", "a": "12:30:45", "b": "010", "c": "0x1F",
        "d": "1e-3", "e": "=",
    }  # fmt: skip


def test_plain_values_and_merges_are_read_as_ever(read):
    text = "a: &a {n: 1_000, x: 1.5e-3, t: true, z: null}\nb: {<<: *a, n: -2}\nc: ['1', \"true\"]\n3: []\n"
    first = {"n": 1000, "x": 1.5e-3, "t": True, "z": None}
    assert read(text) == {"a": first, "b": first | {"n": -2}, "c": ["1", "true"], 3: []}


def bomb(line: str) -> str:
    letters = "abcdefghij"
    return "a: &a {x: 1}\n" + "".join(
        f"{new}: &{new} {line.format(', '.join([f'*{old}'] * 10))}\n" for old, new in itertools.pairwise(letters)
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (bomb("[{}]"), "line 6: more than 100,000 values, those that an alias repeats included"),
        (bomb("{{<<: [{}]}}"), "line 6: more than 100,000 values"),
        ("a0: &a0 [1]\n" + "".join(f"a{i + 1}: &a{i + 1} [*a{i}]\n" for i in range(2000)), "inside each other"),
        ("a: " + "[" * 50_000, "line 1: more than 32 lists or mappings inside each other"),
        ("a: " + "{b: " * 500, "more than 32 lists or mappings inside each other"),
        ("a: &a [*a]\n", "an alias inside of what it stands for"),
        ("a: &a {b: {c: *a}}\n", "an alias inside of what it stands for"),
        ("a: " + "9" * 5000, "line 1: a whole number of more than 18 digits"),
        ("a: " + "9" * 5000 + ".0", "is no finite number"),
        ("a: .nan\n", "line 1: `.nan` is no finite number"),
        ("a: [1, -.inf]\n", "`-.inf` is no finite number"),
        ("a: 1.0e999\n", "`1.0e999` is no finite number"),
        ("true: 1\n", "the key `true` is no text; write it in quotes"),
        ("~: 1\n", "the key `~` is no text"),
        ("1.5: 1\n", "the key `1.5` is no text"),
        ("a: 1\nb: 2\na: 3\n", "line 3: not YAML: the key `a` stands twice"),
        ("no: 1\n'no': 2\n", "line 2: not YAML: the key `no` stands twice"),
        ("? {a: 1}\n: 1\n", "a key that is a list or a mapping"),
        ("a:\n\tb: 1\n", "line 2: not YAML: .*a tab, where YAML takes spaces"),
        ("a: !!int many\n", "'many' is no int"),
        ("a: !!set {b}\n", "the tag `!!set`; leave it out"),
        ("a: !!python/object/apply:os.system [ls]\n", "leave it out"),
        ("a: !!map [1]\n", "leave it out"),
        ("a: 1\n---\nb: 2\n", "not YAML"),
        ("a: *b\n", "undefined alias"),
        ("a: \x00\n", "character 4 is 0"),
        (b"a: caf\xe9\n", "not UTF-8 at byte 6; save it as UTF-8"),
        ("a: 1\n".encode("utf-16"), "not UTF-8"),
        (b"", "expected keys with values, found None"),
        ("- a\n", r"expected keys with values, found \['a'\]"),
        ("a\n", "expected keys with values, found 'a'"),
        ("#" * (1 << 19), "larger than 262,144 bytes"),
    ],
)
def test_what_nobody_means_is_refused(read, content, message):
    with pytest.raises(ProfileError, match=message) as refused:
        read(content)
    assert str(refused.value).startswith("x.yaml") and len(str(refused.value)) < 400


def test_a_bomb_takes_no_memory(tmp_path):
    """A process limited to half a gigabyte refuses the file, and does not die."""
    (tmp_path / "x.yaml").write_text(bomb("[{}]"))
    code = "import sys, pathlib, sae_utils.engine.inputs.strict_yaml as s; s.read(pathlib.Path(sys.argv[1]), 'x')"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "x.yaml")], capture_output=True, text=True, cwd=REPOSITORY,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (1 << 29, 1 << 29)),
    )  # fmt: skip
    assert "ProfileError" in done.stderr and "100,000 values" in done.stderr


def test_a_folder_a_link_and_an_endless_file(tmp_path):
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "link.yaml").symlink_to(tmp_path / "nowhere")
    for name in ("folder", "link"):
        with pytest.raises(ProfileError, match=f"{name}: cannot be read"):
            strict_yaml.read(tmp_path / f"{name}.yaml", name)
    (tmp_path / "endless.yaml").symlink_to("/dev/zero")
    with pytest.raises(ProfileError, match="larger than"):
        strict_yaml.read(tmp_path / "endless.yaml", "endless")


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.yaml")
    with pytest.raises(ProfileError, match="pipe: is a pipe"):
        strict_yaml.read(tmp_path / "pipe.yaml", "pipe")


def test_half_a_character_is_refused(tmp_path):
    (tmp_path / "x.yaml").write_text('stamp: "\\ud800"')
    with pytest.raises(ProfileError, match=r"x, line 1: text with U\+D800"):
        strict_yaml.read(tmp_path / "x.yaml", "x")
