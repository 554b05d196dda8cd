"""Language models, read by the call that reads Pythia and hooked by name.

In: a model's artefact, token rows. Out: activations at a TransformerLens hook, batch by batch; losses beside n-gram
baselines.
Never: a whole activation matrix; a changed weight.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
import torch
from scipy import sparse
from torch.nn import functional

from sae_utils import store
from sae_utils.lms import toys
from sae_utils.spec import Spec, nearest
from sae_utils.store import Artefact, artefact
from sae_utils.text import corpora

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

WINDOW = 256  # rows whose activations are held at once

KINDS: dict[str, type[Spec]] = {"toy": toys.Toy, "checkpoint": toys.Checkpoint, "twin": toys.Twin}


def load(model: Artefact) -> TransformerBridge:
    """Read a model and its tokenizer and hang TransformerLens hooks on it, activations raw (nothing centred)."""
    from transformer_lens.model_bridge import TransformerBridge
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    network = AutoModelForCausalLM.from_pretrained(model.path, use_safetensors=True).to(store.device())
    words = AutoTokenizer.from_pretrained(model.path)
    bridge = TransformerBridge.boot_transformers(
        str(model.path), hf_model=network, tokenizer=words, device=store.device()
    )
    bridge.eval()
    return bridge


def next_token_loss(logits: torch.Tensor, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Cross-entropy in nats of every predicted token: (predictions,), in row order."""
    real = mask[:, 1:]
    return functional.cross_entropy(logits[:, :-1][real], tokens[:, 1:][real], reduction="none")


class Batch(NamedTuple):
    """Activations of a few token rows."""

    activations: torch.Tensor
    """(n, length, d)"""
    rows: np.ndarray
    """(n,) row numbers in the token artefact"""
    mask: torch.Tensor
    """(n, length), true where a measure may look: no padding, no skipped position"""


@torch.no_grad()
def harvest(
    bridge: TransformerBridge, rows: Artefact, batches: Iterator[np.ndarray], hook: str, skip: int
) -> Iterator[Batch]:
    """Activations at `hook` for batches of token rows; blocks above the hook are not computed.

    Args:
        bridge: as `load` returns it.
        rows: token artefact.
        batches: row numbers, a batch each.
        hook: TransformerLens name, e.g. `blocks.0.hook_mlp_out`.
        skip: positions at the start of each row to mask, beginning of sequence included.

    Raises:
        ValueError: the model has no such hook.
    """
    if hook not in bridge.hook_dict:
        raise ValueError(f"hook {hook!r}: the model has none of that name; {nearest(hook, bridge.hook_dict)}")
    layer = re.match(r"blocks\.(\d+)\.", hook)
    stop = int(layer[1]) + 1 if layer else None

    def run(chosen: np.ndarray) -> Batch:
        tokens, mask = toys.take(rows, chosen)
        _, cache = bridge.run_with_cache(tokens, names_filter=[hook], return_type=None, stop_at_layer=stop)
        mask[:, :skip] = False
        return Batch(cache[hook].flatten(2).float(), chosen, mask)  # heads side by side; a model may compute in less

    yield from fitting(batches, run)


Result = TypeVar("Result")


