"""Which dictionaries a profile compares, and whether their models and tokenizers allow it.

In: a profile whose sections have been checked one by one. Out: the problems, a line each.
Never: a file of a model's weights; an artefact of the store.
"""

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from sae_utils import pipeline, replicates
from sae_utils.engine.core.spec import Spec, refuse
from sae_utils.engine.lms import pretrained, toys
from sae_utils.engine.params import Profile

SEEDS, SWEEP, NEURONS = "00_models_and_dictionaries", "03_layer_sweep", "04_llm_vs_sae"
CLOSER = "04b_neurons_by_index_or_concept"
CONCEPTS, RELATIONS = "05_semantic_subspaces", "05b_word_relations"
ACROSS, PUBLISHED = "11_across_tokenizers", "12_published_tables"
STEPS = "12c_steps_and_truth"


class Compared(NamedTuple):
    """Two dictionaries whose features are paired at the same tokens."""

    key: str  # of the profile that asks for it
    a: str
    b: str
    two_models: bool  # whether they must be of two models; SAEs of one model may be compared as a ceiling


def compared(profile: Profile) -> Iterator[Compared]:
    """All comparisons of a profile, but for those across two tokenizers."""
    sections = profile.sections
    sweep, neurons = sections[SWEEP], sections[NEURONS]
    first, second = profile.pair
    pairs: dict[str, tuple[Iterable[tuple[str, str]], bool]] = {
        "primary.pair": ([(first, second)], True),
        f"{ACROSS}.comparisons": ([(a, within) for a, _, within, _ in sections[ACROSS]["comparisons"]], True),
        f"{STEPS}.negative": ([(first, x) for x in [sections[STEPS]["negative"]] if x], True),
    }
    for name, listed in neurons["beside"].items():
        pairs[f"{NEURONS}.beside.{name}"] = listed, True
    for name, sides in sweep["pairs"].items():
        of_a, of_b = ([profile.members(layer)[0] for layer in side] for side in sides)
        pairs[f"{SWEEP}.pairs.{name}"] = itertools.product(of_a, of_b), False
    for key, (found, two_models) in pairs.items():
        for names in found:
            yield from (Compared(key, a, b, two_models) for a, b in replicates.of(profile, *names))


def _models_by_index(profile: Profile) -> Iterator[tuple[str, ...]]:
    """(key, dictionary, model) of the neurons that notebook 04b compares by their index."""
    for name, models in profile.sections[CLOSER]["by_index"].items():
        for model in models:
            yield from ((f"{CLOSER}.by_index.{name}", *names) for names in replicates.of(profile, name, model))


# --- tokenizers


def check_tokenizers(profile: Profile, *, fetch: bool = False) -> None:
    """Refuse a tokenizer that neither model of the primary pair has, and one tokenizer where notebook 11 needs two.

    The tokenizer of a hub model is known from its files only; without `fetch`, files that are not cached are skipped.
    Raises ProfileError, which names models, keys and the remedy.
    """
    refuse(tokenizer_problems(profile, fetch))


def tokenizer_problems(profile: Profile, fetch: bool = False) -> Iterator[str]:
    """As `check_tokenizers`, a line for each problem."""
    where = f"params/{profile.name}.yaml: "

    def same(a: str, b: str) -> bool | None:
        return pipeline.same_tokenizer(profile, _model(profile, a), _model(profile, b), fetch=fetch)

    def both(a: str, b: str) -> str:
        return f"{_description(profile, a)}, {_description(profile, b)}"

    for key, a, b, _ in compared(profile):
        for name in (a, b):
            if all(same(name, of_pair) is False for of_pair in profile.pair):
                yield f"{where}{key}: {_neither(profile, name)}"
    for key, name, model in _models_by_index(profile):
        if pipeline.same_tokenizer(profile, _model(profile, name), model, fetch=fetch) is False:
            yield (
                f"{where}{key}: {_description(profile, name)}, and {model} has another tokenizer; name a model with "
                "the same"
            )
    comparisons = profile.sections[ACROSS]["comparisons"]
    for a, across, *others in (x for four in comparisons for x in replicates.of(profile, *filter(None, four))):
        if same(a, across):
            yield f"{where}{ACROSS}.comparisons: {both(a, across)}: one tokenizer, where two are compared"
        for other in others:
            if same(a, other) is False:
                yield (
                    f"{where}{ACROSS}.comparisons: {both(a, other)}: two tokenizers; the third and fourth have that "
                    "of the first"
                )


