"""A sweep over layers: its cells, its maxima within a replicate, and its differences over replicates.

In: pairs of models as a profile lists them, each with its dictionaries or families of them by depth; the scores of
every cell. Out: checked `Cell`s, tables, and values by replicate that `inference` makes statements of.
Never: a new score; a test of a trend along depth, since layers of one model depend on each other.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sae_utils import inference, replicates, tables
from sae_utils.engine.core.spec import ProfileError, check_defined, nearest
from sae_utils.engine.params import Profile
from sae_utils.inference import Replicated
from sae_utils.studies.layer_sweep.cells import CONTROL, ROWS, TRUE, Paired, Scores

ENDS = ("estimate", "low", "high")  # of an interval


class Cell(NamedTuple):
    """A layer of one model with a layer of another, in one replicate, or in two (a ceiling)."""

    pair: str  # the pair of models
    one: int  # number of the replicate of A
    other: int  # of B; in a ceiling B is A in another replicate
    i: int  # depth of the layer of A, from 0
    j: int  # depth of the layer of B
    a: str  # the dictionary of A there
    b: str  # the dictionary of B there

    def __str__(self) -> str:
        return f"{self.a} x {self.b}"


def cells(profile: Profile, notebook: str, pairs: Mapping[str, Any]) -> list[Cell]:
    """Every layer of A with every layer of B, in every replicate, for every pair of models in the profile's order.

    `pairs`, of the `notebook`: name -> [dictionaries or families of A by depth, those of B by depth]. Raises
    ProfileError for no pairs, a pair that is not two lists of names, or an undefined name.
    """
    where = f"params/{profile.name}.yaml: {notebook}.pairs"
    if not pairs:
        raise ProfileError(f"{where}: no pair of models; list the dictionaries of each side by depth")
    found = []
    for name, sides in pairs.items():
        if not (isinstance(sides, list) and len(sides) == 2 and all(isinstance(s, list) and s for s in sides)):
            raise ProfileError(f"{where}.{name}: expected two lists of dictionaries by depth, found {sides!r}")
        for dictionary in (*sides[0], *sides[1]):
            check_defined("dictionary", dictionary, [*profile.families, *profile.dictionaries], f"{where}.{name}")
        for r, names in enumerate(replicates.of(profile, *sides[0], *sides[1])):
            of_a, of_b = names[: len(sides[0])], names[len(sides[0]) :]
            found += [Cell(str(name), r, r, i, j, a, b) for i, a in enumerate(of_a) for j, b in enumerate(of_b)]
    return found


def ceilings(grid: Sequence[Cell]) -> dict[str, list[Cell]]:
    """For either side of the first pair, "A" and "B", each layer with the same layer of the other replicates."""
    main = [cell for cell in grid if cell.pair == grid[0].pair]
    layers = {
        "A": {(cell.i, cell.one): cell.a for cell in main},
        "B": {(cell.j, cell.other): cell.b for cell in main},
    }
    return {
        side: [
            Cell(f"two seeds of {side}", r, s, i, i, name, other)
            for (i, r), name in named.items()
            for (j, s), other in named.items()
            if i == j and r < s and name != other
        ]
        for side, named in layers.items()
    }


def find(profile: Profile, key: str, grid: Sequence[Cell], names: Sequence[str]) -> Cell:
    """The cell of two dictionaries, that of side A first.

    Raises ProfileError, which names the `key` of the profile, if there is no such cell.
    """
    for cell in grid:
        if [cell.a, cell.b] == list(names):
            return cell
    asked = " x ".join(map(str, names))
    remedy = nearest(asked, map(str, grid))
    raise ProfileError(f"params/{profile.name}.yaml: {key}: {asked} is no cell of the sweep over layers; {remedy}")


def common_n(found: Mapping[Cell, Sequence[Paired]], fewest: int) -> int:
    """The n at which all cells are compared: the fewest pairs, by any choice of partners, of at least `fewest`.

    Raises ValueError if no cell has that many pairs.
    """
    counts = [least(of) for of in found.values()]
    if not (enough := [n for n in counts if n >= fewest]):
        raise ValueError(f"no cell has {fewest} pairs, the most are {max(counts)}: lower `fewest`")
    return min(enough)


def least(found: Sequence[Paired]) -> int:
    """The fewest pairs of a cell, over its choices of partners."""
    return min(len(x.arms[TRUE].a) for x in found)


def described(found: Mapping[Cell, Sequence[Paired]]) -> pd.DataFrame:
    """A row a cell: pair, i, j, n, retention, held-out r; the last two are means over choices of partners."""
    rows = []
    for cell, of in found.items():
        retention, r = np.mean([(x.retention, x.held_out) for x in of], axis=0)
        rows.append(
            {"pair": cell.pair, "i": cell.i, "j": cell.j, "n": least(of), "retention": retention, "held-out r": r}
        )
    return pd.DataFrame(rows)


def held_out(found: Mapping[Cell, Sequence[Paired]]) -> NDArray[np.float64]:
    """The held-out r of the cells of one pair of models: (replicates, layers of A, layers of B), NaN of no cell."""
    return _by_layers({cell: float(np.mean([x.held_out for x in of])) for cell, of in found.items()})


# --- within a replicate


def maxima(scores: Mapping[Cell, Scores]) -> pd.DataFrame:
    """The layers with the largest z of each measure, for every pair of models and replicate, and the p of that maximum.

    The null of the maximum: in every draw the largest z over the layers, each against its own null. Columns: pair,
    replicate, arm, rows, measure, a, b (depths), z, p.
    """
    lines = []
    for key in dict.fromkeys((cell.pair, cell.one) for cell in scores):
        members = [cell for cell in scores if (cell.pair, cell.one) == key]
        for arm, kinds in scores[members[0]].results.items():
            for kind, named in kinds.items():
                for name in named:
                    results = {cell: scores[cell].results[arm][kind][name] for cell in members}
                    best = max(members, key=lambda cell, of=results: _number(of[cell].z))  # type: ignore[misc]
                    p = inference.maximum_of_z({cell: {name: result} for cell, result in results.items()})
                    lowest = min((x[name] for x in p.values() if math.isfinite(x[name])), default=math.nan)
                    lines.append((*key, arm, kind, name, best.i, best.j, results[best].z, lowest))
    return pd.DataFrame(lines, columns=["pair", "replicate", "arm", "rows", "measure", "a", "b", "z", "p"])


def reached(found: pd.DataFrame, level: float) -> pd.DataFrame:
    """By kind of rows, measure and arm: of the replicates that were tested, in how many the maximum exceeds its null.

    `found`: `maxima` of one pair of models. Columns: rows, measure, and a text for every arm.
    """
    tested = found.assign(holds=(found.p < level) & (found.z > 0), known=found.p.notna())
    counted = tested.groupby(["rows", "measure", "arm"], sort=False)[["holds", "known"]].sum()
    texts = (counted.holds.astype(str) + " of " + counted.known.astype(str)).unstack("arm")
    return texts.reindex(columns=[arm for arm in (TRUE, CONTROL) if arm in texts]).reset_index()


# --- over replicates


def values(scores: Mapping[Cell, Scores], arm: str, kind: str, measure: str) -> NDArray[np.float64]:
    """The excess of an arm at the common n: (replicates, layers of A, layers of B), NaN where not scored."""
    return _by_layers(
        {cell: of.at_one_n.get(arm, {}).get(kind, {}).get(measure, math.nan) for cell, of in scores.items()}
    )


def _by_layers(of: Mapping[Cell, float]) -> NDArray[np.float64]:
    """Values of cells by replicate, in the order of the cells, and layers; NaN of no cell."""
    order = {key: r for r, key in enumerate(dict.fromkeys((cell.one, cell.other) for cell in of))}
    deepest = np.array([(cell.i, cell.j) for cell in of], int).reshape(-1, 2).max(axis=0, initial=-1)
    found = np.full((len(order), *(deepest + 1)), np.nan)
    for cell, value in of.items():
        found[order[cell.one, cell.other], cell.i, cell.j] = value
    return found


def spread(found: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and SD over replicates, (layers of A, layers of B), of values (replicates, layers of A, layers of B)."""
    known = np.isfinite(found).sum(axis=0)
    mean = np.where(known > 0, np.nansum(found, axis=0) / np.maximum(known, 1), np.nan)
    square = np.nansum((found - mean) ** 2, axis=0) / np.maximum(known - 1, 1)
    return mean, np.where(known > 1, np.sqrt(square), np.nan)


