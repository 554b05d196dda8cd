"""When features appear: what a state of a model holds of the features of the last one, and of the words.

In: activations (tokens, d) of a state; codes (tokens, features) of the finished SAE; tokens. Out: for every feature the
held-out correlation of its best linear readout; of two states, how alike they arrange words.
Never: a model, a file.

A readout asks less than an SAE of the state would: whether the feature is there in some direction, not whether it is a
sparse one. That random weights let one read much of a feature is no flaw but the baseline: the first checkpoint.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sae_utils import replicates

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]
RIDGE = 1e-3  # of the mean variance of a dimension
FREQUENT, RARE, FUNCTION, BOTH = "frequent content words", "rarer content words", "function words", "words of both"
KINDS = (FREQUENT, RARE, FUNCTION, BOTH)


# --- kinds of features


def kinds(codes: Any, classes: NDArray[Any], minimum: int) -> NDArray[np.str_]:
    """The kind of every feature (features,), "" where it fires at fewer than `minimum` tokens.

    A feature is about content words with over `replicates.CONTENT` of its activation on tokens of a class (`classes`
    (tokens,), -1 for none), about function words with less than 1 - CONTENT. Those about content words are halved by
    how often they fire.
    """
    total = np.maximum(codes.sum(0), np.finfo(np.float32).tiny)
    share = codes[np.flatnonzero(classes >= 0)].sum(0) / total
    firings = np.bincount(codes.indices, minlength=codes.shape[1])
    live, content = firings >= minimum, share > replicates.CONTENT
    often = firings > np.median(firings[live & content]) if (live & content).any() else live
    found = np.where(content, np.where(often, FREQUENT, RARE), np.where(share < 1 - replicates.CONTENT, FUNCTION, BOTH))
    return np.where(live, found, "")


# --- features of the last state in another one


class _Moments(NamedTuple):
    """Covariances of activations and codes on some tokens."""

    xx: Floats  # (d, d)
    xz: Floats  # (d, features)
    zz: Floats  # (features,) variances

    @classmethod
    def of(cls, x: np.ndarray, z: Any) -> "_Moments":
        n, wide = len(x), x.astype(np.float64)
        mean_x, mean_z = wide.mean(axis=0), np.asarray(z.sum(0)).ravel() / n
        square = np.asarray(z.multiply(z).sum(0)).ravel() / n
        cross = (z.T @ wide).T / n - np.outer(mean_x, mean_z)
        return cls(wide.T @ wide / n - np.outer(mean_x, mean_x), cross, square - mean_z**2)


def readout(x: np.ndarray, z: Any, fit: Mask, judge: Mask) -> Floats:
    """Pearson's r of every feature with its ridge regression on activations, on the tokens `judge`: (features,).

    `x` (tokens, d), `z` CSR (tokens, features). The weights come from the tokens `fit`, with a penalty of `RIDGE` times
    the mean variance of a dimension (Hoerl and Kennard 1970). NaN where a feature or its readout is constant.
    """
    one, two = (_Moments.of(x[part], z[np.flatnonzero(part)]) for part in (fit, judge))
    penalty = RIDGE * np.trace(one.xx) / len(one.xx) * np.eye(len(one.xx))
    weights = np.linalg.solve(one.xx + penalty, one.xz)
    covariance, variance = (weights * two.xz).sum(axis=0), (weights * (two.xx @ weights)).sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        r: Floats = covariance / np.sqrt(np.maximum(variance * two.zz, 0))
    return np.where(np.isfinite(r), r, np.nan)


def held(x: np.ndarray, z: Any, halves: tuple[Mask, Mask]) -> Floats:
    """`readout` (features,) as a mean over both roles of the two halves of the documents."""
    one, two = halves
    return (readout(x, z, one, two) + readout(x, z, two, one)) / 2


def half_way(r: Floats, least: float) -> Ints:
    """The first state in which a feature has risen half way from the first to the last: (features,) indices of states.

    `r` (states, features). -1 where it rises by less than `least`: it was there, or never comes.
    """
    first, last = r[0], r[-1]
    rises = last - first >= least
    return np.where(rises, (r >= (first + last) / 2).argmax(axis=0), -1)


# --- words


def word_means(x: np.ndarray, tokens: Ints, words: Ints) -> Floats:
    """Mean activation (words, d) over all occurrences of each of some tokens; NaN of a word that does not occur."""
    place = np.full(max(int(tokens.max(initial=0)), int(words.max(initial=0))) + 1, -1)
    place[words] = np.arange(len(words))
    at = place[tokens]
    sums, counts = np.zeros((len(words), x.shape[1])), np.bincount(at[at >= 0], minlength=len(words))
    np.add.at(sums, at[at >= 0], x[at >= 0])
    with np.errstate(invalid="ignore"):
        return sums / np.where(counts > 0, counts, math.nan)[:, None]


def common_words(tokens: Ints, words: Ints, partner: Ints, occurrences: int) -> Mask:
    """Which words (words,) occur often enough, and have a partner that does; `partner` (words,) place of the partner.

    A word without a token, -1, does not occur.
    """
    counts = np.bincount(tokens, minlength=int(words.max(initial=0)) + 1)
    enough = (words >= 0) & (counts[words] >= occurrences)
    return enough & enough[partner]


def alike(rows: Sequence[np.ndarray], measure: str) -> float:
    """How alike two states arrange the same words: the excess of a measure over a shuffled pairing."""
    one, two = rows
    return replicates.excesses((one, two), [measure])[measure]


# --- partners


def counterparts(one: replicates.Side, two: replicates.Side, least: float) -> float:
    """Share of live features of `one` whose best partner correlates by `least` on documents that did not choose it."""
    shares = []
    for choose, judge in replicates.SPLITS:
        chosen, judged = (replicates.correlate(one.blocks[split], two.blocks[split]) for split in (choose, judge))
        live = chosen.live[0]
        best = np.nan_to_num(chosen.r[live], nan=-1).argmax(axis=1)
        shares.append(float((np.nan_to_num(judged.r[live, best], nan=-1) >= least).mean()))
    return float(np.mean(shares))
