"""Does acting on paired features do the same in both models? All that notebook 08c measures of one replicate.

In: a checked profile, the names of a replicate, settings. Out: numbers by name, likeness along the held-out r.
Never: an interval or a verdict over replicates (`inference` gives both).

The effects of A come from one half of the documents and those of B from the other, so that no context is shared. Words
are compared as in `paired`: in the control arm B's words are read through the exchange.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sae_utils import arrays, replicates, tables
from sae_utils.engine.chance.results import excess
from sae_utils.engine.geometry.registry import Floats
from sae_utils.engine.params import Profile
from sae_utils.studies.function import effects, heads, measured, paired, strata, substituting
from sae_utils.studies.function.effects import KINDS, Effects, Plan
from sae_utils.studies.function.paired import CONTROL, TRUE, Both, Paired, View

Ints = NDArray[np.int64]


class Settings(NamedTuple):
    """Parameters of the notebook that every replicate takes."""

    minimum: int  # firings of a content feature on the documents that choose
    candidates: int  # partners of a feature that are kept for mutual pairs
    plan: Plan
    top: int  # tokens on which a feature fires most
    strata: int  # bins of firing rate
    caliper: float  # of held-out r, within which pairs count as equal
    permutations: int  # shuffles within strata
    judged: int  # rows on which the loss of a substitution is measured
    most: int  # pairs of a view that are acted on, drawn at random from more


class Found(NamedTuple):
    """The results of one replicate."""

    numbers: dict[str, float]
    pairs: pd.DataFrame  # a row a pair, kind and arm: r, alike, shuffled


class Likeness(NamedTuple):
    """How alike the effects of pairs are."""

    similar: Floats  # (n, n) correlation of the effects of every left feature with those of every right one
    reliability: tuple[Floats, Floats]  # (n,) of left and right features: one half of the documents with the other
    kept: NDArray[np.bool_]  # (pairs,) which of them have effects in all halves


class Acted(NamedTuple):
    """The effects of both dictionaries of a replicate on the documents of one split."""

    of: Mapping[str, Effects]  # by side, "a" or "b"
    place: Mapping[str, Ints]  # (features,) of the dictionary: its place among the effects, or -1
    shared: heads.Shared

    def likeness(self, view: View, arm: str, kind: str, weighted: bool = False) -> Likeness:
        """How alike the effects of the pairs of a view are in an arm.

        `weighted`: words count by their probability, the geometric mean of that of both models; else all the same.
        """
        x, sides = view.arms[arm], (view.role, "b" if view.role == "a" else "a")
        found, common, weight = [], [], np.ones(len(self.shared.words))
        for side, features in zip(sides, (x.left, x.right), strict=True):
            words = self.shared.partner if arm == CONTROL and side == "b" else slice(None)
            found.append(self.of[side].of(kind)[:, self.place[side][features]][..., words])
            common.append(self.of[side].random[words])
            weight = weight * np.sqrt(self.of[side].probability[words])
        kept = np.all([np.isfinite(side).all(axis=(0, 2)) for side in found], axis=0)
        weights = weight if weighted else None
        left, right = (
            [effects.own(half[kept], rest, weights) for half in side] for side, rest in zip(found, common, strict=True)
        )
        similar = (left[0] @ right[1].T + left[1] @ right[0].T) / 2
        reliability = [(one * other).sum(axis=1) for one, other in (left, right)]
        return Likeness(similar.astype(np.float64), (reliability[0], reliability[1]), kept)


def act(run: Profile, names: tuple[str, ...], views: list[View], judge: str, plan: Plan) -> Acted:
    """Act on every feature that is in a pair of the views, in both models."""
    exchanged = replicates.seed(run, names[0]) if run.common.replicates else None
    shared = heads.shared(run, names[0], names[1], exchanged)
    of, place = {}, {}
    for side, name, words in zip("ab", names, (shared.a, shared.b), strict=False):
        at = effects.site(run, name, judge)
        features = np.unique(np.concatenate([x for view in views for x in _on(side, view)]))
        of[side] = effects.of_features(at, features.tolist(), words, plan)
        place[side] = np.full(at.codes.shape[1], -1)
        place[side][features] = np.arange(len(features))
    return Acted(of, place, shared)


def _on(side: str, view: View) -> list[Ints]:
    return [x.left if view.role == side else x.right for x in view.arms.values()]


def views_of(run: Profile, names: tuple[str, ...], settings: Settings) -> list[View]:
    """`paired.views`, with at most `settings.most` pairs each, the same in all arms."""
    return [_few(x, settings) for x in paired.views(run, names, settings.minimum, settings.candidates)]


def _few(view: View, settings: Settings) -> View:
    n = min(len(x.left) for x in view.arms.values())
    if n <= settings.most:
        return view
    some = np.sort(arrays.generator(settings.plan.seed).permutation(n)[: settings.most])
    return view._replace(arms={arm: Paired(*(x[some] for x in of)) for arm, of in view.arms.items()})


def of_replicate(run: Profile, names: tuple[str, ...], settings: Settings) -> Found:
    """All results of A and B: means over roles, and over both splits as the one that judges."""
    both, views = paired.both(run, names, settings.top), views_of(run, names, settings)
    roles = len(views) // len(replicates.SPLITS)
    numbers, pairs = [], []
    for place, (choose, judge) in enumerate(replicates.SPLITS):
        of_split = views[place * roles : (place + 1) * roles]
        acted = act(run, names, of_split, judge, settings.plan)
        for view in of_split:
            found, frame = of_view(both, acted, view, settings)
            numbers.append(found | substituting.of_view(run, names, view, (choose, judge), settings.judged))
            pairs.append(frame)
    mean = {name: tables.average(np.array([x[name] for x in numbers])) for name in numbers[0]}
    return Found(mean, pd.concat(pairs, ignore_index=True))


def of_view(both: Both, acted: Acted, view: View, settings: Settings) -> tuple[dict[str, float], pd.DataFrame]:
    """Numbers of the pairs of a view by name, and one row a pair, arm and kind of acting."""
    found: dict[str, float] = {}
    rows = []
    for kind in KINDS:
        for arm, x in view.arms.items():
            alike = acted.likeness(view, arm, kind)
            found |= {f"{kind}, {arm}, {key}": value for key, value in scores(alike, x).items()}
            likely = scores(acted.likeness(view, arm, kind, weighted=True), x)
            found |= {f"{kind}, {arm}, weighted {key}": likely[key] for key in ("alike", "excess", "ceiling")}
            shown = {"kind": kind, "arm": arm, "r": x.r[alike.kept], "alike": np.diag(alike.similar)}
            shown |= {"shuffled": alike.similar.mean(axis=1), "reliable": np.minimum(*alike.reliability)}
            shown |= {"logits": np.diag(both.similar(view.role, arm, x))[alike.kept]}
            rows.append(pd.DataFrame(shown))
            if arm == TRUE:
                against = held_against(both, view.role, x, alike, settings)
                found |= {f"{kind}, {key}": value for key, value in against.items()}
    return found, pd.concat(rows)


def scores(alike: Likeness, x: Paired) -> dict[str, float]:
    """Mean likeness of pairs, of all partners, the excess, the ceiling by reliability, and the course along r."""
    own, r = np.diag(alike.similar), x.r[alike.kept]
    mean, null = float(own.mean()), float(alike.similar.mean())
    reliable = [float(side.mean()) for side in alike.reliability]
    ceiling = float(np.sqrt(max(reliable[0] * reliable[1], 0)))
    return {
        "n": float(len(own)), "retention": float(alike.kept.mean()), "r": tables.average(r),
        "alike": mean, "shuffled": null, "excess": excess(mean, null), "ceiling": ceiling,
        "of ceiling": mean / ceiling if ceiling > 0 else np.nan,
        "with r": float(pd.Series(own).corr(pd.Series(r), method="spearman")),
    }  # fmt: skip


def held_against(both: Both, role: str, x: Paired, alike: Likeness, settings: Settings) -> dict[str, float]:
    """The pairs of the true arm against partners shuffled within strata, and partners of other pairs of equal r."""
    own, kept = both.sides(role)[0], alike.kept
    labels = {key: label[kept] for key, label in measured.labels(own, x, settings.strata).items()}
    found: dict[str, float] = {}
    for key, result in strata.tests(alike.similar, labels, m=settings.permutations, seed=settings.plan.seed).items():
        found |= {f"{key}, null": result.null_mean, f"{key}, excess": result.excess}
        found |= {f"{key}, z": result.z, f"{key}, movable": result.movable}
    concept = own.classes[x.left] if own.classed else own.top[x.left]
    crossed = strata.equal_r(alike.similar, x.r[kept], concept[kept], settings.caliper)
    return found | {f"equal r, {key}": value for key, value in crossed._asdict().items()}
