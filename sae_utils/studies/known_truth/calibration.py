"""Do measures, tests and intervals keep what they promise? Repeats on planted data, as artefacts, one a cell.

In: a world of `synthetic`, n, widths, measures. Out: what the measures report, how often a test rejects, how often an
interval holds the truth. The naive ways stand here only to be shown beside the right ones.
Never: data of a model.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import binomtest
from tqdm import tqdm

from sae_utils import inference, measures, nulls, significance, store
from sae_utils.nulls import Null
from sae_utils.studies.known_truth.synthetic import World

LEVEL = 0.05

NULLS: dict[str, Callable[[np.ndarray], Null]] = {
    "shuffled": lambda groups: nulls.shuffled(),
    "blocks": nulls.blocks,
    "strata": nulls.strata,
    "reassigned": nulls.reassigned,
}


class Rate(NamedTuple):
    """A share of repeats, with its Clopper-Pearson interval."""

    share: float
    low: float
    high: float


def rate(count: int, repeats: int, *, level: float = 0.99) -> Rate:
    """The share `count` / `repeats` with the exact two-sided interval of Clopper & Pearson (1934)."""
    found = binomtest(count, repeats)
    interval = found.proportion_ci(level, method="exact")
    return Rate(float(found.statistic), float(interval.low), float(interval.high))


@store.artefact
def estimated(
    folder: Path, world: World, n: int, d_a: int, d_b: int, measures: list[str], m: int, repeats: int, seed: int
) -> dict[str, Any]:
    """Means over `repeats` data sets: `raw`, `null` (mean of m shuffles) and `excess` of every measure, `sd` of excess.

    Values of `meta` by measure. `sd` is over data sets, 0 for one.
    """
    found: dict[str, list[significance.Result]] = {name: [] for name in measures}
    for repeat in tqdm(range(repeats), "data sets", leave=False):
        a, b, _ = world.draw(np.random.default_rng([seed, n, repeat]), n, d_a, d_b)
        results = significance.test(a, b, measures, m=m, seed=[seed, n, repeat, 1], closed_form=False)
        for name in measures:
            found[name].append(results[name])
    return {
        name: {
            "raw": float(np.mean([x.observed for x in results])),
            "null": float(np.mean([x.null_mean for x in results])),
            "excess": float(np.mean([x.excess for x in results])),
            "sd": float(np.std([x.excess for x in results])),
        }
        for name, results in found.items()
    }


@store.artefact
def rejected(
    folder: Path,
    world: World,
    null: str,
    n: int,
    d_a: int,
    d_b: int,
    measures: list[str],
    m: int,
    repeats: int,
    seed: int,
) -> dict[str, Any]:
    """Of `repeats` data sets, in how many p <= 0.05 against `null` (of `NULLS`, from m draws): a count by measure.

    The groups that were planted are the labels of the null. With m + 1 a multiple of 20 a valid test rejects 5%.
    """
    counts = dict.fromkeys(measures, 0)
    for repeat in tqdm(range(repeats), f"{null}: data sets", leave=False):
        a, b, groups = world.draw(np.random.default_rng([seed, repeat]), n, d_a, d_b)
        results = significance.test(
            a, b, measures, null=NULLS[null](groups), m=m, seed=[seed, repeat, 1], closed_form=False
        )
        for name in measures:
            counts[name] += results[name].p <= LEVEL + 1e-9
    return {name: int(count) for name, count in counts.items()}


@store.artefact
def covered(
    folder: Path, world: World, n: int, d_a: int, d_b: int, measures: list[str], m: int, repeats: int, seed: int
) -> dict[str, Any]:
    """Of `repeats` data sets, in how many a 95% interval of the excess holds its true value, by measure and interval.

    `bootstrap` (naive): percentiles of m resamples of the pairs, with replacement, whose mean excess is `resampled`.
    `jackknife`: over families, the groups that were planted. The true value, `truth`, is the mean estimate over all
    data sets. Measures: whose null mean is known in closed form, so that an interval costs no draws.
    """
    found: dict[str, list[tuple[float, ...]]] = {name: [] for name in measures}
    for repeat in tqdm(range(repeats), "data sets", leave=False):
        rng = np.random.default_rng([seed, repeat])
        a, b, groups = world.draw(rng, n, d_a, d_b)
        resamples = rng.integers(n, size=(m, n))
        for name in measures:
            drawn = np.array([_excess(rows, name, a, b) for rows in resamples])
            right = inference.jackknife(partial(_excess, name=name, a=a, b=b), groups)
            low, high = np.quantile(drawn, [0.025, 0.975])
            found[name].append((right.estimate, right.low, right.high, low, high, drawn.mean()))
    return {name: _coverage(*np.array(rows).T) for name, rows in found.items()}


def _coverage(
    estimate: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    low_naive: np.ndarray,
    high_naive: np.ndarray,
    resampled: np.ndarray,
) -> dict[str, float]:
    truth = estimate.mean()
    return {
        "truth": float(truth),
        "resampled": float(resampled.mean()),
        "jackknife": int(((low <= truth) & (truth <= high)).sum()),
        "bootstrap": int(((low_naive <= truth) & (truth <= high_naive)).sum()),
    }


def _excess(rows: np.ndarray, name: str, a: np.ndarray, b: np.ndarray) -> float:
    return significance.test(a[rows], b[rows], [name], m=0)[name].excess


@store.artefact
def partialled(folder: Path, world: World, n: int, d_a: int, d_b: int, repeats: int, seed: int) -> dict[str, Any]:
    """Mean and SD over data sets of Spearman RSA, as it is (`rsa`) and partial, membership of groups held fixed.

    The control is the matrix that is 1 between groups and 0 within.
    """
    scores = []
    for repeat in tqdm(range(repeats), "data sets", leave=False):
        a, b, groups = world.draw(np.random.default_rng([seed, repeat]), n, d_a, d_b)
        x, y = (measures.dissimilarities(rows, "pearson") for rows in (a, b))
        apart = (groups[:, None] != groups).astype(np.float64)
        scores.append(
            (
                measures.mantel(x, y, comparison="spearman"),
                measures.partial_rsa(x, y, [apart], comparison="spearman"),
            )
        )
    (rsa, partial), (rsa_sd, partial_sd) = np.mean(scores, axis=0), np.std(scores, axis=0)
    return {"rsa": float(rsa), "rsa_sd": float(rsa_sd), "partial": float(partial), "partial_sd": float(partial_sd)}
