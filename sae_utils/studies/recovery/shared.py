"""Matchings and measures of two trained SAEs against the share of features that their planted models truly share.

In: a world of two models, a kind and a width of SAE, a schedule; what is varied. Out: SAEs of both models with their
codes on the same samples; for each draw the truth, and what every matching and measure says.
Never: a choice by the truth; a released SAE.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from sae_utils import correlate, matching, significance
from sae_utils.correlate import Correlation
from sae_utils.engine.core.spec import ProfileError, Spec, build
from sae_utils.matching import Pairs
from sae_utils.store import Artefact, artefact
from sae_utils.studies.known_truth.synthetic import rotation
from sae_utils.studies.one_to_one.matchings import METHODS
from sae_utils.studies.recovery import training, worlds
from sae_utils.studies.recovery.training import Kind, Schedule
from sae_utils.studies.recovery.worlds import TrueModel, World

SIDES = ("a", "b")
PROCRUSTES = "permutation Procrustes"
MATCHINGS = METHODS | {PROCRUSTES: matching.permutation}
CANDIDATES = 64  # of each latent and direction


class Condition(Spec):
    """Two models and how an SAE of each is trained."""

    world: World
    kind: Kind
    width: int  # of either SAE
    schedule: Schedule


def condition(
    world: Mapping[str, Any], kind: Kind, schedule: Schedule, changed: Mapping[str, Any], where: str
) -> Condition:
    """A condition that differs from its base by `changed`: `shared`, `relations`, `noise`, `width`, `k`, `samples`.

    `width`: times the number of features. Raises ProfileError for another key, for what is no world, and for models
    that are not "a" and "b".
    """
    values, known = {**world}, {"shared", "relations", "noise", "width", "k", "samples"}
    if unknown := sorted(set(changed) - known):
        raise ProfileError(f"{where}: {unknown[0]!r} cannot be varied; one of {', '.join(sorted(known))}")
    values |= {key: changed[key] for key in ("shared", "relations") if key in changed}
    if "noise" in changed:
        values["models"] = {name: {**model, "noise": changed["noise"]} for name, model in values["models"].items()}
    planted = worlds.world(values, where)
    if tuple(planted.models) != SIDES:
        raise ProfileError(f"{where}.models: {', '.join(planted.models)}; give `a` and `b`, in this order")
    asked = {key: changed[key] for key in ("k",) if key in changed}
    long = {key: changed[key] for key in ("samples",) if key in changed}
    return Condition(
        world=planted,
        kind=build(Kind, kind.model_dump() | asked, where),
        width=round(changed.get("width", 1) * planted.features),
        schedule=build(Schedule, schedule.model_dump() | long, where),
    )


def conditions(
    world: Mapping[str, Any], sae: Mapping[str, Any], schedule: Mapping[str, Any], shares: Sequence[float],
    varied: Mapping[str, Mapping[str, Any]], where: str,
) -> dict[str, Condition]:  # fmt: skip
    """Conditions by name: every share, then what is varied. Raises ProfileError as `condition`."""
    kind, long = build(Kind, sae, f"{where}.sae"), build(Schedule, schedule, f"{where}.schedule")
    asked = {f"{share:g} shared": {"shared": share} for share in shares}
    if twice := sorted(set(asked) & set(varied)):
        raise ProfileError(f"{where}.varied.{twice[0]}: the name of a share; choose another")
    return {
        name: condition(world, kind, long, changed, f"{where}.{'varied.' * (name in varied)}{name}")
        for name, changed in {**asked, **varied}.items()
    }


@artefact
def trained(folder: Path, of: Condition, side: str, seed: int) -> dict[str, Any]:
    """An SAE of one model of the truth of this seed: `decoder` (width, d), and `codes` (samples, width).

    Both models are judged on the same samples, which none is trained on. meta: `loss`, the share of variance that is
    not explained. Raises ProfileError if the weights are not finite.
    """
    truth = of.world.draw(seed)
    sae = training.fitted(truth, side, of.kind, of.width, of.schedule, seed)
    x = torch.from_numpy(truth.sample(of.schedule.judged, 2 * seed)[side].x)
    with torch.no_grad():
        codes = sae.encode(x)
        loss = training.unexplained(sae, codes, x)
    np.save(folder / "decoder.npy", sae.W_dec.detach().numpy())
    np.save(folder / "codes.npy", codes.numpy())
    return {"loss": loss}


class Places(NamedTuple):
    """What the latents of two SAEs stand for."""

    place: tuple[np.ndarray, np.ndarray]  # (latents,) of the feature that each recovers, -1 for none
    common: int  # features of the world that both models have, the first ones

    @property
    def shared(self) -> np.ndarray:
        """Latents of A whose feature is in both models and recovered by both: (latents_a,)."""
        return worlds.truly_shared(*self.place, self.common)

    def right(self, pairs: Pairs) -> np.ndarray:
        """Whether both latents of a pair recover the same shared feature: (pairs,)."""
        a, b = self.place[0][pairs.a], self.place[1][pairs.b]
        return (a >= 0) & (a < self.common) & (a == b)


def place(model: TrueModel, decoder: np.ndarray, live: np.ndarray, near: float) -> np.ndarray:
    """The place in the world of the true feature nearest to each latent (latents,); -1 below a cosine of `near`."""
    with np.errstate(invalid="ignore", divide="ignore"):
        cosine = (decoder / np.linalg.norm(decoder, axis=1, keepdims=True)) @ model.rows.T
    found = live & (np.nan_to_num(cosine, nan=-1).max(axis=1) >= near)
    return np.where(found, model.place[np.nan_to_num(cosine, nan=-1).argmax(axis=1)], -1)


class Compared(NamedTuple):
    """Two SAEs of one draw of the truth."""

    found: Correlation
    rows: tuple[np.ndarray, np.ndarray]  # decoder rows (latents, d)
    truth: Places


def compared(of: Condition, seed: int, saes: Sequence[Artefact], near: float) -> Compared:
    """Both SAEs, correlated on the judged samples."""
    codes = [np.array(x.array("codes")) for x in saes]
    rows = [np.array(x.array("decoder")) for x in saes]
    found = correlate.features(codes[0], codes[1], k=min(CANDIDATES, of.width))
    drawn = of.world.draw(seed)
    live = found.a.live, found.b.live
    places = [place(drawn.models[name], x, on, near) for name, x, on in zip(SIDES, rows, live, strict=True)]
    return Compared(found, (rows[0], rows[1]), Places((places[0], places[1]), drawn.shared))


def matched(x: Compared) -> dict[str, dict[str, float]]:
    """By matching: `pairs`; `right`, the share of them that are true partners; `found`, the share of the truly shared
    latents of A that have their true partner among the pairs (NaN where none is shared).
    """  # fmt: skip
    shared, told = x.truth.shared, {}
    for name, match in MATCHINGS.items():
        pairs = match(x.found)
        right = x.truth.right(pairs)
        reached = np.isin(np.flatnonzero(shared), pairs.a[right])
        told[name] = {"pairs": float(len(pairs)), "right": float(right.mean()) if len(right) else np.nan}
        told[name]["found"] = float(reached.mean()) if len(reached) else np.nan
    return told


def distances(x: Compared) -> dict[str, float]:
    """Distances of whole dictionaries, by the activations of all latents."""
    return {PROCRUSTES: matching.permutation(x.found).distance, "soft matching": matching.soft(x.found).distance}


def excesses(x: Compared, measures: Sequence[str], m: int, seed: int) -> dict[str, dict[str, float]]:
    """By measure, the excess of optimal pairs over m shuffled pairings: of `all`, of the truly `shared`, of `private`.

    `rotated`: with the rows of B turned, which keeps their relations; `shuffled`: with the rows of B in another order,
    which destroys them. `private`: pairs that are no true partners. NaN for too few pairs.
    """
    pairs, rng = matching.optimal(x.found), np.random.default_rng([seed, 2])
    right = x.truth.right(pairs)
    a, b = x.rows[0][pairs.a], x.rows[1][pairs.b]
    turned = b @ rotation(rng, b.shape[1], b.shape[1])
    sets = {
        "all": (a, b), "shared": (a[right], b[right]), "private": (a[~right], b[~right]), "rotated": (a, turned),
        "shuffled": (a, b[rng.permutation(len(b))]),
    }  # fmt: skip
    told: dict[str, dict[str, float]] = {name: {} for name in measures}
    for kind, (one, other) in sets.items():
        if len(one) >= significance.FEWEST:
            tested = significance.test(one, other, list(measures), m=m, seed=[seed, 3])
            for name, found in tested.items():
                told[name][kind] = found.excess
    return {name: dict.fromkeys(sets, np.nan) | of_kind for name, of_kind in told.items()}


class Read(NamedTuple):
    """All that one draw of a condition says; small, so that it travels between processes."""

    true: float  # share of A's live latents that are truly shared
    recovered: float  # share of them that recover a feature
    loss: float  # mean over both SAEs
    matched: dict[str, dict[str, float]]
    distances: dict[str, float]
    excess: dict[str, dict[str, float]]


def read(of: Condition, seed: int, near: float, measures: Sequence[str], m: int) -> Read:
    """Train both SAEs of a draw, or take them from the store, and compare them."""
    saes = [trained(of, side, seed) for side in SIDES]
    x = compared(of, seed, saes, near)
    live = max(int(x.found.a.live.sum()), 1)
    return Read(
        float(x.truth.shared.sum() / live),
        float((x.truth.place[0] >= 0).sum() / live),
        float(np.mean([sae.meta["loss"] for sae in saes])),
        matched(x),
        distances(x),
        excesses(x, measures, m, seed),
    )
