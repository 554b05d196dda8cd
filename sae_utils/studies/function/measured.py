"""Everything that notebook 08b measures of one replicate.

In: a checked profile, the names of a replicate, settings. Out: numbers by name, and tables, with the arms side by side.
Never: an interval or a verdict over replicates (`inference` gives both).
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from sae_utils import measures, pipeline, replicates, significance, tables
from sae_utils.engine.params import Profile
from sae_utils.significance import Result
from sae_utils.store import Artefact
from sae_utils.studies.function import attribution, criteria, paired, sites, strata
from sae_utils.studies.function.paired import CONTROL, TRUE, Both, Paired, View
from sae_utils.studies.one_to_one import matchings

FIRING, TOKEN, CLASS = "equal firing rate", "top token and firing rate", "class and firing rate"
STRATA = (FIRING, TOKEN, CLASS)
EDGES = np.linspace(0, 1, 6)  # of bins of held-out r; lower ones are in the first


class Settings(NamedTuple):
    """Parameters of the notebook that every replicate takes."""

    minimum: int  # firings of a content feature on the documents that choose
    candidates: int  # partners of a feature that are kept for mutual pairs
    top: int  # words that a feature promotes most, and tokens on which it fires most
    strata: int  # bins of firing rate
    caliper: float  # of held-out r, within which pairs count as equal
    permutations: int  # shuffles within strata
    subsets: int  # random ones, of one n
    measure: str  # of the paired decoder rows
    vectors: Mapping[str, Any]  # of words, as in 05b
    period: str  # a token that many features fire on
    hub: int  # a hub is chosen by more features
    seed: int


class Found(NamedTuple):
    """The results of one replicate."""

    numbers: dict[str, float]
    along: pd.DataFrame  # arm, r, logits, shuffled, n: by bin of held-out r
    criteria: pd.DataFrame  # a row a criterion and arm
    hubs: pd.DataFrame  # a row a group of features


def prepare(run: Profile, twins: Sequence[str]) -> list[tuple[str, ...]]:
    """The names of each replicate: A, B, and the `twins` of B, dictionaries or families; makes the codes of all."""
    cells = replicates.of(run, *run.common.primary.pair, *twins)
    if run.common.replicates:
        replicates.prepare(run, [cell[:2] for cell in cells])
    pipeline.encode(run, [(name, None) for cell in cells for name in cell])
    return cells


def ceilings(run: Profile, a: str, others: Sequence[str], settings: Settings) -> list[float]:
    """Mean likeness of logits of paired features of an SAE and of each of `others`, other SAEs of the same model."""
    found = []
    for names in ((a, other) for other in others):
        both = paired.both(run, names, settings.top)
        views = paired.views(run, names, settings.minimum, settings.candidates)
        scores = (np.diag(both.similar(x.role, TRUE, x.arms[TRUE])).mean() for x in views)
        found.append(float(np.mean(list(scores))))
    return found


def model_of(run: Profile, dictionary: str) -> Artefact:
    """The model that a dictionary reads."""
    return pipeline.reader(run, dictionary).model


def of_replicate(run: Profile, names: tuple[str, ...], twins: Sequence[str], settings: Settings) -> Found:
    """All results of A and B, the first two names; the others are twins of B, whose labels are `twins`."""
    both = paired.both(run, names[:2], settings.top)
    views = paired.views(run, names[:2], settings.minimum, settings.candidates)
    numbers = _mean([of_view(both, view, settings) for view in views])
    for label, twin in zip(twins, names[2:], strict=True):
        numbers |= of_twin(run, both, (*names[:2], twin), label, settings)
    numbers |= {"words": len(both.shared.words), "words of A": both.shared.share[0], "words of B": both.shared.share[1]}
    arms = matchings.arms(run, names[:2], settings.candidates)
    made = {
        arm: criteria.pairs(both, x.found, arm, criteria.meanings(run, names, both, arm, settings.vectors))
        for arm, x in arms.items()
    }
    asked = matchings.Settings(settings.measure, settings.candidates, 1.0, 9, settings.subsets, settings.seed)
    of_hubs = criteria.hubs(both, arms[TRUE], settings.period, settings.hub)
    return Found(numbers, along_r(both, views), criteria.table(both, arms, made, asked), of_hubs)


def _mean(found: list[dict[str, float]]) -> dict[str, float]:
    """Means by name over views; NaN where a view has none."""
    return {name: float(np.mean([x[name] for x in found])) for name in found[0]}


# --- pairs, and what they are held against


def of_view(both: Both, view: View, settings: Settings) -> dict[str, float]:
    """Means over the pairs of a view by name; names of what is measured in an arm end in the arm."""
    x = view.arms[TRUE]
    similar = both.similar(view.role, TRUE, x)
    found = {"n": float(len(x.left))} | overlaps(both, view.role, x, settings.top)
    for arm, of in view.arms.items():
        found |= {f"{key}, {arm}": value for key, value in of_arm(both, view.role, arm, of).items()}
    own = both.sides(view.role)[0]
    of_strata = labels(own, x, settings.strata)
    for name, result in strata_of(similar, of_strata, settings).items():
        found |= {f"{name}, null": result.null_mean, f"{name}, excess": result.excess}
        found |= {f"{name}, z": result.z, f"{name}, movable": result.movable}
    concept = own.classes[x.left] if own.classed else own.top[x.left]
    crossed = strata.equal_r(similar, x.r, concept, settings.caliper)
    return found | {f"equal r, {key}": value for key, value in crossed._asdict().items()}


def strata_of(similar: np.ndarray, of: Mapping[str, np.ndarray], settings: Settings) -> dict[str, Result]:
    """The pairs (n, n) against partners shuffled freely, and within the strata of each of the labels `of`."""
    return strata.tests(similar, of, m=settings.permutations, seed=settings.seed)


def overlaps(both: Both, role: str, x: Paired, top: int) -> dict[str, float]:
    """The share of promoted words that pairs have in common, and that features have with the next pair's partner."""
    one, two = (
        attribution.promoted(side.decoder[at], side.u, top)
        for side, at in zip(both.sides(role), (x.left, x.right), strict=True)
    )
    moved = np.roll(two, 1, axis=0)
    return {
        "overlap": float(attribution.overlap(one, two).mean()),
        "overlap, shuffled": float(attribution.overlap(one, moved).mean()),
    }


