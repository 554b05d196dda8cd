"""Readings of the share with a counterpart in planted worlds, as tables and a figure.

In: artefacts of `counterparts.repeated` by cell. Out: one frame, tables, a figure, the share of texts whose interval
holds a value.
Never: a text, a correction of a share.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from sae_utils import report
from sae_utils.inference import LEVEL, Interval
from sae_utils.store import Artefact
from sae_utils.studies.known_truth import calibration
from sae_utils.studies.recovery.counterparts import Cell

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def frame(made: Mapping[Cell, Artefact], thresholds: Sequence[float]) -> pd.DataFrame:
    """One row a world and threshold.

    `true`: share that is truly shared; `share`, `sd`: mean and SD over texts of the share with a counterpart; `bias`:
    share less true; `shared`, `private`: mean share among the truly shared and the others; `expected`, `true held`:
    texts whose interval holds the mean share, and the true one.
    """
    rows = []
    for cell, x in made.items():
        true, arrays = x.meta["true"], {name: x.array(name) for name in ("share", "low", "high", "shared", "private")}
        for column, r0 in enumerate(thresholds):
            share, low, high, shared, private = (values[:, column] for values in arrays.values())
            mean = share.mean()
            row = {"world": str(cell), "planted": cell.shared, "noise": cell.noise, "zipf": cell.words, "r0": r0}
            row |= {"true": true, "share": mean, "sd": share.std(ddof=1), "bias": mean - true}
            row |= {"shared": shared.mean(), "private": private.mean()}
            row |= {"expected": _held(low, high, mean), "true held": _held(low, high, true)}
            rows.append(row)
    return pd.DataFrame(rows)


def _held(low: np.ndarray, high: np.ndarray, value: float) -> int:
    return int(np.sum((low <= value) & (value <= high)))


def _by_threshold(found: pd.DataFrame, shown: pd.Series) -> pd.DataFrame:
    """One row a world, one column a threshold, of what is shown in each row of the frame."""
    wide = found.assign(shown=shown).pivot(index="world", columns="r0", values="shown").reindex(found.world.unique())
    wide.columns = [f"r0 = {r0:g}" for r0 in wide]
    true = found.groupby("world", sort=False).true.first()
    return pd.DataFrame({"world": wide.index, "true": true.to_numpy()}).join(wide.reset_index(drop=True))


def bias(found: pd.DataFrame) -> pd.DataFrame:
    """The mean share with a counterpart by world and threshold, beside the true one."""
    return _by_threshold(found, found.share)


def parts(found: pd.DataFrame) -> pd.DataFrame:
    """The same among truly shared latents and among the others: "shared / private"."""
    both = zip(found.shared, found.private, strict=True)
    shown = [f"{_two(shared)} / {_two(private)}" for shared, private in both]
    return _by_threshold(found, pd.Series(shown, found.index))


def coverage(found: pd.DataFrame, repeats: int) -> pd.DataFrame:
    """Percent of texts whose interval holds the expected share, and the true one: "expected / true"."""
    shares = 100 * found[["expected", "true held"]].to_numpy(float) / repeats
    return _by_threshold(found, pd.Series([f"{one:.0f} / {other:.0f}" for one, other in shares], found.index))


def _two(value: float) -> str:
    return "n/a" if math.isnan(value) else f"{value:.2f}"


def forms(thresholds: Sequence[float]) -> dict[str, str]:
    """Formats of the columns of these tables."""
    return dict.fromkeys(["true", *(f"r0 = {r0:g}" for r0 in thresholds)], "{:.2f}")


def covered(found: pd.DataFrame, held: str, repeats: int) -> Interval[float]:
    """The share of texts, over all worlds and thresholds, whose interval holds a value; with its exact interval.

    Texts of one world at several thresholds depend on each other, so that the interval is of the smallest number of
    thresholds, one: as if each world had `repeats` texts.
    """
    share = found[held].sum() / (len(found) * repeats)
    number = repeats * found.world.nunique()
    return calibration.rate(round(share * number), number, level=1 - LEVEL).interval(number)


def drawn(found: pd.DataFrame) -> "Figure":
    """The mean share with a counterpart by the true share: a panel a threshold, a color a noise, a cross for Zipf."""
    import matplotlib.pyplot as plt

    thresholds, levels = found.r0.unique(), found.noise.unique()
    figure, axes = plt.subplots(
        1, len(thresholds), figsize=(0.6 + 2 * len(thresholds), 2.6), sharey=True, squeeze=False
    )
    for axis, r0 in zip(axes.flat, thresholds, strict=True):
        axis.plot([0, 1], [0, 1], color="black", linewidth=0.6)
        for noise, color in zip(levels, report.COLORS, strict=False):
            of_noise = found[(found.r0 == r0) & (found.noise == noise)].sort_values("true")
            planted, zipf = of_noise[~of_noise.zipf], of_noise[of_noise.zipf]
            axis.errorbar(planted.true, planted.share, 2 * planted.sd, color=color, marker="o", markersize=3,
                          linewidth=1, label=f"noise {noise:g}")  # fmt: skip
            axis.errorbar(zipf.true, zipf.share, 2 * zipf.sd, color=color, marker="x", markersize=6, linestyle="none")
        axis.set(title=f"r0 = {r0:g}", xlim=(-0.05, 1.02), ylim=(-0.05, 1.02), xlabel="truly shared")
    axes.flat[0].plot([], [], "kx", label="nothing shared, Zipf's law")
    axes.flat[0].set_ylabel("with a counterpart")
    figure.legend(*axes.flat[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure
