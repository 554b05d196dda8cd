"""Tables of notebooks 01: pairings, hubs, filters, neighbours and scores, a row each.

In: pairs, labels, results of tests. Out: data frames for `report.Report.table`.
Never: a score or a draw.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sae_utils import filters, labels, matching, tables
from sae_utils.correlate import Correlation
from sae_utils.labels import Labels
from sae_utils.matching import Pairs
from sae_utils.significance import Result
from sae_utils.studies.feature_matching.chance import Maxima

SHARED = "*"  # marks a neighbour that the feature has on both sides


def strength(pairs: Mapping[str, Pairs], r: Mapping[str, NDArray[np.float32]], live_a: int, r0: float) -> pd.DataFrame:
    """Pairings by name: how many pairs, of how many features, how strong; ``r`` on held-out documents."""
    return pd.DataFrame(
        {
            "pairing": name,
            "n": len(p.a),
            "retention": len(np.unique(p.a)) / live_a,
            "unique": min(len(np.unique(p.a)), len(np.unique(p.b))) / len(p.a),
            "r matching": p.r.mean(),
            "r held out": np.nanmean(r[name]),
            "counterparts, of pairs": np.mean(r[name] >= r0),
        }
        for name, p in pairs.items()
    )


def maximum(
    firings: NDArray[np.int64], forward: Pairs, chance: Mapping[str, Maxima], above: NDArray[np.bool_], bins: int
) -> pd.DataFrame:
    """Best correlations of the features of A in ``bins`` of ``firings`` (pairs,), beside the nulls of that maximum.

    ``chance``: null -> its draws. ``above`` (pairs,): whether a pair is above all draws of all nulls.
    """
    bin_of = np.asarray(pd.qcut(firings, bins, labels=False, duplicates="drop"))
    lines = []
    for inside in (np.flatnonzero(bin_of == number) for number in np.unique(bin_of)):
        line = {"firings": f"{firings[inside].min():,} to {firings[inside].max():,}", "n": len(inside)}
        line |= {"best r": forward.r[inside].mean()}
        for name, drawn in chance.items():
            draws, short = drawn.a[:, forward.a[inside]], name.split()[0]
            line |= {f"{short}, mean": draws.mean(), f"{short}, 95%": np.quantile(draws, 0.95)}
        lines.append(line | {"above both": above[inside].mean()})
    return pd.DataFrame(lines)


def agreement(agreed: Mapping[str, Result]) -> pd.DataFrame:
    """The share of features that have the same partner in two halves of the documents, by pairing."""
    keys = {"n": "n", "same partner": "observed", "null": "null_mean", "null SD": "null_sd", "p": "p"}
    return pd.DataFrame(
        {"pairing": name} | {column: getattr(x, field) for column, field in keys.items()} for name, x in agreed.items()
    )


def replicates(cells: Sequence[Sequence[str]], values: Sequence[Mapping[str, float]]) -> pd.DataFrame:
    """One row a replicate: the names of both dictionaries, then its values."""
    return pd.DataFrame({"A": a, "B": b, **x} for (a, b), x in zip(cells, values, strict=True))


# --- hubs and filters


def hubs(forward: Pairs, chosen_by: NDArray[np.int64], found: Labels, words: Sequence[str], most: int) -> pd.DataFrame:
    """The ``most`` features of B that are chosen by most features of A, with what they fire on."""
    largest = np.argsort(-chosen_by, kind="stable")[:most]
    return pd.DataFrame(
        {
            "chosen by": chosen_by[largest],
            "mean r": [forward.r[forward.b == x].mean() if chosen_by[x] else np.nan for x in largest],
            "firings": found.firings[largest],
            "top tokens": labels.summary(found, largest, words, most=3),
            "in context": labels.quote(found, largest, words, reach=2),
        }
    )


def without_hubs(
    forward: Pairs, r: NDArray[np.float32], left: Mapping[str, Pairs], scores: Mapping[str, Result]
) -> pd.DataFrame:
    """Scores of what is ``left`` of the pairs ``forward``, whose held-out correlations are ``r`` (pairs,)."""
    return pd.DataFrame(
        {
            "pairs": name,
            "n": len(p.a),
            "r held out": tables.average(r[matching.common(forward, p)]),
            **tables.columns(scores[name]),
            "hub size": tables.hub_size(scores[name]),
        }
        for name, p in left.items()
    )


def filtered(
    steps: Sequence[filters.Step], r: Sequence[NDArray[np.float32]], of: tuple[Labels, Labels], words: Sequence[str]
) -> pd.DataFrame:
    """What each filter removed: how many pairs, how strong, and what the strongest of them fires on.

    ``r``: held-out correlations of what each step removed; ``of``: labels of both sides.
    """
    lines = []
    for step, held_out in zip(steps, r, strict=True):
        best = [int(np.argmax(step.r))] if step.removed else []
        named = [
            "".join(labels.summary(found, features[best], words, most=2))
            for found, features in zip(of, (step.a, step.b), strict=True)
        ]
        line = {"filter": step.name.replace("_", " "), "before": step.before, "removed": step.removed}
        line |= {"r": tables.average(step.r), "r held out": tables.average(held_out)}
        lines.append(line | {"best dropped, A": named[0], "best dropped, B": named[1]})
    return pd.DataFrame(lines)


def sizes(choosers: NDArray[np.int32], found: Correlation, side: str) -> NDArray[np.int64]:
    """By how many each live feature of ``side``, "a" or "b", is chosen; ``choosers`` name the feature they chose."""
    live = found.a.live if side == "a" else found.b.live
    return np.asarray(np.bincount(choosers, minlength=len(live))[live])


# --- scores of decoder rows


def similarity(results: Mapping[str, Result], primary: str) -> pd.DataFrame:
    """Scores by measure, each against its own null."""
    return pd.DataFrame(
        {
            "measure": name + (" (primary)" if name == primary else ""),
            "n": x.n,
            "k": " x ".join(map(str, x.k)) or "-",
            **tables.columns(x),
            "times chance": tables.times_chance(x),
        }
        for name, x in results.items()
    )


def neighbours(
    near: tuple[NDArray[np.int64], NDArray[np.int64]], chosen: Sequence[int], names: tuple[list[str], list[str]]
) -> pd.DataFrame:
    """The nearest pairs of the ``chosen`` pairs on both sides, named; ``SHARED`` marks those near on both sides.

    ``near`` (pairs, k) of each side, nearest first; ``names`` of every pair by its feature on each side.
    """
    lines = []
    for pair in chosen:
        shared = set(near[0][pair]) & set(near[1][pair])
        for side, index, named in zip("AB", near, names, strict=True):
            nearest = " ".join(named[x] + SHARED * (x in shared) for x in index[pair])
            lines.append({"side": side, "feature": named[pair], "shared": len(shared), "nearest features": nearest})
    return pd.DataFrame(lines)


def families(of: Mapping[float, NDArray[np.int32]], moved: Mapping[float, Result]) -> pd.DataFrame:
    """Scores against families moved as wholes, by the cosine from which rows are near; NaN where too few can move."""
    return pd.DataFrame(
        {
            "near": least,
            "families": len(np.unique(of[least])),
            "largest": np.bincount(of[least]).max(),
            "can move": x.movable,
            **tables.columns(None if x.undefined or x.undetermined else x),
            "times chance": np.nan if x.undetermined else tables.times_chance(x),
        }
        for least, x in moved.items()
    )


def instances(overlaps: Mapping[str, Result]) -> pd.DataFrame:
    """Overlaps of neighbours by what the instances are, each against its own null."""
    return pd.DataFrame(
        {"instances": name, "null is": x.null, "n": x.n, "can move": x.movable}
        | {key: value for key, value in tables.columns(x).items() if key != "z"}
        | {"times chance": tables.times_chance(x)}
        for name, x in overlaps.items()
    )
