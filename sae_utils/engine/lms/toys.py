"""Toy language models, trained here and saved as transformers saves Pythia; their checkpoints and random twins.

In: a record of a profile, token rows, a tokenizer. Out: a folder that `AutoModelForCausalLM.from_pretrained` reads.
Never: a hook; a measure of the quality of a toy.
"""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch.nn import functional

from sae_utils import store
from sae_utils.engine.core.progress import tqdm
from sae_utils.engine.core.spec import Count, ProfileError, Rate, Seed, Spec
from sae_utils.engine.lms import batching
from sae_utils.engine.text import tokenization
from sae_utils.store import Artefact, artefact


class Toy(Spec):
    """A GPT-NeoX (the architecture of Pythia) trained on the corpus of the profile."""

    kind: Literal["toy"]
    layers: Count  # transformer blocks
    d_model: Count  # width of the residual stream
    heads: Count  # attention heads; they divide d_model
    d_mlp: Count  # hidden neurons of each MLP
    tied: bool  # one matrix embeds and unembeds
    tokenizer: tokenization.Kind  # `word` or `bpe`, trained on the corpus
    vocabulary: int = Field(gt=3, lt=2**31)  # largest number of tokens
    seed: Seed  # seed of weights and of the order of batches
    epochs: Count  # passes over the training documents
    batch: Count  # rows a step
    learning_rate: Rate  # peak of AdamW's cosine schedule
    # states kept along the way, at steps spaced evenly in their logarithm
    checkpoints: int = Field(default=0, ge=0, lt=2**31)
    # keys of the corpus that differ for this model's training documents, e.g. {world: scrambled}
    trained_on: dict[str, Any] = Field(default={})

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Toy:
        if self.d_model % self.heads:
            raise ValueError(f"heads must divide d_model, and {self.heads} does not divide {self.d_model}")
        return self

    def cuts_like(self, other: Toy) -> bool:
        """Whether both cut text into the same tokens."""
        return (self.tokenizer, self.vocabulary) == (other.tokenizer, other.vocabulary)


class ToyCheckpoint(Spec):
    """A toy at one of its checkpoints."""

    kind: Literal["checkpoint"]
    of: str  # name of the toy
    step: Count  # one of its steps


class Twin(Spec):
    """A model of the same shape with random weights."""

    kind: Literal["twin"]
    of: str  # name of the model
    random: Literal["all", "blocks"]  # `blocks` keeps the trained embeddings, unembedding and final norm
    seed: Seed  # seed of the random weights


KINDS: dict[str, type[Spec]] = {"toy": Toy, "checkpoint": ToyCheckpoint, "twin": Twin}


@artefact
def train(folder: Path, spec: Toy, rows: Artefact, tokenizer: Artefact) -> dict[str, Any]:
    """Train a toy on the training rows and save it, with its tokenizer, as transformers does.

    Raises ProfileError if the last loss is not finite.
    """
    from transformers import AutoTokenizer, get_cosine_schedule_with_warmup
    from transformers.utils import logging

    logging.disable_progress_bar()
    words = AutoTokenizer.from_pretrained(tokenizer.path, trust_remote_code=False)
    network = _untrained(spec, words, rows.array("tokens").shape[1]).to(store.device())
    training = batching.rows_in(rows, "training")
    lengths = rows.array("lengths")[training]
    steps = spec.epochs * -(-len(training) // spec.batch)
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=spec.learning_rate, betas=(0.9, 0.98), weight_decay=0.01, fused=True
    )
    schedule = get_cosine_schedule_with_warmup(optimizer, min(100, steps // 10), steps)
    kept = checkpoint_steps(steps, spec.checkpoints)
    order = (x for epoch in range(spec.epochs) for x in batching.shuffled(lengths, spec.batch, (spec.seed, epoch)))
    loss = torch.zeros(())
    with tqdm(order, f"{spec.layers}-layer model", steps, unit=" steps", leave=False) as bar:
        for step, chosen in enumerate(bar, 1):
            loss = _loss(network, *batching.take(rows, training[chosen]))
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
            if step in kept:
                network.save_pretrained(folder / f"step-{step}")
            if step % 50 == 0:
                bar.set_postfix(loss=f"{loss.item():.3f}")
    if not math.isfinite(loss.item()):
        raise ProfileError(
            f"model of seed {spec.seed}: its loss became {loss.item()} in training; lower `learning_rate` (now "
            f"{spec.learning_rate:g})"
        )
    network.save_pretrained(folder)
    words.save_pretrained(folder)
    parameters = sum(p.numel() for p in network.parameters())
    return {"parameters": parameters, "steps": steps, "checkpoints": kept, "last_loss": loss.item()}


def _untrained(spec: Toy, words: Any, positions: int) -> Any:
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    config = GPTNeoXConfig(
        vocab_size=len(words), hidden_size=spec.d_model, num_hidden_layers=spec.layers, num_attention_heads=spec.heads,
        intermediate_size=spec.d_mlp, tie_word_embeddings=spec.tied, max_position_embeddings=positions,
        bos_token_id=words.bos_token_id, eos_token_id=words.bos_token_id, pad_token_id=words.pad_token_id,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(spec.seed)
        return GPTNeoXForCausalLM(config)


def _loss(network: Any, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy; padding is not unembedded, which saves a fifth of the step."""
    predicted = mask[:, 1:]
    hidden = network.base_model(tokens, use_cache=False).last_hidden_state[:, :-1][predicted]
    return functional.cross_entropy(network.get_output_embeddings()(hidden), tokens[:, 1:][predicted])


def checkpoint_steps(steps: int, number: int) -> list[int]:
    """At most `number` distinct steps from 1 to `steps`, evenly spaced in their logarithm."""
    return sorted({round(float(step)) for step in np.geomspace(1, steps, number)})


@artefact
def at_step(folder: Path, toy: Artefact, step: int) -> dict[str, Any]:
    """A toy after `step` steps of its training. Raises ProfileError if no checkpoint was kept then."""
    if step not in toy.meta["checkpoints"]:
        raise ProfileError(f"step {step}: no checkpoint was kept then; there are {toy.meta['checkpoints']}")
    shutil.copytree(toy.path / f"step-{step}", folder, dirs_exist_ok=True)
    _copy_tokenizer(toy, folder)
    return {"parameters": toy.meta["parameters"], "steps": step}


@artefact
def twin(folder: Path, model: Artefact, random: str, seed: int) -> dict[str, Any]:
    """A model with the shape of `model` and random weights, everywhere or in its blocks only."""
    from transformers import AutoModelForCausalLM

    original = AutoModelForCausalLM.from_pretrained(model.path, use_safetensors=True, trust_remote_code=False)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = AutoModelForCausalLM.from_config(original.config, trust_remote_code=False)
    if random == "blocks":
        blocks = next(name for name, part in network.named_modules() if isinstance(part, torch.nn.ModuleList))
        outside = {name: value for name, value in original.state_dict().items() if not name.startswith(f"{blocks}.")}
        network.load_state_dict(outside, strict=False)
    network.save_pretrained(folder)
    _copy_tokenizer(model, folder)
    return {"parameters": model.meta["parameters"], "steps": 0}


def _copy_tokenizer(model: Artefact, folder: Path) -> None:
    from transformers import AutoTokenizer

    AutoTokenizer.from_pretrained(model.path, trust_remote_code=False).save_pretrained(folder)
