"""The scores of one comparison, and of a true arm beside its control one.

In: the views of an arm, the settings of the notebook. Out: numbers that a process can hand back.
Never: codes, or a matrix of features.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from sae_utils import tables
from sae_utils.measures import Measure
from sae_utils.significance import Rows
from sae_utils.studies.controls import accounts, scores
from sae_utils.studies.controls.accounts import Account
from sae_utils.studies.controls.scores import Difference, View

EVERY = "all pairs"  # of the selections
SHUFFLES = 19  # of partners within strata of firings


class Settings(NamedTuple):
    """What a notebook asks for."""

    measures: Mapping[str, Measure]  # by name; the first is the primary one
    counterpart: float  # held-out r from which a partner is a counterpart
    top: int  # tokens of a feature that its centroid is of
    window: int  # places within which words stand together
    size: int  # dimensions of the word vectors
    strata: int  # of firing counts
    calipers: Sequence[float]  # within which pairs are alike in held-out r and in log firings
    least_r: Sequence[float]  # cuts of the held-out correlation
    minimum: int  # firings of a content feature on the documents that choose

    @property
    def primary(self) -> Measure:
        """The measure of the primary analysis."""
        return next(iter(self.measures.values()))


class Arm(NamedTuple):
    """The scores of one comparison, means over both roles of the sides and of the documents."""

    n: float  # content features
    excess: dict[str, float]  # by measure
    r: float  # mean held-out correlation of one-to-one partners
    share: float  # of content features with a counterpart


class Beside(NamedTuple):
    """A true arm beside its control one."""

    true: Mapping[str, Account]  # by fact
    control: Mapping[str, Account]
    selections: dict[str, Difference]  # of the primary measure, by the pairs that are left
    by_firings: float  # share with a counterpart, of partners that fire about as often
    in_strata: float  # share with a counterpart, of partners shuffled among those that fire about as often


def arm(views: Sequence[tuple[Rows, np.ndarray]], settings: Settings) -> Arm:
    """The scores of paired decoder rows and their held-out correlations (n,), averaged over the views of an arm."""
    return Arm(
        n=scores.mean(len(r) for _, r in views),
        excess={
            name: scores.mean(scores.excess(rows, measure) for rows, _ in views)
            for name, measure in settings.measures.items()
        },
        r=scores.mean(tables.average(r) for _, r in views),
        share=scores.mean(accounts.share(r, settings.counterpart) for _, r in views),
    )


def beside(true: Sequence[View], control: Sequence[View], settings: Settings) -> Beside:
    """What explains the difference of two arms of the same features, and which pairs carry it."""
    measure, threshold = settings.primary, settings.counterpart
    asked: dict[str, Callable[[View, View], Difference]] = {
        EVERY: partial(scores.between, measure=measure),
        "no top token in common": partial(scores.without_shared_token, measure=measure),
        "alike in r and firings": partial(scores.equally_correlated, measure=measure, calipers=settings.calipers),
    }
    asked |= {f"r from {least:g}": partial(scores.from_r, measure=measure, least=least) for least in settings.least_r}
    return Beside(
        true=scores.mean_accounts(true),
        control=scores.mean_accounts(control),
        selections={name: scores.over_views(true, control, compare) for name, compare in asked.items()},
        by_firings=scores.mean(scores.by_firings(view, threshold) for view in true),
        in_strata=scores.mean(
            scores.in_strata(view, threshold, settings.strata, seed) for view in true for seed in range(SHUFFLES)
        ),
    )
