"""The figures of notebook `models_and_dictionaries`.

In: losses by training step, F1 by threshold and by class. Out: figures.
This module never computes a loss or an F1.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from sae_utils import report


def learning(losses: Mapping[int, float], baselines: Mapping[str, Any], label: str) -> Figure:
    """Held-out loss by training step, beside the losses of the unigram and the bigram."""
    figure, axes = plt.subplots(figsize=(4.2, 2.6))
    axes.plot(list(losses), list(losses.values()), marker="o", markersize=4, color=report.PAIRED, label=label)
    for baseline, line in (("unigram", ":"), ("bigram", "-")):
        axes.axhline(baselines[baseline], color=report.NULL, linestyle=line, label=baseline, zorder=0)
    axes.set(xscale="log", xlabel="training steps", ylabel="held-out loss (nats a token)")
    axes.legend(loc="center left")
    return figure


def thresholds(values: Sequence[float], scores: Sequence[float], best: pd.Series) -> None:
    """Draw F1 by threshold on the half that chooses, and the F1 of the best threshold on the half that judges."""
    _, axes = plt.subplots(figsize=(4.2, 2.4))
    axes.plot(values, scores, color=report.PAIRED, label="tokens that choose")
    axes.plot(best.threshold, best.F1, "x", color=report.COLORS[1], label="tokens that judge")
    axes.set(xlabel="threshold", ylabel="F1", ylim=(0, 1.05), title=f"feature {best.feature} for {best['class']}")
    axes.legend(loc="lower left")


def classes(by_class: pd.DataFrame) -> Figure:
    """F1 of the best feature of every class against that of the best neuron."""
    figure, axes = plt.subplots(figsize=(2.8, 2.7))
    axes.plot([0, 1], [0, 1], color=report.NULL, linewidth=1)
    axes.scatter(by_class["F1 neuron"], by_class["F1 feature"], s=14, color=report.PAIRED, linewidths=0)
    axes.set(xlabel="F1 of the best neuron", ylabel="F1 of the best feature", aspect="equal")
    return figure
