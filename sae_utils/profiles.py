"""Profiles: one YAML file says everything a build may vary, and is checked before anything runs.

In: the name of a file in `params/`. Out: a checked `Profile`; one parameter file a notebook for the build.
Never: a default that stands in code and in a profile; a value that is silently ignored.

Keys: `extends` (another profile, see `inherit`), the common ones of `Common`, and a section a notebook, whose keys and
types are those of the notebook's own parameters cell.

`python -m sae_utils profile PROFILE` checks a profile and rewrites `build/PROFILE/params/`.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import math
import re
import sys
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import yaml
from pydantic import Field, create_model

from sae_utils import store
from sae_utils.engine.core import files
from sae_utils.engine.core.sources import REPOSITORY
from sae_utils.engine.core.spec import Count, ProfileError, Spec, build, choose, nearest
from sae_utils.engine.inputs import inherit
from sae_utils.engine.text import corpora

PARAMS = REPOSITORY / "params"
NOTEBOOKS = REPOSITORY / "notebooks"


class Primary(Spec):
    """The one analysis that answers the paper's question; every other is secondary and says so."""

    pair: list[str] = Field(min_length=2, max_length=2)
    """the two dictionaries that are compared"""
    matching: Literal["mutual"]
    """how their features are paired"""
    measure: str
    """the similarity of the paired decoder rows"""
    permutations: int = Field(ge=19, lt=2**31)
    """shuffles of the pairing behind its p"""


class Common(Spec):
    """What all notebooks share."""

    stamp: str
    """printed across every page of the PDF; empty for results that may be cited"""
    threads: int = Field(gt=0, le=1024)
    """cores used; another number gives other bytes, so it is never detected"""
    device: Literal["cpu", "cuda", "auto"]
    """where models and SAEs run; `auto` takes a CUDA device where there is one (and gives its own bytes)"""
    corpus: dict[str, Any]
    """the text on which all features are compared"""
    skip: Count
    """masked positions at the start of every row, beginning of sequence included"""
    models: dict[str, dict[str, Any]] = Field(min_length=1)
    """language models by name"""
    dictionaries: dict[str, dict[str, Any]] = Field(min_length=1)
    """sparse autoencoders by name"""
    primary: Primary
    """the primary analysis"""


class Profile(NamedTuple):
    """A checked profile."""

    name: str
    common: Common
    corpus: corpora.Corpus
    models: dict[str, Any]
    """name -> record of `models.KINDS` or `pretrained.KINDS`"""
    dictionaries: dict[str, Any]
    """name -> record of `trainer.KINDS` or `releases.KINDS`"""
    sections: dict[str, dict[str, Any]]
    """notebook -> its parameters"""

    def training_corpus(self, model: str) -> corpora.Corpus:
        """The corpus on which a model (a pretrained one: its SAEs) is trained: the profile's, but for `trained_on`."""
        record = self.models[model]
        if hasattr(record, "of"):
            return self.training_corpus(record.of)
        where = f"params/{self.name}.yaml: models.{model}.trained_on"
        return _corpus(where, self.common.corpus | record.trained_on) if record.trained_on else self.corpus

    def digest(self, notebook: str) -> str:
        """First 12 hex digits of the sha256 of all that the notebook is told; it stands in every output."""
        return hashlib.sha256(_dump(self, notebook).encode()).hexdigest()[:12]


def notebooks() -> list[str]:
    """Names of the notebooks, in reading order."""
    return sorted(file.stem for file in NOTEBOOKS.glob("*.py"))


