"""The schema of each section of a profile: shapes, bounds of numbers, and names that must be defined.

In: a notebook, its section, the names that the profile defines. Out: nothing, or one error with all problems.
Never: a default; what several keys mean together (`requirements` checks that).

A notebook's parameters cell is the schema: its names, and the types of its literals. `SHAPES` adds what a literal
cannot say. A parameter that is not listed there is a count, a share, or anything of the type of its literal.
"""

from collections.abc import Collection, Mapping
from functools import partial
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, Field, ValidationInfo, create_model

from sae_utils import filters, measures
from sae_utils.engine.core.spec import Count, NameUnknown, ProfileError, Rate, Spec, build, nearest
from sae_utils.engine.text import stories
from sae_utils.engine.text.tokenization import Kind
from sae_utils.studies.function import section as function
from sae_utils.studies.joint import section as joint
from sae_utils.studies.known_truth import calibration
from sae_utils.studies.recovery import training

T = TypeVar("T")

# --- validators


def _defined(kind: str, value: str, info: ValidationInfo, *, or_empty: bool = False) -> str:
    """A name of this kind that the profile defines."""
    names = (info.context or {})[kind]
    if value not in names and (value or not or_empty):
        raise NameUnknown(f"no {kind} is called {value!r}; {nearest(value, names)}")
    return value


def _one_of(kind: str, names: Collection[str], value: str) -> str:
    if value not in names:
        # lists all: for `rsa` the nearest name would be `svcca`
        raise NameUnknown(f"no {kind} is called {value!r}; valid: {', '.join(names)}")
    return value


def _without_repeats(values: list[Any]) -> list[Any]:
    if repeated := [value for place, value in enumerate(values) if value in values[:place]]:
        raise NameUnknown(f"{repeated[0]!r} stands twice; remove one")
    return values


def _three(names: list[str]) -> list[str]:
    """Four names, of which only the last, that of a twin, may be missing."""
    if not all(names[:3]):
        raise NameUnknown("the first three must name a dictionary")
    return names


def _filter(step: list[Any]) -> list[Any]:
    """A filter and its options: [name, {option: value}]."""
    name, options = step
    if not isinstance(name, str) or name not in filters.FILTERS:
        raise NameUnknown(f"no filter is called {name!r}; {nearest(name, filters.FILTERS)}")
    fields: dict[str, Any] = {
        option.name: (FILTER_OPTIONS[option.name], ... if option.default is option.empty else option.default)
        for option in filters.options(name).values()
    }
    try:
        build(create_model("Options", __base__=Spec, **fields), options, name)
    except ProfileError as error:
        raise NameUnknown(str(error).replace("\n", "; ")) from None
    return step


def _at_least(least: int) -> Any:
    return Annotated[int, Field(ge=least, lt=2**31)]


def _record(**fields: Any) -> Any:
    given: dict[str, Any] = {name: (kind, ...) for name, kind in fields.items()}
    return create_model("Record", __base__=Spec, **given)


# --- types

CLOSED_FORM = [name for name in measures.NAMES if measures.measure(name).closed_form]
"""measures whose null mean is known in closed form"""
Model = Annotated[str, AfterValidator(partial(_defined, "model"))]
ModelOrNone = Annotated[str, AfterValidator(partial(_defined, "model", or_empty=True))]
Dictionary = Annotated[str, AfterValidator(partial(_defined, "dictionary"))]
DictionaryOrNone = Annotated[str, AfterValidator(partial(_defined, "dictionary", or_empty=True))]
Four = Annotated[list[DictionaryOrNone], Field(min_length=4, max_length=4), AfterValidator(_three)]
ConceptSet = Annotated[str, AfterValidator(partial(_defined, "set of concepts"))]
Measure = Annotated[str, AfterValidator(partial(_one_of, "measure", measures.NAMES))]
Closed = Annotated[str, AfterValidator(partial(_one_of, "measure with a null mean in closed form", CLOSED_FORM))]
Topic = Annotated[str, AfterValidator(partial(_one_of, "topic", stories.TOPICS))]
Null = Annotated[str, AfterValidator(partial(_one_of, "null", calibration.NULLS))]
Share = Annotated[float, Field(ge=0, le=1)]
Two = Annotated[list[T], Field(min_length=2, max_length=2)]
Some = Annotated[list[T], Field(min_length=1)]
Different = Annotated[list[T], AfterValidator(_without_repeats)]
Filter = Annotated[list[Any], Field(min_length=2, max_length=2), AfterValidator(_filter)]
Size = Annotated[int, Field(ge=4, lt=2**31)]
Draws = _at_least(19)  # with fewer no p is at most .05
Spread = _at_least(2)  # an SD needs two
FILTER_OPTIONS: dict[str, Any] = {
    "minimum": Count, "r": Annotated[float, Field(ge=-1, le=1)], "more_than": Count,
    "keep": Literal["best", "first", "none"], "side": Literal["a", "b"], "tokens": list[str], "top": Count,
    "most": _at_least(0), "share": Share,
}  # fmt: skip
RECOVERERS = ("TopK", "BatchTopK", "ReLU", "JumpReLU")
COUNTS: dict[str, Any] = {
    "permutations": Draws, "curve_draws": Spread, "subset_draws": Spread, "draws": Spread,
    "null_draws": Spread, "fewest": Size,
}  # fmt: skip
"""whole numbers with other bounds than a count"""


