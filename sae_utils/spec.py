"""What a value of a profile may be: typed, documented records that refuse what they do not know.

In: a mapping read from YAML. Out: a frozen record, or one error that names file, key and remedy.
Never: files, defaults that are looked up elsewhere, coercion of types.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError


class ProfileError(ValueError):
    """A profile says something that cannot be run; the message names file, key and remedy."""


Seed = Annotated[int, Field(ge=0, lt=2**32)]
"""what every generator of random numbers takes"""
Count = Annotated[int, Field(gt=0, lt=2**31)]
"""of things of which there is at least one"""
Rate = Annotated[float, Field(gt=0, le=1)]
"""of learning; or a share that is not nothing"""


class Spec(BaseModel):
    """Base of every record in a profile: frozen, strict about types, unknown keys and NaN or infinity refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


AnySpec = TypeVar("AnySpec", bound=Spec)


def nearest(word: str, valid: Iterable[str]) -> str:
    """The remedy for an unknown word: the nearest valid one, else all of them."""
    valid = sorted(valid)
    close = difflib.get_close_matches(word, valid, n=1, cutoff=0.5)
    return f"did you mean `{close[0]}`?" if close else f"valid: {', '.join(valid) or '(none)'}"


def shown(value: Any) -> str:
    """A value as a message quotes it: its first 200 characters."""
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."


def _remedy(problem: str, value: Any) -> str:
    """How the value that was probably meant is written in YAML; empty where nobody can tell."""
    if problem == "float_type" and isinstance(value, str):
        return " (YAML reads 1e-3 as text: write 1.0e-3)"
    if problem == "bool_type" and isinstance(value, str):
        return " (write true or false)"
    if problem == "string_type" and isinstance(value, bool | int | float):
        return " (write it in quotes, if it is a name)"
    return ""


def build(kind: type[AnySpec], value: Any, where: str) -> AnySpec:
    """Check `value` against the record `kind`.

    Args:
        kind: the record's class.
        value: what the YAML file holds there.
        where: file and dotted key, for the message.

    Raises:
        ProfileError: unknown or missing key, wrong type, value out of range.
    """
    if not isinstance(value, Mapping):
        raise ProfileError(f"{where}: expected a mapping of keys, found {shown(value)}")
    try:
        return kind.model_validate(dict(value))
    except ValidationError as error:
        # a misspelt key is unknown, and the one that was meant is missing
        first = min(error.errors(), key=lambda found: found["type"] != "extra_forbidden")
        *path, last = first["loc"] or ("",)
        key = where + ("" if where.endswith(" ") else ".") * bool(first["loc"]) + ".".join(map(str, first["loc"]))
        if first["type"] == "extra_forbidden":
            message = f"unknown key; {nearest(str(last), _inner(kind, path).model_fields)}"
        elif first["type"] == "missing":
            message = "missing; add it, or inherit it with `extends: demo`"
        else:
            message = f"{first['msg'][0].lower()}{first['msg'][1:]}, found {shown(first['input'])}"
            message += _remedy(first["type"], first["input"])
        raise ProfileError(f"{key}: {message}") from None


def _inner(kind: type[Spec], path: Sequence[int | str]) -> type[Spec]:
    """The record that `path` leads to inside `kind`."""
    for step in path:
        field = kind.model_fields.get(str(step))
        held = (field.annotation, *get_args(field.annotation)) if field else ()
        kind = next((inner for inner in held if isinstance(inner, type) and issubclass(inner, Spec)), kind)
    return kind


def choose(kinds: Mapping[str, type[Spec]], value: Any, where: str) -> Spec:
    """Check a record whose key `kind` names its class among `kinds`.

    Raises:
        ProfileError: as `build`, and for a missing or unknown `kind`.
    """
    if not isinstance(value, Mapping):
        raise ProfileError(f"{where}: expected a mapping with a `kind`, found {shown(value)}")
    name = str(value.get("kind"))
    if name not in kinds:
        raise ProfileError(f"{where}.kind: unknown kind {name!r}; {nearest(name, kinds)}")
    return build(kinds[name], value, where)
