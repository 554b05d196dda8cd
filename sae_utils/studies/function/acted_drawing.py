"""The tables and the figure of notebook 08c.

In: what `acted.of_replicate` found, by replicate. Out: tables of means with intervals over replicates; a figure.
Never: a measurement.
"""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from sae_utils import inference, report
from sae_utils.inference import Replicated
from sae_utils.studies.function import measured, strata
from sae_utils.studies.function.acted import Found
from sae_utils.studies.function.effects import KINDS
from sae_utils.studies.function.paired import CONTROL, TRUE

NULLS = (strata.FREE, *measured.STRATA)
EDGES = np.linspace(0, 1, 6)  # of bins of held-out r; lower ones are in the first
SCORES = {
    "n": "n", "r": "r", "alike": "alike", "shuffled": "any partner", "excess": "excess", "ceiling": "ceiling",
    "of ceiling": "share of ceiling", "with r": "Spearman with r", "weighted alike": "alike, weighted",
    "weighted ceiling": "ceiling, weighted",
}  # fmt: skip
FORMS = dict.fromkeys(SCORES.values(), "{:.2f}") | {"n": "{:.0f}"}


def by_replicate(found: Mapping[tuple[str, ...], Found], name: str) -> np.ndarray:
    """(replicates,) one number; NaN where a replicate lacks it."""
    return np.array([x.numbers.get(name, np.nan) for x in found.values()])


def mean(found: Mapping[tuple[str, ...], Found], name: str) -> Replicated:
    """One number over replicates, with its interval where there are three or more."""
    return inference.over_replicates(by_replicate(found, name))


def difference(found: Mapping[tuple[str, ...], Found], kind: str) -> Replicated:
    """D over replicates: the excess of the true arm less that of the control."""
    true, control = (by_replicate(found, f"{kind}, {arm}, excess") for arm in (TRUE, CONTROL))
    return inference.over_replicates(true - control)


def scores(found: Mapping[tuple[str, ...], Found], arms: Mapping[str, str]) -> pd.DataFrame:
    """One row a kind of acting and arm, means over replicates; `arms`: arm -> its label."""
    first = next(iter(found.values())).numbers
    rows = [
        {"acting": kind, "arm": label}
        | {shown: mean(found, f"{kind}, {arm}, {key}").estimate for key, shown in SCORES.items()}
        for kind in KINDS
        for arm, label in arms.items()
        if f"{kind}, {arm}, n" in first
    ]
    return pd.DataFrame(rows)


def against(found: Mapping[tuple[str, ...], Found]) -> pd.DataFrame:
    """One row a kind of acting and null: the mean likeness with exchanged partners, the excess, the movable share."""
    first, rows = next(iter(found.values())).numbers, []
    for kind in KINDS:
        for name in (x for x in NULLS if f"{kind}, {x}, null" in first):
            null, excess, movable = (mean(found, f"{kind}, {name}, {x}") for x in ("null", "excess", "movable"))
            rows.append({"acting": kind, "partners from": name, "own": mean(found, f"{kind}, {TRUE}, alike").estimate,
                         "others": null.estimate, "excess": excess.estimate, "low": excess.low, "high": excess.high,
                         "movable": movable.estimate})  # fmt: skip
        own, other, movable = (mean(found, f"{kind}, equal r, {x}") for x in ("own", "other", "movable"))
        each = [by_replicate(found, f"{kind}, equal r, {x}") for x in ("own", "other")]
        gap = inference.over_replicates((each[0] - each[1]) / (1 - each[1]))
        rows.append({"acting": kind, "partners from": "pairs of equal r, another concept", "own": own.estimate,
                     "others": other.estimate, "excess": gap.estimate, "low": gap.low, "high": gap.high,
                     "movable": movable.estimate})  # fmt: skip
    return pd.DataFrame(rows)


def along(found: Mapping[tuple[str, ...], Found]) -> pd.DataFrame:
    """Means by replicate, kind, arm and bin of held-out r: alike, shuffled, reliable, and n."""
    frames = [x.pairs.assign(replicate=number) for number, x in enumerate(found.values())]
    pairs = pd.concat(frames).dropna(subset=["r", "alike"])
    place = np.clip(np.searchsorted(EDGES, pairs.r, side="right") - 1, 0, len(EDGES) - 2)
    pairs["bin"] = (EDGES[place] + EDGES[place + 1]) / 2
    columns = {name: (name, "mean") for name in ("alike", "shuffled", "reliable")} | {"n": ("r", "size")}
    return pairs.groupby(["replicate", "kind", "arm", "bin"]).agg(**columns).reset_index()


def figure(found: Mapping[tuple[str, ...], Found], arms: Mapping[str, str], least: int = 5) -> Figure:
    """Likeness of effects by held-out r, a panel a kind of acting; the loss that partners recover.

    A bin is drawn for a replicate with `least` pairs in it, and where two replicates have that, or there is only one.
    """
    frame = along(found)
    frame = frame[frame.n >= least]
    frame = frame[frame.groupby(["kind", "arm", "bin"]).replicate.transform("size") >= min(2, len(found))]
    made, axes = plt.subplots(1, 3, figsize=(7.5, 2.9), width_ratios=[3, 3, 2])
    for axis, kind in zip(axes, KINDS, strict=False):
        of = frame[frame.kind == kind]
        true = of[of.arm == TRUE]
        report.band(axis, true, "bin", "alike", color=report.PAIRED, marker="o", label=arms[TRUE])
        report.band(axis, true, "bin", "shuffled", color=report.NULL, marker="s", label="any partner")
        report.band(axis, true, "bin", "reliable", color="black", linestyle="--", label="two halves of one model")
        if CONTROL in arms and (of.arm == CONTROL).any():
            style = {"color": report.COLORS[1], "marker": "^", "label": arms[CONTROL]}
            report.band(axis, of[of.arm == CONTROL], "bin", "alike", **style)
        axis.axhline(0, color="0.8", linewidth=0.6, zorder=0)
        axis.set(title=f"features {kind}", xlabel="held-out r of the pair", ylim=(-0.25, 1.05), xlim=(0, 1))
    axes[0].set_ylabel("correlation of effects")
    _recovered(axes[2], found)
    made.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return made


def _recovered(axis: plt.Axes, found: Mapping[tuple[str, ...], Found]) -> None:
    """A dot a replicate, a line their mean: the loss recovered by own and by other partners."""
    for place, (name, color) in enumerate((("own", report.PAIRED), ("other", report.NULL))):
        values = by_replicate(found, f"substituted, recovered, {name}")
        axis.plot(np.full(len(values), place), values, "o", color=color, alpha=0.6, markersize=3)
        axis.plot(place, np.nanmean(values), "_", color=color, markersize=24)
    for level in (0, 1):
        axis.axhline(level, color="0.8", linewidth=0.6, zorder=0)
    axis.set_xticks([0, 1], ["partner", "another's"])
    axis.set(title="substitution", ylabel="loss recovered", xlim=(-0.6, 1.6))
