"""The numbers that the published study reported, as its public repository saved them.

In: `params/published_layer_scores.csv` (arXiv 2410.06981; a note beside it names the source). Out: tables.
Never: a score of this repository.
"""

import math
from collections.abc import Collection, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import erfc

from sae_utils.engine.core.spec import ProfileError, nearest
from sae_utils.engine.params import PARAMS

SOURCE = PARAMS / "published_layer_scores.csv"
_CELL = ["model_a", "model_b", "layer_a", "layer_b"]
MOST = 20  # draws that `draws_by_p` tries


def layer_scores() -> pd.DataFrame:
    """One row a pair of layers and way of pairing, one column a quantity.

    Raises ValueError where a quantity is given twice.
    """
    keys = ["model_a", "model_b", "pairing", "direction", "layer_a", "layer_b"]
    return pd.read_csv(SOURCE).pivot(index=keys, columns="quantity", values="value").reset_index()


def _one_to_one(scores: pd.DataFrame) -> pd.DataFrame:
    return scores[scores.pairing.str.startswith("one-to-one")]


# --- what can be checked without the models


def checks(scores: pd.DataFrame) -> pd.DataFrame:
    """One row a pair of layers, way of pairing and published score, where the study gives a null.

    Columns: `set` (models, pairing and direction), `layer_a`, `layer_b`, `n` pairs, `unique` (share of distinct
    features of A among them, NaN where it is not given), `score` ("SVCCA" or "RSA"), `published`, `null mean`, `p`, and
    `expected`, the null mean of one component, sqrt(2 / (pi n)), or 0 for RSA.
    """
    parts = []
    for name, column in (("SVCCA", "svcca"), ("RSA", "rsa")):
        given = scores.dropna(subset=[f"{column}_rand_mean"])
        n = given.num_feat_kept.fillna(given.num_feat_A_kept).astype(int)  # one of the two is given
        found = {
            "set": given.model_a + ", " + given.pairing.str.replace(r" \(.*", "", regex=True) + ", " + given.direction,
            "layer_a": given.layer_a,
            "layer_b": given.layer_b,
            "n": n,
            "unique": given.num_feat_A_unique / n,
            "score": name,
            "published": given[f"{column}_paired"],
            "null mean": given[f"{column}_rand_mean"],
            "p": given[f"{column}_rand_pval"],
            "expected": np.sqrt(2 / np.pi / n) if name == "SVCCA" else 0.0,
        }
        parts.append(pd.DataFrame(found))
    return pd.concat(parts, ignore_index=True)


def by_set(checks: pd.DataFrame) -> pd.DataFrame:
    """`checks`, one row a set: pairs of layers, n, median share of distinct features, p of 0, number of shuffles.

    `p at best` is 1 / (m + 1) for the m shuffles that the p imply.
    """
    rows = []
    for name, x in checks.groupby("set", sort=False):
        of_svcca = x[x.score == "SVCCA"]
        row = {"set": name, "cells": len(of_svcca), "n from": x.n.min(), "n to": x.n.max()}
        row |= {"unique": of_svcca.unique.median(), "p = 0": f"{(x.p == 0).sum()} of {len(x)}"}
        row |= {"draws, by p": draws_by_p(x.p)}
        row |= {"by scatter": draws_by_scatter(of_svcca["null mean"] / of_svcca.expected)}
        rows.append(row | {"p at best": 1 / (row["draws, by p"] + 1)})
    return pd.DataFrame(rows)


def draws_by_p(p: pd.Series) -> int:
    """The smallest number of draws, up to `MOST`, that can give all these p; p of only 0 and 1 need one.

    Raises ValueError where no number of draws fits.
    """
    for m in range(1, MOST + 1):
        if np.allclose(np.round(p * m) / m, p, atol=5e-4):
            return m
    raise ValueError(f"no number of draws up to {MOST} has the shares {sorted(set(p))}")


def draws_by_scatter(ratio: pd.Series) -> float:
    """The number of draws of |r| behind each null mean, from the scatter of its `ratio` to the expected one around 1.

    One draw of |r| over its mean has the variance pi / 2 - 1, a mean of m draws that over m (for large n, and
    independent draws of different pairs of layers).
    """
    return (math.pi / 2 - 1) / float(((ratio - 1) ** 2).mean())


def p_of_one_component(r: pd.Series, n: pd.Series) -> np.ndarray:
    """Two-sided p of |Pearson r| of two given columns over uniformly shuffled rows, without a draw.

    Over all pairings r has mean 0 and variance 1 / (n - 1) exactly (Pitman 1937), and is normal for large n.
    """
    return np.asarray(erfc(np.abs(r) * np.sqrt(n - 1) / math.sqrt(2)))


