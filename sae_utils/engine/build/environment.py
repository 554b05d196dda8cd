"""Makes `.venv`, the environment that `make` uses, and says beforehand which build of torch it will install.

In: the pins (`constraints.txt`), the libraries (`pyproject.toml`), the Python that runs this. Out: `.venv` with a file
`.ready`, by which `make` knows that it is complete. A run that was interrupted is taken up again.
Never: a change to an environment that was not made here, or that `.venv` only links to.

It needs only the standard library. `python -m sae_utils environment [--torch cpu]`
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tomllib
import urllib.error
import urllib.request
from pathlib import Path

from sae_utils.engine.core.sources import REPOSITORY

PROMPT = "sae-utils"  # marks an environment that was made here
CPU_INDEX = "https://download.pytorch.org/whl/cpu"  # PyTorch's own; the registry has one build for each platform
CONSTRAINTS = REPOSITORY / "constraints.txt"
INSTALLED = "import importlib.metadata as m, json; print(json.dumps([d.metadata['Name'] for d in m.distributions()]))"


def make(folder: Path, torch: str) -> str:
    """Make or complete the environment in `folder`; returns an error message, empty if it can be used.

    `torch` is `registry` (on Linux its build is the CUDA one) or `cpu`.
    """
    python = folder / "bin" / "python"
    if folder.is_symlink() or (folder.exists() and not made_here(folder)):
        return _use_as_it_is(folder, python)
    print(f"== making the environment {folder} (2.8 GB with torch's CPU build, some minutes)", flush=True)
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", "--prompt", PROMPT, str(folder)], check=True)
    requested = torch_requirement(torch)
    print(f"== {describe(wheels(python, requested))}", flush=True)
    pip(python, "install", *requested)
    pip(python, "install", "--constraint", str(CONSTRAINTS), "--editable", f"{REPOSITORY}[dev]")
    (folder / ".ready").touch()
    return ""


def made_here(folder: Path) -> bool:
    """Whether the environment in `folder` was made by `make`."""
    settings = folder / "pyvenv.cfg"
    text = settings.read_text("utf-8", errors="replace") if settings.exists() else ""
    return re.search(rf"^prompt = '?{PROMPT}'?$", text, re.MULTILINE) is not None


def _use_as_it_is(folder: Path, python: Path) -> str:
    owner = f"a link to {os.path.realpath(folder)}" if folder.is_symlink() else "not made by `make`"
    if not os.access(python, os.X_OK):
        return f"{folder} is {owner}, and holds no Python that runs; remove it (`rm -r {folder}`) for a new one"
    print(f"== using {folder} as it is: it is {owner}, and nothing is installed into it", flush=True)
    missing = missing_libraries(python)
    return f"{folder} lacks {', '.join(missing)}: install them there, or remove it for a new one" if missing else ""


def missing_libraries(python: Path) -> list[str]:
    """The libraries of `pyproject.toml`, extras `models` and `paper` included, that an environment does not have."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    done = subprocess.run([str(python), "-c", INSTALLED], capture_output=True, text=True)
    installed = {_canonical(name) for name in json.loads(done.stdout)} if done.returncode == 0 else set()
    needed = [*project["dependencies"], *extras["models"], *extras["paper"]]
    return [name for name in needed if _canonical(name) not in installed]


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def torch_requirement(build: str, index: str = CPU_INDEX) -> list[str]:
    """pip's arguments for the pinned torch: the build of the registry, or the CPU build from PyTorch's index."""
    pin = re.search(r"^torch==(.*)$", CONSTRAINTS.read_text("utf-8"), re.MULTILINE)
    assert pin, "constraints.txt pins torch"
    if build == "cpu" and sys.platform == "linux":  # elsewhere the registry's build is the CPU one
        return [f"torch=={pin[1]}+cpu", "--no-deps", "--index-url", index]
    return [f"torch=={pin[1]}", "--constraint", str(CONSTRAINTS)]


def wheels(python: Path, requested: list[str]) -> dict[str, str]:
    """The packages that pip would install: name and version -> address; empty if pip fails."""
    command = [str(python), "-m", "pip", "install", "--dry-run", "--quiet", "--report", "-", *requested]
    done = subprocess.run(command, capture_output=True, text=True)
    found = json.loads(done.stdout)["install"] if done.returncode == 0 else []
    return {f"{w['metadata']['name']} {w['metadata']['version']}": w["download_info"]["url"] for w in found}


def describe(found: dict[str, str]) -> str:
    """A sentence that names the build of torch among the wheels and the size of the download."""
    name = next((name for name in found if name.startswith("torch ")), "torch, already there or not to be found")
    sizes = [size(address) for address in found.values()]
    total = (
        f"{sum(sizes) / 1e9:.1f} GB{' and more' if 0 in sizes else ''} to download" if any(sizes) else "size unknown"
    )
    if any(library.startswith("nvidia-") for library in found):
        return (
            f"{name}, the CUDA build with {len(found) - 1} libraries, {total}; TORCH=cpu takes the CPU build (0.2 GB)"
        )
    return f"{name}, the CPU build, {total}" if found else name


def size(address: str) -> int:
    """Bytes of a file on the web or on this machine, 0 if unknown."""
    try:
        with urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=10) as answer:
            return int(answer.headers.get("Content-Length") or 0)
    except (OSError, ValueError):
        return 0


def pip(python: Path, *arguments: str) -> None:
    """Run pip in an environment."""
    subprocess.run([str(python), "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments], check=True)


def main() -> None:
    """Make the environment of this checkout."""
    parser = argparse.ArgumentParser(prog="python -m sae_utils environment", description=main.__doc__)
    parser.add_argument("--torch", choices=["registry", "cpu"], default="registry", help="which build of torch")
    try:
        problem = make(REPOSITORY / ".venv", parser.parse_args().torch)
    except subprocess.CalledProcessError as error:
        problem = f"the environment was not finished (exit status {error.returncode} of pip or venv, see above); " \
                  "the same command takes it up again"  # fmt: skip
    if problem:
        sys.exit(f"error: {problem}")
