"""Profiles: one YAML file holds all settings of a build, and all of them are checked before anything runs.

In: the name of a file in `params/`. Out: a checked `Profile`; one parameter file for each notebook of the build.
Never: a default both in code and in a profile; a value that is silently ignored.

A profile holds the keys of `engine.params.Common` and a section for each notebook, whose keys and types are those of
the notebook's own parameters cell.

`python -m sae_utils profile PROFILE` checks a profile and rewrites `build/PROFILE/params/`.
"""

import argparse
import hashlib
import sys
from collections.abc import Collection, Mapping
from typing import Any

import torch
from pydantic import create_model

from sae_utils import store
from sae_utils.engine import families
from sae_utils.engine.checks import comparisons, requirements, sections
from sae_utils.engine.core import files
from sae_utils.engine.core.sources import REPOSITORY
from sae_utils.engine.core.spec import ProfileError, Spec, build, choose, nearest
from sae_utils.engine.lms import pretrained, toys
from sae_utils.engine.params import Common, Profile, make_corpus, notebooks, parameters, read
from sae_utils.engine.saes import quality, releases, trainer
from sae_utils.engine.text import corpora


def load(name: str) -> Profile:
    """Read and check `params/<name>.yaml`.

    Raises ProfileError, which names file, key and remedy: file missing or malformed, unknown or missing key, wrong
    type, unknown name, or values that do not go together.
    """
    where, values = f"params/{name}.yaml", read(name)
    given = {key: values.pop(key) for key in list(values) if key in notebooks()}
    for key in values:
        if key not in Common.model_fields:
            raise ProfileError(
                f"{where}: {key}: unknown key; {nearest(str(key), [*Common.model_fields, *notebooks()])}"
            )
    values, found = families.expand(values, where)
    common = build(Common, values, f"{where}: ")
    profile = Profile(
        name=name,
        common=common,
        corpus=make_corpus(common.corpus, f"{where}: corpus"),
        models=_records(toys.KINDS | pretrained.KINDS, common.models, found, f"{where}: models"),
        dictionaries=_records(trainer.KINDS | releases.KINDS, common.dictionaries, found, f"{where}: dictionaries"),
        families=found,
        sections={},
    )
    _check_origins(profile, where)
    profile = profile._replace(sections=_sections(profile, given, where))
    requirements.check(profile)
    return profile


def _records(
    kinds: Mapping[str, type[Spec]], values: Mapping[str, Any], found: Mapping[str, tuple[str, ...]], where: str
) -> dict[str, Any]:
    """The records by name. Raises ProfileError, which names the family of a member."""
    written = {member: family for family, members in found.items() for member in members}
    return {name: choose(kinds, value, f"{where}.{written.get(name, name)}") for name, value in values.items()}


def _check_origins(profile: Profile, where: str) -> None:
    """Refuse names that nothing defines, circles of `of`, and checkpoints of models and SAEs that keep none."""
    for name, record in profile.models.items():
        origin = _origin(name, profile.models, f"{where}: models")
        if isinstance(record, toys.ToyCheckpoint) and isinstance(origin, pretrained.Pretrained):
            raise ProfileError(
                f"{where}: models.{name}.of: only models trained here keep checkpoints; name the model's `revision`"
            )
        _check_disjoint(profile, name, where)
    for name, record in profile.dictionaries.items():
        origin = _origin(name, profile.dictionaries, f"{where}: dictionaries")
        _check_defined(origin.model, _names(profile, profile.models), f"{where}: dictionaries.{name}.model")
        if isinstance(record, trainer.SaeCheckpoint) and isinstance(origin, releases.Released):
            raise ProfileError(
                f"{where}: dictionaries.{name}.of: only SAEs trained here keep checkpoints; name another"
            )
    for name in profile.common.primary.pair:
        _check_defined(name, _names(profile, profile.dictionaries), f"{where}: primary.pair")


def _check_disjoint(profile: Profile, name: str, where: str) -> None:
    """Refuse a model whose training documents are among those that pair features or judge them."""
    own, read = profile.training_corpus(name), profile.corpus
    if not (isinstance(own, corpora.Stories) and isinstance(read, corpora.Stories) and own.seed == read.seed):
        return
    if own.dealt() != read.dealt():
        raise ProfileError(
            f"{where}: models.{name}.trained_on: stories of seed {own.seed}, as `corpus`, but dealt to the splits in "
            "another way, so that it would be trained on documents that judge it; give it another `seed`"
        )


