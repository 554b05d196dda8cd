"""A sweep over layers: its cells, the family-wise p of their scores, and their excess relative to that between seeds.

In: pairs of models as a profile lists them, each with its dictionaries by depth; the scores of every cell. Out: checked
`Cell`s, family-wise p, one long table, and words for the answer.
Never: a new score; a test of a trend along depth, since layers of one model depend on each other.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from sae_utils import inference, significance
from sae_utils.engine.core.spec import ProfileError, check_defined, nearest
from sae_utils.engine.params import Profile
from sae_utils.store import Artefact
from sae_utils.studies.layer_sweep.cells import ROWS, Scores

Ceilings = Mapping[str, Sequence[str]]
Family = dict["Cell", dict[str, dict[str, float]]]  # a p by cell, kind of rows, measure


COLUMNS = (
    "cell pair i j a b rows measure n k observed null sd z p family excess one_n one_n_sd relative note".split()
)  # of `table`


class Cell(NamedTuple):
    """A layer of one model with a layer of another."""

    pair: str  # the pair of models
    i: int  # depth of the layer of A, from 0
    j: int  # depth of the layer of B
    a: str  # the dictionary of A there
    b: str  # the dictionary of B there

    def __str__(self) -> str:
        return f"{self.a} x {self.b}"


def cells(profile: Profile, notebook: str, pairs: Mapping[str, Any]) -> list[Cell]:
    """Every layer of A with every layer of B, for every pair of models, in the order of the profile.

    `pairs`, of the `notebook`: name -> [dictionaries of A by depth, dictionaries of B by depth]. Raises ProfileError
    for no pairs, a pair that is not two lists of names, or an undefined name.
    """
    where = f"params/{profile.name}.yaml: {notebook}.pairs"
    if not pairs:
        raise ProfileError(f"{where}: no pair of models; list the dictionaries of each side by depth")
    found = []
    for name, sides in pairs.items():
        if not (isinstance(sides, list) and len(sides) == 2 and all(isinstance(s, list) and s for s in sides)):
            raise ProfileError(f"{where}.{name}: expected two lists of dictionaries by depth, found {sides!r}")
        for dictionary in (*sides[0], *sides[1]):
            check_defined("dictionary", dictionary, profile.dictionaries, f"{where}.{name}")
        found += [Cell(str(name), i, j, a, b) for i, a in enumerate(sides[0]) for j, b in enumerate(sides[1])]
    return found


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


def check(
    profile: Profile, notebook: str, pairs: Mapping[str, Any], ceilings: Ceilings, negatives: Sequence[str]
) -> None:
    """Refuse negative controls that are not pairs, and ceilings that do not compare two seeds of their side.

    `ceilings`: name of a pair -> [the pair that is the ceiling of A, of B], "" where there is none. A ceiling begins
    with the dictionaries of the side, and has a dictionary of the other seed at every depth. Raises ProfileError, which
    names the control or ceiling, and the reason.
    """
    where = f"params/{profile.name}.yaml: {notebook}.negatives"
    if not negatives:
        raise ProfileError(f"{where}: no negative control; name one of the pairs")
    for negative in negatives:
        check_defined("pair", negative, pairs, where)
    for pair, both in ceilings.items():
        where = f"params/{profile.name}.yaml: {notebook}.ceilings.{pair}"
        if pair not in pairs:
            raise ProfileError(f"{where}: no such pair; {nearest(pair, pairs)}")
        if not (isinstance(both, list) and len(both) == 2):
            raise ProfileError(f'{where}: expected the ceiling of A and that of B ("" for none), found {both!r}')
        for side, ceiling in zip(pairs[pair], both, strict=True):
            if not ceiling:
                continue
            check_defined("pair", ceiling, pairs, where)
            first, second = pairs[ceiling]
            if first != side or len(second) != len(first):
                raise ProfileError(
                    f"{where}: {ceiling!r} is no ceiling of {side}: its first side must be these dictionaries, its "
                    "second those of another seed at the same depths"
                )


def common_n(found: Mapping[Cell, Artefact], fewest: int) -> int:
    """The n at which all cells are compared: that of the smallest cell with at least `fewest` pairs.

    Raises ValueError if no cell has that many pairs.
    """
    counts = {cell: kept.meta["pairs"] for cell, kept in found.items()}
    if not (enough := [n for n in counts.values() if n >= fewest]):
        raise ValueError(f"no cell has {fewest} pairs, the most are {max(counts.values())}: lower `fewest`")
    return min(enough)


def family_wise(scores: Mapping[Cell, Scores]) -> Family:
    """Family-wise p of every score over all layers, kinds of rows and measures of its pair of models (max-z)."""
    adjusted: Family = {}
    for members in _by_pair(scores).values():
        sets = {
            cell: {f"{kind} {name}": result for kind in ROWS for name, result in scores[cell].results[kind].items()}
            for cell in members
        }
        for cell, p in inference.maximum_of_z(sets).items():
            adjusted[cell] = {kind: {name: p[f"{kind} {name}"] for name in scores[cell].results[kind]} for kind in ROWS}
    return adjusted


def maxima(scores: Mapping[Cell, Scores]) -> pd.DataFrame:
    """The layers with the largest z of each measure, for every pair of models, and the p of that maximum.

    The null of the maximum: in every draw the largest z over the layers, each against its own null. Columns: pair,
    rows, measure, a, b (depths), z, p.
    """
    lines = []
    for pair, members in _by_pair(scores).items():
        for kind in ROWS:
            for name in scores[members[0]].results[kind]:
                results = {cell: scores[cell].results[kind][name] for cell in members}
                best = max(members, key=lambda cell: _number(results[cell].z))
                p = inference.maximum_of_z({cell: {name: result} for cell, result in results.items()})
                least = min((x[name] for x in p.values() if math.isfinite(x[name])), default=math.nan)
                lines.append((pair, kind, name, best.i, best.j, results[best].z, least))
    return pd.DataFrame(lines, columns=["pair", "rows", "measure", "a", "b", "z", "p"])


def table(scores: Mapping[Cell, Scores], ceilings: Ceilings) -> pd.DataFrame:
    """All scores, one in each row.

    Columns: cell, pair, i, j, a, b, rows, measure; n, k, observed, null, sd, z, p, excess; family (the family-wise p);
    one_n, one_n_sd (excess at the common n, over subsets); relative (of the excess at the common n, NaN where there
    is no ceiling); note.
    """
    adjusted = family_wise(scores)
    at = {
        (cell.pair, cell.i, cell.j, kind, name): found.excess
        for cell, score in scores.items()
        for kind in ROWS
        for name, found in score.at_one_n[kind].items()
    }
    lines = []
    for cell, score in scores.items():
        of_a, of_b = ceilings.get(cell.pair, ("", ""))
        for kind in ROWS:
            for name, x in score.results[kind].items():
                alike = score.at_one_n[kind][name]
                tops = (at.get((of_a, cell.i, cell.i, kind, name)), at.get((of_b, cell.j, cell.j, kind, name)))
                relative, k = significance.relative(alike.excess, *tops), " x ".join(map(str, x.k)) or "-"
                lines.append({
                    "cell": cell, **cell._asdict(), "rows": kind, "measure": name, "n": x.n, "k": k,
                    "observed": x.observed, "null": x.null_mean, "sd": x.null_sd, "z": x.z, "p": x.p,
                    "family": adjusted[cell][kind][name], "excess": x.excess,
                    "one_n": alike.excess, "one_n_sd": alike.excess_sd, "relative": relative, "note": x.note,
                })  # fmt: skip
    return pd.DataFrame(lines, columns=COLUMNS)


def matches(found: Mapping[Cell, Artefact]) -> pd.DataFrame:
    """The pairs of every cell in numbers: pair, i, j, a, b, n, of_a, of_b (retention), r, held_out, counterparts."""
    return pd.DataFrame(
        {
            **cell._asdict(),
            "n": kept.meta["pairs"],
            "of_a": kept.meta["pairs"] / kept.meta["live_a"],
            "of_b": kept.meta["pairs"] / kept.meta["live_b"],
            **{name: kept.meta[name] for name in ("r", "held_out", "counterparts")},
        }
        for cell, kept in found.items()
    )


def closest(lines: pd.DataFrame, value: str) -> dict[int, int]:
    """The depth of B with the largest `value` for every depth of A that has one; a description, not a test."""
    defined = lines.dropna(subset=[value])
    best = defined.loc[defined.groupby("i")[value].idxmax()]
    return dict(zip(best.i.tolist(), best.j.tolist(), strict=True))


# --- the answer, in words


def verdict(holds: Sequence[bool], listed: int) -> str:
    """A clause on the layers at which two models are alike; `holds`: outcome of each tested one of `listed` pairs."""
    if not holds:
        return "cannot be compared: no pair of layers has pairs of features enough"
    where = "at every" if all(holds) else "at some" if any(holds) else "at no"
    rest = f"; {listed - len(holds)} of {listed} have too few pairs of features" if len(holds) < listed else ""
    return f"are alike {where} pair of layers{' that was tested' if rest else ''}{rest}"


def beside_control(mine: np.ndarray, control: np.ndarray) -> str:
    """A clause on how many layer pairs exceed the best excess of the negative control; NaN is an unscored pair."""
    mine, control = mine[np.isfinite(mine)], control[np.isfinite(control)]
    if not len(mine) or not len(control):
        side = "the negative control" if len(mine) else "the two models"
        return f"no pair of layers of {side} has pairs of features enough to be compared"
    above, best = int((mine > control.max()).sum()), f"the control's best ({control.max():.2f})"
    if above == len(mine):
        return f"every pair of layers exceeds {best}, with {mine.min():.2f} at least"
    if above == 0:
        return f"no pair of layers exceeds {best}, with {mine.max():.2f} at most"
    return f"{above} of {len(mine)} pairs of layers exceed {best}, with {mine.max():.2f} at most"


def lesson(holding: Collection[Cell], control: Mapping[Cell, float]) -> str:
    """A clause that interprets the negative control; `control` has the z of each of its tested pairs of layers."""
    if not control:
        return "whether the control exceeds chance is not known, for it has too few pairs"
    if any(cell in holding for cell in control):
        return "what exceeds a shuffled pairing need not be shared meaning"
    most = max(_number(z) for z in control.values())
    if most > 2:
        return f"the control exceeds a shuffled pairing as well (z up to {most:.1f}), if not after correction"
    return f"by these pairs the control is not told from a shuffled pairing (z at most {most:.1f})"


def _by_pair(scores: Mapping[Cell, Scores]) -> dict[str, list[Cell]]:
    return {pair: [cell for cell in scores if cell.pair == pair] for pair in dict.fromkeys(c.pair for c in scores)}


def _number(z: float) -> float:
    return z if math.isfinite(z) else -math.inf
