"""Families of replicates in a profile: one record stands for as many models or dictionaries as there are seeds.

In: the keys of a profile, of which `replicates` lists the seeds. Out: the same keys with a record under a plain name
for every member, and the names of the members by family.
Never: a check of anything else in a record; a name that later modules would have to take apart.

A toy with `replicates: all` (or a number: so many at most, the first ones) becomes a family, with a member `toy_s` for
each seed s. Twins, checkpoints and dictionaries of a family are families by themselves, with as many members or, by a
number, with fewer. With `replicates: first` a record keeps its plain name and belongs to the first replicate. To the
seed that a record gives, each member adds its s; toys on stories read stories of seed s, in the scrambled world under
the exchange of words of seed s.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from sae_utils.engine.core.spec import ProfileError, nearest, quote

KINDS = ("models", "dictionaries")


class _Record(NamedTuple):
    """A record with what it says of its replicates."""

    values: dict[str, Any]  # without `replicates`
    asked: Any  # None where it says nothing
    parent: tuple[str, str] | None  # kind and name of the record that it reads or derives from

    @classmethod
    def of(cls, kind: str, values: Mapping[str, Any]) -> "_Record":
        rest = {key: value for key, value in values.items() if key != "replicates"}
        name, of = ("of", kind) if "of" in values else ("model", "models")
        parent = (of, str(values[name])) if name in values else None
        return cls(rest, values.get("replicates"), parent)


class _Families:
    """All records of a profile, and how many members each has."""

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        self.where, self.seeds = where, _seeds(values.get("replicates", []), where)
        self.stories = isinstance(values.get("corpus"), Mapping) and values["corpus"].get("kind") == "stories"
        self.records = {
            (kind, str(name)): _Record.of(kind, record)
            for kind in KINDS
            if isinstance(values.get(kind), Mapping)
            for name, record in values[kind].items()
            if isinstance(record, Mapping)
        }

    def size(self, key: tuple[str, str], above: tuple[tuple[str, str], ...] = ()) -> int | str:
        """Number of members of a record; 0 for a plain one, "first" for a plain one of the first replicate."""
        if key not in self.records or key in above:  # no model at all and a circle are refused later
            return 0
        record, where = self.records[key], f"{self.where}: {'.'.join(key)}.replicates"
        limit: int | str = 0 if record.values.get("kind") == "pretrained" else len(self.seeds)
        if record.parent:
            self._check_parent(key, record)
            if record.parent not in self.records:
                return 0
            limit = self.size(record.parent, (*above, key))
        if record.asked is None:
            return limit if record.parent else 0
        if not isinstance(limit, int) or limit == 0:
            raise ProfileError(f"{where}: {record.asked!r}, but {self._why(record)}")
        if record.asked == "all":
            return limit
        if record.asked == "first":
            return "first"
        return _number(record.asked, limit, where)

    def _check_parent(self, key: tuple[str, str], record: _Record) -> None:
        assert record.parent
        of, name = record.parent
        names = [other for kind, other in self.records if kind == of]
        if names and name not in names:
            where = f"{self.where}: {'.'.join(key)}.{'of' if 'of' in record.values else 'model'}"
            raise ProfileError(f"{where}: nothing is called {name!r}; {nearest(name, names)}")

    def _why(self, record: _Record) -> str:
        if record.parent:
            return f"{'.'.join(record.parent)} is no family; leave `replicates` out"
        if record.values.get("kind") == "pretrained":
            return "only models trained here have replicates; leave it out"
        return "`replicates` of the profile lists no seed"

    def members(self, key: tuple[str, str]) -> dict[str, dict[str, Any]]:
        """The records into which a record expands, by name."""
        size, name, values = self.size(key), key[1], self.records[key].values
        if size == "first":
            return {name: self._member(key, self.seeds[0])}
        if not isinstance(size, int) or size == 0:
            return {name: values}
        return {f"{name}_{seed}": self._member(key, seed) for seed in self.seeds[:size]}

    def _member(self, key: tuple[str, str], seed: int) -> dict[str, Any]:
        """The record of the member of one seed."""
        record = self.records[key]
        values = dict(record.values)
        if record.parent and isinstance(size := self.size(record.parent), int) and size:
            values["of" if "of" in values else "model"] = f"{record.parent[1]}_{seed}"
        if isinstance(values.get("seed"), int):
            values["seed"] += seed
        if values.get("kind") == "toy" and self.stories:
            values["trained_on"] = self._own_stories(values.get("trained_on", {}), seed, key)
        return values

    def _own_stories(self, given: Any, seed: int, key: tuple[str, str]) -> Any:
        if not isinstance(given, Mapping):
            return given  # refused with the record
        if taken := {"seed", "permutation"} & given.keys():
            where = f"{self.where}: {'.'.join(key)}.trained_on.{min(taken)}"
            raise ProfileError(f"{where}: every replicate reads stories of its own seed; leave it out")
        own = {"seed": seed, "permutation": seed} if given.get("world") == "scrambled" else {"seed": seed}
        return dict(given) | own


def expand(values: Mapping[str, Any], where: str) -> tuple[dict[str, Any], dict[str, tuple[str, ...]]]:
    """The keys of a profile with plain records only, and the names of the members of each family.

    Raises ProfileError for seeds that repeat, `replicates` where there can be none or of another form, and a name that
    two records would have.
    """
    found, families = _Families(values, where), dict[str, tuple[str, ...]]()
    expanded: dict[str, Any] = {kind: {} for kind in KINDS if isinstance(values.get(kind), Mapping)}
    for kind, records in expanded.items():
        for name, value in values[kind].items():
            key = (kind, str(name))
            members = found.members(key) if key in found.records else {name: value}
            if taken := members.keys() & (records.keys() | values[kind].keys()) - {name}:
                raise ProfileError(f"{where}: {kind}.{name}: its member {min(taken)} has the name of another record")
            records |= members
            if list(members) != [name]:
                families[name] = _agreed(families, name, tuple(members), f"{where}: {kind}.{name}")
    for kind in KINDS:
        if clash := families.keys() & expanded.get(kind, {}).keys():
            name = min(clash)
            raise ProfileError(f"{where}: {kind}.{name}: a family has this name too; rename one")
    return {**values, **expanded}, families


def _agreed(
    families: Mapping[str, tuple[str, ...]], name: str, members: tuple[str, ...], where: str
) -> tuple[str, ...]:
    if name in families and families[name] != members:
        raise ProfileError(f"{where}: the family of models of this name has {len(families[name])} members; rename one")
    return members


def _seeds(given: Any, where: str) -> list[int]:
    """The seeds, [] where they are of another type, which is refused later. Raises ProfileError if one stands twice."""
    if not isinstance(given, list) or not all(isinstance(seed, int) and seed >= 0 for seed in given):
        return []
    if len(set(given)) < len(given):
        raise ProfileError(f"{where}: replicates: {given}: a seed stands twice; remove one")
    return given


def _number(asked: Any, limit: int, where: str) -> int:
    if isinstance(asked, bool) or not isinstance(asked, int) or asked < 1:
        raise ProfileError(f"{where}: expected `all`, `first` or a number from 1 on, found {quote(asked)}")
    return min(asked, limit)
