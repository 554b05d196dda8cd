"""The values that a profile may hold: typed, documented records that refuse unknown keys.

In: a mapping read from YAML. Out: a frozen record, or one error that names file, key and remedy.
Never: a file, a default that is looked up elsewhere, coercion of types.
"""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError


class ProfileError(ValueError):
    """A profile cannot be run; the message names file, key and remedy."""


class NameUnknown(ValueError):
    """Raised by a validator of a record; its message says what is wrong and names the remedy."""


def refuse(problems: Iterable[str]) -> None:
    """Raise ProfileError with each of the problems on a line, once; do nothing where there are none."""
    if lines := list(dict.fromkeys(problems)):
        raise ProfileError("\n".join(lines))


Seed = Annotated[int, Field(ge=0, lt=2**32)]  # of a generator of random numbers
Count = Annotated[int, Field(gt=0, lt=2**31)]  # at least one
Rate = Annotated[float, Field(gt=0, le=1)]  # of learning, or a share above zero


class Spec(BaseModel):
    """Base of every record in a profile: frozen, strict about types, unknown keys and NaN or infinity refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


AnySpec = TypeVar("AnySpec", bound=Spec)


def nearest(word: object, valid: Iterable[object]) -> str:
    """The remedy for an unknown word: the nearest valid one, or all of them."""
    valid = sorted(map(str, valid))
    close = difflib.get_close_matches(str(word), valid, n=1, cutoff=0.5)
    return f"did you mean `{close[0]}`?" if close else f"valid: {', '.join(valid) or '(none)'}"


def check_defined(kind: str, name: object, names: Iterable[object], where: str) -> None:
    """Raise ProfileError if no `kind` has that name, which may be anything; `where`: file and key."""
    if name not in list(names):
        raise ProfileError(f"{where}: no {kind} is called {name!r}; {nearest(name, names)}")


def quote(value: Any) -> str:
    """A value as a message quotes it: its first 200 characters."""
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."


def _remedy(problem: str, value: Any) -> str:
    """A hint with the YAML of the value that was probably meant; empty if there is none."""
    if problem == "float_type" and isinstance(value, str):
        return " (YAML reads 1e-3 as text: write 1.0e-3)"
    if problem == "bool_type" and isinstance(value, str):
        return " (write true or false)"
    if problem == "string_type" and isinstance(value, bool | int | float):
        return " (write it in quotes, if it is a name)"
    return ""


def build(kind: type[AnySpec], value: Any, where: str, names: Mapping[str, Any] | None = None) -> AnySpec:
    """The record of class `kind` with the values of a mapping from a YAML file.

    `where`: file and dotted key, for messages; `names`: names that validators look up (pydantic's context). Raises
    ProfileError for unknown or missing keys, wrong types, and values out of range; a line for each.
    """
    if not isinstance(value, Mapping):
        raise ProfileError(f"{where}: expected a mapping of keys, found {quote(value)}")
    try:
        return kind.model_validate(dict(value), context=names)
    except ValidationError as error:
        found = [dict(problem) for problem in error.errors()]
    if unknown := [problem for problem in found if problem["type"] == "extra_forbidden"]:
        # a misspelt key is unknown, and the one that was meant is missing
        found = unknown + [problem for problem in found if problem["type"] not in ("extra_forbidden", "missing")]
    raise ProfileError("\n".join(_message(kind, problem, where) for problem in found))


def _message(kind: type[Spec], problem: Mapping[str, Any], where: str) -> str:
    """One problem that pydantic found, in one line: key, problem, remedy."""
    *path, last = loc = [step for step in problem["loc"] if step != "[key]"] or [""]
    key = where + ("" if where.endswith(" ") or loc == [""] else ".") + ".".join(map(str, loc))
    if problem["type"] == "extra_forbidden":
        return f"{key}: unknown key; {nearest(last, _inner(kind, path).model_fields)}"
    if problem["type"] == "missing":
        return f"{key}: missing; add it, or inherit it with `extends: demo`"
    if isinstance(error := problem.get("ctx", {}).get("error"), NameUnknown):
        return f"{key}: {error}"
    message = f"{problem['msg'][0].lower()}{problem['msg'][1:]}, found {quote(problem['input'])}"
    return f"{key}: {message}{_remedy(problem['type'], problem['input'])}"


def _inner(kind: type[Spec], path: Sequence[int | str]) -> type[Spec]:
    """The class of the record to which `path` leads inside `kind`."""
    for step in path:
        field = kind.model_fields.get(str(step))
        held = (field.annotation, *get_args(field.annotation)) if field else ()
        kind = next((inner for inner in held if isinstance(inner, type) and issubclass(inner, Spec)), kind)
    return kind


def choose(kinds: Mapping[str, type[Spec]], value: Any, where: str) -> Spec:
    """The record of the class that its key `kind` names among `kinds`.

    Raises ProfileError as `build`, and for a missing or unknown `kind`.
    """
    if not isinstance(value, Mapping):
        raise ProfileError(f"{where}: expected a mapping with a `kind`, found {quote(value)}")
    name = str(value.get("kind"))
    if name not in kinds:
        raise ProfileError(f"{where}.kind: unknown kind {name!r}; {nearest(name, kinds)}")
    return build(kinds[name], value, where)
