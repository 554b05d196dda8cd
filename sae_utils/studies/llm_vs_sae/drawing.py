"""Figures of the studies of neurons: the excess of each kind of unit, and concepts against two nulls.

In: tables of `scores`. Out: figures, which the notebooks save.
Never: a score.
"""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from sae_utils import report
from sae_utils.significance import Result
from sae_utils.studies.llm_vs_sae import scores, units

COLOURS = dict(zip(units.KINDS, report.COLORS, strict=False))
SPAN = 1.96  # standard deviations on either side of a mean that hold 95% of a normal distribution
FIRST = ("primary", "content units")  # places that a figure shows before the others


def excess(scored: pd.DataFrame, summary: pd.DataFrame, label: str) -> Figure:
    """The excess of each kind of unit by place and arm: replicates, their mean with its interval, the shuffled range.

    `scored`, `summary`: as `scores.at_one_n` and `scores.summary` give them; `label` of the measure.
    """
    pairs = dict.fromkeys(zip(summary.place, summary.arm, strict=True))
    groups = sorted(pairs, key=lambda group: group[0] not in FIRST)
    figure, axes = plt.subplots(figsize=(6.4, 3.6))
    for mean in summary.to_dict("records"):
        place, arm, kind, height = (mean[key] for key in ("place", "arm", "units", "excess"))
        at = groups.index((place, arm)) + 0.27 * (units.KINDS.index(kind) - 1)
        null = SPAN * mean["null sd"]
        axes.vlines(at, -null, null, color=report.NULL, linewidth=9, alpha=0.5)
        dots, colour = scores.excess(scored, kind, arm, place), COLOURS[kind]
        axes.scatter(np.full(len(dots), at - 0.05), dots, s=12, alpha=0.6, linewidths=0, color=colour)
        ends = [[height - mean["low"]], [mean["high"] - height]]
        axes.errorbar(at + 0.05, height, ends, fmt="_", markersize=7, linewidth=1.5, color=colour)
    axes.axhline(0, color=report.NULL, linewidth=0.5, zorder=0)
    axes.set_xticks(range(len(groups)), [units.title(*group) for group in groups])
    axes.set(ylabel=f"excess over shuffled pairings\n({label})", xlim=(-0.6, len(groups) - 0.4))
    _legend(figure, axes, COLOURS, "95% of shuffled pairings")
    return figure


def _legend(figure: Figure, axes: plt.Axes, colours: Mapping[str, str], null: str) -> None:
    for kind, colour in colours.items():
        axes.scatter([], [], s=18, color=colour, label=kind)
    axes.vlines([], 0, 0, color=report.NULL, linewidth=8, alpha=0.5, label=null)
    figure.legend(loc="outside lower center", ncols=4, handletextpad=0.2, columnspacing=1)


def nulls(held: Mapping[tuple[str, str], tuple[Result, Result]], label: str) -> Figure:
    """The score of each concept's pairs beside the middle 95% of both nulls, a panel for each kind of unit.

    `held`: (kind, concept) -> results against shuffled pairings and against random selections, of sets with enough
    pairs; `label` of the measure.
    """
    concepts = list(dict.fromkeys(concept for _, concept in held))
    figure, panels = plt.subplots(
        1, len(scores.CONTRASTED), figsize=(6.4, 1.3 + 0.28 * len(concepts)), sharey=True, sharex=True
    )
    for axes, kind in zip(panels, scores.CONTRASTED, strict=True):
        for row, concept in enumerate(concepts):
            if (kind, concept) not in held:
                continue
            for result, shift, colour in zip(held[kind, concept], (-0.14, 0.14), (report.NULL, "black"), strict=True):
                axes.hlines(row + shift, *np.quantile(result.draws, [0.025, 0.975]), color=colour, linewidth=4)
            axes.scatter(held[kind, concept][0].observed, row, s=26, color=COLOURS[kind], zorder=3, edgecolors="white")
        axes.set(title=kind, xlabel=label)
    panels[0].set_yticks(range(len(concepts)), concepts)
    panels[0].set_ylim(len(concepts) - 0.5, -0.5)
    panels[0].scatter([], [], s=26, color="white", edgecolors="black", label="pairs of the concept")
    for colour, name in ((report.NULL, "shuffled pairings"), ("black", "random selections")):
        panels[0].hlines([], 0, 0, color=colour, linewidth=4, label=f"95% of {name}")
    figure.legend(loc="outside lower center", ncols=3, columnspacing=1)
    return figure
