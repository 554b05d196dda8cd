"""The models and SAEs of a profile in numbers and words: sizes, training steps, doubts, and phrases for the paper.

In: a checked profile and names of its models or dictionaries. Out: sizes, checkpoints, phrases for sentences.
Never: an outcome; models that are not in the profile.
"""

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import pandas as pd

from sae_utils import pipeline, tables
from sae_utils.engine.core.spec import ProfileError
from sae_utils.engine.inputs import hub
from sae_utils.engine.lms import toys
from sae_utils.engine.lms.pretrained import Pretrained
from sae_utils.engine.params import Profile
from sae_utils.engine.saes import quality, releases
from sae_utils.engine.text import corpora
from sae_utils.store import Artefact

SITES = {
    "hook_mlp_out": "the output of the MLP of a block",
    "hook_attn_out": "the output of the attention of a block",
    "hook_resid_pre": "the residual stream before a block",
    "hook_resid_mid": "the residual stream between the attention and the MLP of a block",
    "hook_resid_post": "the residual stream after a block",
    "mlp.hook_post": "the neurons of an MLP",
}


# --- size and training


class Size(NamedTuple):
    """Size and training steps of a language model."""

    layers: int
    d: int  # width of the residual stream
    parameters: int
    steps: float  # of training; NaN where they are not known


def size(profile: Profile, name: str) -> Size:
    """The size of a model; random weights took no steps, pretrained ones those that their revision names."""
    made, first = pipeline.model(profile, name).meta, pipeline.origin(profile.models, name)
    if isinstance(first, toys.Toy):
        return Size(first.layers, first.d_model, made["parameters"], made["steps"])
    record = profile.models[name]
    if record is first:
        return Size(made["layers"], made["d_model"], made["parameters"], _step(first))
    return size(profile, record.of)._replace(steps=made["steps"])


def finished(profile: Profile, name: str) -> bool:
    """Whether a model was trained, and the profile has no later step of it."""
    record = profile.models[name]
    if isinstance(record, Pretrained):
        own, others = _step(record), _same_source(profile, record).values()
        return math.isnan(own) or not any(math.isnan(step) or step > own for step in others)
    return not isinstance(record, toys.ToyCheckpoint) and size(profile, name).steps > 0


def checkpoints(profile: Profile, name: str) -> dict[int, Artefact]:
    """A model at its training steps, in their order.

    A toy has those that were kept; a pretrained model has the profile's models of its source at revisions like
    `step1000`. Raises ProfileError where there are none.
    """
    record = profile.models[name]
    found: dict[int, Artefact] = {}
    if isinstance(record, toys.Toy):
        model = pipeline.model(profile, name)
        found = {step: toys.at_step(model, step) for step in model.meta["checkpoints"]}
    elif isinstance(record, Pretrained):
        steps = sorted((int(x), key) for key, x in _same_source(profile, record).items() if not math.isnan(x))
        found = {step: pipeline.model(profile, key) for step, key in steps}
    if not found:
        raise ProfileError(
            f"params/{profile.name}.yaml: models.{name}: none of its checkpoints is known; give a toy `checkpoints`, "
            "or list a pretrained model at training steps as models of their own: its `source`, `revision: step1000`"
        )
    return found


def _same_source(profile: Profile, record: Pretrained) -> dict[str, float]:
    """Training step of every model of the profile that has the source of `record`."""
    pretrained = {key: x for key, x in profile.models.items() if isinstance(x, Pretrained)}
    return {key: _step(x) for key, x in pretrained.items() if x.source == record.source}


def _step(record: Pretrained) -> float:
    """The training step in the name of a revision, as in Pythia's; else NaN."""
    found = re.fullmatch(r"step(\d+)", record.revision)
    return int(found[1]) if found else math.nan


def by_model(profile: Profile, losses: Mapping[str, Artefact]) -> pd.DataFrame:
    """One row a model: its size and training steps, its loss, and those of the n-grams."""
    found = [(name, size(profile, name)._asdict(), x.meta) for name, x in losses.items()]
    return pd.DataFrame(
        {"model": name} | shape | {"loss": loss["model"], "bigram": loss["bigram"], "unigram": loss["unigram"]}
        for name, shape, loss in found
    )


def by_dictionary(
    readers: Mapping[str, pipeline.Reader], judged: Mapping[str, Any], located: Mapping[str, Any]
) -> pd.DataFrame:
    """One row an SAE: its hook, its quality and doubts about it, from `quality.judge` and `quality.locate`."""
    named = {"FVU": "fvu", "L0": "l0", "dead": "dead", "recovered": "recovered"}
    return pd.DataFrame(
        {"dictionary": name, "hook": readers[name].hook.removeprefix("blocks.")}
        | {column: found[key] for column, key in named.items()}
        | {"fits best at": located[name]["best"].removeprefix("blocks."), "massive": massive(found)}
        | {"doubts": doubts(readers[name].dictionary, found)}
        for name, found in judged.items()
    )


def by_family(profile: Profile, frame: pd.DataFrame, forms: Mapping[str, str]) -> pd.DataFrame:
    """One row a family of models or SAEs, whose names are in the first column: `members`, then the other columns.

    Of numbers the mean, with the smallest and the largest in brackets where they differ; of text, every part once.
    """
    key = frame.columns[0]
    family = {member: name for name, members in profile.families.items() for member in members}
    groups = frame.groupby(frame[key].map(lambda name: family.get(name, name)), sort=False)
    rows = (
        (name, len(part), *(_joined(part[x], forms.get(x, "{}")) for x in frame.columns[1:])) for name, part in groups
    )
    return pd.DataFrame(rows, columns=[key, "members", *frame.columns[1:]])


