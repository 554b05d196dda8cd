"""A strict reader of YAML for profiles: ambiguous, repeated and oversized content is refused with its line.

In: a file. Out: its keys with their values: text, whole numbers, finite numbers, true, false, null, lists, mappings.
Never: a date, a number to base 8 or 60, `no` for false; a value of any other kind; more than `SIZE` values.
"""

import math
import re
from pathlib import Path
from typing import Any

import yaml

from sae_utils.engine.core.spec import ProfileError, quote

BYTES = 1 << 18  # in a file; the longest profile has 20,000
SIZE = 100_000  # values in a file; those that an alias repeats count again
DEPTH = 32  # lists and mappings inside each other
DIGITS = 18  # in a whole number, which then fits into 64 bits

PLAIN = {  # without quotes, these are not text: as in YAML 1.2, except that 1e-3 is text
    "bool": r"true|True|TRUE|false|False|FALSE",
    "int": r"[-+]?(0|[1-9][0-9_]*)",
    "float": r"[-+]?([0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
    "null": r"~|null|Null|NULL|",
    "merge": r"<<",
}
TAG = "tag:yaml.org,2002:"
TAGS = {
    yaml.ScalarNode: {TAG + kind for kind in ("str", *PLAIN)},
    yaml.SequenceNode: {TAG + "seq"},
    yaml.MappingNode: {TAG + "map"},
}


class _Refused(yaml.MarkedYAMLError):
    """Valid YAML that a profile may not hold."""


class _Strict(yaml.SafeLoader):
    """A loader that refuses repeated keys (YAML would ignore the first) and all kinds of values that are not listed."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.inside = 0  # lists and mappings that are open
        self.sizes: dict[yaml.Node, tuple[int, int]] = {}  # number of values, with the node itself; depth

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self.inside += 1
        if self.inside > DEPTH:
            raise _refused(self.peek_event(), f"more than {DEPTH} lists or mappings inside each other")
        at = self.peek_event()
        node = super().compose_node(parent, index)
        self.inside -= 1
        if node is not None and not isinstance(at, yaml.AliasEvent):
            self.sizes[node] = self._size(node)
        elif node not in self.sizes:
            raise _refused(at, "an alias inside of what it stands for")
        return node

    def _size(self, node: yaml.Node) -> tuple[int, int]:
        if node.tag not in TAGS[type(node)]:
            raise _refused(node, f"the tag `{node.tag.replace(TAG, '!!')}`; leave it out")
        held = [] if isinstance(node, yaml.ScalarNode) else node.value
        parts = [part for x in held for part in (x if isinstance(x, tuple) else (x,))]
        size = 1 + sum(self.sizes[part][0] for part in parts)
        depth = 1 + max((self.sizes[part][1] for part in parts), default=0)
        if size > SIZE:
            raise _refused(node, f"more than {SIZE:,} values, those that an alias repeats included")
        if depth > DEPTH:
            raise _refused(node, f"more than {DEPTH} lists or mappings inside each other, by aliases")
        return size, depth

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _refused(key, "not YAML: a key that is a list or a mapping")
            if key.tag not in [TAG + kind for kind in ("str", "int", "merge")]:
                raise _refused(key, f"the key `{key.value}` is no text; write it in quotes")
            if key.value in seen:
                raise _refused(key, f"not YAML: the key `{key.value}` stands twice")
            seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        if node.tag == TAG + "int" and len(node.value) > DIGITS:
            raise _refused(node, f"a whole number of more than {DIGITS} digits")
        try:
            value = super().construct_object(node, deep)
        except (ValueError, KeyError):  # of a tag, as in `!!int many`
            raise _refused(node, f"{quote(node.value)} is no {node.tag.removeprefix(TAG)}") from None
        if isinstance(value, float) and not math.isfinite(value):
            raise _refused(node, f"`{node.value[:40]}` is no finite number")
        if isinstance(value, str) and (bad := re.search("[\ud800-\udfff]", value)):
            raise _refused(node, f"text with U+{ord(bad[0]):04X}, which no file holds")
        return value


_Strict.yaml_implicit_resolvers = {}
for kind, pattern in PLAIN.items():
    _Strict.add_implicit_resolver(TAG + kind, re.compile(rf"(?:{pattern})\Z"), None)


def _refused(at: Any, problem: str) -> _Refused:
    return _Refused(problem=problem, problem_mark=at.start_mark)


def read(file: Path, name: str) -> dict[str, Any]:
    """The keys and values of a file, which messages call `name`.

    Raises ProfileError for a file that cannot be read, is too large, is not UTF-8 or not YAML (with the line), or holds
    no mapping.
    """
    try:
        if file.is_fifo():  # reading would wait for a writer
            raise ProfileError(f"{name}: is a pipe; put a YAML file in its place")
        with file.open("rb") as opened:
            content = opened.read(BYTES + 1)
        if len(content) > BYTES:
            raise ProfileError(f"{name}: larger than {BYTES:,} bytes; no profile is, and lists of words have own files")
        values = yaml.load(content.decode("utf-8"), _Strict)
    except OSError as error:
        raise ProfileError(f"{name}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ProfileError(f"{name}: not UTF-8 at byte {error.start}; save it as UTF-8") from None
    except yaml.YAMLError as error:
        raise ProfileError(_message(error, name)) from None
    if not isinstance(values, dict):
        raise ProfileError(f"{name}: expected keys with values, found {quote(values)}")
    return values


def _message(error: yaml.YAMLError, name: str) -> str:
    if isinstance(error, yaml.reader.ReaderError):
        return f"{name}: not YAML: character {error.position + 1} is {error.character!r}, which no text has"
    mark, problem = getattr(error, "problem_mark", None), str(getattr(error, "problem", error))
    remedy = "; a tab, where YAML takes spaces" if "'\\t'" in problem else ""
    kind = "" if isinstance(error, _Refused) else "not YAML: "
    return f"{name}{f', line {mark.line + 1}' if mark else ''}: {kind}{problem}{remedy}"
