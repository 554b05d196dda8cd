"""What the paper may say of its models and dictionaries, in words that are true of every profile.

In: a checked profile. Out: words for its sentences, and which of them hold.
Never: an outcome; a word on models that the profile does not have.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sae_utils.engine.inputs import hub
from sae_utils import pipeline
from sae_utils.engine.lms import pretrained
from sae_utils.engine.params import Profile
from sae_utils.engine.saes import releases
from sae_utils.studies.models_and_dictionaries import training
from sae_utils.engine.text import corpora

SITES = {
    "hook_mlp_out": "the output of the MLP of a block",
    "hook_attn_out": "the output of the attention of a block",
    "hook_resid_pre": "the residual stream before a block",
    "hook_resid_mid": "the residual stream between the attention and the MLP of a block",
    "hook_resid_post": "the residual stream after a block",
    "mlp.hook_post": "the neurons of an MLP",
}


MEASURES = {"rsa_spearman": "Spearman RSA", "rsa_pearson": "Pearson RSA", "mutual_knn": "mutual kNN", "cka": "CKA"}


def measure(name: str) -> str:
    """A measure as a sentence names it."""
    return MEASURES.get(name, name.replace("_", " "))


def limits(profile: Profile) -> str:
    """Whole sentences on what else differs between A and B than what is asked about; empty where nothing does."""
    pair = profile.common.primary.pair
    models = [pipeline.origin(profile.models, read_by(profile, name)) for name in pair]
    saes = [pipeline.origin(profile.dictionaries, name) for name in pair]
    given = [isinstance(record, releases.Released) for record in saes]
    said = []
    if all(isinstance(x, pretrained.Pretrained) for x in models) and models[0].source != models[1].source:
        said.append("The two models may differ in more than what is asked about, as in their data and tokens seen.")
    if all(given):
        said.append("So may their SAEs, which others trained, in width, sparsity and text.")
    elif any(given):
        side = "AB"[given.index(False)]
        said.append(f"The SAE of {side} alone was trained here: widths, sparsity and text may differ.")
    return " ".join(said)




def released(profile: Profile) -> list[str]:
    """Sources of the models that are not trained here, in the profile's order."""
    sources = [_called(x.source) for x in profile.models.values() if isinstance(x, pretrained.Pretrained)]
    return list(dict.fromkeys(sources))


def _called(source: str) -> str:
    """A repository by its name, a folder by its last part: where it lies is nobody's to read."""
    return Path(source).name if hub.is_local(source) else source


def _given(records: list[Any]) -> str:
    """What is not trained here: from the hub, from folders, or from both."""
    local = {hub.is_local(record.source if hasattr(record, "source") else record.path) for record in records}
    return {
        frozenset({False}): "released ones",
        frozenset({True}): "read from folders",
        frozenset({True, False}): "released ones and others read from folders",
    }[frozenset(local)]


def toys(profile: Profile) -> bool:
    """Whether every model is trained here, or derives from one that is."""
    return not released(profile)


def classes_known(profile: Profile) -> bool:
    """Whether the text comes with the true class of its words."""
    return isinstance(profile.corpus, corpora.Stories)


def models(profile: Profile) -> str:
    """What the models are: "the models are ..."."""
    if toys(profile):
        return "small ones, trained on the spot"
    trained_here = any(
        not isinstance(pipeline.origin(profile.models, name), pretrained.Pretrained) for name in profile.models
    )
    given = _given([x for x in profile.models.values() if isinstance(x, pretrained.Pretrained)])
    return given + (", and small ones trained on the spot" if trained_here else "")


def pair(profile: Profile, a: str, b: str) -> str:
    """Two dictionaries by their models, in few words."""
    called = [(profile.models[model], model) for model in (read_by(profile, name) for name in (a, b))]
    if all(isinstance(record, pretrained.Pretrained) for record, _ in called):
        return " and ".join(_called(record.source) for record, _ in called)
    return "two models of {} and {} layers".format(*(training.size(profile, model).layers for _, model in called))


def dictionaries(profile: Profile) -> str:
    """Where the SAEs come from: "the SAEs are ..."."""
    given = [record for record in profile.dictionaries.values() if isinstance(record, releases.Released)]
    if not given:
        return "trained here"
    elsewhere = "given" if _given(given) == "read from folders" else "released"
    rest = f" and, where none is {elsewhere}, trained here" if len(given) < len(profile.dictionaries) else ""
    return _given(given) + rest


def scope(profile: Profile) -> str:
    """Whole sentences on what the results are about."""
    if not toys(profile):
        return "The results are about the models and SAEs that this edition names, and no others."
    return (
        "All models are toys: nothing here has been run on Pythia, Gemma or any other model that people use. The "
        "profile that names such models is part of the repository; it has not been run for this edition."
    )


def read_by(profile: Profile, name: str) -> str:
    """The model that a dictionary reads."""
    record = profile.dictionaries[name]
    return read_by(profile, record.of) if hasattr(record, "of") else record.model


def side(profile: Profile, name: str, features: int) -> str:
    """One dictionary of `features` and its model: what it is called, and how large both are."""
    model = read_by(profile, name)
    record, size = profile.models[model], training.size(profile, model)
    called = _called(record.source) if isinstance(record, pretrained.Pretrained) else name
    layers = "1 layer" if size.layers == 1 else f"{size.layers} layers"
    return f"{called} ({layers} of width {size.d}, {features:,} features)"


def site(hook: str) -> str:
    """Where a dictionary reads, e.g. `blocks.1.hook_mlp_out`."""
    return SITES.get(hook.split(".", 2)[2], hook)


def negative(profile: Profile, name: str) -> str:
    """What the model of a negative control is, and what it shares with the others at most."""
    model = read_by(profile, name)
    record, corpus = profile.models[model], profile.training_corpus(model)
    if len({x.world for x in (corpus, profile.corpus) if isinstance(x, corpora.Stories)}) == 2:
        return "a model of scrambled stories: the same words, equally frequent, their membership in classes permuted"
    if getattr(record, "random", None) == "all":
        return "a model of the same shape with random weights"
    if getattr(record, "random", None) == "blocks":
        return "a model of the same shape with trained embeddings and random blocks"
    return "a model that should arrange its features otherwise"
