"""Whether the answer depends on the choices of its analysis: the difference of two arms, choice by choice.

In: correlations of all features of two sides on the documents that choose, in the true and in the control arm; decoder
rows. Out: `Choice`s, and for each the difference of the excess in both arms.
Never: a correlation computed anew for a choice; an interval or a verdict, which `inference` makes of all replicates.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field
from scipy.optimize import linear_sum_assignment

from sae_utils import measures, significance
from sae_utils.engine.core.spec import Count, NameUnknown, Spec, build
from sae_utils.engine.pairs import taken_in_order

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
NONE = -1.0  # least r of an analysis without a threshold
ALL = 0  # n of an analysis that takes all pairs
LABELS = {
    "measure": "{}",
    "matching": "{} matching",
    "least_r": "r at least {}",
    "minimum_firings": "at least {} firings",
    "n": "{} pairs",
    "dictionaries": "SAEs: {}",
}
"""what a value of a choice is called in tables and figures"""


def _with_closed_form(name: str) -> str:
    try:
        known = measures.measure(name).closed_form
    except ValueError as error:
        raise NameUnknown(str(error)) from None
    if not known:
        raise NameUnknown(f"the null mean of {name} is not known in closed form; choose another measure")
    return name


class Choice(Spec):
    """One analysis."""

    measure: Annotated[str, AfterValidator(_with_closed_form)]  # as `measures.measure` takes it: "mutual_knn_5"
    matching: Literal["optimal", "mutual", "greedy"] = "optimal"
    least_r: Annotated[float, Field(ge=-1, le=1)] = NONE  # pairs below are left out, on the documents that choose
    minimum_firings: Count = 20  # of a feature, on the documents that choose
    n: Annotated[int, Field(ge=0)] = ALL  # pairs, by random subsets; ALL takes as many as both arms have
    dictionaries: str = ""  # which SAEs; empty for those of the primary analysis


class Specification(NamedTuple):
    """A choice with its name."""

    label: str  # how it differs from the primary analysis, or "primary analysis"
    choice: Choice


def specifications(
    primary: Choice, alternatives: Mapping[str, Iterable[Any]], crossed: Iterable[Mapping[str, Any]], where: str
) -> list[Specification]:
    """The primary analysis; each alternative to one of its choices; then those that differ in several.

    `alternatives`: field of `Choice` -> other values; `crossed`: values of several fields. What is the primary analysis
    or stands there already is left out. Raises ProfileError, which begins with `where`, as `spec.build`.
    """
    base, found = primary.model_dump(), {primary: Specification("primary analysis", primary)}
    for values in [*({field: value} for field, of in alternatives.items() for value in of), *crossed]:
        choice = build(Choice, {**base, **values}, where)
        label = ", ".join(LABELS[field].format(_shown(field, value)) for field, value in values.items())
        found.setdefault(choice, Specification(label, choice))
    return list(found.values())


def of(specifications: Iterable[Specification], dictionaries: str) -> list[Choice]:
    """The choices of the specifications that use these SAEs."""
    return [x.choice for x in specifications if x.choice.dictionaries == dictionaries]


def _shown(field: str, value: Any) -> str:
    if field != "measure":
        return str(value)
    what = measures.measure(value)
    return what.label if not what.neighbours or "k =" in what.label else f"{what.label} (k = {what.neighbours})"


# --- one replicate


class View(NamedTuple):
    """The features of one side that look for partners on the other, on the documents that choose."""

    r: Floats  # (2, features, others) correlations in the true and in the control arm; NaN where one is not live
    rows: np.ndarray  # (features, d) decoder rows
    others: np.ndarray  # (others, d_other)
    firings: NDArray[np.int64]  # (features,) in both arms, as all that is below
    content: NDArray[np.bool_]  # (features,) whether it takes part


def turned(
    r: Floats, rows: Sequence[np.ndarray], firings: Sequence[np.ndarray], content: Sequence[np.ndarray]
) -> list[View]:
    """Both roles: the features of A that look for partners in B, and those of B that look in A.

    `r` (2, features_a, features_b); the others hold what belongs to A and what belongs to B.
    """
    return [
        View(r, rows[0], rows[1], firings[0], content[0]),
        View(np.swapaxes(r, 1, 2), rows[1], rows[0], firings[1], content[1]),
    ]


class Difference(NamedTuple):
    """What one replicate says under one choice."""

    value: float  # excess of the true arm - excess of the control arm; NaN where there are too few pairs
    true: float
    control: float
    n: int  # pairs in each arm; the fewest of all views


class _Matched(NamedTuple):
    features: Ints  # (pairs,)
    others: Ints
    r: Floats


def differences(
    views: Sequence[View], choices: Iterable[Choice], *, subsets: int, seed: int
) -> dict[Choice, Difference]:
    """The difference by choice, averaged over the views (both roles, and both halves of the documents as choosers).

    Both arms have the same n: the larger set of pairs is cut to the smaller, or both to the n that is chosen, and the
    excess averaged over random `subsets`. Choices that pair alike share their pairs.
    """

    @cache
    def pairs(place: int, arm: int, matching: str, minimum: int) -> _Matched:
        return matched(views[place], arm, matching, minimum)

    def one(choice: Choice) -> Difference:
        found = []
        for place, view in enumerate(views):
            arms = [pairs(place, arm, choice.matching, choice.minimum_firings) for arm in (0, 1)]
            found.append(_difference(view, [_strong(x, choice.least_r) for x in arms], choice, subsets, seed))
        true, control = (float(np.mean([x[arm] for x in found])) for arm in (0, 1))
        return Difference(true - control, true, control, min(x[2] for x in found))

    return {choice: one(choice) for choice in choices}


def matched(view: View, arm: int, how: str, minimum: int) -> _Matched:
    """One-to-one pairs of the content features that fire at least `minimum` times with live features of the other side.

    `arm`: 0, the true one, or 1. `how`: "optimal", the largest total r; "mutual", each other's best; "greedy", the
    strongest remaining pair first.
    """
    r = view.r[arm]
    features = np.flatnonzero(view.content & (view.firings >= minimum) & np.isfinite(r).any(axis=1))
    others = np.flatnonzero(np.isfinite(r).any(axis=0))
    block = r[np.ix_(features, others)]
    i, j = _PAIRED[how](block) if block.size else (np.zeros(0, np.int64), np.zeros(0, np.int64))
    return _Matched(features[i], others[j], block[i, j])


def _mutual(block: Floats) -> tuple[Ints, Ints]:
    best, back = block.argmax(axis=1), block.argmax(axis=0)
    i = np.flatnonzero(back[best] == np.arange(len(best)))
    return i, best[i]


def _greedy(block: Floats) -> tuple[Ints, Ints]:
    i, j = (x.ravel() for x in np.indices(block.shape))
    taken = taken_in_order(i, j, np.argsort(-block, axis=None, kind="stable"))
    return i[taken], j[taken]


_PAIRED = {"optimal": lambda block: linear_sum_assignment(block, maximize=True), "mutual": _mutual, "greedy": _greedy}


def _strong(pairs: _Matched, least: float) -> _Matched:
    kept = pairs.r >= least
    return _Matched(pairs.features[kept], pairs.others[kept], pairs.r[kept])


def _difference(
    view: View, arms: Sequence[_Matched], choice: Choice, subsets: int, seed: int
) -> tuple[float, float, int]:
    """Excess of either arm at the common n, and that n."""
    common = min(len(x.r) for x in arms)
    n = choice.n or common
    if n > common or n < max(measures.measure(choice.measure).least, significance.FEWEST):
        return np.nan, np.nan, common
    true, control = (_excess(view, x, choice.measure, n, subsets, seed) for x in arms)
    return true, control, n


def _excess(view: View, pairs: _Matched, measure: str, n: int, subsets: int, seed: int) -> float:
    """Mean excess of random subsets of n pairs; the same seed takes the same places in both arms."""

    def of_subset(places: Ints, number: int) -> dict[str, significance.Result]:
        rows = view.rows[pairs.features[places]], view.others[pairs.others[places]]
        return significance.test(*rows, [measure], m_of={measure: 0})

    (found,) = significance.at_n(len(pairs.r), n, of_subset, subsets=subsets, seed=seed).values()
    return found.excess
