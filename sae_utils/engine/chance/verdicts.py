"""Verdicts of three values, made in one place: an interval against the one threshold of its scale.

In: the ends of a 95% interval, a threshold, a spread over replicates. Out: "yes", "no" or "undetermined"; for a
sequence of controls also "not tested"; the differences that a number of replicates can tell.
Never: a verdict from a p; absence of significance is no "no".
"""

import math
from collections.abc import Mapping
from typing import Literal, NamedTuple, Protocol, TypeAlias, TypeVar

from sae_utils.engine.chance.intervals import Replicated
from sae_utils.nulls import LEVEL

Verdict: TypeAlias = Literal["yes", "no", "undetermined", "not tested"]
POWER = 0.8  # share of repeats in which a difference should be told
MOST_REPLICATES = 1 << 16  # that are looked through for the number that is needed

Name = TypeVar("Name")


class Bounded(Protocol):
    """What has a 95% interval: `Interval`, `Replicated`."""

    @property
    def low(self) -> float: ...

    @property
    def high(self) -> float: ...


def verdict(low: float, high: float, d: float) -> Literal["yes", "no", "undetermined"]:
    """ "yes" where the whole interval lies above `d`, "no" where it lies below, else "undetermined"; so is NaN.

    Raises ValueError where `low` is above `high`, or `d` is not finite.
    """
    if not math.isfinite(d) or low > high:
        raise ValueError(f"an interval from {low} to {high} against a threshold of {d}: give it in order, and a number")
    if math.isnan(low) or math.isnan(high):
        return "undetermined"
    return "yes" if low > d else "no" if high < d else "undetermined"


def size(found: Replicated) -> Replicated:
    """The same result with a positive estimate, for a question about a difference of either sign.

    Its verdict is "yes" where the interval lies beyond d on the side of the estimate, "no" where it lies within d of 0.
    """
    if not found.estimate < 0:
        return found
    return found._replace(estimate=-found.estimate, low=-found.high, high=-found.low)


def in_order(found: Mapping[Name, Bounded], d: float) -> dict[Name, Verdict]:
    """The verdict on every control, in the order of `found`; those after the first that gets no "yes" are "not tested".

    In a fixed sequence every verdict may be held against the whole level (Maurer, Hothorn & Lehmacher 1995).
    """
    verdicts: dict[Name, Verdict] = {}
    for name, x in found.items():
        tested = all(of == "yes" for of in verdicts.values())
        verdicts[name] = verdict(x.low, x.high, d) if tested else "not tested"
    return verdicts


def false_at_most(tested: int) -> float:
    """The expected number of false ones among `tested` verdicts that are not adjusted, at most.

    A 95% interval lies on the wrong side of d in at most 2.5% of repeats, whatever the true value is.
    """
    return tested * LEVEL / 2


# --- the power of a verdict over replicates


class Chances(NamedTuple):
    """Probabilities of the three verdicts."""

    yes: float
    no: float
    undetermined: float


class Detectable(NamedTuple):
    """True differences: from `yes` on the verdict is "yes" in 80% of repeats, up to `no` it is "no"."""

    yes: float
    no: float


def chances(difference: float, sd: float, d: float, n: int) -> Chances:
    """How likely the verdicts are if the true `difference` varies by `sd` over `n` replicates (noncentral t).

    Exact for normal values. Raises ValueError below 3 replicates or without spread.
    """
    from scipy.stats import nct, t  # imported here: it takes half a second

    _check(sd, n)
    bound = t.ppf(1 - LEVEL / 2, n - 1)
    shift = (difference - d) * math.sqrt(n) / sd
    # the tail below -bound is that above bound of the mirrored distribution, which is computed more exactly
    yes, no = (float(nct.sf(bound, n - 1, way * shift)) for way in (1, -1))
    return Chances(yes, no, 1 - yes - no)


def detectable(sd: float, d: float, n: int) -> Detectable:
    """The true differences at which a "yes" and a "no" come in 80% of repeats, given the `sd` over `n` replicates.

    The one lies as far above `d` as the other below. Raises ValueError as `chances`.
    """
    from scipy.optimize import brentq

    _check(sd, n)
    shift = brentq(lambda x: chances(x, 1.0, 0.0, n).yes - POWER, 0.0, 20.0)
    return Detectable(d + sd * shift, d - sd * shift)


def replicates_needed(difference: float, sd: float, d: float) -> int:
    """The fewest replicates with which the true `difference` gets its verdict in 80% of repeats, given their `sd`.

    Raises ValueError without spread, or where more than 65,536 are needed, as at `difference` = `d`.
    """
    _check(sd, MOST_REPLICATES)
    shift = abs(difference - d)
    low, high = 2, MOST_REPLICATES
    if detectable(sd, 0.0, high).yes > shift:
        raise ValueError(f"a difference of {difference} against d = {d} with an SD of {sd}: no number of replicates")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if detectable(sd, 0.0, middle).yes <= shift else (middle, high)
    return high


def _check(sd: float, n: int) -> None:
    if not (sd > 0 and math.isfinite(sd)) or n < 3:
        raise ValueError(f"an SD of {sd} over {n} replicates: a positive one over at least 3 is needed")
