"""Language models with TransformerLens hooks, and their activations.

In: a model's artefact, token rows, names of hooks. Out: activations, batch by batch.
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
from sae_utils.engine.core.progress import tqdm
from sae_utils.engine.lms import batching, hooking
from sae_utils.store import Artefact, artefact

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

WINDOW = 256  # rows whose activations are in memory at once
END = "ln_final.hook_in"  # behind the last block
DELAY = 2  # seconds before a progress bar appears that is mostly not needed
HELD = 2**30  # bytes of activations in memory, unless one hook alone has more
FINITE = torch.finfo(torch.float32).max
HALF = torch.finfo(torch.float16).max  # the largest value that float16 stores


def load(model: Artefact) -> TransformerBridge:
    """A model and its tokenizer with TransformerLens' hooks on it; activations are raw (nothing is centred).

    Raises ProfileError as `hooking.wrap`.
    """
    bridge: TransformerBridge = _hooked(model).bridge
    return bridge


def _hooked(model: Artefact) -> hooking.Hooked:
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    network = AutoModelForCausalLM.from_pretrained(model.path, use_safetensors=True, trust_remote_code=False)
    tokenizer = AutoTokenizer.from_pretrained(model.path, trust_remote_code=False)
    name = model.meta.get("source") or model.path.name
    return hooking.wrap(network.to(store.device()), tokenizer, model.path, name)


@artefact
def hook_of(folder: Path, model: Artefact, module: str) -> dict[str, Any]:
    """The `hook` of a model that holds the output of one of its modules. Raises ProfileError as `hooking.of_module`."""
    return {"hook": hooking.of_module(_hooked(model), module)}


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


class Batch(NamedTuple):
    """Activations of a few token rows."""

    activations: dict[str, torch.Tensor]  # (n, length, d) of each hook
    rows: np.ndarray  # (n,) row numbers in the token artefact
    mask: torch.Tensor  # (n, length), false at padding and at skipped positions


@torch.no_grad()
def harvest(
    bridge: TransformerBridge, rows: Artefact, batches: Iterator[np.ndarray], hooks: Sequence[str], skip: int,
    largest: float = FINITE,
) -> Iterator[Batch]:  # fmt: skip
    """Activations at some hooks for batches of token rows; blocks above all of the hooks are not computed.

    A batch that does not fit into memory is split. One hook does not change the values of another. `skip`: masked
    positions, from each beginning of sequence on. `largest`: absolute value that the caller can store, e.g. `HALF`.
    Raises ProfileError if the model has no such hook, or cannot read the rows, or an activation is not finite or too
    large.
    """
    batching.refuse_rows(bridge.original_model.config, rows, bridge.label)
    for hook in hooks:
        hooking.refuse_hook(bridge, hook)
    in_blocks = all(hook.startswith("blocks.") for hook in hooks)
    stop = max(map(block_of, hooks)) + 1 if in_blocks else None
    # TransformerLens stops in front of a block only, and the unembedding costs a toy more than all blocks
    at_end = [(END, stop_here)] if stop == bridge.cfg.n_layers and END in bridge.hook_dict else []

    def run(chosen: np.ndarray) -> Batch:
        tokens, mask = batching.take(rows, chosen)
        with bridge.hooks(fwd_hooks=at_end):
            _, cache = bridge.run_with_cache(tokens, names_filter=list(hooks), return_type=None, stop_at_layer=stop)
        places = rows.array("places")[chosen, : mask.shape[1]]
        mask &= torch.from_numpy(places >= skip).to(mask.device)
        # heads lie side by side; a model may compute in lower precision
        found = {hook: cache[hook].flatten(2).float() for hook in hooks}
        hooking.refuse_values(bridge, found, chosen, mask, largest)
        return Batch(found, chosen, mask)

    yield from batching.in_parts(batches, run)


def stop_here(value: torch.Tensor, hook: Any) -> None:
    """A hook that ends the forward pass with the value it is given."""
    from transformer_lens.model_bridge.exceptions import StopAtLayerException

    raise StopAtLayerException(value)


def stream(
    bridge: TransformerBridge, rows: Artefact, chosen: np.ndarray, hooks: Sequence[str], skip: int,
    largest: float = FINITE, label: str = "activations",
) -> Iterator[dict[str, torch.Tensor]]:  # fmt: skip
    """Activations at some hooks of the token rows `chosen`: (tokens, d) in their order, without masked positions.

    Windows of rows are sorted by length, so that little padding is computed, and then put back in order.
    `label` names the progress bar.
    """
    lengths, windows = rows.array("lengths"), list(batching.in_order(chosen, WINDOW))
    for window in tqdm(windows, label, leave=False, delay=DELAY):
        order = np.argsort(lengths[window], kind="stable")
        found: dict[str, list[torch.Tensor]] = {hook: [] for hook in hooks}
        for part in harvest(bridge, rows, batching.in_order(window[order]), hooks, skip, largest):
            counts = part.mask.sum(1).tolist()
            for hook, x in part.activations.items():
                found[hook] += x[part.mask].split(counts)
        places = np.argsort(order)
        yield {hook: torch.cat([parts[place] for place in places]) for hook, parts in found.items()}


def passes(bridge: TransformerBridge, rows: Artefact, hooks: Iterable[str]) -> Iterator[list[str]]:
    """Groups of hooks whose activations take up to `HELD` bytes in `stream`: one pass over the rows for each."""
    names = list(dict.fromkeys(hooks))
    if len(names) > 1:
        (first,) = harvest(bridge, rows, iter([np.array([0])]), names, 0)
        row = WINDOW * rows.array("tokens").shape[1] * 4
        size = {name: row * x.shape[-1] for name, x in first.activations.items()}
    group = names[:1]
    for name in names[1:]:
        if sum(size[held] for held in [*group, name]) > HELD:
            yield group
            group = []
        group.append(name)
    yield group
