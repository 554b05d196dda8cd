"""TransformerLens hooks, compared with what the network itself computes.

In: a network as transformers loads it. Out: TransformerLens' bridge with the hooks that may be read; the hook that
holds the output of a module.
Never: a hook that is trusted because of its name.

TransformerLens replaces the modules of a network. Before it does, a few tokens run through the network under plain
torch hooks. The bridge must then hold the same:

- the input and output of every block, and the logits: otherwise the model is refused (Cohere, for its rotary layout);
- `hook_attn_out` and `hook_mlp_out`: with the input of the block they sum to its output;
- `mlp.hook_post`: the input of the last linear map of the MLP (a mixture of experts has no such map);
- any other hook: an input or output of some module of the block.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from sae_utils import store
from sae_utils.engine.core.spec import ProfileError, nearest

TOKENS = 24  # run through the network and the bridge
ADDED = ("hook_attn_out", "hook_mlp_out")
PREFERRED = ("hook_resid_post", *ADDED, "attn.hook_out", "mlp.hook_out", "mlp.hook_post")  # of hooks with one value


class Run(NamedTuple):
    """Values of a network on `tokens` (1, n): inputs and outputs (1, n, d) by module name."""

    tokens: torch.Tensor
    inputs: dict[str, torch.Tensor]
    outputs: dict[str, torch.Tensor]
    logits: torch.Tensor  # (1, n, vocabulary)
    blocks: list[str]  # names of the blocks in their order
    base: str  # prefix of the modules below the unembedding


class Hooked(NamedTuple):
    """A network and its bridge on the same tokens."""

    bridge: Any
    run: Run
    values: dict[str, torch.Tensor]  # by hook


@torch.no_grad()
def wrap(network: Any, tokenizer: Any, folder: Path, name: str) -> Hooked:
    """Wrap a network, as transformers loads it, in TransformerLens' bridge; `name` is for messages.

    The bridge has two attributes more: `readable`, the hooks that hold what the network computes; `label`, name, family
    and dtype for messages. Raises ProfileError if TransformerLens does not know the family, or computes other values,
    or the network's own values are not finite.
    """
    from transformer_lens.model_bridge import TransformerBridge

    run = run_with_torch_hooks(network)
    label = f"{name} ({network.config.model_type}, {str(network.dtype).removeprefix('torch.')})"
    if not run.logits.isfinite().all():
        raise ProfileError(f"{label}: {overflow(network.dtype)}")
    try:
        bridge = TransformerBridge.boot_transformers(
            str(folder), hf_model=network, tokenizer=tokenizer, device=store.device(), trust_remote_code=False
        )
        bridge.eval()
        logits, cache = bridge.run_with_cache(run.tokens)
    except Exception as error:  # TransformerLens raises errors of many types
        message = " ".join(str(error).split())[:200]
        raise ProfileError(
            f"{label}: TransformerLens cannot hook this architecture ({message}); take a model of another family"
        ) from error
    cached = {hook: cache[hook] for hook in bridge.hook_dict if hook in cache}
    values = {hook: x for hook, x in cached.items() if isinstance(x, torch.Tensor) and x.is_floating_point()}
    hooked = Hooked(bridge, run, values)
    _compare_blocks(hooked, logits, label)
    bridge.label, bridge.readable = label, frozenset(_readable(hooked))
    return hooked


def run_with_torch_hooks(network: Any) -> Run:
    """Run a few tokens through a network, with a plain torch hook on every module."""
    network.eval()
    inputs: dict[str, torch.Tensor] = {}
    outputs: dict[str, torch.Tensor] = {}

    def keep(name: str) -> Any:
        def hook(module: Any, args: Any, kwargs: Any, result: Any) -> None:
            first = next((x for x in (*args, *kwargs.values()) if isinstance(x, torch.Tensor)), None)
            result = result[0] if isinstance(result, tuple) else result
            for kept, value in ((inputs, first), (outputs, result)):
                if isinstance(value, torch.Tensor):
                    kept[name] = value.clone()  # Falcon goes on to add to it

        return hook

    text = network.config.get_text_config()
    length = min(TOKENS, getattr(text, "max_position_embeddings", None) or TOKENS)
    tokens = torch.linspace(1, text.vocab_size - 2, length).long()[None].to(network.device)
    handles = [x.register_forward_hook(keep(name), with_kwargs=True) for name, x in network.named_modules() if name]
    try:
        logits = network(tokens, use_cache=False).logits
    finally:
        for handle in handles:
            handle.remove()
    lists = ((name, x) for name, x in network.named_modules() if isinstance(x, torch.nn.ModuleList))
    layers = next(name for name, x in lists if len(x) == text.num_hidden_layers)
    blocks = [f"{layers}.{block}" for block in range(text.num_hidden_layers)]
    base = f"{network.base_model_prefix}." if hasattr(network, network.base_model_prefix) else ""
    return Run(tokens, inputs, outputs, logits, blocks, base)


def overflow(dtype: torch.dtype) -> str:
    """Cause and remedy of activations that are not finite."""
    if dtype == torch.float32:
        return "activations are not finite in float32: its weights are damaged, or no weights of this configuration"
    return (
        f"activations are not finite in {str(dtype).removeprefix('torch.')}, which overflows; set `dtype: float32` "
        "(or bfloat16, whose range is that of float32) for the model"
    )


def _compare_blocks(hooked: Hooked, logits: torch.Tensor, label: str) -> None:
    """Refuse a bridge whose blocks or logits differ from the network's."""
    run, checks = hooked.run, []
    for number, block in enumerate(run.blocks):
        for kind, values in (("hook_resid_pre", run.inputs), ("hook_resid_post", run.outputs)):
            hook = f"blocks.{number}.{kind}"
            if hook in hooked.values and block in values:
                checks.append((hook, hooked.values[hook], values[block], number))
    for where, found, own, number in [*checks, ("logits", logits, run.logits, len(run.blocks))]:
        error = difference(found, own)
        if not error < tolerance(own, number):
            raise ProfileError(
                f"{label}: TransformerLens computes other activations than transformers does ({where}: {error:.0%} "
                "off), so its hooks cannot be used; take a model of another family"
            )


