"""Shares of planted draws in which something is found, with exact intervals, and verdicts over planted replicates.

In: the draws of `false_positives`. Out: shares, tables.
Never: a draw.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from sae_utils import inference
from sae_utils.inference import LEVEL
from sae_utils.studies.known_truth import calibration
from sae_utils.studies.published_tables import ladder
from sae_utils.studies.published_tables.false_positives import STEPS, Draws


def rate(count: int, number: int) -> calibration.Rate:
    """A share of draws with its exact interval of 95%; NaN without draws."""
    if not number:
        return calibration.Rate(math.nan, math.nan, math.nan)
    return calibration.rate(count, number, level=1 - LEVEL)


def interval(count: int, number: int) -> inference.Interval[float]:
    """The same for `report.Report.verdict`."""
    if not number:
        return inference.Interval(math.nan, math.nan, math.nan, math.nan, 0)
    return rate(count, number).interval(number)


def of(found: Mapping[str, Draws], world: str, score: str, step: str) -> tuple[int, int]:
    """`Draws.found` of one world; no draw of a world that the profile leaves out."""
    return found[world].found(score, step) if world in found else (0, 0)


def sentence(count: int, number: int) -> str:
    """A share of draws with its interval for the text."""
    if not number:
        return "no draw that could be tested"
    share, low, high = (100 * x for x in rate(count, number))
    return f"{share:.0f}% of {number:,} draws (95% {low:.0f} to {high:.0f})"


def shown(count: int, number: int) -> str:
    """A share of draws with its interval as text, in percent."""
    if not number:
        return "too few pairs"
    low, high = (100 * x for x in rate(count, number)[1:])
    return f"{100 * count / number:.0f} ({low:.0f} to {high:.0f})"


def by_step(found: Mapping[str, Draws], score: str) -> pd.DataFrame:
    """One row a step, a column a world: percent of draws with p below LEVEL, and the interval."""
    rows = [
        {"step": f"{ladder.STEPS.index(step)} {step}"}
        | {name: shown(*x.found(score, step)) for name, x in found.items()}
        for step in STEPS
    ]
    return pd.DataFrame(rows)


def verdicts(found: Mapping[str, Draws], arm: str, number: int, d: float) -> pd.DataFrame:
    """One row a world: mean and SD of a difference over draws, and how many verdicts over `number` replicates say what.

    `n`: verdicts; `yes, %` has its interval.
    """
    rows = []
    for name, x in found.items():
        words = [inference.verdict(each.low, each.high, d) for each in x.replicated(arm, number)]
        values = x.differences[arm]
        row: dict[str, Any] = {"shared": name, "difference": np.nanmean(values), "SD": np.nanstd(values, ddof=1)}
        row |= {"n": len(words)}
        row |= {word: words.count(word) for word in ("yes", "undetermined", "no")}
        rows.append(row | {"yes, %": shown(words.count("yes"), len(words))})
    return pd.DataFrame(rows)
