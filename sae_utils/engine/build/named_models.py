"""The language model that a user names on a command line.

In: a repository of the hub, a folder, a .gguf file, or a profile and a model in it. Out: records for the `models` of a
profile.
Never: weights; a file of the hub.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from sae_utils import profiles
from sae_utils.engine import params
from sae_utils.engine.core.spec import ProfileError, nearest
from sae_utils.engine.inputs import headers, hub
from sae_utils.engine.lms import pretrained, quantised, toys
from sae_utils.engine.params import Profile

Record = dict[str, Any]


class Origin(NamedTuple):
    """The profile from which a record comes."""

    corpus: Record
    skip: int
    bound: bool  # its models or SAEs are trained on this text, so that another text would train others


class Model(NamedTuple):
    """A model with all that it rests on."""

    records: dict[str, Record]  # by name: the model, then those from which it derives
    tokenizers: dict[str, Record]  # toys on whose text the tokenizer of a toy is trained, where that is not its own
    origin: Origin | None  # None for a model of no profile


def chain(records: Mapping[str, Any], name: str) -> dict[str, Record]:
    """The record of a name, and those from which it derives."""
    record = records[name]
    further = chain(records, record.of) if hasattr(record, "of") else {}
    return {name: record.model_dump(exclude_defaults=True), **further}


def slug(text: str) -> str:
    """A name of letters, digits and _ from any text: its last 60 characters."""
    return re.sub(r"\W+", "_", text)[-60:].strip("_") or "x"


def of_profile(profile: Profile, name: str) -> Model:
    """A model of a profile with those it derives from, the toy of its tokenizer, and the profile's text."""
    models, tokenizers = chain(profile.models, name), dict[str, Record]()
    name = list(models)[-1]
    last = profile.models[name]
    if bound := isinstance(last, toys.Toy):
        first = next(x for x, toy in profile.models.items() if isinstance(toy, toys.Toy) and toy.cuts_like(last))
        if profile.training_corpus(first) != profile.training_corpus(name):
            tokenizers = chain(profile.models, first)
    return Model(models, tokenizers, Origin(profile.common.corpus, profile.common.skip, bound))


def find(text: str, where: str, remedy: str, revision: str = "main") -> Model:
    """The model that a text names.

    `where`, `remedy`: of messages; `revision`: of a repository, where the text has no `@revision`. Raises ProfileError
    for a name that is no folder, no repository of the hub and no name of TransformerLens.
    """
    path, (head, colon, name) = Path(text).expanduser(), text.partition(":")
    if colon and (params.PARAMS / f"{head}.yaml").is_file():
        profile = profiles.load(head)
        return of_profile(profile, member(profile, name, "models", where))
    if path.is_dir() or path.suffix == quantised.SUFFIX:
        return Model({slug(path.stem): {"kind": "pretrained", "source": str(path.absolute())}}, {}, None)
    source, pinned = split(text, revision)
    if hub.is_local(source):
        raise ProfileError(f"{where}: {source}: no such folder or .gguf file; {remedy}")
    record = {"kind": "pretrained", "source": _official(source, where, remedy)}
    pin = {"revision": pinned} if pinned != "main" else {}
    return Model({slug(source.rpartition("/")[2]): record | pin}, {}, None)


def member(profile: Profile, name: str, kind: str, where: str) -> str:
    """The name itself or, of a family, its first member. Raises ProfileError where the profile has none of a kind."""
    records = getattr(profile, kind)
    families = {family: members for family, members in profile.families.items() if members[0] in records}
    if name not in records and name not in families:
        members = {x for of in families.values() for x in of}
        known = [*(records.keys() - members), *families]
        raise ProfileError(f"{where}: `{kind}` of params/{profile.name}.yaml has no {name!r}; {nearest(name, known)}")
    return profile.members(name)[0]


def split(text: str, revision: str = "main") -> tuple[str, str]:
    """`name@revision` in two."""
    source, _, given = text.partition("@")
    return source, given or revision


def _official(name: str, where: str, remedy: str) -> str:
    """The hub's name of a model that TransformerLens or SAELens calls otherwise."""
    from transformer_lens.supported_models import MODEL_ALIASES

    official = {alias.lower(): of for of, aliases in MODEL_ALIASES.items() for alias in (of, *aliases)}
    if found := official.get(name.lower()):
        return str(found)
    if "/" in name:
        return name
    raise ProfileError(f"{where}: the model {name!r} is no folder, no repository of the hub and no name of "
                       f"TransformerLens; {remedy}")  # fmt: skip


def positions(model: Model) -> int | None:
    """The longest row that a model in a folder reads; None where that is not known here."""
    *_, record = model.records.values()
    file = Path(str(record.get("source", ""))) / "config.json"
    if record["kind"] not in pretrained.KINDS or not file.is_file():
        return None
    config = headers.json_object(file)
    found = config.get("max_position_embeddings", config.get("n_positions"))
    return found if isinstance(found, int) else None
