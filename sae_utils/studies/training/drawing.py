"""The figures of notebooks `13` and `13b`.

In: tables with a row a replicate and state; components of SAEs; correlations of best partners. Out: figures.
Never: a score.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from sae_utils import report
from sae_utils.studies.training import appearing, phases, selection, trigger

CONTROLS = (phases.EXCHANGED,)


def lines(axis: Any, frame: pd.DataFrame, x: str, values: Mapping[str, str]) -> None:
    """Means over replicates with 95% intervals, a line a column of `values` (column -> label) along `x`."""
    for color, (column, label) in zip(report.COLORS, values.items(), strict=False):
        report.band(axis, frame, x, column, color=color, marker="o", label=label)
    axis.set_xscale("log")
    axis.legend(fontsize=6)


def by_label(axis: Any, frame: pd.DataFrame, x: str, y: str, label: str) -> None:
    """As `lines`, a line for every value of the column `label`."""
    for color, (name, part) in zip(report.COLORS, frame.groupby(label, sort=False), strict=False):
        grey = name in CONTROLS
        report.band(axis, part, x, y, color=report.NULL if grey else color, marker="o", label=name)
    axis.set_xscale("log")
    axis.legend(fontsize=6)


def words(frame: pd.DataFrame, measure: str) -> Figure:
    """How alike words are arranged by training step, a panel a kind of words (`phases.word_similarity`)."""
    kinds = list(dict.fromkeys(frame.words))
    figure, axes = plt.subplots(1, len(kinds), figsize=(6.2, 2.5), sharey=True, squeeze=False)
    for axis, kind in zip(axes[0], kinds, strict=True):
        by_label(axis, frame[frame.words == kind], "step", "excess", "compared")
        axis.axhline(0, color="0.85", zorder=0)
        axis.set(title=kind, xlabel="training step of the models")
    axes[0, 0].set_ylabel(f"excess of {measure}")
    return figure


def features(frame: pd.DataFrame) -> Figure:
    """What states hold of A's last features: mean r of the readout by step; a panel a model, a line a kind."""
    models = list(dict.fromkeys(frame.model))
    figure, axes = plt.subplots(1, len(models), figsize=(6.2, 2.5), sharey=True, squeeze=False)
    for axis, of in zip(axes[0], models, strict=True):
        by_label(axis, frame[frame.model == of], "step", "r", "kind")
        axis.set(title=f"read from {of}", xlabel="training step of the model", ylim=(0, 1))
    axes[0, 0].set_ylabel("held-out r of the readout")
    return figure


def dictionary(frame: pd.DataFrame, arrived: pd.DataFrame) -> Figure:
    """An SAE on its way: which of its features have arrived, how many have counterparts in B, how alike they are."""
    figure, axes = plt.subplots(1, 3, figsize=(7.2, 2.5))
    by_label(axes[0], arrived, "samples", "arrived", "kind")
    lines(axes[1], frame, "samples", {"counterparts": "counterpart in B", "unexplained": "variance unexplained",
                                      "dead": "dead"})  # fmt: skip
    lines(axes[2], frame, "samples", {"true": "true arm", "control": "words exchanged"})
    for axis, title in zip(axes, ("features that are as at the end", "shares", "excess, A and B"), strict=True):
        axis.set(title=title, xlabel="activations read by the SAE")
    return figure


def curves(frame: pd.DataFrame) -> Figure:
    """Correlation with the partners, retention and excess by the number of tokens that choose (`curves.curve`)."""
    figure, axes = plt.subplots(1, 3, figsize=(7.2, 2.5))
    lines(axes[0], frame, "tokens", {"r chosen": "where chosen", "r held out": "held out", "control": "control"})
    lines(axes[1], frame, "tokens", {"retention": "same partner again"})
    lines(axes[2], frame, "tokens", {"true": "true arm", "excess control": "words exchanged"})
    for axis, title in zip(axes, ("r with the partner", "retention", "excess, A and B"), strict=True):
        axis.set(title=title, xlabel="tokens that choose", ylim=(min(0, axis.get_ylim()[0]), None))
    return figure


def components(frame: pd.DataFrame, columns: Sequence[str]) -> Figure:
    """A panel a column: its value for the SAE of one topic against that of the SAE of all, a line a replicate."""
    figure, axes = plt.subplots(1, len(columns), figsize=(7.2, 2.3), squeeze=False)
    for axis, column in zip(axes[0], columns, strict=True):
        wide = frame.pivot(index="topic", columns="trained on", values=column)[[selection.ONE, selection.MIXED]]
        for color, (topic, values) in zip(report.COLORS, wide.iterrows(), strict=False):
            axis.plot([0, 1], values, marker="o", markersize=4, color=color, label=topic)
        axis.set_xticks([0, 1], [selection.ONE, selection.MIXED], fontsize=6)
        axis.set(title=column, xlim=(-0.4, 1.4), ylim=(0, 1.08 * max(wide.max().max(), 1e-9)))  # markers are whole
        axis.title.set_fontsize(7)
    axes[0, 0].legend(fontsize=6)
    return figure


def partners(r: Mapping[str, np.ndarray], groups: Mapping[str, np.ndarray], least: float) -> Figure:
    """Best partners in clean models: a panel a model, a row a group of its features, a point a feature.

    `r`: of the poisoned model, then of a clean one, (features,) r of the best partner; `groups`: the same keys ->
    (features,) of `trigger`'s groups.
    """
    names = (trigger.AT, trigger.AFTER, trigger.NEITHER)
    figure, axes = plt.subplots(1, len(r), figsize=(6.6, 2.1), sharex=True, sharey=True, squeeze=False)
    for axis, title, (label, values) in zip(axes[0], ("poisoned model", "clean model"), r.items(), strict=True):
        for row, name in enumerate(names):
            of = values[groups[label] == name]
            jitter = np.random.default_rng(row).uniform(-0.3, 0.3, len(of))
            axis.scatter(of, row + jitter, s=6 if row < 2 else 2, color=report.COLORS[row], alpha=0.6, linewidths=0)
        axis.axvline(least, color="black", linestyle="--", linewidth=0.8)
        axis.set(title=title, xlabel="held-out r of the best partner")
    axes[0, 0].set_yticks(range(len(names)), names)
    axes[0, 0].invert_yaxis()
    return figure


def half_way(found: Sequence[Any], least: float) -> pd.DataFrame:
    """A row a kind: features, the share that is readable from the start, and those half-way risen by each step.

    `found`: `phases.Held` of every replicate; shares are means over replicates.
    """
    rows = []
    for x in found:
        at = appearing.half_way(x.r[phases.OWN], least)
        for kind in appearing.KINDS:
            of = at[x.kinds == kind]
            if len(of):
                shares = {f"step {step:,}": float(np.mean(of == i)) for i, step in enumerate(x.steps) if i}
                rows.append({"kind": kind, "features": len(of), "rises little": float(np.mean(of < 0)), **shares})
    return pd.DataFrame(rows).groupby("kind", sort=False).mean().reset_index()