def load(name: str) -> Profile:
    """Read and check `params/<name>.yaml`.

    Raises:
        ProfileError: file missing or malformed, unknown or missing key, wrong type, a name that nothing defines. The
            message names file, key and remedy.
    """
    from sae_utils.engine.build import compared
    from sae_utils.engine.lms import models, pretrained, toys
    from sae_utils.engine.saes import releases, trainer

    where, values = f"params/{name}.yaml", read(name)
    sections = {key: values.pop(key) for key in list(values) if key in notebooks()}
    common = _common(where, values)
    profile = Profile(
        name=name,
        common=common,
        corpus=_corpus(f"{where}: corpus", common.corpus),
        models={
            key: choose(models.KINDS | pretrained.KINDS, value, f"{where}: models.{key}")
            for key, value in common.models.items()
        },
        dictionaries={
            key: choose(trainer.KINDS | releases.KINDS, value, f"{where}: dictionaries.{key}")
            for key, value in common.dictionaries.items()
        },
        sections={},
    )
    for key in profile.models:
        base = _derived(key, profile.models, f"{where}: models")
        if isinstance(profile.models[base], pretrained.Pretrained):
            _not_kept(profile.models[key], toys.ToyCheckpoint, f"{where}: models.{key}", "name the model's `revision`")
        profile.training_corpus(key)
    for key in profile.dictionaries:
        base = _derived(key, profile.dictionaries, f"{where}: dictionaries")
        _defined(profile.dictionaries[base].model, profile.models, f"{where}: dictionaries.{base}.model")
        if isinstance(profile.dictionaries[base], releases.Released):
            _not_kept(profile.dictionaries[key], trainer.SaeCheckpoint, f"{where}: dictionaries.{key}", "name another")
    for member in common.primary.pair:
        _defined(member, profile.dictionaries, f"{where}: primary.pair")
    profile = profile._replace(sections=_sections(where, profile, sections))
    compared.check(profile)
    return profile


def _common(where: str, values: dict[str, Any]) -> Common:
    for key in values:
        if key not in Common.model_fields:
            valid = [*Common.model_fields, *notebooks()]
            raise ProfileError(f"{where}: {key}: unknown key; {nearest(str(key), valid)}")
    return build(Common, values, f"{where}: ")


def _corpus(where: str, values: dict[str, Any]) -> corpora.Corpus:
    corpus = choose(corpora.KINDS, values, where)
    assert isinstance(corpus, corpora.Corpus)
    if not math.isclose(sum(corpus.shares), 1, abs_tol=1e-9):
        raise ProfileError(f"{where}.shares: three positive shares that sum to 1, found {corpus.shares}")
    return corpus


def _derived(name: str, records: Mapping[str, Any], where: str) -> str:
    """The record that `name` is, or comes from by `of`."""
    seen = [name]
    while hasattr(records[seen[-1]], "of"):
        of = records[seen[-1]].of
        _defined(of, records, f"{where}.{seen[-1]}.of")
        if of in seen:
            raise ProfileError(f"{where}.{seen[-1]}.of: goes in a circle: {' -> '.join([*seen, of])}")
        seen.append(of)
    return seen[-1]


def _defined(name: str, names: Mapping[str, Any], where: str) -> None:
    if name not in names:
        raise ProfileError(f"{where}: nothing is called {name!r}; {nearest(name, names)}")


def _not_kept(record: Spec, checkpoint: type[Spec], where: str, remedy: str) -> None:
    if isinstance(record, checkpoint):
        raise ProfileError(f"{where}.of: only what is trained here keeps checkpoints; {remedy}")


def read(name: str) -> dict[str, Any]:
    """The keys of `params/<name>.yaml`, those of what it extends included.

    Raises:
        ProfileError: as `inherit.read`.
    """
    return inherit.read(PARAMS, name, notebooks())


