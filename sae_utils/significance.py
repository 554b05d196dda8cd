"""Tests of similarity: observed scores of paired rows against a null, with z, p and excess.

In: paired rows or `matching.Pairs` of decoder rows, measures, a null. Out: one `Result` a measure, or its means over
subsets of one size, since no score is free of n. Values that permutations do not change (decompositions, ranked
dissimilarities, neighbour lists) are computed once; all measures share the same permutations.
This module never chooses pairs and never corrects for many tests (`inference` does).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sae_utils import arrays, matching
from sae_utils.engine.chance import draws
from sae_utils.engine.chance.results import Result, excess, relative, summarise, undefined
from sae_utils.engine.core.progress import tqdm
from sae_utils.matching import Pairs
from sae_utils.measures import Family, Measure, Undefined, caution, measure, paired
from sae_utils.nulls import Null, Selection, reassigned, shuffled

__all__ = [
    "FEWEST", "UNSCORED", "AtN", "Baseline", "Result", "Rows", "at_n", "combined", "enough", "excess", "pairs_at_n",
    "random_rows", "relative", "rows_at_n", "summarise", "test", "test_pairs", "undefined",
]  # fmt: skip

Rows: TypeAlias = tuple[np.ndarray, np.ndarray]  # (n, d_a) and (n, d_b): row t of either is pair t
FEWEST = 10  # distinct features of either side; pairs with fewer get no score


def test(
    a: np.ndarray, b: np.ndarray, measures: Sequence[str | Measure], *, null: Null | Selection | None = None,
    m: int | Literal["exact"] = 999, m_of: Mapping[str, int] | None = None, seed: int | Sequence[int] = 0,
    closed_form: bool = True,
) -> dict[str, Result]:  # fmt: skip
    """Results by name of the measures, or measures with options, for paired rows `a` (n, d_a), `b` (n, d_b).

    `null`: uniformly shuffled pairing unless given. `m`: draws, or "exact" for all arrangements of n <= 8 pairs.
    `m_of`: fewer draws for single measures, by name; 0 where a closed form is enough. They take the first of the same
    permutations. `seed`: one number or several; give every pair set its own, so that permutations are shared within a
    set and independent across sets. `closed_form`: whether mean and SD of shuffled pairings are exact where known.
    A score that does not exist for these rows, or for so few, is undefined, and its note gives the reason. Equal rows
    are noted if the pairing is shuffled, because their pairs are seldom exchangeable.
    Raises ValueError for bad rows, fewer than 3 of them, or a null of other length.
    """
    a, b = paired(a, b)
    n, null = len(a), null or shuffled()
    asked = [measure(what) if isinstance(what, str) else what for what in measures]
    exact_moments = closed_form and isinstance(null, Null) and null.uniform
    wanted = _draws_wanted(asked, exact_moments, m, m_of or {})
    sides, missing = _prepared(a, b, asked)
    chosen = [what for what in asked if what.name not in missing]
    observed = draws.scores(sides, chosen, np.arange(n)[None])
    drawn = draws.of_null(null, b, sides, chosen, wanted, seed, exact=m == "exact")
    doubt = null.caution(b) if isinstance(null, Null) else ""
    repeats = _repeats(a, b) if isinstance(null, Null) and null.uniform else ""

    def result(what: Measure) -> Result:
        if what.name in missing:
            return undefined(missing[what.name], measure=what.name, null=null.name, n=n, m=wanted[what.name])
        of = sides[what.family]
        return summarise(
            float(observed[what.name][0]),
            drawn[what.name],
            measure=what.name,
            null=null.name,
            n=n,
            k=what.k(*of),
            moments=what.moments(*of) if exact_moments and what.moments else None,
            exact=m == "exact",
            movable=null.movable if isinstance(null, Null) else 1.0,
            note="; ".join(filter(None, [caution(what, *of, n), repeats, doubt])),
        )

    return {what.name: result(what) for what in asked}


def _draws_wanted(asked: Sequence[Measure], closed_form: bool, m: int | str, m_of: Mapping[str, int]) -> dict[str, int]:
    """Draws by name of the measure. Raises ValueError where they make no null."""
    names = [what.name for what in asked]
    if not asked or len(set(names)) < len(names):
        raise ValueError(f"measures {names}: name at least one, and each once")
    if strange := set(m_of) - set(names):
        raise ValueError(f"m_of names {sorted(strange)}, which are not among the measures {names}")
    if m == "exact":
        return dict.fromkeys(names, math.factorial(draws.EXACT_UP_TO))
    m = arrays.count(m, "m")
    wanted = {name: min(m, arrays.count(m_of.get(name, m), "m_of")) for name in names}
    closed = {what.name for what in asked if closed_form and what.closed_form}
    if few := [name for name in names if wanted[name] < 2 and not (wanted[name] == 0 and name in closed)]:
        raise ValueError(
            f"{few[0]} with m = {wanted[few[0]]}: a null needs at least 2 draws, 999 for a p of 0.001, or a closed form"
        )
    return wanted


def _prepared(
    a: np.ndarray, b: np.ndarray, asked: Sequence[Measure]
) -> tuple[dict[Family, tuple[Any, Any]], dict[str, str]]:
    """Both sides of every family, and by measure the reason for an undefined score."""
    missing = {what.name: f"{what.name} needs at least {what.least} pairs" for what in asked if len(a) < what.least}
    sides = {}
    for family in {what.family: None for what in asked if what.name not in missing}:
        try:
            sides[family] = family.side(a), family.side(b)
        except Undefined as error:
            missing |= {what.name: str(error) for what in asked if what.family == family}
    return sides, missing


def _repeats(a: np.ndarray, b: np.ndarray) -> str:
    """A note on equal rows where the pairing is shuffled; empty where there are none."""
    count_a, count_b = (len(rows) - len({hash(row.tobytes()) for row in rows}) for rows in (a, b))
    if not count_a + count_b:
        return ""
    return (
        f"{count_a} rows of side a and {count_b} of side b repeat an earlier one: a shuffle may reject too often; "
        "reassign groups, move blocks, or keep one pair a group"
    )


class Baseline(NamedTuple):
    """Scores of randomly chosen rows: `mean`, `sd`, `draws` (m,). A baseline, not a test."""

    mean: float
    sd: float
    draws: np.ndarray


def random_rows(
    pool_a: np.ndarray, pool_b: np.ndarray, n: int, score: Callable[[np.ndarray, np.ndarray], float], *, m: int = 200,
    seed: int | Sequence[int] = 0,
) -> Baseline:  # fmt: skip
    """Scores of `n` rows drawn without replacement from either pool of all rows, m times.

    A baseline and not a test: it changes the rows as well as their pairing. It is the only one for an unpaired
    measure (`measures.imd`). Raises ValueError where a pool holds fewer than n rows.
    """
    pool_a, pool_b = arrays.rows(pool_a, "pool_a"), arrays.rows(pool_b, "pool_b")
    if arrays.count(m, "m") < 2 or arrays.count(n, "n") < 1:
        raise ValueError(f"m = {m} draws of n = {n} rows: at least 2 of 1 are needed")
    if n > min(len(pool_a), len(pool_b)):
        raise ValueError(f"n = {n} rows from pools of {len(pool_a)} and {len(pool_b)}: draw fewer")
    rng = arrays.generator(seed)
    scores = np.array(
        [
            score(*(pool[rng.choice(len(pool), n, replace=False)] for pool in (pool_a, pool_b)))
            for _ in tqdm(range(m), desc="random rows", leave=False, disable=None)
        ]
    )
    return Baseline(float(scores.mean()), float(scores.std(ddof=1)), scores)


# --- pairs of features


def enough(pairs: Pairs) -> bool:
    """Whether both sides have enough features for a score."""
    return min(len(np.unique(pairs.a)), len(np.unique(pairs.b))) >= FEWEST


def test_pairs(
    pairs: Pairs, rows_a: np.ndarray, rows_b: np.ndarray, name: str | Measure, *, m: int, seed: int
) -> Result:
    """Result for the decoder rows of paired features, against the null that fits the pairs.

    One-to-one pairs are shuffled; features that share a partner get another one jointly.
    `rows_a` (features_a, d_a), `rows_b` (features_b, d_b); `m` draws. Undefined for too few features, and
    for features that share a partner by a measure that takes no equal rows.
    Raises ValueError where features of both sides repeat.
    """
    known = measure(name) if isinstance(name, str) else name
    rows_a, rows_b = arrays.numbers(rows_a, "rows_a", 2), arrays.numbers(rows_b, "rows_b", 2)
    at_a, at_b = matching.places(pairs, len(rows_a), len(rows_b))
    if not enough(pairs):
        why = f"{len(pairs.a)} pairs hold fewer than {FEWEST} features of a side: too few to be scored"
        return undefined(why, measure=known.name, null="none", n=len(pairs.a), m=m)
    repeats_a, repeats_b = (len(np.unique(side)) < len(side) for side in (pairs.a, pairs.b))
    if repeats_a and repeats_b:
        raise ValueError("features of both sides repeat, for which no null is known: keep one pair a feature")
    if (repeats_a or repeats_b) and not known.repeats:
        why = f"{known.name} takes no features that share a partner"
        return undefined(why, measure=known.name, null="none", n=len(pairs.a), m=m)
    x, y = rows_a[at_a], rows_b[at_b]
    if repeats_a:  # b chooses: the groups are a's
        return test(y, x, [known], null=reassigned(pairs.a), m=m, seed=seed)[known.name]
    return test(x, y, [known], null=reassigned(pairs.b) if repeats_b else shuffled(), m=m, seed=seed)[known.name]


# --- at one n


class AtN(NamedTuple):
    """A score at `n` pairs; all but p are means over random subsets of that size. NaN of what was not computed."""

    n: int
    observed: float
    null_mean: float
    null_sd: float  # of the score of one subset; the mean over subsets varies less
    low: float  # lowest 2.5% of the null of one subset
    high: float  # highest 2.5% of it
    excess: float
    excess_sd: float  # over subsets; they overlap, so that it is no standard error
    z: float
    p: float  # of several subsets by `combined`


UNSCORED = AtN(0, *[math.nan] * 9)  # of a set that has too few pairs


def combined(p: Sequence[float] | np.ndarray) -> float:
    """One p of several that may depend on each other: twice their mean, at most 1 (Rueschendorf 1982)."""
    return float(np.minimum(1.0, (2 if len(p) > 1 else 1) * np.mean(p)))  # NaN stays NaN


def at_n(
    pairs: int, n: int, test: Callable[[NDArray[np.int64], int], Mapping[str, Result]], *, subsets: int,
    seed: int | Sequence[int],
) -> dict[str, AtN]:  # fmt: skip
    """Mean scores of `subsets` random subsets of `n` of the `pairs` (their number), by the names that `test` gives.

    `test(places, number)` tests the pairs at `places` against their own null; `number` counts the subsets. A subset in
    which a score is undefined does not enter its mean: `UNSCORED` where it is undefined in all. All pairs are tested
    once where there are just `n`. Raises ValueError where there are fewer.
    """
    if n > pairs:
        raise ValueError(f"{pairs} pairs cannot be cut to n = {n}: choose at most as many as there are")
    generator = arrays.generator(seed)
    found: dict[str, list[Result]] = {}
    for number in range(1 if n == pairs else subsets):
        for name, result in test(np.sort(generator.choice(pairs, n, replace=False)), number).items():
            found.setdefault(name, []).extend([] if result.undefined else [result])
    return {name: _mean(n, results) if results else UNSCORED for name, results in found.items()}


def _mean(n: int, results: Sequence[Result]) -> AtN:
    spans = [np.quantile(x.draws, [0.025, 0.975]) if x.m else np.full(2, np.nan) for x in results]
    low, high = np.mean(spans, axis=0)
    fields = ("observed", "null_mean", "null_sd", "excess", "z")
    means = {field: float(np.mean([getattr(x, field) for x in results])) for field in fields}
    spread, p = float(np.std([x.excess for x in results])), combined([x.p for x in results])
    return AtN(n=n, low=float(low), high=float(high), excess_sd=spread, p=p, **means)


def rows_at_n(rows: Rows, measure: str, n: int, *, subsets: int, m: int, seed: int) -> AtN:
    """`at_n` of paired rows, each subset against its own `m` shuffled pairings."""

    def of_subset(places: NDArray[np.int64], number: int) -> dict[str, Result]:
        return test(rows[0][places], rows[1][places], [measure], m=m, seed=(seed, number))

    return at_n(len(rows[0]), n, of_subset, subsets=subsets, seed=seed)[measure]


def pairs_at_n(
    pairs: Pairs, rows_a: np.ndarray, rows_b: np.ndarray, measure: str, n: int, *, subsets: int, m: int, seed: int
) -> AtN:
    """`at_n` of the pairs of any matching, each subset by `test_pairs`; `UNSCORED` where none has enough features."""

    def of_subset(places: NDArray[np.int64], number: int) -> dict[str, Result]:
        return {measure: test_pairs(pairs.subset(places), rows_a, rows_b, measure, m=m, seed=seed)}

    return at_n(len(pairs.a), n, of_subset, subsets=subsets, seed=seed)[measure]
