"""Figures of the notebook on recovery.

In: frames with one row a checkpoint or an SAE, rows of features. Out: matplotlib figures.
Never: a score, a saved file.
"""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from sae_utils import report
from sae_utils.studies.geometry import mapper

CURVES = {"mmcs": "MMCS to truth", "loss": "loss", "l0": "active latents", "dead": "% dead"}  # column -> label


def colors(kinds: list[str]) -> dict[str, str]:
    """The color of every kind of SAE."""
    return {kind: report.COLORS[i % len(report.COLORS)] for i, kind in enumerate(kinds)}


def curves(frame: pd.DataFrame, active: float, title: Mapping[int, str]) -> Figure:
    """The columns of `CURVES` by samples: a row a curve, a column a width, a color a kind; bands over draws."""
    widths, color = list(title), colors(list(frame.kind.unique()))
    figure, axes = plt.subplots(len(CURVES), len(widths), figsize=(6.0, 6.4), sharex=True, sharey="row", squeeze=False)
    for column, width in zip(axes.T, widths, strict=True):
        for axis, (name, label) in zip(column, CURVES.items(), strict=True):
            for kind in color:
                part = frame[(frame.width == width) & (frame.kind == kind)]
                report.band(axis, part, "samples", name, color=color[kind], marker="o", label=kind)
            if width == widths[0]:
                axis.set_ylabel(label)
        chance = frame[(frame.width == width) & (frame.samples == frame.samples.max())].chance.mean()
        column[0].axhline(chance, color=report.NULL, linewidth=1, label="random directions")
        column[0].set(title=title[width], ylim=(0, 1.02))
        column[2].axhline(active, color="black", linewidth=0.6, label="active features")
        column[-1].set(xlabel="samples seen, thousands", xlim=(0, None))
        column[-1].xaxis.set_major_formatter(lambda x, _: f"{x / 1000:g}")
    handles = {x: h for a in axes[[0, 2], 0] for h, x in zip(*a.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=3)
    return figure


def maps(truth: np.ndarray, groups: np.ndarray, rows: Mapping[str, np.ndarray], seed: int) -> Figure:
    """The true rows (features, d), and those of `rows` by title: above on the first two principal axes of the truth,
    below on one UMAP of all of them.

    A colour a group. Rows are scaled to norm 1; features without a latent are NaN, and missing in their panel.
    """
    _, _, axes_of_truth = np.linalg.svd(truth - truth.mean(axis=0), full_matrices=False)
    unit = {name: x / np.linalg.norm(x, axis=1, keepdims=True) for name, x in {"truth": truth, **rows}.items()}
    linear = [(side - truth.mean(axis=0)) @ axes_of_truth[:2].T for side in unit.values()]
    every = np.vstack(list(unit.values()))
    known, curved = ~np.isnan(every[:, 0]), np.full((len(every), 2), np.nan)
    curved[known] = mapper.embedded(every[known], seed)
    figure, axes = plt.subplots(2, len(unit), figsize=(1.5 * len(unit), 3.4), sharex="row", sharey="row")
    for row, places in zip(axes, (linear, np.split(curved, len(unit))), strict=True):
        for axis, name, at in zip(row, unit, places, strict=True):
            axis.scatter(*at.T, c=groups, cmap="tab20", s=7, linewidths=0)
            axis.set(title=name if row is axes[0] else "", xticks=[], yticks=[], aspect="equal")
    axes[0, 0].set_ylabel("principal axes")
    axes[1, 0].set_ylabel("UMAP")
    return figure


def relations(final: pd.DataFrame, along: pd.DataFrame, label: Mapping[str, str]) -> Figure:
    """Left: the excess of every measure by kind, one point an SAE, and what random errors of that size leave.

    `final`: kind, measure, excess, blurred. Right: Jaccard of neighbours by MMCS, one point a checkpoint of `along`.
    """
    kinds = list(final.kind.unique())
    color = colors(kinds)
    figure, axes = plt.subplots(1, 2, figsize=(6.3, 2.8), width_ratios=[1.3, 1])
    for place, name in enumerate(label):
        for step, kind in enumerate(kinds):
            part = final[(final.measure == name) & (final.kind == kind)]
            at = np.full(len(part), place + (step - (len(kinds) - 1) / 2) * 0.18)
            axes[0].scatter(at, part.excess, s=12, color=color[kind], label=kind if place == 0 else None)
            axes[0].hlines(part.blurred.mean(), at[0] - 0.07, at[0] + 0.07, color="black", linewidth=1)
    axes[0].plot([], [], color="black", linewidth=1, label="random errors")
    axes[0].set_xticks(range(len(label)), list(label.values()))
    axes[0].set(ylabel="excess", ylim=(0, 1.02))
    for kind in kinds:
        part = along[along.kind == kind]
        axes[1].scatter(part.mmcs, part.jaccard, s=6, color=color[kind], alpha=0.7, linewidths=0)
    axes[1].set(xlabel="MMCS to truth", ylabel="Jaccard kNN, excess")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(kinds) + 1)
    return figure


def origins(found: Mapping[str, np.ndarray], chance: Mapping[str, np.ndarray]) -> Figure:
    """Cosines of wide latents with their nearest narrow latent, and those of random directions, by title."""
    figure, axes = plt.subplots(1, len(found), figsize=(2.8 * len(found), 2.2), sharey=True, squeeze=False)
    bins = np.linspace(0, 1, 41)
    for axis, (title, cosine) in zip(axes[0], found.items(), strict=True):
        for values, color, name in ((cosine, report.PAIRED, "wide latents"), (chance[title], report.NULL, "random")):
            axis.hist(values, bins, weights=np.full(len(values), 100 / len(values)), color=color, alpha=0.7, label=name)
        axis.set(title=title, xlabel="cosine with the nearest narrow latent")
    axes[0, 0].set_ylabel("% of latents")
    axes[0, -1].legend()
    return figure
