"""Figures of the notebooks on planted truths.

In: worlds, frames of scores by n, rates with their intervals, differences over repeats. Out: matplotlib figures.
Never: a score, a saved file.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy import stats

from sae_utils import report
from sae_utils.inference import LEVEL, Replicated, verdict
from sae_utils.studies.known_truth.calibration import Rate
from sae_utils.studies.known_truth.synthetic import World

NAMED = ("unrelated", "noisy copy", "rotated copy", "clustered copy", "one direction")  # one color in all figures
WORDS = {"yes": report.PAIRED, "undetermined": report.NULL, "no": report.COLORS[1]}  # verdict -> color
BEYOND = (-0.15, 1.05)  # limits of an axis of scores, so that no marker is cut


def colors(names: Iterable[str]) -> dict[str, str]:
    """The color of every truth by name; those of `NAMED` have the same in every figure."""
    return dict(zip(dict.fromkeys([*NAMED, *names]), cycle(report.COLORS), strict=False))


def worlds(planted: Mapping[str, World], n: int, d_a: int, d_b: int, seed: int) -> Figure:
    """Correlations between the first `n` rows of each side: one column a world, side A above side B."""
    figure, axes = plt.subplots(2, len(planted), figsize=(1.5 * len(planted), 3.1), squeeze=False)
    for column, (name, world) in zip(axes.T, planted.items(), strict=True):
        sides = world.draw(np.random.default_rng(seed), n, d_a, d_b)[:2]
        for axis, side, rows in zip(column, "AB", sides, strict=True):
            drawn = axis.imshow(np.corrcoef(rows), cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest")
            axis.set(xticks=[], yticks=[], title=name if side == "A" else "")
            if name == next(iter(planted)):
                axis.set_ylabel(f"rows of side {side}")
    figure.colorbar(drawn, ax=axes, label="correlation of two rows", shrink=0.8)
    return figure


def by_n(grid: pd.DataFrame, quantity: str, label: Mapping[str, str]) -> Figure:
    """`raw` or `excess` by n: a panel a measure, a color a truth, a line style a pair of widths."""
    names, widths = grid.measure.unique(), grid.d.unique()
    styles = dict(zip(widths, cycle(["-o", ":", "--", "-."]), strict=False))
    color = colors(grid.truth.unique())
    rows = -(-(len(names) + 1) // 4)  # of four panels; one is the legend
    figure, axes = plt.subplots(rows, 4, figsize=(6.5, 1.8 * rows), sharex=True, sharey=True, squeeze=False)
    for axis, name in zip(axes.flat, names, strict=False):
        for (truth, d), x in grid[grid.measure == name].groupby(["truth", "d"], sort=False):
            shown = truth if d == widths[0] else None
            axis.plot(x.n, x[quantity], styles[d], color=color[truth], markersize=2.5, linewidth=1, label=shown)
        ticks = sorted(grid.n.unique())[::2]
        axis.set(title=label[name], xscale="log", ylim=BEYOND)
        axis.set_xticks(ticks, [f"{x:,}" for x in ticks])
        axis.minorticks_off()
    for axis in axes.flat[len(names) :]:
        axis.axis("off")
    axes.flat[len(names)].legend(*axes.flat[0].get_legend_handles_labels(), loc="center")
    figure.supxlabel("n pairs", fontsize=8)
    figure.supylabel({"raw": "raw score", "excess": "excess"}[quantity], fontsize=8)
    return figure


def published(null_means: pd.DataFrame, planted: Mapping[str, pd.Series]) -> Figure:
    """Published null means by n, beside the law of one component and `planted` null means by label, each by n."""
    figure, axes = plt.subplots(figsize=(6.5, 2.7))
    n = np.geomspace(null_means.n.min(), null_means.n.max(), 100)
    low, high = (stats.halfnorm.ppf(q) / n**0.5 for q in (0.025, 0.975))
    axes.fill_between(n, low, high, color=report.NULL, alpha=0.3, linewidth=0, label="95% of one shuffle")
    axes.plot(n, np.sqrt(2 / np.pi / n), color="black", linewidth=1, label=r"one component, $\sqrt{2/(\pi n)}$")
    for (name, mean), style in zip(planted.items(), cycle(["k+", "k--x"]), strict=False):
        axes.plot(mean.index, mean, style, linewidth=1, label=f"planted, {name}")
    for (of, x), marker in zip(null_means.groupby("set", sort=False), cycle("o^sDv"), strict=False):
        axes.scatter(x.n, x["null mean"], s=8, marker=marker, linewidths=0, label=str(of))
    axes.set(xscale="log", yscale="log", ylim=(3e-4, 1.5), xlabel="n pairs", ylabel="null mean")
    figure.legend(loc="outside right center", fontsize=7, labelspacing=0.9)
    return figure


def tests(rates: Mapping[tuple[str, str], Rate], label: Mapping[str, str]) -> Figure:
    """Left: the level of the test of every measure with its interval; right: the share of each truth that it finds.

    `rates`: (truth, measure) -> rate; the truth "unrelated" has the level.
    """
    names = list(dict.fromkeys(name for _, name in rates))
    truths = [truth for truth in dict.fromkeys(truth for truth, _ in rates) if truth != "unrelated"]
    shown, color = [label[name] for name in names], colors(truths)
    figure, axes = plt.subplots(1, 2, figsize=(6.0, 1.1 + 0.2 * len(names)), sharey=True, width_ratios=[1, 1.6])
    level = np.array([rates["unrelated", name] for name in names]) * 100
    axes[0].hlines(shown, level[:, 1], level[:, 2], color=report.NULL, linewidth=4)
    axes[0].scatter(level[:, 0], shown, s=16, color=report.PAIRED, zorder=2)
    axes[0].axvline(100 * LEVEL, color="black", linewidth=0.6)
    axes[0].set(xlabel="% rejected, unrelated", xlim=(-1, None))
    for truth, marker in zip(truths, cycle("osDv^P"), strict=False):
        share = [100 * rates[truth, name].share for name in names]
        axes[1].scatter(share, shown, s=20, marker=marker, color=color[truth], label=truth)
    axes[1].set(xlabel="% rejected, something is shared", xlim=(-3, 103))
    axes[0].invert_yaxis()
    figure.legend(*axes[1].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def nulls(naive: Mapping[str, Rate], right: Mapping[str, Rate]) -> Figure:
    """The share of unrelated data sets that is rejected by the naive and by the right null, by name of the test."""
    figure, axes = plt.subplots(figsize=(5.0, 1.0 + 0.22 * len(naive)))
    rows = list(naive)
    for found, color, shown in ((naive, report.NULL, "pairs shuffled"), (right, report.PAIRED, "the null that fits")):
        percent = 100 * np.array(list(found.values())).reshape(-1, 3)
        axes.hlines(rows, percent[:, 1], percent[:, 2], color=color, linewidth=3)
        axes.scatter(percent[:, 0], rows, s=18, color=color, label=shown, zorder=2)
    axes.axvline(100 * LEVEL, color="black", linewidth=0.6)
    axes.set(xlabel="% of unrelated data sets rejected", xlim=(-2, 103))
    axes.invert_yaxis()
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def intervals(found: Mapping[float, Sequence[Replicated]], d: float) -> Figure:
    """The intervals of all repeats, sorted by their estimates: a panel a planted share, a color a verdict."""
    figure, axes = plt.subplots(1, len(found), figsize=(1.1 + 1.1 * len(found), 2.6), sharex=True, squeeze=False)
    for axis, (share, repeats) in zip(axes.flat, found.items(), strict=True):
        for row, x in enumerate(sorted(repeats)):
            color = WORDS[verdict(x.low, x.high, d)]
            axis.plot([x.low, x.high], [row, row], color=color, linewidth=1)
            axis.plot(x.estimate, row, ".", color=color, markersize=3)
        axis.axvline(d, color="black", linewidth=0.6)
        axis.set(title=f"{100 * share:g}% copies", yticks=[])
    for word, color in WORDS.items():
        axes.flat[0].plot([], [], color=color, label=word)
    figure.supxlabel("difference between the arms, 95% interval", fontsize=8)
    figure.legend(*axes.flat[0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return figure


def verdicts(said: pd.DataFrame, expected: pd.DataFrame, wanted: float) -> Figure:
    """The share of every verdict by planted share: `said` as lines, `expected` dotted, `wanted` as a horizontal."""
    figure, axes = plt.subplots(figsize=(5.0, 2.6))
    for (word, color), marker in zip(WORDS.items(), "osD", strict=True):
        axes.plot(said.index, 100 * said[word], marker=marker, markersize=4, linewidth=1, color=color, label=word)
        axes.plot(expected.index, 100 * expected[word], linestyle=":", linewidth=1, color=color)
    axes.axhline(100 * wanted, color="black", linewidth=0.6)
    axes.set(xlabel="planted share of pairs that are copies", ylabel="% of repeats", ylim=(-3, 103))
    figure.legend(loc="outside lower center", ncols=3)
    return figure
