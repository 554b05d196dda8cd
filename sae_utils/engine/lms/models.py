"""Language models, read by the call that reads Pythia and hooked by name.

In: a model's artefact, token rows. Out: activations at a TransformerLens hook, batch by batch; losses beside n-gram
baselines.
Never: a whole activation matrix; a changed weight.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from sae_utils import store
from sae_utils.engine.core.spec import Spec
from sae_utils.engine.lms import batching, hooking, toys
from sae_utils.store import Artefact, artefact

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

WINDOW = 256  # rows whose activations are held at once
END = "ln_final.hook_in"  # what comes after the last block
DELAY = 2  # seconds before a bar of what is mostly quick
HELD = 2**30  # bytes of activations, unless one hook alone has more
FINITE = torch.finfo(torch.float32).max
HALF = torch.finfo(torch.float16).max  # what is stored in float16 may not exceed it

KINDS: dict[str, type[Spec]] = {"toy": toys.Toy, "checkpoint": toys.ToyCheckpoint, "twin": toys.Twin}


def load(model: Artefact) -> TransformerBridge:
    """Read a model and its tokenizer and hang TransformerLens hooks on it, activations raw (nothing centred).

    Raises:
        ProfileError: as `hooks.wrap`.
    """
    bridge: TransformerBridge = _wrapped(model).bridge
    return bridge


def _wrapped(model: Artefact) -> hooking.Wrapped:
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    network = AutoModelForCausalLM.from_pretrained(model.path, use_safetensors=True, trust_remote_code=False)
    words = AutoTokenizer.from_pretrained(model.path, trust_remote_code=False)
    return hooking.wrap(network.to(store.device()), words, model.path, model.meta.get("source") or model.path.name)


@artefact
def hook_of(folder: Path, model: Artefact, module: str) -> dict[str, Any]:
    """The `hook` of a model that holds the output of one of its modules.

    Raises:
        ProfileError: as `hooks.of_module`.
    """
    return {"hook": hooking.of_module(_wrapped(model), module)}


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
    batching.refuse_rows(bridge.original_model.config, rows, bridge.named)
    for hook in hooks:
        hooking.confirm(bridge, hook)
    layers = [re.match(r"blocks\.(\d+)\.", hook) for hook in hooks]
    stop = max(int(layer[1]) for layer in layers if layer) + 1 if all(layers) else None
    # TransformerLens stops before a block only, and the unembedding costs a toy more than all blocks
    behind = [(END, stop_here)] if stop == bridge.cfg.n_layers and END in bridge.hook_dict else []

    def run(chosen: np.ndarray) -> Batch:
        tokens, mask = batching.take(rows, chosen)
        with bridge.hooks(fwd_hooks=behind):
            _, cache = bridge.run_with_cache(tokens, names_filter=list(hooks), return_type=None, stop_at_layer=stop)
        places = rows.array("places")[chosen, : mask.shape[1]]
        mask &= torch.from_numpy(places >= skip).to(mask.device)
        # heads side by side; a model may compute in less
        found = {hook: cache[hook].flatten(2).float() for hook in hooks}
        hooking.refuse_values(bridge, found, chosen, mask, largest)
        return Batch(found, chosen, mask)

    yield from batching.in_parts(batches, run)


def stop_here(value: torch.Tensor, hook: Any) -> None:
    from transformer_lens.model_bridge.exceptions import StopAtLayerException

    raise StopAtLayerException(value)


def stream(
    bridge: TransformerBridge, rows: Artefact, chosen: np.ndarray, hooks: Sequence[str], skip: int,
    largest: float = FINITE,
) -> Iterator[dict[str, torch.Tensor]]:  # fmt: skip
    """Activations at some hooks of the token rows `chosen`, (tokens, d), in their order and without what is masked.

    A window of rows at a time runs sorted by length, so that little padding is computed, and is put back in order.
    """
    lengths = rows.array("lengths")
    for window in batching.in_order(chosen, WINDOW):
        order = np.argsort(lengths[window], kind="stable")
        found: dict[str, list[torch.Tensor]] = {hook: [] for hook in hooks}
        for part in harvest(bridge, rows, batching.in_order(window[order]), hooks, skip, largest):
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
