"""From rises to transfer: how much of what B's own vector does over a placebo the carried vector does, too.

In: frames of `transfer.measure`, of replicates or of one pair. Out: carried, placebo and own by target and unit; the
transfer with its interval, or that it is undefined.
Never: a model.

    transfer = (carried - placebo) / (own - placebo)

The denominator is that of the true arm in both arms, since B has no vector of its own for words that no concept joins.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from sae_utils import inference
from sae_utils.inference import Replicated
from sae_utils.studies.function.carrying import CONTROL, TRUE
from sae_utils.studies.function.transfer import OWN


def of_replicates(frames: Mapping[object, pd.DataFrame]) -> pd.DataFrame:
    """One row a vector, target and unit: units are the replicates; of a single frame they are groups of articles."""
    if len(frames) == 1:
        return next(iter(frames.values()))
    rows = [averaged(frame).assign(unit=number) for number, frame in enumerate(frames.values())]
    return pd.concat(rows, ignore_index=True)


def averaged(frame: pd.DataFrame) -> pd.DataFrame:
    """Means over all contexts."""
    by, values = ["target", "vector", "kind", "way", "arm"], ["rise", "kl", "log_p", "strength"]
    weighted = frame.assign(**{x: frame[x] * frame.contexts for x in values})
    total = weighted.groupby(by, sort=False)[[*values, "contexts"]].sum()
    return total.assign(**{x: total[x] / total.contexts for x in values}).reset_index()


def compared(frame: pd.DataFrame, kind: str, way: str) -> pd.DataFrame:
    """`carried`, `placebo`, `own` and, with a control arm, `control` and `control placebo`, by target and unit.

    `kind` of the vectors and `way`, the map. NaN where a vector could not be had.
    """
    own = frame.vector == frame.target
    asked = {
        "carried": own & (frame.way == way) & (frame.arm == TRUE),
        "placebo": ~own & (frame.way == way) & (frame.arm == TRUE),
        "own": own & (frame.way == OWN),
        "control": own & (frame.way == way) & (frame.arm == CONTROL),
        "control placebo": ~own & (frame.way == way) & (frame.arm == CONTROL),
    }
    parts = {
        name: frame[mask & (frame.kind == kind)].set_index(["target", "unit"]).rise for name, mask in asked.items()
    }
    weights = frame.groupby(["target", "unit"], sort=False).contexts.first()
    return pd.DataFrame(parts | {"contexts": weights}).reset_index()


class Transfer(NamedTuple):
    """Over replicates, or over groups of articles of one pair."""

    above: Replicated  # nats; B's own vector less the placebo
    true: Replicated  # transfer; NaN where it is undefined
    control: Replicated  # the same in the control arm
    difference: Replicated  # of the two

    @property
    def undefined(self) -> bool:
        """Whether the interval of the denominator holds 0, or there is none."""
        return not self.above.low > 0


def transfer(found: pd.DataFrame) -> Transfer:
    """Transfer over the units of a frame of `compared`, all of its targets together: a ratio of means, with jackknife.

    Targets without one of the vectors in a unit are left out there.
    """
    known = found.dropna(subset=["carried", "placebo", "own"])
    steps = pd.DataFrame({
        "unit": known.unit,
        "own": (known.own - known.placebo) * known.contexts,
        "true": (known.carried - known.placebo) * known.contexts,
        "control": (known.control - known["control placebo"]) * known.contexts,
        "contexts": known.contexts,
    }).groupby("unit").agg(lambda x: x.sum(min_count=1)).reset_index()  # fmt: skip
    n = len(steps)

    def ratio(top: pd.Series, below: pd.Series) -> Replicated:
        def statistic(kept: np.ndarray) -> float:
            whole = float(below.to_numpy()[kept].sum())
            return float(top.to_numpy()[kept].sum()) / whole if whole else math.nan

        return inference.over_replicates(statistic, n) if n else Replicated(*[math.nan] * 4, 0, math.nan)

    above = ratio(steps.own, steps.contexts)
    made = Transfer(above, *(ratio(x, steps.own) for x in (steps.true, steps.control, steps.true - steps.control)))
    if made.undefined:
        return Transfer(
            above, *(x._replace(estimate=math.nan, se=math.nan, low=math.nan, high=math.nan) for x in made[1:])
        )
    return made
