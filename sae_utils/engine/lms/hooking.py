"""Which hooks of TransformerLens hold what the network itself computes.

In: a network as transformers loads it. Out: the bridge that TransformerLens makes of it, with the hooks that may be
read; the hook that holds a module's output.
Never: a hook that is believed by its name.

A few tokens run through the network under plain torch hooks before TransformerLens wraps it, as afterwards its modules
are TransformerLens' own. What the bridge then holds must be the same:

- the input and output of every block, and the logits: else the model is refused (Cohere, for its rotary layout);
- `hook_attn_out` and `hook_mlp_out`: with the input of the block they sum to its output;
- `mlp.hook_post`: what the last linear map of the MLP takes (experts have no one such map);
- any other hook: what some module of the block takes or gives.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from sae_utils import store
from sae_utils.engine.core.spec import ProfileError, nearest

PROBE = 24  # tokens that are run through both
ADDED = ("hook_attn_out", "hook_mlp_out")
FIRST = ("hook_resid_post", *ADDED, "attn.hook_out", "mlp.hook_out", "mlp.hook_post")  # of hooks with one value


class Own(NamedTuple):
    """What the modules of a network take and give on `tokens` (1, n), by name: (1, n, d) each."""

    tokens: torch.Tensor
    given: dict[str, torch.Tensor]
    out: dict[str, torch.Tensor]
    logits: torch.Tensor
    """(1, n, vocabulary)"""
    blocks: list[str]
    """names of the blocks in their order"""
    base: str
    """name of what is under the unembedding"""


class Wrapped(NamedTuple):
    """A network and what TransformerLens makes of it, on the same tokens."""

    bridge: Any
    own: Own
    seen: dict[str, torch.Tensor]
    """hook -> value"""


@torch.no_grad()
def wrap(network: Any, words: Any, folder: Path, what: str) -> Wrapped:
    """Hang TransformerLens' hooks on a network; `bridge.held` names those that hold what the network computes.

    Args:
        network: as transformers loads it.
        words: its tokenizer.
        folder: where it lies.
        what: what messages call the model.

    Raises:
        ProfileError: TransformerLens does not know the family, or computes something else; the network's own
            activations are not finite.
    """
    from transformer_lens.model_bridge import TransformerBridge

    own = alone(network)
    family = f"{what} ({network.config.model_type}, {str(network.dtype).removeprefix('torch.')})"
    if not own.logits.isfinite().all():
        raise ProfileError(f"{family}: {overflow(network.dtype)}")
    try:
        bridge = TransformerBridge.boot_transformers(
            str(folder), hf_model=network, tokenizer=words, device=store.device(), trust_remote_code=False
        )
        bridge.eval()
        logits, cache = bridge.run_with_cache(own.tokens)
    except Exception as error:  # TransformerLens raises what it likes
        said = " ".join(str(error).split())[:200]
        raise ProfileError(
            f"{family}: TransformerLens cannot hook this architecture ({said}); take a model of another family"
        ) from error
    found = Wrapped(bridge, own, {name: cache[name] for name in bridge.hook_dict if _readable(cache, name)})
    _refuse_another_stream(found, logits, family)
    bridge.named, bridge.held = family, frozenset(_held(found))
    return found


def alone(network: Any) -> Own:
    """Run a few tokens through a network, with a plain torch hook on every module."""
    network.eval()
    given: dict[str, torch.Tensor] = {}
    out: dict[str, torch.Tensor] = {}

    def keep(name: str) -> Any:
        def hook(module: Any, args: Any, kwargs: Any, result: Any) -> None:
            first = next((x for x in (*args, *kwargs.values()) if isinstance(x, torch.Tensor)), None)
            # a copy, as Falcon goes on to add to it
            given.update({name: first.clone()} if first is not None else {})
            result = result[0] if isinstance(result, tuple) else result
            out.update({name: result.clone()} if isinstance(result, torch.Tensor) else {})

        return hook

    text = network.config.get_text_config()
    length = min(PROBE, getattr(text, "max_position_embeddings", None) or PROBE)
    tokens = torch.linspace(1, text.vocab_size - 2, length).long()[None].to(network.device)
    handles = [x.register_forward_hook(keep(name), with_kwargs=True) for name, x in network.named_modules() if name]
    try:
        logits = network(tokens, use_cache=False).logits
    finally:
        for handle in handles:
            handle.remove()
    base = f"{network.base_model_prefix}." if hasattr(network, network.base_model_prefix) else ""
    return Own(tokens, given, out, logits, _blocks(network, text.num_hidden_layers), base)


def _blocks(network: torch.nn.Module, number: int) -> list[str]:
    lists = ((name, x) for name, x in network.named_modules() if isinstance(x, torch.nn.ModuleList))
    name = next(name for name, x in lists if len(x) == number)
    return [f"{name}.{block}" for block in range(number)]


def overflow(dtype: torch.dtype) -> str:
    """What is wrong, and what to do, where a model's activations are not finite."""
    if dtype == torch.float32:
        return "activations are not finite in float32: its weights are damaged, or no weights of this configuration"
    return (
        f"activations are not finite in {str(dtype).removeprefix('torch.')}, which overflows; set `dtype: float32` "
        "(or bfloat16, whose range is that of float32) for the model"
    )


