"""Crosscoders of planted models: the share of latents they call shared against the share that is.

In: a world of two models, a recipe, a seed. Out: trained crosscoders; what is found beside what is true.
Never: a released model.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sae_utils.engine.core.spec import ProfileError
from sae_utils.store import Artefact, artefact
from sae_utils.studies.joint import norms, training
from sae_utils.studies.joint.dictionary import SIDES, Recipe
from sae_utils.studies.joint.norms import Bounds
from sae_utils.studies.recovery import shared, worlds
from sae_utils.studies.recovery.worlds import World


class Condition(NamedTuple):
    """A world and how a crosscoder of its two models is trained."""

    world: World
    recipe: Recipe


def conditions(
    world: Mapping[str, Any], recipes: Mapping[str, Mapping[str, Any]], shares: Sequence[float], seed: int, where: str
) -> dict[tuple[str, float], Condition]:
    """By name of a recipe, and by the share of a model's features that the other has.

    `seed`: of the crosscoders. Raises ProfileError for models that are not "a" and "b".
    """
    made = {share: worlds.world({**world, "shared": share}, f"{where}.world") for share in shares}
    if found := next((x for x in made.values() if tuple(x.models) != SIDES), None):
        raise ProfileError(f"{where}.world.models: {', '.join(found.models)}; give `a` and `b`, in this order")
    kinds = {name: Recipe(kind="crosscoder", seed=seed, **values) for name, values in recipes.items()}
    return {(name, share): Condition(made[share], kind) for name, kind in kinds.items() for share in shares}


@artefact
def trained(folder: Path, world: World, recipe: Recipe, samples: int, judged: int, seed: int) -> dict[str, Any]:
    """A crosscoder of the truth of this seed, trained on `samples` and judged on others; as `training.trained`.

    `live` (width,): latents that fire on the judged samples. meta: `unexplained`, share of the variance by model.
    """
    truth = world.draw(seed)
    x, y = (
        [of[name].x for name in SIDES] for of in (truth.sample(samples, 2 * seed + 1), truth.sample(judged, 2 * seed))
    )
    made = training.fit(recipe, x)
    np.save(folder / "live.npy", np.bincount(made.encode(y).indices, minlength=recipe.width) > 0)
    return training.save(folder, made) | {"unexplained": made.unexplained(y)}


class Found(NamedTuple):
    """What a crosscoder says of one draw of the truth, and what is true."""

    true: float  # share of the features of the world that both models have
    shares: dict[str, float]  # of live latents by kind
    mistaken: float  # share of the latents that are called exclusive whose feature both models have; NaN for none
    recovered: float  # share of A's and B's features that a latent recovers
    unexplained: float  # mean over both models


def found(of: Condition, stored: Artefact, seed: int, bounds: Bounds, near: float) -> Found:
    """What a crosscoder found; a latent recovers the feature nearest to its row from a cosine of `near`."""
    made, truth, live = training.load(stored), of.world.draw(seed), np.array(stored.array("live"))
    kind = norms.kinds(norms.relative(made), bounds)
    places = [
        shared.place(truth.models[name], made.rows(number).numpy(), live, near) for number, name in enumerate(SIDES)
    ]
    exclusive = [
        place[(kind == only) & (place >= 0)] for place, only in zip(places, (norms.ONLY_A, norms.ONLY_B), strict=True)
    ]
    of_both = np.concatenate(exclusive) < truth.shared
    return Found(
        true=truth.shared / truth.features,
        shares=norms.shares(kind[live]),
        mistaken=float(of_both.mean()) if len(of_both) else np.nan,
        recovered=float(np.mean([len(np.unique(x[x >= 0])) for x in places]) / of.world.features),
        unexplained=float(np.mean(list(stored.meta["unexplained"].values()))),
    )