def _joined(values: pd.Series, form: str) -> str:
    """A column of one family in a cell."""
    if not pd.api.types.is_numeric_dtype(values):
        return ", ".join(dict.fromkeys(", ".join(map(str, values)).split(", ")))
    if values.nunique() < 2:
        return tables.number(values.iloc[0], form)
    low, mean, high = (tables.number(value, form) for value in (values.min(), values.mean(), values.max()))
    return mean if low == high else f"{mean} ({low} to {high})"


def doubts(dictionary: Artefact, judged: Mapping[str, Any]) -> str:
    """The doubts about an SAE, from its training and its quality, or "none"."""
    steps, passes = (dictionary.meta.get(name, math.nan) for name in ("steps", "passes"))
    return ", ".join(quality.doubts(steps, passes, judged["dead"])) or "none"


def massive(judged: Mapping[str, Any]) -> str:
    """The massive dimensions of what an SAE reads, with its FVU without them, or "none"."""
    if not judged["massive"]:
        return "none"
    return f"{len(judged['massive'])} with {judged['massive_share']:.0%}, else FVU {judged['fvu_rest']:.3f}"


# --- phrases for the paper


def model_of(profile: Profile, dictionary: str) -> str:
    """The name of the model that a dictionary reads."""
    record = profile.dictionaries[dictionary]
    return model_of(profile, record.of) if hasattr(record, "of") else record.model


def title(record: Pretrained) -> str:
    """The name of a model for readers; that of a GGUF file ends with how its weights are stored, e.g. `.Q4_1`."""
    name, stored = re.fullmatch(r"(.+?)(?:[.-](i?q\d\w*|b?f16|f32))?", record.title(), re.IGNORECASE).groups()  # type: ignore[union-attr]
    return f"{name} ({stored.upper()})" if stored else name


def released(profile: Profile) -> list[str]:
    """The sources of the models that were not trained here, in the profile's order."""
    return list(dict.fromkeys(title(x) for x in profile.models.values() if isinstance(x, Pretrained)))


def all_toys(profile: Profile) -> bool:
    """Whether every model was trained here, or derives from one that was."""
    return not released(profile)


def classes_known(profile: Profile) -> bool:
    """Whether the text comes with the true class of its words."""
    return isinstance(profile.corpus, corpora.Stories)


def models(profile: Profile) -> str:
    """The complement of "the models are ..."."""
    if all_toys(profile):
        return "small ones, trained on the spot"
    origins = [pipeline.origin(profile.models, name) for name in profile.models]
    mixed = not all(isinstance(record, Pretrained) for record in origins)
    given = (x.source for x in profile.models.values() if isinstance(x, Pretrained))
    return _provenance(given) + (", and small ones trained on the spot" if mixed else "")


def dictionaries(profile: Profile) -> str:
    """The complement of "the SAEs are ..."."""
    given: list[Any] = [x for x in profile.dictionaries.values() if isinstance(x, releases.Released)]
    if not given:
        return "trained here"
    provenance = _provenance(x.source if hasattr(x, "source") else x.path for x in given)
    word = "given" if provenance == "read from folders" else "released"
    rest = f" and, where none is {word}, trained here" if len(given) < len(profile.dictionaries) else ""
    return provenance + rest


def scope(profile: Profile) -> str:
    """Sentences that say which models the results are about."""
    if not all_toys(profile):
        return "The results are about the models and SAEs that this edition names, and no others."
    return (
        "All models are toys: nothing here has been run on Pythia, Gemma or any other model that people use. The "
        "profile that names such models is part of the repository; it has not been run for this edition."
    )


def limits(profile: Profile) -> str:
    """Sentences on further differences between A and B, besides the one in question; empty if there are none."""
    pair = profile.pair
    both = [pipeline.origin(profile.models, model_of(profile, name)) for name in pair]
    given = [isinstance(pipeline.origin(profile.dictionaries, name), releases.Released) for name in pair]
    sentences = []
    if all(isinstance(x, Pretrained) for x in both) and both[0].identity() != both[1].identity():
        sentences.append(
            "The two models may differ in more than what is asked about, as in their data and tokens seen."
        )
    if all(given):
        sentences.append("So may their SAEs, which others trained, in width, sparsity and text.")
    elif any(given):
        side = "AB"[given.index(False)]
        sentences.append(f"The SAE of {side} alone was trained here: widths, sparsity and text may differ.")
    return " ".join(sentences)


def pair(profile: Profile, a: str, b: str) -> str:
    """Two dictionaries by their models, in few words."""
    names = [model_of(profile, name) for name in (a, b)]
    records = [profile.models[name] for name in names]
    if all(isinstance(record, Pretrained) for record in records):
        return " and ".join(title(record) for record in records)
    return "two models of {} and {} layers".format(*(size(profile, name).layers for name in names))


def side(profile: Profile, name: str, features: int) -> str:
    """A dictionary in words: its number of `features`, the name and size of its model."""
    model = model_of(profile, name)
    record, shape = profile.models[model], size(profile, model)
    label = title(record) if isinstance(record, Pretrained) else name
    layers = "1 layer" if shape.layers == 1 else f"{shape.layers} layers"
    return f"{label} ({layers} of width {shape.d}, {features:,} features)"


def site(hook: str) -> str:
    """The place in a model that a hook, e.g. `blocks.1.hook_mlp_out`, reads."""
    return SITES.get(hook.split(".", 2)[2], hook)


def _provenance(sources: Iterable[str]) -> str:
    """Whether sources are on the hub, in folders, or both."""
    return {
        frozenset({False}): "released ones",
        frozenset({True}): "read from folders",
        frozenset({True, False}): "released ones and others read from folders",
    }[frozenset(map(hub.is_local, sources))]
