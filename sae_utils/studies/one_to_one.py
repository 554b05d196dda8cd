"""Ways to pair the features of two dictionaries, in both arms of a replicate.

In: a checked profile, the names of a replicate. Out: tables, a row a matching or a cut, with the similarity of the
paired decoder rows; scores of the dictionaries as wholes; how stable features are across seeds.
Never: an interval or a verdict over replicates (`inference` gives both).

In the true arm both models read the text, and the text whose words have changed places; in the control arm one reads
the one where the other reads the other (`sae_utils.replicates`). No score is free of n: matchings of both arms are cut
to one n.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from sae_utils import arrays, correlate, filters, matching, measures, pipeline, replicates, significance, tables
from sae_utils.correlate import Correlation
from sae_utils.engine.kernels import sides
from sae_utils.engine.pairs import PAIRED
from sae_utils.engine.params import Profile
from sae_utils.engine.saes import correlations
from sae_utils.matching import Pairs
from sae_utils.pipeline import Correlated, Features

LARGEST = 4096  # live features of a side; the distances of larger sides would need too much memory
FORWARD = "many-to-one, A to B"
METHODS: dict[str, Callable[[Correlation], Pairs]] = {
    FORWARD: lambda found: matching.many_to_one(found, "a_to_b"),
    "many-to-one, B to A": lambda found: matching.many_to_one(found, "b_to_a"),
    "mutual": matching.mutual,
    "greedy": matching.greedy,
    "optimal": matching.optimal,
    "soft": lambda found: matching.soft(found).heaviest(),
}
"""matchings by name; of the soft one, one pair a feature, the heaviest first"""
CUT = (FORWARD, "mutual", "optimal")  # matchings that are cut at a least correlation
RULES: dict[str, list[tuple[str, Mapping[str, Any]]]] = {
    "best": [("one_to_one", {})],
    "first": [("hubs", {"more_than": 1, "keep": "first"})],
}
"""what is kept of the pairs that share a partner -> the filters that keep it"""


class Settings(NamedTuple):
    """Parameters of notebook 02 that every replicate takes."""

    measure: str  # of the paired decoder rows
    candidates: int  # of each feature and direction
    counterpart: float  # held-out r from which a partner is called a counterpart
    draws: int  # behind a null mean that is not known in closed form
    subsets: int  # random ones, of one n
    seed: int

    def excess(self, pairs: Pairs, both: Correlated) -> float:
        """Excess of the decoder rows of all pairs; NaN where they are too few."""
        return significance.test_pairs(
            pairs, both.a.decoder, both.b.decoder, self.measure, m=self._draws(pairs), seed=self.seed
        ).excess

    def at_n(self, pairs: Pairs, both: Correlated, n: int) -> float:
        """Mean excess of random subsets of `n` pairs; NaN where there are fewer."""
        if len(pairs) < max(n, 1):
            return float("nan")
        rows = both.a.decoder, both.b.decoder
        found = significance.pairs_at_n(
            pairs, *rows, self.measure, n, subsets=self.subsets, m=self._draws(pairs), seed=self.seed
        )
        return found.excess

    def _draws(self, pairs: Pairs) -> int:
        one_to_one = len(np.unique(pairs.a)) == len(np.unique(pairs.b)) == len(pairs)
        return 2 if one_to_one and measures.measure(self.measure).closed_form else self.draws


# --- both arms


def arms(run: Profile, names: Sequence[str], k: int) -> dict[str, Correlated]:
    """The two dictionaries `names` correlated in the "true" and the "control" arm, `k` candidates a feature.

    A profile without replicates exchanges no words and has only the true arm, on the text alone.
    Raises ValueError if their models have different tokenizers.
    """
    readings = [None, replicates.seed(run, names[0])] if run.common.replicates else [None]
    a, b = ([pipeline.features(run, name, reading) for reading in readings] for name in names)
    found = {"true": _correlated(a, b, k)}
    return found | {"control": _correlated(a, b[::-1], k)} if len(readings) > 1 else found


def _correlated(a: list[Features], b: list[Features], k: int) -> Correlated:
    """Both sides over all readings, one after another: reading i of both has the same tokens, row by row."""
    if len({x.codes.shape[0] for x in (*a, *b)}) > 1:
        raise ValueError("the two dictionaries have different tokens: their models need one tokenizer")
    one, two = (side[0]._replace(codes=sparse.vstack([x.codes for x in side], format="csr")) for side in (a, b))
    chosen, judged = (np.tile(correlations.in_split(a[0].sites, x), len(a)) for x in ("matching", "held_out"))
    found = correlate.features(one.codes, two.codes, k=k, rows=chosen)
    at = np.flatnonzero(judged)
    return Correlated(
        one, two, found, chosen, judged, (sides.prepare(one.codes, at, "a"), sides.prepare(two.codes, at, "b"))
    )


def of_replicate(
    run: Profile, names: Sequence[str], settings: Settings, least_r: Sequence[float],
    hub_thresholds: Sequence[int], strongest: Sequence[float],
) -> dict[str, pd.DataFrame]:  # fmt: skip
    """The tables of one replicate: `matchings`, `least r`, `hubs`, `orders` (each of its functions) and `wholes`.

    `matchings` and `wholes` hold both arms, the others the true one.
    """
    both = arms(run, names, settings.candidates)
    made = {arm: {name: method(x.found) for name, method in METHODS.items()} for arm, x in both.items()}
    n = min(len(pairs) for of_arm in made.values() for pairs in of_arm.values())
    true, pairs = both["true"], made["true"]
    return {
        "matchings": pd.concat([matchings(made[arm], x, settings, n).assign(arm=arm) for arm, x in both.items()]),
        "least r": cut_by_r({name: pairs[name] for name in CUT}, true, settings, least_r),
        "hubs": cut_hubs(pairs[FORWARD], true, settings, hub_thresholds),
        "orders": orders(pairs[FORWARD], true, settings, strongest),
        "wholes": pd.DataFrame({arm: wholes(x, seed=settings.seed) for arm, x in both.items()}),
    }


def matchings(made: Mapping[str, Pairs], both: Correlated, settings: Settings, n: int) -> pd.DataFrame:
    """A row a matching: pairs, share of live features, r, share of counterparts, excess of all and at `n` pairs."""
    return pd.DataFrame(
        {
            "matching": name,
            "pairs": len(pairs),
            **_kept(pairs, both),
            "r matching": tables.average(pairs.r),
            "counterparts": float(np.mean(np.nan_to_num(both.held_out(pairs)) >= settings.counterpart)),
            "in optimal": len(matching.common(pairs, made["optimal"])) / max(len(pairs), 1),
            "excess": settings.excess(pairs, both),
            "n": n,
            "at one n": settings.at_n(pairs, both, n),
        }
        for name, pairs in made.items()
    )


def _kept(pairs: Pairs, both: Correlated) -> dict[str, float]:
    live_a, live_b = both.found.live
    return {
        "of A": len(np.unique(pairs.a)) / live_a,
        "of B": len(np.unique(pairs.b)) / live_b,
        "r held out": tables.average(both.held_out(pairs)),
    }


# --- cuts


def cut_by_r(made: Mapping[str, Pairs], both: Correlated, settings: Settings, least_r: Sequence[float]) -> pd.DataFrame:
    """A row a matching and least correlation on the documents that chose the pairs: what is kept, and its excess.

    `as many`: the excess of as many pairs of that matching drawn at random.
    """
    cut = {(name, r): filters.weak(pairs, r) for name, pairs in made.items() for r in least_r}
    return pd.DataFrame(
        {
            "matching": name,
            "least r": r,
            "n": len(pairs),
            **_kept(pairs, both),
            "excess": settings.excess(pairs, both),
            "as many": settings.at_n(made[name], both, len(pairs)) if name == "optimal" else np.nan,
        }
        for (name, r), pairs in cut.items()
    )


def cut_hubs(forward: Pairs, both: Correlated, settings: Settings, thresholds: Sequence[int]) -> pd.DataFrame:
    """A row a rule and threshold: hubs with more pairs keep their best pair, their first, or none; 0 cuts nothing."""
    cut = {
        (keep, most): filters.hubs(forward, most, keep=keep) if most else forward
        for keep in ("best", "first", "none")
        for most in (*thresholds, 0)
    }
    return pd.DataFrame(
        {
            "keep": keep,
            "most": most,
            "largest": int(np.bincount(forward.b).max(initial=0)),
            **_kept(pairs, both),
            "excess": settings.excess(pairs, both),
        }
        for (keep, most), pairs in cut.items()
    )


def orders(forward: Pairs, both: Correlated, settings: Settings, strongest: Sequence[float]) -> pd.DataFrame:
    """A row a rule and share: one-to-one first and the strongest share after, against the reverse.

    `n` and `reversed n` pairs, of which a share `in both` of the smaller set is in the larger; `difference` of excess.
    """
    rows = []
    for rule, steps in RULES.items():
        for share in strongest:
            cut: tuple[str, Mapping[str, Any]] = ("strongest", {"share": share})
            one, two = (filters.apply(forward, order)[0] for order in ([*steps, cut], [cut, *steps]))
            shared = len(matching.common(one, two)) / max(min(len(one), len(two)), 1)
            difference = settings.excess(one, both) - settings.excess(two, both)
            counts = {"n": len(one), "reversed n": len(two), "in both": shared}
            rows.append({"rule": rule, "share": share, **counts, "difference": difference})
    return pd.DataFrame(rows)


# --- two dictionaries as wholes


def wholes(both: Correlated, *, one_space: bool = False, seed: int) -> dict[str, float]:
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
