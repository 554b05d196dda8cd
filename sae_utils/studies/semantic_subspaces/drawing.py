"""Figures of the concepts and relations, and of the geometry between classes.

In: frames with a row a replicate, their means, centroids. Out: figures.
Never: a number that is not in a table or a verdict.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy.spatial.distance import pdist

from sae_utils.report import NULL, PAIRED

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def differences(frame: pd.DataFrame, means: pd.DataFrame, d: float) -> "Figure":
    """True arm less control by name: replicates, mean with its interval, and the placebo lists where there are any.

    `frame` has a row a replicate, `means` a row a name; their first columns hold the names.
    """
    figure, axes = plt.subplots(figsize=(6.4, 0.5 + 0.3 * len(means)))
    places, of = np.arange(len(means)), dict(zip(means.iloc[:, 0], range(len(means)), strict=True))
    axes.scatter(
        frame.difference, frame.iloc[:, 0].map(of) - 0.15, s=10, color=PAIRED, alpha=0.5, label="one replicate"
    )
    ends = [means.difference - means.low, means.high - means.difference]
    axes.errorbar(means.difference, places + 0.1, xerr=ends, fmt="|k", label="mean, 95% interval")
    if "placebo" in means:
        axes.plot(means.placebo, places + 0.3, "D", color=NULL, markersize=4, label="placebo lists")
    if np.isfinite(d):
        axes.axvline(d, color="k", linewidth=0.8, linestyle=":", label=f"d = {d:.2f}")
    axes.axvline(0, color=NULL, linewidth=0.5)
    axes.set_yticks(places, means.iloc[:, 0])
    axes.set(xlabel="excess: true arm less words exchanged", ylim=(len(means) - 0.4, -0.6))
    figure.legend(loc="outside upper center", ncols=4)
    return figure


def dissimilarities(
    pairs: Mapping[str, tuple[np.ndarray, np.ndarray]],
) -> "Figure":
    """By name of an arm: the dissimilarity, 1 - Pearson, of any two rows of A against that of the same two in B."""
    figure, axes = plt.subplots(1, len(pairs), figsize=(6.4, 2.4), sharex=True, sharey=True, squeeze=False)
    for axis, (name, rows), color in zip(axes[0], pairs.items(), (PAIRED, NULL, NULL), strict=False):
        known = ~np.isnan(np.hstack(rows)).any(axis=1)
        axis.plot(*(pdist(x[known], "correlation") for x in rows), ".", color=color, markersize=2, alpha=0.4)
        axis.set(title=name, xlabel="two classes in A")
    axes[0, 0].set_ylabel("the same two in B")
    figure.suptitle("dissimilarity of centroids, 1 - Pearson", fontsize=8)
    return figure
