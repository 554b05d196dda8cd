"""The figures of notebook 08_function.

In: rises and transfers by target and replicate. Out: figures.
Never: a score; a file.
"""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from sae_utils import inference, report
from sae_utils.inference import Replicated
from sae_utils.studies.function.transferred import Transfer


def rises(frame: pd.DataFrame, ways: Sequence[str], kinds: Mapping[str, str]) -> Figure:
    """A panel a kind of vector, a row a way: the rise of what should rise, a dot a unit, a bar its mean and interval.

    `frame`: columns `kind`, `way`, `unit`, `rise`. `kinds`: kind -> title.
    """
    figure, axes = plt.subplots(1, len(kinds), sharex=True, sharey=True, figsize=(6.5, 0.7 + 0.27 * len(ways)))
    for axis, (kind, title) in zip(np.atleast_1d(axes), kinds.items(), strict=True):
        for row, way in enumerate(ways):
            values = frame[(frame.kind == kind) & (frame.way == way)].groupby("unit").rise.mean()
            color = report.PAIRED if row < 3 else report.NULL
            axis.plot(values, [row] * len(values), "o", color=color, alpha=0.4, markersize=3, linewidth=0)
            _interval(axis, inference.over_replicates(values), row, color)
        axis.axvline(0, color="0.8", zorder=0)
        axis.set(title=title, xlabel="rise of the log total probability (nats)")
        axis.set_yticks(range(len(ways)), ways)
    np.atleast_1d(axes)[0].invert_yaxis()
    return figure


def transfers(of_targets: Mapping[str, Transfer], whole: Mapping[str, Transfer], d: float | None) -> Figure:
    """Left, a row a target: transfer in both arms, with 95% intervals; nothing where it is undefined.

    Right, a row a way to carry (`whole`): transfer of the true arm less that of the control, and the threshold d.
    """
    figure, axes = plt.subplots(1, 2, figsize=(6.5, 1.0 + 0.2 * max(len(of_targets), len(whole))), width_ratios=[3, 2])
    for axis, of, fields in zip(axes, (of_targets, whole), (("true", "control"), ("difference",)), strict=True):
        for row, found in enumerate(of.values()):
            for shift, field in zip((-0.15, 0.15), fields, strict=False):
                color = report.NULL if field == "control" else report.PAIRED
                _interval(axis, getattr(found, field), row + shift * (len(fields) - 1), color, marker="o")
            if found.undefined:
                axis.text(0, row, " undefined", va="center", color="0.4", fontsize=7)
        axis.axvline(0, color="0.8", zorder=0)
        axis.set_yticks(range(len(of)), list(of))
        axis.invert_yaxis()
    axes[0].axvline(1, color="0.8", zorder=0)
    axes[0].set(xlabel="transfer (blue: true arm, grey: control)", title="by target")
    axes[1].set(xlabel="true arm less control", title="all concepts")
    if d is not None:
        axes[1].axvline(d, color="black", linestyle="--", linewidth=1)
    return figure


def _interval(axis: plt.Axes, found: Replicated, row: float, color: str, marker: str = "|") -> None:
    """The estimate with its 95% interval, where there is one."""
    low, high = (abs(found.estimate - end) for end in (found.low, found.high))
    error = None if np.isnan(low) else [[low], [high]]
    size = 12 if marker == "|" else 4
    axis.errorbar(found.estimate, row, xerr=error, fmt=marker, color=color, markersize=size, linewidth=1.5)
