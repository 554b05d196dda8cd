"""Correlations of the neurons of two models that read the same rows, summed while the models run.

In: two models, pairs of hooks, token rows. Out: of every pair of hooks all correlations, of either split of the
documents; as a `Correlation`, from which `matching` finds pairs.
Never: a stored activation; SAE features, whose codes are sparse and in the store.

With a second reading, the same rows with words exchanged, there are two arms: in the first both models read the same at
each token, in the second A reads the text where B reads it exchanged, and the reverse (`replicates`).
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sae_utils.correlate import Block, Candidates, Correlation, Moments
from sae_utils.engine.lms import batching, models
from sae_utils.engine.saes import correlations
from sae_utils.store import Artefact, artefacts

SPLITS = ("matching", "held_out")
Hooks = tuple[str, str]  # of A and of B
Windows = Sequence[torch.Tensor]  # the same tokens in each reading: (tokens, units)


class Side:
    """Sums over the tokens of one side, from which come the moments of its units."""

    def __init__(self, first: torch.Tensor) -> None:
        self.shift = first.mean(0)  # subtracted before sums, so that a large mean costs no digits
        self.n = 0
        self.total, self.square, self.count, self.positive, self.on_content = (
            torch.zeros_like(self.shift, dtype=torch.float64) for _ in range(5)
        )
        self.low, self.high = self.shift + torch.inf, self.shift - torch.inf

    def add(self, x: torch.Tensor, content: torch.Tensor | None) -> torch.Tensor:
        """Add tokens (n, units), of which those of the mask `content` are content words; returns them shifted."""
        self.n += len(x)
        self.low, self.high = torch.minimum(self.low, x.amin(0)), torch.maximum(self.high, x.amax(0))
        self.count += (x > 0).sum(0)
        if content is not None:
            active = x.clamp(min=0)
            self.positive += active.sum(0, dtype=torch.float64)
            self.on_content += active[content].sum(0, dtype=torch.float64)
        shifted = x - self.shift
        self.total += shifted.sum(0, dtype=torch.float64)
        self.square += (shifted * shifted).sum(0, dtype=torch.float64)
        return shifted

    def moments(self) -> Moments:
        """Moments of the units on all tokens."""
        mean = self.total / self.n
        sd = (self.square / self.n - mean**2).clamp(min=0).sqrt()
        live = (self.high > self.low) & (sd > 0)
        found = (self.shift.double() + mean, torch.where(live, sd, 0.0), self.count.long(), live)
        return Moments(*(x.cpu().numpy() for x in found))

    def share(self) -> NDArray[np.float64]:
        """(units,) share of the activation above 0 that is on content words; NaN of units without any."""
        found: NDArray[np.float64] = (self.on_content / self.positive).cpu().numpy()
        return found


class Sums:
    """Sums over tokens behind all correlations of two sets of units, in as many arms as there are readings."""

    def __init__(self, x: torch.Tensor, y: torch.Tensor, arms: int = 1) -> None:
        self.a, self.b = Side(x), Side(y)
        shape = arms, x.shape[1], y.shape[1]
        self.cross = torch.zeros(shape, dtype=torch.float64, device=x.device)

    def add(self, x: Windows, y: Windows, content: torch.Tensor | None = None) -> None:
        """Add the same tokens of both sides in each reading; `content` (tokens,): which of them are content words."""
        x, y = [self.a.add(of, content) for of in x], [self.b.add(of, content) for of in y]
        for cross, partners in zip(self.cross, (y, y[::-1]), strict=False):
            for one, two in zip(x, partners, strict=True):
                cross += one.T @ two

    def r(self) -> NDArray[np.float32]:
        """Correlations (arms, units_a, units_b), NaN where a unit does not vary."""
        centred = self.cross - torch.outer(self.a.total, self.b.total) / self.a.n
        with np.errstate(divide="ignore", invalid="ignore"):
            scale = [np.where(x.live, 1 / x.sd, np.nan) for x in (self.a.moments(), self.b.moments())]
        found = centred.cpu().numpy() / self.a.n * np.outer(*scale)
        return np.asarray(np.clip(found, -1, 1), np.float32)


@artefacts
@torch.no_grad()
def crossed(
    folders: dict[Hooks, Path], a: Artefact, b: Artefact, readings: Sequence[Artefact], sites: Artefact, skip: int
) -> Iterator[tuple[Hooks, dict[str, Any]]]:
    """All correlations of the units at hooks of two models, at the tokens that are compared.

    `readings`: token rows, and perhaps the same rows with words exchanged; `sites`: of the first. `r`, float32 (splits,
    arms, units_a, units_b); by side the moments and the `share` of the activation above 0 that is on content words,
    (splits, units). One pass over either model serves all pairs of hooks.
    """
    bridges = models.load(a), models.load(b)
    found = [_summed(list(folders), bridges, readings, sites, split, skip) for split in SPLITS]
    for hooks, folder in folders.items():
        save(folder, [of[hooks] for of in found])
        yield hooks, {"arms": len(readings)}


def save(folder: Path, sums: Sequence[Sums]) -> None:
    """Write what `crossed` holds of one pair of hooks, from its sums on each split."""
    np.save(folder / "r.npy", np.stack([x.r() for x in sums]))
    for name in ("a", "b"):
        sides = [getattr(x, name) for x in sums]
        fields = [side.moments()._asdict() | {"share": side.share()} for side in sides]
        for field in fields[0]:
            np.save(folder / f"{name}-{field}.npy", np.stack([x[field] for x in fields]))


def _summed(
    pairs: list[Hooks], bridges: tuple[Any, Any], readings: Sequence[Artefact], sites: Artefact, split: str, skip: int
) -> dict[Hooks, Sums]:
    streams = [
        models.stream(bridge, rows, batching.rows_in(rows, split), list(dict.fromkeys(hooks)), skip, label="neurons")
        for bridge, hooks in zip(bridges, zip(*pairs, strict=True), strict=True)
        for rows in readings
    ]
    return summed(pairs, streams, content(sites, split))


def content(sites: Artefact, split: str) -> torch.Tensor | None:
    """(tokens,) mask of the content words among the sites of a split; None where no class is known."""
    classes = sites.array("classes")[correlations.in_split(sites, split)]
    return torch.from_numpy(classes >= 0) if (classes >= 0).any() else None


def summed(
    pairs: list[Hooks], streams: Sequence[Iterator[dict[str, torch.Tensor]]], content: torch.Tensor | None
) -> dict[Hooks, Sums]:
    """The sums of pairs of hooks over windows of the same tokens: `streams` of A's texts, then those of B's."""
    found: dict[Hooks, Sums] = {}
    start, arms = 0, len(streams) // 2
    for windows in zip(*streams, strict=True):
        tokens = len(windows[0][pairs[0][0]])
        device = windows[0][pairs[0][0]].device
        of = content[start : start + tokens].to(device) if content is not None else None
        for one, two in pairs:
            x, y = [window[one] for window in windows[:arms]], [window[two] for window in windows[arms:]]
            found.setdefault((one, two), Sums(x[0], y[0], arms)).add(x, y, of)
        start += tokens
    return found


def correlation(stored: Artefact, arm: int, split: str, k: int) -> Correlation:
    """The correlations of one arm on the documents of a split, with `k` candidates of each unit."""
    r = stored.array("r")[SPLITS.index(split), arm]
    one, two = (
        Moments(*(stored.array(f"{side}-{field}")[SPLITS.index(split)] for field in Moments._fields)) for side in "ab"
    )
    return Correlation(one, two, _best(r, k), _best(r.T, k), _held(r))


def _best(r: np.ndarray, k: int) -> Candidates:
    order = np.argsort(-r, axis=1, kind="stable")[:, :k]  # NaN last
    values = np.take_along_axis(r, order, axis=1)
    return Candidates(np.where(np.isnan(values), -1, order).astype(np.int32), values)


def _held(r: NDArray[np.float32]) -> Block:
    def block(rows: Any = None, columns: Any = None) -> NDArray[np.float32]:
        part = r if rows is None else r[rows]
        return part if columns is None else part[:, columns]

    return block
