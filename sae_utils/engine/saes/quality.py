"""Quality of a dictionary, and whether it reads where its record says.

In: a dictionary, its model, token rows. Out: FVU, L0, dead share, cross-entropy recovered; FVU at neighbouring hooks;
doubts about its training.
Never: training documents.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from sae_utils import store
from sae_utils.engine.core.spec import ProfileError
from sae_utils.engine.lms import batching, cross_entropy, models
from sae_utils.engine.saes import activations, dictionaries, trainer
from sae_utils.engine.text import tokenization
from sae_utils.store import Artefact, artefact

FEWEST_STEPS = 1000  # with 122 half the features of an SAE of SmolLM2 were dead, with 976 under 1%
MOST_DEAD = 0.2
MASSIVE = 0.1  # of the variance, in one dimension: few hold half of it in many models (Sun et al. 2024)
TIMES = 10  # the mean dimension, which counts where a model has few
CLEARLY = 0.75  # honest SAEs reach 0.9: a neighbour may vary less, and one in the stream is nearly the same
MODULES = ("attn.hook_out", "mlp.hook_out")  # outputs, in front of a norm or a factor that some families have
STREAM = ("hook_attn_out", "hook_mlp_out", "hook_resid_pre", "hook_resid_mid", "hook_resid_post", *MODULES)


@artefact
def judge(
    folder: Path, dictionary: Artefact, model: Artefact, rows: Artefact, hook: str, skip: int, judged_rows: int
) -> dict[str, Any]:
    """The quality of an SAE on at most `judged_rows` held-out rows, spread over the articles.

    Masked positions (`skip`, at the start of each row) keep their activations in the losses.
    fvu: fraction of variance unexplained, sum |x - x'|^2 / sum |x - mean|^2. massive: dimensions that carry over
    `MASSIVE` of the variance each, and over `TIMES` the mean. massive_share: their share of the variance. fvu_rest:
    FVU of all others. l0: features active at a token. dead: share of features that never fire. recovered: (zero -
    sae) / (zero - clean), the cross-entropies with the activations set to zero, replaced by the reconstruction, and
    unchanged. tokens: their number.
    """
    bridge, sae = models.load(model), dictionaries.load(dictionary)
    chosen = tokenization.spread_rows(rows, batching.rows_in(rows, "held_out"), judged_rows)
    tally = Tally(sae)
    for window in models.stream(bridge, rows, chosen, [hook], skip, label="quality"):
        tally.add(window[hook])

    def loss(change: Callable[[torch.Tensor], torch.Tensor]) -> float:
        def replace(x: torch.Tensor) -> torch.Tensor:
            return torch.cat([x[:, :skip], change(x[:, skip:])], dim=1)

        return cross_entropy.mean(bridge, rows, chosen, hook, replace)

    def rebuilt(x: torch.Tensor) -> torch.Tensor:
        parts = x.flatten(0, 1).split(dictionaries.SEGMENT)
        return torch.cat([sae.decode(sae.encode(part)) for part in parts]).reshape(x.shape)

    clean = cross_entropy.held_out(model, rows, judged_rows).meta["model"]
    zero, replaced = loss(torch.zeros_like), loss(rebuilt)
    massive = tally.massive()
    return {
        "fvu": tally.fvu(),
        "massive": massive.nonzero().flatten().tolist(),
        "massive_share": (tally.variance()[massive].sum() / tally.variance().sum()).item(),
        "fvu_rest": tally.fvu(~massive),
        "l0": tally.active / tally.count,
        "dead": 1 - tally.fired.float().mean().item(),
        "recovered": (zero - replaced) / (zero - clean),
        "tokens": tally.count,
    }


@artefact
def locate(
    folder: Path, dictionary: Artefact, model: Artefact, rows: Artefact, hook: str, skip: int, fvu_rows: int
) -> dict[str, Any]:
    """FVU of a dictionary at its hook and at those of `neighbours`, and the hook with the lowest, `best`.

    `fvu`: hook name -> FVU on `fvu_rows` rows without training documents, spread over the articles. Raises ProfileError
    if the activations at the hook have another width than the SAE.
    """
    bridge, sae = models.load(model), dictionaries.load(dictionary)
    chosen = tokenization.spread_rows(rows, activations.judged(rows), fvu_rows)
    width = next(models.harvest(bridge, rows, iter([chosen[:1]]), [hook], skip)).activations[hook].shape[-1]
    if width != sae.cfg.d_in:
        raise ProfileError(f"{hook}: the model has {width} dimensions there, and the SAE reads {sae.cfg.d_in}")
    tallies = {name: Tally(sae) for name in neighbours(bridge, hook)}
    for hooks in models.passes(bridge, rows, tallies):
        for window in models.stream(bridge, rows, chosen, hooks, skip, label=f"neighbours of {hook}"):
            for name, x in window.items():
                tallies[name].add(x)
    found = {name: tally.fvu() for name, tally in tallies.items()}
    return {"fvu": found, "best": min(found, key=lambda name: found[name])}


def confirm(found: Artefact, hook: str) -> None:
    """Refuse a dictionary for which `locate` found clearly lower FVU at another hook. Raises ProfileError."""
    fvu, best = found.meta["fvu"], found.meta["best"]
    if fvu[best] < CLEARLY * fvu[hook]:
        raise ProfileError(
            f"fits {best} (FVU {fvu[best]:.3f}) more than {hook} (FVU {fvu[hook]:.3f}), the hook of its record; name "
            "the hook on which it was trained, or check that it is of this model and revision"
        )


def neighbours(bridge: Any, hook: str) -> list[str]:
    """The hook and similar hooks in its own and the adjacent blocks, which a record might confuse.

    For hooks on or into the residual stream these are all of `STREAM`; for others, the same hook of the other blocks.
    An activation with two names (the output of a block is the input of the next) is listed once.
    """
    found = re.match(r"blocks\.(\d+)\.(.+)", hook)
    if not found:
        return [hook]
    layer, kind = int(found[1]), found[2]
    kinds = STREAM if kind in STREAM else (kind,)
    near = range(max(0, layer - 1), min(bridge.cfg.n_layers, layer + 2))
    names: dict[Any, str] = {}
    for name in (hook, *(f"blocks.{block}.{other}" for block in near for other in kinds)):
        if name == hook or name in bridge.readable:
            same = models.block_input(name) if name.endswith(".hook_resid_pre") else name
            names.setdefault(bridge.hook_dict.get(same), name)
    return list(names.values())


class Tally:
    """Sums over tokens that give FVU, L0 and dead features, in double precision."""

    def __init__(self, sae: Any) -> None:
        self.sae, self.count, self.active = sae, 0, 0.0
        self.error, self.square, self.total = torch.zeros((3, sae.cfg.d_in), dtype=torch.float64, device=store.device())
        self.fired = torch.zeros(sae.cfg.d_sae, dtype=torch.bool, device=store.device())

    @torch.no_grad()
    def add(self, tokens: torch.Tensor) -> None:
        """Add the activations of tokens (n, d)."""
        for x in tokens.split(dictionaries.SEGMENT):
            if dictionaries.is_centred(self.sae):
                x = x - x.mean(-1, keepdim=True)
            codes = self.sae.encode(x)
            self.error += (x - self.sae.decode(codes)).double().square().sum(0)
            self.square += x.double().square().sum(0)
            self.total += x.double().sum(0)
            self.active += (codes > 0).sum().item()
            self.fired |= (codes > 0).any(0)
            self.count += len(x)

    def variance(self) -> torch.Tensor:
        """Sum of squares about the mean, of each dimension: (d,)."""
        return self.square - self.total.square() / self.count

    def massive(self) -> torch.Tensor:
        """Mask of the dimensions that carry over `MASSIVE` of the variance, and over `TIMES` the mean: (d,)."""
        return self.variance() > max(MASSIVE, TIMES / len(self.total)) * self.variance().sum()

    def fvu(self, dimensions: Any = slice(None)) -> float:
        """Fraction of variance unexplained, of all or of some dimensions."""
        return float(self.error[dimensions].sum() / self.variance()[dimensions].sum())


def doubts(steps: float, passes: float, dead: float = 0.0) -> list[str]:
    """Reasons to doubt an SAE, in a few words each; arguments are NaN where its training is unknown.

    `passes` over the activations are above 1 where `samples` are more than the corpus has. `dead`: share of features.
    """
    found = [f"{steps:,.0f} steps"] if steps < FEWEST_STEPS else []
    found += [f"{passes:.1f} passes over its text"] if passes > 1 else []
    return found + (["many dead"] if dead > MOST_DEAD else [])


def warning(records: Mapping[str, Any], available: Mapping[str, int] | None = None) -> str:
    """One line about the SAEs of a profile that train with too few steps, or on more than its text has; "" if none.

    `available`: activations in the training documents of each model; None skips that check.
    """
    own = {name: record for name, record in records.items() if isinstance(record, trainer.Trained)}
    few = [steps for record in own.values() if (steps := record.samples // record.batch) < FEWEST_STEPS]
    short = [name for name, record in own.items() if available and record.samples > available[record.model]]
    warnings = []
    if few:
        warnings.append(
            f"{len(few)} of {len(own)} SAEs take fewer than {FEWEST_STEPS:,} steps (the least {min(few)}), "
            "after which many features may be dead: raise `samples` or lower `batch`"
        )
    if short:
        warnings.append(f"{len(short)} of {len(own)} see their text more than once ({', '.join(short[:3])}): add text")
    return "; ".join(warnings)
