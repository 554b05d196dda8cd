"""Features of a given model A, paired with those of a model B and with those of a twin of B.

In: names of dictionaries of a profile. Out: how alike A's features and their partners are arranged, for B and for each
other that takes its place, on all documents and with one group of documents left out after another.
Never: an exchange of words, a second model seed; an interval (`inference` has it).

The features of A are the same in all arms: those that fire often enough on the documents that choose partners and,
where the text has words of known classes, that are content features. Each gets one partner, by the largest total
correlation, without a threshold.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sae_utils import inference, pipeline, replicates, sweep
from sae_utils.engine.params import Profile
from sae_utils.engine.saes import correlations

TRUE, PERMUTED = "A and B", "other documents"
LEFT_OUT = inference.GROUPS // len(replicates.SPLITS)  # groups of documents of either split


class Part(NamedTuple):
    """The codes of one dictionary on the documents of one split."""

    codes: Any  # CSR (tokens, features)
    classes: NDArray[Any]  # (tokens,) class of the word, -1 for none
    groups: NDArray[np.int64]  # (tokens,) group of its article


class Side(NamedTuple):
    """One dictionary."""

    decoder: np.ndarray  # (features, d)
    parts: Mapping[str, Part]  # by split


class Arms(NamedTuple):
    """A's features with their partners in each arm, on the documents of one split; index 0 leaves out no group."""

    n: int  # features, with no group left out
    retention: float  # their share of A's live features
    r: Mapping[str, float]  # arm -> mean correlation on the documents that judge
    excess: Mapping[str, Mapping[str, NDArray[np.float64]]]  # arm -> measure -> (1 + groups,)


class Cell(NamedTuple):
    """One role of one SAE seed: A, B and what takes the place of B, read on one split."""

    role: str  # "a" where features of the first model are paired, "b" where those of the second are
    seed: int  # number of the SAE seed, from 0
    choose: str  # split that chooses partners
    judge: str
    a: str
    others: tuple[tuple[str, str], ...]  # (arm, dictionary); the first is B

    def __str__(self) -> str:
        return f"{self.a} on {self.choose}"


def side(run: Profile, name: str) -> Side:
    """A dictionary of a profile; articles are in as many groups in either split, of nearly as many tokens each."""
    x = pipeline.features(run, name)
    article, parts = pipeline.articles(run, x.sites), {}
    for split, _ in replicates.SPLITS:
        at = correlations.in_split(x.sites, split)
        codes = x.codes[at].astype(np.float64)
        parts[split] = Part(codes, x.sites.array("classes")[at], inference.grouped(article[at], LEFT_OUT))
    return Side(x.decoder, parts)