def _readable(cache: Any, name: str) -> bool:
    return name in cache and isinstance(cache[name], torch.Tensor) and cache[name].is_floating_point()


def _refuse_another_stream(found: Wrapped, logits: torch.Tensor, family: str) -> None:
    """Raise where a block takes or gives, or the network predicts, something else than by itself."""
    for number, block in enumerate(found.own.blocks):
        for kind, values in (("hook_resid_pre", found.own.given), ("hook_resid_post", found.own.out)):
            hook = f"blocks.{number}.{kind}"
            if hook in found.seen and block in values:
                _refuse_another(hook, found.seen[hook], values[block], number, family)
    _refuse_another("logits", logits, found.own.logits, len(found.own.blocks), family)


def _refuse_another(where: str, theirs: torch.Tensor, own: torch.Tensor, number: int, family: str) -> None:
    error = difference(theirs, own)
    if not error < tolerance(own, number):
        raise ProfileError(
            f"{family}: TransformerLens computes other activations than transformers does ({where}: {error:.0%} off), "
            "so that no hook of this model can be believed; take a model of another family"
        )


def _held(found: Wrapped) -> Iterator[str]:
    values = [*found.own.given.items(), *found.own.out.items()]
    own = [(f"{name}.", value, value.float().norm()) for name, value in values]
    for hook, value in found.seen.items():
        number, kind = _split(hook)
        inside = "" if number is None else f"{found.own.blocks[number]}."
        size, near = value.float().norm(), tolerance(value, number)
        if kind in ADDED:
            fits = _adds_up(found, number)
        elif kind == "mlp.hook_post":
            last = found.seen.get(f"blocks.{number}.mlp.out.hook_in")
            fits = last is not None and difference(value, last) < near
        else:
            alike = (x for name, x, other in own if name.startswith(inside) and abs(other - size) <= 2 * near * other)
            fits = any(difference(value, x) < near for x in alike)
        if fits:
            yield hook


def _split(hook: str) -> tuple[int | None, str]:
    found = re.fullmatch(r"blocks\.(\d+)\.(.+)", hook)
    return (int(found[1]), found[2]) if found else (None, hook)


def _adds_up(found: Wrapped, number: int | None) -> bool:
    names = ("hook_resid_pre", "hook_resid_post", *ADDED)
    parts = [found.seen.get(f"blocks.{number}.{name}") for name in names]
    if any(part is None for part in parts):
        return False
    before, after, attention, mlp = (part.double() for part in parts if part is not None)
    added = attention + mlp
    # what the stream rounds off is not missing
    rounded = 8 * torch.finfo(found.own.logits.dtype).eps * torch.maximum(before.norm(dim=-1), after.norm(dim=-1))
    error = (after - before - added).norm(dim=-1)
    return bool((error <= tolerance(found.own.logits, 0) * added.norm(dim=-1) + rounded).all())