class Grid(Spec):
    """Widths of the rows and numbers of pairs at which notebook 06 asks what measures report."""

    d_a: Count
    d_b: Count
    n: Some[Size]


class Trap(Spec):
    """A world of notebook 06b in which pairs are not exchangeable, and the null that fits it."""

    right_null: Null
    world: dict[str, Any]


SHAPES: dict[str, dict[str, Any]] = {
    "00_models_and_dictionaries": {"curve": ModelOrNone},
    "01b_hubs_and_filters": {"filters_in_order": list[Filter]},
    "01c_arranged_alike": {"secondary_measures": Different[Measure], "near": Some[Share]},
    "02_one_to_one": {"least_r": Some[Share], "hub_thresholds": Some[Count], "strongest": Some[Rate]},
    "02b_whole_dictionaries": {"bins": Spread},
    "03_layer_sweep": {
        "pairs": dict[str, Two[Some[Dictionary]]],
        "secondary_measures": Different[Measure],
        "other_estimators": Different[Measure],
    },
    "04_llm_vs_sae": {
        "beside": dict[str, list[Two[Dictionary]]],
        "secondary_measures": Different[Measure],
        "counterpart": Share,
        "caliper": Share,
    },
    "04b_neurons_by_index_or_concept": {
        "by_index": dict[Dictionary, Some[Model]],
        "subspaces_of": _record(concepts=ConceptSet, share=Rate, fewest=Size),
    },
    "05_semantic_subspaces": {
        "concept_set": ConceptSet,
        "labelling": _record(shares=Some[Share], minimum_firings=Count, truth_share=Share),
        "draws": _record(permutations=Draws, placebo_lists=Spread),
    },
    "05b_word_relations": {
        "concept_set": ConceptSet,
        "labelling": _record(share=Share, minimum_firings=Count),
        "draws": _record(permutations=Draws, relatedness=Draws),
        "relation": _record(share=Share, words=dict[str, Some[Two[str]]]),
    },
    "06_known_truth": {
        "measures": Annotated[Different[Measure], Field(min_length=1)],
        "truths": Annotated[dict[str, dict[str, Any]], Field(min_length=1)],
        "grids": Some[Grid],
        "grid_repeats": _record(rows=Count, most=Count, draws=Spread),
    },
    "06b_level_and_power": {
        "measures": Annotated[Different[Measure], Field(min_length=1)],
        "small": _record(
            n=Size, d_a=Count, d_b=Count, draws=Draws, repeats=Count, naive_repeats=Count, too_often=Share
        ),
        "weak_truths": dict[str, dict[str, Any]],
        "traps": dict[str, Trap],
        "trapped": Annotated[Different[Measure], Field(min_length=1)],
    },
    "06c_intervals_and_verdicts": {
        "truths": dict[str, dict[str, Any]],
        "interval": _record(
            measures=Annotated[Different[Closed], Field(min_length=1)],
            n=Size,
            d_a=Count,
            d_b=Count,
            resamples=Spread,
            repeats=Count,
        ),
        "verdict": _record(
            measure=Closed,
            shares=Some[Share],
            alike=Share,
            n=Size,
            d_a=Count,
            d_b=Count,
            replicates=Size,
            repeats=Count,
            of_ceiling=Share,
            wanted=Share,
        ),
    },
    "06d_recovery": {
        "saes": _record(**dict.fromkeys(RECOVERERS, training.Kind)),
        "widths": Annotated[Different[Count], Field(min_length=1)],
        "schedule": training.Schedule,
        "splitting": _record(
            kind=Annotated[str, AfterValidator(partial(_one_of, "kind of SAE", RECOVERERS))],
            alike=Share,
            widths=Annotated[Different[Count], Field(min_length=2)],
        ),
        "draws": _at_least(3),
    },
    "06e_counterparts": {
        "shares": Annotated[Different[Share], Field(min_length=1)],
        "noise": Annotated[Different[Annotated[float, Field(ge=0)]], Field(min_length=1)],
        "thresholds": Annotated[Different[Annotated[float, Field(ge=-1, le=1)]], Field(min_length=1)],
        # odd documents judge: three or more
        "text": _record(tokens=_at_least(40), documents=_at_least(6), words=Count),
        "repeats": Spread,
    },
    "06f_shared_fraction": {
        "shares": Annotated[Different[Share], Field(min_length=2)],
        "varied": dict[str, dict[str, Any]],
        "measures": Annotated[Different[Measure], Field(min_length=1)],
        "draws": _at_least(3),
    },
    "07_controls": {
        "sae_seeds": Different[Dictionary],
        "twins": dict[str, Dictionary],
        "models": dict[str, Dictionary],
        "frozen": Different[Dictionary],
        "trained": Different[Dictionary],
        "calipers": Two[Rate],
        "least_r": Different[Share],
    },
    "07b_sensitivity": {
        "alternatives": dict[str, list[Any]],
        "other_dictionaries": dict[str, Two[Dictionary]],
        "crossed": list[dict[str, Any]],
        "planted": _record(shared=Share, noise=Some[Share], features=Count, tokens=Count),
    },
    "07c_twins": {
        "a": Different[Dictionary],
        "b": Different[Dictionary],
        "twins": dict[str, dict[Literal["a", "b"], Some[Dictionary]]],
    },
    "08_function": function.SHAPES,
    **joint.SHAPES,
    "11_across_tokenizers": {
        "comparisons": list[
            Annotated[list[DictionaryOrNone], Field(min_length=4, max_length=4), AfterValidator(_three)]
        ],
        "tokenizers": Annotated[dict[str, Two[Kind | Size]], Field(min_length=1)],
        "at": Literal["ends", "words"],
    },
    "12_published_tables": {"tokens": list[str], "published_layers": dict[str, dict[str | int, Dictionary]]},
    "12b_ladder": {"tokens": list[str]},
    "13_training_phases": {
        "followed": Annotated[Different[Dictionary], Field(max_length=2)],
        "along": DictionaryOrNone,
        "text": _record(documents=_at_least(12), occurrences=Count, minimum=Count),
        "states_of_sae": Spread,
        "sizes": list[Size],
    },
    "13b_data": {
        "dictionary": DictionaryOrNone,
        "topics": Different[Topic],
        "text": _record(documents=_at_least(12), minimum=Count),
        "poisoned": DictionaryOrNone,
        "clean": Different[Dictionary],
    },
    "12c_steps_and_truth": {"negative": DictionaryOrNone, "tokens": list[str]},
    "12d_false_positives": {
        "tokens": list[str],
        "worlds": dict[str, dict[str, Any]],
        "ends": _record(nothing=Count, all=Count, shared=Share),
        "permutations": _at_least(20),  # with fewer no p is below .05
    },
}


def check(
    notebook: str, section: Mapping[str, Any], defaults: Mapping[str, Any], names: Mapping[str, Any], where: str
) -> None:
    """Refuse a section in which a shape, a number or a name is wrong.

    `section` and `defaults` are the values of the profile and of the notebook's parameters cell; `names` are defined
    names by kind ("model", "dictionary", "set of concepts"). Raises ProfileError with all problems, a line each.
    """
    from sae_utils.engine.checks import geometry  # it takes the types of this module

    shapes = (SHAPES | geometry.SHAPES).get(notebook, {})
    fields: dict[str, Any] = {key: (shapes.get(key, _shape(key, defaults[key])), ...) for key in section}
    build(create_model("Section", __base__=Spec, **fields), section, where, names)


def _shape(key: str, default: Any) -> Any:
    """The type of a parameter, from its default."""
    if isinstance(default, bool) or not isinstance(default, int | float):
        return type(default)
    return Share if isinstance(default, float) else COUNTS.get(key, Count)
