"""Figures of notebooks `one_to_one` and `whole_dictionaries`.

In: tables with a row a replicate. Out: figures with means over replicates and their 95% intervals.
Never: a number that a table does not hold.
"""

import itertools
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from sae_utils import inference, report

QUANTITIES = {"of A": "share of live A", "r held out": "held-out r", "excess": "excess"}
WIDTH = 6.2  # inches


def both_arms(at_one_n: pd.DataFrame, label: str) -> Figure:
    """A line a matching: replicates, mean and interval of both arms.

    `at_one_n`: a row a replicate, columns (arm, matching). `label`: name of the score.
    """
    names = list(at_one_n["true"])
    figure, axes = plt.subplots(figsize=(5.4, 2.8))
    for arm, color, shift in (("true", report.PAIRED, -0.12), ("control", report.NULL, 0.12)):
        of_arm = at_one_n[arm] if arm in at_one_n else at_one_n["true"] * np.nan
        for place, name in enumerate(names):
            x = inference.over_replicates(of_arm[name])
            axes.scatter(of_arm[name], np.full(len(of_arm), place + shift), s=8, color=color, alpha=0.4, linewidths=0)
            axes.hlines(place + shift, x.low, x.high, color=color, linewidth=2)
            axes.scatter(x.estimate, place + shift, s=26, color=color, label=None if place else f"{arm} arm")
    axes.set(xlabel=label, yticks=range(len(names)), yticklabels=names)
    axes.invert_yaxis()
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def cuts(frame: pd.DataFrame, along: str, by: str, label: str) -> tuple[Figure, Sequence[plt.Axes]]:
    """Three panels (share of A kept, held-out r, excess) over the cuts in column `along`, a line each `by`.

    The axis is named `label`.
    """
    figure, axes = plt.subplots(1, 3, figsize=(WIDTH, 2.7), sharex=True)
    for axis, (quantity, title) in zip(axes, QUANTITIES.items(), strict=True):
        for (name, x), color in zip(frame.groupby(by, sort=False), itertools.cycle(report.COLORS)):
            report.band(axis, x, along, quantity, marker="o", color=color, label=name)
        axis.set(xlabel=label, title=title)
    return figure, axes


def least_r(frame: pd.DataFrame) -> Figure:
    """`cuts` at a least correlation; dashed: the excess of as many optimal pairs at random."""
    figure, axes = cuts(frame, "least r", "matching", "least r")
    best = frame[frame.matching == "optimal"]
    report.band(axes[2], best, "least r", "as many", linestyle="--", color=report.NULL, label="as many at random")
    axes[2].axhline(0, color=report.NULL, linewidth=0.6)
    figure.legend(*axes[2].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def hubs(frame: pd.DataFrame) -> Figure:
    """`cuts` of hubs with more pairs than a threshold, by what is kept of a hub."""
    named = frame.assign(above=[f"{most:,}" if most else "uncut" for most in frame.most])
    figure, axes = cuts(named, "above", "keep", "most pairs of a partner")
    figure.legend(*axes[0].get_legend_handles_labels(), title="kept of a hub", loc="outside lower center", ncols=3)
    return figure


def stability(
    stable: np.ndarray, across: np.ndarray, counterpart: float, shares: np.ndarray, names: Mapping[str, str]
) -> Figure:
    """Left: a point a feature, its r across seeds and across models. Right: share with a counterpart by stability.

    `stable`, `across` (features,), `shares` (replicates of B, bins). `names`: labels of the axes "seeds" and "models".
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 2.6))
    left.scatter(stable, across, s=5, color=report.PAIRED, alpha=0.5, linewidths=0)
    left.axhline(counterpart, color="black", linewidth=0.6)
    left.set(xlabel=names["seeds"], ylabel=names["models"])
    bins = shares.shape[1]
    long = pd.DataFrame(100 * shares, columns=range(1, bins + 1)).melt(var_name="bin", value_name="share")
    report.band(right, long, "bin", "share", marker="o", color=report.PAIRED)
    right.set(xlabel="features by stability, least first", ylabel="% with a counterpart", ylim=(0, 103))
    right.set_xticks(range(1, bins + 1))
    return figure
