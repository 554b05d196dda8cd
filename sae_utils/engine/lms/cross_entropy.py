"""Losses of language models on token rows.

In: a model, token rows. Out: next-token cross-entropy in nats, also with the activations at one hook replaced, beside
those of n-grams.
Never: logits of a whole batch at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy import sparse
from torch.nn import functional
from tqdm import tqdm

from sae_utils.engine.core.spec import ProfileError
from sae_utils.engine.lms import batching, hooking, models
from sae_utils.engine.text import corpora, tokenization
from sae_utils.store import Artefact, artefact

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

HEAD = "unembed.hook_in"
LOGITS = 2**27  # bytes of them at once; what is made of them takes twice as much again


@torch.no_grad()
def next_token(
    bridge: TransformerBridge, tokens: torch.Tensor, mask: torch.Tensor, hooks: Sequence[tuple[str, Any]] = ()
) -> torch.Tensor:
    """Cross-entropy in nats of every predicted token: (predictions,), in row order.

    Logits are there for as many predictions at once as fit in `LOGITS` bytes: all of a batch may need many GB.
    """
    real = mask[:, 1:]
    hidden = bridge.run_with_hooks(tokens, fwd_hooks=[*hooks, (HEAD, models.stop_here)])[:, :-1][real]
    at_once = max(1, LOGITS // (4 * bridge.cfg.d_vocab))
    found = [
        functional.cross_entropy(_logits(bridge, x).float(), y, reduction="none")
        for x, y in zip(hidden.split(at_once), tokens[:, 1:][real].split(at_once), strict=True)
    ]
    return torch.cat(found)


def _logits(bridge: TransformerBridge, hidden: torch.Tensor) -> torch.Tensor:
    """Logits (n, vocabulary) of what the unembedding reads, (n, d).

    One token runs through the network, and its state is exchanged for `hidden`: some families cap or scale logits.
    """
    one = torch.zeros((1, 1), dtype=torch.long, device=hidden.device)
    found: torch.Tensor = bridge.run_with_hooks(one, fwd_hooks=[(HEAD, lambda value, hook: hidden[None])])
    return found[0]


def mean(
    bridge: TransformerBridge, rows: Artefact, chosen: np.ndarray, hook: str | None = None,
    replace: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> float:  # fmt: skip
    """Mean next-token cross-entropy in nats, with the activations at `hook` replaced where `replace` is given.

    Raises:
        ProfileError: as `harvest`; the loss is not finite.
    """
    batching.refuse_rows(bridge.original_model.config, rows, bridge.named)
    if hook is not None:
        hooking.confirm(bridge, hook)

    def change(value: torch.Tensor, hook: Any) -> torch.Tensor:  # TransformerLens passes `hook` by name
        assert replace is not None
        return replace(value.flatten(2).float()).reshape(value.shape).to(value.dtype)

    def run(batch: np.ndarray) -> torch.Tensor:
        tokens, mask = batching.take(rows, batch)
        return next_token(bridge, tokens, mask, [(hook, change)] if hook and replace else [])

    total, count = 0.0, 0
    ordered = chosen[np.argsort(rows.array("lengths")[chosen], kind="stable")]  # little padding
    label = f"loss, {hook} replaced" if hook else "loss"
    with tqdm(total=int((rows.array("lengths")[chosen] - 1).sum()), desc=label, leave=False, delay=models.DELAY) as bar:
        for losses in batching.in_parts(batching.in_order(ordered), run):
            total, count = total + losses.double().sum().item(), count + len(losses)
            bar.update(len(losses))
    if not np.isfinite(total):
        changed = f" with {hook} replaced" if replace else ""
        raise ProfileError(
            f"{bridge.named}: its loss{changed} is {total}; {hooking.overflow(bridge.original_model.dtype)}"
        )
    return total / count


@artefact
def held_out(folder: Path, model: Artefact, rows: Artefact, loss_rows: int) -> dict[str, Any]:
    """Loss of a model on up to `loss_rows` held-out rows, beside a unigram and a bigram fitted on the training rows.

    The held-out rows are spread over the articles. In nats a token. Returns model, unigram, bigram, predictions.

    The bigram is interpolated with the unigram by absolute discounting (Ney, Essen and Kneser 1994), discount 0.75;
    the unigram adds 1 to every count.
    """
    held_out = np.flatnonzero(rows.array("split") == corpora.SPLITS.index("held_out"))
    held_out = tokenization.spread_rows(rows, held_out, loss_rows)
    training = np.flatnonzero(rows.array("split") == corpora.SPLITS.index("training"))
    bridge = models.load(model)
    batching.refuse_rows(bridge.original_model.config, rows, bridge.named)
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
        "model": mean(bridge, rows, held_out),
        "unigram": float(-np.log(unigram[test_second]).mean()),
        "bigram": float(-np.log(bigram).mean()),
        "predictions": len(test_second),
    }


def _bigrams(rows: Artefact, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    tokens, lengths = rows.array("tokens")[chosen], rows.array("lengths")[chosen]
    inside = np.arange(1, tokens.shape[1]) < lengths[:, None]
    return tokens[:, :-1][inside], tokens[:, 1:][inside]
