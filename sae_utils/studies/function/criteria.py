"""Three criteria of matching, in the terms of notebook 02: how features fire, what they promote, what they are about.

In: both sides of a replicate, correlated in both arms; word vectors. Out: mutual pairs by each criterion; tables.
Never: an interval or a verdict over replicates.

A criterion that reads decoder rows, as attribution does, also selects how they are arranged. The control arm repeats
the selection with exchanged words, so that the difference of the arms is fair where an excess alone is not.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from sae_utils import correlate, matching, pipeline, replicates, significance, tables
from sae_utils.correlate import Correlation
from sae_utils.engine.geometry.registry import Floats
from sae_utils.engine.params import Profile
from sae_utils.matching import Pairs
from sae_utils.pipeline import Correlated
from sae_utils.studies.controls import facts
from sae_utils.studies.function import heads, strata
from sae_utils.studies.function.paired import CONTROL, TRUE, Both, Ints, Paired
from sae_utils.studies.one_to_one import matchings
from sae_utils.studies.semantic_subspaces import word2vec

ACTIVATION, ATTRIBUTION, MEANING = "activation", "attribution", "meaning"
CRITERIA = (ACTIVATION, ATTRIBUTION, MEANING)
HUBS, PERIOD, TOKENS, ALL = "choose one hub", "fire on the period", "fire on one other token", "all"


def pairs(both: Both, found: Correlation, arm: str, meanings: tuple[Floats, Floats]) -> dict[str, Pairs]:
    """Mutual pairs of features that fire, by each criterion: `found` correlates how they fire in this `arm`.

    Features without a direction, such as those that fire on no word with a vector, take no part; a criterion in which
    none takes part has no entry.
    """
    made = {ACTIVATION: matching.mutual(found)}
    for name, rows in ((ATTRIBUTION, both.units[arm]), (MEANING, meanings)):
        some = [x & rows.any(axis=1) for x, rows in zip((found.a.live, found.b.live), rows, strict=True)]
        if some[0].any() and some[1].any():
            made[name] = matching.mutual(correlate.cosines(*rows, k=1, live_a=some[0], live_b=some[1]))
    return made


def meanings(
    run: Profile, names: tuple[str, ...], both: Both, arm: str, vectors: Mapping[str, Any]
) -> tuple[Floats, Floats]:
    """The mean word vector of the top tokens of every feature of A and of B, weighted by activation; 0 without one.

    In the control arm B's tokens are the words that change places with them. Raises ProfileError as `word2vec.vectors`.
    """
    folded = [[label.casefold() for label in side.labels] for side in (both.a, both.b)]
    source = pipeline.training_text(run, names[0])
    known = word2vec.vectors(vectors, source, sorted({*folded[0], *folded[1]}))
    rows = [of_labels(known, labels) for labels in folded]
    if arm == CONTROL:
        partner = heads.exchange(both.b.labels, replicates.seed(run, names[0]))
        rows[1] = np.where((partner >= 0)[:, None], rows[1][partner], 0)
    return facts.centroids(both.a.mass, rows[0]), facts.centroids(both.b.mass, rows[1])


def of_labels(known: word2vec.Vectors, labels: list[str]) -> Floats:
    """The vector of every label less the mean of all vectors: (labels, size), 0 where there is none."""
    found = np.zeros((len(labels), known.unit.shape[1]))
    has = np.array([label in known.place for label in labels])
    if has.any():
        found[has] = known.unit[[known.place[label] for label in labels if label in known.place]]
        found[has] -= known.unit.mean(axis=0)
    return found


def table(
    both: Both, arms: Mapping[str, Correlated], made: Mapping[str, Mapping[str, Pairs]], asked: matchings.Settings
) -> pd.DataFrame:
    """A row a criterion and arm: its pairs, the share that activation finds too, retention, held-out r, logits, excess.

    `at one n`: the excess of as many pairs as the smallest set of the true arm has; NaN where there are fewer.
    """
    n = min(map(len, made[TRUE].values()))
    rows = []
    for arm, of_arm in made.items():
        x, (one, two) = arms[arm], both.units[arm]
        for criterion, found in of_arm.items():
            row = {"criterion": criterion, "arm": arm, "pairs": len(found)}
            row["agree"] = len(matching.common(found, of_arm[ACTIVATION])) / max(len(found), 1)
            row |= {"retention": len(found) / x.found.live[0], "r held out": tables.average(x.held_out(found))}
            row["logits"] = tables.average((one[found.a] * two[found.b]).sum(axis=1))
            row["excess"] = asked.excess(found, x)
            row["at one n"] = asked.at_n(found, x, n) if n >= significance.FEWEST else np.nan
            rows.append(row)
    return pd.DataFrame(rows)


# --- hubs


def hubs(both: Both, x: Correlated, period: str, more_than: int) -> pd.DataFrame:
    """A row a kind of groups of A's features: how alike their logits are, and whether their own partners stand out.

    `alike`: mean correlation of the logits of every two of a group. `own` and `others`: of the mutual pairs of a group,
    the mean correlation with the own partner, and with the partners of the others.
    """
    unit, found = both.units[TRUE][0], matching.mutual(x.found)
    similar = both.similar("a", TRUE, Paired(found.a.astype(np.int64), found.b.astype(np.int64), found.r))
    rows = []
    for name, of in groups(both, x, period, more_than).items():
        inside = [np.isin(found.a, members) for members in of]
        own = np.array([strata.within(similar, mask) for mask in inside]).reshape(-1, 2)
        row: dict[str, Any] = {"features that": name, "groups": len(of), "features": _average([len(x) for x in of])}
        row["alike"] = _average([strata.spread(unit[members]) for members in of])
        row |= {"pairs": _average([mask.sum() for mask in inside]), "own": _average(own[:, 0])}
        rows.append(row | {"others": _average(own[:, 1])})
    return pd.DataFrame(rows)


def _average(values: Any) -> float:
    return tables.average(np.asarray(values, np.float64))


def groups(both: Both, x: Correlated, period: str, more_than: int) -> dict[str, list[Ints]]:
    """Groups of A's live features: those that choose one hub, by top token, and all of them."""
    live, many = np.flatnonzero(x.found.a.live), matching.many_to_one(x.found)
    top = both.a.top[live]
    by_token = {token: live[top == token] for token in np.unique(top[top >= 0])}
    sizes = np.bincount(many.b)
    own = [members for token, members in by_token.items() if both.a.labels[token] == period]
    others = [members for token, members in by_token.items() if both.a.labels[token] != period]
    return {
        HUBS: [many.a[many.b == hub].astype(np.int64) for hub in np.flatnonzero(sizes > more_than)],
        PERIOD: own,
        TOKENS: [members for members in others if len(members) > 1],
        ALL: [live],
    }
