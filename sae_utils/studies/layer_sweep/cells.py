"""One cell of a sweep: features of two dictionaries with their partners, and the similarity of their rows.

In: a profile and two of its dictionaries, or their codes; the measures. Out: `Paired`s, and `Scores` at one n.
Never: a choice of cells, or a statement over several cells (`layers` has both).
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from sae_utils import correlate, matching, measures, pipeline, replicates, significance, tables
from sae_utils.engine.core.spec import Count, Spec
from sae_utils.engine.params import Profile
from sae_utils.engine.saes import correlations, dictionaries
from sae_utils.measures import Measure
from sae_utils.significance import AtN, Result
from sae_utils.store import Artefact, artefact

Rows = Literal["decoder", "encoder"]
ROWS: tuple[Rows, ...] = ("decoder", "encoder")
TRUE, CONTROL = "true", "control"  # the arms


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


class Arm(NamedTuple):
    """Paired features: the feature `a[i]` of A with the feature `b[i]` of B."""

    a: NDArray[np.int64]  # (n,)
    b: NDArray[np.int64]  # (n,)


class Paired(NamedTuple):
    """Features with the partners that one part of the documents chooses."""

    arms: dict[str, Arm]  # `TRUE`, and where words can be exchanged `CONTROL`; both have the same features of one side
    held_out: float  # mean correlation of the true arm on the other documents
    retention: float  # share of the live features of their side


class Scores(NamedTuple):
    """The scores of a cell by arm, then by kind of rows, then by name of the measure."""

    results: dict[str, dict[str, dict[str, Result]]]  # the pairs of the first choice against shuffled pairings
    at_one_n: dict[str, dict[str, dict[str, float]]]  # excess at the common n, mean over choices of partners


def paired(run: Profile, a: str, b: str, minimum: int, candidates: int) -> list[Paired]:
    """The paired features of two dictionaries, by every choice of partners.

    With replicates: content features of A, and of B, that fire at least `minimum` times, with one-to-one partners, by
    either part of the documents (`replicates.matched`). Without: mutual pairs among `candidates` of each feature, and
    no control.
    """
    if run.common.replicates:
        _, found = replicates.matched(run, (a, b), minimum)
        return [_of_replicate(x) for x in found]
    one, two = (pipeline.features(run, name) for name in (a, b))
    kept = matched(one.kept, two.kept, one.sites, candidates, 0.0)
    retention = kept.meta["pairs"] / min(kept.meta["live_a"], kept.meta["live_b"])
    return [Paired({TRUE: Arm(kept.array("a"), kept.array("b"))}, kept.meta["held_out"], retention)]


def _of_replicate(x: replicates.Matched) -> Paired:
    turned = 1 if x.role == "a" else -1
    arms = {TRUE: Arm(*(x.features, x.true)[::turned]), CONTROL: Arm(*(x.features, x.control)[::turned])}
    return Paired(arms, tables.average(x.r_true), x.retention)


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


def scored(
    found: Sequence[Paired], sides: Mapping[str, tuple[np.ndarray, np.ndarray]], battery: Battery, n: int,
    seed: int, others: Sequence[str] = (), tested: bool = True,
) -> Scores:  # fmt: skip
    """Similarity of the rows of paired features, by arm.

    `sides`: by kind the rows (features, d) of A and of B. At `n`, the same in all cells that are compared, every choice
    of partners is scored by the measures of the battery, on random subsets that both arms share. If `tested`, all pairs
    of the first choice are held against shuffled pairings, by the measures and by `others`. `seed` is the cell's own.
    Raises ValueError for fewer pairs than `n`, or than a measure needs.
    """
    one_n = {
        arm: {
            kind: _mean([at_n(*_rows(of, x.arms[arm]), battery, n, seed=[seed, i]) for i, x in enumerate(found)])
            for kind, of in sides.items()
        }
        for arm in found[0].arms
    }
    asked = battery.model_copy(update={"measures": list(dict.fromkeys([*battery.measures, *others]))})
    results = {
        arm: {kind: _tested(_rows(of, pairs), asked, seed) for kind, of in sides.items()}
        for arm, pairs in (found[0].arms if tested else {}).items()
    }
    return Scores(results, one_n)


def sides_of(run: Profile, a: str, b: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """By kind the rows of two dictionaries."""
    read = [pipeline.reader(run, name).dictionary for name in (a, b)]
    return {kind: (rows(read[0], kind), rows(read[1], kind)) for kind in ROWS}


def _rows(sides: tuple[np.ndarray, np.ndarray], pairs: Arm) -> tuple[np.ndarray, np.ndarray]:
    return sides[0][pairs.a], sides[1][pairs.b]


def _mean(found: Sequence[Mapping[str, AtN]]) -> dict[str, float]:
    """Mean excess by measure; NaN where one choice of partners has none."""
    return {name: float(np.mean([x[name].excess for x in found])) for name in found[0]}


def _tested(sides: tuple[np.ndarray, np.ndarray], battery: Battery, seed: int) -> dict[str, Result]:
    found = significance.test(*sides, battery.chosen(), m=battery.permutations, seed=seed)
    return dict(zip(battery.measures, found.values(), strict=True))


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
