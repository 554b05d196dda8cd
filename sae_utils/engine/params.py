"""The record of a profile, and readers of its files: `params/*.yaml` and the parameters cells of notebooks.

In: the name of a file in `params/`, or of a notebook. Out: the keys of the file; the parameters of the notebook; the
record `Profile`, which `sae_utils.profiles` fills and checks.
Never: a check of what several keys mean together (`engine.checks` does that).
"""

import ast
import datetime
import functools
import hashlib
import math
from pathlib import Path
from typing import Any, Literal, NamedTuple

import yaml
from pydantic import Field, field_validator

from sae_utils.engine.core.sources import REPOSITORY
from sae_utils.engine.core.spec import Count, ProfileError, Seed, Spec, choose, nearest, quote
from sae_utils.engine.inputs import strict_yaml
from sae_utils.engine.text import corpora, wikipedia

PARAMS = REPOSITORY / "params"
NOTEBOOKS = REPOSITORY / "notebooks"
LONGEST_CHAIN = 32  # profiles that extend one another
CORPORA: dict[str, type[Spec]] = {**corpora.KINDS, "wikipedia": wikipedia.Wikipedia}


class Threshold(Spec):
    """What divides a yes from a no on one scale."""

    d: float = Field(gt=0)
    date: str  # when it was set, as 2026-11-27
    reason: str = Field(min_length=1)

    @field_validator("date")
    @classmethod
    def _is_a_day(cls, date: str) -> str:
        if datetime.date.fromisoformat(date).isoformat() != date:
            raise ValueError("a day is written as 2026-11-27")
        return date


class Primary(Spec):
    """The one analysis that answers the paper's question; all others are secondary and say so."""

    # the two dictionaries, or families of them, that are compared
    pair: list[str] = Field(min_length=2, max_length=2)
    matching: Literal["mutual"]  # how their features are paired
    measure: str  # the similarity of the paired decoder rows
    permutations: int = Field(ge=19, lt=2**31)  # shuffles of the pairing behind its p
    thresholds: dict[str, Threshold] = Field(default_factory=dict)  # of verdicts, by scale

    def d(self, scale: str) -> float:
        """The threshold of a scale; NaN where none is set, so that nothing is tested."""
        return self.thresholds[scale].d if scale in self.thresholds else math.nan


class Common(Spec):
    """The parameters that all notebooks share."""

    stamp: str  # printed across every page of the PDF; empty for results that may be cited
    threads: int = Field(gt=0, le=1024)  # cores used; another number gives other bytes, so it is never detected
    # where models and SAEs run; `auto` takes a CUDA device where there is one (and gives other bytes)
    device: Literal["cpu", "cuda", "auto"]
    seed: Seed  # of whatever notebooks draw by chance (`profiles.seed`); models and SAEs have seeds of their own
    corpus: dict[str, Any]  # the text on which all features are compared
    skip: Count  # masked positions at the start of every row, beginning of sequence included
    replicates: list[Seed]  # seeds of the replicates of every family, see `engine.families`; [] for none
    models: dict[str, dict[str, Any]] = Field(min_length=1)  # language models by name
    dictionaries: dict[str, dict[str, Any]] = Field(min_length=1)  # sparse autoencoders by name
    primary: Primary  # the primary analysis


class Profile(NamedTuple):
    """A checked profile."""

    name: str
    common: Common
    corpus: corpora.Corpus
    models: dict[str, Any]  # name -> record of `toys.KINDS` or `pretrained.KINDS`
    dictionaries: dict[str, Any]  # name -> record of `trainer.KINDS` or `releases.KINDS`
    families: dict[str, tuple[str, ...]]  # family of models or dictionaries -> the names of its members, in order
    sections: dict[str, dict[str, Any]]  # notebook -> its parameters

    def members(self, name: str) -> list[str]:
        """The members of a family of models or dictionaries, in the order of the replicates; of a plain name itself.

        Raises ProfileError if nothing has that name.
        """
        known = [*self.families, *self.models, *self.dictionaries]
        if name not in known:
            raise ProfileError(f"nothing in the profile is called {name!r}; {nearest(name, known)}")
        return list(self.families.get(name, (name,)))

    @property
    def pair(self) -> tuple[str, str]:
        """The two dictionaries of the primary pair; of families the members of the first replicate."""
        a, b = (self.members(name)[0] for name in self.common.primary.pair)
        return a, b

    def training_corpus(self, model: str) -> corpora.Corpus:
        """The text on which a model (or, if it is pretrained, its SAEs) is trained: the corpus with `trained_on`."""
        record = self.models[model]
        if hasattr(record, "of"):
            return self.training_corpus(record.of)
        if not record.trained_on:
            return self.corpus
        return make_corpus(
            self.common.corpus | record.trained_on, f"params/{self.name}.yaml: models.{model}.trained_on"
        )

    def dump(self, notebook: str) -> str:
        """YAML of all parameters that a notebook depends on."""
        common = self.common.model_dump()
        values = {"profile": self.name, "common": common, "parameters": self.sections[notebook]}
        return yaml.safe_dump(values, sort_keys=False)

    def digest(self, notebook: str) -> str:
        """First 12 hex digits of the sha256 of `dump`; every output of the notebook carries it."""
        return hashlib.sha256(self.dump(notebook).encode()).hexdigest()[:12]


