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


class Side(NamedTuple):
    """One dictionary on the text and, below, on the text with its words exchanged."""

    rows: np.ndarray  # (features, d) of the decoder
    codes: sparse.csr_array  # (tokens, features)
    read: Ints  # (tokens,) class of the word that this model reads, -1 for none
    other: Ints  # (tokens,) class of the word that the other model reads there in the control arm


def side(profile: Profile, name: str, exchange: int, level: Level) -> Side:
    """A dictionary on both readings; `exchange`: the seed of the exchange of words."""
    of = of_tokens(pipeline.vocabulary(profile, name), level)
    readings = [pipeline.features(profile, name, reading) for reading in (None, exchange)]
    read = [of[x.sites.array("tokens")] for x in readings]
    codes = sparse.csr_array(sparse.vstack([x.codes for x in readings], format="csr"))
    return Side(readings[0].decoder, codes, np.concatenate(read), np.concatenate(read[::-1]))


class Arms(NamedTuple):
    """Centroids of all classes in one dictionary, (classes, d) each; NaN of a class without activation."""

    true: Floats  # by the words that the model reads
    control: Floats  # by the words that the other model reads there
    overlap: Floats  # true, with decoder rows shuffled among live features: what features of several classes give


def of_side(own: Side, classes: int, generator: np.random.Generator) -> Arms:
    """The centroids of a dictionary in the three arms."""
    true, control = (shares(own.codes, of, classes) for of in (own.read, own.other))
    live, moved = np.flatnonzero(~np.isnan(true[:, 0])), own.rows.copy()
    moved[live] = own.rows[generator.permutation(live)]
    return Arms(centroids(own.rows, true), centroids(own.rows, control), centroids(moved, true))


class Between(NamedTuple):
    """How alike two models arrange the classes, in one replicate: excess of the centroids over shuffled classes."""

    true: float  # by the words that either model reads
    control: float  # the features of one by the words that the other reads, in the control arm; mean of both roles
    overlap: float  # with decoder rows shuffled among the features of each: what features of several classes give
    n: int  # classes


def between(a: Arms, b: Arms, measure: str) -> Between:
    """`measure` has a null mean in closed form. NaN with fewer than `replicates.FEWEST` classes."""
    pairs = (a.true, b.true), (a.true, b.control), (a.control, b.true), (a.overlap, b.overlap)
    true, one, other, overlap = (excess(*pair, measure) for pair in pairs)
    return Between(true, float(np.mean([one, other])), overlap, int(_in_both(a.true, b.true).sum()))


def measured(profile: Profile, pair: replicates.Names, level: Level, measure: str, seed: int) -> Between:
    """One replicate, as `between`; `seed`: of the shuffles of decoder rows."""
    generator, exchange = np.random.default_rng(seed), replicates.seed(profile, pair[0])
    a, b = (of_side(side(profile, name, exchange, level), len(names(level)), generator) for name in pair)
    return between(a, b, measure)


def excess(a: Floats, b: Floats, measure: str) -> float:
    """The excess over shuffled classes, of the classes that have a centroid on both sides."""
    common = _in_both(a, b)
    return replicates.excesses((a[common], b[common]), [measure])[measure]


def _in_both(a: Floats, b: Floats) -> NDArray[np.bool_]:
    return np.asarray(~np.isnan(np.hstack([a, b])).any(axis=1))
