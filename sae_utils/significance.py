"""Whether a similarity of paired rows is more than chance: observed scores against a null, with all that a reader asks.

In: paired rows, measures, a null. Out: one `Result` a measure. What a permutation leaves unchanged (decompositions,
ranked dissimilarities, neighbour lists) is computed once; the same permutations serve all measures.
This module never chooses pairs and never corrects for many tests (`corrections` does).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from tqdm import tqdm

from sae_utils import arrays, similarity
from sae_utils import measures as known
from sae_utils.engine.chance import draws
from sae_utils.engine.geometry import moments
from sae_utils.engine.geometry.linear import Undefined
from sae_utils.engine.geometry.moments import Moments
from sae_utils.measures import Measure
from sae_utils.nulls import Null, Selection, shuffled

ROUNDING = 1e-6  # of float32 draws: one so little below the observed score ties with it
FLAT = 1e-6  # a null whose SD is smaller does not vary


class Result(NamedTuple):
    """One score held against one null.

    `measure`, `null`: names. `n`: pairs. `k`: components or neighbours in use, () where there are none.
    `observed`: the score, float64. `null_mean`, `null_sd`, `skew`: of the null; `closed_form`: known exactly, not from
    the draws. `z` = (observed - null_mean) / null_sd.
    `m`: draws; `p` = (b + 1) / (m + 1) with b draws at least as large as observed, over all n! arrangements for
    m="exact", nan for m = 0. `p_approximate`: tail of the Pearson III law with the closed-form moments, else nan.
    `excess` = (observed - null_mean) / (1 - null_mean). `cantelli` = 1 / (1 + z^2), which bounds the tail whatever the
    null's shape (1 where z <= 0). `wachter`: what random-matrix theory predicts for SVCCA's null mean, else nan;
    never used for p. `movable`: share of rows that the null can move; `stuck`: rows that it cannot.
    `note`: what a reader must know, or "". `draws` (m,): the null's scores.
    """

    measure: str
    null: str
    n: int
    k: tuple[int, ...]
    observed: float
    null_mean: float
    null_sd: float
    skew: float
    closed_form: bool
    z: float
    p: float
    p_approximate: float
    excess: float
    cantelli: float
    wachter: float
    movable: float
    stuck: int
    m: int
    note: str
    draws: np.ndarray

    @property
    def undefined(self) -> bool:
        """There is no such score of these rows; the note says why."""
        return math.isnan(self.observed)

    @property
    def undetermined(self) -> bool:
        """Less than half of the rows can move: the p says nothing about the pairing."""
        return self.movable < 0.5


class Baseline(NamedTuple):
    """What rows chosen at random score: `mean`, `sd`, `draws` (m,). A baseline, not a test."""

    mean: float
    sd: float
    draws: np.ndarray


def test(
    a: np.ndarray,
    b: np.ndarray,
    measures: Sequence[str | Measure],
    *,
    null: Null | Selection | None = None,
    m: int | Literal["exact"] = 999,
    m_of: Mapping[str, int] | None = None,
    seed: int | Sequence[int] = 0,
) -> dict[str, Result]:
    """Hold scores of paired rows `a` (n, d_a), `b` (n, d_b) against a null (default: uniformly shuffled pairing).

    `m`: draws, or "exact" for all arrangements of n <= 8 pairs. `m_of`: fewer draws for single measures, by name (0
    where a closed form alone will do); they take the first of the same permutations. `seed`: one number or several:
    give every pair set its own, so that permutations are shared within a set and independent across sets.
    Under shuffled pairing, mean, SD and skew are exact where a closed form is known, and equal rows are noted, since
    their pairs are seldom exchangeable. Draws run on CUDA if there is one.
    Returns results by name of the measure; one that these rows do not have, or are too few for, is undefined and says
    why in its note. Raises ValueError on bad rows, fewer than 3 of them, or a null of other length.
    """
    a, b = similarity.paired(a, b)
    n = len(a)
    null = null or shuffled()
    chosen = [similarity.measure(w) if isinstance(w, str) else w for w in measures]
    wanted = _draws_wanted(chosen, null, m, m_of or {})
    sides, without = _prepared(a, b, chosen)
    asked, chosen = chosen, [c for c in chosen if c.name not in without]
    observed = draws.observed(sides, chosen, n)
    uniform = isinstance(null, Null) and null.uniform
    repeats = _repeats(a, b) if uniform else ""
    doubt = null.caution(b) if isinstance(null, Null) else ""
    exact = {c.name: c.moments(*sides[c.family]) for c in chosen if uniform and c.moments}
    if not chosen:
        drawn = {}
    elif isinstance(null, Selection):
        drawn = draws.selected(null, chosen, n, wanted, seed)
    elif not null.permutes:
        drawn = draws.reassigned(null, b, sides, chosen, wanted, seed)
    else:
        drawn = draws.permuted(null, n, sides, chosen, wanted, m, seed, observed)
    found = {
        c.name: summarise(
            observed[c.name],
            drawn[c.name],
            measure=c.name,
            null=null.name,
            n=n,
            k=c.k(*sides[c.family]),
            moments_of_null=exact.get(c.name),
            all_arrangements=m == "exact",
            movable=null.movable if isinstance(null, Null) else 1.0,
            stuck=null.stuck if isinstance(null, Null) else 0,
            note="; ".join(filter(None, [known.caution(c, *sides[c.family], n), repeats, doubt])),
        )
        for c in chosen
    }
    return {
        c.name: found.get(c.name) or undefined(without[c.name], measure=c.name, null=null.name, n=n, m=wanted[c.name])
        for c in asked
    }


def _prepared(
    a: np.ndarray, b: np.ndarray, chosen: Sequence[Measure]
) -> tuple[dict[known.Family, tuple[Any, Any]], dict[str, str]]:
    """Either side, once a family; and by name of the measure why these rows have no such score."""
    without = {c.name: f"{c.name} needs at least {c.least} pairs" for c in chosen if len(a) < c.least}
    sides = {}
    for family in {c.family: None for c in chosen if c.name not in without}:
        try:
            sides[family] = family.side(a), family.side(b)
        except Undefined as error:
            without |= {c.name: str(error) for c in chosen if c.family == family}
    return sides, without


def summarise(
    observed: float,
    drawn: np.ndarray,
    *,
    measure: str,
    null: str,
    n: int,
    k: tuple[int, ...] = (),
    moments_of_null: Moments | None = None,
    all_arrangements: bool = False,
    movable: float = 1.0,
    stuck: int = 0,
    note: str = "",
) -> Result:
    """Hold any `observed` score of order 1, larger for more alike, against `drawn` (m,) of its null.

    `moments_of_null`: exact ones, else they come from `drawn`. `all_arrangements`: they are the whole null, the
    observed score among them. A draw within rounding of the observed score counts as large: ties are held against the
    claim. Undefined where the score or one of its draws is not finite. Raises ValueError on fewer than 2 draws without
    exact moments.
    """
    drawn = arrays.numbers(drawn, "drawn", 1).astype(np.float64)
    if not (math.isfinite(observed) and np.isfinite(drawn).all()):
        why = "the score" if not math.isfinite(observed) else "one of the draws"
        return undefined(f"{why} is not finite", measure=measure, null=null, n=n, m=len(drawn))
    if len(drawn) < 2 and moments_of_null is None:
        raise ValueError(f"{measure}: {len(drawn)} draws; a null needs at least 2 where no closed form is known")
    law = moments_of_null or _moments(drawn, 0 if all_arrangements else 1)
    m = len(drawn) - all_arrangements
    larger = int((drawn >= observed - ROUNDING).sum()) - all_arrangements
    z = (observed - law.mean) / law.sd if law.sd > FLAT else math.nan
    if not law.sd > FLAT:
        note = f"{note}; the null does not vary".removeprefix("; ")
    return Result(
        measure=measure,
        null=null,
        n=n,
        k=k,
        observed=observed,
        null_mean=law.mean,
        null_sd=law.sd,
        skew=law.skew,
        closed_form=moments_of_null is not None,
        z=z,
        p=(larger + 1) / (m + 1) if m else math.nan,
        p_approximate=moments.pearson_iii(law, observed) if moments_of_null else math.nan,
        excess=excess(observed, law.mean),
        cantelli=1 / (1 + z**2) if z > 0 else 1.0,
        wachter=_wachter(measure, k, n),
        movable=movable,
        stuck=stuck,
        m=m,
        note=note,
        draws=drawn,
    )


def undefined(why: str, *, measure: str, null: str, n: int, m: int) -> Result:
    """A score that there is not, for the place of one: NaN throughout, and the note says why."""
    names = "observed null_mean null_sd skew z p p_approximate excess cantelli wachter"
    told: dict[str, Any] = {"measure": measure, "null": null, "n": n, "m": m, "note": f"undefined: {why}"}
    told |= {"k": (), "closed_form": False, "movable": 1.0, "stuck": 0, "draws": np.full(m, math.nan)}
    return Result(**told | dict.fromkeys(names.split(), math.nan))


def excess(observed: float, null_mean: float) -> float:
    """`(observed - null_mean) / (1 - null_mean)`: 0 at chance, 1 at most; nan where chance alone gives 1."""
    return (observed - null_mean) / (1 - null_mean) if null_mean < 1 - 1e-9 else math.nan


def relative(excess: float, ceiling_a: float | None, ceiling_b: float | None) -> float:
    """`excess / sqrt(ceiling_a ceiling_b)`, ceilings being excesses of seed against seed at the same n and filters.

    nan where a ceiling is missing or below 0.05; it may exceed 1.
    """
    if ceiling_a is None or ceiling_b is None or not min(ceiling_a, ceiling_b) >= 0.05:
        return math.nan
    return excess / math.sqrt(ceiling_a * ceiling_b)


def random_rows(
    pool_a: np.ndarray,
    pool_b: np.ndarray,
    n: int,
    score: Callable[[np.ndarray, np.ndarray], float],
    *,
    m: int = 100,
    seed: int | Sequence[int] = 0,
) -> Baseline:
    """What `n` rows drawn without replacement from either pool of all rows score, m times.

    A baseline and not a test: it changes the rows as well as their pairing. The only one for an unpaired measure
    (`similarity.imd`). Raises ValueError where a pool holds fewer than n rows.
    """
    pool_a, pool_b = arrays.rows(pool_a, "pool_a"), arrays.rows(pool_b, "pool_b")
    if arrays.whole(m, "m") < 2 or arrays.whole(n, "n") < 1:
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


def _wachter(measure: str, k: tuple[int, ...], n: int) -> float:
    if not measure.startswith("svcca") or len(k) < 2 or min(k) < 2:
        return math.nan
    return moments.wachter(k[0], k[1], n)


def _repeats(a: np.ndarray, b: np.ndarray) -> str:
    """What a reader must know of equal rows where the pairing is shuffled; empty where there are none."""
    count_a, count_b = (len(rows) - len({hash(row.tobytes()) for row in rows}) for rows in (a, b))
    if not count_a + count_b:
        return ""
    return (
        f"{count_a} rows of side a and {count_b} of side b repeat an earlier one: a shuffle may reject too often; "
        "reassign groups, move blocks, or keep one pair a group"
    )


def _moments(drawn: np.ndarray, ddof: int) -> Moments:
    sd = float(drawn.std(ddof=ddof))
    standard = (drawn - drawn.mean()) / sd if sd > FLAT else np.full_like(drawn, math.nan)
    return Moments(float(drawn.mean()), sd, float((standard**3).mean()))


def _draws_wanted(
    chosen: Sequence[Measure], null: Null | Selection, m: int | str, m_of: Mapping[str, int]
) -> dict[str, int]:
    names = [c.name for c in chosen]
    if not chosen or len(set(names)) < len(names):
        raise ValueError(f"measures {names}: name at least one, and each once")
    if strange := set(m_of) - set(names):
        raise ValueError(f"m_of names {sorted(strange)}, which are not among the measures {names}")
    if m == "exact":
        return dict.fromkeys(names, math.factorial(draws.EXACT_UP_TO))
    m = arrays.whole(m, "m")
    wanted = {c.name: min(m, arrays.whole(m_of.get(c.name, m), "m_of")) for c in chosen}
    closed = {c.name for c in chosen if c.moments and isinstance(null, Null) and null.uniform}
    if few := [name for name in names if wanted[name] < 2 and not (wanted[name] == 0 and name in closed)]:
        raise ValueError(
            f"{few[0]} with m = {wanted[few[0]]}: a null needs at least 2 draws, 999 for a p of 0.001, or a closed form"
        )
    return wanted