def labels(own: paired.Side, x: Paired, number: int) -> dict[str, np.ndarray]:
    """The strata of the left features, in `number` bins of firing rate; those of classes where classes are known."""
    rate = strata.bins(own.firings[x.left], number)
    found = {FIRING: rate, TOKEN: strata.joined(own.top[x.left], rate)}
    return found | ({CLASS: strata.joined(own.classes[x.left], rate)} if own.classed else {})


def of_arm(both: Both, role: str, arm: str, x: Paired) -> dict[str, float]:
    """Likeness of logits and of decoder rows, plain, given the text and weighted by attribution."""
    logits = np.diag(both.similar(role, arm, x))
    told = sites.explained(*both.told(role, arm, x))
    rows = tuple(side.decoder[at] for side, at in zip(both.sides(role), (x.left, x.right), strict=True))
    weights = both.strengths(role, x)
    scored = len(x.left) >= significance.FEWEST
    return {
        "logits": float(logits.mean()),
        "r": tables.average(x.r),
        "with r": float(pd.Series(logits).corr(pd.Series(x.r), method="spearman")),
        "own text": float(told.own_text.mean()),
        "text": float(told.text.mean()),
        "partial": tables.average(told.partial),
        "weighted logits": float(np.average(logits, weights=weights)),
        "rsa": measures.score(rows[0], rows[1], "rsa_spearman") if scored else np.nan,
        "weighted rsa": attribution.weighted_rsa(rows[0], rows[1], weights) if scored else np.nan,
    }


def of_twin(run: Profile, both: Both, names: tuple[str, ...], label: str, settings: Settings) -> dict[str, float]:
    """Mean likeness of logits of A's features with partners in B and in a twin of B, on the text alone."""
    units = {TRUE: both.units[TRUE], CONTROL: paired.beside_twin(run, both.a, names[2], both.shared)}

    def alike(arm: str, x: Paired) -> float:
        return float((units[arm][0][x.left] * units[arm][1][x.right]).sum(axis=1).mean())

    found = paired.views(run, names, settings.minimum, settings.candidates)
    return _mean([{f"{label}, {arm}": alike(arm, x) for arm, x in view.arms.items()} for view in found])


def along_r(both: Both, views: list[View]) -> pd.DataFrame:
    """Mean likeness of logits by bin of held-out r, in each arm, with that of all partners beside it."""
    rows = []
    for role, arm, x in ((view.role, arm, x) for view in views for arm, x in view.arms.items()):
        similar = both.similar(role, arm, x)
        shown = {"arm": arm, "r": x.r, "logits": np.diag(similar), "shuffled": similar.mean(axis=1)}
        rows.append(pd.DataFrame(shown))
    found = pd.concat(rows).dropna()
    bins = np.clip(np.searchsorted(EDGES, found.r, side="right") - 1, 0, len(EDGES) - 2)
    found["bin"] = (EDGES[bins] + EDGES[bins + 1]) / 2
    return found.groupby(["arm", "bin"]).agg(
        logits=("logits", "mean"), shuffled=("shuffled", "mean"), n=("r", "size")
    ).reset_index()  # fmt: skip
