"""The speed of models and SAEs on this machine, from short timings of random weights of the same shapes.

In: a checked profile and the name of a model; the record of an SAE. Out: seconds on one core.
Never: a trained weight, a file that is fetched.
"""

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
from torch.nn import functional

from sae_utils import pipeline, store
from sae_utils.engine.inputs import hub
from sae_utils.engine.lms import pretrained, quantised, toys
from sae_utils.engine.params import Profile
from sae_utils.engine.saes import trainer

OVERHEAD = 1.4  # an SAE's training step with reading its input and reviving dead features, in bare steps
DURATION = 0.4  # seconds of each timing
OPERATIONS = 5 * 10**10  # at most, in the step of an SAE that is timed
LOGITS = 16_384  # tokens of a vocabulary whose logits are timed


class ModelSpeed(NamedTuple):
    """The shape of a language model and its speed."""

    layers: int
    d: int
    d_mlp: int
    vocabulary: int
    parameters: int
    block: float  # seconds of a token in one block
    head: float  # seconds of a token's logits and of their loss

    @property
    def forward(self) -> float:
        """Seconds of a token in the whole model."""
        return self.layers * self.block + self.head


def seconds(work: Callable[[], Any]) -> float:
    """Seconds that `work` takes on one core, or by the clock on a CUDA device; a first call is not counted."""
    clock = time.process_time if store.device() == "cpu" else time.perf_counter
    work()
    rounds, start = 0, clock()
    while not rounds or clock() - start < DURATION:
        work()
        if store.device() == "cuda":
            torch.cuda.synchronize()
        rounds += 1
    return (clock() - start) / rounds


@functools.cache
def multiplication() -> float:
    """Seconds of one multiplication and addition inside a matrix product."""
    one, two = (torch.randn(1024, 1024, device=store.device()) for _ in range(2))
    return seconds(lambda: one @ two) / 1024**3


# --- language models


def of_model(profile: Profile, name: str, parameters: int) -> ModelSpeed:
    """The speed of a model; estimated from its number of `parameters` if it cannot be timed without a download."""
    found = config(profile, name)
    if found is not None:
        # some families need more of a configuration than a block's shape; opening the model reports what is wrong
        with contextlib.suppress(Exception):
            return _of_config(found.to_json_string(), profile.corpus.context)
    return ModelSpeed(1, 0, 0, 0, parameters, parameters * multiplication(), 0.0)


def config(profile: Profile, name: str) -> Any:
    """A model's configuration; None if it would have to be fetched."""
    from transformers import AutoConfig, GPTNeoXConfig

    record = pipeline.origin(profile.models, name)
    if isinstance(record, toys.Toy):
        return GPTNeoXConfig(
            vocab_size=record.vocabulary, hidden_size=record.d_model, num_hidden_layers=record.layers,
            num_attention_heads=record.heads, intermediate_size=record.d_mlp, tie_word_embeddings=record.tied,
        )  # fmt: skip
    try:
        if file := pretrained.gguf(record):
            return quantised.config(file)
        cached = hub.listing(record.source, record.revision, ["config.json"]).cached
        if "config.json" in cached:
            return AutoConfig.from_pretrained(Path(cached["config.json"]).parent, trust_remote_code=False)
    except (OSError, ValueError):  # opening the model reports it
        return None
    return None


@functools.cache
def _of_config(description: str, context: int) -> ModelSpeed:
    """The speed of the model with this configuration in JSON; a block costs the time that a second one adds."""
    from transformers import AutoConfig

    values = json.loads(description)
    text = AutoConfig.for_model(values.pop("model_type"), **values).get_text_config()
    (one, few), (two, more) = (_timed_blocks(text, blocks, context) for blocks in (1, 2))
    d, words, layers = text.hidden_size, text.vocab_size, text.num_hidden_layers
    parameters = few + (layers - 1) * (more - few) + words * d * (1 if text.tie_word_embeddings else 2)
    d_mlp = getattr(text, "intermediate_size", None) or 4 * d
    return ModelSpeed(layers, d, d_mlp, words, parameters, max(two - one, two / 4), _timed_head(d, words))


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
        total = seconds(functools.partial(network.base_model, ids, use_cache=False))
    return total / ids.numel(), sum(x.numel() for x in network.parameters())


def _timed_head(d: int, words: int) -> float:
    """Seconds of a token's logits and loss, from a part of the vocabulary."""
    part = min(words, LOGITS)
    x, y = torch.randn(512, d, device=store.device()), torch.randn(d, part, device=store.device())
    targets = torch.zeros(512, dtype=torch.long, device=store.device())
    return seconds(lambda: functional.cross_entropy(x @ y, targets)) / 512 * words / part


# --- SAEs


def of_sae(spec: trainer.Trained, d: int) -> tuple[float, float]:
    """Seconds of training an SAE on one activation, and of encoding one; a large SAE is timed in small batches."""
    shape = {"model": "", "hook": "", "seed": 0, "samples": spec.batch, "checkpoints": 0}
    return _of_shape(spec.model_copy(update=shape), d)


@functools.cache
def _of_shape(spec: trainer.Trained, d: int) -> tuple[float, float]:
    batch = min(spec.batch, max(32, OPERATIONS // (12 * spec.width * d)))
    steps = 20 if batch == spec.batch else 3
    x = torch.randn(batch, d, device=store.device())
    short = spec.model_copy(update={"samples": steps * batch, "batch": batch})

    def fit() -> Any:
        with contextlib.redirect_stderr(io.StringIO()):  # hides its progress bar
            return trainer.fit(short, itertools.repeat(x))

    sae = fit()
    with torch.no_grad():
        encoding = seconds(lambda: sae.encode(x)) / batch
    return OVERHEAD * seconds(fit) / steps / batch, encoding
