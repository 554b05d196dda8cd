"""A file in packages is fetched once, by exact version and digest; what comes with it is never run."""

import hashlib
import io
import shutil
import zipfile

import package_index
import pytest

from sae_utils.engine.core.spec import ProfileError, build
from sae_utils.engine.inputs import packages
from sae_utils.engine.inputs.packages import Packaged

CONTENT = bytes(range(256)) * 40
PARTS = (CONTENT[:4000], CONTENT[4000:])
DIGEST = hashlib.sha256(CONTENT).hexdigest()
TERMS = b"<html>what one may do</html>"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder of wheels: one file, the same in two parts, and the terms."""
    folder = tmp_path_factory.mktemp("wheels")
    ran = folder / "ran"
    package_index.wheel(folder, "tiny-one", "1.0", {"tiny_one/x.bin": CONTENT}, ran)
    package_index.wheel(folder, "tiny-one", "1.1", {"tiny_one/x.bin": CONTENT[::-1]}, ran)
    for n, part in enumerate(PARTS):
        package_index.wheel(folder, f"tiny-part{n}", "1.0", {f"tiny/x.part{n}": part, "../evil": b"evil"}, ran)
    package_index.wheel(folder, "tiny-terms", "1.0", {"tiny_terms/TERMS.html": TERMS}, ran)
    return folder


@pytest.fixture
def index(made, tmp_path, monkeypatch):
    """An index of copies of the wheels, which pip asks."""
    wheels = shutil.copytree(made, tmp_path / "wheels")
    for name in (*package_index.OTHERS, packages.ACCEPTED):
        monkeypatch.delenv(name, raising=False)
    with package_index.serve(wheels) as running:
        for name, value in package_index.settings(running.url).items():
            monkeypatch.setenv(name, value)
        yield running


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "downloads"


@pytest.fixture
def away(index, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple/")


def record(**changes) -> Packaged:
    values = {"package": "tiny-one==1.0", "file": "tiny_one/x.bin", "sha256": DIGEST, "licence": "MIT"}
    return build(Packaged, values | changes, "params/x.yaml: models.x")


def parts(**changes) -> Packaged:
    values = {"package": [f"tiny-part{n}==1.0" for n in range(2)], "file": [f"tiny/x.part{n}" for n in range(2)]}
    return record(**values | changes)


def licensed(**changes) -> Packaged:
    return record(licence="own", terms={"package": "tiny-terms==1.0", "file": "tiny_terms/TERMS.html"}, **changes)


def transfers(index) -> list[str]:
    return [path for path in index.requests if path.startswith("/files/")]


# --- fetching


def test_a_file_is_fetched_once_and_nothing_of_it_runs(index, folder, made):
    file = packages.fetch(record(), folder)
    assert file.read_bytes() == CONTENT and file == packages.kept(record(), folder)
    asked = list(index.requests)
    assert packages.fetch(record(), folder) == file and index.requests == asked
    assert not (made / "ran").exists() and len(transfers(index)) == 1
    assert [path.name for path in folder.iterdir() if not path.name.startswith(".")] == [DIGEST]


def test_parts_are_joined_in_their_order(index, folder, tmp_path):
    assert packages.fetch(parts(), folder).read_bytes() == CONTENT
    assert not list(tmp_path.rglob("evil")), "a member is never written under its own path"
    with pytest.raises(ProfileError, match=f"has the digest .* and {DIGEST} is expected"):
        packages.fetch(parts(package=["tiny-part1==1.0", "tiny-part0==1.0"], file=["tiny/x.part1", "tiny/x.part0"]),
                       folder.with_name("other"))  # fmt: skip


def test_it_goes_on_where_it_stopped(index, folder):
    index.cut.add("tiny_part1-1.0-py3-none-any.whl")
    with pytest.raises(ProfileError, match=r"package: tiny-part1==1\.0"):
        packages.fetch(parts(), folder)
    assert not packages.kept(parts(), folder).exists()
    index.cut.clear()
    index.requests.clear()
    assert packages.fetch(parts(), folder).read_bytes() == CONTENT
    assert transfers(index) == ["/files/tiny_part1-1.0-py3-none-any.whl"]


def test_a_damaged_file_is_fetched_again(index, folder, capsys):
    packages.fetch(record(), folder).write_bytes(CONTENT[:-1])
    assert packages.fetch(record(), folder).read_bytes() == CONTENT
    assert "is damaged; it is fetched again" in capsys.readouterr().err


def test_another_digest_is_refused(index, folder):
    other = record(package="tiny-one==1.1")
    with pytest.raises(
        ProfileError, match=rf"sha256: tiny-one==1\.1: tiny_one/x\.bin has the digest \w+, and {DIGEST}"
    ):
        packages.fetch(other, folder)
    assert not packages.kept(other, folder).exists()


def test_a_missing_member_is_named_with_those_there_are(index, folder):
    with pytest.raises(ProfileError, match=r"file: tiny_one-1\.0-.*whl holds no tiny_one/y\.bin; .* tiny_one/x\.bin"):
        packages.fetch(record(file="tiny_one/y.bin"), folder)


@pytest.mark.parametrize("damage", ["cut off", "changed"])
def test_a_damaged_wheel_is_named_and_fetched_again(index, folder, damage):
    packages.fetch(record(), folder).unlink()
    wheel = folder / f".{DIGEST}.parts" / "0" / "tiny_one-1.0-py3-none-any.whl"
    wheel.parent.mkdir(parents=True)
    content = bytearray((index.folder / wheel.name).read_bytes())
    place = content.find(CONTENT[:64])
    content[place : place + 64] = bytes(64)
    wheel.write_bytes(content[: len(content) // 2] if damage == "cut off" else content)
    with pytest.raises(ProfileError, match=r"package: tiny_one.*whl is cut off or damaged .*run again"):
        packages.fetch(record(), folder)
    assert packages.fetch(record(), folder).read_bytes() == CONTENT


def test_no_such_version(index, folder):
    with pytest.raises(ProfileError, match=r"package: tiny-one==9\.9: pip cannot fetch it \(.*1\.0.*check its name"):
        packages.fetch(record(package="tiny-one==9.9"), folder)


def test_a_registry_that_does_not_answer(away, folder):
    with pytest.raises(ProfileError, match=r"tiny-one==1\.0: the package registry does not answer .*run again"):
        packages.fetch(record(), folder)


def test_without_pip(index, folder, monkeypatch, tmp_path):
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "$0: No module named pip" >&2\nexit 1\n')
    python.chmod(0o755)
    monkeypatch.setattr(packages.sys, "executable", str(python))
    with pytest.raises(ProfileError, match=r"pip is missing; run `.* -m ensurepip`"):
        packages.fetch(record(), folder)


def test_a_source_distribution_is_never_built(index, folder, tmp_path):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("tiny-source-1.0/setup.py", f"open({str(tmp_path / 'ran')!r}, 'w')")
    (index.folder / "tiny_source-1.0.zip").write_bytes(data.getvalue())
    with pytest.raises(ProfileError, match="pip cannot fetch it"):
        packages.fetch(record(package="tiny-source==1.0"), folder)
    assert not (tmp_path / "ran").exists()


# --- terms


def test_terms_are_fetched_first_and_must_be_accepted(index, folder):
    text = folder / "terms" / "tiny-terms-1.0" / "TERMS.html"
    with pytest.raises(
        ProfileError, match=rf"accept_terms: .*\(own\) must be accepted .* read {text} .*ACCEPT_TERMS=own"
    ):
        packages.fetch(licensed(), folder)
    assert text.read_bytes() == TERMS
    assert transfers(index) == ["/files/tiny_terms-1.0-py3-none-any.whl"]


@pytest.mark.parametrize("way", ["key", "environment"])
def test_accepted_terms_are_shown(index, folder, monkeypatch, capsys, way):
    if way == "environment":
        monkeypatch.setenv("ACCEPT_TERMS", "llama3, Own")
    assert packages.fetch(licensed(accept_terms=way == "key"), folder).read_bytes() == CONTENT
    assert "licence own, accepted; its terms: " in capsys.readouterr().err


def test_terms_that_cannot_be_fetched_are_named(away, folder):
    with pytest.raises(ProfileError, match=r"read tiny_terms/TERMS\.html in the package tiny-terms==1\.0; then set"):
        packages.fetch(licensed(), folder)


# --- records


@pytest.mark.parametrize(("changes", "message"), [
    ({"package": "tiny-one"}, "'tiny-one' does not name one version of a package; write name==version"),
    ({"package": "tiny-one>=1.0"}, "does not name one version"),
    ({"package": "tiny-one==1.*"}, "does not name one version"),
    ({"package": "--index-url=x==1"}, "does not name one version"),
    ({"package": "tiny @ https://example.org/x==1"}, "does not name one version"),
    ({"file": ["a", "b"]}, "1 packages and 2 files"),
    ({"sha256": "12"}, "sha256: 64 hex digits are expected"),
    ({"sha256": ""}, "sha256: missing"),
    ({"licence": ""}, "licence: missing"),
    ({"licence": "gemma"}, "terms: missing; the licence gemma must be accepted"),
    ({"licence": "gemma", "terms": {"package": "x", "file": "y"}}, "'x' does not name one version"),
    ({"terms": {"package": "x==1", "files": "y"}}, r"terms\.files: unknown key; did you mean `file`"),
])  # fmt: skip
def test_a_record_that_names_no_one_file_is_refused(changes, message):
    with pytest.raises(ProfileError, match=rf"params/x\.yaml: models\.x.*{message}"):
        record(**changes)