def cell(notebook: str) -> dict[str, Any]:
    """Names and plain default values of a notebook's parameters cell, read without running it.

    Raises:
        ProfileError: there is no such cell, or it holds something else than `name = literal`.
    """
    text = (NOTEBOOKS / f"{notebook}.py").read_text("utf-8")
    for head, body in re.findall(r"^# %%(.*)\n((?:(?!# %%).*\n?)*)", text, re.MULTILINE):
        if "parameters" in re.findall(r'"(.*?)"', head):  # its tags; jupytext would read them too, in seconds
            try:
                return {
                    statement.targets[0].id: ast.literal_eval(statement.value)  # type: ignore[attr-defined]
                    for statement in ast.parse(body).body
                }
            except (AttributeError, ValueError):
                raise ProfileError(
                    f"notebooks/{notebook}.py: its parameters cell must hold `name = literal` only"
                ) from None
    raise ProfileError(f"notebooks/{notebook}.py: no cell is tagged `parameters`")


def _sections(where: str, profile: Profile, given: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The section of every notebook; what is wrong in any of them is one error."""
    known = {"model": profile.models, "dictionary": profile.dictionaries, "set of concepts": read("concepts")}
    made, wrong = {}, []
    for notebook in notebooks():
        try:
            made[notebook] = _section(where, notebook, given.get(notebook), known)
        except ProfileError as error:
            wrong.append(str(error))
    if wrong:
        raise ProfileError("\n".join(wrong))
    return made


def _section(where: str, notebook: str, values: Any, known: Mapping[str, Any]) -> dict[str, Any]:
    from sae_utils.engine.checks import sections  # heavy

    defaults = {key: value for key, value in cell(notebook).items() if key != "profile"}
    # the parameters cell is the schema: its names, and the types of its literals
    fields: dict[str, Any] = {key: (type(value), ...) for key, value in defaults.items()}
    schema = create_model("Section", __base__=Spec, **fields)
    found = build(schema, {} if values is None else values, f"{where}: {notebook}").model_dump()
    sections.check(notebook, found, defaults, known, f"{where}: {notebook}")
    return found


def _dump(profile: Profile, notebook: str) -> str:
    told = {"profile": profile.name, "common": profile.common.model_dump(), "parameters": profile.sections[notebook]}
    return yaml.safe_dump(told, sort_keys=False)


def write(profile: Profile) -> None:
    """Write `build/<profile>/params/<notebook>.yaml`, each only if it changed: make compares their times."""
    folder = REPOSITORY / "build" / profile.name / "params"
    for notebook in notebooks():
        file, content = folder / f"{notebook}.yaml", _dump(profile, notebook)
        if not file.exists() or file.read_text("utf-8") != content:
            files.write(file, content)


def start(name: str, notebook: str) -> Profile:
    """Open a profile in a notebook: check it and set threads and device for everything that follows.

    Raises:
        ProfileError: as `load` and `device`; models of the hub whose tokenizers differ where they must not.
    """
    from sae_utils.engine.build import compared

    if notebook not in notebooks():
        raise ProfileError(f"no notebook is called {notebook!r}; {nearest(notebook, notebooks())}")
    profile = load(name)
    store.use(threads=profile.common.threads, device=device(profile))
    compared.tokenizers(profile, fetch=True)
    return profile


def device(profile: Profile) -> str:
    """Where a profile runs here.

    Raises:
        ProfileError: it wants a CUDA device, and there is none.
    """
    import torch

    wanted, cuda = profile.common.device, torch.cuda.is_available()
    if wanted == "cuda" and not cuda:
        raise ProfileError(f"params/{profile.name}.yaml: device: no CUDA device is here; say `cpu` or `auto`")
    return "cuda" if cuda and wanted != "cpu" else "cpu"


def main() -> None:
    """Check a profile and write each notebook's parameters."""
    parser = argparse.ArgumentParser(prog="python -m sae_utils profile", description=main.__doc__)
    parser.add_argument("profile", help="name of a file in params/, without .yaml")
    arguments = parser.parse_args()
    from sae_utils.engine.saes import quality  # heavy

    try:
        profile = load(arguments.profile)
        write(profile)
        store.check()
        if said := quality.warning(profile.dictionaries):
            print(f"warning: params/{profile.name}.yaml: {said}", file=sys.stderr)
    except (ProfileError, files.WriteError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
