"""Requirements on several keys of a profile: the primary measure, numbers of pairs, hooks, layers, concepts.

In: a profile whose sections have been checked one by one. Out: nothing, or one error with all problems.
Never: a file of a model's weights; an artefact of the store.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from sae_utils import measures, pipeline
from sae_utils.engine.checks import attribution, comparisons, interventions
from sae_utils.engine.checks.comparisons import (
    ACROSS,
    CLOSER,
    CONCEPTS,
    NEURONS,
    PUBLISHED,
    RELATIONS,
    SEEDS,
    STEPS,
    SWEEP,
)
from sae_utils.engine.core.spec import ProfileError, build, choose, refuse
from sae_utils.engine.lms import pretrained, toys
from sae_utils.engine.params import Profile
from sae_utils.engine.saes import trainer
from sae_utils.engine.text import corpora
from sae_utils.studies.function import section as function
from sae_utils.studies.joint import section as joint
from sae_utils.studies.known_truth import synthetic
from sae_utils.studies.layer_sweep import layers
from sae_utils.studies.published_tables import false_positives, planted, published
from sae_utils.studies.recovery import counterparts, shared, worlds
from sae_utils.studies.semantic_subspaces import concepts, word2vec
from sae_utils.studies.sensitivity import choices
from sae_utils.studies.training import selection, states, trigger
from sae_utils.studies.twins import arms

TRUTH, LEVEL, VERDICTS = "06_known_truth", "06b_level_and_power", "06c_intervals_and_verdicts"
SENSITIVITY, TWINS, FALSE = "07b_sensitivity", "07c_twins", "12d_false_positives"
RECOVERY, COUNTERPARTS, SHARED = "06d_recovery", "06e_counterparts", "06f_shared_fraction"
PHASES, DATA = "13_training_phases", "13b_data"
FUNCTION = "08_function"
JOINT, ALIKE = "09_joint_dictionary", "09b_alike_loss"


def check(profile: Profile) -> None:
    """Refuse values that do not fit together, as far as the profile shows.

    Raises ProfileError with all problems, a line each.
    """
    where = f"params/{profile.name}.yaml: "
    found = [f"{where}{problem}" for problems in OWN for problem in problems(profile)]
    found += [*comparisons.model_problems(profile), *comparisons.tokenizer_problems(profile)]
    for call in STUDIES:
        try:
            call(profile, where)
        except ProfileError as error:
            found += str(error).split("\n")
    refuse(found)


# --- the primary measure


def lacking(name: str) -> dict[str, list[str]]:
    """Properties that a measure lacks -> the notebooks that need them of the primary measure."""
    measure = measures.measure(name)
    found = {}
    if not measure.closed_form:
        found["its null mean is not known in closed form, which intervals need"] = [NEURONS, ACROSS]
    return found


def primary_measures() -> list[str]:
    """Names of the measures that every notebook takes as the primary one."""
    return [name for name in measures.NAMES if not lacking(name)]


def _primary_measure(profile: Profile) -> Iterator[str]:
    name, valid = profile.common.primary.measure, ", ".join(primary_measures())
    if name not in measures.NAMES:
        yield f"primary.measure: no measure is called {name!r}; valid: {valid}"
    elif found := lacking(name):
        why = "; ".join(f"{lack} ({', '.join(notebooks)})" for lack, notebooks in found.items())
        yield f"primary.measure: not {name!r}: {why}; valid: {valid}"


def _numbers_of_pairs(profile: Profile) -> Iterator[str]:
    """Problems: sets of pairs that are too small for their measures."""
    sections, primary = profile.sections, profile.common.primary.measure
    least = measures.measure(primary).least if primary in measures.NAMES else 0  # an unknown one is refused already
    needed = {
        f"{SWEEP}.fewest": (sections[SWEEP]["fewest"], sections[SWEEP]["neighbours"] + 1),
        f"{NEURONS}.fewest": (sections[NEURONS]["fewest"], least),
        f"{CLOSER}.fewest": (sections[CLOSER]["fewest"], least),
        f"{CLOSER}.subspaces_of.fewest": (sections[CLOSER]["subspaces_of"]["fewest"], least),
    }
    for key, (given, fewest) in needed.items():
        if given < fewest:
            yield (
                f"{key}: {given} pairs are too few: the measures need {fewest} or more; one that compares neighbours "
                "needs one more than these"
            )


# --- hooks, the learning curve


def _hooks(profile: Profile) -> Iterator[str]:
    """Problems: hooks of SAEs trained here that are in no block of their model."""
    for name, record in profile.dictionaries.items():
        if not isinstance(record, trainer.Trained):
            continue
        key, block = f"dictionaries.{name}.hook", re.match(r"blocks\.(\d+)\..", record.hook)
        model = pipeline.origin(profile.models, record.model)
        if not block:
            yield f"{key}: {record.hook!r} is in no block; write blocks.N. and a name, as hook_mlp_out"
        elif isinstance(model, toys.Toy) and int(block[1]) >= model.layers:
            yield f"{key}: {record.model} has {model.layers} blocks, from 0; {record.hook!r} is in none"


def _curve(profile: Profile) -> Iterator[str]:
    curve = profile.sections[SEEDS]["curve"]
    if curve and not _has_steps(profile, curve):
        yield (
            f"{SEEDS}.curve: {curve} is known at no training step; give a toy `checkpoints`, list a pretrained model "
            'at steps as models of their own (`revision: step1000`), or say `curve: ""`'
        )


def _has_steps(profile: Profile, name: str) -> bool:
    """Whether a profile has several training steps of a model."""
    record = profile.models[profile.members(name)[0]]
    if isinstance(record, toys.Toy):
        return record.checkpoints > 0
    others = [model for model in profile.models.values() if isinstance(model, pretrained.Pretrained)]
    return isinstance(record, pretrained.Pretrained) and any(
        model.source == record.source and re.fullmatch(r"step\d+", model.revision) for model in others
    )


def _exchange(profile: Profile) -> Iterator[str]:
    if isinstance(profile.corpus, corpora.Stories) and profile.common.replicates:
        return
    asked = {f"{ACROSS}.comparisons.{n}": x[3] for n, x in enumerate(profile.sections[ACROSS]["comparisons"])}
    for key in (key for key, name in asked.items() if not name):
        yield f"{key}: words change places only in stories with `replicates`; name the dictionary of a twin"


# --- what the studies check themselves


def _layers(profile: Profile, where: str) -> None:
    section = profile.sections[SWEEP]
    grid = layers.cells(profile, SWEEP, section["pairs"])
    layers.find(profile, "primary.pair", grid, profile.pair)


def _concepts(profile: Profile, where: str) -> None:
    for notebook in (CONCEPTS, RELATIONS):
        concepts.word_lists(profile.sections[notebook]["concept_set"])
    choose(word2vec.KINDS, profile.sections[RELATIONS]["vectors"], f"{where}{RELATIONS}.vectors")


def _planted(profile: Profile, where: str) -> None:
    steps = profile.sections[STEPS]
    for notebook, key in ((TRUTH, "truths"), (LEVEL, "weak_truths"), (VERDICTS, "truths")):
        synthetic.worlds(profile.sections[notebook][key], f"{where}{notebook}.{key}")
    traps = profile.sections[LEVEL]["traps"]
    synthetic.worlds({name: trap["world"] for name, trap in traps.items()}, f"{where}{LEVEL}.traps")
    synthetic.worlds(steps["truths"], f"{where}{STEPS}.truths")
    build(planted.Sizes, steps["sizes"], f"{where}{STEPS}.sizes")
    counterparts.check(profile.sections[COUNTERPARTS], f"{where}{COUNTERPARTS}")
    x = profile.sections[SHARED]
    shared.conditions(x["world"], x["sae"], x["schedule"], x["shares"], x["varied"], f"{where}{SHARED}")
    false_positives.check(profile.sections[FALSE], f"{where}{FALSE}")
    _recovery(profile.sections[RECOVERY], f"{where}{RECOVERY}")


def _recovery(section: Mapping[str, Any], where: str) -> None:
    world = worlds.world(section["world"], f"{where}.world")
    if world.firing.active > world.features:
        raise ProfileError(f"{where}.world.firing.active: {world.firing.active:g} of {world.features} features cannot "
                           "be active; lower it")  # fmt: skip
    if len(world.models) > 1:
        raise ProfileError(f"{where}.world.models: SAEs are trained on one model, and {len(world.models)} are given")
    for key in ("samples", "judged"):
        if section["schedule"][key] < world.features:
            raise ProfileError(f"{where}.schedule.{key}: fewer samples than the {world.features} features; raise it")


def _choices(profile: Profile, where: str) -> None:
    section, measure = profile.sections[SENSITIVITY], profile.common.primary.measure
    if measure in primary_measures():  # another one is refused already
        base = choices.Choice(measure=measure)
        choices.specifications(base, section["alternatives"], section["crossed"], f"{where}{SENSITIVITY}")


def _phases(profile: Profile, where: str) -> None:
    """What notebooks 13 and 13b follow: checkpoints of toys, stories, a recipe of SAEs, a trigger."""
    phases, data = profile.sections[PHASES], profile.sections[DATA]
    if phases["followed"] or data["topics"]:
        if not (isinstance(profile.corpus, corpora.Stories) and profile.common.replicates):
            raise ProfileError(f"{where}{PHASES}: it needs stories with `replicates`; say `followed: []`, `topics: []`")
    if phases["followed"]:
        if len(phases["followed"]) < 2 or not phases["along"]:
            raise ProfileError(f"{where}{PHASES}.followed: name A and B, and in `along` an SAE of A with `checkpoints`")
        for name in phases["followed"]:
            states.check_steps(profile, profile.members(name)[0])
    if data["topics"]:
        if not (data["dictionary"] and data["poisoned"] and len(data["clean"]) > 1):
            raise ProfileError(f"{where}{DATA}: name `dictionary`, `poisoned`, and in `clean` two dictionaries or more")
        record = pipeline.origin(profile.dictionaries, profile.members(data["dictionary"])[0])
        selection.recipe(record, data["recipe"], f"{where}{DATA}.recipe")
        trigger.word(profile, profile.members(data["poisoned"])[0])


def _published(profile: Profile, where: str) -> None:
    if given := profile.sections[PUBLISHED]["published_layers"]:
        key = f"{where}{PUBLISHED}.published_layers"
        for cell in published.cells(published.layer_scores(), given, profile.dictionaries, key):
            models = [str(pipeline.origin(profile.dictionaries, name).model) for name in (cell.a, cell.b)]
            if pipeline.same_tokenizer(profile, *models, fetch=False) is False:
                raise ProfileError(
                    f"{key}: {cell.a} and {cell.b} read {' and '.join(models)}, which have two tokenizers: the "
                    "published procedure looks at every position of one text; leave one out"
                )


def _twins(profile: Profile, where: str) -> None:
    section = profile.sections[TWINS]
    if section["twins"]:
        try:
            arms.cells(section["a"], section["b"], section["twins"])
        except ValueError as error:
            raise ProfileError(f"{where}{TWINS}: {error}") from error


def _function(profile: Profile, where: str) -> None:
    function.check(profile.sections[FUNCTION], isinstance(profile.corpus, corpora.Stories), f"{where}{FUNCTION}")


def _joint(profile: Profile, where: str) -> None:
    joint.check(profile.sections[JOINT], profile.sections[ALIKE], where)


OWN: tuple[Callable[[Profile], Iterator[str]], ...] = (_primary_measure, _numbers_of_pairs, _hooks, _curve, _exchange)
STUDIES: tuple[Callable[[Profile, str], Any], ...] = (
    _layers, _concepts, _planted, _choices, _phases, _published, _twins, _function, attribution.check, _joint,
    interventions.check,
)  # fmt: skip
