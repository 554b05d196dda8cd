"""A digest changes with what can change a result, and with nothing else."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numba
import pytest

from sae_utils.engine.core import sources

ALPHA = '''"""Sums."""

from sae_utils import beta
from sae_utils.rooms import zeta
from sae_utils.gamma import three


class Shape:
    """A shape."""

    sides: int = 4
    """how many sides"""


def total(x):
    """Add three."""
    # why
    return beta.two() + three() + zeta.four() + x
'''


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package where `sources` looks for `sae_utils`; nothing imports `epsilon`."""
    for name, text in {
        "alpha": ALPHA,
        "beta": "def two():\n    from sae_utils.delta import one\n\n    return one() + 1\n",
        "gamma": "import numpy as np\n\n\ndef three():\n    return int(np.sum([3]))\n",
        "delta": "from sae_utils import beta  # a circle\n\n\ndef one():\n    return 1\n",
        "epsilon": "x = 1\n",
        "rooms/zeta": "from sae_utils.rooms.beta import two\n\n\ndef four():\n    return two()\n",
        "rooms/beta": "def two():\n    return 4\n",  # not the other beta
    }.items():
        file = tmp_path / "sae_utils" / f"{name}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    monkeypatch.setattr(sources, "PACKAGE", tmp_path / "sae_utils")
    return tmp_path / "sae_utils"


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"""Sums."""', '"""Sums, at length."""'),
        ('"""Sums."""\n', ""),
        ('    """Add three."""\n', ""),
        ('"""A shape."""', '"""Another."""'),
        ('"""how many sides"""', '"""number of sides"""'),
        ('    """how many sides"""\n', ""),
        ("    # why\n", "    # because\n\n"),
        ("beta.two() + three() + zeta.four() + x", "(beta.two()\n            + three() + zeta.four() + x)"),
    ],
)
def test_words_and_layout_leave_the_digest_alone(package, old, new):
    before = sources.code_digest(package / "alpha.py")
    edit(package / "alpha.py", old, new)
    assert sources.code_digest(package / "alpha.py") == before


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        ("alpha", "+ x", "- x"),
        ("alpha", "sides: int = 4", "sides: int = 5"),
        ("beta", "+ 1", "+ 2"),
        ("gamma", "[3]", "[4]"),
        ("delta", "return 1", "return 2"),
        ("rooms/zeta", "return two()", "return -two()"),
        ("rooms/beta", "return 4", "return 5"),
    ],
)
def test_code_of_the_module_and_of_all_it_imports_changes_the_digest(package, module, old, new):
    before = sources.code_digest(package / "alpha.py")
    edit(package / f"{module}.py", old, new)
    assert sources.code_digest(package / "alpha.py") != before


def test_a_module_that_is_not_imported_does_not(package):
    before = sources.code_digest(package / "alpha.py")
    edit(package / "epsilon.py", "1", "2")
    assert sources.code_digest(package / "alpha.py") == before


def test_a_text_that_is_used_is_code(package):
    (package / "alpha.py").write_text('name = "a"\n')
    before = sources.code_digest(package / "alpha.py")
    (package / "alpha.py").write_text('name = "b"\n')
    assert sources.code_digest(package / "alpha.py") != before


def test_the_version_of_a_library_counts_its_build_does_not(package, monkeypatch):
    def digest(version: str) -> str:
        sources._version.cache_clear()
        monkeypatch.setattr(sources.importlib.metadata, "version", lambda library: version)
        return sources.code_digest(package / "alpha.py")

    assert digest("2.1.0") != digest("2.1.1")
    assert digest("2.1.0+cpu") == digest("2.1.0+cu126")
    sources._version.cache_clear()


def test_every_library_of_the_package_has_a_version():
    for file in sources.PACKAGE.rglob("*.py"):
        for name in sources._imports(sources.ast.parse(file.read_text("utf-8"))):
            known = name in sys.stdlib_module_names or name == "__future__" or name.startswith("sae_utils")
            assert known or sources._version(name), f"{file.name} imports {name}"


def test_nothing_is_run(package):
    (package / "alpha.py").write_text("raise SystemExit(1)\n")
    assert len(sources.code_digest(package / "alpha.py")) == 64


def test_the_real_package_is_followed(monkeypatch):
    """`corpora` reaches `spec` through `store`, and numpy; it does not reach `report`."""
    read = []
    monkeypatch.setattr(sources, "_version", lambda library: "")
    original = Path.read_text
    monkeypatch.setattr(Path, "read_text", lambda self, *a, **k: read.append(self.stem) or original(self, *a, **k))
    sources.code_digest(sources.PACKAGE / "engine" / "text" / "corpora.py")
    assert {"corpora", "store", "spec", "sources", "stories", "lexicon"} <= set(read)
    assert not {"report", "models", "pipeline"} & set(read)
    assert len(read) == len(set(read))


