"""The two sides of a replicate as `choices` takes them, and the shares that their correlations give.

In: both sides on their readings (`replicates.sides`). Out: `View`s; shares of features with a counterpart; what
partners are worth on documents of topics that did not choose them.
Never: a choice of how similarity is analysed; a verdict.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sae_utils import replicates
from sae_utils.engine.saes import correlations
from sae_utils.replicates import Side
from sae_utils.store import Artefact
from sae_utils.studies import feature_matching
from sae_utils.studies.controls import accounts
from sae_utils.studies.sensitivity.choices import Choice, Difference, Floats, View, differences, turned

SPLITS = ("matching", "held_out")
SHARES = ("true arm", "control arm", "partner by firing rate")


def views(sides: Sequence[Side]) -> list[View]:
    """A's role and B's with the matching documents as choosers, then both with the held-out ones.

    `views[i ^ 1]` is the other role of `views[i]`, and `views[(i + 2) % 4]` holds the documents that judge it.
    """
    found = []
    for split in SPLITS:
        a, b = (side.blocks[split] for side in sides)
        r = np.stack([replicates.correlate(a, other).r for other in (b, b[::-1])])
        firings = [np.sum([np.bincount(x.indices, minlength=x.shape[1]) for x in blocks], axis=0) for blocks in (a, b)]
        content = [np.zeros(len(side.decoder), bool) for side in sides]
        for mask, side, blocks in zip(content, sides, (a, b), strict=True):
            mask[replicates.content_features(blocks, side.classes[split], 1)] = True
        found += turned(r, [side.decoder for side in sides], firings, content)
    return found


def share_curves(views: Sequence[View], thresholds: ArrayLike, *, content: bool) -> NDArray[np.float64]:
    """Shares (3, thresholds) of features with a counterpart, in the order of `SHARES`, averaged over the views.

    `content`: of the content features only, else of all that are live on the documents that choose. A feature that
    cannot be judged is in no share.
    """
    found = []
    for place, view in enumerate(views):
        judge, others = views[(place + 2) % 4], views[place ^ 1]
        by_rate = accounts.nearest_in_firings(view.firings, others.firings)
        taken = np.isfinite(view.r[0]).any(axis=1) & (view.content | (not content))
        partners = feature_matching.best(view.r[0]), feature_matching.best(view.r[1]), by_rate
        found.append(
            [
                feature_matching.share(judge.r[arm], np.where(taken, partner, -1), thresholds)
                for arm, partner in zip((0, 1, 0), partners, strict=True)
            ]
        )
    return np.mean(found, axis=0)


class Judged(NamedTuple):
    """What best partners are worth on documents that did not choose them, averaged over both roles."""

    r: float  # mean correlation of those that can be judged
    share: float  # share of them with at least the correlation of a counterpart


def judged(choose: Floats, judge: Floats, counterpart: float) -> Judged:
    """The best partners by `choose` (features_a, features_b), judged by the correlations `judge` of the same shape."""
    found = []
    for by, of in ((choose, judge), (choose.T, judge.T)):
        partner = feature_matching.best(by)
        r = of[np.arange(len(of)), partner]
        mean = float(np.nanmean(np.where(partner >= 0, r, np.nan)))
        found.append((mean, float(feature_matching.share(of, partner, [counterpart])[0])))
    return Judged(*np.mean(found, axis=0).tolist())


def topics_of(sites: Artefact, topic: np.ndarray) -> dict[str, NDArray[np.int64]]:
    """By split, the topic of the document of every token; `topic` (documents,)."""
    of_tokens = topic[sites.array("documents")].astype(np.int64)
    return {split: of_tokens[correlations.in_split(sites, split)] for split in SPLITS}


def apart(
    sides: Sequence[Side], topics: Mapping[str, NDArray[np.int64]], groups: Sequence[Sequence[int]], counterpart: float
) -> dict[str, Judged]:
    """What partners that documents of some topics choose are worth on "the same topics" and on "other topics".

    `topics`: split -> topic of the document of every token; two `groups` of topics. Documents of one split choose,
    those of the other judge; means over groups, splits, roles.
    """

    def on(split: str, group: Sequence[int]) -> Floats:
        own = np.flatnonzero(np.isin(topics[split], group))
        return replicates.correlate(*([block[own] for block in side.blocks[split]] for side in sides)).r

    r = {(split, group): on(SPLITS[split], groups[group]) for split in (0, 1) for group in (0, 1)}
    found = {
        name: [judged(r[split, group], r[1 - split, group ^ other], counterpart) for split, group in r]
        for other, name in enumerate(("the same topics", "other topics"))
    }
    return {name: Judged(*np.mean(values, axis=0).tolist()) for name, values in found.items()}


class Measured(NamedTuple):
    """All that one replicate says; small, so that it travels between processes."""

    differences: dict[Choice, Difference]
    shares: NDArray[np.float64]  # (2, 3, thresholds) of all features and of content features, as `share_curves`
    topics: dict[str, Judged]


def measure(
    sides: Sequence[Side], asked: Iterable[Choice], thresholds: ArrayLike, topics: Mapping[str, NDArray[np.int64]],
    groups: Sequence[Sequence[int]], *, subsets: int, seed: int,
) -> Measured:  # fmt: skip
    """The difference by choice, the shares by threshold (the last one is that of a counterpart), and topics apart."""
    found, r0 = views(sides), np.asarray(thresholds)
    shares = np.array([share_curves(found, r0, content=content) for content in (False, True)])
    return Measured(
        differences(found, asked, subsets=subsets, seed=seed), shares, apart(sides, topics, groups, float(r0[-1]))
    )
