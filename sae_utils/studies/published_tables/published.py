"""What the published study reported, as its public repository saved it: facts to be compared with, never code.

In: `params/published_layer_scores.csv` (arXiv 2410.06981; its source stands beside it). Out: tables.
Never: a score of this repository's own.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import erfc

from sae_utils.engine.core.spec import ProfileError, nearest
from sae_utils.engine.params import PARAMS

SOURCE = PARAMS / "published_layer_scores.csv"
_PAIR = ["model_a", "model_b", "pairing", "direction", "layer_a", "layer_b"]
MOST = 20  # draws that are tried
_N = ["num_feat_kept", "num_feat_A_kept"]  # one of the two is given


def layer_scores() -> pd.DataFrame:
    """One row a pair of layers and way of pairing, one column a quantity.

    Raises ValueError where one quantity of one pair is given twice.
    """
    return pd.read_csv(SOURCE).pivot(index=_PAIR, columns="quantity", values="value").reset_index()


def null_means(scores: pd.DataFrame) -> pd.DataFrame:
    """The published null means of "SVCCA" beside the mean |r| of one component, sqrt(2 / (pi n)).

    Columns: `set` (models, pairing and direction), `n` pairs, `published`, `predicted`, `ratio` of the two. Where the
    study gives no null mean, there is no row.
    """
    given = scores.dropna(subset=["svcca_rand_mean"])
    n = given[_N].bfill(axis=1).iloc[:, 0]
    predicted = np.sqrt(2 / np.pi / n)
    return pd.DataFrame(
        {
            "set": _set(given),
            "n": n.astype(int),
            "published": given.svcca_rand_mean,
            "predicted": predicted,
            "ratio": given.svcca_rand_mean / predicted,
        }
    ).reset_index(drop=True)


def _set(scores: pd.DataFrame) -> pd.Series:
    return scores.model_a + ", " + scores.pairing.str.replace(r" \(.*", "", regex=True) + ", " + scores.direction


def shuffles(ratio: pd.Series) -> float:
    """How many draws of |r| a null mean rests on, told by the scatter of `ratio` around 1.

    One draw of |r| over its mean has the variance pi / 2 - 1, the mean of m draws that over m (large n, draws of
    different pairs of layers independent).
    """
    return (math.pi / 2 - 1) / float(((ratio - 1) ** 2).mean())


def checks(scores: pd.DataFrame) -> pd.DataFrame:
    """One row a pair of layers, way of pairing and published score, where a null is given; RSA's null mean is 0.

    Columns: `set` as in `null_means`, `layer_a`, `layer_b`, `n`, `score` ("SVCCA" or "RSA"), `published`, `null mean`,
    `p`, `expected` (null mean: sqrt(2 / (pi n)) or 0).
    """
    parts = []
    for name, column in (("SVCCA", "svcca"), ("RSA", "rsa")):
        given = scores.dropna(subset=[f"{column}_rand_mean"])
        n = given[_N].bfill(axis=1).iloc[:, 0].astype(int)
        parts.append(
            pd.DataFrame(
                {
                    "set": _set(given),
                    **{side: given[side] for side in ("layer_a", "layer_b")},
                    "n": n,
                    "score": name,
                    "published": given[f"{column}_paired"],
                    "null mean": given[f"{column}_rand_mean"],
                    "p": given[f"{column}_rand_pval"],
                    "expected": np.sqrt(2 / np.pi / n) if name == "SVCCA" else 0.0,
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def resolution(p: pd.Series) -> int:
    """The fewest draws, up to `MOST`, of which all these shares of draws can be: p of 0 and 1 alone need one.

    Raises ValueError where no such number is: shares are then of different draws.
    """
    for m in range(1, MOST + 1):
        if np.allclose(np.round(p * m) / m, p, atol=5e-4):
            return m
    raise ValueError(f"no number of draws up to {MOST} has the shares {sorted(set(p))}")


def p_of_one_component(r: pd.Series, n: pd.Series) -> np.ndarray:
    """Two-sided p of |Pearson r| of two given columns over uniformly shuffled rows, without a draw.

    Over all pairings r has mean 0 and variance 1 / (n - 1) exactly (Pitman 1937); normal for large n.
    """
    return np.asarray(erfc(np.abs(r) * np.sqrt(n - 1) / math.sqrt(2)))


def orders(scores: pd.DataFrame) -> pd.DataFrame:
    """What the numbers of pairs tell about the order of the filters, where both ways of pairing are given.

    Columns: `layer_a`, `layer_b`, `partners` (distinct features of A among the many-to-one pairs that passed all
    filters) and `kept` (one-to-one pairs). Had every filter come before the choice of one pair a feature of A, the two
    were equal; where the least r comes after it, a feature whose first pair is too weak is lost.
    """
    both = scores[(scores.direction == "B to A") & scores.num_feat_A_unique.notna()]
    one = both.pairing.str.startswith("one-to-one")
    at = ["model_a", "model_b", "layer_a", "layer_b"]
    found = both[~one][[*at, "num_feat_A_unique"]].merge(both[one][[*at, "num_feat_kept"]], on=at)
    return found.rename(columns={"num_feat_A_unique": "partners", "num_feat_kept": "kept"})[
        [*at[2:], "partners", "kept"]
    ]


COMPARED = {
    "num_feat_kept": "n",
    "mean_actv_corr": "r, all pairs",
    "mean_actv_corr_filt": "r",
    "svcca_paired": "SVCCA",
    "svcca_rand_mean": "SVCCA, null",
    "rsa_paired": "RSA",
    "rsa_rand_mean": "RSA, null",
}


class Cell(NamedTuple):
    """A published pair of layers, one-to-one from B to A, and the dictionaries that are the same here."""

    model_a: str
    model_b: str
    layer_a: int
    layer_b: int
    a: str
    """dictionary of this profile"""
    b: str


def cells(
    scores: pd.DataFrame, layers: Mapping[str, Mapping[int | str, str]], dictionaries: Collection[str], where: str
) -> list[Cell]:
    """The published cells that a profile can make itself; `layers`: published model -> layer -> dictionary.

    A layer may be text: on its way into a notebook a number that is a key becomes one.

    Raises:
        ProfileError: a model or layer that the study does not report, a dictionary that the profile does not have.
    """
    given = scores[scores.pairing.str.startswith("one-to-one")]
    known = {
        model: {*given.layer_a[given.model_a == model], *given.layer_b[given.model_b == model]}
        for model in {*given.model_a, *given.model_b}
    }
    for model, named in layers.items():
        if model not in known:
            raise ProfileError(f"{where}.{model}: the study reports no such model; {nearest(model, known)}")
        for layer, name in named.items():
            if str(layer) not in map(str, known[model]):
                raise ProfileError(f"{where}.{model}.{layer}: the study reports layers {sorted(known[model])}")
            if name not in dictionaries:
                raise ProfileError(f"{where}.{model}.{layer}: no dictionary {name!r}; {nearest(name, dictionaries)}")
    mine = {(model, str(layer)): name for model, named in layers.items() for layer, name in named.items()}
    places = zip(given.model_a, given.model_b, given.layer_a, given.layer_b, strict=True)
    return [
        Cell(a, b, layer_a, layer_b, mine[a, str(layer_a)], mine[b, str(layer_b)])
        for a, b, layer_a, layer_b in places
        if (a, str(layer_a)) in mine and (b, str(layer_b)) in mine
    ]


def beside(scores: pd.DataFrame, ours: Mapping[Cell, Mapping[str, float]]) -> pd.DataFrame:
    """Quantities (`COMPARED`) by cell: columns `models`, `layers`, `quantity`, `published`, `ours`."""
    given = scores[scores.pairing.str.startswith("one-to-one")].set_index(["model_a", "model_b", "layer_a", "layer_b"])
    rows = [
        (f"{c.model_a} x {c.model_b}", f"{c.layer_a} x {c.layer_b}", shown, given.loc[tuple(c[:4]), name], found[name])
        for c, found in ours.items()
        for name, shown in COMPARED.items()
    ]
    return pd.DataFrame(rows, columns=["models", "layers", "quantity", "published", "ours"])


def agreement(compared: pd.DataFrame) -> pd.DataFrame:
    """`beside`, one row a quantity: `cells` where both are defined, means, median difference, and r over cells."""
    rows = []
    for name, x in compared.dropna().groupby("quantity", sort=False):
        r = float(np.corrcoef(x.published, x.ours)[0, 1]) if len(x) > 2 else math.nan
        rows.append((name, len(x), x.published.mean(), x.ours.mean(), abs(x.published - x.ours).median(), r))
    return pd.DataFrame(rows, columns=["quantity", "cells", "published", "ours", "median apart", "r"])


def verdict(compared: pd.DataFrame) -> str:
    """A sentence on `beside`: how many cells were made again, or that none was."""
    if not len(compared):
        return (
            "None of the published cells has been made again: the profile of this paper holds none of the published "
            "models and SAEs, and nothing here says whether their numbers can be reproduced."
        )
    n = len(compared.drop_duplicates(["models", "layers"]))
    return f"Of the published one-to-one cells, {n} were made again by the published procedure."
