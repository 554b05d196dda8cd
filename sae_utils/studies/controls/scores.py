"""One arm of one replicate: the content features of a side with their partners, and every statistic of them.

In: decoder rows, facts and correlations of paired features. Out: excess, shares, accounts; those of two arms are
compared over the same features, or over equally many.
Never: a choice of content features or partners (`replicates` does both); a verdict.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sae_utils import inference, measures, significance
from sae_utils.measures import Measure
from sae_utils.significance import Rows
from sae_utils.studies.controls import accounts, facts
from sae_utils.studies.controls.accounts import Account
from sae_utils.studies.controls.facts import Facts

ALL = "all of these"  # facts
FEWEST = 10  # pairs of a score


class View(NamedTuple):
    """Content features of one side with their partners; an arm has one a role of its sides and split of documents."""

    left: NDArray[np.int64]  # (n,) content features
    right: NDArray[np.int64]  # (n,) their partners on the other side
    rows: Rows  # (n, d_left), (n, d_right) decoder rows
    held_out: np.ndarray  # (n,) correlation on the documents that did not choose the pairs
    facts: tuple[Facts, Facts]  # of all features of either side
    judged: np.ndarray  # (features_left, features_right) correlation of all on those documents

    def subset(self, places: np.ndarray) -> "View":
        """The pairs at `places`, positions or a mask."""
        left, right, held_out = (values[places] for values in (self.left, self.right, self.held_out))
        return self._replace(
            left=left, right=right, rows=(self.rows[0][places], self.rows[1][places]), held_out=held_out
        )


def mean(values: Iterable[float]) -> float:
    """The mean of values, of which none may be missing: NaN otherwise, and where there are none."""
    found = list(values)
    return float(np.mean(found)) if found else math.nan


def excess(rows: Rows, measure: Measure) -> float:
    """The excess of paired rows over shuffled pairings, from the null's closed form; NaN below `FEWEST` pairs."""
    if len(rows[0]) < max(FEWEST, measure.least):
        return math.nan
    return significance.test(*rows, [measure], m_of={measure.name: 0})[measure.name].excess


def explained(view: View) -> dict[str, Account]:
    """By fact, and for all facts at once, how much of the primary similarity it explains.

    The rows' dissimilarity is 1 - Pearson; each fact is given for the features of both sides.
    """
    x, y = (measures.dissimilarities(rows, "pearson") for rows in view.rows)
    left, right = facts.dissimilarities(view.facts[0], view.left), facts.dissimilarities(view.facts[1], view.right)
    given = {name: [left[name], right[name]] for name in left}
    given[ALL] = [matrix for pair in given.values() for matrix in pair]
    return {name: accounts.account(x, y, matrices) for name, matrices in given.items()}


# --- counterparts


def by_firings(view: View, threshold: float) -> float:
    """The share with a counterpart, had every feature the partner that fires most nearly as often."""
    left, right = view.facts
    live = np.flatnonzero(right.firings)
    chosen = live[accounts.nearest_in_firings(left.firings[view.left], right.firings[live])]
    return accounts.share(view.judged[view.left, chosen], threshold)


def in_strata(view: View, threshold: float, strata: int, seed: int) -> float:
    """The share with a counterpart after the partners are shuffled among those that fire about as often."""
    places = accounts.shuffled_in_strata(view.facts[1].firings[view.right], strata, seed)
    return accounts.share(view.judged[view.left, view.right[places]], threshold)


# --- true arm against control arm


class Difference(NamedTuple):
    """A similarity in two arms, and on how many pairs of each it rests."""

    n: float
    true: float
    control: float

    @property
    def difference(self) -> float:
        """That of the true arm minus that of the control arm."""
        return self.true - self.control


def between(true: View, control: View, measure: Measure) -> Difference:
    """The excess of both arms; `n` is that of the smaller one."""
    return Difference(min(len(true.left), len(control.left)), excess(true.rows, measure), excess(control.rows, measure))


def without_shared_token(true: View, control: View, measure: Measure) -> Difference:
    """Over the features whose partner of the true arm shares no top token with them, in both arms."""
    one, two = (of.tokens[side] for of, side in zip(true.facts, (true.left, true.right), strict=True))
    kept = facts.without_shared(one, two)
    return between(true.subset(kept), control.subset(kept), measure)


def equally_correlated(true: View, control: View, measure: Measure, calipers: Sequence[float]) -> Difference:
    """Over equally many pairs of either arm, alike in held-out r and in the log of the feature's firings."""
    first, second = (
        np.column_stack([view.held_out, np.log(np.maximum(view.facts[0].firings[view.left], 1))])
        for view in (true, control)
    )
    one, two = inference.alike(first, second, calipers)
    return between(true.subset(one), control.subset(two), measure)


def from_r(true: View, control: View, measure: Measure, least: float) -> Difference:
    """Over the pairs with a held-out correlation of at least `least`, cut in each arm."""
    return between(true.subset(true.held_out >= least), control.subset(control.held_out >= least), measure)


def over_views(
    true: Sequence[View], control: Sequence[View], compare: Callable[[View, View], Difference]
) -> Difference:
    """The mean of `compare` over the views of two arms, in their order, as far as it is defined in both."""
    found = [compare(*pair) for pair in zip(true, control, strict=True)]
    defined = [x for x in found if math.isfinite(x.difference)] or found
    return Difference(*(mean(values) for values in zip(*defined, strict=True)))


def mean_accounts(arm: Sequence[View]) -> Mapping[str, Account]:
    """`explained`, as its mean over the views of an arm; empty where one of them has too few pairs."""
    if min(len(view.left) for view in arm) < FEWEST:
        return {}
    found = [explained(view) for view in arm]
    return {name: Account(*(mean(x) for x in zip(*(of[name] for of in found), strict=True))) for name in found[0]}
