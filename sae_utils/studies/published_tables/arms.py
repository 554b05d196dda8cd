"""The ladder over replicates, for A with B and for a control.

In: the names of each replicate. Out: one table of all rungs, the difference of the two arms at every step, and words.
Never: a verdict from a p.

The control is B reading the stories with their words exchanged (`replicates`), or a twin in the place of B.
"""

import math
from collections.abc import Mapping, Sequence

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


def summary(found: pd.DataFrame, d: float) -> pd.DataFrame:
    """One row a step, as means over replicates: pairs, choices, the excess in both arms, their gap and its verdict."""
    rows = []
    for number, step in enumerate(STEPS):
        part = found[found.step == step]
        by_arm = part.groupby("arm")[["n", "hub", "unique"]].mean()
        row = {"step": f"{number} {step}", "n": by_arm["n"][TRUE], "n, control": by_arm["n"][CONTROL]}
        row |= {"hub": by_arm["hub"][TRUE], "unique": by_arm["unique"][TRUE]}
        for score in SCORES:
            excess = part[part.score == score].groupby("arm").excess.mean()
            x = gaps(found, score)[step]
            word = verdict(x.low, x.high, d) if x.n else "n/a"
            row |= {score: excess[TRUE], f"{score}, control": excess[CONTROL], f"{score}, gap": interval(x)}
            row |= {f"{score}, verdict": word}
        rows.append(row)
    return pd.DataFrame(rows)


def interval(x: Replicated) -> str:
    """An estimate with its interval, as text."""
    if not x.n:
        return "n/a"
    return f"{x.estimate:.2f}" + ("" if math.isnan(x.low) else f" ({x.low:.2f} to {x.high:.2f})")


def significant(found: pd.DataFrame, arm: str, step: str, score: str) -> tuple[int, int]:
    """In how many replicates the p of a step is below LEVEL, and in how many there is one."""
    p = found[(found.arm == arm) & (found.step == step) & (found.score == score)].p.dropna()
    return int((p < LEVEL).sum()), len(p)