def over_replicates(found: NDArray[np.float64]) -> Replicated:
    """The mean over layer pairs, then over replicates, of values (replicates, layers of A, layers of B)."""
    return inference.over_replicates([tables.average(x) for x in found])


def chosen_by_others(found: NDArray[np.float64]) -> NDArray[np.float64]:
    """In every replicate, the layer pair that is best in the mean of the others minus the mean of the rest.

    `found`: (replicates, layers of A, layers of B). The replicate that judges has no say in the choice, so that the
    expected value is 0 where all layer pairs are equal. Empty for a single replicate or layer pair.
    """
    flat = found.reshape(len(found), -1)
    flat = flat[:, np.isfinite(flat).all(axis=0)]
    if len(flat) < 2 or flat.shape[1] < 2:
        return np.empty(0)
    best = [int(np.delete(flat, r, axis=0).mean(axis=0).argmax()) for r in range(len(flat))]
    return np.array([x[at] - np.delete(x, at).mean() for x, at in zip(flat, best, strict=True)])


def same_depth(layers_a: int, layers_b: int) -> NDArray[np.bool_]:
    """The layer pairs of equal relative depth: (layers of A, layers of B), a pair for each layer of the shorter side.

    The first layers of both sides are one pair, and so are the last. None where a side has a single layer.
    """
    found = np.zeros((layers_a, layers_b), dtype=bool)
    if min(found.shape) > 1:
        depth = np.linspace(0, 1, min(found.shape))
        found[tuple(np.rint(depth * (layers - 1)).astype(int) for layers in found.shape)] = True
    return found


