"""Scores of matched units over replicates: at one n, at equal correlation, within concepts.

In: `units.Matched` sets of pairs by cell (place, A, B), by matching and kind. Out: tables and values of replicates.
Never: an interval or a verdict over replicates (`inference` gives both).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sae_utils import inference, replicates, significance, tables
from sae_utils.engine.params import Profile
from sae_utils.studies.llm_vs_sae import units
from sae_utils.studies.llm_vs_sae.units import NEURONS, SAE, Matched
from sae_utils.studies.semantic_subspaces.concepts import Mask

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


def pairs(profile: Profile, cell: Cell, candidates: int, minimum: int) -> dict[tuple[str, str], list[Matched]]:
    """The pairs of a cell by matching and kind of unit; replicates of the primary pair have both arms."""
    place, a, b = cell
    second = replicates.seed(profile, a) if profile.common.replicates and place == "primary" else None
    return {
        (how, kind): units.matched(profile, a, b, kind, candidates, how=how, exchanged=second, minimum=minimum)
        for how in units.MATCHINGS
        for kind in units.KINDS
    }


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


def within_concepts(
    sets: Sets, about: Mapping[str, Sequence[Mapping[str, Mask]]], scoring: Scoring, fewest: int
) -> list[dict[str, object]]:
    """A row of each concept with at least `fewest` pairs of features and of neurons: its n, and the excess of both.

    `about`: by kind of unit the masks of A and of B by concept. Pairs count of which either side is about the concept;
    both kinds are scored at the smaller n.
    """
    rows: list[dict[str, object]] = []
    for concept in about[SAE][0]:
        parts = {}
        for kind in (SAE, NEURONS):
            x, (of_a, of_b) = sets["one-to-one", kind][0], (side[concept] for side in about[kind])
            at = np.flatnonzero(of_a[x.pairs.a] | of_b[x.pairs.b])
            parts[kind] = x.rows[0][at], x.rows[1][at]
        n = min(len(part[0]) for part in parts.values())
        if n >= max(fewest, significance.FEWEST):
            scored = {kind: scoring.at(part, n).excess for kind, part in parts.items()}
            rows.append({"concept": concept, "n": n} | scored)
    return rows
