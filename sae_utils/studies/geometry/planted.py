"""How often the statistics of this study find what is planted, and what they find in nothing.

In: the name of a shape, its size, a number of draws. Out: one row of a table for each shape.
Never: a feature of a model.
"""

from collections.abc import Sequence

import numpy as np
from scipy import sparse

from sae_utils.nulls import LEVEL
from sae_utils.significance import Result
from sae_utils.studies.geometry import circles, families, homology, mapper, shapes
from sae_utils.studies.geometry.paired import Part

COVER = mapper.Cover(6, 0.4)
LISTS = 4  # into which items are divided in order, as months into seasons


def found(results: Sequence[Result]) -> float:
    """The share of tests with p <= .05."""
    return float(np.mean([x.p <= LEVEL for x in results]))


def circle(shape: str, n: int, d: int, noise: float, draws: int, m: int, seed: int) -> dict[str, float]:
    """Circularity of a planted shape: mean statistics, and the share of draws with p <= .05 under both orders."""
    rng, items = np.random.default_rng(seed), np.arange(n)
    lists = items * LISTS // n
    free, within = [], []
    for _ in range(draws):
        rows = shapes.draw(shape, n, d, noise, rng)
        free.append(circles.against(rows, items, circles.orders(items, m, rng), "shuffled order"))
        within.append(circles.against(rows, items, circles.orders(items, m, rng, lists), "order within lists"))
    return {
        name: value
        for what in circles.STATISTICS
        for name, value in (
            (what, float(np.mean([x[what].observed for x in free]))),
            (f"{what} found", found([x[what] for x in free])),
            (f"{what} in lists", found([x[what] for x in within])),
        )
    }


def shape(name: str, n: int, d: int, noise: float, draws: int, m: int, seed: int) -> dict[str, float]:
    """Homology and Mapper of a planted shape: shares of draws with p <= .05, and the median graph."""
    rng, tested, graphs = np.random.default_rng(seed), [], []
    for number in range(draws):
        rows = shapes.draw(name, n, d, noise, rng)
        tested.append(homology.shape(rows, m, seed + number))
        values = mapper.lens(rows, "PCA", np.ones(n), seed)[:, :1]
        graphs.append(mapper.graph(rows, values, COVER))
    of = {what: found([x[what] for x in tested]) for what in homology.SIZES}
    counts = {"pieces": [g.pieces for g in graphs], "cycles": [g.cycles for g in graphs]}
    return of | {what: float(np.median(values)) for what, values in counts.items()}


def codes(n: int, groups: int, tokens: int, strength: float, rng: np.random.Generator) -> Part:
    """Features in `groups`: those of one fire together and have alike rows, both by `strength` from 0 to 1."""
    of = np.arange(n) * groups // n
    share = np.sqrt(strength)
    drive = share * rng.normal(size=(tokens, groups))[:, of] + np.sqrt(1 - strength) * rng.normal(size=(tokens, n))
    rows = share * rng.normal(size=(groups, n))[of] + np.sqrt(1 - strength) * rng.normal(size=(n, n))
    return Part(rows, sparse.csr_array(np.maximum(drive - 1, 0)))


def family(
    strength: float, n: int, groups: int, tokens: int, neighbours: int, draws: int, seed: int
) -> dict[str, float]:
    """Adjusted Rand index of found families with the planted groups, and of two independent draws with each other."""
    rng, of = np.random.default_rng(seed), np.arange(n) * groups // n
    drawn = [[codes(n, groups, tokens, strength, rng) for _ in "ab"] for _ in range(draws)]
    row = {}
    for kind in families.KINDS:
        each = [[families.of(part, kind, neighbours, seed) for part in pair] for pair in drawn]
        row[f"{kind}, planted"] = float(np.mean([families.rand(x, of) for pair in each for x in pair]))
        row[f"{kind}, across"] = float(np.mean([families.rand(*pair) for pair in each]))
    return row
