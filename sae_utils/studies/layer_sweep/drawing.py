"""Figures of notebook `layer_sweep`.

In: excesses by replicate and layers, and tables with a row a cell. Out: figures.
Never: a number that is not in them.
"""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.figure import Figure
from numpy.typing import NDArray

from sae_utils import report
from sae_utils.studies.layer_sweep import layers

Values = NDArray[np.float64]  # (replicates, layers of A, layers of B)


def heat(panels: Mapping[str, Values], blocks: tuple[Sequence[int], Sequence[int]], framed: tuple[int, int]) -> Figure:
    """Mean and SD over replicates at every pair of layers, a panel a name.

    `blocks`: the block of each layer of A and of B. `framed`: a pair of layers that the last panel frames. A panel
    without a value is left out, and so is the SD of one replicate.
    """
    panels = _known(panels)
    top = max(float(np.nanmax(values, initial=0)) for values in panels.values())
    height = 1.0 + 0.5 * len(blocks[0])
    figure, axes = plt.subplots(1, len(panels), figsize=(6.2, height), sharey=True, squeeze=False)
    for axis, (title, values) in zip(axes[0], panels.items(), strict=True):
        mean, sd = layers.spread(values)
        texts = [
            [f"{m:.2f}" + f"\n± {s:.2f}" * bool(np.isfinite(s)) for m, s in zip(*of, strict=True)]
            for of in zip(mean, sd, strict=True)
        ]
        sns.heatmap(
            mean, ax=axis, vmin=0, vmax=top, cmap="Blues", annot=texts, fmt="", annot_kws={"size": 7}, cbar=False
        )
        axis.set(xlabel="block of B", title=title, facecolor="0.93")
        axis.set_xticklabels(blocks[1])
    axes[0, 0].set(ylabel="block of A")
    axes[0, 0].set_yticklabels(blocks[0])
    axes[0, -1].add_patch(plt.Rectangle(framed[::-1], 1, 1, fill=False, linewidth=1.5, clip_on=False))
    return figure


def lines(panels: Mapping[tuple[str, str], Values], places: Sequence[str]) -> Figure:
    """The values at every pair of layers, a line a replicate: a row of panels a kind of rows, a column a measure.

    `panels`: (kind of rows, label of the measure) -> values. `places`: names of the pairs of layers. Without a value,
    as where no arm is a control, a panel says so.
    """
    kinds, names = (list(dict.fromkeys(part)) for part in zip(*panels, strict=True))
    size = {"figsize": (6.4, 1.75 * len(kinds)), "squeeze": False}
    figure, axes = plt.subplots(len(kinds), len(names), sharex=True, sharey="col", **size)
    for (kind, name), values in panels.items():
        axis = axes[kinds.index(kind), names.index(name)]
        axis.plot(places, values.reshape(len(values), -1).T, color=report.PAIRED, alpha=0.6, marker=".", linewidth=0.8)
        axis.axhline(0, color=report.NULL, linewidth=0.8)
        if not np.isfinite(values).any():
            axis.set(yticks=[], ylim=(-1, 1))
            axis.text(0.5, 0.6, "no control", transform=axis.transAxes, ha="center", fontsize=7)
        axis.tick_params(axis="x", labelsize=7, rotation=60)
        axis.set_title(f"{name}, {kind}", fontsize=7)
    for axis in axes[:, 0]:
        axis.set_ylabel("true - control")
    for axis in axes[-1]:
        axis.set_xlabel("blocks of A - B")
    return figure


def tracking(held: Values, panels: Mapping[str, Values]) -> Figure:
    """A point a pair of layers: its `held` out r against the values of each panel, a colour a replicate.

    A panel without a value is left out.
    """
    panels = _known(panels)
    figure, axes = plt.subplots(1, len(panels), figsize=(6.2, 2.8), squeeze=False)
    for axis, (label, values) in zip(axes[0], panels.items(), strict=True):
        for r, (x, y) in enumerate(zip(held, values, strict=True)):
            color, marker = report.COLORS[r % len(report.COLORS)], "os^Dv"[r % 5]
            axis.scatter(x, y, s=18, color=color, marker=marker, alpha=0.8, linewidths=0, label=f"replicate {r}")
        axis.axhline(0, color=report.NULL, linewidth=0.6)
        axis.set(xlabel="held-out r", ylabel=label)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def _known(panels: Mapping[str, Values]) -> Mapping[str, Values]:
    """The panels that hold a value; all of them if none does."""
    return {name: values for name, values in panels.items() if np.isfinite(values).any()} or panels
