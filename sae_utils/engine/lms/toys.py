"""Toy language models, trained on the spot and saved as transformers saves Pythia; their checkpoints and random twins.

In: a record of a profile, token rows, a tokenizer. Out: a folder that `AutoModelForCausalLM.from_pretrained` reads.
Never: a hook; a judgement of what was learnt.
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
from tqdm import tqdm

from sae_utils import store
from sae_utils.engine.core.spec import Count, ProfileError, Rate, Seed, Spec
from sae_utils.engine.lms import batching
from sae_utils.engine.text import corpora, tokenization
from sae_utils.store import Artefact, artefact


class Toy(Spec):
    """A GPT-NeoX (the architecture of Pythia) trained on the corpus of the profile."""

    kind: Literal["toy"]
    layers: Count
    """transformer blocks"""
    d_model: Count
    """width of the residual stream"""
    heads: Count
    """attention heads; they divide d_model"""
    d_mlp: Count
    """hidden neurons of each MLP"""
    tied: bool
    """one matrix embeds and unembeds"""
    tokenizer: tokenization.Kind
    """`word` or `bpe`, trained on the corpus"""
    vocabulary: int = Field(gt=3, lt=2**31)
    """largest number of tokens"""
    seed: Seed
    """seed of weights and of the order of batches"""
    epochs: Count
    """passes over the training documents"""
    batch: Count
    """rows a step"""
    learning_rate: Rate
    """peak of AdamW's cosine schedule"""
    checkpoints: int = Field(default=0, ge=0, lt=2**31)
    """states kept along the way, at steps spaced evenly in their logarithm"""
    trained_on: dict[str, Any] = Field(default={})
    """keys of the corpus that differ for this model's training documents, e.g. {world: scrambled}"""

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Toy:
        if self.d_model % self.heads:
            raise ValueError(f"heads must divide d_model, and {self.heads} does not divide {self.d_model}")
        return self


class ToyCheckpoint(Spec):
    """A toy as it was at one of its checkpoints."""

    kind: Literal["checkpoint"]
    of: str
    """name of the toy"""
    step: Count
    """one of its steps"""


class Twin(Spec):
    """A model of the same shape with random weights."""

    kind: Literal["twin"]
    of: str
    """name of the model"""
    random: Literal["all", "blocks"]
    """`blocks` keeps the trained embeddings, unembedding and final norm"""
    seed: Seed
    """seed of the random weights"""


@artefact
def train(folder: Path, spec: Toy, rows: Artefact, tokenizer: Artefact) -> dict[str, Any]:
    """Train a toy on the training rows and save it, with its tokenizer, as transformers does.

    Raises:
        ProfileError: the loss is not finite in the end.
    """
    from transformers import AutoTokenizer, GPTNeoXConfig, GPTNeoXForCausalLM, get_cosine_schedule_with_warmup
    from transformers.utils import logging

    logging.disable_progress_bar()
    words = AutoTokenizer.from_pretrained(tokenizer.path, trust_remote_code=False)
    with torch.random.fork_rng():
        torch.manual_seed(spec.seed)
        network = GPTNeoXForCausalLM(
            GPTNeoXConfig(
                vocab_size=len(words),
                hidden_size=spec.d_model,
                num_hidden_layers=spec.layers,
                num_attention_heads=spec.heads,
                intermediate_size=spec.d_mlp,
                tie_word_embeddings=spec.tied,
                max_position_embeddings=rows.array("tokens").shape[1],
                bos_token_id=words.bos_token_id,
                eos_token_id=words.bos_token_id,
                pad_token_id=words.pad_token_id,
            )
        ).to(store.device())
    training = np.flatnonzero(rows.array("split") == corpora.SPLITS.index("training"))
    steps = spec.epochs * -(-len(training) // spec.batch)
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=spec.learning_rate, betas=(0.9, 0.98), weight_decay=0.01, fused=True
    )
    schedule = get_cosine_schedule_with_warmup(optimizer, min(100, steps // 10), steps)
    kept = checkpoint_steps(steps, spec.checkpoints)
    loss, step = torch.zeros(()), 0
    with tqdm(total=steps, desc=f"{spec.layers}-layer model", unit=" steps", leave=False) as bar:
        for epoch in range(spec.epochs):
            for chosen in batching.shuffled(rows.array("lengths")[training], spec.batch, seed=(spec.seed, epoch)):
                tokens, mask = batching.take(rows, training[chosen])
                predicted = mask[:, 1:]
                hidden = network.base_model(tokens, use_cache=False).last_hidden_state[:, :-1][predicted]
                # unembedding what is predicted only: padding would cost a fifth of the step
                logits = network.get_output_embeddings()(hidden)
                loss = functional.cross_entropy(logits, tokens[:, 1:][predicted])
                loss.backward()
                torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
                optimizer.step()
                optimizer.zero_grad()
                schedule.step()
                bar.update()
                step += 1  # a bar that is switched off does not count
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
    return {
        "parameters": sum(p.numel() for p in network.parameters()),
        "steps": steps,
        "checkpoints": kept,
        "last_loss": loss.item(),
    }


def checkpoint_steps(steps: int, number: int) -> list[int]:
    """At most `number` distinct steps from 1 to `steps`, evenly spaced in their logarithm."""
    return sorted({round(float(step)) for step in np.geomspace(1, steps, number)})


@artefact
def at_step(folder: Path, toy: Artefact, step: int) -> dict[str, Any]:
    """A toy as it was after `step` steps.

    Raises:
        ProfileError: no checkpoint was kept then.
    """
    from transformers import AutoTokenizer

    if step not in toy.meta["checkpoints"]:
        raise ProfileError(f"step {step}: no checkpoint was kept then; there are {toy.meta['checkpoints']}")
    shutil.copytree(toy.path / f"step-{step}", folder, dirs_exist_ok=True)
    AutoTokenizer.from_pretrained(toy.path, trust_remote_code=False).save_pretrained(folder)
    return {"parameters": toy.meta["parameters"], "steps": step}


@artefact
def twin(folder: Path, model: Artefact, random: str, seed: int) -> dict[str, Any]:
    """A model with the shape of `model` and random weights, everywhere or in its blocks only."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    trained_one = AutoModelForCausalLM.from_pretrained(model.path, use_safetensors=True, trust_remote_code=False)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = AutoModelForCausalLM.from_config(trained_one.config, trust_remote_code=False)
    if random == "blocks":
        blocks = next(name for name, part in network.named_modules() if isinstance(part, torch.nn.ModuleList))
        outside = {name: value for name, value in trained_one.state_dict().items() if not name.startswith(f"{blocks}.")}
        network.load_state_dict(outside, strict=False)
    network.save_pretrained(folder)
    AutoTokenizer.from_pretrained(model.path, trust_remote_code=False).save_pretrained(folder)
    return {"parameters": model.meta["parameters"], "steps": 0}