def difference(found: torch.Tensor, own: torch.Tensor) -> float:
    """Largest distance at a token, in units of the norm there or of the median one, whichever is larger."""
    if found.numel() != own.numel():
        return float("inf")
    own = own.flatten(0, -2).float()
    norms = own.norm(dim=-1)
    distance = (found.reshape(own.shape).float() - own).norm(dim=-1)
    return (distance / norms.clamp_min(norms.median()).clamp_min(1e-30)).max().item()


def tolerance(value: torch.Tensor, block: int | None) -> float:
    """By how much two computations of one value may differ: 1e-3 in float32.

    In less, rounding adds up over the blocks: random models of 40 families gave 3% after the first and up to 16% after
    the third; those that are computed otherwise gave 13% to 65% after the first.
    """
    return 1e-3 if value.dtype == torch.float32 else min(0.06 * (1 + (block or 0)), 0.3)


def of_module(found: Wrapped, module: str) -> str:
    """The hook that holds the output of a module (its name in the network, or under the unembedding).

    Raises:
        ProfileError: no such module, or no hook that holds what it gives.
    """
    own, family = found.own, found.bridge.named
    name = next((name for name in (f"{own.base}{module}", module) if name in own.out), None)
    if name is None:
        known = [known.removeprefix(own.base) for known in own.out]
        raise ProfileError(f"{family} has no module {module!r}; {nearest(module, known)}")
    errors = {hook: difference(found.seen[hook], own.out[name]) for hook in found.bridge.held}
    near = {hook: error for hook, error in errors.items() if error < tolerance(own.out[name], _split(hook)[0])}
    if not near:
        raise ProfileError(
            f"{family}: no hook of TransformerLens holds the output of {module}; an SAE that reads a block, its MLP "
            "or its attention can be read, in this family at "
            + ", ".join(x.removeprefix(own.base) for x in own.out if x.count(".") <= own.blocks[0].count(".") + 1)[:300]
        )
    nearest_ones = [hook for hook, error in near.items() if error <= 2 * min(near.values()) + 1e-4]
    return min(nearest_ones, key=lambda hook: (_rank(hook), len(hook), hook))


def _rank(hook: str) -> int:
    kind = _split(hook)[1]
    return FIRST.index(kind) if kind in FIRST else len(FIRST) + (not kind.endswith("hook_out"))


def confirm(bridge: Any, hook: str) -> None:
    """Refuse a hook that the model lacks, or that does not hold what the network computes.

    Raises:
        ProfileError: it names the nearest that may be read.
    """
    if hook not in bridge.hook_dict:
        raise ProfileError(f"hook {hook!r}: the model has none of that name; {nearest(hook, bridge.hook_dict)}")
    if hook not in bridge.held:
        block = re.match(r"blocks\.\d+\.", hook)
        same = [name for name in bridge.held if name.startswith(block[0] if block else "")]
        raise ProfileError(
            f"hook {hook!r}: in {bridge.named} TransformerLens holds there neither what a module of the network takes "
            f"or gives nor what a block adds to the stream; {nearest(hook, same)}"
        )


def refuse_values(
    bridge: Any, found: Mapping[str, torch.Tensor], rows: Any, mask: torch.Tensor, largest: float
) -> None:
    """Refuse activations (n, length, d) of token rows that, where `mask` (n, length) is true, are no numbers to keep.

    Raises:
        ProfileError: one is not finite, or its absolute value is above `largest`; which hook, row and position.
    """
    for hook, x in found.items():
        top = x.abs().amax(-1).masked_fill(~mask, 0)
        bad = ~(top <= largest)  # true of NaN
        if bad.any():
            row, position = bad.nonzero()[0].tolist()
            value = top[row, position]
            why = overflow(bridge.original_model.dtype)
            if value.isfinite():
                why = (
                    f"an activation of {value.item():.3g} is beyond the {largest:.0f} of float16, in which activations "
                    "are stored; read a hook with smaller values (the output of a block's MLP or attention)"
                )
            raise ProfileError(f"{bridge.named}: {hook}, row {rows[row]}, position {position}: {why}")