def filter_order(scores: pd.DataFrame) -> pd.DataFrame:
    """Counts of pairs that show the order of the published filters, where both ways of pairing are given.

    Columns: `layer_a`, `layer_b`, `partners` (distinct features of A among the many-to-one pairs that passed all
    filters) and `kept` (one-to-one pairs). The two would be equal if one pair a feature of A were chosen after all
    filters. If the least r comes after that choice, a feature whose first pair is too weak is lost.
    """
    both = scores[(scores.direction == "B to A") & scores.num_feat_A_unique.notna()]
    one = _one_to_one(both)
    found = both.drop(one.index)[[*_CELL, "num_feat_A_unique"]].merge(one[[*_CELL, "num_feat_kept"]], on=_CELL)
    found = found.rename(columns={"num_feat_A_unique": "partners", "num_feat_kept": "kept"})
    return found[["layer_a", "layer_b", "partners", "kept"]]


# --- beside ours

COMPARED = {
    "num_feat_kept": "n", "mean_actv_corr": "r, all pairs", "mean_actv_corr_filt": "r", "svcca_paired": "SVCCA",
    "svcca_rand_mean": "SVCCA, null", "rsa_paired": "RSA", "rsa_rand_mean": "RSA, null",
}  # fmt: skip


class Cell(NamedTuple):
    """A published pair of layers, one-to-one from B to A, and the same dictionaries in this profile."""

    model_a: str
    model_b: str
    layer_a: int
    layer_b: int
    a: str  # name of a dictionary
    b: str


def cells(
    scores: pd.DataFrame, layers: Mapping[str, Mapping[int | str, str]], dictionaries: Collection[str], where: str
) -> list[Cell]:
    """The published cells whose dictionaries a profile has; `layers`: published model -> layer -> dictionary.

    A layer may be text, which a notebook receives for a key that was a number. Raises ProfileError for a model or layer
    that the study does not report, or a dictionary that the profile does not have.
    """
    given = _one_to_one(scores)
    reported: dict[str, set[int]] = {}
    for side in "ab":
        for model, layer in zip(given[f"model_{side}"], given[f"layer_{side}"], strict=True):
            reported.setdefault(model, set()).add(layer)
    names = {}
    for model, named in layers.items():
        if model not in reported:
            raise ProfileError(f"{where}.{model}: the study reports no such model; {nearest(model, reported)}")
        for layer, name in named.items():
            if str(layer) not in map(str, reported[model]):
                raise ProfileError(f"{where}.{model}.{layer}: the study reports layers {sorted(reported[model])}")
            if name not in dictionaries:
                raise ProfileError(f"{where}.{model}.{layer}: no dictionary {name!r}; {nearest(name, dictionaries)}")
            names[model, int(layer)] = name
    return [
        Cell(a, b, layer_a, layer_b, names[a, layer_a], names[b, layer_b])
        for a, b, layer_a, layer_b in given[_CELL].itertuples(index=False, name=None)
        if (a, layer_a) in names and (b, layer_b) in names
    ]


def compare(scores: pd.DataFrame, ours: Mapping[Cell, Mapping[str, float]]) -> pd.DataFrame:
    """Quantities (`COMPARED`) by cell: columns `models`, `layers`, `quantity`, `published`, `ours`."""
    given = _one_to_one(scores).set_index(_CELL)
    rows = [
        (f"{c.model_a} x {c.model_b}", f"{c.layer_a} x {c.layer_b}", shown, given.loc[tuple(c[:4]), name], found[name])
        for c, found in ours.items()
        for name, shown in COMPARED.items()
    ]
    return pd.DataFrame(rows, columns=["models", "layers", "quantity", "published", "ours"])


def agreement(compared: pd.DataFrame) -> pd.DataFrame:
    """`compare`, one row a quantity: `cells` where both are defined, means, median difference, and r over cells."""
    rows = []
    for name, x in compared.dropna().groupby("quantity", sort=False):
        r = float(np.corrcoef(x.published, x.ours)[0, 1]) if len(x) > 2 else math.nan
        rows.append((name, len(x), x.published.mean(), x.ours.mean(), abs(x.published - x.ours).median(), r))
    return pd.DataFrame(rows, columns=["quantity", "cells", "published", "ours", "median apart", "r"])


def verdict(compared: pd.DataFrame) -> str:
    """A sentence on `compare`: how many cells were computed again, or that none was."""
    if not len(compared):
        return (
            "None of the published cells has been made again: the profile of this paper holds none of the published "
            "models and SAEs, and nothing here says whether their numbers can be reproduced."
        )
    n = len(compared.drop_duplicates(["models", "layers"]))
    return f"Of the published one-to-one cells, {n} were made again by the published procedure."