def _origin(name: str, records: Mapping[str, Any], where: str) -> Any:
    """The underived record at the end of the chain of `of` that begins at `name`."""
    chain = [name]
    while hasattr(records[chain[-1]], "of"):
        of = records[chain[-1]].of
        _check_defined(of, records, f"{where}.{chain[-1]}.of")
        if of in chain:
            raise ProfileError(f"{where}.{chain[-1]}.of: goes in a circle: {' -> '.join([*chain, of])}")
        chain.append(of)
    return records[chain[-1]]


def _check_defined(name: str, names: Collection[str], where: str) -> None:
    if name not in names:
        raise ProfileError(f"{where}: nothing is called {name!r}; {nearest(name, names)}")


def _sections(profile: Profile, given: Mapping[str, Any], where: str) -> dict[str, dict[str, Any]]:
    """The section of every notebook. Raises ProfileError with all problems of all sections."""
    names = {
        "model": _names(profile, profile.models),
        "dictionary": _names(profile, profile.dictionaries),
        "set of concepts": read("concepts"),
    }
    made, problems = {}, []
    for notebook in notebooks():
        try:
            made[notebook] = _section(notebook, given.get(notebook), names, f"{where}: {notebook}")
        except ProfileError as error:
            problems.append(str(error))
    if problems:
        raise ProfileError("\n".join(problems))
    return made


def _names(profile: Profile, records: Mapping[str, Any]) -> list[str]:
    """Names of records and of their families."""
    return [*records, *(name for name, members in profile.families.items() if members[0] in records)]


def _section(notebook: str, values: Any, names: Mapping[str, Any], where: str) -> dict[str, Any]:
    defaults = {key: value for key, value in parameters(notebook).items() if key != "profile"}
    # the parameters cell is the schema: its names, and the types of its literals
    fields: dict[str, Any] = {key: (type(value), ...) for key, value in defaults.items()}
    schema = create_model("Section", __base__=Spec, **fields)
    section = build(schema, {} if values is None else values, where).model_dump()
    sections.check(notebook, section, defaults, names, where)
    return section


def write(profile: Profile) -> None:
    """Write `build/<profile>/params/<notebook>.yaml`, each only if it changed: make compares their times."""
    folder = REPOSITORY / "build" / profile.name / "params"
    for notebook in notebooks():
        file, content = folder / f"{notebook}.yaml", profile.dump(notebook)
        if not file.exists() or file.read_text("utf-8") != content:
            files.write(file, content)


def start(name: str, notebook: str) -> Profile:
    """Open a profile in a notebook: check it, and set threads and device for everything that follows.

    Raises ProfileError as `load` and `device`, and for models of the hub whose tokenizers differ where they must not.
    """
    if notebook not in notebooks():
        raise ProfileError(f"no notebook is called {notebook!r}; {nearest(notebook, notebooks())}")
    profile = load(name)
    store.use(threads=profile.common.threads, device=device(profile))
    comparisons.check_tokenizers(profile, fetch=True)
    return profile


def seed(profile: Profile, label: str) -> int:
    """A seed for one use of chance, from the profile's `seed`: another label draws independently."""
    return int.from_bytes(hashlib.sha256(f"{profile.common.seed}/{label}".encode()).digest()[:4]) // 2


def device(profile: Profile) -> str:
    """`cpu` or `cuda`: where a profile runs on this machine.

    Raises ProfileError if the profile asks for a CUDA device, and there is none.
    """
    asked, cuda = profile.common.device, torch.cuda.is_available()
    if asked == "cuda" and not cuda:
        raise ProfileError(f"params/{profile.name}.yaml: device: this machine has no CUDA device; say `cpu` or `auto`")
    return "cuda" if cuda and asked != "cpu" else "cpu"


def main() -> None:
    """Check a profile and write each notebook's parameters."""
    parser = argparse.ArgumentParser(prog="python -m sae_utils profile", description=main.__doc__)
    parser.add_argument("profile", help="name of a file in params/, without .yaml")
    try:
        profile = load(parser.parse_args().profile)
        write(profile)
        store.check()
    except (ProfileError, files.WriteError) as error:
        sys.exit(f"error: {error}")
    if warning := quality.warning(profile.dictionaries):
        print(f"warning: params/{profile.name}.yaml: {warning}", file=sys.stderr)
