"""What the package says of itself: one version everywhere, and the libraries that it imports."""

import ast
import importlib.metadata
import re
import sys
import tomllib

import pytest
import yaml

from sae_utils.params import NOTEBOOKS
from sae_utils.sources import INSTALLED_AS, PACKAGE, REPOSITORY

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
UNSEEN = {"ipykernel": "runs the notebooks", "jinja2": "pandas sets tables with it"}
PINS = dict(line.split("==") for line in (REPOSITORY / "constraints.txt").read_text("utf-8").split())


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def imports(tree: ast.Module) -> set[str]:
    """Dotted names of all that is imported, at the top and inside functions."""
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
    return {canonical(INSTALLED_AS.get(name, name)) for name in found - sys.stdlib_module_names - {PACKAGE.name}}


def test_the_dependencies_are_what_is_imported():
    named = {canonical(name) for name in PROJECT["dependencies"]}
    assert named - set(UNSEEN) == imported()


@pytest.mark.parametrize("name", [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"]])
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


ORDER = ("text", "lms", "saes", "pairing", "geometry", "chance", "studies")


@pytest.mark.parametrize("package", ORDER)
def test_a_package_imports_from_those_before_it(package):
    """And of the modules beside the packages only what knows of no profile, but for the studies."""
    later = {f"{PACKAGE.name}.{name}" for name in ORDER[ORDER.index(package) + 1 :]}
    if package != "studies":
        later |= {f"{PACKAGE.name}.{name}" for name in ("params", "pipeline", "report", "plan", "execute", "notebooks")}
    for file in (PACKAGE / package).glob("*.py"):
        for name in imports(ast.parse(file.read_text("utf-8"))):
            assert not any(name == other or name.startswith(f"{other}.") for other in later), f"{file.name}: {name}"
