"""How much of a planted truth a dictionary holds: its features, their relations, and what splits in a wider one.

In: rows of the truth and of dictionaries, in one space. Out: scores, each with what chance gives.
Never: a training, a figure.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.spatial.distance import cdist

from sae_utils import arrays, correlate, matching, significance
from sae_utils.correlate import Correlation
from sae_utils.matching import Pairs


class Dictionary(NamedTuple):
    """A decoder and its live latents."""

    decoder: np.ndarray  # (width, d)
    live: np.ndarray  # (width,)


class Found(NamedTuple):
    """How near a dictionary comes to the truth."""

    mmcs: float  # mean over true features of the largest cosine with a live latent (Sharkey et al. 2022)
    back: float  # mean over live latents of the largest cosine with a true feature
    share: float  # of true features that have a latent of at least the cosine that counts
    chance: float  # `mmcs` of as many random directions as there are live latents


class Relations(NamedTuple):
    """Whether pairs of a true feature and its latent are arranged alike, by one measure."""

    excess: float
    p: float
    blurred: float  # excess of the true rows with random errors of the same size in place of the SAE's


class Split(NamedTuple):
    """From which narrow latents wide ones come."""

    tested: int  # parents that the narrow dictionary holds, rather than a child, and both children the wide one
    found: float  # share of them in whose latent both children have their nearest narrow latent; NaN for none
    chance: float  # the same where the narrow latents are dealt anew, mean over shuffles


def cosines(truth: np.ndarray, dictionary: Dictionary) -> Correlation:
    """Cosines of true rows (features, d) with live latents."""
    k = min(64, len(truth), int(dictionary.live.sum()))
    return correlate.cosines(truth, dictionary.decoder, k=k, live_b=dictionary.live)


def found(truth: np.ndarray, dictionary: Dictionary, least: float, seed: int | Sequence[int]) -> Found:
    """How near a dictionary comes to the true rows (features, d); a cosine of `least` counts as found."""
    near = cosines(truth, dictionary)
    anywhere = np.random.default_rng(seed).normal(size=(int(dictionary.live.sum()), truth.shape[1]))
    return Found(
        mmcs=matching.mmcs(near),
        back=float(near.b_to_a.r[dictionary.live, 0].mean(dtype=np.float64)),
        share=float((near.a_to_b.r[:, 0] >= least).mean()),
        chance=float((1 - cdist(truth, anywhere, "cosine")).max(axis=1).mean()),
    )


def pairs(truth: np.ndarray, dictionary: Dictionary) -> Pairs:
    """True features and latents that are nearest to each other."""
    return matching.mutual(cosines(truth, dictionary))


def relations(
    truth: np.ndarray, dictionary: Dictionary, measures: Sequence[str], m: int, seed: Sequence[int]
) -> dict[str, Relations]:
    """By measure, whether the paired latents are arranged as their true features; m shuffled pairings.

    Raises ValueError as `significance.test` for too few pairs.
    """
    chosen = pairs(truth, dictionary)
    one, two = truth[chosen.a], dictionary.decoder[chosen.b]
    noisy = blurred(one, chosen.r, np.random.default_rng([*seed, 1]))
    mine, random = (significance.test(one, rows, measures, m=m, seed=[*seed, 2]) for rows in (two, noisy))
    return {name: Relations(x.excess, x.p, random[name].excess) for name, x in mine.items()}


def blurred(rows: np.ndarray, cosine: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Unit rows (n, d) that have these cosines (n,) with `rows`, and are otherwise random."""
    unit, cosine = arrays.unit(rows), np.clip(cosine, -1, 1).astype(np.float64)[:, None]
    error = rng.normal(size=rows.shape)
    error -= (error * unit).sum(axis=1, keepdims=True) * unit
    return np.asarray(cosine * unit + np.sqrt(1 - cosine**2) * arrays.unit(error))


def origins(wide: Dictionary, narrow: Dictionary) -> tuple[np.ndarray, np.ndarray]:
    """The nearest live narrow latent of each wide one (width,), and its cosine; -1 and NaN where one is not live."""
    near = correlate.cosines(wide.decoder, narrow.decoder, k=1, live_a=wide.live, live_b=narrow.live)
    chosen = matching.many_to_one(near)
    index, cosine = np.full(len(wide.decoder), -1), np.full(len(wide.decoder), np.nan)
    index[chosen.a], cosine[chosen.a] = chosen.b, chosen.r
    return index, cosine


def split(
    truth: np.ndarray, groups: np.ndarray, narrow: Dictionary, wide: Dictionary, least: float, m: int,
    seed: Sequence[int],
) -> Split:  # fmt: skip
    """Whether the latents of two planted children come from the latent of their parent, the mean of their true rows.

    `truth` (features, d); `groups` (features,) of two. A dictionary holds a direction from a cosine of `least`, and a
    parent only in a latent that is nearer to it than to its children: otherwise it has kept a child.
    """
    children = np.argsort(groups, kind="stable").reshape(-1, 2)  # (parents, 2)
    parents = arrays.unit(truth[children].sum(axis=1))
    of_parent, of_child = cosines(parents, narrow).a_to_b, cosines(truth, wide).a_to_b
    latent = of_parent.index[:, 0]
    beside = np.einsum("pd,pcd->pc", arrays.unit(narrow.decoder[latent]), arrays.unit(truth)[children]).max(axis=1)
    held = (of_parent.r[:, 0] >= np.maximum(least, beside)) & (of_child.r[children, 0] >= least).all(axis=1)
    latent = latent[held]
    origin = origins(wide, narrow)[0]
    if not len(latent):
        return Split(0, np.nan, np.nan)
    twins = of_child.index[children[held], 0]  # (tested, 2)
    live, rng = np.flatnonzero(wide.live), np.random.default_rng(seed)
    shuffles = []
    for _ in range(m):
        dealt = origin.copy()
        dealt[live] = rng.permutation(origin[live])
        shuffles.append((dealt[twins] == latent[:, None]).all(axis=1).mean())
    return Split(len(latent), float((origin[twins] == latent[:, None]).all(axis=1).mean()), float(np.mean(shuffles)))
