"""A forward pass that goes on from a hook with other activations.

In: a bridge, contexts, a hook. Out: next-token log-probabilities with other activations at the hook.
Never: an edit (`acting` makes them); a changed weight.

What the network computes before the hook does not depend on the activations there. It runs once per context, and the
modules that end before the hook then return what they returned (TransformerLens' bridge cannot start at a block). If
changes at the hook in other places leave the last one as it is, bit by bit, one place per context is enough. Both are
tried out on a few contexts; a family for which they give other log-probabilities runs whole.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch.utils import _pytree as trees

from sae_utils.engine.lms import batching, cross_entropy, hooking
from sae_utils.store import Artefact

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

TRIED = 8  # contexts, the longest, on which the ways are compared
BATCH = 64  # contexts at once


class Contexts(NamedTuple):
    """Token rows, each with the place after which the next token is predicted."""

    tokens: torch.Tensor  # (contexts, length), padded at the end
    at: torch.Tensor  # (contexts,) the place that is read; no later one matters


def contexts(rows: Artefact, row: np.ndarray, place: np.ndarray) -> Contexts:
    """The contexts that end at places (n,) of token rows (n,), on the run's device.

    Raises ValueError for a place at or behind the end of its row.
    """
    if (place >= rows.array("lengths")[row]).any() or (place < 0).any():
        raise ValueError("a context ends outside its row; take places below the row's length")
    tokens, _ = batching.take(rows, row)
    at = torch.from_numpy(np.asarray(place, np.int64)).to(tokens.device)
    return Contexts(tokens[:, : int(at.max()) + 1], at)


class Resumed(NamedTuple):
    """The network behind a hook on some contexts, and what it computes when nothing is changed."""

    bridge: TransformerBridge
    hook: str
    contexts: Contexts
    one_place: bool  # whether only the place that is read runs
    kept: Mapping[Any, Any]  # module that ends before the hook -> its output, all contexts along the first axis
    holds: Any  # the module whose output is the value at the hook, or None
    values: torch.Tensor  # (contexts, places, d) at the hook; one place, or all
    clean: torch.Tensor  # (contexts, vocabulary) log-probabilities

    def here(self, x: torch.Tensor) -> torch.Tensor:
        """Values of all places, (contexts, length, ...), at those that run: (contexts, places, ...).

        Those of the places that run are returned as they are.
        """
        return _at(x, self.contexts.at) if self.one_place and x.shape[1] > 1 else x

    @torch.no_grad()
    def log_probabilities(self, which: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        """Next-token log-probabilities (k, vocabulary) of contexts `which` (k,) with values (k, places, d) at the hook.

        Cases whose values are unchanged get the clean ones, bit by bit, and are not computed.
        """
        found = self.clean[which]
        changed = (values != self.values[which]).flatten(1).any(1)
        if changed.any():
            found[changed] = self._run(which[changed], values[changed])
        return found

    def _run(self, which: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        of = Contexts(self.contexts.tokens[which], self.contexts.at[which])
        outputs = {module: trees.tree_map(lambda x: _rows(x, which), out) for module, out in self.kept.items()}
        if self.one_place:
            of = Contexts(_at(of.tokens, of.at), torch.zeros_like(of.at))
        hooks = []
        if self.holds is None:
            hooks = [(self.hook, lambda value, hook: values.reshape(value.shape).to(value.dtype))]
        else:
            outputs[self.holds] = _with_first(outputs[self.holds], values)
        with _returning(outputs):
            return _read(self.bridge, of.tokens, torch.arange(len(which), device=which.device), of.at, hooks)


@torch.no_grad()
def resume(bridge: TransformerBridge, given: Contexts, hook: str, batch: int = BATCH) -> Resumed:
    """Run the contexts once, `batch` at a time, and keep what is needed to go on from the hook.

    Raises ProfileError for a hook that the model lacks or that is no value of the network.
    """
    hooking.refuse_hook(bridge, hook)
    longest = given.at.argsort(descending=True)[:TRIED]
    tried = Contexts(given.tokens[longest], given.at[longest])
    every = torch.arange(len(longest), device=given.at.device)
    whole = _read(bridge, tried.tokens, every, tried.at, [])
    elsewhere = (hook, lambda x, hook: _elsewhere(x, tried.at))
    ended, holds = _ended_before(bridge, tried.tokens, hook)
    local = torch.equal(_read(bridge, tried.tokens, every, tried.at, [elsewhere]), whole)
    for one_place in (True, False) if local else (False,):
        found = _keep(bridge, tried, hook, ended, holds, one_place, batch)
        try:
            again = found._run(every, found.values)
        except (RuntimeError, ValueError, IndexError, TypeError, AttributeError):  # a family whose shapes forbid it
            continue
        if hooking.difference(again, whole) < hooking.tolerance(whole, None):
            return _keep(bridge, given, hook, ended, holds, one_place, batch)
    return _keep(bridge, given, hook, [], None, False, batch)


def _elsewhere(x: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
    """Activations (n, length, ...) with twice as large values of the other sign, but at one place of each row."""
    found, rows = -2 * x, torch.arange(len(x), device=x.device)
    found[rows, place] = x[rows, place]
    return found


def _ended_before(bridge: Any, tokens: torch.Tensor, hook: str) -> tuple[list[Any], Any]:
    """The outermost modules of blocks that end before the hook, and the module whose output is the value there."""
    from transformer_lens.hook_points import HookPoint

    ended: list[Any] = []
    behind: list[tuple[Any, Any]] = []
    value: list[torch.Tensor] = []

    def note(module: Any, given: Any, out: Any) -> None:
        (behind.append((module, _first(out))) if value else ended.append(module))

    inside = [x for block in bridge.blocks for x in block.modules() if not isinstance(x, HookPoint)]
    handles = [x.register_forward_hook(note) for x in dict.fromkeys(inside)]
    try:
        bridge.run_with_hooks(tokens, fwd_hooks=[(hook, lambda x, hook: value.append(x.clone()))])
    finally:
        for handle in handles:
            handle.remove()
    once = [x for x in ended if ended.count(x) == 1 and all(x is not module for module, _ in behind)]
    within = {id(part) for x in once for part in x.modules() if part is not x}
    same = [x for x, out in behind if out is not None and out.shape == value[0].shape and torch.equal(out, value[0])]
    return [x for x in once if id(x) not in within], same[-1] if same and behind[0][0] in same else None


def _keep(
    bridge: Any, given: Contexts, hook: str, ended: list[Any], holds: Any, one_place: bool, batch: int
) -> Resumed:
    """One pass over the rows of the contexts, each once, with the outputs of modules kept."""
    rows, row = torch.unique(given.tokens, dim=0, return_inverse=True)
    kept: dict[Any, list[Any]] = {x: [] for x in [*ended, *([holds] if holds is not None else [])]}
    values, clean, order = [], [], []
    for start in range(0, len(rows), batch):
        here = ((row >= start) & (row < start + batch)).nonzero()[:, 0]  # contexts of these rows
        tokens, own, place = rows[start : start + batch], row[here] - start, given.at[here]

        def cut(x: Any, shape: Any = tokens.shape, own: Any = own, place: Any = place) -> Any:
            if not isinstance(x, torch.Tensor):
                return x
            if x.shape[:2] != shape:  # attention weights, which no block reads
                return None
            return x[own, place][:, None] if one_place else x[own]

        def keep(module: Any, _: Any, out: Any, cut: Callable[[Any], Any] = cut) -> None:
            kept[module].append(trees.tree_map(cut, out))

        def value(x: torch.Tensor, hook: Any, cut: Callable[[Any], Any] = cut) -> None:
            values.append(cut(x.flatten(2)).clone())

        handles = [module.register_forward_hook(keep) for module in kept]
        try:
            clean.append(_read(bridge, tokens, own, place, [(hook, value)]))
        finally:
            for handle in handles:
                handle.remove()
        order.append(here)
    back = torch.cat(order).argsort()
    joined = {module: trees.tree_map(lambda *x: _join(back, *x), *parts) for module, parts in kept.items()}
    return Resumed(bridge, hook, given, one_place, joined, holds, _join(back, *values), _join(back, *clean))


def _read(
    bridge: Any, tokens: torch.Tensor, row: torch.Tensor, place: torch.Tensor,
    hooks: list[tuple[str, Callable[..., Any]]],
) -> torch.Tensor:  # fmt: skip
    """Log-probabilities (contexts, vocabulary) after places of rows of tokens; other places are not unembedded."""
    pick = (cross_entropy.HEAD, lambda value, hook: value[row, place][:, None])
    logits = bridge.run_with_hooks(tokens, fwd_hooks=[*hooks, pick])
    return logits[:, 0].float().log_softmax(-1)


@contextlib.contextmanager
def _returning(outputs: Mapping[Any, Any]) -> Iterator[None]:
    """Modules that return a value instead of computing it."""
    own = {module: module.__dict__.get("forward") for module in outputs}
    try:
        for module, out in outputs.items():
            # set directly, as a component of the bridge passes attributes on to the module that it wraps
            module.__dict__["forward"] = lambda *args, out=out, **kwargs: out
        yield
    finally:
        for module, forward in own.items():
            if forward is None:
                module.__dict__.pop("forward", None)
            else:
                module.__dict__["forward"] = forward


def _at(x: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
    """Values (n, length, ...) at one place of each row: (n, 1, ...)."""
    return x[torch.arange(len(x), device=x.device), place][:, None]


def _rows(x: Any, which: torch.Tensor) -> Any:
    return x[which] if isinstance(x, torch.Tensor) else x


def _join(order: torch.Tensor, *parts: Any) -> Any:
    return torch.cat(parts)[order] if isinstance(parts[0], torch.Tensor) else parts[0]


def _first(out: Any) -> torch.Tensor | None:
    return next((x for x in trees.tree_leaves(out) if isinstance(x, torch.Tensor)), None)


def _with_first(out: Any, values: torch.Tensor) -> Any:
    """An output with its first tensor replaced."""
    leaves, shape = trees.tree_flatten(out)
    place = next(i for i, x in enumerate(leaves) if isinstance(x, torch.Tensor))
    leaves[place] = values.reshape(leaves[place].shape).to(leaves[place].dtype)
    return trees.tree_unflatten(leaves, shape)
