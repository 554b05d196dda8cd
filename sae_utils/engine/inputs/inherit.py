"""YAML files of one folder that extend one another, read strictly.

In: a folder, the name of a file, the keys that are sections. Out: the keys of the file, those of what it extends
included.
Never: a meaning of the keys (`params` knows them).

With `extends`, a key replaces the inherited one whole, but the keys of a section replace one by one; and `"*"` among
models or dictionaries keeps the inherited ones and sets its values in each that has such a key.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from sae_utils.engine.core.spec import ProfileError, nearest, shown
from sae_utils.engine.inputs import strict_yaml

DEEPEST = 32  # profiles that extend each other


def read(folder: Path, name: str, sections: Collection[str], seen: tuple[str, ...] = ()) -> dict[str, Any]:
    """The keys of `<name>.yaml` in a folder; `seen` are the files that extend it.

    Raises:
        ProfileError: no such file, a circle of `extends`, a `"*"` over what holds no records; as `strict_yaml.read`.
    """
    valid = [f.relative_to(folder).with_suffix("").as_posix() for f in folder.rglob("*.yaml")]
    if name not in valid:
        by = f" (params/{seen[-1]}.yaml: extends)" if seen else ""
        raise ProfileError(f"params/{name}.yaml: no such profile{by}; {nearest(name, valid)}")
    if name in seen:
        raise ProfileError(f"params/{name}.yaml: extends: goes in a circle: {' -> '.join([*seen, name])}")
    if len(seen) > DEEPEST:
        raise ProfileError(f"params/{seen[0]}.yaml: extends: more than {DEEPEST} profiles in a row")
    values = strict_yaml.read(folder / f"{name}.yaml", f"params/{name}.yaml")
    if "extends" not in values:
        return values
    base = read(folder, str(values.pop("extends")), sections, (*seen, name))
    for key, value in values.items():
        inherited = base.get(key)
        if key in ("models", "dictionaries") and isinstance(value, dict) and "*" in value:
            base[key] = _everywhere(value, inherited, f"params/{name}.yaml: {key}.*")
        elif key in sections and isinstance(value, dict) and isinstance(inherited, dict):
            base[key] = inherited | value
        else:
            base[key] = value
    return base


def _everywhere(value: dict[str, Any], inherited: Any, where: str) -> dict[str, Any]:
    """Inherited records with the values under `"*"`, each where it is a key already, and what stands beside `"*"`."""
    everywhere, beside = value["*"], {name: record for name, record in value.items() if name != "*"}
    if not isinstance(everywhere, dict):
        raise ProfileError(f"{where}: expected a mapping of keys, found {shown(everywhere)}; `{{}}` changes nothing")
    if not (isinstance(inherited, dict) and all(isinstance(record, dict) for record in inherited.values())):
        raise ProfileError(f"{where}: what is inherited here is no mapping of records: {shown(inherited)}")
    known = {key for record in inherited.values() for key in record}
    for unknown in everywhere.keys() - known:
        raise ProfileError(f"{where}.{unknown}: unknown key; {nearest(unknown, known)}")
    kept = {
        name: record | {key: new for key, new in everywhere.items() if key in record}
        for name, record in inherited.items()
    }
    return kept | beside
