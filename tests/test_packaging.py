"""The package's metadata and code agree: version, libraries, order of imports."""

import ast
import importlib.metadata
import re
import sys
import tomllib

import pytest
import yaml

from sae_utils.engine.core.sources import INSTALLED_AS, PACKAGE, REPOSITORY
from sae_utils.engine.params import NOTEBOOKS

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
ALL = EXTRAS["dev"]
NAMED = {**INSTALLED_AS, "PIL": "pillow", "umap": "umap-learn"}  # no key of an artefact finds these two by their module
BROUGHT_ALONG = {"llvmlite": "numba is built on it"}
UNSEEN = {"ipykernel": "runs the notebooks"}
PINS = dict(line.split("==") for line in (REPOSITORY / "constraints.txt").read_text("utf-8").split())


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def imports(tree: ast.Module) -> set[str]:
    """Dotted names of all imports, those inside functions included."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def imported() -> set[str]:
    """Distributions that modules and notebooks import, by the name under which they are installed."""
    files = (*PACKAGE.rglob("*.py"), *NOTEBOOKS.glob("*.py"))
    found = {name.split(".")[0] for file in files for name in imports(ast.parse(file.read_text("utf-8")))}
    return {canonical(NAMED.get(name, name)) for name in found - sys.stdlib_module_names - {PACKAGE.name}}


def test_the_dependencies_are_what_is_imported():
    named = {
        canonical(name) for name in (*PROJECT["dependencies"], *EXTRAS["models"], *EXTRAS["paper"], *EXTRAS["geometry"])
    }
    assert named - set(UNSEEN) == imported() - set(BROUGHT_ALONG)


def test_arrays_need_four_libraries_and_dev_brings_all():
    assert PROJECT["dependencies"] == ["numba", "numpy", "pandas", "scipy"]
    assert ALL[0] == f"{PROJECT['name']}[models,paper,geometry]"
    conda = yaml.safe_load((REPOSITORY / "environment.yml").read_text("utf-8"))
    assert conda["dependencies"][-1]["pip"] == ["--constraint constraints.txt", "--editable .[dev]"]


@pytest.mark.parametrize(
    "name", [*PROJECT["dependencies"], *EXTRAS["models"], *EXTRAS["paper"], *EXTRAS["geometry"], *ALL[1:]]
)
def test_every_dependency_is_pinned(name):
    pins = {canonical(pin): version for pin, version in PINS.items()}
    assert canonical(name) in pins
    if canonical(name) in {canonical(d.name) for d in importlib.metadata.distributions()}:
        assert importlib.metadata.version(name).split("+")[0] == pins[canonical(name)], "remake the environment"


def test_one_version():
    version = PROJECT["version"]
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text("utf-8"))
    assert citation["version"] == version and citation["license"] == PROJECT["license"]
    changes = (REPOSITORY / "CHANGELOG.md").read_text("utf-8")
    releases = re.findall(r"^## \[([\d.]+)\] - \d{4}-\d\d-\d\d$", changes, re.MULTILINE)
    assert releases[0] == version and len(set(releases)) == len(releases)


ARRAYS = "arrays measures nulls significance inference correlate matching filters labels tables".split()


def at_start(name: str, seen: set[str]) -> set[str]:
    """Libraries that importing a module of the package imports, outside functions and `try`."""
    file = PACKAGE.parent.joinpath(*name.split(".")).with_suffix(".py")
    if name in seen or not file.exists():
        return set()
    seen.add(name)
    tree = ast.parse(file.read_text("utf-8"))
    statements = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    found = set()
    for imported in imports(ast.Module(statements, [])):
        if imported.startswith(f"{PACKAGE.name}."):
            found |= at_start(imported, seen) | at_start(imported.rpartition(".")[0], seen)
        else:
            found.add(imported.split(".")[0])
    return found - sys.stdlib_module_names


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_import_no_other_library(name):
    assert at_start(f"{PACKAGE.name}.{name}", set()) <= {*PROJECT["dependencies"], *BROUGHT_ALONG}


ROOMS = """
    engine.core arrays engine.inputs store sweep nulls engine.kernels engine.geometry measures correlate engine.pairs
    matching labels filters engine.chance significance inference tables engine.text engine.families engine.params
    engine.lms engine.saes engine.tokens pipeline replicates report
    studies.models_and_dictionaries studies.feature_matching studies.one_to_one studies.layer_sweep
    studies.semantic_subspaces studies.llm_vs_sae studies.geometry studies.known_truth studies.recovery
    studies.controls studies.sensitivity studies.twins studies.function studies.joint studies.across_tokenizers
    studies.published_tables studies.training
    engine.checks profiles page engine.build __main__
""".split()


def room(name: str) -> str | None:
    """The room of a module, or of a name in it; None for other packages."""
    inside = name.removeprefix(f"{PACKAGE.name}.")
    return None if inside == name else next((r for r in ROOMS if f"{inside}.".startswith(f"{r}.")), inside)


@pytest.mark.parametrize("name", ROOMS)
def test_a_room_imports_from_those_before_it(name):
    path = PACKAGE.joinpath(*name.split("."))
    for file in path.rglob("*.py") if path.is_dir() else [path.with_suffix(".py")]:
        for imported in filter(None, map(room, imports(ast.parse(file.read_text("utf-8"))))):
            assert ROOMS.index(imported) <= ROOMS.index(name), f"{file.name}: {imported}"


def test_every_module_is_in_a_room():
    modules = {".".join(("x", *file.relative_to(PACKAGE).with_suffix("").parts)) for file in PACKAGE.rglob("*.py")}
    modules = {name.removeprefix("x.") for name in modules if not name.endswith("__init__")}
    assert all(any(f"{name}.".startswith(f"{r}.") for r in ROOMS) for name in modules)
