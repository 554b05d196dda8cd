"""Scores of two dictionaries as wholes, and features that are stable across seeds.

In: two correlated dictionaries, or a checked profile and names. Out: scores that look for the best partners themselves;
the correlation of every feature with its best partner; shares of features with a counterpart.
Never: an interval or a verdict over replicates (`inference` gives both).
"""

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sae_utils import arrays, correlate, matching, measures, pipeline, significance, tables
from sae_utils.engine.pairs import PAIRED
from sae_utils.engine.params import Profile
from sae_utils.matching import Pairs
from sae_utils.pipeline import Correlated

LARGEST = 4096  # live features of a side; the distances of larger sides would need too much memory


def scores(both: Correlated, *, one_space: bool = False, seed: int) -> dict[str, float]:
    """Scores that look for the best partners themselves; cosines of the optimal pairs, IMD of the mutual ones.

    `one_space`: both dictionaries read one space, so that their directions are also compared as they are.
    """
    optimal, mutual = matching.optimal(both.found), matching.mutual(both.found)
    again = matching.greedy(both.found, among=(mutual.why_a != PAIRED, mutual.why_b != PAIRED))
    ways = (matching.many_to_one(both.found, way) for way in ("a_to_b", "b_to_a"))
    return {
        **distances_of_codes(both),
        **cosines(both, optimal, one_space=one_space, seed=seed),
        "IMD (distance)": _imd(both, mutual),
        "clusters of best partners": float(len(matching.clusters(*ways).edges)),
        "leftovers again, held-out r": tables.average(both.held_out(again)),
    }


def distances_of_codes(both: Correlated) -> dict[str, float]:
    """Permutation Procrustes and soft matching distance; NaN where a side has over `LARGEST` features."""
    names = "permutation Procrustes (distance)", "soft matching (distance)"
    if max(both.found.live) > LARGEST:
        return dict.fromkeys(names, float("nan"))
    return dict(zip(names, (x(both.found).distance for x in (matching.permutation, matching.soft)), strict=True))


def cosines(both: Correlated, pairs: Pairs, *, one_space: bool, seed: int) -> dict[str, float]:
    """MMCS and PW-MCC of the decoder rows of paired features: with `one_space` as they are, and after a fit.

    The orthogonal map is fitted on one half of the `pairs` and scored on the other, both ways averaged. NaN where half
    of the pairs are too few for a map.
    """
    x, y = both.a.decoder[pairs.a], both.b.decoder[pairs.b]
    found = _mmcs_and_pw_mcc(x, y) if one_space else {}
    order = arrays.generator(seed).permutation(len(pairs))
    halves = order[: len(order) // 2], order[len(order) // 2 :]
    if len(halves[0]) < min(x.shape[1], y.shape[1]):
        return found | {f"{name}, fitted": float("nan") for name in ("MMCS", "PW-MCC")}
    ways = []
    for fit, scored in (halves, halves[::-1]):
        chosen = dataclasses.replace(pairs, a=pairs.a[fit], b=pairs.b[fit])
        moved = matching.align(both.a.decoder, both.b.decoder, chosen)
        ways.append(_mmcs_and_pw_mcc(moved[pairs.a[scored]], y[scored]))
    return found | {f"{name}, fitted": float(np.mean([way[name] for way in ways])) for name in ways[0]}


def _mmcs_and_pw_mcc(x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    found = correlate.cosines(x, y, k=min(64, len(x)))
    return {"MMCS": matching.mmcs(found), "PW-MCC": matching.pw_mcc(found)}


def _imd(both: Correlated, pairs: Pairs) -> float:
    """IMD of the decoder rows of paired features, which ignores the pairing."""
    x, y = both.a.decoder[pairs.a], both.b.decoder[pairs.b]
    return float(measures.imd(x, y)) if significance.enough(pairs) else float("nan")


# --- features that are stable across seeds


def other_seeds(profile: Profile, name: str) -> list[str]:
    """The dictionaries of the profile that differ from `name` in their seed only."""
    record = profile.dictionaries[name]
    if not hasattr(record, "seed"):
        return []
    return [other for other, x in profile.dictionaries.items() if other != name and _seedless(x) == _seedless(record)]


def _seedless(record: Any) -> dict[str, Any]:
    return {"kind": type(record).__name__, **record.model_dump(exclude={"seed"})}


def best_r(run: Profile, name: str, other: str, k: int) -> NDArray[np.float64]:
    """Held-out correlation of every feature of `name` with its best partner in `other` (features,).

    0 where either never fires on the held-out documents; NaN where the feature never fires on the matching ones.
    """
    both = pipeline.correlated(pipeline.features(run, name), pipeline.features(run, other), k)
    pairs = matching.many_to_one(both.found, "a_to_b")
    found = np.full(both.a.decoder.shape[0], np.nan)
    found[pairs.a] = np.nan_to_num(both.held_out(pairs))
    return found


def by_stability(stable: np.ndarray, across: np.ndarray, counterpart: float, bins: int) -> NDArray[np.float64]:
    """(bins,) share of features with r `across` models of at least `counterpart`, from the least `stable` on.

    `stable`, `across` (features,): r with the best partner, NaN for features that are not compared. Bins hold as many
    features each, up to one.
    """
    at = np.flatnonzero(np.isfinite(stable) & np.isfinite(across))
    ranked = at[np.argsort(stable[at], kind="stable")]
    return np.array([float(np.mean(across[part] >= counterpart)) for part in np.array_split(ranked, bins)])