def at_the_same_depth(found: NDArray[np.float64]) -> NDArray[np.float64]:
    """In every replicate, the mean over the layer pairs of equal relative depth minus the mean of the rest.

    `found`: (replicates, layers of A, layers of B). Layer pairs that a replicate lacks are left out of all. Empty where
    there are no two kinds of layer pairs.
    """
    same, known = same_depth(*found.shape[1:]), np.isfinite(found).all(axis=0)
    if not ((same & known).any() and (known & ~same).any()):
        return np.empty(0)
    return np.asarray(found[:, same & known].mean(axis=1) - found[:, known & ~same].mean(axis=1))


def means(scores: Mapping[Cell, Scores], measures: Sequence[str]) -> pd.DataFrame:
    """A row a pair of models, kind of rows and measure: both arms, and their difference over replicates.

    All of them are means over pairs of layers.
    """
    rows = []
    for pair in dict.fromkeys(cell.pair for cell in scores):
        of = {cell: score for cell, score in scores.items() if cell.pair == pair}
        for kind, measure in itertools.product(ROWS, measures):
            true, control = (values(of, arm, kind, measure) for arm in (TRUE, CONTROL))
            x = over_replicates(true - control)
            line: dict[str, Any] = {"pair": pair, "rows": kind, "measure": measure}
            line |= {"true": tables.average(true), "control": tables.average(control), "difference": x.estimate}
            rows.append(line | {"se": x.se, "low": x.low, "high": x.high, "p": x.p, "replicates": x.n})
    return pd.DataFrame(rows)


def layer_tests(found: Mapping[tuple[str, str], NDArray[np.float64]]) -> pd.DataFrame:
    """A row a kind of rows and measure: both tests of layers over replicates, with intervals.

    `best`: `chosen_by_others`; `same depth`: `at_the_same_depth`. `found`: (kind, measure) -> differences of the arms
    (replicates, layers of A, layers of B).
    """
    rows = []
    for (kind, measure), values in found.items():
        best, same = (inference.over_replicates(x) for x in (chosen_by_others(values), at_the_same_depth(values)))
        of = {f"{name} {end}": getattr(x, end) for name, x in (("best", best), ("same depth", same)) for end in ENDS}
        rows.append({"rows": kind, "measure": measure, **of})
    return pd.DataFrame(rows)


def crossed(scores: Mapping[Cell, Scores], found: NDArray[np.float64]) -> Replicated:
    """A ceiling over replicates: values (pairs of replicates, layers, layers), averaged over layers.

    Both replicates of a pair are left out together.
    """
    pairs = list(dict.fromkeys((cell.one, cell.other) for cell in scores))
    square = np.full((1 + max((max(pair) for pair in pairs), default=0),) * 2, np.nan)
    for (r, s), of in zip(pairs, found, strict=True):
        square[r, s] = tables.average(of)
    return inference.over_replicates(square)


def table(true: NDArray[np.float64], control: NDArray[np.float64], d: float) -> pd.DataFrame:
    """A row a layer pair: i, j, replicates, true and control arm, their difference with SD and interval, verdict.

    Both arms: (replicates, layers of A, layers of B).
    """
    rows, (_, sd) = [], spread(true - control)
    for i, j in np.ndindex(true.shape[1:]):
        one, two = true[:, i, j], control[:, i, j]
        x = inference.over_replicates(one - two)
        rows.append({
            "i": i, "j": j, "replicates": x.n, "true": tables.average(one), "control": tables.average(two),
            "difference": x.estimate, "SD": float(sd[i, j]), "low": x.low, "high": x.high, "p": x.p,
            "verdict": inference.verdict(x.low, x.high, d) if x.n else "not tested",
        })  # fmt: skip
    return pd.DataFrame(rows)


def _number(z: float) -> float:
    return z if math.isfinite(z) else -math.inf