def _readable(hooked: Hooked) -> Iterator[str]:
    own = [
        (f"{name}.", value, value.float().norm())
        for values in (hooked.run.inputs, hooked.run.outputs)
        for name, value in values.items()
    ]
    for hook, value in hooked.values.items():
        number, kind = _split(hook)
        block = "" if number is None else f"{hooked.run.blocks[number]}."
        norm, allowed = value.float().norm(), tolerance(value, number)
        if kind in ADDED:
            same = _adds_up(hooked, number)
        elif kind == "mlp.hook_post":
            last = hooked.values.get(f"blocks.{number}.mlp.out.hook_in")
            same = last is not None and difference(value, last) < allowed
        else:  # norms are compared first, as that is quick
            near = (x for name, x, size in own if name.startswith(block) and abs(size - norm) <= 2 * allowed * size)
            same = any(difference(value, x) < allowed for x in near)
        if same:
            yield hook


def _split(hook: str) -> tuple[int | None, str]:
    """Number of the block (None outside all blocks), and the name within it."""
    found = re.fullmatch(r"blocks\.(\d+)\.(.+)", hook)
    return (int(found[1]), found[2]) if found else (None, hook)


def _adds_up(hooked: Hooked, number: int | None) -> bool:
    """Whether the outputs of attention and MLP sum to the change of the residual stream in a block."""
    names = [f"blocks.{number}.{kind}" for kind in ("hook_resid_pre", "hook_resid_post", *ADDED)]
    if not hooked.values.keys() >= set(names):
        return False
    before, after, attention, mlp = (hooked.values[name].double() for name in names)
    added = attention + mlp
    # rounding of the stream, whose norm may be much larger than that of what is added
    rounding = 8 * torch.finfo(hooked.run.logits.dtype).eps * torch.maximum(before.norm(dim=-1), after.norm(dim=-1))
    error = (after - before - added).norm(dim=-1)
    return bool((error <= tolerance(hooked.run.logits, 0) * added.norm(dim=-1) + rounding).all())


