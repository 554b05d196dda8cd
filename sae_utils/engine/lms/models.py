"""Language models, read by the call that reads Pythia and hooked by name.

In: a model's artefact, token rows. Out: activations at a TransformerLens hook, batch by batch; losses beside n-gram
baselines.
Never: a whole activation matrix; a changed weight.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
import torch
from scipy import sparse
from torch.nn import functional
from tqdm import tqdm

from sae_utils import store
from sae_utils.engine.core.spec import ProfileError, Spec
from sae_utils.engine.lms import bridges, toys
from sae_utils.engine.text import corpora, tokenization
from sae_utils.store import Artefact, artefact

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

WINDOW = 256  # rows whose activations are held at once
END = "ln_final.hook_in"  # what comes after the last block
HEAD = "unembed.hook_in"
DELAY = 2  # seconds before a bar of what is mostly quick
LOGITS = 2**27  # bytes of them at once; what is made of them takes twice as much again
HELD = 2**30  # bytes of activations, unless one hook alone has more
FINITE = torch.finfo(torch.float32).max
HALF = torch.finfo(torch.float16).max  # what is stored in float16 may not exceed it

KINDS: dict[str, type[Spec]] = {"toy": toys.Toy, "checkpoint": toys.Checkpoint, "twin": toys.Twin}


def load(model: Artefact) -> TransformerBridge:
    """Read a model and its tokenizer and hang TransformerLens hooks on it, activations raw (nothing centred).

    Raises:
        ProfileError: as `bridges.wrap`.
    """
    bridge: TransformerBridge = _wrapped(model).bridge
    return bridge


def _wrapped(model: Artefact) -> bridges.Wrapped:
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    network = AutoModelForCausalLM.from_pretrained(model.path, use_safetensors=True, trust_remote_code=False)
    words = AutoTokenizer.from_pretrained(model.path, trust_remote_code=False)
    return bridges.wrap(network.to(store.device()), words, model.path, model.meta.get("source") or model.path.name)


@artefact
def hook_of(folder: Path, model: Artefact, module: str) -> dict[str, Any]:
    """The `hook` of a model that holds the output of one of its modules.

    Raises:
        ProfileError: as `bridges.of_module`.
    """
    return {"hook": bridges.of_module(_wrapped(model), module)}


@torch.no_grad()
def next_token_loss(
    bridge: TransformerBridge, tokens: torch.Tensor, mask: torch.Tensor, hooks: Sequence[tuple[str, Any]] = ()
) -> torch.Tensor:
    """Cross-entropy in nats of every predicted token: (predictions,), in row order.

    Logits are there for as many predictions at once as fit in `LOGITS` bytes: all of a batch may need many GB.
    """
    real = mask[:, 1:]
    hidden = bridge.run_with_hooks(tokens, fwd_hooks=[*hooks, (HEAD, _stop)])[:, :-1][real]
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


class Batch(NamedTuple):
    """Activations of a few token rows."""

    activations: dict[str, torch.Tensor]
    """(n, length, d) of each hook"""
    rows: np.ndarray
    """(n,) row numbers in the token artefact"""
    mask: torch.Tensor
    """(n, length), true where a measure may look: no padding, no skipped position"""


def block_of(hook: str) -> int:
    """Number of the block that a hook is in. Raises ValueError for a hook outside all blocks."""
    found = re.match(r"blocks\.(\d+)\.", hook)
    if not found:
        raise ValueError(f"hook {hook!r} is in no block")
    return int(found[1])


def block_input(hook: str) -> str:
    """The hook at the input of the block that `hook` is in. Raises ValueError for a hook outside all blocks."""
    block = block_of(hook)
    return f"blocks.{block - 1}.hook_resid_post" if block else "blocks.0.hook_resid_pre"


@torch.no_grad()
def harvest(
    bridge: TransformerBridge, rows: Artefact, batches: Iterator[np.ndarray], hooks: Sequence[str], skip: int,
    largest: float = FINITE,
) -> Iterator[Batch]:  # fmt: skip
    """Activations at some hooks for batches of token rows; blocks above all of them are not computed.

    Args:
        bridge: as `load` returns it.
        rows: token artefact.
        batches: row numbers, a batch each.
        hooks: TransformerLens names, e.g. `blocks.0.hook_mlp_out`. What one gives does not depend on the others.
        skip: positions to mask from every beginning of sequence on, that included.
        largest: absolute value that the caller can keep, e.g. `HALF`.

    Raises:
        ProfileError: the model has no such hook, or not the rows' tokens or positions; an activation is not finite or
            too large.
    """
    bridges.fit(bridge.original_model.config, rows, bridge.named)
    for hook in hooks:
        bridges.confirm(bridge, hook)
    layers = [re.match(r"blocks\.(\d+)\.", hook) for hook in hooks]
    stop = max(int(layer[1]) for layer in layers if layer) + 1 if all(layers) else None
    # TransformerLens stops before a block only, and the unembedding costs a toy more than all blocks
    behind = [(END, _stop)] if stop == bridge.cfg.n_layers and END in bridge.hook_dict else []

    def run(chosen: np.ndarray) -> Batch:
        tokens, mask = toys.take(rows, chosen)
        with bridge.hooks(fwd_hooks=behind):
            _, cache = bridge.run_with_cache(tokens, names_filter=list(hooks), return_type=None, stop_at_layer=stop)
        places = rows.array("places")[chosen, : mask.shape[1]]
        mask &= torch.from_numpy(places >= skip).to(mask.device)
        # heads side by side; a model may compute in less
        found = {hook: cache[hook].flatten(2).float() for hook in hooks}
        bridges.hold(bridge, found, chosen, mask, largest)
        return Batch(found, chosen, mask)

    yield from fitting(batches, run)


def _stop(value: torch.Tensor, hook: Any) -> None:
    from transformer_lens.model_bridge.exceptions import StopAtLayerException

    raise StopAtLayerException(value)


Result = TypeVar("Result")


def fitting(batches: Iterator[np.ndarray], run: Callable[[np.ndarray], Result]) -> Iterator[Result]:
    """`run` of batches of row numbers, in their order; those too large for the memory, and all after them, in parts.

    Raises:
        torch.OutOfMemoryError, MemoryError, RuntimeError: not even one row fits.
    """
    most: int | None = None
    for batch in batches:
        start = 0
        while start < len(batch):
            part = batch[start : start + (most or len(batch))]
            try:
                result = run(part)
            except (RuntimeError, MemoryError) as error:
                if len(part) == 1 or not is_memory(error):
                    raise
                most = -(-len(part) // 2)
            else:
                start += len(part)
                yield result
                continue
            torch.cuda.empty_cache()  # here, where the failed run's tensors are gone


def is_memory(error: Exception) -> bool:
    """Whether an allocation failed, on a CUDA device or here: torch and oneDNN say so in words only."""
    said = r"can't allocate memory|not enough memory|bad_alloc|[Oo]ut of memory|could not create a memory"
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or bool(re.search(said, str(error)))


def stream(
    bridge: TransformerBridge, rows: Artefact, chosen: np.ndarray, hooks: Sequence[str], skip: int,
    largest: float = FINITE,
) -> Iterator[dict[str, torch.Tensor]]:  # fmt: skip
    """Activations at some hooks of the token rows `chosen`, (tokens, d), in their order and without what is masked.

    A window of rows at a time runs sorted by length, so that little padding is computed, and is put back in order.
    """
    lengths = rows.array("lengths")
    for window in in_order(chosen, WINDOW):
        order = np.argsort(lengths[window], kind="stable")
        found: dict[str, list[torch.Tensor]] = {hook: [] for hook in hooks}
        for part in harvest(bridge, rows, in_order(window[order]), hooks, skip, largest):
            counts = part.mask.sum(1).tolist()
            for hook, x in part.activations.items():
                found[hook] += x[part.mask].split(counts)
        places = np.argsort(order)
        yield {hook: torch.cat([parts[place] for place in places]) for hook, parts in found.items()}


def passes(bridge: TransformerBridge, rows: Artefact, hooks: Iterable[str]) -> Iterator[list[str]]:
    """Hooks in their order, in groups of which `stream` holds up to `HELD` bytes: a pass over the rows for each."""
    names = list(dict.fromkeys(hooks))
    if len(names) > 1:
        (look,) = harvest(bridge, rows, iter([np.array([0])]), names, 0)
        row = WINDOW * rows.array("tokens").shape[1] * 4
        size = {name: row * x.shape[-1] for name, x in look.activations.items()}
    group = names[:1]
    for name in names[1:]:
        if sum(size[held] for held in [*group, name]) > HELD:
            yield group
            group = []
        group.append(name)
    yield group


def in_order(chosen: np.ndarray, batch: int = 64) -> Iterator[np.ndarray]:
    """Batches of row numbers in their order."""
    yield from (chosen[i : i + batch] for i in range(0, len(chosen), batch))


def mean_loss(
    bridge: TransformerBridge, rows: Artefact, chosen: np.ndarray, hook: str | None = None,
    replace: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> float:  # fmt: skip
    """Mean next-token cross-entropy in nats, with the activations at `hook` replaced where `replace` is given.

    Raises:
        ProfileError: as `harvest`; the loss is not finite.
    """
    bridges.fit(bridge.original_model.config, rows, bridge.named)
    if hook is not None:
        bridges.confirm(bridge, hook)

    def change(value: torch.Tensor, hook: Any) -> torch.Tensor:  # TransformerLens passes `hook` by name
        assert replace is not None
        return replace(value.flatten(2).float()).reshape(value.shape).to(value.dtype)

    def run(batch: np.ndarray) -> torch.Tensor:
        tokens, mask = toys.take(rows, batch)
        return next_token_loss(bridge, tokens, mask, [(hook, change)] if hook and replace else [])

    total, count = 0.0, 0
    ordered = chosen[np.argsort(rows.array("lengths")[chosen], kind="stable")]  # little padding
    label = f"loss, {hook} replaced" if hook else "loss"
    with tqdm(total=int((rows.array("lengths")[chosen] - 1).sum()), desc=label, leave=False, delay=DELAY) as bar:
        for losses in fitting(in_order(ordered), run):
            total, count = total + losses.double().sum().item(), count + len(losses)
            bar.update(len(losses))
    if not np.isfinite(total):
        changed = f" with {hook} replaced" if replace else ""
        raise ProfileError(
            f"{bridge.named}: its loss{changed} is {total}; {bridges.overflow(bridge.original_model.dtype)}"
        )
    return total / count


@artefact
def losses(folder: Path, model: Artefact, rows: Artefact, loss_rows: int) -> dict[str, Any]:
    """Loss of a model on up to `loss_rows` held-out rows, beside a unigram and a bigram fitted on the training rows.

    The held-out rows are spread over the articles. In nats a token. Returns model, unigram, bigram, predictions.

    The bigram is interpolated with the unigram by absolute discounting (Ney, Essen and Kneser 1994), discount 0.75;
    the unigram adds 1 to every count.
    """
    held_out = np.flatnonzero(rows.array("split") == corpora.SPLITS.index("held_out"))
    held_out = tokenization.spread_rows(rows, held_out, loss_rows)
    training = np.flatnonzero(rows.array("split") == corpora.SPLITS.index("training"))
    bridge = load(model)
    bridges.fit(bridge.original_model.config, rows, bridge.named)
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
