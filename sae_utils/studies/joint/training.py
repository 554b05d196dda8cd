"""Dictionaries of two models, trained as artefacts of the store.

In: a recipe, and what both models activate at the same tokens. Out: a trained `Joint`, as an artefact and from it.
Never: a choice of text, a score.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sae_utils.engine.core.spec import ProfileError
from sae_utils.store import Artefact, artefact
from sae_utils.studies.joint import dictionary
from sae_utils.studies.joint.dictionary import ROUTES, Joint, Recipe
from sae_utils.studies.joint.texts import Texts

SILENT = 8  # a latent is dead that has not fired in this part of the training; `trainer.fit` has the same
CALIBRATED = 4096  # tokens that set the threshold of codes


@artefact
def trained(folder: Path, recipe: Recipe, a: Sequence[Artefact], b: Sequence[Artefact], apart: bool) -> dict[str, Any]:
    """A dictionary trained on the matching documents; `a`, `b` and `apart` as `Texts` has them.

    Raises ProfileError if the weights are not finite, ValueError as `fit`.
    """
    return save(folder, fit(recipe, Texts(tuple(a), tuple(b), apart).activations("matching")))


def of(texts: Texts, recipe: Recipe) -> Joint:
    """The dictionary that is trained on some texts, from the store if it is there."""
    return load(trained(recipe, texts.a, texts.b, texts.apart))


def save(folder: Path, made: Joint) -> dict[str, Any]:
    """Write every weight as an array, by its name in `Joint`; returns what `load` needs besides."""
    for name, weight in made.state_dict().items():
        np.save(folder / f"{name}.npy", weight.numpy())
    return {"recipe": made.recipe.model_dump(), "d": [len(x) for x in made.offset]}


def load(stored: Artefact) -> Joint:
    """The dictionary of an artefact."""
    found = Joint(Recipe(**stored.meta["recipe"]), stored.meta["d"])
    found.load_state_dict({name: torch.from_numpy(np.array(stored.array(name))) for name in found.state_dict()})
    return found.requires_grad_(False)


def fit(recipe: Recipe, x: Sequence[np.ndarray]) -> Joint:
    """A dictionary of the activations x[0] (tokens, d_a) and x[1] (tokens, d_b) of two models at the same tokens.

    Adam with a warm-up and a cosine that ends at a tenth. Where a code is read from one model and written to both, the
    models take turns. Raises ValueError for different numbers of tokens and fewer than a batch, ProfileError if the
    weights are not finite.
    """
    if len(x[0]) != len(x[1]):
        raise ValueError(f"{len(x[0])} tokens of A, {len(x[1])} of B: give both models at the same tokens")
    if len(x[0]) < recipe.batch:
        raise ValueError(f"{len(x[0])} tokens for batches of {recipe.batch}: give more text, or a smaller `batch`")
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        made = Joint(recipe, [part.shape[1] for part in x])
    whole = [torch.from_numpy(np.asarray(part, np.float32)) for part in x]
    made.normalise_by(whole)
    whole = made.normalised(whole)
    _optimise(made, whole)
    made.set_threshold([part[next(_orders(recipe.seed, len(part), min(CALIBRATED, len(part))))] for part in whole])
    if not all(weight.isfinite().all() for weight in made.parameters()):
        raise ProfileError(f"{recipe.kind} of width {recipe.width}: training diverged; lower `learning_rate`")
    return made.requires_grad_(False)


def _optimise(made: Joint, x: Sequence[torch.Tensor]) -> None:
    recipe = made.recipe
    warm, window = min(100, recipe.steps // 10), max(10, recipe.steps // SILENT)
    optimiser = torch.optim.Adam(made.parameters(), recipe.learning_rate, fused=True)
    silent = torch.zeros(len(ROUTES[recipe.kind]), recipe.width)
    for step, chosen in zip(range(recipe.steps), _orders(recipe.seed, len(x[0]), recipe.batch), strict=False):
        optimiser.param_groups[0]["lr"] = recipe.learning_rate * pace(step, recipe.steps, warm)
        loss = _loss(made, [part[chosen] for part in x], step, silent, window)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


def pace(step: int, steps: int, warm: int) -> float:
    """The learning rate of a step in units of its peak: a linear rise, then half a cosine from 1 to a tenth."""
    if step < warm:
        return (step + 1) / warm
    along = (step - warm) / max(1, steps - warm)
    return float(0.55 + 0.45 * np.cos(np.pi * along))


def _loss(made: Joint, x: list[torch.Tensor], step: int, silent: torch.Tensor, window: int) -> torch.Tensor:
    """The loss of a step; counts in `silent` (routes, width) the steps in which a latent has not fired."""
    routes = list(enumerate(ROUTES[made.recipe.kind]))
    if made.recipe.kind == "universal":
        routes = [routes[step % len(routes)]]
    losses, read = [], []
    for number, route in routes:
        loss, fired, active = made.loss(x, route, silent[number] >= window)
        silent[number] = torch.where(fired, 0, silent[number] + 1)
        losses.append(loss)
        read.append(active)
    total = torch.stack(losses).sum()
    return total + made.recipe.alike * dictionary.alike(read[0], read[1]) if made.recipe.alike else total


def _orders(seed: int, tokens: int, batch: int) -> Iterator[torch.Tensor]:
    """Endless batches of token numbers; every token once before any is taken again."""
    rng = np.random.default_rng([seed, tokens])
    while True:
        order = torch.from_numpy(rng.permutation(tokens))
        yield from (order[start : start + batch] for start in range(0, tokens - batch + 1, batch))