def test_digest_of_files_is_that_of_their_contents_in_order(tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"
    a.write_bytes(b"one"), b.write_bytes(b"two" * 100_000)
    expected = hashlib.sha256(b"".join(hashlib.sha256(f.read_bytes()).digest() for f in (a, b))).hexdigest()
    assert sources.digest([a, b]) == expected != sources.digest([b, a])
    a.rename(tmp_path / "c")
    assert sources.digest([tmp_path / "c", b]) == expected


# --- compiled kernels

LOW = """from numba import njit

STEP = 1


@njit(cache=True)
def step(x):
    return x + STEP
"""
TOP = """from numba import njit

from sae_utils.low import step


@njit(cache=True)
def twice(x):
    return step(step(x))
"""
USE = "import numba, os\nfrom sae_utils.top import twice\nprint(twice(0), os.environ['NUMBA_CACHE_DIR'])"


@pytest.fixture
def kernels(tmp_path):
    """A package of two modules with kernels, one of which calls the other's; returns what a process computes."""
    real = sources.PACKAGE
    (tmp_path / "sae_utils" / "engine" / "core").mkdir(parents=True)
    for name in ("__init__.py", "engine/__init__.py", *(f"engine/core/{x}.py" for x in ("__init__", "sources", "cpu"))):
        shutil.copy(real / name, tmp_path / "sae_utils" / name)
    (tmp_path / "sae_utils" / "low.py").write_text(LOW)
    (tmp_path / "sae_utils" / "top.py").write_text(TOP)

    def run(first: str = "", **environment: str) -> tuple[int, Path]:
        own = {key: value for key, value in os.environ.items() if not key.startswith("NUMBA_")}
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", first + USE], env=own | {"PYTHONPATH": str(tmp_path)} | environment,
            cwd="/", capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert done.stderr == ""
        return int(done.stdout.split()[0]), Path(done.stdout.split()[1])

    return run


def kept(folder: Path) -> set[str]:
    return {file.name.partition("-")[0] for file in folder.rglob("*.nbi")}


def test_an_edit_below_a_kernel_compiles_it_anew(kernels, tmp_path):
    """Numba looks at the file of the kernel alone: it would go on to compute with the old step."""
    low = tmp_path / "sae_utils" / "low.py"
    value, first = kernels()
    assert value == 2 and kept(first) == {"low.step", "top.twice"} and first.parent == tmp_path / "build" / "cache"
    edit(low, "STEP = 1", "STEP = 10")
    value, second = kernels()
    assert value == 20 and second != first
    edit(low, "STEP = 10", "STEP = 1  # in other words")
    assert kernels() == (2, first)
    assert kernels(NUMBA_CACHE_DIR=str(second)) == (2, first)  # of a process that started it
    assert kernels("import numba\n", NUMBA_CACHE_DIR=str(tmp_path / "x")) == (2, tmp_path / "x" / first.name)
    assert not list(tmp_path.rglob("__pycache__/*.nbi"))


def test_where_the_checkout_cannot_be_written_kernels_are_temporary(kernels, tmp_path):
    (tmp_path / "build").write_text("in the way")
    (tmp_path / "tmp").mkdir()
    value, folder = kernels(TMPDIR=str(tmp_path / "tmp"))
    assert value == 2 and folder.parent.parent == tmp_path / "tmp" and kept(folder) == {"low.step", "top.twice"}
    folder.parent.chmod(0o777)  # anyone may have put kernels there
    value, other = kernels(TMPDIR=str(tmp_path / "tmp"))
    assert value == 2 and other.parent != folder.parent


def test_folders_of_kernels_that_nobody_uses_go(monkeypatch, tmp_path):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    (tmp_path / "of another program").mkdir()
    for number in range(6):
        (tmp_path / f"{sources.KERNELS}{number}").mkdir()
        os.utime(tmp_path / f"{sources.KERNELS}{number}", (number, number))
    now = sources.keep_kernels()
    left = {file.name for file in tmp_path.iterdir()}
    assert left == {"of another program", now.name, *(f"{sources.KERNELS}{number}" for number in (3, 4, 5))}


def test_the_settings_of_numba_name_another_folder(monkeypatch):
    monkeypatch.delenv("NUMBA_CPU_NAME", raising=False)
    one = sources._kernels_digest()
    monkeypatch.setenv("NUMBA_CACHE_DIR", "anywhere")
    assert sources._kernels_digest() == one
    monkeypatch.setenv("NUMBA_CPU_NAME", "haswell")
    assert sources._kernels_digest() != one


def test_a_disk_without_room_for_temporary_files_is_told_before_torch_asks(monkeypatch):
    def full():
        raise FileNotFoundError(2, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr(sources.tempfile, "gettempdir", full)
    with pytest.raises(SystemExit, match=r"No usable temporary directory found in \['/tmp'\].*free some space"):
        sources.need_temporary()
