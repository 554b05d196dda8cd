"""A digest changes with everything that can change a result, and with nothing else."""

import hashlib
import sys
from pathlib import Path

import pytest

from sae_utils.engine.core import sources

ALPHA = '''"""Sums."""

from sae_utils import beta
from sae_utils.engine.kernels import zeta
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
MODULES = {
    "alpha": ALPHA,
    "beta": "def two():\n    from sae_utils.delta import one\n\n    return one() + 1\n",
    "gamma": "import numpy as np\n\n\ndef three():\n    return int(np.sum([3]))\n",
    "delta": "from sae_utils import beta  # a circular import\n\n\ndef one():\n    return 1\n",
    "epsilon": "x = 1\n",
    "engine/kernels/zeta": "from sae_utils.engine.core.beta import two\n\n\ndef four():\n    return two()\n",
    "engine/core/beta": "import sae_utils.engine.core.eta\n\n\ndef two():\n    return 4\n",  # not the other beta
    "engine/core/eta": "x = 1\n",
    "engine/core/theta": "x = 1\n",
    "engine/eta": "x = 1\n",
}
NOT_IMPORTED = ["epsilon", "engine/core/theta", "engine/eta"]  # `alpha` does not import them


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package in the place of `sae_utils`."""
    for name, text in MODULES.items():
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
def test_docstrings_comments_and_layout_do_not_count(package, old, new):
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
        ("engine/kernels/zeta", "return two()", "return -two()"),
        ("engine/core/beta", "return 4", "return 5"),
        ("engine/core/eta", "x = 1", "x = 2"),
    ],
)
def test_code_of_the_module_and_of_all_that_it_imports_counts(package, module, old, new):
    before = sources.code_digest(package / "alpha.py")
    edit(package / f"{module}.py", old, new)
    assert sources.code_digest(package / "alpha.py") != before


@pytest.mark.parametrize("module", NOT_IMPORTED)
def test_code_elsewhere_does_not_count(package, module):
    before = sources.code_digest(package / "alpha.py")
    edit(package / f"{module}.py", "1", "2")
    assert sources.code_digest(package / "alpha.py") == before


def test_a_text_that_is_used_is_code(package):
    (package / "alpha.py").write_text('name = "a"\n')
    before = sources.code_digest(package / "alpha.py")
    (package / "alpha.py").write_text('name = "b"\n')
    assert sources.code_digest(package / "alpha.py") != before


def test_the_version_of_a_library_counts_and_its_build_does_not(package, monkeypatch):
    def digest(version: str) -> str:
        sources._version.cache_clear()
        monkeypatch.setattr("importlib.metadata.version", lambda library: version)
        return sources.code_digest(package / "alpha.py")

    assert digest("2.1.0") != digest("2.1.1")
    assert digest("2.1.0+cpu") == digest("2.1.0+cu126")
    sources._version.cache_clear()


def test_every_library_of_the_package_has_a_version():
    for file in sources.PACKAGE.rglob("*.py"):
        for name in sources._imports(sources.ast.parse(file.read_text("utf-8"))):
            # an artefact of UMAP is given its version; Pillow makes none
            versionless = name in {*sys.stdlib_module_names, "__future__", "umap", "PIL"} or name.startswith(
                "sae_utils"
            )
            assert versionless or sources._version(name), f"{file.name} imports {name}"


def test_a_digest_runs_no_code(package):
    (package / "alpha.py").write_text("raise SystemExit(1)\n")
    assert len(sources.code_digest(package / "alpha.py")) == 64


def test_the_imports_of_the_package_are_followed(monkeypatch):
    """`corpora` imports `spec`, directly and through `store`; it does not import `report`."""
    read = []
    monkeypatch.setattr(sources, "_version", lambda library: "")
    original = Path.read_text
    monkeypatch.setattr(Path, "read_text", lambda self, *a, **k: read.append(self.stem) or original(self, *a, **k))
    sources.code_digest(sources.PACKAGE / "engine" / "text" / "corpora.py")
    assert {"corpora", "store", "files", "spec", "sources", "stories", "lexicon"} <= set(read)
    assert not {"report", "models", "pipeline", "tokenization"} & set(read)
    assert len(read) == len(set(read))


def test_no_import_is_relative():
    """A digest does not follow `from . import x`."""
    nodes = [
        node for file in sources.PACKAGE.rglob("*.py") for node in sources.ast.walk(sources.ast.parse(file.read_text()))
    ]
    assert not any(isinstance(node, sources.ast.ImportFrom) and node.level for node in nodes)


def test_the_digest_of_files_is_that_of_their_contents_in_order(tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"
    a.write_bytes(b"one"), b.write_bytes(b"two" * 100_000)
    expected = hashlib.sha256(b"".join(hashlib.sha256(f.read_bytes()).digest() for f in (a, b))).hexdigest()
    assert sources.digest([a, b]) == expected != sources.digest([b, a])
    a.rename(tmp_path / "c")
    assert sources.digest([tmp_path / "c", b]) == expected
