"""The figure of notebook 07c.

In: the excess of every arm by SAE seed, ceilings, and the differences with their intervals. Out: a figure.
Never: a score; a file.
"""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from sae_utils.engine.geometry.registry import Floats
from sae_utils.inference import Interval
from sae_utils.studies.twins import arms

CEILING = "two SAEs of one model"


def scales(
    values: Mapping[str, Mapping[str, Floats]], gaps: Mapping[str, Interval[float]], labels: Sequence[str],
    d: float | None,
) -> Figure:  # fmt: skip
    """Left, a panel a measure: a row an arm, a dot an SAE seed. Right: D with its 95% interval, and the threshold d.

    `values`: arm -> measure -> excess by seed. `gaps`: arm -> D of the primary measure. `labels`: of the measures.
    """
    names = list(values)
    figure, axes = plt.subplots(
        1, len(labels) + 1, sharey=True, layout="constrained", figsize=(8, 1.3 + 0.36 * len(names))
    )
    for axis, measure, label in zip(axes, next(iter(values.values())), labels, strict=False):
        for row, name in enumerate(names):
            color = "C0" if name == arms.TRUE else "0.5"
            axis.plot(values[name][measure], [row] * len(values[name][measure]), "o", color=color, alpha=0.6)
            axis.plot(values[name][measure].mean(), row, "|", color=color, markersize=16)
        axis.axvline(0, color="0.8", zorder=0)
        axis.set(title=label, xlabel="excess (shuffled pairs: 0)")
    for name, found in gaps.items():
        axes[-1].errorbar(
            found.estimate, names.index(name), xerr=[[found.estimate - found.low], [found.high - found.estimate]],
            fmt="o", color="black",
        )  # fmt: skip
    axes[-1].axvline(0, color="0.8", zorder=0)
    if d is not None:
        axes[-1].axvline(d, color="black", linestyle="--", linewidth=1, label=f"d = {d:g}")
        figure.legend(loc="outside lower right", frameon=False)
    axes[-1].locator_params(axis="x", nbins=4)
    axes[-1].set(title="more than the control?", xlabel="A and B less the control")
    axes[0].set_yticks(range(len(names)), names)
    axes[0].invert_yaxis()
    return figure
