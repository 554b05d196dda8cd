"""Acting on a model at a hook: directions are added, features ablated, set to a value or replaced.

In: a bridge, contexts, a hook, edits. Out: the next-token log-probabilities of every edit on every context.
Never: all of edits x contexts x places x vocabulary in memory; a pass over what lies before the hook per edit.

    at = resuming.resume(models.load(model), contexts, hook)         # the network runs once per context
    edits = [Edit("ablate", row, codes=codes) for ...]
    for case in over(at, edits): case.log_probabilities - at.clean[case.context]
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch

from sae_utils.studies.function.resuming import Contexts, Resumed, resume

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

Positions = Literal["all", "last"] | torch.Tensor  # or a mask (contexts, length)
BATCH = 256  # cases at once


@dataclass(frozen=True)
class Edit:
    """What happens to the activations x (contexts, length, d) at a hook.

    `add`: x + strength * vector. `ablate`: x - code * vector. `clamp`: x + (strength - code) * vector, so that the
    feature's code becomes `strength`. `replace`: what `change` makes of x, each place on its own.
    """

    kind: Literal["add", "ablate", "clamp", "replace"]
    vector: torch.Tensor | None = None  # (d,) a direction; of `ablate` and `clamp` the decoder row of the feature
    strength: float = 1.0
    codes: torch.Tensor | None = None  # (contexts, length) of the feature, or at the places that run
    change: Callable[[torch.Tensor], torch.Tensor] | None = None  # (n, places, d) -> (n, places, d)
    positions: Positions = "all"  # "last" is the place that is read

    def __post_init__(self) -> None:
        """Raises ValueError where a part is missing, or the strength is no number."""
        asked = {"add": ("vector",), "replace": ("change",)}.get(self.kind, ("vector", "codes"))
        if missing := [name for name in asked if getattr(self, name) is None]:
            raise ValueError(f"an edit that is to {self.kind} needs {' and '.join(missing)}")
        if not torch.tensor(self.strength).isfinite():
            raise ValueError(f"strength {self.strength}: give a finite number")

    def applied(self, at: Resumed, which: torch.Tensor) -> torch.Tensor:
        """The values at the hook after the edit, (k, places, d), in contexts `which` (k,)."""
        x = at.values[which]
        if self.change is not None:
            new = self.change(x)
        else:
            assert self.vector is not None
            amount: Any = self.strength
            if self.codes is not None:
                codes = at.here(self.codes.to(x))[which][..., None]
                amount = -codes if self.kind == "ablate" else self.strength - codes
            new = x + amount * self.vector.to(x)
        mask = self._mask(at)
        return new if mask is None else torch.where(mask[which][..., None], new, x)

    def _mask(self, at: Resumed) -> torch.Tensor | None:
        """The places that are edited, (contexts, places); None for all."""
        if isinstance(self.positions, torch.Tensor):
            return at.here(self.positions.to(at.values.device))
        if self.positions == "all":
            return None
        place = torch.arange(at.contexts.tokens.shape[1], device=at.values.device)
        return at.here(place == at.contexts.at[:, None])


class Cases(NamedTuple):
    """Some edits on some contexts."""

    edit: torch.Tensor  # (k,) number of the edit
    context: torch.Tensor  # (k,) number of the context
    log_probabilities: torch.Tensor  # (k, vocabulary) of the next token


@torch.no_grad()
def over(
    at: Resumed, edits: Sequence[Edit], among: Sequence[torch.Tensor] | None = None, batch: int = BATCH
) -> Iterator[Cases]:
    """Every edit on every context, or on those `among` lists for it (numbers, (k,) each); `batch` cases at once.

    Cases come by edit, then by context. Raises ValueError where log-probabilities are not finite; it names the edit's
    strength.
    """
    everywhere = torch.arange(len(at.clean), device=at.values.device)
    listed = [everywhere] * len(edits) if among is None else [x.to(everywhere) for x in among]
    waiting: list[tuple[int, torch.Tensor]] = []
    for number, of in enumerate(listed):
        for part in of.split(batch):
            if sum(len(x) for _, x in waiting) + len(part) > batch:
                yield _run(at, edits, waiting)
                waiting = []
            waiting.append((number, part))
    if sum(len(x) for _, x in waiting):
        yield _run(at, edits, waiting)


def _run(at: Resumed, edits: Sequence[Edit], parts: Sequence[tuple[int, torch.Tensor]]) -> Cases:
    context = torch.cat([of for _, of in parts])
    edit = torch.cat([torch.full_like(of, number) for number, of in parts])
    found = at.log_probabilities(context, torch.cat([edits[number].applied(at, of) for number, of in parts]))
    bad = found.isnan().any(1)
    if bad.any():
        wrong = edits[int(edit[bad][0])]
        raise ValueError(
            f"{at.bridge.label}: {at.hook}: an edit ({wrong.kind}, strength {wrong.strength:g}) gives logits that are "
            "NaN; lower the strength, or load the model in float32"
        )
    return Cases(edit, context, found)


def effects(
    at: Resumed, edits: Sequence[Edit], reduce: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None,
    batch: int = BATCH,
) -> torch.Tensor:  # fmt: skip
    """What every edit does on every context: (edits, contexts, ...).

    `reduce` makes (k, ...) of log-probabilities (k, vocabulary) and the clean ones (k, vocabulary); by default their
    difference is returned, (edits, contexts, vocabulary). Raises ValueError as `over`.
    """
    reduce = reduce or torch.sub
    parts = [reduce(x.log_probabilities, at.clean[x.context]) for x in over(at, edits, batch=batch)]
    if not parts:
        raise ValueError("no edit or no context")
    found = torch.cat(parts)
    return found.reshape(len(edits), len(at.clean), *found.shape[1:])


def log_probabilities(
    bridge: TransformerBridge, contexts: Contexts, hook: str, vectors: torch.Tensor, *,
    strengths: float | Sequence[float] | torch.Tensor = 1.0, positions: Positions = "all", batch: int = BATCH,
) -> torch.Tensor:  # fmt: skip
    """Next-token log-probabilities with strength x vector added at the hook: (vectors, contexts, vocabulary).

    `vectors` (n, d); `strengths`: one, or (n,). Strength 0 gives those of the model, bit by bit. Raises ProfileError
    for a hook outside the model, and ValueError as `over`.
    """
    each = torch.as_tensor(strengths, dtype=torch.float32).expand(len(vectors)).tolist()
    edits = [Edit("add", vector, strength, positions=positions) for vector, strength in zip(vectors, each, strict=True)]
    return effects(resume(bridge, contexts, hook), edits, lambda found, clean: found, batch)
