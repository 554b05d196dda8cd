"""The published procedure on features of this repository, and what each correction of it changes, one after another.

In: two sides, seen in four ways (as published; masked; at the right hook; after the nonlinearity), and their decoder
rows. Out: the rungs of the ladder: pairs, and their scores against the null of that rung.
Never: a correction that is not named; a result about the models of the published study.

The published procedure (arXiv 2410.06981, as its public code has it): every feature of B takes its best feature of A;
pairs with a listed token among the top ones of either side, or without a shared one, are dropped; of the features of B
that chose one feature of A the lowest is kept; then pairs below a least r are dropped. The numbers of pairs kept in the
study's two ways of pairing tell this order (`published.orders`).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from sae_utils import filters, pipeline, significance, similarity, sweep, tables
from sae_utils.engine.lms import models
from sae_utils.engine.pairing import comparison
from sae_utils.engine.params import Profile
from sae_utils.engine.saes import dictionaries
from sae_utils.filters import Facts
from sae_utils.matching import Pairs
from sae_utils.significance import Result
from sae_utils.store import Artefact
from sae_utils.studies.published_tables import views
from sae_utils.studies.published_tables.published import Cell
from sae_utils.studies.published_tables.views import View

PUBLISHED, MASK, HOOK, CODES = "published", "mask", "hook", "TopK"
ORDER, ONE, ESTIMATOR = "filters last", "one-to-one", "estimator"
SHUFFLES, EXCESS, ALL = "shuffles", "excess", "no filters"
STEPS = (PUBLISHED, MASK, HOOK, CODES, ORDER, ONE, ESTIMATOR, SHUFFLES, EXCESS, ALL)
FIRST, SVCCA, RSA = "svcca_first_component", "svcca", "rsa_spearman"  # the first and the last are the study's
SEVERAL = 3  # rows a dimension, below which SVCCA is not used


class Sides(NamedTuple):
    """Two sets of features, seen in each of the ways `PUBLISHED`, `MASK`, `HOOK`, `CODES`."""

    seen: dict[str, View]
    words: list[str]
    """text of every token"""
    rows: tuple[np.ndarray, np.ndarray]
    """decoder rows (features_a, d_a), (features_b, d_b)"""


class Settings(NamedTuple):
    """What the procedure may vary."""

    tokens: Collection[str]
    """a pair with one of these among the top tokens of either side is dropped"""
    top: int
    """top tokens of a feature that are looked at"""
    least_r: float
    draws: int
    """shuffles behind a published null"""
    permutations: int
    """shuffles once there are enough"""
    seed: int


class Score(NamedTuple):
    """A score and what shuffled pairings score, as a rung reports them."""

    value: float
    null_mean: float
    low: float
    """2.5% quantile of the shuffles"""
    high: float
    p: float
    """share of the shuffles that reach the value, as published; from `SHUFFLES` on (b + 1) / (m + 1)"""


class Rung(NamedTuple):
    """One step of the ladder, all before it included."""

    step: str
    pairs: Pairs
    scores: dict[str, Score]
    """by measure; empty where there are too few pairs"""

    @property
    def r(self) -> float:
        """Mean correlation of the pairs on the documents that chose them."""
        return tables.average(self.pairs.r)


def sides(profile: Profile, a: str, b: str, positions: int, top: int) -> Sides:
    """Two dictionaries of a profile on its first matching rows, up to so many `positions`.

    Raises:
        ValueError: their models do not read the same tokens.
    """
    wrong, right = (loose(profile, a, b, positions, top, right=right) for right in (False, True))
    x, y = (pipeline.features(profile, name) for name in (a, b))
    where = _where(pipeline.reader(profile, a), positions)
    at = np.flatnonzero(np.isin(x.sites.array("rows"), where.array("chosen")))
    seen = {
        PUBLISHED: views.read(wrong, "all"),
        MASK: views.read(wrong, "inside"),
        HOOK: views.read(right, "inside"),
        CODES: views.see(x.codes, y.codes, at, x.sites.array("tokens"), x.sites.array("documents"), top),
    }
    return Sides(seen, pipeline.vocabulary(profile, a), (x.decoder, y.decoder))


def _where(reader: pipeline.Reader, positions: int) -> Artefact:
    return views.positions(reader.rows, positions, reader.skip)


def feeds(profile: Profile, names: Iterable[str], positions: int) -> dict[tuple[str, bool], Artefact]:
    """What dictionaries are fed with, by name and whether at the right hook or, as published, at the block's input.

    One pass over a model serves all that read it.
    """
    readers = {name: pipeline.reader(profile, name) for name in names}
    hooks: dict[Artefact, dict[str, None]] = defaultdict(dict)
    for x in readers.values():
        hooks[x.model] |= dict.fromkeys((models.block_input(x.hook), x.hook))
    found: dict[tuple[str, bool], Artefact] = {}
    for name, x in readers.items():
        made = views.activations_at(hooks[x.model], x.model, x.rows, _where(x, positions))
        found |= {(name, False): made[models.block_input(x.hook)], (name, True): made[x.hook]}
    return found


def loose(profile: Profile, a: str, b: str, positions: int, top: int, *, right: bool) -> Artefact:
    """`views.partners` of two dictionaries, fed at the `right` hook or at the input of its block, as published.

    Raises:
        ValueError: their models do not read the same tokens.
    """
    readers = [pipeline.reader(profile, name) for name in (a, b)]
    if readers[0].rows.key != readers[1].rows.key:
        raise ValueError(f"{a} and {b} look at different tokens: their models need one tokenizer")
    fed = feeds(profile, (a, b), positions)
    sources = [[x.dictionary, fed[name, right]] for name, x in zip((a, b), readers, strict=True)]
    return views.partners(sources, _where(readers[0], positions), top)


def cells(profile: Profile, given: Sequence[Cell], positions: int, settings: Settings) -> dict[Cell, dict[str, float]]:
    """`cell` of all the published cells that a profile can make; one pass over each model serves all its layers."""
    feeds(profile, dict.fromkeys(name for x in given for name in (x.a, x.b)), positions)
    return sweep.sweep(lambda x: cell(profile, x.a, x.b, positions, settings), given, "published cells")


def cell(profile: Profile, a: str, b: str, positions: int, settings: Settings) -> dict[str, float]:
    """What the published procedure reports of two dictionaries, under the names of `published.COMPARED`.

    Scores are NaN where there are too few pairs.
    """
    seen = views.read(loose(profile, a, b, positions, settings.top, right=False), "all")
    kept = chosen(seen, seen.facts(pipeline.vocabulary(profile, a)), settings)
    rows = [dictionaries.decoder(pipeline.reader(profile, name).dictionary) for name in (a, b)]
    found = scores((rows[0], rows[1]), kept, [FIRST, RSA], settings.draws, settings.seed)
    none = Score(*[math.nan] * len(Score._fields))
    first, rsa = (found.get(name, none) for name in (FIRST, RSA))
    return {
        "num_feat_kept": len(kept.a),
        "mean_actv_corr": tables.average(seen.b_to_a.r),
        "mean_actv_corr_filt": tables.average(kept.r),
        "svcca_paired": first.value,
        "svcca_rand_mean": first.null_mean,
        "rsa_paired": rsa.value,
        "rsa_rand_mean": rsa.null_mean,
    }


def chosen(seen: View, facts: Facts, settings: Settings) -> Pairs:
    """The published pairs: filters by token, then the first of those that share a partner, then the least r."""
    return _filtered(seen.b_to_a, facts, [*_by_token(settings), _FIRST, ("weak", {"r": settings.least_r})])


def pairs(sides: Sides, settings: Settings) -> dict[str, Pairs]:
    """The pairs of every step that changes them."""
    facts = {step: seen.facts(sides.words) for step, seen in sides.seen.items()}
    found = {step: chosen(seen, facts[step], settings) for step, seen in sides.seen.items()}
    seen, last = sides.seen[CODES], [*_by_token(settings), ("weak", {"r": settings.least_r})]
    found[ORDER] = _filtered(seen.b_to_a, facts[CODES], [_FIRST, *last])
    found[ONE] = _filtered(seen.mutual, facts[CODES], last)
    found[ALL] = seen.mutual
    return found


Filters = Sequence[tuple[str, Mapping[str, Any]]]
_FIRST = ("hubs", {"more_than": 1, "keep": "first", "side": "a"})


def _by_token(settings: Settings) -> Filters:
    return [
        ("non_concept", {"tokens": settings.tokens, "top": settings.top}),
        ("no_shared_token", {"top": settings.top}),
    ]


def _filtered(pairs: Pairs, facts: Facts, steps: Filters) -> Pairs:
    return filters.apply(pairs, facts, steps)[0]


def climb(sides: Sides, settings: Settings) -> list[Rung]:
    """All rungs, in the order of `STEPS`."""
    found = pairs(sides, settings)
    few, many = settings.draws, settings.permutations
    sound = [SVCCA, RSA]
    rungs = [Rung(step, found[step], scores(sides.rows, found[step], [FIRST, RSA], few, settings.seed)) for step in
             (PUBLISHED, MASK, HOOK, CODES, ORDER, ONE)]  # fmt: skip
    kept = found[ONE]
    rungs.append(Rung(ESTIMATOR, kept, scores(sides.rows, kept, sound, few, settings.seed)))
    rungs.append(Rung(SHUFFLES, kept, scores(sides.rows, kept, sound, many, settings.seed, corrected=True)))
    rungs.append(Rung(EXCESS, kept, {name: excess(x) for name, x in rungs[-1].scores.items()}))
    everyone = scores(sides.rows, found[ALL], sound, many, settings.seed, corrected=True)
    return [*rungs, Rung(ALL, found[ALL], {name: excess(x) for name, x in everyone.items()})]


def scores(
    rows: tuple[np.ndarray, np.ndarray],
    kept: Pairs,
    names: Sequence[str],
    m: int,
    seed: int,
    *,
    corrected: bool = False,
) -> dict[str, Score]:
    """Scores of pairs by measure, against `m` shuffles; p as published, or `corrected`: (b + 1) / (m + 1).

    None where there are too few pairs, and no SVCCA with less than `SEVERAL` pairs a dimension of the wider side.
    """
    if not comparison.enough(kept):
        return {}
    a, b = rows[0][kept.a], rows[1][kept.b]
    fit = [name for name in names if name != SVCCA or len(a) >= SEVERAL * max(a.shape[1], b.shape[1])]
    # null means of the shuffles, as published, also where they are known exactly
    measures = [similarity.measure(name)._replace(moments=None) for name in fit]
    return {name: _score(x, corrected) for name, x in significance.test(a, b, measures, m=m, seed=seed).items()}


def _score(x: Result, corrected: bool) -> Score:
    low, high = np.quantile(x.draws, [0.025, 0.975])
    p = x.p if corrected else float(np.mean(x.draws >= x.observed))
    return Score(x.observed, x.null_mean, float(low), float(high), p)


def table(rungs: Sequence[Rung], true: Mapping[str, float] | None = None) -> pd.DataFrame:
    """One column a rung, one row a quantity, as text; `true`: of planted pairs, the share that was planted, by step."""
    shown: dict[str, dict[str, str]] = {"": {}}
    for rung in rungs:
        svcca, rsa = rung.scores.get(SVCCA, rung.scores.get(FIRST)), rung.scores.get(RSA)
        column = {"n": f"{len(rung.pairs.a):,}", "mean r": _rounded(rung.r)}
        if true:
            column["planted"] = f"{true[rung.step]:.2f}"
        for name, x in (("SVCCA", svcca), ("RSA", rsa)):
            column[name] = _rounded(x.value if x else math.nan)
            column[f"{name}, null"] = _rounded(x.null_mean if x else math.nan)
            column[f"{name}, p"] = _rounded(x.p if x else math.nan, 3)
        shown[rung.step] = column
    frame = pd.DataFrame(shown)
    frame[""] = frame.index
    return frame.reset_index(drop=True)


def _rounded(value: float, places: int = 2) -> str:
    return "n/a" if math.isnan(value) else f"{value:.{places}f}"


def largest(rungs: Sequence[Rung], values: Sequence[float]) -> str:
    """The step at which `values`, one a rung, change most against the rung before."""
    return rungs[1 + int(np.nanargmax(np.abs(np.diff(np.asarray(values, np.float64)))))].step


def rate(below: int, scored: int) -> str:
    """How many of the draws that could be scored have a p below the level, as a table says it."""
    return f"{below} of {scored}" if scored else "too few pairs"


def says(x: Score | None) -> str:
    """What a reader would take from a score: a phrase for a sentence about the pairs."""
    if x is None:
        return "too few to be scored"
    return "more alike than chance gives" if x.p < 0.05 else "no more alike than chance gives"


def excess(x: Score) -> Score:
    """The same score as excess over its null: 0 at chance, 1 at most."""
    if math.isclose(x.null_mean, 1):
        return x._replace(value=math.nan, null_mean=math.nan, low=math.nan, high=math.nan)
    value, low, high = (significance.excess(shown, x.null_mean) for shown in (x.value, x.low, x.high))
    return Score(value, 0.0, low, high, x.p)