def difference(found: torch.Tensor, own: torch.Tensor) -> float:
    """Largest distance at a token, relative to the larger of the norm there and the median norm."""
    if found.numel() != own.numel():
        return float("inf")
    own = own.flatten(0, -2).float()
    norms = own.norm(dim=-1)
    distance = (found.reshape(own.shape).float() - own).norm(dim=-1)
    return (distance / norms.clamp_min(norms.median()).clamp_min(1e-30)).max().item()


def tolerance(value: torch.Tensor, block: int | None) -> float:
    """The tolerated difference of two computations of one value: 1e-3 in float32.

    In lower precision, rounding adds up over the blocks: random models of 40 families gave 3% after the first block
    and up to 16% after the third; models that TransformerLens computes wrongly gave 13% to 65% after the first.
    """
    return 1e-3 if value.dtype == torch.float32 else min(0.06 * (1 + (block or 0)), 0.3)


def of_module(hooked: Hooked, module: str) -> str:
    """The hook that holds the output of a module, by its name in the network or below the unembedding.

    Raises ProfileError if the network has no such module, or no hook holds its output.
    """
    run, label = hooked.run, hooked.bridge.label
    name = next((name for name in (f"{run.base}{module}", module) if name in run.outputs), None)
    if name is None:
        names = [name.removeprefix(run.base) for name in run.outputs]
        raise ProfileError(f"{label} has no module {module!r}; {nearest(module, names)}")
    errors = {hook: difference(hooked.values[hook], run.outputs[name]) for hook in hooked.bridge.readable}
    errors = {hook: x for hook, x in errors.items() if x < tolerance(run.outputs[name], _split(hook)[0])}
    if not errors:
        depth = run.blocks[0].count(".") + 1
        readable = ", ".join(x.removeprefix(run.base) for x in run.outputs if x.count(".") <= depth)
        raise ProfileError(
            f"{label}: no hook of TransformerLens holds the output of {module}; an SAE that reads a block, its MLP "
            f"or its attention can be read, in this family at {readable[:300]}"
        )
    equal = [hook for hook, error in errors.items() if error <= 2 * min(errors.values()) + 1e-4]
    return min(equal, key=lambda hook: (_rank(hook), len(hook), hook))


def _rank(hook: str) -> int:
    kind = _split(hook)[1]
    return PREFERRED.index(kind) if kind in PREFERRED else len(PREFERRED) + (not kind.endswith("hook_out"))


def refuse_hook(bridge: Any, hook: str) -> None:
    """Refuse a hook that the model lacks, or that does not hold what the network computes.

    Raises ProfileError, which names the nearest hook that may be read.
    """
    if hook not in bridge.hook_dict:
        raise ProfileError(f"hook {hook!r}: the model has none of that name; {nearest(hook, bridge.hook_dict)}")
    if hook not in bridge.readable:
        block = re.match(r"blocks\.\d+\.", hook)
        same = [name for name in bridge.readable if name.startswith(block[0] if block else "")]
        raise ProfileError(
            f"hook {hook!r}: in {bridge.label} its value is neither an input or output of a module of the network nor "
            f"what a block adds to the stream; {nearest(hook, same)}"
        )


def refuse_values(
    bridge: Any, found: Mapping[str, torch.Tensor], rows: Any, mask: torch.Tensor, largest: float
) -> None:
    """Refuse activations (n, length, d) that are not finite, or too large, where `mask` (n, length) is true.

    Raises ProfileError if an absolute value is above `largest` or not finite; it names the hook, row and position.
    """
    for hook, x in found.items():
        top = x.abs().amax(-1).masked_fill(~mask, 0)
        bad = ~(top <= largest)  # true for NaN
        if bad.any():
            row, position = bad.nonzero()[0].tolist()
            value = top[row, position]
            why = overflow(bridge.original_model.dtype)
            if value.isfinite():
                why = (
                    f"an activation of {value.item():.3g} is beyond the {largest:.0f} of float16, in which activations "
                    "are stored; read a hook with smaller values (the output of a block's MLP or attention)"
                )
            raise ProfileError(f"{bridge.label}: {hook}, row {rows[row]}, position {position}: {why}")
