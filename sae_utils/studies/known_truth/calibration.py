"""Calibration of measures, tests and intervals on repeated data sets with a planted truth.

In: a world of `synthetic`, a size, measures by name. Out: artefacts: what measures report, how often a test rejects,
how often an interval holds the truth. Naive tests and intervals are included only for comparison.
Never: data of a model.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import binomtest

from sae_utils import inference, measures, nulls, significance, store
from sae_utils.engine.core.progress import tqdm
from sae_utils.engine.core.spec import Count, Spec
from sae_utils.inference import LEVEL
from sae_utils.nulls import Null
from sae_utils.studies.known_truth.synthetic import PairedRows, World

NULLS: dict[str, Callable[[np.ndarray], Null]] = {
    "shuffled": lambda groups: nulls.shuffled(),
    "blocks": nulls.blocks,
    "strata": nulls.strata,
    "reassigned": nulls.reassigned,
}
"""nulls by name, made from the groups that were planted"""


class Size(Spec):
    """The size of a data set."""

    n: Count  # pairs
    d_a: Count
    d_b: Count


class Rate(NamedTuple):
    """A share of repeats, with its interval."""

    share: float
    low: float
    high: float

    def interval(self, repeats: int) -> inference.Interval[float]:
        """The same for `report.Report.verdict`."""
        se = float(np.sqrt(self.share * (1 - self.share) / repeats))
        return inference.Interval(self.share, se, self.low, self.high, repeats)


def rate(count: int, repeats: int, *, level: float = 0.99) -> Rate:
    """The share `count` / `repeats` with the exact two-sided interval of Clopper & Pearson (1934)."""
    found = binomtest(count, repeats)
    interval = found.proportion_ci(level, method="exact")
    return Rate(float(found.statistic), float(interval.low), float(interval.high))


def _data_sets(
    world: World, size: Size, seed: Sequence[int], repeats: int
) -> Iterator[tuple[list[int], np.random.Generator, PairedRows]]:
    """Seed, generator and rows of every repeat."""
    for repeat in tqdm(range(repeats), "data sets", leave=False):
        mine = [*seed, repeat]
        rng = np.random.default_rng(mine)
        yield mine, rng, world.draw(rng, size.n, size.d_a, size.d_b)


@store.artefact
def estimates(
    folder: Path, world: World, size: Size, names: list[str], m: int, repeats: int, seed: int
) -> dict[str, Any]:
    """By measure, means over `repeats` data sets: `raw`, `null` (the mean of m shuffles), `excess` and its `sd`."""
    found: dict[str, list[tuple[float, ...]]] = {name: [] for name in names}
    for mine, _, (a, b, _) in _data_sets(world, size, [seed, size.n], repeats):
        for name, x in significance.test(a, b, names, m=m, seed=[*mine, 1], closed_form=False).items():
            found[name].append((x.observed, x.null_mean, x.excess))
    means = {name: np.mean(values, axis=0) for name, values in found.items()}
    return {
        name: {"raw": float(raw), "null": float(null), "excess": float(excess), "sd": float(np.std(found[name], 0)[2])}
        for name, (raw, null, excess) in means.items()
    }


@store.artefact
def rejections(
    folder: Path, world: World, null: str, size: Size, names: list[str], m: int, repeats: int, seed: int
) -> dict[str, Any]:
    """By measure, the number of `repeats` data sets with p <= LEVEL against m draws of a null of `NULLS`.

    With m + 1 a multiple of 20, a valid test rejects 5% of unrelated data sets.
    """
    counts = dict.fromkeys(names, 0)
    for mine, _, (a, b, groups) in _data_sets(world, size, [seed], repeats):
        tested = significance.test(a, b, names, null=NULLS[null](groups), m=m, seed=[*mine, 1], closed_form=False)
        for name, x in tested.items():
            counts[name] += int(x.p <= LEVEL + 1e-9)
    return counts


@store.artefact
def differences(
    folder: Path, world: World, size: Size, measure: str, replicates: int, repeats: int, seed: int
) -> dict[str, Any]:
    """`values` (repeats, replicates): the excess of a data set minus that of its rows in a shuffled pairing.

    The shuffled pairing is the control arm: it holds the same features. `measure` needs a null mean in closed form.
    """
    values = []
    for mine, _, (a, b, _) in _data_sets(world, size, [seed], repeats * replicates):
        x = significance.test(a, b, [measure], m=2, seed=[*mine, 1])[measure]
        values.append((x.observed - x.draws[0]) / (1 - x.null_mean))
    return {"values": np.reshape(values, (repeats, replicates)).tolist()}


@store.artefact
def coverage(
    folder: Path, world: World, size: Size, names: list[str], m: int, repeats: int, seed: int
) -> dict[str, Any]:
    """By measure, the number of 95% intervals that hold the true excess, with one interval for each data set.

    `jackknife`: over the planted groups. `bootstrap` (naive): percentiles of m resamples of the pairs with replacement,
    whose mean excess is `resampled`. The true value, `truth`, is the mean estimate over all data sets.
    Raises ValueError for a measure whose null mean is not known in closed form.
    """
    found: dict[str, list[list[float]]] = {name: [] for name in names}
    for _, rng, (a, b, groups) in _data_sets(world, size, [seed], repeats):
        resamples = rng.integers(size.n, size=(m, size.n))
        for name in names:

            def excess(rows: np.ndarray, a: np.ndarray = a, b: np.ndarray = b, name: str = name) -> float:
                return significance.test(a[rows], b[rows], [name], m=0)[name].excess

            drawn = np.array([excess(rows) for rows in resamples])
            right = inference.jackknife(excess, groups)
            naive = np.quantile(drawn, [0.025, 0.975])
            found[name].append([right.estimate, right.low, right.high, *naive, drawn.mean()])
    held = {}
    for name, values in found.items():
        estimate, low, high, low_naive, high_naive, resampled = np.array(values).T
        truth = estimate.mean()
        held[name] = {
            "truth": float(truth),
            "resampled": float(resampled.mean()),
            "jackknife": int(((low <= truth) & (truth <= high)).sum()),
            "bootstrap": int(((low_naive <= truth) & (truth <= high_naive)).sum()),
        }
    return held


@store.artefact
def confounded(folder: Path, world: World, size: Size, repeats: int, seed: int) -> dict[str, Any]:
    """Mean and SD over data sets of Spearman RSA (`rsa`), and of partial RSA given the planted groups (`partial`).

    The control matrix is 1 between groups and 0 within.
    """
    scores = []
    for _, _, (a, b, groups) in _data_sets(world, size, [seed], repeats):
        x, y = (measures.dissimilarities(rows, "pearson") for rows in (a, b))
        control = (groups[:, None] != groups).astype(np.float64)
        rsa = measures.mantel(x, y, comparison="spearman")
        scores.append((rsa, measures.partial_rsa(x, y, [control], comparison="spearman")))
    (rsa, partial), (rsa_sd, partial_sd) = np.mean(scores, axis=0), np.std(scores, axis=0)
    return {"rsa": float(rsa), "rsa_sd": float(rsa_sd), "partial": float(partial), "partial_sd": float(partial_sd)}
