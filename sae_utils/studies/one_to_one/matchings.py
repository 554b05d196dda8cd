"""Ways to pair the features of two dictionaries, in both arms of a replicate.

In: a checked profile, the names of a replicate. Out: both arms; tables, a row a matching or a cut, with the similarity
of the paired decoder rows.
Never: an interval or a verdict over replicates (`inference` gives both).

Both models read two texts: the text itself, and the text whose words have changed places. In the true arm they read the
same text at a time, in the control arm one of them reads the other text (`sae_utils.replicates`). No score is free of
n, so that the matchings of both arms are cut to one n.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import sparse

from sae_utils import correlate, filters, matching, measures, pipeline, replicates, significance, tables
from sae_utils.correlate import Correlation
from sae_utils.engine.kernels import sides
from sae_utils.engine.params import Profile
from sae_utils.engine.saes import correlations
from sae_utils.matching import Pairs
from sae_utils.pipeline import Correlated, Features

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
RULES: dict[str, list[tuple[str, Mapping[str, Any]]]] = {
    "best": [("one_to_one", {})],
    "first": [("hubs", {"more_than": 1, "keep": "first"})],
}
"""what is kept of the pairs that share a partner -> the filters that keep it"""


class Settings(NamedTuple):
    """Parameters of the notebook that every replicate takes."""

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


def by_matching(made: Mapping[str, Pairs], both: Correlated, settings: Settings, n: int) -> pd.DataFrame:
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
