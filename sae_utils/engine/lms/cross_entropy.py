"""Losses of language models on token rows.

In: a model, token rows. Out: next-token cross-entropy in nats, also with the activations at one hook replaced; the
losses of n-grams.
Never: the logits of a whole batch at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy import sparse
from torch.nn import functional

from sae_utils.engine.core.progress import tqdm
from sae_utils.engine.core.spec import ProfileError
from sae_utils.engine.lms import batching, hooking, models
from sae_utils.engine.text import tokenization
from sae_utils.store import Artefact, artefact

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

HEAD = "unembed.hook_in"
LOGITS = 2**27  # bytes of them at once; the loss takes twice as much again
DISCOUNT = 0.75  # of the bigram


@torch.no_grad()
def next_token(
    bridge: TransformerBridge, tokens: torch.Tensor, mask: torch.Tensor, hooks: Sequence[tuple[str, Any]] = ()
) -> torch.Tensor:
    """Cross-entropy in nats of every predicted token: (predictions,), in row order.

    At most `LOGITS` bytes of logits are in memory at once, because those of a batch may need many GB.
    """
    predicted = mask[:, 1:]
    hidden = bridge.run_with_hooks(tokens, fwd_hooks=[*hooks, (HEAD, models.stop_here)])[:, :-1][predicted]
    at_once = max(1, LOGITS // (4 * bridge.cfg.d_vocab))
    found = [
        functional.cross_entropy(_logits(bridge, x).float(), y, reduction="none")
        for x, y in zip(hidden.split(at_once), tokens[:, 1:][predicted].split(at_once), strict=True)
    ]
    return torch.cat(found)


def _logits(bridge: TransformerBridge, hidden: torch.Tensor) -> torch.Tensor:
    """Logits (n, vocabulary) of inputs of the unembedding, (n, d).

    One token runs through the network and its state is replaced by `hidden`, because some families cap or scale
    logits after the unembedding.
    """
    one = torch.zeros((1, 1), dtype=torch.long, device=hidden.device)
    found: torch.Tensor = bridge.run_with_hooks(one, fwd_hooks=[(HEAD, lambda value, hook: hidden[None])])
    return found[0]


def mean(
    bridge: TransformerBridge, rows: Artefact, chosen: np.ndarray, hook: str | None = None,
    replace: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> float:  # fmt: skip
    """Mean cross-entropy on the rows `chosen`, with the activations at `hook` replaced if `replace` is given.

    Raises ProfileError as `models.harvest`, and if the loss is not finite.
    """
    batching.refuse_rows(bridge.original_model.config, rows, bridge.label)
    if hook is not None:
        hooking.refuse_hook(bridge, hook)

    def change(value: torch.Tensor, hook: Any) -> torch.Tensor:  # TransformerLens passes `hook` by name
        assert replace is not None
        return replace(value.flatten(2).float()).reshape(value.shape).to(value.dtype)

    def run(batch: np.ndarray) -> torch.Tensor:
        tokens, mask = batching.take(rows, batch)
        return next_token(bridge, tokens, mask, [(hook, change)] if hook and replace else [])

    total, count = 0.0, 0
    lengths = rows.array("lengths")[chosen]
    by_length = batching.in_order(chosen[np.argsort(lengths, kind="stable")])
    label = f"loss, {hook} replaced" if hook else "loss"
    with tqdm(total=int((lengths - 1).sum()), desc=label, leave=False, delay=models.DELAY) as bar:
        for losses in batching.in_parts(by_length, run):
            total, count = total + losses.double().sum().item(), count + len(losses)
            bar.update(len(losses))
    if not np.isfinite(total):
        changed = f" with {hook} replaced" if replace else ""
        cause = hooking.overflow(bridge.original_model.dtype)
        raise ProfileError(f"{bridge.label}: its loss{changed} is {total}; {cause}")
    return total / count


@artefact
def held_out(folder: Path, model: Artefact, rows: Artefact, loss_rows: int) -> dict[str, Any]:
    """Loss of a model, of a unigram and of a bigram on up to `loss_rows` held-out rows, spread over the articles.

    The n-grams are fitted on the training rows. The bigram is interpolated with the unigram by absolute discounting
    (Ney, Essen and Kneser 1994); the unigram adds 1 to every count. `model`, `unigram`, `bigram`: nats a token.
    """
    judged = tokenization.spread_rows(rows, batching.rows_in(rows, "held_out"), loss_rows)
    bridge = models.load(model)
    batching.refuse_rows(bridge.original_model.config, rows, bridge.label)
    size = bridge.cfg.d_vocab
    first, second = _bigrams(rows, batching.rows_in(rows, "training"))
    test_first, test_second = _bigrams(rows, judged)
    unigram = np.bincount(second, minlength=size) + 1.0
    unigram /= unigram.sum()
    counts = sparse.coo_array((np.ones(len(first)), (first, second)), (size, size)).tocsr()
    occurrences, followers = counts.sum(axis=1), np.diff(counts.indptr)
    backoff = np.where(occurrences > 0, DISCOUNT * followers / np.maximum(occurrences, 1), 1.0)
    direct = np.maximum(np.asarray(counts[test_first, test_second]).ravel() - DISCOUNT, 0)
    bigram = direct / np.maximum(occurrences[test_first], 1) + backoff[test_first] * unigram[test_second]
    return {
        "model": mean(bridge, rows, judged),
        "unigram": float(-np.log(unigram[test_second]).mean()),
        "bigram": float(-np.log(bigram).mean()),
        "predictions": len(test_second),
    }


def _bigrams(rows: Artefact, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    tokens, lengths = rows.array("tokens")[chosen], rows.array("lengths")[chosen]
    inside = np.arange(1, tokens.shape[1]) < lengths[:, None]
    return tokens[:, :-1][inside], tokens[:, 1:][inside]
