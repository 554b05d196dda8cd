"""One cell of a sweep: the pairs of two dictionaries over the same tokens, and the similarity of their rows.

In: codes and dictionaries as artefacts, the measures. Out: artefacts, and `Scores` read from one.
Never: a choice of cells, or a correction over several cells (`layers` does both).
"""

import math
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from pydantic import Field

from sae_utils import correlate, matching, measures, significance, tables
from sae_utils.engine.core.spec import Count, Spec
from sae_utils.engine.saes import correlations, dictionaries
from sae_utils.measures import Measure
from sae_utils.significance import AtN, Result
from sae_utils.store import Artefact, artefact

Rows = Literal["decoder", "encoder"]
ROWS: tuple[Rows, ...] = ("decoder", "encoder")


class Battery(Spec):
    """The measures and draws of every cell; all cells share one, so that they can be compared and corrected."""

    measures: list[str] = Field(min_length=1)  # names, as in `measures.NAMES`
    neighbours: Count  # of the kNN measures
    permutations: int = Field(ge=19, lt=2**31)  # shuffled pairings of all pairs, shared by measures and kinds of rows
    subsets: Count  # random subsets of the common n
    # shuffled pairings of each subset, where the null mean is not known in closed form
    subset_draws: int = Field(ge=2, lt=2**31)

    def chosen(self) -> list[Measure]:
        """The measures, ready to be scored; ValueError for an unknown name."""
        return list(measures.chosen(self.measures, self.neighbours).values())


class Scores(NamedTuple):
    """The scores of a cell by kind of rows, then by name of the measure in the battery."""

    results: dict[str, dict[str, Result]]  # all pairs against shuffled pairings
    at_one_n: dict[str, dict[str, AtN]]  # the same at the common n


@artefact
def matched(folder: Path, a: Artefact, b: Artefact, sites: Artefact, k: int, counterpart: float) -> dict[str, Any]:
    """Mutual pairs of two codes artefacts, found on the matching documents: `a`, `b`, `r`, each (pairs,).

    In its meta: pairs, live_a, live_b: on the matching documents. r, held_out: mean correlation of the pairs on the
    documents that chose them and on those that did not. counterparts: share of the live features of the side with fewer
    that have a mutual partner with a held-out r of at least `counterpart`. These three are means over both roles of the
    documents. Raises ValueError if the codes are over different tokens.
    """
    if not a.meta["sites"] == b.meta["sites"] == sites.key:
        raise ValueError("the two dictionaries look at different tokens: their models need one tokenizer")
    means, values = [], {}
    for choose, judge in (("matching", "held_out"), ("held_out", "matching")):
        found = correlations.correlation(a, b, sites, choose, k)
        pairs = matching.mutual(found)
        judged = correlations.side(a, sites, judge), correlations.side(b, sites, judge)
        held_out = correlate.pairs(*judged, pairs.a, pairs.b)
        reached = int((np.nan_to_num(held_out) >= counterpart).sum())
        means.append((tables.average(pairs.r), tables.average(held_out), reached / min(found.live)))
        if choose == "matching":  # whose pairs are compared
            for name in ("a", "b", "r"):
                np.save(folder / f"{name}.npy", getattr(pairs, name))
            values = {"pairs": len(pairs.a), "live_a": found.live[0], "live_b": found.live[1]}
    r, out, share = np.mean(means, axis=0)
    return values | {"r": float(r), "held_out": float(out), "counterparts": float(share)}


def rows(dictionary: Artefact, kind: Rows) -> np.ndarray:
    """The direction that every feature writes (decoder) or reads (encoder), float32 (features, d)."""
    return dictionaries.decoder(dictionary) if kind == "decoder" else dictionaries.encoder(dictionary)


@artefact
def scored(
    folder: Path, pairs: Artefact, a: Artefact, b: Artefact, battery: Battery, n: int, seed: list[int]
) -> dict[str, Any]:
    """Similarity of the rows of `matched` features: of all pairs, and the mean excess of random subsets of `n` pairs.

    `n` is the same in all cells that are compared; `seed` is the cell's own, so that permutations are shared within a
    cell and independent across cells. `draws`: float64 (kinds of rows x measures, permutations). Raises ValueError for
    fewer pairs than `n`, or than a measure needs.
    """
    at_a, at_b = pairs.array("a"), pairs.array("b")
    results, one_n, draws = {}, {}, []
    for kind in ROWS:
        x, y = rows(a, kind)[at_a], rows(b, kind)[at_b]
        tested = significance.test(x, y, battery.chosen(), m=battery.permutations, seed=seed)
        named = dict(zip(battery.measures, tested.values(), strict=True))
        draws += [result.draws for result in named.values()]
        results[kind] = {
            name: {field: value for field, value in result._asdict().items() if field != "draws"}
            for name, result in named.items()
        }
        one_n[kind] = {name: alike._asdict() for name, alike in at_n(x, y, battery, n, seed=seed).items()}
    np.save(folder / "draws.npy", np.array(draws))
    return {"measures": battery.measures, "results": results, "at_one_n": one_n}


def at_n(x: np.ndarray, y: np.ndarray, battery: Battery, n: int, *, seed: list[int]) -> dict[str, AtN]:
    """`significance.at_n` of every measure, of the paired rows `x` (pairs, d_a), `y` (pairs, d_b).

    The excess is NaN where a measure cautions that n is too small (canonical correlations that are 1 for any rows).
    Raises ValueError for fewer than `n` pairs.
    """
    asked = battery.chosen()
    exact = {what.name: 0 for what in asked if what.closed_form}

    def test(places: np.ndarray, number: int) -> dict[str, Result]:
        found = significance.test(
            x[places], y[places], asked, m=battery.subset_draws, m_of=exact, seed=[*seed, 2, number]
        )
        named = zip(battery.measures, found.values(), strict=True)
        return {name: result._replace(excess=math.nan) if result.note else result for name, result in named}

    return significance.at_n(len(x), n, test, subsets=battery.subsets, seed=[*seed, 1])


def read(kept: Artefact) -> Scores:
    """The scores that `scored` left in the store."""
    draws, measures = iter(kept.array("draws")), kept.meta["measures"]  # meta's own keys are sorted
    results: dict[str, dict[str, Result]] = {kind: {} for kind in ROWS}
    for kind in ROWS:
        for name in measures:
            fields = kept.meta["results"][kind][name]
            results[kind][name] = Result(**fields | {"k": tuple(fields["k"]), "draws": np.array(next(draws))})
    at_n = kept.meta["at_one_n"]
    return Scores(results, {kind: {name: AtN(**at_n[kind][name]) for name in measures} for kind in results})
