"""`make` runs what was edited again, at any times of the files, and nothing else."""

import os
import shutil
import subprocess
import sys

import pytest

from sae_utils.engine.core.sources import REPOSITORY

PYTHON = """#!{python}
# a stand-in for the environment's Python: it logs every command, and writes the files that the command would write
import sys
from pathlib import Path

_, _, command, profile, *rest = sys.argv[1:]
with open("log", "a") as log:
    log.write(" ".join([command, *rest]) + "\\n")
build = Path("build") / profile
try:
    if command == "profile":
        (build / "params").mkdir(parents=True, exist_ok=True)
        for notebook in Path("notebooks").glob("*.py"):
            parameters = build / "params" / f"{{notebook.stem}}.yaml"
            if not parameters.exists():
                parameters.touch()
    elif command == "execute":
        (build / f"{{rest[0]}}.ipynb").touch()
except OSError:
    sys.exit("error: a file cannot be written")
"""
FILES = ["notebooks/00_a.py", "notebooks/01_b.py", "sae_utils/x.py", "params/demo.yaml", "params/lexicon.yaml",
         "params/concepts.yaml", "params/published_layer_scores.csv"]  # fmt: skip
ALL = ["profile", "execute 00_a", "execute 01_b"]

pytestmark = pytest.mark.skipif(not shutil.which("make"), reason="needs make")


@pytest.fixture
def make(tmp_path):
    """Runs `make paper` in a repository of two notebooks; returns the commands before typesetting and the page."""
    for name in FILES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    shutil.copy(REPOSITORY / "Makefile", tmp_path)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").write_text(PYTHON.format(python=sys.executable))
    (tmp_path / "bin" / "python").chmod(0o755)

    def run(code: int = 0) -> list[str]:
        (tmp_path / "log").unlink(missing_ok=True)
        command = ["make", "--no-print-directory", "BIN=bin", "READY=", "TEX=skip", "PROFILE=demo", "paper"]
        environment = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == code, done.stderr
        ran = (tmp_path / "log").read_text().splitlines()
        assert code or ran[-2:] == ["typeset", "page"]
        return ran[:-2] if not code else [*ran, done.stderr.splitlines()[0]]

    return run


def test_nothing_is_built_twice(make, tmp_path):
    assert make() == ALL and make() == []
    for name in FILES:
        (tmp_path / name).touch()  # as a checkout of the same commit may do
    assert make() == []


@pytest.mark.parametrize(
    ("name", "again"),
    [
        ("notebooks/00_a.py", ["profile", "execute 00_a"]),
        ("sae_utils/x.py", ALL),
        ("params/lexicon.yaml", ALL),
        ("params/demo.yaml", ["profile"]),  # it rewrites the parameters of the notebooks that changed
    ],
)
def test_an_edit_that_is_reverted_with_its_old_time_is_noticed(make, tmp_path, name, again):
    """`mv`, `cp -p`, `rsync -a` and `tar` restore times; by the times alone the results of the edit would stay."""
    make()
    file = tmp_path / name
    shutil.copy2(file, tmp_path / "backup")
    file.write_text(f"{name} edited")
    assert make() == again and make() == []
    (tmp_path / "backup").rename(file)
    assert make() == again and make() == []


def test_a_deleted_module_is_noticed(make, tmp_path):
    (tmp_path / "sae_utils" / "y.py").touch()
    (tmp_path / "sae_utils" / "z.py").write_text("z")
    make()
    (tmp_path / "sae_utils" / "z.py").unlink()
    assert make() == ALL


@pytest.mark.parametrize("what", ["file", "dangling link"])
def test_a_build_folder_that_cannot_be_made_is_explained_by_the_package(make, tmp_path, what):
    build = tmp_path / "build"
    build.write_text("") if what == "file" else build.symlink_to("nowhere")
    assert make(2)[-1] == "error: a file cannot be written"
