"""The figures of the ladder: over replicates with the control, and on planted pairs.

In: the rungs of `arms` and of `planted`, the draws of `false_positives`. Out: figures, one row a step.
Never: a number that the tables lack.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from sae_utils import report
from sae_utils.inference import LEVEL, over_replicates
from sae_utils.studies.known_truth import calibration
from sae_utils.studies.published_tables import arms, ladder
from sae_utils.studies.published_tables.false_positives import Draws
from sae_utils.studies.published_tables.ladder import FIRST, RSA, STEPS, SVCCA, Rung

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PLACE = np.arange(len(STEPS))
ORANGE = report.COLORS[1]
MARKS = {FIRST: ("o", report.PAIRED, -0.18), SVCCA: ("D", report.PAIRED, -0.18), RSA: ("s", ORANGE, 0.18)}
NAMES = {FIRST: "SVCCA as published", SVCCA: "SVCCA, 99% of variance", RSA: "RSA"}


def climbed(found: pd.DataFrame, d: float) -> "Figure":
    """Scores of both arms, the gap of their excess and the largest hub, by step: means with 95% intervals."""
    figure, axes = _panels([arms.TRUE, arms.CONTROL, "gap of excess", "largest hub"], (6.3, 3.6))
    for score in arms.SCORES:
        gaps = arms.gaps(found, score)
        for number, (step, procedure) in enumerate(ladder.LADDER.items()):
            measure = RSA if score == "RSA" else procedure.svcca
            shown = [*arms.means(found, step, score).values(), gaps[step]]
            for axis, x in zip(axes, shown, strict=False):
                _interval(axis, x, number, *MARKS[measure])
    for arm, marker, shift in ((arms.TRUE, "^", -0.18), (arms.CONTROL, "v", 0.18)):
        part = found[(found.arm == arm) & (found.score == "RSA")]
        for number, step in enumerate(STEPS):
            x = over_replicates(part.hub[part.step == step].to_numpy(float))
            _interval(axes[3], x, number, marker, report.COLORS[2 if arm == arms.TRUE else 4], shift)
        axes[3].scatter([], [], s=16, marker=marker, c=report.COLORS[2 if arm == arms.TRUE else 4], label=f"hub, {arm}")
    axes[2].axvspan(-d, d, color=report.NULL, alpha=0.3, linewidth=0, label="less than d")
    counts = found[found.score == "RSA"].groupby(["arm", "step"]).n.mean()
    for axis, arm in zip(axes[:2], (arms.TRUE, arms.CONTROL), strict=True):
        _column(axis, 1.2, "n", [f"{counts[arm, step]:,.0f}" for step in STEPS])
    _same_limits(axes[:2])
    axes[0].set_xlabel("similarity (from 8 on: excess)", loc="left")
    axes[2].set_xlabel("A and B less control")
    axes[3].set(xlabel="features of B", xlim=(-0.04 * axes[3].get_xlim()[1], None))
    _legend(figure, axes[0], 4)
    return figure


def planted(ladders: Mapping[str, Sequence[Rung]], true: Mapping[str, Mapping[str, float]]) -> "Figure":
    """Scores of planted pairs by step, beside 95% of their shuffled pairings; n, and the share of planted partners."""
    figure, axes = _panels([f"planted: {name}" for name in ladders], (6.3, 3.6))
    for axis, (name, rungs) in zip(axes, ladders.items(), strict=True):
        for measure, (marker, colour, shift) in MARKS.items():
            at = [number for number, x in enumerate(rungs) if measure in x.scores]
            found = [rungs[number].scores[measure] for number in at]
            # rounded: the last bits of a null may differ between runs
            low, high, value = (np.round([getattr(x, part) for x in found], 4) for part in ("low", "high", "value"))
            axis.hlines(PLACE[at] + shift, low, high, color=report.NULL, linewidth=4, alpha=0.6)
            face = [colour if x.p < LEVEL else "w" for x in found]
            axis.scatter(value, PLACE[at] + shift, s=16, marker=marker, c=face, edgecolors=colour, zorder=2)
        _column(axis, 1.16, "n", [f"{len(x.pairs):,}" for x in rungs])
        _column(axis, 1.35, "true", [f"{100 * true[name][step]:.0f}%" for step in STEPS])
        axis.set_xlabel("similarity (from 8 on: excess)")
    _same_limits(axes)
    axes[0].scatter([], [], s=16, c="w", edgecolors="k", label=f"hollow: p not below {LEVEL:g}")
    axes[0].hlines([], 0, 0, color=report.NULL, linewidth=4, alpha=0.6, label="95% of shuffled pairings")
    _legend(figure, axes[0], 3)
    return figure


def rates(found: Mapping[str, Draws], too_often: float) -> "Figure":
    """Percent of draws with p below LEVEL by step, with intervals of 95%: a panel a planted world, a color a score."""
    rows = -(-len(found) // 4)
    figure, axes = _panels(list(found), (6.3, 2.9 * rows), rows)
    for axis, draws in zip(axes, found.values(), strict=False):
        axis.axvline(100 * LEVEL, color="black", linewidth=0.6)
        axis.axvspan(0, 100 * too_often, color=report.NULL, alpha=0.25, linewidth=0)
        for score, (marker, colour, shift) in {"SVCCA": MARKS[SVCCA], "RSA": MARKS[RSA]}.items():
            for step in draws.p[score]:
                below, scored = draws.found(score, step)
                if scored:
                    place, (share, low, high) = STEPS.index(step) + shift, calibration.rate(below, scored, level=0.95)
                    axis.hlines(place, 100 * low, 100 * high, color=colour, linewidth=1.2)
                    axis.scatter(100 * share, place, s=12, marker=marker, c=colour, zorder=2)
            axis.scatter([], [], s=12, marker=marker, c=colour, label=score if axis is axes[0] else None)
        axis.set(xlim=(-4, 104))
    for axis in axes[len(found) :]:
        axis.set_visible(False)
    figure.supxlabel(f"% of draws with p < {LEVEL:g}", fontsize=8)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure


def _panels(titles: Sequence[str], size: tuple[float, float], rows: int = 1) -> tuple["Figure", Sequence[Any]]:
    """Axes side by side in `rows`, one line a step, every other line shaded."""
    import matplotlib.pyplot as plt

    figure, grid = plt.subplots(rows, -(-len(titles) // rows), figsize=size, sharey=True, squeeze=False)
    figure.set_layout_engine("constrained", rect=(0, 0, 0.98, 1))  # a PDF's letters are wider than a PNG's
    for axis, title in zip(grid.flat, titles, strict=False):
        axis.tick_params(left=axis in grid[:, 0])
        axis.axvline(0, color=report.NULL, linewidth=0.5, zorder=0)
        for number in PLACE[1::2]:
            axis.axhspan(number - 0.5, number + 0.5, color="#f2f2f2", zorder=-1, linewidth=0)
        axis.set_title(title)
    grid[0, 0].set_yticks(PLACE, [f"{step}  {number}" for number, step in enumerate(STEPS)])
    grid[0, 0].set_ylim(len(PLACE) - 0.5, -1.2)
    return figure, list(grid.flat)


def _interval(axis: Any, x: Any, number: int, marker: str, colour: str, shift: float) -> None:
    axis.hlines(number + shift, x.low, x.high, color=colour, linewidth=1.2)
    axis.scatter(x.estimate, number + shift, s=16, marker=marker, c=colour, zorder=2)


def _column(axis: Any, x: float, title: str, texts: Sequence[str]) -> None:
    """Texts right of a panel, one a row."""
    for height, text in zip([-0.85, *PLACE], [title, *texts], strict=True):
        axis.text(x, height, text, transform=axis.get_yaxis_transform(), fontsize=7, ha="right", va="center")


def _same_limits(axes: Sequence[Any]) -> None:
    low, high = min(x.get_xlim()[0] for x in axes), max(x.get_xlim()[1] for x in axes)
    for axis in axes:
        axis.set_xlim(low, high)


def _legend(figure: "Figure", axis: Any, columns: int) -> None:
    for measure, (marker, colour, _) in MARKS.items():
        axis.scatter([], [], s=16, marker=marker, c=colour, label=NAMES[measure])
    found = [mark for each in figure.axes for mark in zip(*each.get_legend_handles_labels(), strict=True)]
    figure.legend(*zip(*found, strict=True), loc="outside lower center", ncols=columns, handletextpad=0.3)
