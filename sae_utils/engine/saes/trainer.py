"""Sparse autoencoders trained by SAELens on stored activations.

In: a record of a profile, a model, token rows. Out: a folder that `SAE.load_from_disk` reads.
Never: a whole activation matrix in memory; a measure of quality.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field, model_validator

from sae_utils import store
from sae_utils.engine.core.progress import tqdm
from sae_utils.engine.core.spec import Count, ProfileError, Rate, Seed, Spec
from sae_utils.engine.lms import batching, models
from sae_utils.engine.saes.activations import Dense
from sae_utils.store import Artefact, artefact, artefacts

MIX = 32  # batches of activations that are shuffled together


class Trained(Spec):
    """A sparse autoencoder trained on the training documents."""

    kind: Literal["trained"]
    model: str  # name of the model in `models`
    hook: str  # TransformerLens name of the activations, e.g. blocks.0.hook_mlp_out
    # the nonlinearity, and with it the sparsity loss
    architecture: Literal["topk", "batchtopk", "jumprelu", "relu"] = "topk"
    width: Count  # number of features
    # features active at a token: exactly (topk), on average (batchtopk), aimed at (jumprelu); relu does not read it
    k: Count
    # coefficient of the sparsity loss: of L1 (relu), of the squared distance of L0 from k (jumprelu)
    penalty: float = Field(default=0.0, ge=0, le=1e6)
    frozen_decoder: bool = False  # leave the decoder at its random start: what the encoder alone can do
    checkpoints: int = Field(default=0, ge=0, lt=2**31)  # states kept along the way, evenly spaced
    seed: Seed  # seed of weights and of the order of activations
    samples: Count  # activations seen in training
    batch: Count  # activations a step
    learning_rate: Rate  # peak of Adam's cosine schedule; it ends at a tenth

    @model_validator(mode="after")
    def _not_all_features_at_once(self) -> Trained:
        if self.k > self.width:
            raise ValueError(f"k is at most width, and {self.k} features are more than {self.width}")
        return self


class SaeCheckpoint(Spec):
    """A sparse autoencoder at one of its checkpoints."""

    kind: Literal["checkpoint"]
    of: str  # name of the dictionary
    number: int = Field(ge=0, lt=2**31)  # which of its checkpoints, from 0


KINDS: dict[str, type[Spec]] = {"trained": Trained, "checkpoint": SaeCheckpoint}


@artefacts
def train(
    folders: dict[Trained, Path], model: Artefact, rows: Artefact, skip: int
) -> Iterator[tuple[Trained, dict[str, Any]]]:
    """SAEs of one model, trained by SAELens' trainer and saved for inference.

    One pass over the model writes the activations that they are trained on, which are removed after the last of them.
    d_in: dimensions. steps, passes: of training, and over the activations. checkpoints: samples at each. Raises
    ProfileError if the last weights are not finite, and as `inputs`.
    """
    for samples in dict.fromkeys(spec.samples for spec in folders):
        specs = [spec for spec in folders if spec.samples == samples]
        scratch = folders[specs[-1]] / "inputs"
        read = {spec.hook: scratch / spec.hook for spec in specs}
        seen = inputs(read, model, rows, skip, samples)
        for spec in specs:
            meta = _trained(folders[spec], spec, np.load(read[spec.hook] / "values.npy", mmap_mode="r"))
            if spec is specs[-1]:
                shutil.rmtree(scratch)
            yield spec, meta | {"passes": samples / seen}


def inputs(folders: dict[str, Path], model: Artefact, rows: Artefact, skip: int, samples: int) -> int:
    """Write the activations on which SAEs of each hook are trained, and return how many there are.

    `values`, float16 (tokens, d), in random order of rows; rows are added until there are `samples` tokens or no rows
    are left. One pass over them serves all hooks. Raises ProfileError if an activation is beyond float16.
    """
    training = batching.rows_in(rows, "training")
    available = int((rows.array("places")[training] >= skip).sum())
    if available < samples:
        print(
            f"dictionaries: the training documents hold {available:,} activations where `samples` says {samples:,}: "
            "SAEs see them more than once; add text",
            file=sys.stderr,
        )
    order = (training[part] for part in batching.shuffled(rows.array("lengths")[training], 64, seed=0))
    length = 0
    with (
        contextlib.ExitStack() as stack,
        tqdm(total=min(samples, available), desc=", ".join(folders), leave=False) as bar,
    ):
        for folder in folders.values():
            folder.mkdir(parents=True, exist_ok=True)
        out = {hook: stack.enter_context(Dense(folder)) for hook, folder in folders.items()}
        for part in models.harvest(models.load(model), rows, order, list(folders), skip, models.HALF):
            for hook, x in part.activations.items():
                out[hook].append(x[part.mask])
            added = int(part.mask.sum())
            length += added
            bar.update(added)
            if length >= samples:
                break
    return length


def _trained(folder: Path, spec: Trained, values: np.ndarray) -> dict[str, Any]:
    """Train one SAE on activations (tokens, d)."""
    kept: list[int] = []

    def keep(sae: Any, samples: int) -> None:
        kept.append(samples)
        sae.save_inference_model(folder / f"samples-{samples}")

    with torch.random.fork_rng():
        torch.manual_seed(spec.seed)
        sae = fit(spec, provider(values, spec), keep)
    if not all(weight.isfinite().all() for weight in sae.parameters()):
        raise ProfileError(
            f"SAE of {spec.model} at {spec.hook}: training diverged; lower `learning_rate` (now {spec.learning_rate:g})"
        )
    sae.cfg.metadata.hook_name = spec.hook
    sae.save_inference_model(folder)
    return {"d_in": sae.cfg.d_in, "steps": spec.samples // spec.batch, "checkpoints": kept}


def fit(spec: Trained, provider: Iterator[torch.Tensor], keep: Callable[[Any, int], None] | None = None) -> Any:
    """The SAE that SAELens' trainer fits to batches (spec.batch, d) of activations.

    Activations are scaled to a mean norm of sqrt(d), so that one learning rate serves all hooks; the scale is folded
    into the weights at the end. `keep(sae, samples)` is called at checkpoints with a finished copy.
    """
    from sae_lens import LoggingConfig, SAETrainer
    from sae_lens.config import SAETrainerConfig

    first = next(provider)
    sae = _untrained(spec, first.shape[1])
    if spec.frozen_decoder:
        sae.W_dec.requires_grad_(False)
    steps = spec.samples // spec.batch

    def checkpoint(checkpoint_path: Path | None) -> None:
        copied = copy.deepcopy(sae)  # folding and saving change the weights, whose training goes on
        copied.fold_activation_norm_scaling_factor(trainer.activation_scaler.scaling_factor)
        if keep:
            keep(copied, trainer.n_training_samples)

    trainer = SAETrainer(
        SAETrainerConfig(
            total_training_samples=spec.samples, train_batch_size_samples=spec.batch, lr=spec.learning_rate,
            lr_end=spec.learning_rate / 10, lr_scheduler_name="cosineannealing", lr_warm_up_steps=min(100, steps // 10),
            # SAELens revives features only after this many silent steps; its default outlasts a short run
            dead_feature_window=max(10, min(1000, steps // 8)),
            n_checkpoints=spec.checkpoints, n_batches_for_norm_estimate=min(20, steps),
            device=store.device(), logger=LoggingConfig(log_to_wandb=False),
        ),
        sae, itertools.chain([first], provider), save_checkpoint_fn=checkpoint,
    )  # fmt: skip
    return trainer.fit()


def _untrained(spec: Trained, d_in: int) -> Any:
    from sae_lens.registry import get_sae_training_class

    jumprelu = {
        "jumprelu_sparsity_loss_mode": "quadratic",
        "target_l0": spec.k,
        "l0_coefficient": spec.penalty,
        # activations have norm sqrt(d); SAELens' defaults would need far longer runs to become sparse
        "jumprelu_init_threshold": 0.3,
        "jumprelu_bandwidth": 2.0,
        "pre_act_loss_coefficient": 1e-3,  # otherwise half the features never fire
    }
    options: dict[str, tuple[str, dict[str, Any]]] = {
        "topk": ("topk", {"k": spec.k}),
        "batchtopk": ("batchtopk", {"k": spec.k}),
        "jumprelu": ("jumprelu", jumprelu),
        "relu": ("standard", {"l1_coefficient": spec.penalty}),
    }
    architecture, own = options[spec.architecture]
    of, config = get_sae_training_class(architecture)
    shared = {"d_in": d_in, "d_sae": spec.width, "device": store.device()}
    return of(config(**shared, normalize_activations="expected_average_only_in", **own))


def provider(values: np.ndarray, spec: Trained) -> Iterator[torch.Tensor]:
    """Endless shuffled batches (spec.batch, d) of stored activations (tokens, d).

    Blocks of consecutive rows are read in random order and mixed with other recently read blocks.
    """
    from sae_lens.training.mixing_buffer import mixing_buffer

    def blocks() -> Iterator[torch.Tensor]:
        for epoch in itertools.count():
            order = np.random.default_rng((spec.seed, epoch)).permutation(-(-len(values) // spec.batch))
            for first in order * spec.batch:
                yield torch.from_numpy(values[first : first + spec.batch].astype(np.float32)).to(store.device())

    return iter(mixing_buffer(MIX * spec.batch, spec.batch, blocks()))


@artefact
def at_checkpoint(folder: Path, dictionary: Artefact, number: int) -> dict[str, Any]:
    """An SAE at its checkpoint `number`. Raises ProfileError if it has fewer checkpoints."""
    kept = dictionary.meta["checkpoints"]
    if number >= len(kept):
        raise ProfileError(f"checkpoint {number}: only {len(kept)} were kept, at {kept} samples")
    shutil.copytree(dictionary.path / f"samples-{kept[number]}", folder, dirs_exist_ok=True)
    return {"d_in": dictionary.meta["d_in"], "samples": kept[number]}
