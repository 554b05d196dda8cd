"""Figures of notebooks 10, 10b and 10c.

In: planes of items, frames with one row a replicate, graphs, similarities. Out: matplotlib figures.
Never: a score, a saved file.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from sae_utils import inference, report
from sae_utils.studies.geometry.circles import Plane
from sae_utils.studies.geometry.mapper import Graph
from sae_utils.studies.geometry.paired import CONTROL, TRUE

MOST_WRITTEN = 14  # words of a concept that have room for their letters


def planes(found: Mapping[str, Mapping[str, Plane]], words: Mapping[str, Sequence[str]], letters: int = 3) -> Figure:
    """The best plane of every concept (columns) in every model (rows), its items joined in calendar order.

    `found`: model -> concept -> plane. `words`: of every concept, of which the first `letters` are written where there
    are at most `MOST_WRITTEN`. Colours go around with the calendar.
    """
    models, concepts = list(found), list(words)
    figure, axes = plt.subplots(
        len(models), len(concepts), figsize=(2.3 * len(concepts), 2.2 * len(models)), squeeze=False
    )
    for row, model in zip(axes, models, strict=True):
        for axis, concept in zip(row, concepts, strict=True):
            plane = found[model][concept]
            points = plane.points
            around = np.append(points, points[0])
            axis.plot(around.real, around.imag, color=report.NULL, linewidth=0.7, zorder=0)
            hue = plt.get_cmap("twilight")(np.arange(len(points)) / len(points))
            axis.scatter(points.real, points.imag, c=hue, s=16, edgecolors="black", linewidths=0.4)
            for word, point in zip(words[concept], points, strict=True) if len(points) <= MOST_WRITTEN else ():
                axis.annotate(word[:letters], (point.real, point.imag), (2, 2), textcoords="offset points", fontsize=5)
            i, j = (number + 1 for number in plane.components)
            axis.set(title=f"{concept}, {model}: {plane.agreement:.2f}", xticks=[], yticks=[], aspect="equal")
            axis.plot(0, 0, "+", color=report.NULL, markersize=6)
            half = 0.6 * max(np.ptp(points.real), np.ptp(points.imag))
            x, y = ((of.min() + of.max()) / 2 for of in (points.real, points.imag))
            axis.set(
                xlabel=f"component {i}", ylabel=f"component {j}", xlim=(x - half, x + half), ylim=(y - half, y + half)
            )
    return figure


def replicated(frame: pd.DataFrame, rows: str, columns: Mapping[str, str], thresholds: Mapping[str, float]) -> Figure:
    """One panel a column of the frame: a row for every value of `rows`, a dot a replicate, mean and 95% interval.

    `columns`: name -> title; `thresholds`: name -> the d that is drawn as a dashed line, where it has one.
    """
    names = list(dict.fromkeys(frame[rows]))
    figure, axes = plt.subplots(
        1, len(columns), sharey=True, squeeze=False, figsize=(max(2.1 * len(columns), 4.2), 0.8 + 0.3 * len(names))
    )
    for axis, (column, title) in zip(axes[0], columns.items(), strict=True):
        for place, name in enumerate(names):
            _spread(axis, place, frame[frame[rows] == name][column].to_numpy(float))
        axis.axvline(0, color="0.8", linewidth=0.8, zorder=0)
        if column in thresholds:
            axis.axvline(thresholds[column], color="black", linestyle="--", linewidth=0.8)
        axis.set(title=title, ylim=(len(names) - 0.5, -0.5))
        axis.locator_params(axis="x", nbins=4)
    axes[0, 0].set_yticks(range(len(names)), names)
    return figure


def _spread(
    axis: Any, place: float, values: NDArray[np.float64], color: str = report.PAIRED, interval: bool = True
) -> None:
    values = values[~np.isnan(values)]
    axis.scatter(values, np.full(len(values), place), s=10, color=color, alpha=0.45, linewidths=0)
    if len(values) > 2:
        found = inference.over_replicates(values)
        if interval:
            axis.plot([found.low, found.high], [place + 0.22] * 2, color="black", linewidth=1)
        axis.plot(found.estimate, place + 0.22, "o", color="black", markersize=3)


def arms(frame: pd.DataFrame, panels: Mapping[str, str], colors: Mapping[str, str]) -> Figure:
    """One panel a kind of distance: a dot a replicate in every arm, with its mean and interval.

    `frame`: arm and the columns of `panels` (name -> title). `colors`: arm -> color, from above. Pairs of
    SAE seeds share SAEs, so that they have a mean and no interval.
    """
    figure, axes = plt.subplots(
        1, len(panels), sharey=True, figsize=(max(1.6 * len(panels), 4.2), 0.8 + 0.4 * len(colors))
    )
    for axis, (column, title) in zip(np.atleast_1d(axes), panels.items(), strict=True):
        for place, (arm, color) in enumerate(colors.items()):
            _spread(
                axis, place, frame[frame.arm == arm][column].to_numpy(float), color, interval=arm in (TRUE, CONTROL)
            )
        axis.set(title=title, ylim=(len(colors) - 0.3, -0.5))
        axis.locator_params(axis="x", nbins=4)
    np.atleast_1d(axes)[0].set_yticks(range(len(colors)), list(colors))
    return figure


def graphs(found: Mapping[str, Mapping[str, Graph]], shade: Mapping[str, Mapping[str, NDArray[np.float64]]]) -> Figure:
    """Mapper graphs: a row for every side of `found`, a column for every lens; a node is as large as its members.

    `shade`: kind of unit, with which the name of a side ends -> lens -> (n,) a number of every pair, whose mean over
    its members colours a node.
    """
    sides, lenses = list(found), list(next(iter(found.values())))
    figure, axes = plt.subplots(len(sides), len(lenses), figsize=(2.2 * len(lenses), 1.75 * len(sides)), squeeze=False)
    for row, side in zip(axes, sides, strict=True):
        of = next(values for kind, values in shade.items() if side.endswith(kind))
        for axis, lens in zip(row, lenses, strict=True):
            _graph(axis, found[side][lens], of[lens])
            shown = f"nodes {len(found[side][lens].members)}, pieces {found[side][lens].pieces}"
            axis.set(title=f"{side}, {lens}\n{shown}", xticks=[], yticks=[])
    return figure


def _graph(axis: Any, graph: Graph, shade: NDArray[np.float64]) -> None:
    import networkx

    made = networkx.Graph()
    made.add_nodes_from(range(len(graph.members)))
    made.add_edges_from(graph.edges.tolist())
    place = networkx.kamada_kawai_layout(made) if graph.pieces == 1 else networkx.spring_layout(made, seed=0, k=0.25)
    at = np.array([place[node] for node in made])
    for i, j in graph.edges:
        axis.plot(*at[[i, j]].T, color=report.NULL, linewidth=0.5, zorder=0)
    size = np.array([len(members) for members in graph.members])
    value = [shade[list(members)].mean() for members in graph.members]
    limits = np.quantile(shade, [0.05, 0.95])
    axis.scatter(*at.T, s=4 + 60 * size / size.max(), c=value, cmap="viridis", vmin=limits[0], vmax=limits[1])


def matrices(
    found: Mapping[str, Mapping[str, NDArray[np.float64]]], order: NDArray[np.int64], borders: Sequence[int]
) -> Figure:
    """Similarities of features, a row a kind and a column a model, all in one order, with lines between A's families.

    `found`: kind -> model -> (n, n) similarities; the colours of a row have one scale.
    """
    columns = list(next(iter(found.values())))
    figure, axes = plt.subplots(
        len(found), len(columns), figsize=(2.0 * len(columns) + 0.5, 2.1 * len(found)), squeeze=False
    )
    for row, (kind, of) in zip(axes, found.items(), strict=True):
        top = np.nanquantile(np.abs(np.stack(list(of.values()))), 0.98)
        for axis, model in zip(row, columns, strict=True):
            shown = of[model][np.ix_(order, order)]
            image = axis.imshow(shown, cmap="RdBu_r", vmin=-top, vmax=top, interpolation="nearest")
            for line in (axis.axhline, axis.axvline):
                for border in borders:
                    line(border - 0.5, color="black", linewidth=0.3)
            axis.set(title=f"{kind}, {model}", xticks=[], yticks=[])
        figure.colorbar(image, ax=row, shrink=0.8, aspect=20)
    return figure


def barcodes(found: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]], most: int = 12) -> Figure:
    """Points of planted shapes on two principal axes, and below their longest bars: pieces grey, loops blue.

    `found`: title -> (n, d) points, and (bars, 3) dimension, birth, death.
    """
    figure, axes = plt.subplots(2, len(found), figsize=(1.6 * len(found), 2.8), squeeze=False)
    for column, (title, (points, bars)) in zip(axes.T, found.items(), strict=True):
        centre = points - points.mean(axis=0)
        column[0].scatter(*(centre @ np.linalg.svd(centre, full_matrices=False)[2][:2].T).T, s=4, color="black")
        column[0].set(title=title, xticks=[], yticks=[], aspect="equal")
        place = 0
        for dimension, color in ((0, report.NULL), (1, report.PAIRED)):
            of = bars[bars[:, 0] == dimension]
            for _, birth, death in of[np.argsort(of[:, 1] - of[:, 2])][:most]:
                column[1].plot([birth, death], [place, place], color=color, linewidth=1.5)
                place += 1
        column[1].set(xlabel="distance", yticks=[], xlim=(0, None))
    axes[1, 0].set_ylabel("pieces, loops")
    return figure