def _model(profile: Profile, dictionary: str) -> str:
    return str(pipeline.origin(profile.dictionaries, dictionary).model)


def _description(profile: Profile, dictionary: str) -> str:
    """A dictionary, its model and the model's tokenizer, in words."""
    model = _model(profile, dictionary)
    record = pipeline.origin(profile.models, model)
    tokenizer = f"{record.tokenizer}, {record.vocabulary:,} tokens" if isinstance(record, toys.Toy) else record.title()
    return f"{dictionary} reads the model {model} ({tokenizer})"


def _neither(profile: Profile, name: str) -> str:
    """The problem that the model of a dictionary has neither tokenizer of the primary pair, with the remedy."""
    pair = ", ".join(_description(profile, x) for x in profile.pair)
    return (
        f"{_description(profile, name)}: its tokenizer is that of neither model of primary.pair ({pair}), and "
        "features of a profile are compared where these two can; name a model with one of these tokenizers, make it a "
        f"model of primary.pair, or compare it in {ACROSS}.comparisons"
    )


# --- models


def model_problems(profile: Profile) -> Iterator[str]:
    """Problems: one model or one dictionary stands on both sides, so that two models are not compared."""
    where = f"params/{profile.name}.yaml: "
    for key, a, b, two_models in compared(profile):
        if _same(profile.dictionaries, a, b, profile.models):
            yield f"{where}{key}: {a} and {b} are one dictionary, and alike in everything; name two"
        elif two_models and not _two_depths(profile, a, b) and _same_model(profile, a, b):
            models = " and ".join(dict.fromkeys(_model(profile, name) for name in (a, b)))
            yield (
                f"{where}{key}: {a} and {b} read one model ({models}: same source, revision and seed), which answers "
                "nothing about two models; name another, or an SAE in another block, and list SAEs of one hook as a "
                f"ceiling ({SWEEP}.pairs)"
            )
    for key, name, model in _models_by_index(profile):
        if _same(profile.models, _model(profile, name), model):
            yield f"{where}{key}: {model} is the model that {name} reads; name another"


def _same_model(profile: Profile, a: str, b: str) -> bool:
    return _same(profile.models, _model(profile, a), _model(profile, b))


def _two_depths(profile: Profile, a: str, b: str) -> bool:
    """Whether two dictionaries name hooks in two blocks: of one model, they are a comparison of its depths."""
    hooks = [getattr(pipeline.origin(profile.dictionaries, name), "hook", "") for name in (a, b)]
    blocks = {found[1] for hook in hooks if (found := re.match(r"blocks\.(\d+)\.", hook))}
    return len(blocks) == 2


def _same(records: Mapping[str, Any], a: str, b: str, models: Mapping[str, Any] | None = None) -> bool:
    return a == b or _identity(records, a, models) == _identity(records, b, models)


def _identity(records: Mapping[str, Any], name: str, models: Mapping[str, Any] | None) -> dict[str, Any]:
    """The values that determine a model or dictionary; names in them are replaced by their records."""
    record: Spec = records[name]
    values = record.model_dump(exclude={"checkpoints", "dtype"})
    if isinstance(record, pretrained.Pretrained):
        values = {"source": record.identity()}
    if "of" in values:
        values["of"] = _identity(records, values["of"], models)
    if models is not None and "model" in values:
        values["model"] = _identity(models, values["model"], None)
    return values
