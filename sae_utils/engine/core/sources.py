"""Digests of the inputs of a result: files, code without docstrings, and library versions.

In: paths of files. Out: sha256 digests.
Never: imports or runs what it digests.
"""

import ast
import functools
import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2]
REPOSITORY = PACKAGE.parent
INSTALLED_AS = {"ot": "POT", "sklearn": "scikit-learn", "yaml": "PyYAML"}  # imported name -> name of the distribution


def digest(files: Sequence[Path]) -> str:
    """sha256 (hex) of the files' contents, in the order given."""
    total = hashlib.sha256()
    for file in files:
        with open(file, "rb") as stream:
            total.update(hashlib.file_digest(stream, "sha256").digest())
    return total.hexdigest()


def code_digest(file: Path) -> str:
    """sha256 (hex) of the code that can change what a module or a notebook computes.

    Covers its syntax tree and those of all `sae_utils` modules that it imports, directly or through others, without
    docstrings and comments, and the versions of the libraries that they import.
    """
    trees: dict[str, str] = {}
    libraries: dict[str, str] = {}
    queue = [file]
    while queue:
        file = queue.pop()
        name = str(file.relative_to(PACKAGE)) if file.is_relative_to(PACKAGE) else file.name
        if name in trees:
            continue
        trees[name], imports = _code(file.read_text("utf-8"))
        for imported in imports:
            if imported.startswith(f"{PACKAGE.name}."):
                queue += _module(imported)
            else:
                libraries.setdefault(imported, _version(imported))
    return hashlib.sha256(json.dumps([trees, libraries], sort_keys=True).encode()).hexdigest()


@functools.cache
def _code(text: str) -> tuple[str, list[str]]:
    """A module without docstrings and comments, and its imports."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            node.body = [statement for statement in node.body if not _is_docstring(statement)]
    return ast.unparse(tree), list(_imports(tree))


def _is_docstring(statement: ast.stmt) -> bool:
    """Whether a statement is a bare text: of a module, class or function, or below an attribute."""
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def _imports(tree: ast.Module) -> Iterator[str]:
    """Dotted names of imported package modules or their members, and top-level names of libraries."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (name if name.startswith(f"{PACKAGE.name}.") else name.split(".")[0] for name in names)


def _module(name: str) -> list[Path]:
    """The file of the module `name`, or of the module that defines the member `name`; None for a package."""
    file = PACKAGE.parent.joinpath(*name.split("."))
    return [found for found in (file.with_suffix(".py"), file.parent.with_suffix(".py")) if found.exists()]


@functools.cache
def _version(library: str) -> str:
    import importlib.metadata

    try:
        # torch's builds for CPU and CUDA are one version
        return importlib.metadata.version(INSTALLED_AS.get(library, library)).split("+")[0]
    except importlib.metadata.PackageNotFoundError:  # the standard library
        return ""