def make_corpus(values: dict[str, Any], where: str) -> corpora.Corpus:
    """The corpus that the mapping describes.

    Raises ProfileError as `spec.choose`, and for shares that do not sum to 1.
    """
    found = choose(CORPORA, values, where)
    assert isinstance(found, corpora.Corpus)
    if not math.isclose(sum(found.shares), 1, abs_tol=1e-9):
        raise ProfileError(f"{where}.shares: three positive shares that sum to 1, found {found.shares}")
    return found


# --- notebooks


def script(notebook: str) -> Path:
    """The percent script of a notebook."""
    return NOTEBOOKS / f"{notebook}.py"


def notebooks() -> list[str]:
    """Names of the notebooks, in reading order."""
    return sorted(file.stem for file in NOTEBOOKS.glob("*.py"))


def parameters(notebook: str) -> dict[str, Any]:
    """Names and default values of a notebook's parameters cell, read without running it.

    Raises ProfileError if there is no such cell, or it holds something other than `name = literal`.
    """
    where, source = f"notebooks/{notebook}.py", _parameters_cell(script(notebook).read_text("utf-8"))
    if source is None:
        raise ProfileError(f"{where}: no cell is tagged `parameters`")
    statements: list[Any] = ast.parse(source).body
    try:
        return {statement.targets[0].id: ast.literal_eval(statement.value) for statement in statements}
    except (AttributeError, ValueError):
        raise ProfileError(f"{where}: its parameters cell must hold `name = literal` only") from None


@functools.cache
def _parameters_cell(text: str) -> str | None:
    """The code of the parameters cell in a percent script; None if it has none."""
    import jupytext  # takes a second

    cells = jupytext.reads(text, fmt="py:percent").cells
    return next((cell.source for cell in cells if "parameters" in cell.metadata.get("tags", [])), None)


# --- files in params/


def read(name: str) -> dict[str, Any]:
    """The keys of `params/<name>.yaml`, with those of the profile that it `extends`.

    A key replaces the inherited one completely. The keys of a notebook's section replace the inherited ones one by one.
    Among models and dictionaries `"*"` keeps the inherited records and sets its values in each that has such a key; the
    keys of a mapping, as `trained_on`, one by one.
    Raises ProfileError as `strict_yaml.read`, and for no such file, a circle of `extends`, or a `"*"` over something
    else than records.
    """
    return _read(name, ())


def _read(name: str, children: tuple[str, ...]) -> dict[str, Any]:
    file = f"params/{name}.yaml"
    valid = [f.relative_to(PARAMS).with_suffix("").as_posix() for f in PARAMS.rglob("*.yaml")]
    if name not in valid:
        child = f" (params/{children[-1]}.yaml: extends)" if children else ""
        raise ProfileError(f"{file}: no such profile{child}; {nearest(name, valid)}")
    if name in children:
        raise ProfileError(f"{file}: extends: goes in a circle: {' -> '.join([*children, name])}")
    if len(children) > LONGEST_CHAIN:
        raise ProfileError(f"params/{children[0]}.yaml: extends: more than {LONGEST_CHAIN} profiles in a row")
    values = strict_yaml.read(PARAMS / f"{name}.yaml", file)
    if "extends" not in values:
        return values
    merged = _read(str(values.pop("extends")), (*children, name))
    for key, value in values.items():
        inherited = merged.get(key)
        if key in ("models", "dictionaries") and isinstance(value, dict) and "*" in value:
            merged[key] = _in_every_record(value, inherited, f"{file}: {key}.*")
        elif key in notebooks() and isinstance(value, dict) and isinstance(inherited, dict):
            merged[key] = inherited | value
        else:
            merged[key] = value
    return merged


def _in_every_record(value: dict[str, Any], inherited: Any, where: str) -> dict[str, Any]:
    """The inherited records, changed by the values under `"*"`, and the other given records."""
    changes = value["*"]
    if not isinstance(changes, dict):
        raise ProfileError(f"{where}: expected a mapping of keys, found {quote(changes)}; `{{}}` changes nothing")
    if not (isinstance(inherited, dict) and all(isinstance(record, dict) for record in inherited.values())):
        raise ProfileError(f"{where}: the inherited value is no mapping of records: {quote(inherited)}")
    keys = {key for record in inherited.values() for key in record}
    for unknown in changes.keys() - keys:
        raise ProfileError(f"{where}.{unknown}: unknown key; {nearest(unknown, keys)}")
    kept = {
        name: record | {key: _replaced(record[key], new) for key, new in changes.items() if key in record}
        for name, record in inherited.items()
    }
    return kept | {name: record for name, record in value.items() if name != "*"}


def _replaced(old: Any, new: Any) -> Any:
    """A value, or a mapping whose keys are replaced one by one."""
    return old | new if isinstance(old, dict) and isinstance(new, dict) else new
