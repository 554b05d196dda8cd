"""The sections of notebooks `09_joint_dictionary` and `09b_alike_loss` in a profile.

In: the values of a profile. Out: their shapes, and one error with what does not go together.
Never: a model, a training.
"""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from sae_utils.engine.core.spec import Count, ProfileError, Rate, Spec
from sae_utils.studies.joint import planted
from sae_utils.studies.joint.dictionary import Training
from sae_utils.studies.joint.norms import Bounds
from sae_utils.studies.joint.texts import Sizes

Share = Annotated[float, Field(ge=0, le=1)]


def _rising(values: list[float]) -> list[float]:
    if sorted(set(values)) != values:
        raise ValueError(f"{values}: list rising values, each once")
    return values


def _different(values: list[float]) -> list[float]:
    if len(set(values)) < len(values):
        raise ValueError(f"{values}: list each once")
    return values


class Planted(Spec):
    """Planted models, and the crosscoders that are trained on them."""

    world: dict[str, Any]  # as of 06f, without `shared`
    recipes: dict[str, Training] = Field(min_length=1)
    shares: Annotated[list[Share], Field(min_length=2), AfterValidator(_different)]
    samples: Count  # that train, and are seen again where steps x batch are more
    judged: Count
    near: Share  # cosine from which a latent recovers a feature
    draws: int = Field(ge=3, lt=2**31)  # of the truth


SHAPES: dict[str, dict[str, Any]] = {
    "09_joint_dictionary": {
        "recipe": Training, "sizes": Sizes, "bounds": Bounds, "planted": Planted, "counterpart": Share, "d": Rate,
    },
    "09b_alike_loss": {
        "recipe": Training, "sizes": Sizes, "counterpart": Share,
        # of the loss; the first is none
        "weights": Annotated[list[Annotated[float, Field(ge=0, le=1e3)]], Field(min_length=2), AfterValidator(_rising)],
    },
}  # fmt: skip


def check(crosscoder: Mapping[str, Any], alike: Mapping[str, Any], where: str) -> None:
    """Refuse worlds without models a and b, too few samples, a first weight above 0. Raises ProfileError."""
    key, given = f"{where}09_joint_dictionary.planted", crosscoder["planted"]
    made = planted.conditions(given["world"], given["recipes"], given["shares"], 0, key)
    features = next(iter(made.values())).world.features
    for name in ("samples", "judged"):
        if given[name] < features:
            raise ProfileError(f"{key}.{name}: fewer samples than the {features} features; raise it")
    for name, recipe in given["recipes"].items():
        if recipe["batch"] > given["samples"]:
            raise ProfileError(f"{key}.recipes.{name}.batch: more than the {given['samples']} samples; lower it")
    if alike["weights"][0]:
        raise ProfileError(f"{where}09b_alike_loss.weights: the first must be 0, to which the others are compared")
    if alike["recipe"].get("partition"):
        raise ProfileError(f"{where}09b_alike_loss.recipe.partition: two SAEs have no common latents; leave it out")