def permuted(other: Side) -> Side:
    """A side with half of the tokens moved to the other half: every token meets the codes of another document."""
    parts = {}
    for split, part in other.parts.items():
        order = np.roll(np.arange(part.codes.shape[0]), part.codes.shape[0] // 2)
        parts[split] = part._replace(codes=part.codes[order])
    return other._replace(parts=parts)


def compare(
    a: Side, others: Mapping[str, Side], measures: Sequence[str], minimum: int, choose: str, judge: str, *,
    leave_out: bool = True,
) -> Arms:  # fmt: skip
    """The excess of A's features and their partners in each of `others`, by measure.

    With `leave_out` also without one group of documents after another, for the jackknife. `minimum`: firings of a
    feature of A on the documents that choose. A feature without a partner in one arm is left out of all. The excess
    is NaN for fewer than `replicates.FEWEST` features. Raises ValueError where sides have different tokens.
    """
    mine, theirs = a.parts[choose], {arm: other.parts[choose] for arm, other in others.items()}
    if any(not np.array_equal(mine.groups, part.groups) for part in theirs.values()):
        raise ValueError("A and another side have different tokens")
    total = {arm: replicates.sums([mine.codes], [part.codes]) for arm, part in theirs.items()}

    def paired(group: int | None) -> tuple[NDArray[np.int64], dict[str, NDArray[np.int64]], float]:
        """A's features, their partners by arm, and their share of the live ones, without a group."""
        out = mine.groups == (-1 if group is None else group)
        features = replicates.content_features([mine.codes[~out]], [mine.classes[~out]], minimum)
        partners, found = {}, np.ones(len(features), bool)
        for arm, part in theirs.items():
            x = total[arm].without(replicates.sums([mine.codes[out]], [part.codes[out]])).correlations()
            found &= x.live[0][features]
            partners[arm] = np.full(len(features), -1)
            partners[arm][found] = replicates.partners(x.r, features[found], x.live[1])
            found &= partners[arm] >= 0
        return features[found], {arm: of[found] for arm, of in partners.items()}, found.sum() / max(x.live[0].sum(), 1)

    everything = paired(None)
    excess: dict[str, dict[str, list[float]]] = {arm: {name: [] for name in measures} for arm in others}
    groups = np.unique(mine.groups)[: None if leave_out else 0]
    for features, partners, _ in itertools.chain([everything], map(paired, groups)):
        for arm, other in others.items():
            rows = a.decoder[features], other.decoder[partners[arm]]
            for name, value in replicates.excesses(rows, measures).items():
                excess[arm][name].append(value)
    features, partners, retention = everything
    judged = {arm: _r(a.parts[judge], other.parts[judge], features, partners[arm]) for arm, other in others.items()}
    found = {arm: {name: np.array(values) for name, values in of.items()} for arm, of in excess.items()}
    return Arms(len(features), float(retention), judged, found)


def _r(a: Part, b: Part, features: NDArray[np.int64], partners: NDArray[np.int64]) -> float:
    """Mean correlation of pairs, of those whose features both fire."""
    r = replicates.correlate([a.codes], [b.codes]).r[features, partners]
    return float(np.nanmean(r)) if np.isfinite(r).any() else float("nan")


def cells(a: Sequence[str], b: Sequence[str], twins: Mapping[str, Mapping[str, Sequence[str]]]) -> list[Cell]:
    """Every SAE seed in both roles and with both splits as those that choose.

    `a`, `b`: SAEs of the two models, one a seed; a single one is used with every seed of the other. `twins`: label ->
    "a" or "b" -> SAEs of a twin of that model, likewise. A role takes part if all twins have it. Raises ValueError for
    lists of different lengths, an empty one, and where no role takes part.
    """
    of = {"a": a, "b": b}
    lists = [a, b, *(names for sides in twins.values() for names in sides.values())]
    number = max(map(len, lists))
    if any(len(names) not in {1, number} - {0} for names in lists):
        raise ValueError(f"{[len(names) for names in lists]} SAEs: as many of each model and twin, or one")
    found = []
    for role, other in (("a", "b"), ("b", "a")):
        if twins and all(other in sides for sides in twins.values()):
            for seed, (choose, judge) in itertools.product(range(number), replicates.SPLITS):
                listed = {TRUE: of[other], **{label: sides[other] for label, sides in twins.items()}}
                named = tuple((arm, names[seed % len(names)]) for arm, names in listed.items())
                found.append(Cell(role, seed, choose, judge, of[role][seed % len(of[role])], named))
    if not found:
        raise ValueError("no role takes part: give every twin SAEs of `b`, or every one of `a`")
    return found


def over(run: Profile, asked: Sequence[Cell], measures: Sequence[str], minimum: int) -> dict[Cell, Arms]:
    """`compare` of every cell, side by side in processes; the arm `PERMUTED` pairs A with B on other documents."""
    pipeline.encode(run, ((name, None) for cell in asked for name in (cell.a, *(x for _, x in cell.others))))

    def one(cell: Cell) -> Arms:
        others = {arm: side(run, name) for arm, name in cell.others}
        others[PERMUTED] = permuted(others[TRUE])
        return compare(side(run, cell.a), others, measures, minimum, cell.choose, cell.judge)

    return sweep.run(one, asked, "SAE seeds")


def ceilings(run: Profile, seeds: Sequence[str], measures: Sequence[str], minimum: int) -> dict[str, list[float]]:
    """The excess between every two SAEs of one model by measure: what differs is the SAE's seed alone."""
    found: dict[str, list[float]] = {name: [] for name in measures}
    for a, b in itertools.combinations([side(run, name) for name in seeds], 2):
        for choose, judge in replicates.SPLITS:
            arms = compare(a, {TRUE: b}, measures, minimum, choose, judge, leave_out=False)
            for name in measures:
                found[name].append(float(arms.excess[TRUE][name][0]))
    return found


def difference(found: Mapping[Cell, Arms], measure: str, less: str) -> inference.Interval[float]:
    """D: the excess of A and B minus that of A and the arm `less`, a mean over roles and splits, over SAE seeds.

    Its interval has the variance over SAE seeds and, by a jackknife over groups of articles, over documents.
    """
    gaps = {cell: arms.excess[TRUE][measure] - arms.excess[less][measure] for cell, arms in found.items()}
    seeds = sorted({cell.seed for cell in gaps})
    values = [np.mean([gap[0] for cell, gap in gaps.items() if cell.seed == seed]) for seed in seeds]
    deleted = []
    for split, _ in replicates.SPLITS:
        here = np.mean([gap[1:] for cell, gap in gaps.items() if cell.choose == split], axis=0)
        there = np.mean([gap[0] for cell, gap in gaps.items() if cell.choose != split])
        deleted.append((here + there) / 2)
    return inference.over_seeds_and_documents(values, deleted)
