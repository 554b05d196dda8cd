"""The section of notebook `08_function` in a profile.

In: the values of a profile. Out: their shapes, and one error with all that does not go together.
Never: a model, a computation.
"""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from sae_utils.engine.core.spec import Count, ProfileError, Rate, Spec
from sae_utils.studies.function import targets
from sae_utils.studies.semantic_subspaces import concepts

Positive = Annotated[float, Field(gt=0, le=1e3)]


class Rows(Spec):
    """Token rows that are read of two of the three sets of documents."""

    map: Count  # they fit maps
    vectors: Count  # they give the difference of means


class Contexts(Spec):
    """Contexts of each group of targets."""

    calibration: Count  # they set strengths
    judge: Count


class Labelling(Spec):
    """Which features are about a concept."""

    share: Rate  # least share of a feature's activation on the concept's words
    minimum_firings: Count


SHAPES: dict[str, Any] = {
    "lists": dict[str, Annotated[list[concepts.Word], Field(min_length=1)]],
    "groups": list[Annotated[list[str], Field(min_length=2, max_length=2)]],
    "rows": Rows,
    "contexts": Contexts,
    "strengths": Annotated[list[Positive], Field(min_length=2)],
    "kl": Positive,
    "ridge": Positive,
    "labelling": Labelling,
    "d": Rate,
}


def check(section: Mapping[str, Any], stories: bool, where: str) -> None:
    """Refuse targets that cannot be compared, classes without stories, strengths that do not rise. ProfileError."""
    if section["groups"] and not section["concept_set"] and not stories:
        raise ProfileError(f"{where}.concept_set: only stories have classes of words; name a set of concepts.yaml")
    targets.groups(section["groups"], targets.known(section["concept_set"], section["lists"]), f"{where}.groups")
    if sorted(set(section["strengths"])) != section["strengths"]:
        raise ProfileError(f"{where}.strengths: {section['strengths']}: list rising strengths, each once")
