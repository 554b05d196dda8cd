"""The figures of notebook `controls`.

In: scores of every comparison, differences with their verdicts, matrices of models by models. Out: figures.
Never: a score; a file.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from sae_utils import report
from sae_utils.inference import Replicated
from sae_utils.measures import Measure
from sae_utils.studies.controls import partners
from sae_utils.studies.controls.measured import Arm
from sae_utils.studies.controls.partners import Cell

SAID = {
    partners.SAE_SEED: "another SAE of model A",
    partners.MODEL_SEED: "another seed of A",
    partners.DEPTH: "A and B",
    partners.EXCHANGED: "B reads exchanged words",
    partners.FROZEN: "frozen random decoder",
}
CEILINGS = (partners.SAE_SEED, partners.MODEL_SEED)
HEADS = ("ceilings: one model", "two models", "controls")


def rows(shown: Sequence[str]) -> list[tuple[str, str]]:
    """The rows of the figure from above: (label of a comparison, "") or, over each group of them, ("", its heading)."""
    groups: tuple[list[str], list[str], list[str]] = ([], [], [])
    for label in shown:
        groups[0 if label in CEILINGS else 1 if label == partners.DEPTH else 2].append(label)
    found = []
    for head, group in zip(HEADS, groups, strict=True):
        found += [("", head), *((label, "") for label in group)] if group else []
    return found


def comparisons(
    arms: Mapping[Cell, Arm], shown: Sequence[str], asked: Mapping[str, Measure], gaps: Mapping[str, Replicated],
    verdicts: Mapping[str, str], d: float,
) -> Figure:  # fmt: skip
    """Every comparison by each measure, replicate by replicate; on the right A and B minus each control, beside d."""
    listed = rows(shown)
    figure, axes = plt.subplots(1, len(asked) + 1, figsize=(6.6, 0.8 + 0.24 * len(listed)), sharey=True)
    for axis, (name, what) in zip(axes, asked.items(), strict=False):
        for y, (label, _) in enumerate(listed):
            if label:
                _row(axis, y, *partners.spread(arms, label, name), label == partners.DEPTH)
        axis.set(title=what.label, xlabel="excess (shuffled pairs: 0)")
    places = {label: y for y, (label, _) in enumerate(listed) if label in gaps}
    _gaps(axes[-1], {y: (gaps[label], verdicts[label]) for label, y in places.items()}, d)
    for axis in axes:
        axis.axvline(0, color="0.8", linewidth=0.8, zorder=0)
        axis.tick_params(axis="y", left=False)
    ticks = axes[0].set_yticks(range(len(listed)), [head or SAID.get(label, label) for label, head in listed])
    for tick, (label, _) in zip(ticks, listed, strict=True):
        tick.label1.set(fontweight="normal" if label else "bold", color=_color(label == partners.DEPTH, "black"))
    axes[0].set(ylim=(len(listed) - 0.4, -0.6))
    figure.suptitle("How alike are the features of two models arranged? Dots: replicates; lines: 95% intervals", size=9)
    return figure


def _color(primary: bool, other: str) -> str:
    return report.PAIRED if primary else other


def _row(axis: Any, y: float, values: np.ndarray, found: Replicated, primary: bool) -> None:
    color = _color(primary, report.NULL)
    axis.scatter(values, np.full(len(values), y - 0.15), s=9, color=color, alpha=0.6, linewidths=0)
    axis.plot([found.low, found.high], [y + 0.2] * 2, color=color)
    axis.plot(found.estimate, y + 0.2, "|", color=color, markersize=7)


def _gaps(axis: Any, found: Mapping[int, tuple[Replicated, str]], d: float) -> None:
    """Differences with their verdicts, by row."""
    beside: dict[str, Any] = {"transform": axis.get_yaxis_transform(), "va": "center"}
    for y, (gap, verdict) in found.items():
        color = report.NULL if verdict == "not tested" else "black"
        axis.plot([gap.low, gap.high], [y] * 2, color=color)
        axis.plot(gap.estimate, y, "o", color=color, markersize=3.5)
        axis.text(1.04, y, verdict, **beside)
    if found:
        axis.text(1.04, min(found) - 1, "above d?", fontweight="bold", **beside)
    axis.axvline(d, color="black", linewidth=0.8, linestyle="--", zorder=0)
    axis.text(d, 0, f" d = {d:g}", va="center")
    axis.set(title="more than the control?", xlabel="A and B less the control")


def heat_maps(frames: Mapping[str, pd.DataFrame]) -> Figure:
    """A matrix of models by models for each title, with its numbers and a colour bar."""
    size = max(len(frame) for frame in frames.values())
    figure, axes = plt.subplots(1, len(frames), figsize=(6.6, 1.3 + 0.34 * size), sharey=True, squeeze=False)
    for axis, (title, frame) in zip(axes[0], frames.items(), strict=True):
        values = frame.to_numpy()
        known = values[np.isfinite(values)].tolist()
        image = axis.imshow(values, cmap="Blues", vmin=min([0.0, *known]), vmax=max([0.1, *known]))
        for (i, j), value in np.ndenumerate(values):
            white = np.isfinite(value) and image.norm(value) > 0.6
            shown = f"{value:.2f}" if np.isfinite(value) else "n/a"
            axis.text(
                j,
                i,
                shown.replace("-", "\N{MINUS SIGN}"),
                ha="center",
                va="center",
                color="white" if white else "black",
            )
        axis.set_xticks(range(len(frame.columns)), frame.columns, rotation=35, ha="right", rotation_mode="anchor")
        axis.set_yticks(range(len(frame)), frame.index)
        axis.spines[:].set_visible(False)
        axis.set(title=title, xlabel="partners in")
        figure.colorbar(image, ax=axis, shrink=0.8)
    axes[0, 0].set(ylabel="content features of")
    return figure
