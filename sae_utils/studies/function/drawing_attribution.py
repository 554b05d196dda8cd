"""The figures of notebook 08b.

In: comparisons, tables of all replicates. Out: figures.
Never: a score; a file.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from sae_utils import report
from sae_utils.studies.function import criteria
from sae_utils.studies.function.compared import GIVEN, LEAST, OWN, Comparison
from sae_utils.studies.function.paired import CONTROL, TRUE

CEILING = "two SAEs of one model"
CONTROLS = {TRUE: "true arm", CONTROL: "exchanged words"}
SHOWN = {"pairs": "mutual pairs", "agree": "share of them by activation", "r held out": "held-out r",
         "logits": "r of logits"}  # fmt: skip
COLOR = {TRUE: report.PAIRED, CONTROL: report.NULL}


def pairs(found: Mapping[str, Comparison], d: float, ceiling: Sequence[float] = ()) -> Figure:
    """Left: a dot a replicate, the own partner above all that it is held against. Right: the differences and d.

    `ceiling`: the likeness between SAEs of one model. Given the text, both values are partial, the own one hollow.
    """
    above = {CEILING: np.asarray(ceiling)} if len(ceiling) else {}
    above[OWN] = next(iter(found.values())).own
    names = [*above, *found]
    figure, axes = plt.subplots(1, 2, figsize=(6.6, 1.0 + 0.26 * len(names)), sharey=True, width_ratios=[1.4, 1])
    for row, (name, values) in enumerate((above | {name: x.other for name, x in found.items()}).items()):
        _dots(axes[0], values, row, report.PAIRED if name == OWN else report.NULL)
    if GIVEN in found:
        _dots(axes[0], found[GIVEN].own, names.index(GIVEN), report.PAIRED, fillstyle="none")
    for row, x in enumerate(found.values(), len(above)):
        _interval(axes[1], x, row)
    axes[1].axvline(d, color="black", linestyle="--", linewidth=0.8, label=f"d = {d:g}")
    axes[0].set_yticks(range(len(names)), [_label(name, found) for name in names])
    axes[0].set(xlabel="mean correlation of logits", ylim=(len(names) - 0.5, -0.5))
    axes[1].set_xlabel("own partner less this")
    for axis in axes:
        axis.axvline(0, color="0.8", zorder=0, linewidth=0.8)
    figure.legend(loc="outside lower right")
    return figure


def _dots(axis: Any, values: Any, row: float, color: str, **style: Any) -> None:
    axis.plot(values, np.full(len(values), row), "o", color=color, alpha=0.6, markersize=4, **style)
    axis.plot(np.nanmean(values), row, "|", color=color, markersize=13)


def _label(name: str, found: Mapping[str, Comparison]) -> str:
    few = name in found and found[name].movable < 1
    return f"{name} ({found[name].movable:.0%} can move)" if few else name


def _interval(axis: Any, x: Comparison, row: float) -> None:
    """The difference with its interval, hollow where too few pairs can move."""
    few = x.movable < LEAST
    axis.plot(x.difference.estimate, row, "o", color="black", markersize=4, fillstyle="none" if few else "full")
    if few:
        axis.annotate("too few can move", (x.difference.estimate, row), (6, 0), textcoords="offset points", va="center")
    elif not np.isnan(x.difference.low):
        axis.hlines(row, x.difference.low, x.difference.high, color="black", linewidth=1.2)


def along(frame: pd.DataFrame) -> Figure:
    """Likeness of logits by held-out r, a line an arm, with all partners of the arm dotted; bands over replicates."""
    figure, axis = plt.subplots(figsize=(5.4, 2.5))
    for arm in (arm for arm in (CONTROL, TRUE) if (frame.arm == arm).any()):
        part = frame[frame.arm == arm].sort_values("bin")
        report.band(axis, part, "bin", "logits", color=COLOR[arm], marker="o", label=CONTROLS[arm])
        report.band(
            axis, part, "bin", "shuffled", color=COLOR[arm], linestyle=":", label=f"{CONTROLS[arm]}, any partner"
        )
    axis.axhline(0, color="0.8", zorder=0, linewidth=0.8)
    axis.set(xlabel="held-out r of the pair's activations", ylabel="correlation of logits", xlim=(0, 1))
    figure.legend(loc="outside right upper")
    return figure


def by_criterion(frame: pd.DataFrame) -> Figure:
    """A panel a quantity, a row a criterion of matching, a dot a replicate, both arms."""
    figure, axes = plt.subplots(1, len(SHOWN), figsize=(7.0, 1.8), sharey=True)
    for axis, (column, label) in zip(axes, SHOWN.items(), strict=True):
        for arm, shift in ((TRUE, -0.13), (CONTROL, 0.13)):
            for row, criterion in enumerate(criteria.CRITERIA):
                of = frame[(frame.arm == arm) & (frame.criterion == criterion)][column]
                axis.plot(of, np.full(len(of), row + shift), "o", color=COLOR[arm], alpha=0.6, markersize=3.5)
        axis.set(xlabel=label, xlim=(min(0, axis.get_xlim()[0]), None))
    axes[0].set_yticks(range(len(criteria.CRITERIA)), criteria.CRITERIA)
    axes[0].set_ylim(len(criteria.CRITERIA) - 0.5, -0.5)
    handles = [plt.Line2D([], [], marker="o", linestyle="", color=COLOR[arm], label=CONTROLS[arm]) for arm in COLOR]
    figure.legend(handles=handles, loc="outside upper right", ncols=2)
    return figure


def hubs(frame: pd.DataFrame) -> Figure:
    """Left: how alike the logits of a group's features are. Right: own partners against those of the group's others."""
    names = list(dict.fromkeys(frame["features that"]))
    figure, axes = plt.subplots(1, 2, figsize=(6.4, 0.8 + 0.32 * len(names)), sharey=True)
    columns = {"alike": (axes[0], "black", "any two of A"), "own": (axes[1], report.PAIRED, "own partner"),
               "others": (axes[1], report.NULL, "partners of the group's others")}  # fmt: skip
    for column, (axis, color, label) in columns.items():
        for row, name in enumerate(names):
            of = frame[frame["features that"] == name][column]
            axis.plot(of, np.full(len(of), row), "o", color=color, alpha=0.5, markersize=3.5)
            axis.plot(of.mean(), row, "|", color=color, markersize=13, label=label if row == 0 else None)
    axes[0].set_yticks(range(len(names)), names)
    axes[0].set_ylim(len(names) - 0.5, -0.5)
    for axis in axes:
        axis.axvline(0, color="0.8", zorder=0, linewidth=0.8)
        axis.set_xlabel("correlation of logits")
    axes[0].set_title("features of A with one another")
    axes[1].set_title("features of A with partners in B")
    figure.legend(*axes[1].get_legend_handles_labels(), loc="outside lower right", ncols=2)
    return figure