def fitting(batches: Iterator[np.ndarray], run: Callable[[np.ndarray], Result]) -> Iterator[Result]:
    """`run` of batches of row numbers, in their order; those too large for the memory, and all after them, in parts.

    Raises:
        torch.OutOfMemoryError: not even one row fits.
    """
    most: int | None = None
    for batch in batches:
        start = 0
        while start < len(batch):
            part = batch[start : start + (most or len(batch))]
            try:
                result = run(part)
            except torch.OutOfMemoryError:
                if len(part) == 1:
                    raise
                most = -(-len(part) // 2)
            else:
                start += len(part)
                yield result
                continue
            torch.cuda.empty_cache()  # here, where the failed run's tensors are gone


def stream(
    bridge: TransformerBridge, rows: Artefact, chosen: np.ndarray, hook: str, skip: int
) -> Iterator[torch.Tensor]:
    """Activations at `hook` of the token rows `chosen`, (tokens, d), in their order and without what is masked.

    A window of rows at a time runs sorted by length, so that little padding is computed, and is put back in order.
    """
    lengths = rows.array("lengths")
    for window in in_order(chosen, WINDOW):
        order = np.argsort(lengths[window], kind="stable")
        found: list[torch.Tensor] = []
        for part in harvest(bridge, rows, in_order(window[order]), hook, skip):
            found += part.activations[part.mask].split(part.mask.sum(1).tolist())
        yield torch.cat([found[place] for place in np.argsort(order)])


def in_order(chosen: np.ndarray, batch: int = 64) -> Iterator[np.ndarray]:
    """Batches of row numbers in their order."""
    yield from (chosen[i : i + batch] for i in range(0, len(chosen), batch))


@torch.no_grad()
def mean_loss(
    bridge: TransformerBridge, rows: Artefact, chosen: np.ndarray, hook: str | None = None,
    replace: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> float:  # fmt: skip
    """Mean next-token cross-entropy in nats, with the activations at `hook` replaced where `replace` is given."""

    def change(value: torch.Tensor, hook: Any) -> torch.Tensor:  # TransformerLens passes `hook` by name
        assert replace is not None
        return replace(value.flatten(2).float()).reshape(value.shape).to(value.dtype)

    def run(batch: np.ndarray) -> torch.Tensor:
        tokens, mask = toys.take(rows, batch)
        hooks = [(hook, change)] if replace else []
        return next_token_loss(bridge.run_with_hooks(tokens, fwd_hooks=hooks).float(), tokens, mask)

    total, count = 0.0, 0
    ordered = chosen[np.argsort(rows.array("lengths")[chosen], kind="stable")]  # little padding
    for losses in fitting(in_order(ordered), run):
        total, count = total + losses.double().sum().item(), count + len(losses)
    return total / count


@artefact
def losses(folder: Path, model: Artefact, rows: Artefact, loss_rows: int) -> dict[str, Any]:
    """Loss of a model on up to `loss_rows` held-out rows, beside a unigram and a bigram fitted on the training rows.

    In nats a token. Returns model, unigram, bigram, predictions.

    The bigram is interpolated with the unigram by absolute discounting (Ney, Essen and Kneser 1994), discount 0.75;
    the unigram adds 1 to every count.
    """
    held_out = np.flatnonzero(rows.array("split") == corpora.SPLITS.index("held_out"))[:loss_rows]
    training = np.flatnonzero(rows.array("split") == corpora.SPLITS.index("training"))
    bridge = load(model)
    size = bridge.cfg.d_vocab
    first, second = _bigrams(rows, training)
    test_first, test_second = _bigrams(rows, held_out)
    unigram = np.bincount(second, minlength=size) + 1.0
    unigram /= unigram.sum()
    counts = sparse.coo_array((np.ones(len(first)), (first, second)), (size, size)).tocsr()
    seen = counts.sum(axis=1)
    followers = np.diff(counts.indptr)
    backoff = np.where(seen > 0, 0.75 * followers / np.maximum(seen, 1), 1.0)
    direct = np.maximum(np.asarray(counts[test_first, test_second]).ravel() - 0.75, 0) / np.maximum(seen[test_first], 1)
    bigram = direct + backoff[test_first] * unigram[test_second]
    return {
        "model": mean_loss(bridge, rows, held_out),
        "unigram": float(-np.log(unigram[test_second]).mean()),
        "bigram": float(-np.log(bigram).mean()),
        "predictions": len(test_second),
    }


def _bigrams(rows: Artefact, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    tokens, lengths = rows.array("tokens")[chosen], rows.array("lengths")[chosen]
    inside = np.arange(1, tokens.shape[1]) < lengths[:, None]
    return tokens[:, :-1][inside], tokens[:, 1:][inside]
