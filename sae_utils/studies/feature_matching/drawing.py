"""Figures of notebooks 01.

In: correlations, curves, counts and results. Out: matplotlib figures; a notebook saves them by `report`.
Never: a score, a file.
"""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from sae_utils import report
from sae_utils.measures import measure
from sae_utils.significance import Result
from sae_utils.studies.feature_matching.counterparts import Curve

MARKERS = "_x"  # of two nulls


def held_out(chosen: NDArray[np.float32], judged: NDArray[np.float32]) -> Figure:
    """Correlations of pairs on the documents that chose them and on those that judge."""
    figure, axes = plt.subplots(figsize=(3.2, 3.2))
    axes.plot([0, 1], [0, 1], color=report.NULL, linewidth=1)
    axes.scatter(chosen, judged, s=6, alpha=0.5, color=report.PAIRED, linewidths=0)
    axes.set(xlabel="r on matching documents", ylabel="r on held-out documents", aspect="equal")
    return figure


def maxima(firings: NDArray[np.int64], r: NDArray[np.float32], drawn: Mapping[str, NDArray[np.float32]]) -> Figure:
    """Best correlation by firings of the feature, and by name of the null the 95% quantile of its draws (m, pairs)."""
    figure, axes = plt.subplots(figsize=(5.0, 3.8))
    axes.scatter(firings, r, s=6, color=report.PAIRED, linewidths=0, label="best partner")
    for (name, draws), marker, color in zip(drawn.items(), MARKERS, (report.NULL, report.COLORS[1]), strict=True):
        high, style = np.quantile(draws, 0.95, axis=0), {"marker": marker, "linewidths": 0.7, "color": color}
        axes.scatter(firings, high, s=9, label=f"95%, {name}", **style)
    axes.set(xscale="log", xlabel="firings of the feature of A", ylabel="largest correlation")
    figure.legend(loc="outside lower center", ncols=1)
    return figure


def counterparts(curves: Mapping[str, Curve], by_chance: Mapping[str, NDArray[np.float64]], r0: float) -> Figure:
    """Share with a counterpart by threshold, with its band; dotted what chance gives (thresholds,); a line at r0."""
    figure, axes = plt.subplots(figsize=(4.4, 2.9))
    for (name, x), color in zip(curves.items(), report.COLORS, strict=False):
        order = np.argsort(x.threshold)
        axes.fill_between(x.threshold[order], x.low[order], x.high[order], color=color, alpha=0.25, linewidth=0)
        axes.plot(x.threshold[order], x.share[order], color=color, label=name)
        axes.plot(x.threshold[order], by_chance[name][order], color=color, linestyle=":", label=f"{name}, chance")
    axes.axvline(r0, color=report.NULL, linewidth=0.6, zorder=0)
    axes.set(xlabel="$r_0$, held-out correlation", ylabel="share with a counterpart", ylim=(-0.02, 1.02))
    axes.legend()
    return figure


def hubs(chosen_by: Mapping[str, NDArray[np.int64]]) -> Figure:
    """By name the share of live features that are chosen by at least so many; ``chosen_by`` (live features,)."""
    figure, axes = plt.subplots(figsize=(4.4, 2.6))
    for (name, counts), color in zip(chosen_by.items(), report.COLORS, strict=False):
        at_least = np.arange(counts.max() + 1)
        shares = (counts[:, None] >= at_least).mean(axis=0)
        axes.plot(at_least, shares, drawstyle="steps-mid", color=color, label=name)
    axes.set(yscale="log", xlabel="chosen by at least", ylabel="share of live features")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend()
    return figure


def similarity(results: Mapping[str, Result]) -> Figure:
    """Observed scores by measure, each beside 95% of its shuffled pairings."""
    figure, axes = plt.subplots(figsize=(5.0, 1.0 + 0.35 * len(results)))
    names = [measure(name).label for name in results]
    low, high = np.array([np.quantile(x.draws, [0.025, 0.975]) for x in results.values()]).T
    axes.hlines(names, low, high, color=report.NULL, linewidth=6, label="95% of shuffled pairings")
    axes.scatter([x.observed for x in results.values()], names, s=24, color=report.PAIRED, label="paired", zorder=2)
    axes.set(xlabel="similarity of decoder rows", ylim=(len(names) - 0.5, -0.5))
    figure.legend(loc="outside lower center", ncols=2)
    return figure
