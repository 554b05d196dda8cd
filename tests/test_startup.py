"""What the package does when it is imported: little, and before the numerical libraries load."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numba
import pytest

from sae_utils.engine.core import sources, startup

LOW = """from numba import njit

STEP = 1


@njit(cache=True)
def step(x):
    return x + STEP
"""
TOP = """from numba import njit

from sae_utils.engine.kernels.low import step


@njit(cache=True)
def twice(x):
    return step(step(x))
"""
USE = "import numba, os\nfrom sae_utils.engine.kernels.top import twice\nprint(twice(0), os.environ['NUMBA_CACHE_DIR'])"
INITS = [f"{folder}__init__.py" for folder in ("", "engine/", "engine/core/", "engine/kernels/")]


def test_the_import_loads_the_standard_library_only():
    code = "import sys, sae_utils; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    others = set(done.stdout.split()) - sys.stdlib_module_names - {"sae_utils", "__main__"}
    assert not {name for name in others if not name.startswith(("_", "sitecustomize"))}


ARRAYS = (
    "measures",
    "arrays",
    "correlate",
    "matching",
    "labels",
    "filters",
    "nulls",
    "significance",
    "inference",
    "tables",
)
EXTRAS = ("torch", "transformers", "huggingface_hub", "pydantic", "yaml", "filelock", "tqdm", "sklearn", "matplotlib")
BLOCKED = f"""
import importlib, sys, time
sys.modules |= dict.fromkeys({EXTRAS})  # None: their import fails
import sae_utils.correlate
seconds = time.process_time()
for name in {ARRAYS}:
    importlib.import_module(f"sae_utils.{{name}}")
print(seconds)
"""


def test_what_works_on_arrays_needs_numpy_scipy_numba_and_pandas_only():
    done = subprocess.run([sys.executable, "-c", BLOCKED], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 1.5  # 0.35 s of the processor where it is idle


@pytest.fixture
def run(tmp_path):
    """A package of two modules with kernels, of which `top` calls `low`; gives the value and folder of a process."""
    package = tmp_path / "sae_utils"
    (package / "engine" / "core").mkdir(parents=True)
    (package / "engine" / "kernels").mkdir()
    for name in (*INITS, *(f"engine/core/{module}.py" for module in ("sources", "startup", "cpu"))):
        shutil.copy(sources.PACKAGE / name, package / name)
    (package / "engine" / "kernels" / "low.py").write_text(LOW)
    (package / "engine" / "kernels" / "top.py").write_text(TOP)

    def run(first: str = "", **environment: str) -> tuple[int, Path]:
        own = {key: value for key, value in os.environ.items() if not key.startswith("NUMBA_")}
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", first + USE], env=own | {"PYTHONPATH": str(tmp_path)} | environment,
            cwd="/", capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert done.stderr == ""
        return int(done.stdout.split()[0]), Path(done.stdout.split()[1])

    return run


@pytest.fixture
def low(tmp_path):
    return tmp_path / "sae_utils" / "engine" / "kernels" / "low.py"


def compiled(folder: Path) -> set[str]:
    return {file.name.partition("-")[0] for file in folder.rglob("*.nbi")}


def test_an_edit_below_a_kernel_compiles_it_again(run, low, tmp_path):
    """Numba compares the file of a kernel only, and would go on with the old step."""
    value, first = run()
    assert value == 2 and compiled(first) == {"low.step", "top.twice"} and first.parent == tmp_path / "build" / "cache"
    low.write_text(LOW.replace("STEP = 1", "STEP = 10"))
    value, second = run()
    assert value == 20 and second != first
    low.write_text(LOW.replace("STEP = 1", "STEP = 1  # in other words"))
    assert run() == (2, first)
    assert run(NUMBA_CACHE_DIR=str(second)) == (2, first)  # set by a parent process
    assert run("import numba\n", NUMBA_CACHE_DIR=str(tmp_path / "x")) == (2, tmp_path / "x" / first.name)
    assert not list(tmp_path.rglob("__pycache__/*.nbi"))


def test_kernels_are_temporary_where_the_checkout_cannot_be_written(run, tmp_path):
    (tmp_path / "build").write_text("in the way")
    (tmp_path / "tmp").mkdir()
    value, folder = run(TMPDIR=str(tmp_path / "tmp"))
    assert value == 2 and folder.parent.parent == tmp_path / "tmp" and compiled(folder) == {"low.step", "top.twice"}
    folder.parent.chmod(0o777)  # another user may have put kernels there
    value, other = run(TMPDIR=str(tmp_path / "tmp"))
    assert value == 2 and other.parent != folder.parent


@pytest.fixture
def cache(monkeypatch, tmp_path):
    """A folder of kernels for this process."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    return tmp_path


def test_folders_of_kernels_that_are_out_of_use_are_removed(cache):
    (cache / "of another program").mkdir()
    for number in range(6):
        (cache / f"{startup.KERNELS}{number}").mkdir()
        os.utime(cache / f"{startup.KERNELS}{number}", (number, number))
    now = startup.keep_kernels()
    left = {file.name for file in cache.iterdir()}
    assert left == {"of another program", now.name, *(f"{startup.KERNELS}{number}" for number in (3, 4, 5))}


def test_code_is_read_only_when_a_file_or_a_setting_has_changed(cache, monkeypatch):
    first = startup.keep_kernels()
    with monkeypatch.context() as patch:
        patch.setattr(startup, "code_digest", lambda file: pytest.fail("the code is as it was"))
        assert startup.keep_kernels() == first
    (first / startup.STAMP).write_text("of older files")
    assert startup.keep_kernels() == first
    monkeypatch.setenv("NUMBA_CPU_NAME", "another")
    assert startup.keep_kernels() != first


def test_settings_of_numba_name_another_folder(monkeypatch):
    monkeypatch.delenv("NUMBA_CPU_NAME", raising=False)
    one = startup._kernels_digest()
    monkeypatch.setenv("NUMBA_CACHE_DIR", "anywhere")
    assert startup._kernels_digest() == one
    monkeypatch.setenv("NUMBA_CPU_NAME", "haswell")
    assert startup._kernels_digest() != one


def test_a_disk_without_room_for_temporary_files_ends_the_program(monkeypatch):
    def full():
        raise FileNotFoundError(2, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr(startup.tempfile, "gettempdir", full)
    with pytest.raises(SystemExit, match=r"No usable temporary directory found in \['/tmp'\].*free some space"):
        startup.need_temporary()
