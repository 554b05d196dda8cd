"""The tables and figures of notebook `across_tokenizers`.

In: units of two tokenizations, scores of both arms by replicate, correlations by bin. Out: data frames and figures.
This module never computes a score.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from sae_utils import inference, pipeline, replicates, report
from sae_utils.engine.params import Profile
from sae_utils.engine.text import alignment
from sae_utils.store import Artefact
from sae_utils.studies.across_tokenizers.shared import ONE, Compared, Place

Gaps = Mapping[tuple[str, str], inference.Replicated]  # (pair, codes) -> excess less that of the control


def spelt(text: str, x: alignment.Spans, first: Sequence[int], last: Sequence[int]) -> list[str]:
    """The tokens of every unit of a text, a visible space for a space, joined by " | "."""
    begins = np.append(0, x.ends[:-1])
    tokens = [text[begin:end].replace(" ", "\u2423") for begin, end in zip(begins, x.ends, strict=True)]
    return [" | ".join(tokens[i : j + 1]) for i, j in zip(first, last, strict=True)]


def in_pieces(profile: Profile, kept: Artefact, names: Mapping[str, str], most: int = 5) -> pd.DataFrame:
    """A few units in pieces: the tokens of each side, whose dictionaries `names` has by side, "a" and "b"."""
    several, shown = np.flatnonzero(kept.array("pieces"))[: 20 * most], {}
    for side, name in names.items():
        words, tokens = pipeline.own_vocabulary(profile, name), pipeline.alone(profile, name).sites.array("tokens")
        ranges = zip(kept.array(f"first_{side}")[several], kept.array(f"last_{side}")[several], strict=True)
        shown[side.upper()] = [" + ".join(words[t] for t in tokens[i : j + 1]) for i, j in ranges]
    return pd.DataFrame(shown).drop_duplicates()[:most].reset_index(drop=True)


def placed(aligned: Mapping[Compared, Sequence[Place]]) -> pd.DataFrame:
    """The positions of the first replicate of every pair: their number, and shares of tokens, units and rows."""
    columns = {"tokens": "n", "of_a": "of A", "of_b": "of B", "pieces": "in pieces", "same_opening": "same opening"}
    meta = {x.name: where[0].positions.meta for x, where in list(aligned.items())[::-1]}
    rows = [{"pair": name} | {column: meta[name][field] for field, column in columns.items()} for name in meta]
    return pd.DataFrame(rows[::-1])


def by_replicate(found: Mapping[tuple[Compared, str], replicates.Arms], measure: str) -> pd.DataFrame:
    """Scores of both arms and their difference, `gap`: a row for every replicate and way to join codes."""
    return pd.DataFrame(
        {"pair": x.name, "codes": kind, "n": both.n, "retention": both.retention, "r": both.r_true}
        | {"r, control": both.r_control, "excess": both.true[measure], "excess, control": both.control[measure]}
        | {"gap": both.difference(measure)}
        for (x, kind), both in found.items()
    )


def means(frame: pd.DataFrame, gaps: Gaps) -> pd.DataFrame:
    """Means over the replicates of every pair and way to join codes, with the 95% interval of the gap."""
    shown = frame.groupby(["pair", "codes"], sort=False).mean().reset_index()
    keys = list(zip(shown.pair, shown.codes, strict=True))
    return shown.assign(**{f"95%, {end}": [getattr(gaps[key], end) for key in keys] for end in ("low", "high")})


def scores(frame: pd.DataFrame, gaps: Gaps, d: float, label: str) -> Figure:
    """Held-out r and excess in both arms and their difference, means over replicates with 95% intervals.

    `frame`: one row a replicate of a pair and a kind of codes. `label`: of the measure. The line is the threshold `d`.
    """
    groups, height = frame.groupby(["pair", "codes"], sort=False), np.arange(len(gaps))
    figure, axes = plt.subplots(1, 3, figsize=(6.6, 1.2 + 0.3 * len(gaps)), sharey=True)
    for axis, column in zip(axes, ("r", "excess"), strict=False):
        for color, of_arm in ((report.NULL, f"{column}, control"), (report.PAIRED, column)):
            found = [inference.over_replicates(groups.get_group(key)[of_arm].to_numpy(float)) for key in gaps]
            _whiskers(axis, found, height, color, "control arm" if "control" in of_arm else "true arm")
    _whiskers(axes[2], list(gaps.values()), height, report.COLORS[1], "difference of the arms")
    axes[2].axvline(d, color="black", linestyle="--", linewidth=0.8, label="threshold d")
    rows = [kind if frame.pair.nunique() == 1 else f"{pair}, {kind}".replace("_", " ") for pair, kind in gaps]
    axes[0].set_yticks(height, rows)
    axes[0].set(xlabel="held-out r of the pairs", ylim=(len(gaps) - 0.5, -0.5))
    axes[1].set(xlabel=f"excess of {label}")
    axes[2].set(xlabel="difference of excess")
    axes[2].locator_params(axis="x", nbins=4)
    (arms, names), (rest, others) = (axes[panel].get_legend_handles_labels() for panel in (0, 2))
    figure.legend([*arms, *rest], [*names, *others], loc="outside lower center", ncols=4)
    return figure


def _whiskers(axis: Any, found: Sequence[inference.Replicated], height: np.ndarray, color: str, label: str) -> None:
    axis.hlines(height, [x.low for x in found], [x.high for x in found], color=color, linewidth=1.5)
    axis.scatter([x.estimate for x in found], height, s=22, color=color, label=label, zorder=3)


def pieces(by_bin: pd.DataFrame, kinds: Sequence[str]) -> Figure:
    """Held-out r of best partners by the share of firings on units in pieces, one panel a pair."""
    titles = list(dict.fromkeys(by_bin.pair))
    width = 2.7 * max(2, len(titles))  # the legend has its room where one pair is compared
    figure, axes = plt.subplots(1, len(titles), figsize=(width, 2.7), sharey=True, squeeze=False)
    for axis, (name, part) in zip(axes[0], by_bin.groupby("pair", sort=False), strict=True):
        for kind, marker in zip(kinds, itertools.cycle("os^Dv")):
            style, color = ("--", report.NULL) if kind == ONE else (f"-{marker}", None)
            axis.plot(part["in pieces"], part[kind], style, markersize=4, linewidth=1.2, color=color, label=kind)
        axis.set(title=str(name).replace("_", " "), xlabel="share of firings on units in pieces", xlim=(0, 1))
    axes[0, 0].set(ylabel="held-out r of the best partner", ylim=(0, 1))
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure
