"""The published procedure, and the effect of each correction, added one after another.

In: `views.Sides`, and the settings of the procedure. Out: rungs: the pairs of each step, and their scores against the
null of that step.
Never: a correction without a name; a result about the models of the published study.

The published procedure (arXiv 2410.06981, as in its public code): every feature of B takes its best feature of A; pairs
with a listed token among the top tokens of either side, or without a shared one, are dropped; of the features of B that
chose one feature of A the lowest is kept; then pairs below a least r are dropped. The study's own counts of pairs show
this order (`published.filter_order`).
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from sae_utils import filters, significance, sweep, tables
from sae_utils.engine.core.spec import Count, Seed, Spec
from sae_utils.engine.params import Profile
from sae_utils.inference import LEVEL
from sae_utils.matching import Pairs
from sae_utils.significance import Result
from sae_utils.studies.published_tables import views
from sae_utils.studies.published_tables.published import Cell
from sae_utils.studies.published_tables.views import CODES, HOOK, MASK, PUBLISHED, Sides

ORDER, ONE, ESTIMATOR = "filters last", "one-to-one", "estimator"
SHUFFLES, EXCESS, ALL = "shuffles", "excess", "no filters"
FIRST, SVCCA, RSA = "svcca_first_component", "svcca", "rsa_spearman"  # the first and the last are the study's
SEVERAL = 3  # pairs a dimension; with fewer there is no SVCCA


class Settings(Spec):
    """Settings of the procedure."""

    tokens: list[str]  # a pair with one of these among the top tokens of either side is dropped
    top: Count  # top tokens of a feature that the filters see
    least_r: float
    draws: Count  # shuffles behind a published null
    permutations: Count  # shuffles behind a corrected one
    seed: Seed

    def filter(self, name: str) -> tuple[str, dict[str, Any]]:
        """Name and options of a filter, as `filters.apply` takes them."""
        options: dict[str, dict[str, Any]] = {
            "non_concept": {"tokens": self.tokens, "top": self.top},
            "no_shared_token": {"top": self.top},
            "hubs": {"more_than": 1, "keep": "first", "side": "a"},
            "weak": {"r": self.least_r},
        }
        return name, options[name]


@dataclasses.dataclass(frozen=True)
class Procedure:
    """How two SAEs are viewed, paired and scored; the defaults are the published way."""

    view: str = PUBLISHED
    pairing: Literal["b_to_a", "mutual"] = "b_to_a"
    filters: tuple[str, ...] = ("non_concept", "no_shared_token", "hubs", "weak")
    svcca: str = FIRST
    # whether there are `permutations` shuffles and p is (b + 1) / (m + 1), not `draws` shuffles and p = b / m
    corrected: bool = False
    excess: bool = False  # whether scores are shown as excess over the null


CORRECTIONS: dict[str, dict[str, Any]] = {
    PUBLISHED: {},
    MASK: {"view": MASK},
    HOOK: {"view": HOOK},
    CODES: {"view": CODES},
    ORDER: {"filters": ("hubs", "non_concept", "no_shared_token", "weak")},
    ONE: {"pairing": "mutual", "filters": ("non_concept", "no_shared_token", "weak")},
    ESTIMATOR: {"svcca": SVCCA},
    SHUFFLES: {"corrected": True},
    EXCESS: {"excess": True},
    ALL: {"filters": ()},
}
"""what each step changes in the step before"""
STEPS = tuple(CORRECTIONS)


def _ladder() -> dict[str, Procedure]:
    found, procedure = {}, Procedure()
    for step, changes in CORRECTIONS.items():
        procedure = found[step] = dataclasses.replace(procedure, **changes)
    return found


LADDER = _ladder()


class Score(NamedTuple):
    """A score, and the scores of shuffled pairings."""

    value: float
    null_mean: float
    low: float  # 2.5% quantile of the shuffles
    high: float
    p: float


class Rung(NamedTuple):
    """The pairs and the scores of one step."""

    step: str
    pairs: Pairs
    scores: dict[str, Score]  # by measure; empty where there are too few pairs
    hub: int  # most features of B that chose one feature of A, before the filters
    unique: float  # features of A that were chosen, a choice

    @property
    def r(self) -> float:
        """Mean correlation of the pairs, on the documents that chose them."""
        return tables.average(self.pairs.r)


def rungs(sides: Sides, settings: Settings) -> list[Rung]:
    """The rungs of all `STEPS`, in order."""
    return [rung(sides, step, settings) for step in STEPS]


def rung(sides: Sides, step: str, settings: Settings) -> Rung:
    """Pair and score two sides by one step of the ladder."""
    pairs, procedure = choose(sides, step, settings), LADDER[step]
    chosen = getattr(sides.views[procedure.view], procedure.pairing).a
    hub = int(np.bincount(chosen).max()) if len(chosen) else 0
    unique = len(np.unique(chosen)) / len(chosen) if len(chosen) else math.nan
    return Rung(step, pairs, score(sides.rows, pairs, procedure, settings), hub, unique)


def choose(sides: Sides, step: str, settings: Settings) -> Pairs:
    """The pairs that one step of the ladder keeps."""
    procedure = LADDER[step]
    view = sides.views[procedure.view]
    steps = [settings.filter(name) for name in procedure.filters]
    return filters.apply(getattr(view, procedure.pairing), steps, **view.facts(sides.words))[0]


def score(
    rows: tuple[np.ndarray, np.ndarray], pairs: Pairs, procedure: Procedure, settings: Settings
) -> dict[str, Score]:
    """Scores by measure of the paired rows; none for too few pairs, and no SVCCA below `SEVERAL` pairs a dimension."""
    if not significance.enough(pairs):
        return {}
    a, b = rows[0][pairs.a], rows[1][pairs.b]
    names = [procedure.svcca, RSA]
    if procedure.svcca == SVCCA and len(a) < SEVERAL * max(a.shape[1], b.shape[1]):
        names = [RSA]
    m = settings.permutations if procedure.corrected else settings.draws
    # the null means are those of the shuffles, as published, also where they are known exactly
    tested = significance.test(a, b, names, m=m, seed=settings.seed, closed_form=False)
    return {name: _score(x, procedure) for name, x in tested.items()}


def _score(x: Result, procedure: Procedure) -> Score:
    low, high = np.quantile(x.draws, [0.025, 0.975])
    p = x.p if procedure.corrected else float(np.mean(x.draws >= x.observed))
    found = Score(x.observed, x.null_mean, float(low), float(high), p)
    return excess(found) if procedure.excess else found


def excess(x: Score) -> Score:
    """The score as excess over its null: 0 at chance, 1 at most; NaN where chance alone gives 1."""
    value, low, high = (significance.excess(shown, x.null_mean) for shown in (x.value, x.low, x.high))
    return Score(value, 0.0 if math.isfinite(value) else math.nan, low, high, x.p)


# --- the published cells


def cells(profile: Profile, given: Sequence[Cell], positions: int, settings: Settings) -> dict[Cell, dict[str, float]]:
    """`cell` of every published cell that a profile can make; one pass over each model serves all its layers."""
    views.prepare(profile, dict.fromkeys(name for x in given for name in (x.a, x.b)), positions)
    return sweep.run(lambda x: cell(profile, x.a, x.b, positions, settings), given, "published cells")


def cell(profile: Profile, a: str, b: str, positions: int, settings: Settings) -> dict[str, float]:
    """The results of the published procedure for two dictionaries, under the names of `published.COMPARED`.

    Scores are NaN where there are too few pairs.
    """
    sides = views.sides(profile, a, b, positions, settings.top, [PUBLISHED])
    found = rung(sides, PUBLISHED, settings)
    none = Score(*[math.nan] * len(Score._fields))
    first, rsa = (found.scores.get(name, none) for name in (FIRST, RSA))
    return {
        "num_feat_kept": len(found.pairs),
        "mean_actv_corr": tables.average(sides.views[PUBLISHED].b_to_a.r),
        "mean_actv_corr_filt": found.r,
        "svcca_paired": first.value,
        "svcca_rand_mean": first.null_mean,
        "rsa_paired": rsa.value,
        "rsa_rand_mean": rsa.null_mean,
    }


# --- in a table and a sentence


def table(found: Sequence[Rung], true: Mapping[str, float] | None = None) -> pd.DataFrame:
    """One column a rung, one row a quantity, as text; `true`: share of planted pairs by step, where it is known."""
    columns: dict[str, dict[str, str]] = {"": {}}
    for x in found:
        columns[x.step] = {"n": f"{len(x.pairs):,}", "mean r": _rounded(x.r)}
        if true:
            columns[x.step]["planted"] = f"{true[x.step]:.2f}"
        for name, of in (("SVCCA", x.scores.get(LADDER[x.step].svcca)), ("RSA", x.scores.get(RSA))):
            columns[x.step] |= {
                name: _rounded(of.value if of else math.nan),
                f"{name}, null": _rounded(of.null_mean if of else math.nan),
                f"{name}, p": _rounded(of.p if of else math.nan, 3),
            }
    frame = pd.DataFrame(columns)
    frame[""] = frame.index
    return frame.reset_index(drop=True)


def _rounded(value: float, places: int = 2) -> str:
    return "n/a" if math.isnan(value) else f"{value:.{places}f}"


def conclusion(x: Score | None) -> str:
    """The conclusion from a score, as a phrase about the pairs."""
    if x is None:
        return "too few to be scored"
    return "more alike than chance gives" if x.p < LEVEL else "no more alike than chance gives"
