"""What the likeness of paired features' logits is held against, over replicates.

In: numbers of every replicate by name (`measured`). Out: a `Comparison` by name, tables.
Never: a score of one replicate; a verdict (`report` writes it).
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from sae_utils import inference
from sae_utils.engine.geometry.registry import Floats
from sae_utils.inference import Replicated
from sae_utils.studies.function import criteria, measured, strata

LEAST = 0.5  # share of the pairs that can move; below, a null within strata decides nothing
EXCHANGED, TEXT, GIVEN, EQUAL_R = (
    "exchanged words",
    "the partner's text",
    "exchanged words, given the text",
    "equal r, another concept",
)
OWN = "own partner"


class Comparison(NamedTuple):
    """Logits of features and their own partners against something else, replicate by replicate."""

    own: Floats  # (R,)
    other: Floats  # (R,)
    movable: float  # mean share of the pairs that can move, 1 where all do
    difference: Replicated  # of own less other; without an interval where too few can move


def comparison(own: Iterable[float], other: Iterable[float], movable: float = 1.0) -> Comparison:
    """The difference over replicates; its interval is missing where less than `LEAST` of the pairs can move."""
    one, two = (np.asarray(list(x), np.float64) for x in (own, other))
    found = inference.over_replicates(one - two)
    if movable < LEAST:
        found = found._replace(low=math.nan, high=math.nan, p=math.nan)
    return Comparison(one, two, movable, found)


def against(frame: pd.DataFrame, twins: Sequence[str]) -> dict[str, Comparison]:
    """All comparisons that the numbers hold (a row a replicate), the control arm and twins last."""
    own = frame["logits, true"]
    found = {strata.FREE: comparison(own, frame[f"{strata.FREE}, null"])}
    for name in (name for name in measured.STRATA if f"{name}, null" in frame):
        found[name] = comparison(own, frame[f"{name}, null"], float(frame[f"{name}, movable"].mean()))
    few = float(frame["equal r, movable"].mean())
    found[EQUAL_R] = comparison(frame["equal r, own"], frame["equal r, other"], few)
    found[TEXT] = comparison(own, frame["text, true"])
    if "logits, control" in frame:
        found[GIVEN] = comparison(frame["partial, true"], frame["partial, control"])
        found[EXCHANGED] = comparison(own, frame["logits, control"])
    return found | {name: comparison(frame[f"{name}, true"], frame[f"{name}, control"]) for name in twins}


def table(found: Mapping[str, Comparison]) -> pd.DataFrame:
    """A row a comparison: what can move, both means, their difference and its interval."""
    rows = []
    for name, x in found.items():
        row = {"against": name, "can move": x.movable, "own": x.own.mean(), "other": x.other.mean()}
        rows.append(row | {"difference": x.difference.estimate, "low": x.difference.low, "high": x.difference.high})
    return pd.DataFrame(rows)


def over_arms(found: pd.DataFrame) -> pd.DataFrame:
    """`criteria.table` of all replicates as their means: a row a criterion and arm, the true arm first."""
    order = pd.CategoricalDtype(list(criteria.CRITERIA), ordered=True)
    given = found.assign(criterion=found.criterion.astype(order), arm=found.arm.astype(str))
    means = given.groupby(["arm", "criterion"], observed=True).mean(numeric_only=True).drop(columns="replicate")
    return means.sort_index(level=0, ascending=False, sort_remaining=False).reset_index().astype({"criterion": str})
