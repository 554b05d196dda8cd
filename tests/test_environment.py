"""`make` announces which torch it installs, and changes no environment that it did not make."""

import functools
import http.server
import os
import subprocess
import sys
import threading
import venv
import zipfile

import pytest

from sae_utils.engine.build import environment


@pytest.fixture
def bare(tmp_path):
    """The Python of an environment without packages; pip comes from the Python that made it."""
    venv.create(tmp_path / "env", system_site_packages=True, symlinks=True)
    return tmp_path / "env" / "bin" / "python"


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A stand-in for PyTorch's index: one wheel, the CPU build of the pinned torch."""
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    version = environment.torch_requirement("cpu")[0].removeprefix("torch==") if sys.platform == "linux" else "0"
    folder = tmp_path / "index" / "torch"
    folder.mkdir(parents=True)
    info = f"torch-{version}.dist-info"
    with zipfile.ZipFile(folder / f"torch-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr("torch/__init__.py", f"__version__ = {version!r}\n")
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: torch\nVersion: {version}\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path / "index")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the registry's build is the CPU one")
def test_cpu_takes_the_build_of_pytorchs_index(bare, index):
    asked = environment.torch_requirement("cpu", index)
    found = environment.wheels(bare, asked)
    assert list(found) == [asked[0].replace("==", " ")] and asked[0].endswith("+cpu")
    assert environment.describe(found).startswith(f"{asked[0].replace('==', ' ')}, the CPU build, 0.0 GB to download")
    environment.pip(bare, "install", *asked)
    done = subprocess.run([bare, "-c", "import torch; print(torch.__version__)"], capture_output=True, text=True)
    assert done.stdout.strip() == asked[0].removeprefix("torch==")


def test_the_cuda_build_is_named_with_its_size(tmp_path):
    file = tmp_path / "wheel"
    file.write_bytes(b"0" * 1000)
    found = {"torch 9": file.as_uri(), "nvidia-cudnn 1": "file:///nowhere", "triton 2": file.as_uri()}
    sentence = environment.describe(found)
    assert (
        sentence.startswith("torch 9, the CUDA build with 2 libraries")
        and "and more" in sentence
        and "TORCH=cpu" in sentence
    )
    assert "size unknown" in environment.describe({"torch 9": "file:///nowhere"})
    assert "already there" in environment.describe({})


def test_no_environment_of_others_is_changed(bare, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(environment, "pip", lambda *_: pytest.fail("pip was called"))
    theirs = bare.parent.parent
    link = tmp_path / ".venv"
    link.symlink_to(theirs)
    before = sorted(theirs.rglob("*"))
    for folder, whose in ((link, f"a link to {theirs}"), (theirs, "not made by `make`")):
        problem = environment.make(folder, "registry")
        assert problem.startswith(f"{folder} lacks ") and " torch," in problem
        assert whose in capsys.readouterr().out
    assert sorted(theirs.rglob("*")) == before


@pytest.mark.parametrize("kind", ["dangling", "circle", "empty", "file"])
def test_what_holds_no_python_is_named_with_its_remedy(tmp_path, kind):
    folder = tmp_path / ".venv"
    if kind in ("dangling", "circle"):
        folder.symlink_to({"dangling": tmp_path / "nowhere", "circle": folder}[kind])
    else:
        {"empty": folder.mkdir, "file": folder.touch}[kind]()
    problem = environment.make(folder, "registry")
    assert problem.startswith(f"{folder} is ") and "holds no Python that runs; remove it" in problem


def test_an_interrupted_one_of_ours_is_taken_up(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(environment, "pip", lambda python, *arguments: calls.append(arguments[1]))
    monkeypatch.setattr(environment, "wheels", lambda *_: {})
    folder = tmp_path / ".venv"
    venv.create(folder, prompt=environment.PROMPT, symlinks=True)
    kept = folder / "installed"
    kept.touch()
    assert environment.make(folder, "registry") == ""
    assert kept.exists() and (folder / ".ready").exists() and calls[0].startswith("torch==")
