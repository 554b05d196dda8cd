"""The ladder over replicates, for A with B and for a control.

In: the names of each replicate. Out: one table of all rungs, the gap of the two arms at every step, and words.
Never: a verdict from a p.

The control is B reading the stories with their words exchanged (`replicates`), or a twin in the place of B.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from sae_utils import replicates
from sae_utils.engine.params import Profile
from sae_utils.inference import LEVEL, Replicated, over_replicates, verdict
from sae_utils.studies.published_tables import ladder, views
from sae_utils.studies.published_tables.ladder import LADDER, RSA, STEPS, Rung, Score

TRUE, CONTROL = "A and B", "control"
SCORES = ("SVCCA", "RSA")  # by the estimator of the step, and Spearman


def ladders(run: Profile, names: replicates.Names, positions: int, settings: ladder.Settings) -> dict[str, list[Rung]]:
    """The rungs of one replicate in both arms; `names`: A and B, or A, B and the twin that takes the place of B."""
    if len(names) == 2:
        both = views.arms(run, names[0], names[1], replicates.seed(run, names[0]), positions, settings.top)
    else:
        a, b, twin = names
        both = views.sides(run, a, b, positions, settings.top), views.sides(run, a, twin, positions, settings.top)
    return {arm: ladder.rungs(sides, settings) for arm, sides in zip((TRUE, CONTROL), both, strict=True)}


def frame(found: Sequence[Mapping[str, list[Rung]]]) -> pd.DataFrame:
    """One row a replicate, arm, step and score: `n`, `r`, `hub` and `unique` of the step; `value`, null, p, `excess`.

    NaN where there are too few pairs. `excess` is over the null of the step, also where a step does not show it.
    """
    rows = []
    for number, arms in enumerate(found):
        for arm, x in ((arm, x) for arm, rungs in arms.items() for x in rungs):
            same = {"replicate": number, "arm": arm, "step": x.step, "n": len(x.pairs), "r": x.r}
            rows += [same | {"hub": x.hub, "unique": x.unique} | _scored(x, score) for score in SCORES]
    return pd.DataFrame(rows)


def _scored(x: Rung, score: str) -> dict[str, float | str]:
    procedure = LADDER[x.step]
    found = x.scores.get(RSA if score == "RSA" else procedure.svcca, Score(*[math.nan] * len(Score._fields)))
    over = found if procedure.excess else ladder.excess(found)
    return {"score": score, **found._asdict(), "excess": over.value}


def gaps(found: pd.DataFrame, score: str) -> dict[str, Replicated]:
    """By step, the excess of A with B less that of the control, over replicates that have both."""
    part = found[found.score == score].pivot(index=["step", "replicate"], columns="arm", values="excess")
    apart = part[TRUE] - part[CONTROL]
    return {step: over_replicates(apart[step].to_numpy(float)) for step in STEPS}


def means(found: pd.DataFrame, step: str, score: str) -> dict[str, Replicated]:
    """By arm, the score of a step as it shows it, over replicates."""
    part = found[(found.step == step) & (found.score == score)]
    return {arm: over_replicates(part.value[part.arm == arm].to_numpy(float)) for arm in (TRUE, CONTROL)}


def choices(found: pd.DataFrame) -> pd.DataFrame:
    """One row a step, as means over replicates of both arms: pairs, largest hub, share of distinct partners."""
    by_arm = found.groupby(["step", "arm"])[["n", "hub", "unique"]].mean()
    rows = []
    for number, step in enumerate(STEPS):
        row: dict[str, Any] = {"step": f"{number} {step}"}
        for name, column in {"n": "n", "largest hub": "hub", "unique": "unique"}.items():
            row |= {name: by_arm[column][step, TRUE], f"{name}, control": by_arm[column][step, CONTROL]}
        rows.append(row)
    return pd.DataFrame(rows)


def by_step(found: pd.DataFrame, score: str, d: float) -> pd.DataFrame:
    """One row a step: the excess of one score in both arms as means over replicates, their gap and its verdict."""
    excess = found[found.score == score].groupby(["step", "arm"]).excess.mean()
    rows = []
    for number, (step, x) in enumerate(gaps(found, score).items()):
        row: dict[str, Any] = {"step": f"{number} {step}", TRUE: excess[step, TRUE], CONTROL: excess[step, CONTROL]}
        rows.append(row | {"gap": interval(x), "verdict": verdict(x.low, x.high, d) if x.n else "n/a"})
    return pd.DataFrame(rows)


def hub_fall(found: pd.DataFrame) -> Replicated:
    """By how much the largest hub of A with B is smaller after TopK than before, over replicates."""
    part = found[(found.arm == TRUE) & (found.score == SCORES[0])]
    hub = part.pivot(index="replicate", columns="step", values="hub")
    return over_replicates((hub[views.HOOK] - hub[views.CODES]).to_numpy(float))


def interval(x: Replicated) -> str:
    """An estimate with its interval, as text."""
    if not x.n:
        return "n/a"
    return f"{x.estimate:.2f}" + ("" if math.isnan(x.low) else f" ({x.low:.2f} to {x.high:.2f})")


def significant(found: pd.DataFrame, arm: str, step: str, score: str) -> tuple[int, int]:
    """In how many replicates the p of a step is below LEVEL, and in how many there is one."""
    p = found[(found.arm == arm) & (found.step == step) & (found.score == score)].p.dropna()
    return int((p < LEVEL).sum()), len(p)
