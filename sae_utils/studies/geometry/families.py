"""Feature families: communities of features that fire together, or whose decoder rows are alike.

In: codes or rows of the features of one model. Out: a family for every feature; how alike the families of two models
are through the pairs of their features.
Never: a name of a family; a threshold on a similarity.

Every feature is linked to its most similar others, and the graph is cut into communities by Louvain's method (Blondel
et al. 2008), with a seed. Its result depends on the seed, so two seeds on one graph say how far families are stable.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sae_utils import nulls, significance
from sae_utils.significance import Result
from sae_utils.studies.geometry.paired import CONTROL, TRUE, Paired, Part, correlation

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
COFIRING, COSINE = "co-firing", "decoder cosine"
KINDS = (COFIRING, COSINE)


def similarity(part: Part, kind: str) -> Floats:
    """(n, n) correlations of the codes, or cosines of the decoder rows; NaN on the diagonal."""
    if kind == COFIRING:
        found = correlation(part.codes, part.codes)
    else:
        unit = part.rows / np.maximum(np.linalg.norm(part.rows, axis=1, keepdims=True), 1e-12)
        found = (unit @ unit.T).astype(np.float64)
    np.fill_diagonal(found, np.nan)
    return found


def communities(similar: Floats, neighbours: int, seed: int) -> Ints:
    """(n,) the family of every feature, from its `neighbours` most similar ones; the largest family is 0.

    `similar` (n, n); negative similarities make no edge. Raises ValueError for fewer features than neighbours.
    """
    import networkx

    n = len(similar)
    if n <= neighbours:
        raise ValueError(f"{n} features, of {neighbours} neighbours each: give more features or fewer neighbours")
    graph = networkx.Graph()
    graph.add_nodes_from(range(n))
    order = np.argsort(-np.nan_to_num(similar, nan=-np.inf), axis=1, kind="stable")[:, :neighbours]
    for i, j in zip(np.repeat(np.arange(n), neighbours).tolist(), order.ravel().tolist(), strict=True):
        if similar[i, j] > 0:
            graph.add_edge(i, j, weight=float(similar[i, j]))
    found = networkx.community.louvain_communities(graph, weight="weight", seed=seed % 2**32)
    family = np.empty(n, np.int64)
    for number, members in enumerate(sorted(found, key=lambda x: (-len(x), min(x)))):
        family[list(members)] = number
    return family


def of(part: Part, kind: str, neighbours: int, seed: int) -> Ints:
    """(n,) the families of some features of one model, by what links them: one of `KINDS`."""
    return communities(similarity(part, kind), neighbours, seed)


def rand(one: Ints, two: Ints) -> float:
    """The adjusted Rand index of two families of the same features: 1 where equal, 0 as by chance.

    Source: L. Hubert and P. Arabie, Comparing partitions (1985).
    """
    table = np.zeros((one.max() + 1, two.max() + 1))
    np.add.at(table, (one, two), 1)

    def together(count: Any) -> float:
        return float((count * (count - 1) / 2).sum())

    both, of_one, of_two = together(table), together(table.sum(axis=1)), together(table.sum(axis=0))
    expected = of_one * of_two / max(together(np.array([len(one)])), 1.0)
    most = (of_one + of_two) / 2
    return (both - expected) / (most - expected) if most > expected else 1.0


def across(one: Ints, two: Ints, m: int, seed: int) -> Result:
    """The adjusted Rand index of families of A and of their partners, against `m` shuffled pairings."""
    orders = nulls.permutations(np.random.default_rng(seed), m, len(one))
    drawn = np.array([rand(one, two[order]) for order in orders])
    return significance.summarise(rand(one, two), drawn, measure="rand", null="shuffled pairing", n=len(one))


# --- one pair of models, and tables


class Compared(NamedTuple):
    """The families of one kind in one arm."""

    n: int
    families: int  # of A
    across: Result  # A's families and those of the partners
    again: float  # A's families and those of another seed on the same graph
    within: float  # A's families of both kinds


def compare(own: Paired, neighbours: int, m: int, seed: int) -> dict[tuple[str, str], Compared]:
    """(arm, kind) -> the families of A's features and those of what takes the place of their partners."""
    of_a = {kind: of(own.a, kind, neighbours, seed) for kind in KINDS}
    within, found = rand(*of_a.values()), {}
    for kind, family in of_a.items():
        again = rand(family, of(own.a, kind, neighbours, seed + 1))
        for arm, part in own.b.items():
            result = across(family, of(part, kind, neighbours, seed), m, seed)
            found[arm, kind] = Compared(len(family), int(family.max()) + 1, result, again, within)
    return found


def frame(found: Mapping[Any, Mapping[tuple[str, str], Compared]]) -> pd.DataFrame:
    """One row a replicate, arm and kind."""
    columns = ["replicate", "arm", "kind", "n", "families", "rand", "p", "again", "within"]
    rows = [
        (number, arm, kind, x.n, x.families, x.across.observed, x.across.p, x.again, x.within)
        for number, of_replicate in enumerate(found.values())
        for (arm, kind), x in of_replicate.items()
    ]
    return pd.DataFrame(rows, columns=columns)


def summary(of_all: pd.DataFrame) -> pd.DataFrame:
    """Means over replicates, one row an arm and kind, and how many have p <= .05."""
    grouped = of_all.groupby(["kind", "arm"], sort=False)
    means = grouped[["n", "families", "rand", "again", "within"]].mean()
    means.insert(3, "below .05", grouped["p"].agg(lambda x: f"{(x <= nulls.LEVEL).sum()} of {len(x)}"))
    return means.round({"n": 0, "families": 0}).astype({"n": int, "families": int}).reset_index()


def by_kind(of_all: pd.DataFrame) -> pd.DataFrame:
    """One row a replicate and arm, with the index of every kind."""
    return of_all.pivot_table(index=["replicate", "arm"], columns="kind", values="rand").reset_index()


def gaps(of_all: pd.DataFrame) -> pd.DataFrame:
    """The index of the true arm less that of the control by kind, one row a replicate; empty without a control."""
    wide = by_kind(of_all).set_index("replicate")
    true, control = (wide[wide.arm == arm][list(KINDS)] for arm in (TRUE, CONTROL))
    return true.loc[control.index] - control
