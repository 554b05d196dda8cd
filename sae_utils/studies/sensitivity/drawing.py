"""The figures and tables of notebook `sensitivity`.

In: specifications with their values over replicates; curves of shares; partners judged on topics. Out: frames, figures.
Never: a score; a file.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from sae_utils import inference, report
from sae_utils.inference import Replicated
from sae_utils.studies.sensitivity import readings
from sae_utils.studies.sensitivity.choices import Difference, Specification

FORMATS = {"pairs": "{:.0f}", "p": "{:.3f}", **dict.fromkeys(["true", "D", "low", "high"], "{:.2f}")}
FEW = "too few"  # pairs for a score


def table(found: Mapping[Specification, Sequence[Difference]], d: float) -> pd.DataFrame:
    """A row a specification: mean pairs, replicates, excess of the true arm, D with its interval, p and the verdict."""
    rows = []
    for specification, of in found.items():
        difference = inference.over_replicates([x.value for x in of])
        low, high, n = difference.low, difference.high, difference.n
        row = {"choice": specification.label, "pairs": np.mean([x.n for x in of]), "replicates": n}
        row |= {"true": inference.over_replicates([x.true for x in of]).estimate, "D": difference.estimate}
        verdict = inference.verdict(low, high, d) if n else FEW
        rows.append(row | {"low": low, "high": high, "p": difference.p, "verdict": verdict})
    return pd.DataFrame(rows)


def curve(rows: pd.DataFrame, d: float) -> Figure:
    """D with its interval, a row a specification, the first as a band; beside it pairs of an arm and verdicts."""
    figure, axis = plt.subplots(figsize=(6.2, 0.9 + 0.19 * len(rows)))
    beside: dict[str, Any] = {"transform": axis.get_yaxis_transform(), "va": "center"}
    axis.axvspan(rows["low"].iloc[0], rows["high"].iloc[0], color=report.PAIRED, alpha=0.12, linewidth=0)
    axis.axvline(0, color=report.NULL, linewidth=0.6)
    axis.axvline(d, color="black", linewidth=0.8, linestyle="--")
    axis.text(d, -1, f" d = {d:g}", va="center")
    for y, row in enumerate(rows.itertuples()):
        color = "black" if y else report.PAIRED
        axis.hlines(y, row.low, row.high, color=color, linewidth=1)
        axis.plot(row.D, y, "o" if y else "D", color=color, markersize=3.5)
        axis.text(1.09, y, f"{row.pairs:.0f}", ha="right", **beside)
        axis.text(1.12, y, row.verdict, **beside)
    axis.text(1.09, -1, "pairs", ha="right", fontweight="bold", **beside)
    axis.text(1.12, -1, "above d?", fontweight="bold", **beside)
    axis.set_yticks(range(len(rows)), rows.choice)
    axis.set(ylim=(len(rows) - 0.4, -1.5), xlabel="D: excess of the true arm less that of the control arm")
    return figure


def shares(
    thresholds: NDArray[np.float64], planted: Mapping[float, NDArray[np.float64]], truth: float,
    curves: Sequence[Sequence[Sequence[Replicated]]],
) -> Figure:  # fmt: skip
    """Shares with a counterpart by threshold: in planted worlds by their noise, of all live and of content features."""
    figure, axes = plt.subplots(1, 3, figsize=(6.6, 2.8), sharey=True)
    for (noise, of_noise), line in zip(planted.items(), _lines(len(planted)), strict=True):
        axes[0].plot(thresholds, of_noise, color="black", linestyle=line, label=f"noise {noise:.2f}")
    axes[0].axhline(truth, color=report.NULL, linewidth=0.8)
    axes[0].text(thresholds[-1], truth, "the truth", ha="right", va="bottom", color=report.NULL)
    for axis, of_features in zip(axes[1:], curves, strict=True):
        for of_arm, color, arm in zip(
            of_features, (report.PAIRED, report.COLORS[1], report.NULL), readings.SHARES, strict=True
        ):
            mean, low, high = ([getattr(x, end) for x in of_arm] for end in ("estimate", "low", "high"))
            axis.fill_between(thresholds, low, high, color=color, alpha=0.25, linewidth=0)
            axis.plot(thresholds, mean, color=color, label=arm)
    for axis, title in zip(axes, ("planted worlds", "all live features", "content features"), strict=True):
        axis.set(xlabel="threshold of held-out r", title=title, ylim=(-0.02, 1.02))
    axes[0].set(ylabel="share with a counterpart")
    axes[0].legend(loc="upper right")
    figure.legend(*axes[1].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def _lines(n: int) -> list[Any]:
    """Styles of n lines, the first of which is solid."""
    return [(0, (length, 1.5)) if length else "-" for length in np.linspace(0, 4, n)]


def topics(values: NDArray[np.float64]) -> tuple[pd.DataFrame, list[list[Replicated]]]:
    """A row for the same topics, for other topics, and for their difference; and its r and share over replicates.

    `values` (replicates, 2, 2): of the same and of other topics the mean r and the share with a counterpart.
    """
    of = [values[:, 0], values[:, 1], values[:, 0] - values[:, 1]]
    found = [[inference.over_replicates(x) for x in part.T] for part in of]
    rows = []
    for name, (r, share) in zip(("the same topics", "other topics", "difference"), found, strict=True):
        row: dict[str, float | str] = {"judged on": name, "r": r.estimate, "r low": r.low, "r high": r.high}
        rows.append(row | {"share": share.estimate, "share low": share.low, "share high": share.high})
    return pd.DataFrame(rows), found
