"""The geometry between classes of words: where the features of one class lie, beside those of the others.

In: codes, the true class of the word at every token, decoder rows. Out: centroids of classes; how alike two models
arrange them, with the words as they are and exchanged. Features are weighted, since hardly any has half of its
activation on one class once words are exchanged.
Never: pairs of features; a correlation of codes. Classes are paired by their names.
"""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from sae_utils import arrays, pipeline, replicates
from sae_utils.engine.params import Profile
from sae_utils.engine.text import lexicon, stories

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Level = Literal["classes", "lists"]


def names(level: Level) -> list[str]:
    """The true classes of the stories, or the lists into which hidden attributes divide them."""
    if level == "classes":
        return list(stories.CLASSES)
    return [" ".join(name) for name in lexicon.load_lexicon().attributes]


def of_tokens(tokens: Sequence[str], level: Level) -> Ints:
    """The place in `names` of the word that each of the `tokens` (vocabulary,) is in the true world; -1 for others."""
    place = {name: number for number, name in enumerate(names(level))}
    of = {
        word: place[own[0] if level == "classes" else " ".join(own)] for word, own in stories.membership("true").items()
    }
    return np.array([of.get(token, -1) for token in tokens], np.int64)


def shares(codes: Any, of: np.ndarray, classes: int) -> Floats:
    """(features, classes) share of the activation of every feature that is at tokens of each class; NaN if it is dead.

    `codes` (tokens, features), CSR; `of` (tokens,): class of the word at every token, -1 for none.
    """
    at = np.flatnonzero(of >= 0)
    which = sparse.csr_array((np.ones(len(at)), (at, of[at])), (len(of), classes))
    total = np.asarray(codes.sum(axis=0, dtype=np.float64)).ravel()
    spent = np.asarray((codes.T.astype(np.float64) @ which).todense())
    return np.divide(spent, total[:, None], out=np.full(spent.shape, np.nan), where=total[:, None] > 0)


def centroids(rows: np.ndarray, share: np.ndarray) -> Floats:
    """(classes, d) mean of the unit `rows` (features, d), weighted by the `share` (features, classes) of each class.

    A class on which no feature spends activation is NaN.
    """
    weight = np.nan_to_num(share)
    total = weight.sum(axis=0)[:, None]
    mean = weight.T @ arrays.unit(rows)
    return np.divide(mean, total, out=np.full(mean.shape, np.nan), where=total > 0)


class Between(NamedTuple):
    """How alike two models arrange the classes, in one replicate: excess of the centroids over shuffled classes."""

    true: float  # by the words that either model reads
    control: float  # the features of one by the words that the other reads, in the control arm; mean of both roles
    overlap: float  # with decoder rows shuffled among the features of each: what features of several classes give
    n: int  # classes


def measured(profile: Profile, pair: replicates.Names, level: Level, measure: str, seed: int) -> Between:
    """One replicate; `measure` has a null mean in closed form. NaN with fewer than `replicates.FEWEST` classes."""
    classes, of = len(names(level)), of_tokens(pipeline.vocabulary(profile, pair[0]), level)
    readings, generator = (None, replicates.seed(profile, pair[0])), np.random.default_rng(seed)
    found: list[list[Floats]] = []  # of either side its centroids: true, control, with shuffled rows
    for side in ([pipeline.features(profile, name, reading) for reading in readings] for name in pair):
        codes = sparse.vstack([x.codes for x in side], format="csr")
        own = [of[x.sites.array("tokens")] for x in side]
        true, control = (shares(codes, np.concatenate(words), classes) for words in (own, own[::-1]))
        rows, live = side[0].decoder, np.flatnonzero(~np.isnan(true[:, 0]))
        moved = rows.copy()
        moved[live] = rows[generator.permutation(live)]
        found.append([centroids(rows, true), centroids(rows, control), centroids(moved, true)])
    (a, a_control, a_moved), (b, b_control, b_moved) = found
    excess = [_excess(*x, measure) for x in ((a, b), (a, b_control), (a_control, b), (a_moved, b_moved))]
    common = int((~np.isnan(np.hstack([a, b])).any(axis=1)).sum())
    return Between(excess[0], float(np.mean(excess[1:3])), excess[3], common)


def _excess(a: Floats, b: Floats, measure: str) -> float:
    """The excess of the classes that have a centroid on both sides."""
    common = ~np.isnan(np.hstack([a, b])).any(axis=1)
    return replicates.excesses((a[common], b[common]), [measure])[measure]
