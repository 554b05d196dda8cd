"""From rises to transfer: how much of what B's own vector does over a placebo the carried vector does, too.

In: frames of `transfer.measure`, of replicates or of one pair. Out: carried, placebo and own by target and unit; the
transfer with its interval, or that it is undefined.
Never: a model.

    transfer = (carried - placebo) / (own - placebo)

The denominator is that of the true arm in both arms, since B has no vector of its own for words that no concept joins.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from sae_utils import inference
from sae_utils.inference import Replicated
from sae_utils.studies.function.carrying import CONTROL, KINDS, MAPS, SHUFFLED, TRUE
from sae_utils.studies.function.transfer import NOTHING, OWN, RANDOM, UNEMBEDDING

WAYS = (
    "B's own", *(f"carried, {x}" for x in MAPS), *(f"placebo, {x}" for x in MAPS), "exchanged words", SHUFFLED,
    RANDOM, UNEMBEDDING, NOTHING,
)  # fmt: skip
"""what a reader sees of `Label`, in the order of tables and figures"""


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
    total = weighted.groupby(by, sort=False)[[*values, "contexts"]].sum(min_count=1)
    return total.assign(**{x: total[x] / total.contexts for x in values}).reset_index()


def shown(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows that tables and figures show, with `way` one of WAYS, once for each kind of vector."""
    own = (frame.vector == frame.target) | (frame.vector == "")
    of_map = frame.way.isin(MAPS) & (frame.arm == TRUE)
    name = frame.way.where(frame.way != OWN, "B's own").mask(of_map & own, "carried, " + frame.way)
    name = name.mask(of_map & ~own, "placebo, " + frame.way)
    control = own & (frame.arm == CONTROL)
    name = name.mask(control & (frame.way == MAPS[0]), "exchanged words")
    kept = frame.assign(way=name)[(own & (frame.arm == TRUE)) | (of_map & ~own) | (control & (frame.way == MAPS[0]))]
    both = kept.way.isin([RANDOM, UNEMBEDDING, NOTHING])
    return pd.concat([kept[~both], *(kept[both].assign(kind=kind) for kind in KINDS)], ignore_index=True)


def table(frame: pd.DataFrame) -> pd.DataFrame:
    """A row a kind and way of `shown`: mean rise with its SE over units; divergence and perplexity there."""
    rows: list[dict[str, Any]] = []
    for (kind, way), x in frame.groupby(["kind", "way"], sort=False):
        over = inference.over_replicates(x.groupby("unit").rise.mean())
        found = {"vector of": kind, "way": way, "rise": over.estimate, "SE": over.se}
        rows.append(found | {"KL": x.kl.mean(), "perplexity": math.exp(-x.log_p.mean())})
    rows.sort(key=lambda x: (KINDS.index(x["vector of"]), WAYS.index(x["way"])))
    return pd.DataFrame(rows)


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
    steps = {
        "own": known.own - known.placebo,
        "true": known.carried - known.placebo,
        "control": known.control - known["control placebo"],
        "contexts": pd.Series(1.0, known.index),
    }
    sums = pd.DataFrame({name: x * known.contexts for name, x in steps.items()}).groupby(known.unit).sum(min_count=1)
    above = _ratio(sums.own, sums.contexts)
    tops = sums.true, sums.control, sums.true - sums.control
    made = Transfer(above, *(_ratio(top, sums.own) for top in tops))
    return Transfer(above, *(UNKNOWN._replace(n=above.n) for _ in tops)) if made.undefined else made


UNKNOWN = Replicated(math.nan, math.nan, math.nan, math.nan, 0, math.nan)


def _ratio(top: pd.Series, below: pd.Series) -> Replicated:
    """The ratio of two sums over units, with its jackknife."""

    def statistic(kept: np.ndarray) -> float:
        whole = float(below.to_numpy()[kept].sum())
        return float(top.to_numpy()[kept].sum()) / whole if whole else math.nan

    return inference.over_replicates(statistic, len(top)) if len(top) else UNKNOWN
