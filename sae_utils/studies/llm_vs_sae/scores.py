"""Scores of matched units over replicates: at one n, at equal correlation, within concepts.

In: `units.Matched` sets of pairs by cell (place, A, B), by matching and kind. Out: tables and values of replicates;
for one set of pairs its score against two nulls.
Never: a verdict.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sae_utils import inference, nulls, significance, tables
from sae_utils.significance import Result
from sae_utils.studies.llm_vs_sae import units
from sae_utils.studies.llm_vs_sae.units import NEURONS, SAE, Matched
from sae_utils.studies.semantic_subspaces.concepts import Mask

CONTRASTED = (SAE, NEURONS)
Cell = tuple[str, str, str]  # place, dictionary of A, dictionary of B
Sets = Mapping[tuple[str, str], list[Matched]]  # by matching and kind of unit: either arm, chosen on either split


class Scoring(NamedTuple):
    """How sets of pairs are scored."""

    measure: str
    subsets: int  # random ones of the one n
    fewest: int  # pairs; a set with fewer is not scored, and does not set the one n
    seed: int

    def at(self, x: significance.Rows, n: int, measure: str = "", m: int = 0) -> significance.AtN:
        """The mean score of random subsets of `n` of the pairs; `UNSCORED` for fewer pairs."""
        if len(x[0]) < n:
            return significance.UNSCORED
        return significance.rows_at_n(x, measure or self.measure, n, subsets=self.subsets, m=m, seed=self.seed)


def at_one_n(
    found: Mapping[Cell, Sets], how: str, scoring: Scoring, counterpart: float, *, measure: str = "", m: int = 0,
    part: Callable[[Matched], Matched] = lambda x: x,
) -> pd.DataFrame:  # fmt: skip
    """A row of each place, arm, kind of unit and replicate: its pairs, its partners, its excess at one n.

    The one n is the smallest of all sets with enough pairs; values are means over the splits. `measure` in the place
    of the scoring's, with `m` shuffles of each subset where its null mean has no closed form. `part` of every set.
    """
    sets = [(*cell, kind, part(x)) for cell in found for kind in units.KINDS for x in found[cell][how, kind]]
    n = min((x.n for *_, x in sets if x.n >= scoring.fewest), default=scoring.fewest)
    rows: list[dict[str, object]] = []
    for place, one, _, kind, x in sets:
        score = scoring.at(x.rows, n, measure, m)
        partners: dict[str, object] = {
            "pairs": x.n,
            "held out": tables.average(x.held_out),
            "counterparts": x.kept(counterpart),
        }
        at_n: dict[str, object] = {"n": n, "excess": score.excess, "null sd": score.null_sd}
        names: dict[str, object] = {"place": place, "arm": x.arm, "units": kind, "replicate": one}
        rows.append(names | partners | at_n)
    return pd.DataFrame(rows).groupby(["place", "arm", "units", "replicate"], sort=False).mean().reset_index()


def summary(scored: pd.DataFrame) -> pd.DataFrame:
    """A row of each place, arm and kind of unit: means over replicates, and the interval of the excess."""
    rows = []
    for (place, arm, kind), part in scored.groupby(["place", "arm", "units"], sort=False):
        names = {"place": place, "arm": arm, "units": kind, "replicates": len(part)}
        over = inference.over_replicates(part.excess)
        interval = {"excess": over.estimate, "low": over.low, "high": over.high, "null sd": part["null sd"].mean()}
        rows.append(names | part[["pairs", "held out", "counterparts"]].mean().to_dict() | interval)
    return pd.DataFrame(rows)


def excess(scored: pd.DataFrame, kind: str, arm: str = "true", place: str = "primary") -> pd.Series:
    """The excess of one kind of unit in one arm, by replicate."""
    chosen = scored[(scored.units == kind) & (scored.arm == arm) & (scored.place == place)]
    found: pd.Series = chosen.set_index("replicate").excess
    return found


def alike(sets: Sets, scoring: Scoring, caliper: float) -> NDArray[np.float64]:
    """Number of pairs, their held-out r, and the excess of features less that of neurons that correlate as much.

    Means over the splits of the true arm; NaN with fewer than the fewest pairs.
    """
    values = []
    for one, two in zip(sets["one-to-one", SAE], sets["one-to-one", NEURONS], strict=True):
        at = inference.alike(one.held_out, two.held_out, caliper)
        if one.arm == "true" and (n := len(at[0])) >= max(scoring.fewest, significance.FEWEST):
            both = [scoring.at((x.rows[0][part], x.rows[1][part]), n) for x, part in zip((one, two), at, strict=True)]
            values.append((n, one.held_out[at[0]].mean(), both[0].excess - both[1].excess))
    return np.mean(values, axis=0) if values else np.full(3, np.nan)


Masks = Mapping[str, Sequence[Mapping[str, Mask]]]  # kind of unit -> the masks of A's units and of B's, by concept


def about(x: Matched, masks: Sequence[Mapping[str, Mask]], concept: str) -> NDArray[np.int64]:
    """Places of the pairs of which either side is about the concept; `masks` of A's units and of B's, by concept."""
    of_a, of_b = (side[concept] for side in masks)
    return np.flatnonzero(of_a[x.pairs.a] | of_b[x.pairs.b])


def within_concepts(
    sets: Mapping[str, Matched], masks: Masks, scoring: Scoring, fewest: int, random: int
) -> list[dict[str, object]]:
    """A row of each concept with at least `fewest` pairs of features and of neurons.

    `n`, the smaller number of both kinds; by kind the excess of the concept's pairs at n, and as `random` and the kind
    that of pairs of any concept, the mean over `random` random selections of n of them.
    """
    rows: list[dict[str, object]] = []
    for concept in masks[SAE][0]:
        at = {kind: about(sets[kind], masks[kind], concept) for kind in CONTRASTED}
        n = min(map(len, at.values()))
        if n < max(fewest, significance.FEWEST):
            continue
        row: dict[str, object] = {"concept": concept, "n": n}
        for kind, places in at.items():
            a, b = sets[kind].rows
            row[kind] = scoring.at((a[places], b[places]), n).excess
            row[f"random {kind}"] = scoring._replace(subsets=random).at((a, b), n).excess
        rows.append(row)
    return rows


def both_nulls(x: Matched, at: NDArray[np.int64], measure: str, *, m: int, seed: int) -> tuple[Result, Result]:
    """The score of the pairs at some places against `m` shuffled pairings, and against `m` selections of as many pairs.

    A selection keeps partners, and breaks only the concept.
    """

    def select(generator: nulls.Rng) -> tuple[np.ndarray, np.ndarray]:
        other = generator.choice(x.n, len(at), replace=False)
        return x.rows[0][other], x.rows[1][other]

    selection, rows = nulls.Selection("random selection", select), (x.rows[0][at], x.rows[1][at])
    shuffled, selected = (
        significance.test(*rows, [measure], null=null, m=m, seed=seed)[measure] for null in (None, selection)
    )
    return shuffled, selected
