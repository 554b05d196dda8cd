"""The geometry between classes of words: where the features of one class lie, beside those of the others.

In: codes, the true class of the word at every token, decoder rows. Out: the class of every feature; centroids of
classes; how alike two models arrange them, in the true arm and in an arm where B reads other words.
Never: pairs of features; a correlation of codes. Classes are paired by their names.
"""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from sae_utils import significance
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


def label(share: np.ndarray, least: float) -> Ints:
    """The class (features,) with the largest `share` (features, classes), if that is at least `least`; else -1."""
    known = np.nan_to_num(share, nan=-1.0)
    return np.where(known.max(axis=1) >= least, known.argmax(axis=1), -1)


def centroids(rows: np.ndarray, labels: np.ndarray, classes: int) -> Floats:
    """(classes, d) mean of the `rows` (features, d) of each class, by their `labels` (features,); NaN without any."""
    own = labels[:, None] == np.arange(classes)
    count = own.sum(axis=0)[:, None]
    total = own.T.astype(np.float64) @ rows.astype(np.float64)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)


class Between(NamedTuple):
    """How alike two models arrange the classes, in one replicate."""

    value: float  # excess of the true arm - excess of the control arm; NaN with too few classes
    true: float
    control: float
    n: int  # classes that both models have in both arms


def between(a: np.ndarray, b_true: np.ndarray, b_control: np.ndarray, measure: str, fewest: int) -> Between:
    """The excess over shuffled classes in two arms, of the classes that have a centroid (classes, d) in all three.

    `b_true`, `b_control`: of B, by what its features fire on in either arm. `measure` has a null mean in closed form.
    Fewer than `fewest` common classes give NaN.
    """
    common = np.flatnonzero(~np.isnan(np.hstack([a, b_true, b_control])).any(axis=1))
    if len(common) < fewest:
        return Between(np.nan, np.nan, np.nan, len(common))
    true, control = (
        significance.test(a[common], b[common], [measure], m_of={measure: 0})[measure].excess
        for b in (b_true, b_control)
    )
    return Between(true - control, true, control, len(common))
