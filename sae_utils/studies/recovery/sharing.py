"""What matchings and measures say by the share that is truly shared: tables and a figure.

In: `shared.Read`s by condition and draw. Out: one frame, tables of means over draws, a figure.
Never: a training.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import pandas as pd

from sae_utils import report
from sae_utils.inference import Replicated, over_replicates
from sae_utils.studies.recovery.shared import MATCHINGS, Read

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Cell = tuple[str, int]  # condition, draw
KINDS = ("all", "shared", "private", "rotated", "shuffled")  # pairs of `shared.excesses`


def frame(reads: Mapping[Cell, Read]) -> pd.DataFrame:
    """One row a condition, draw and number: `what` (matching, measure, distance), `name`, `part`, `value`."""
    rows = []
    for (condition, draw), x in reads.items():
        for what, name, part, value in _numbers(x):
            rows.append((condition, draw, x.true, what, name, part, value))
    return pd.DataFrame(rows, columns=["condition", "draw", "true", "what", "name", "part", "value"])


def _numbers(x: Read) -> Iterator[tuple[str, str, str, float]]:
    yield "truth", "true", "", x.true
    yield "truth", "recovered", "", x.recovered
    yield "truth", "loss", "", x.loss
    for what, found in (("matching", x.matched), ("excess", x.excess)):
        yield from ((what, name, part, value) for name, parts in found.items() for part, value in parts.items())
    yield from (("distance", name, "", value) for name, value in x.distances.items())


def means(found: pd.DataFrame, what: str, part: str = "") -> pd.DataFrame:
    """Means over draws, one row a condition and one column a name, beside the share that is truly shared."""
    chosen = found[(found.what == what) & (found.part == part)]
    wide = chosen.pivot_table(index="condition", columns="name", values="value", sort=False, dropna=False)
    wide.insert(0, "truly shared", chosen.groupby("condition", sort=False).true.mean())
    return wide.loc[found.condition.unique()].reset_index()


def of(found: pd.DataFrame, condition: str, name: str, part: str) -> Replicated:
    """A number over the draws of a condition, each with a truth of its own."""
    chosen = found[(found.condition == condition) & (found.name == name) & (found.part == part)]
    return over_replicates(chosen.sort_values("draw").value.to_numpy(float))


def gap(found: pd.DataFrame, conditions: Sequence[str], name: str, part: str) -> Replicated:
    """By how much a number is larger in the first condition than in the second, over draws."""
    chosen = found[(found.name == name) & (found.part == part)].pivot(index="draw", columns="condition", values="value")
    return over_replicates((chosen[conditions[0]] - chosen[conditions[1]]).to_numpy(float))


def parts(found: pd.DataFrame, name: str) -> pd.DataFrame:
    """The excess of one measure by condition: of all optimal pairs, of subsets, and after changes of B."""
    chosen = found[(found.what == "excess") & (found.name == name)]
    wide = chosen.pivot_table(index="condition", columns="part", values="value", sort=False, dropna=False)
    return wide.loc[found.condition.unique(), list(KINDS)].reset_index()


def drawn(found: pd.DataFrame, shares: Sequence[str], label: Mapping[str, str]) -> "Figure":
    """By the truly shared share: excess by measure, true partners found by matching, distances; a mark a draw."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(6.5, 2.9), layout="constrained")
    of_shares = found[found.condition.isin(shares)]
    panels = {
        "excess, optimal pairs": ("excess", "all", label),
        "pairs that are true": ("matching", "right", {name: name for name in MATCHINGS}),
        "distance": ("distance", "", {name: name for name in found[found.what == "distance"].name.unique()}),
    }
    for axis, (title, (what, part, names)) in zip(axes, panels.items(), strict=True):
        for (name, shown), marker, color in zip(names.items(), "osD^vPX", _colors(), strict=False):
            x = of_shares[(of_shares.what == what) & (of_shares.name == name) & (of_shares.part == part)]
            axis.scatter(x.true, x.value, s=8, marker=marker, color=color, label=shown, linewidths=0)
            mean = x.groupby("condition", sort=False)[["true", "value"]].mean()
            axis.plot(mean.true, mean.value, color=color, linewidth=0.8)
        axis.set(title=title, xlabel="truly shared")
        axis.legend(fontsize=5, loc="best")
    return figure


def _colors() -> Sequence[str]:
    return [*report.COLORS, *report.COLORS]
