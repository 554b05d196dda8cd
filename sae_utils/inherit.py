"""YAML files of one folder that extend one another, read strictly.

In: a folder, the name of a file, the keys that are sections. Out: the keys of the file, those of what it extends
included.
Never: a key that stands twice; a meaning of the keys (`params` knows them).

With `extends`, a key replaces the inherited one whole, but the keys of a section replace one by one; and `"*"` among
models or dictionaries keeps the inherited ones and sets its values in each that has such a key.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import yaml

from sae_utils.spec import ProfileError, nearest


class _Strict(yaml.SafeLoader):
    """YAML in which no key may stand twice: the first would be silently ignored."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(problem="a key that is a list or a mapping", problem_mark=key.start_mark)
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"the key `{key.value}` stands twice", problem_mark=key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def read(folder: Path, name: str, sections: Collection[str], seen: tuple[str, ...] = ()) -> dict[str, Any]:
    """The keys of `<name>.yaml` in a folder; `seen` are the files that extend it.

    Raises:
        ProfileError: no such file, not YAML (with the line), a key twice, a circle of `extends`.
    """
    file = folder / f"{name}.yaml"
    if not file.exists():
        valid = [f.relative_to(folder).with_suffix("").as_posix() for f in folder.rglob("*.yaml")]
        by = f" (params/{seen[-1]}.yaml: extends)" if seen else ""
        raise ProfileError(f"params/{name}.yaml: no such profile{by}; {nearest(name, valid)}")
    if name in seen:
        raise ProfileError(f"params/{name}.yaml: extends: goes in a circle: {' -> '.join([*seen, name])}")
    values = _mapping(file, name)
    if "extends" not in values:
        return values
    base = read(folder, str(values.pop("extends")), sections, (*seen, name))
    for key, value in values.items():
        inherited = base.get(key)
        if key in ("models", "dictionaries") and isinstance(value, dict) and "*" in value:
            base[key] = _everywhere(value, inherited or {}, f"params/{name}.yaml: {key}.*")
        elif key in sections and isinstance(value, dict) and isinstance(inherited, dict):
            base[key] = inherited | value
        else:
            base[key] = value
    return base


def _mapping(file: Path, name: str) -> dict[str, Any]:
    try:
        values = yaml.load(file.read_text("utf-8"), _Strict)
    except UnicodeDecodeError as error:
        raise ProfileError(f"params/{name}.yaml: not UTF-8 at byte {error.start}; save it as UTF-8") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = str(getattr(error, "problem", error))
        remedy = "; a tab, where YAML takes spaces" if "'\\t'" in problem else ""
        raise ProfileError(f"params/{name}.yaml{line}: not YAML: {problem}{remedy}") from None
    if not isinstance(values, dict):
        raise ProfileError(f"params/{name}.yaml: expected keys with values, found {values!r}")
    return values


def _everywhere(value: dict[str, Any], inherited: dict[str, Any], where: str) -> dict[str, Any]:
    """Inherited records with the values under `"*"`, each where it is a key already, and what stands beside `"*"`."""
    everywhere, known = value.pop("*"), {key for record in inherited.values() for key in record}
    for unknown in everywhere.keys() - known:
        raise ProfileError(f"{where}.{unknown}: unknown key; {nearest(unknown, known)}")
    kept = {
        name: record | {key: new for key, new in everywhere.items() if key in record}
        for name, record in inherited.items()
    }
    return kept | value
