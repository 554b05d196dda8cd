"""Figures of the notebooks on joint dictionaries.

In: frames with one row a draw or a replicate, relative norms. Out: matplotlib figures.
Never: a score, a saved file.
"""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from sae_utils import report
from sae_utils.studies.joint import norms, texts
from sae_utils.studies.joint.norms import Bounds

COLOR = {texts.TRUE: report.PAIRED, texts.EXCHANGED: report.COLORS[1], texts.APART: report.NULL}
BINS = np.linspace(0, 1, 31)


def bias(frame: pd.DataFrame) -> Figure:
    """Found share by true share: of latents called shared, and of those called exclusive that both models have.

    `frame`: recipe, true, shared, mistaken, one row a draw; a color a recipe, a line through means over draws.
    """
    figure, axes = plt.subplots(1, 2, figsize=(6.0, 2.7), sharex=True)
    panels = {"shared": "latents called shared", "mistaken": "called exclusive, though both have it"}
    for axis, (column, title) in zip(axes, panels.items(), strict=True):
        for color, (recipe, part) in zip(report.COLORS, frame.groupby("recipe", sort=False), strict=False):
            axis.scatter(part.true, part[column], s=8, color=color, linewidths=0)
            mean = part.groupby("true")[column].mean()
            axis.plot(mean.index, mean, color=color, linewidth=1, label=recipe)
        axis.set(title=title, xlabel="features that both models have", xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
    axes[0].plot([0, 1], [0, 1], color="black", linewidth=0.6, label="no bias")
    axes[0].set_ylabel("share")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def relations(
    relative: Mapping[str, Sequence[np.ndarray]], shares: Mapping[str, Sequence[Mapping[str, float]]], bounds: Bounds
) -> Figure:
    """Left: relative norms of live latents by arm, a thin line a replicate. Right: shares of kinds, a point each."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(6.4, 2.7))
    for number, (arm, of) in enumerate(relative.items()):
        parts = [100 * np.histogram(x, BINS)[0] / max(len(x), 1) for x in of]
        for part in parts:
            left.stairs(part, BINS, color=COLOR[arm], linewidth=0.5, alpha=0.6)
        left.stairs(np.mean(parts, axis=0), BINS, color=COLOR[arm], linewidth=1.6, label=arm)
        for place, kind in enumerate(norms.KINDS):
            at = np.full(len(shares[arm]), place + (number - (len(relative) - 1) / 2) * 0.2)
            right.scatter(at, [x[kind] for x in shares[arm]], s=12, color=COLOR[arm])
    left.axvspan(bounds.shared, 1 - bounds.shared, color="0.93", zorder=0)
    for edge in (bounds.exclusive, 1 - bounds.exclusive):
        left.axvline(edge, color="black", linestyle=":", linewidth=0.8)
    left.set(xlabel="relative norm: 0 only A, 1 only B", ylabel="% of live latents", xlim=(0, 1))
    right.set_xticks(range(len(norms.KINDS)), norms.KINDS)
    right.set(ylabel="share of live latents", ylim=(-0.02, 1.02))
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def carried(frame: pd.DataFrame) -> Figure:
    """The variance of one model that is not explained from the other, by way and arm. `frame`: arm, way, fvu."""
    ways = list(frame.way.unique())
    figure, axis = plt.subplots(figsize=(4.8, 0.9 + 0.32 * len(ways)))
    for arm, part in frame.groupby("arm", sort=False):
        places = [ways.index(way) for way in part.way]
        axis.scatter(part.fvu, places, s=14, color=COLOR[str(arm)], label=arm)
    axis.set_yticks(range(len(ways)), ways)
    axis.invert_yaxis()
    axis.set(xlabel="share of variance not explained", xlim=(0, None))
    axis.legend(loc="lower right")
    return figure


def costs(frame: pd.DataFrame, panels: Mapping[str, str]) -> Figure:
    """A panel a column, by the weight of the loss: a line a replicate, a thick one their mean, a color an arm."""
    figure, axes = plt.subplots(1, len(panels), figsize=(1.9 * len(panels), 2.4))
    weights = sorted(frame.weight.unique())
    for axis, (column, title) in zip(axes, panels.items(), strict=True):
        for arm, of_arm in frame.groupby("arm", sort=False):
            wide = of_arm.pivot(index="weight", columns="replicate", values=column)
            axis.plot(range(len(weights)), wide, color=COLOR[str(arm)], linewidth=0.5, alpha=0.6)
            axis.plot(range(len(weights)), wide.mean(axis=1), "o-", color=COLOR[str(arm)], markersize=3, label=arm)
        axis.set_xticks(range(len(weights)), [f"{x:g}" for x in weights])
        axis.set(title=title, xlabel="weight of the loss")
        low, high = axis.get_ylim()
        axis.set_ylim(min(0, low), high)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure
