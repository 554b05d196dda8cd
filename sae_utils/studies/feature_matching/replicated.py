"""The mutual pairs of every replicate in numbers: how many, how strong, and how alike their decoder rows are.

In: a profile, the names of the two dictionaries of a replicate. Out: numbers that are means over both roles of the
documents, which choose pairs and which judge them.
Never: a mean over replicates, an interval or a verdict (`inference` has them).
"""

from typing import NamedTuple

import numpy as np

from sae_utils import matching, pipeline, significance
from sae_utils.engine.params import Profile
from sae_utils.matching import Pairs
from sae_utils.pipeline import Correlated
from sae_utils.studies.feature_matching.counterparts import reached


class Numbers(NamedTuple):
    """The pairs of one replicate; numbers are means over both roles of the documents, which choose and which judge."""

    retention: float  # share of the live features of A in a mutual pair
    r: float  # mean correlation of the mutual pairs on the documents that judge
    share_a: float  # of A's features that can be judged, those whose best partner is a counterpart
    share_b: float
    mutual: tuple[Pairs, Pairs]  # the mutual pairs of each role

    @property
    def n(self) -> int:
        """Mutual pairs of the role that has fewer."""
        return min(map(len, self.mutual))

    def named(self) -> dict[str, float]:
        """The numbers as columns of a table."""
        return {
            "mutual pairs": self.n,
            "retention": self.retention,
            "r held out": self.r,
            "counterparts, A": self.share_a,
            "counterparts, B": self.share_b,
        }


def roles(run: Profile, names: tuple[str, ...], candidates: int) -> tuple[Correlated, Correlated]:
    """Two dictionaries correlated on the matching documents, and with the roles of the documents exchanged."""
    a, b = (pipeline.features(run, name) for name in names)
    return pipeline.correlated(a, b, candidates), pipeline.correlated(a, b, candidates, swapped=True)


def mutual(run: Profile, names: tuple[str, ...], candidates: int) -> tuple[Pairs, Pairs]:
    """The mutual pairs of two dictionaries in both roles of the documents."""
    one, two = roles(run, names, candidates)
    return matching.mutual(one.found), matching.mutual(two.found)


def of_replicate(run: Profile, names: tuple[str, ...], candidates: int, counterpart: float) -> Numbers:
    """The pairs of two dictionaries in numbers; a counterpart correlates by at least ``counterpart``."""
    lines, kept = [], list[Pairs]()
    for both in roles(run, names, candidates):
        mutual = matching.mutual(both.found)
        chosen = matching.many_to_one(both.found, "a_to_b"), matching.many_to_one(both.found, "b_to_a")
        shares = [float(reached(both.held_out(pairs), [counterpart])[0]) for pairs in chosen]
        lines.append([len(mutual) / both.found.live[0], float(np.nanmean(both.held_out(mutual))), *shares])
        kept.append(mutual)
    retention, r, share_a, share_b = map(float, np.mean(lines, axis=0))
    return Numbers(retention, r, share_a, share_b, (kept[0], kept[1]))


def similarity(
    run: Profile, names: tuple[str, ...], mutual: tuple[Pairs, Pairs], measure: str, n: int, *, subsets: int, m: int,
    seed: int,
) -> dict[str, float]:  # fmt: skip
    """``observed``, ``null``, ``excess`` of mutual pairs at ``n``, means over both roles, and their one ``p``."""
    a, b = (pipeline.features(run, name).decoder for name in names)
    found = [
        significance.rows_at_n((a[pairs.a], b[pairs.b]), measure, n, subsets=subsets, m=m, seed=seed)
        for pairs in mutual
    ]
    keys = {"observed": "observed", "null": "null_mean", "excess": "excess"}
    means = {key: float(np.mean([getattr(x, field) for x in found])) for key, field in keys.items()}
    return means | {"p": significance.combined([x.p for x in found])}
