"""SAEs trained on activations whose features are known.

In: a world, the seed of its truth, a kind and a width of SAE. Out: an artefact with the decoder along training, and
which latents are live; its loss and L0 on samples that are not trained on.
Never: a comparison with the truth (`recovered` has them), a released SAE.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field

from sae_utils import store
from sae_utils.engine.core.spec import Count, ProfileError, Rate, Spec
from sae_utils.engine.saes import trainer
from sae_utils.studies.recovery import worlds


class Kind(Spec):
    """A kind of SAE."""

    architecture: Literal["topk", "batchtopk", "jumprelu", "relu"]  # this and the next three as in `trainer.Trained`
    k: Count
    penalty: float = Field(default=0.0, ge=0, le=1e6)
    learning_rate: Rate


class Schedule(Spec):
    """How long SAEs are trained, and on how many samples they are judged."""

    samples: Count  # each is seen once
    batch: Count
    checkpoints: Count  # evenly spaced, without the end
    judged: Count  # samples that are not trained on


def truth(world: worlds.World, seed: int) -> tuple[worlds.Truth, worlds.TrueModel, str]:
    """The truth that `recovered` plants for this seed: all of it, its first model, and the name of that."""
    drawn, name = world.draw(seed), next(iter(world.models))
    return drawn, drawn.models[name], name


def judged(world: worlds.World, seed: int, samples: int) -> worlds.Sample:
    """The samples on which an SAE of this truth is judged."""
    drawn, _, name = truth(world, seed)
    return drawn.sample(samples, 2 * seed)[name]


@store.artefact
def recovered(
    folder: Path, world: worlds.World, seed: int, kind: Kind, width: int, schedule: Schedule
) -> dict[str, Any]:
    """An SAE of `width` latents, trained on fresh samples of the first model of a truth and judged on others.

    Arrays: `decoders` (checkpoints + 1, width, d); `live` (checkpoints + 1, width), latents that fire on the judged
    samples; of the end `encoder` (d, width), `encoder_bias` (width,), `decoder_bias` (d,). meta, one value a checkpoint
    and the end: `samples`; `loss`, the share of variance that is not explained; `l0`, active latents a sample.
    Raises ProfileError if the last weights are not finite, ValueError for fewer samples than features.
    """
    x = torch.from_numpy(judged(world, seed, schedule.judged).x)
    states: list[dict[str, Any]] = []
    drawn, _, name = truth(world, seed)
    sae = fitted(drawn, name, kind, width, schedule, seed, lambda at, n: states.append(_state(at, x, n)))
    states.append(_state(sae, x, schedule.samples))
    for name in ("decoder", "live"):
        np.save(folder / f"{name}{'s' if name == 'decoder' else ''}.npy", np.stack([state[name] for state in states]))
    for name, weight in (("encoder", sae.W_enc), ("encoder_bias", sae.b_enc), ("decoder_bias", sae.b_dec)):
        np.save(folder / f"{name}.npy", weight.detach().numpy())
    return {name: [state[name] for state in states] for name in ("samples", "loss", "l0")}


def fitted(
    drawn: worlds.Truth, name: str, kind: Kind, width: int, schedule: Schedule, seed: int,
    keep: Callable[[Any, int], None] | None = None,
) -> Any:  # fmt: skip
    """An SAE of `width` latents, trained on fresh samples of the model `name` of a truth; `keep` as in `trainer.fit`.

    Raises ProfileError if the last weights are not finite.
    """
    spec = trainer.Trained(
        kind="trained", model=name, hook="planted", width=width, seed=seed, samples=schedule.samples,
        batch=schedule.batch, checkpoints=schedule.checkpoints if keep else 0, **kind.model_dump(),
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        batches = (torch.from_numpy(x) for x in drawn.batches(name, schedule.batch, 2 * seed + 1))
        sae = trainer.fit(spec, batches, keep)
    if not all(weight.isfinite().all() for weight in sae.parameters()):
        raise ProfileError(f"{kind.architecture} of width {width}: training diverged; lower `learning_rate`")
    return sae


def unexplained(sae: Any, latents: torch.Tensor, x: torch.Tensor) -> float:
    """The share of the variance of x (samples, d) that an SAE does not explain, from its `latents` (samples, width)."""
    return float((sae.decode(latents) - x).square().sum() / (x - x.mean(dim=0)).square().sum())


@torch.no_grad()
def _state(sae: Any, x: torch.Tensor, samples: int) -> dict[str, Any]:
    """Decoder, live latents, loss and L0 of an SAE on the judged samples x (samples, d)."""
    latents = sae.encode(x)
    return {
        "decoder": sae.W_dec.detach().numpy().copy(),
        "live": (latents > 0).any(dim=0).numpy(),
        "samples": samples,
        "loss": unexplained(sae, latents, x),
        "l0": float((latents > 0).sum(dim=1).double().mean()),
    }
