"""What a profile compares with what, and whether that can be: one tokenizer, two models, a measure that all can take.

In: a profile whose sections have their shapes and names (`sections`). Out: nothing, or one error with all problems.
Never: a file of a model's weights; a dictionary of the store.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from sae_utils.engine.inputs import hub
from sae_utils import pipeline
from sae_utils.engine.chance import subsets
from sae_utils import similarity
from sae_utils.measures import NEIGHBOURS
from sae_utils.engine.lms import pretrained, toys
from sae_utils.engine.saes import trainer
from sae_utils.engine.checks.sections import CLOSED
from sae_utils.engine.core.spec import ProfileError, Spec, build, choose
from sae_utils.studies.semantic_subspaces import concepts, word2vec
from sae_utils.studies.layer_sweep import layers
from sae_utils.studies.published_tables import planted, published
from sae_utils.studies.known_truth import synthetic

if TYPE_CHECKING:
    from sae_utils.profiles import Profile

SEEDS, NEURONS, CONCEPTS = "00_models_and_dictionaries", "04_llm_vs_sae", "05_semantic_subspaces"
SWEEP, ACROSS, PUBLISHED = "03_layer_sweep", "11_across_tokenizers", "12_published_tables"


class Compared(NamedTuple):
    """Two dictionaries whose features are paired, token by token."""

    key: str
    """of the profile that asks for it"""
    a: str
    b: str
    two_models: bool
    """whether the answer is about two models; else two SAEs of one may be compared, as a ceiling"""


def pairs(profile: Profile) -> Iterator[Compared]:
    """All that is compared, but for models of two tokenizers, which are compared where words end."""
    sections = profile.sections
    seeds, sweep, neurons = sections[SEEDS], sections[SWEEP], sections[NEURONS]
    first, second = profile.common.primary.pair
    many: dict[str, tuple[Iterable[tuple[str, str]], bool]] = {
        "primary.pair": ([(first, second)], True),
        f"{SEEDS}.control_seeds": (itertools.combinations(seeds["control_seeds"], 2), True),
        f"{SEEDS}.control_ceiling": (itertools.combinations(seeds["control_ceiling"], 2), False),
        f"{SEEDS}.control_negatives": (zip(seeds["control_seeds"], seeds["control_negatives"], strict=False), True),
    }
    for kind in ("depths", "random", "random_blocks"):
        many[f"{SEEDS}.control_{kind}"] = itertools.product(seeds["control_seeds"], seeds[f"control_{kind}"]), True
    for name, sides in sweep["pairs"].items():
        many[f"{SWEEP}.pairs.{name}"] = itertools.product(*sides), name in sweep["negatives"]
    many[f"{NEURONS}.layers"] = itertools.product(*neurons["layers"]), True
    many[f"{NEURONS}.seeds"] = neurons["seeds"].items(), True
    many[f"{NEURONS}.controls"] = neurons["controls"].values(), True
    many[f"{CONCEPTS}.layers"] = itertools.product(*sections[CONCEPTS]["layers"].values()), True
    many[f"{ACROSS}.comparisons"] = [(a, within) for a, _, within, _ in sections[ACROSS]["comparisons"]], True
    many[f"{PUBLISHED}.negative"] = [(first, sections[PUBLISHED]["negative"])], True
    for key, (found, two_models) in many.items():
        yield from (Compared(key, a, b, two_models) for a, b in found)


def check(profile: Profile) -> None:
    """Refuse comparisons that cannot be made, as far as the profile alone tells.

    Raises:
        ProfileError: all that is wrong, a line each.
    """
    found: list[str] = []
    for test in TESTS:
        try:
            test(profile)
        except ProfileError as error:
            found += str(error).split("\n")
    _refuse(found)


def _refuse(found: list[str]) -> None:
    if found:
        raise ProfileError("\n".join(dict.fromkeys(found)))


def _where(profile: Profile) -> str:
    return f"params/{profile.name}.yaml: "


# --- the primary measure


def _neighbours(name: str) -> int:
    return NEIGHBOURS if similarity.measure(name).scope == "local" else 0


class Need(NamedTuple):
    """What a notebook must know of the primary measure."""

    notebook: str
    of: Callable[[str], bool]
    """whether a measure has it"""
    lacks: str
    """what one lacks that has it not, and what for"""


NEEDS = (
    Need(NEURONS, lambda name: name in CLOSED, "its null mean is not known in closed form, which intervals need"),
    Need(CONCEPTS, lambda name: name in subsets.MEASURES, "it is not scored in many subsets at once, as concepts need"),
    Need(ACROSS, lambda name: name in CLOSED, "its null mean is not known in closed form, which intervals need"),
)
TAKEN = [name for name in similarity.NAMES if all(need.of(name) for need in NEEDS)]
"""measures that every notebook takes as the primary one"""


def _measure(profile: Profile) -> None:
    name = profile.common.primary.measure
    if name not in similarity.NAMES:
        raise ProfileError(
            f"{_where(profile)}primary.measure: no measure is called {name!r}; valid: {', '.join(TAKEN)}"
        )
    lacking: dict[str, list[str]] = {}
    for need in NEEDS:
        if not need.of(name):
            lacking.setdefault(need.lacks, []).append(need.notebook)
    if lacking:
        told = "; ".join(f"{lacks} ({', '.join(notebooks)})" for lacks, notebooks in lacking.items())
        raise ProfileError(f"{_where(profile)}primary.measure: not {name!r}: {told}; valid: {', '.join(TAKEN)}")


def _numbers(profile: Profile) -> None:
    """Sets of pairs that are too few for what is asked of them."""
    primary, sections = profile.common.primary.measure, profile.sections
    least = max(similarity.measure(primary).least, _neighbours(primary) + 1) if primary in similarity.NAMES else 0
    scoring = sections[CONCEPTS]["scoring"]["neighbours"]
    asked = {
        f"{SWEEP}.fewest": (sections[SWEEP]["fewest"], sections[SWEEP]["neighbours"] + 1),
        f"{NEURONS}.fewest": (sections[NEURONS]["fewest"], least),
        f"{NEURONS}.subspaces_of.fewest": (sections[NEURONS]["subspaces_of"]["fewest"], least),
        f"{ACROSS}.fewest": (sections[ACROSS]["fewest"], least),
        f"{CONCEPTS}.power_curve.sizes": (min(sections[CONCEPTS]["power_curve"]["sizes"]), scoring + 1),
    }
    _refuse(
        [
            f"{_where(profile)}{key}: {given} pairs are too few: the measures need {needed} or more, one more than the "
            "neighbours that are compared"
            for key, (given, needed) in asked.items()
            if given < needed
        ]
    )


# --- names that say more than that something is called so


def _hooks(profile: Profile) -> None:
    """Hooks of what is trained here: in a block that its model has; elsewhere the files of a release tell."""
    found = []
    for name, record in profile.dictionaries.items():
        if isinstance(record, trainer.Trained):
            key, inside = f"{_where(profile)}dictionaries.{name}.hook", re.match(r"blocks\.(\d+)\..", record.hook)
            model = pipeline.origin(profile.models, record.model)
            if not inside:
                found.append(f"{key}: {record.hook!r} is in no block; write blocks.N. and a name, as hook_mlp_out")
            elif isinstance(model, toys.Toy) and int(inside[1]) >= model.layers:
                found.append(f"{key}: {record.model} has {model.layers} blocks, from 0; {record.hook!r} is in none")
    _refuse(found)


def _controls(profile: Profile) -> None:
    section, key = profile.sections[SEEDS], f"{_where(profile)}{SEEDS}"
    found, curve = [], section["curve"]
    if len(section["control_seeds"]) != len(section["control_negatives"]):
        found.append(f"{key}.control_negatives: one for each of control_seeds, found {section['control_negatives']}")
    if curve and not _steps(profile, curve):
        found.append(
            f"{key}.curve: {curve} is known at no training step; give a toy `checkpoints`, list a pretrained model at "
            'steps as models of their own (`revision: step1000`), or say `curve: ""`'
        )
    _refuse(found)


def _steps(profile: Profile, name: str) -> bool:
    record = profile.models[name]
    if isinstance(record, toys.Toy):
        return record.checkpoints > 0
    others = [x for x in profile.models.values() if isinstance(x, pretrained.Pretrained)]
    return isinstance(record, pretrained.Pretrained) and any(
        x.source == record.source and re.fullmatch(r"step\d+", x.revision) for x in others
    )


def _layers(profile: Profile) -> None:
    section = profile.sections[SWEEP]
    grid = layers.cells(profile, SWEEP, section["pairs"])
    layers.check(profile, SWEEP, section["pairs"], section["ceilings"], section["negatives"])
    layers.find(profile, "primary.pair", grid, profile.common.primary.pair)
    layers.find(profile, f"{SWEEP}.middle", grid, section["middle"])


def _concepts(profile: Profile) -> None:
    section, where = profile.sections[CONCEPTS], f"{_where(profile)}{CONCEPTS}"
    lists = concepts.word_lists(section["concept_set"])
    concepts.combine(lists, section["unions"], section["keywords"], where=where)
    for number, value in enumerate(section["rules"]):
        rule = concepts.rule(value, f"{where}.rules.{number}")
        tops = section["labelling"]["tops"]
        if isinstance(rule, concepts.Top) and rule.top > tops:
            raise ProfileError(f"{where}.rules.{number}.top: {rule.top} of the {tops} tokens of labelling.tops")
    choose(word2vec.KINDS, section["vectors"], f"{where}.vectors")


def _planted(profile: Profile) -> None:
    truth, ladder = "06_known_truth", profile.sections[PUBLISHED]
    for key in ("truths", "weak_truths", "traps"):
        synthetic.worlds(profile.sections[truth][key], f"{_where(profile)}{truth}.{key}")
    synthetic.worlds(ladder["truths"], f"{_where(profile)}{PUBLISHED}.truths")
    build(planted.Sizes, ladder["sizes"], f"{_where(profile)}{PUBLISHED}.sizes")


def _published(profile: Profile) -> None:
    if given := profile.sections[PUBLISHED]["published_layers"]:
        where = f"{_where(profile)}{PUBLISHED}.published_layers"
        published.cells(published.layer_scores(), given, profile.dictionaries, where)


# --- one tokenizer, two models


def tokenizers(profile: Profile, *, fetch: bool = False) -> None:
    """Refuse two tokenizers where features are paired token by token, and one where 11 compares across two.

    What is on the hub is known by its files only: without `fetch` nothing is said of two models of the hub.

    Raises:
        ProfileError: which models, which keys, and the remedy.
    """
    found = []
    for key, a, b, _ in pairs(profile):
        if _alike(profile, a, b, fetch) is False:
            found.append(
                f"{_where(profile)}{key}: {_reads(profile, a)}, {_reads(profile, b)}: two tokenizers, where features "
                f"are paired token by token; name models with one, or compare across two in {ACROSS}.comparisons"
            )
    for name, others in profile.sections[NEURONS]["by_index"].items():
        found += [
            f"{_where(profile)}{NEURONS}.by_index.{name}: {_reads(profile, name)}, and {other} has another tokenizer; "
            "name a model with the same"
            for other in others
            if _models_alike(profile, _model(profile, name), other, fetch) is False
        ]
    key = f"{_where(profile)}{ACROSS}.comparisons"
    for a, across, within, negative in profile.sections[ACROSS]["comparisons"]:
        if _alike(profile, a, across, fetch):
            found.append(
                f"{key}: {_reads(profile, a)}, {_reads(profile, across)}: one tokenizer, where two are compared"
            )
        found += [
            f"{key}: {_reads(profile, a)}, {_reads(profile, other)}: two tokenizers; the third and fourth have that of "
            "the first"
            for other in (within, negative)
            if _alike(profile, a, other, fetch) is False
        ]
    _refuse(found)


def _model(profile: Profile, dictionary: str) -> str:
    return str(pipeline.origin(profile.dictionaries, dictionary).model)


def _reads(profile: Profile, dictionary: str) -> str:
    """A dictionary and its model, with what cuts its text, in words."""
    model = _model(profile, dictionary)
    record = pipeline.origin(profile.models, model)
    words = f"{record.tokenizer}, {record.vocabulary:,} tokens" if isinstance(record, toys.Toy) else record.source
    return f"{dictionary} reads the model {model} ({words})"


def _alike(profile: Profile, a: str, b: str, fetch: bool) -> bool | None:
    """Whether the models of two dictionaries have one tokenizer, as `_models_alike`."""
    return _models_alike(profile, _model(profile, a), _model(profile, b), fetch)


def _models_alike(profile: Profile, a: str, b: str, fetch: bool) -> bool | None:
    """Whether two models have one tokenizer; None where only files to be fetched could tell."""
    one, two = (pipeline.origin(profile.models, name) for name in (a, b))
    if isinstance(one, toys.Toy) and isinstance(two, toys.Toy):
        return (one.tokenizer, one.vocabulary) == (two.tokenizer, two.vocabulary)
    if isinstance(one, toys.Toy) or isinstance(two, toys.Toy):
        return False
    if (one.source, one.revision) == (two.source, two.revision):
        return True
    words = [pretrained.tokenizer_spec(x) if fetch else pretrained.local_tokenizer_spec(x) for x in (one, two)]
    return None if None in words else words[0] == words[1]


def _two_models(profile: Profile) -> None:
    """One model on both sides, which says nothing about two; one dictionary on both, which says nothing at all."""
    found = []
    for key, a, b, two_models in pairs(profile):
        if _same(profile.dictionaries, a, b, profile.models):
            found.append(f"{_where(profile)}{key}: {a} and {b} are one dictionary, and alike in everything; name two")
        elif two_models and _same(profile.models, _model(profile, a), _model(profile, b)):
            models = " and ".join(dict.fromkeys(_model(profile, name) for name in (a, b)))
            found.append(
                f"{_where(profile)}{key}: {a} and {b} read one model ({models}: same source, revision and seed), which "
                "answers nothing about two models; name another, and list SAEs of one model as a ceiling "
                f"({SEEDS}.control_ceiling, {SWEEP}.ceilings)"
            )
    for name, others in profile.sections[NEURONS]["by_index"].items():
        found += [
            f"{_where(profile)}{NEURONS}.by_index.{name}: {other} is the model that {name} reads; name another"
            for other in others
            if _same(profile.models, _model(profile, name), other)
        ]
    _refuse(found)


def _same(records: Mapping[str, Any], a: str, b: str, models: Mapping[str, Any] | None = None) -> bool:
    return a == b or _what(records, a, models) == _what(records, b, models)


def _what(records: Mapping[str, Any], name: str, models: Mapping[str, Any] | None) -> dict[str, Any]:
    """What makes a model or a dictionary: its record, with records in the place of the names in it."""
    record: Spec = records[name]
    made = record.model_dump(exclude={"checkpoints", "dtype"})
    if isinstance(record, pretrained.Pretrained):
        made = {"source": record.source, "revision": record.revision}
        if hub.is_local(record.source):
            made = {"source": str(hub.local_path(record.source).resolve())}
    if "of" in made:
        made["of"] = _what(records, made["of"], models)
    if models is not None and "model" in made:
        made["model"] = _what(models, made["model"], None)
    return made


TESTS = (
    _measure, _numbers, _hooks, _controls, _two_models, tokenizers, _layers, _concepts, _planted, _published,
)  # fmt: skip
