"""How long a token takes in a model, and a step of an SAE, timed for a moment in their own shapes with random weights.

In: a checked profile and a name of its models; the record of an SAE. Out: seconds on one core.
Never: a weight that is read, a file that is fetched.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import io
import itertools
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch

from sae_utils.engine.inputs import hub
from sae_utils import pipeline, store
from sae_utils.engine.lms import toys
from sae_utils.engine.params import Profile
from sae_utils.engine.saes import dictionaries, trainer

BESIDE = 1.4  # an SAE's step with the reading of what it is trained on and the revival of dead features, in bare steps
TIMED = 0.4  # seconds of each
FEW = 5 * 10**10  # operations of an SAE's step that is timed


class Pace(NamedTuple):
    """A language model by its shape, and how long a token takes."""

    layers: int
    d: int
    d_mlp: int
    vocabulary: int
    parameters: int
    block: float
    """seconds of a token in one block"""
    head: float
    """seconds of a token's logits and of their loss"""


def timed(work: Callable[[], Any]) -> float:
    """Seconds on one core that `work` takes, of the clock on a CUDA device; the first time is not counted."""
    clock = time.process_time if store.device() == "cpu" else time.perf_counter
    work()
    rounds, started = 0, clock()
    while not rounds or clock() - started < TIMED:
        work()
        if store.device() == "cuda":
            torch.cuda.synchronize()
        rounds += 1
    return (clock() - started) / rounds


def config(profile: Profile, name: str) -> Any:
    """A model's configuration; None where it would have to be fetched."""
    from transformers import AutoConfig, GPTNeoXConfig

    record = pipeline.origin(profile.models, name)
    if isinstance(record, toys.Toy):
        return GPTNeoXConfig(
            vocab_size=record.vocabulary, hidden_size=record.d_model, num_hidden_layers=record.layers,
            num_attention_heads=record.heads, intermediate_size=record.d_mlp, tie_word_embeddings=record.tied,
        )  # fmt: skip
    known = hub.listing(record.source, record.revision, ["config.json"])
    if "config.json" not in known.cached:
        return None
    try:
        return AutoConfig.from_pretrained(Path(known.cached["config.json"]).parent, trust_remote_code=False)
    except (OSError, ValueError):  # what cannot be read is said when the model is opened
        return None


def pace(profile: Profile, name: str, parameters: int) -> Pace:
    """How fast a model is here: of one that cannot be timed, or would be fetched, by its parameters and a product."""
    of = config(profile, name)
    if of is not None:
        # a family may want more of a configuration than a block's shape; what is wrong with it, its opening says
        with contextlib.suppress(Exception):
            return _timed_pace(of.to_json_string(), profile.corpus.context)
    flop = timed_product(1024, 1024, 1024) / 2 / 1024**3
    return Pace(1, 0, 0, 0, parameters, 2 * parameters * flop, 0.0)


@functools.cache
def timed_product(rows: int, inner: int, columns: int) -> float:
    """Seconds of a matrix product."""
    one, two = torch.randn(rows, inner, device=store.device()), torch.randn(inner, columns, device=store.device())
    return timed(lambda: one @ two)


@functools.cache
def _timed_pace(described: str, context: int) -> Pace:
    """The pace of the model whose configuration is `described` in JSON; a block is what a second one adds."""
    text = _read(described)
    (one, few), (two, more) = (_timed_blocks(text, blocks, context) for blocks in (1, 2))
    d, words, layers = text.hidden_size, text.vocab_size, text.num_hidden_layers
    parameters = few + (layers - 1) * (more - few) + words * d * (1 if text.tie_word_embeddings else 2)
    d_mlp = getattr(text, "intermediate_size", None) or 4 * d
    return Pace(layers, d, d_mlp, words, parameters, max(two - one, two / 4), _timed_head(d, words))


def _read(described: str) -> Any:
    """The part of a configuration that is about text."""
    from transformers import AutoConfig

    values = json.loads(described)
    return AutoConfig.for_model(values.pop("model_type"), **values).get_text_config()


def _timed_blocks(text: Any, blocks: int, context: int) -> tuple[float, int]:
    """Seconds of a token in the first blocks of a model with random weights, and their parameters."""
    from transformers import AutoModelForCausalLM

    shape = copy.deepcopy(text)
    for name, value in vars(text).items():
        if isinstance(value, list) and len(value) == text.num_hidden_layers:  # the kind of every block
            setattr(shape, name, (value * blocks)[:blocks])
    shape.num_hidden_layers, shape.vocab_size, shape.pad_token_id = blocks, 8, 0
    length = min(context, getattr(text, "max_position_embeddings", context))
    ids = torch.zeros((max(1, 2048 // length), length), dtype=torch.long, device=store.device())
    network = AutoModelForCausalLM.from_config(shape, trust_remote_code=False).to(store.device()).eval()
    with torch.no_grad():
        seconds = timed(functools.partial(network.base_model, ids, use_cache=False))
    return seconds / ids.numel(), sum(x.numel() for x in network.parameters())


def _timed_head(d: int, words: int) -> float:
    """Seconds of a token's logits and loss, by a part of the vocabulary."""
    some = min(words, 16_384)
    x, y = torch.randn(512, d, device=store.device()), torch.randn(d, some, device=store.device())
    following = torch.zeros(512, dtype=torch.long, device=store.device())
    return timed(lambda: torch.nn.functional.cross_entropy(x @ y, following)) / 512 * words / some


@functools.cache
def step(spec: trainer.Trained, d: int) -> tuple[float, float]:
    """Seconds of training an SAE of this shape on one activation, and of encoding one; a large one in small batches."""
    batch = min(spec.batch, max(32, FEW // (12 * spec.width * d)))
    steps = 20 if batch == spec.batch else 3
    x = torch.randn(batch, d, device=store.device())

    def fit() -> Any:
        asked = spec.model_copy(update={"samples": steps * batch, "batch": batch, "checkpoints": 0})
        with contextlib.redirect_stderr(io.StringIO()):  # its bar
            return trainer.fit(asked, itertools.repeat(x))

    sae = fit()
    with torch.no_grad():
        encoded = timed(lambda: sae.encode(x)) / batch
    return BESIDE * timed(fit) / steps / batch, encoded


def shape(spec: trainer.Trained) -> trainer.Trained:
    """The same for SAEs that take as long."""
    return spec.model_copy(update={"model": "", "hook": "", "seed": 0, "samples": spec.batch, "checkpoints": 0})
