"""Vectors of concepts in two models, and maps that carry them from one to the other.

In: the dictionaries of a replicate or of a given pair, targets. Out: unit vectors of a target; maps between the
activations of the two models, fitted where no word of some classes stands near.
Never: an intervention, a score.

**Vectors.** Of the concept's features, the mean of their decoder rows (`features`); or the mean activation at its words
less that at other words (`means`). A relation is the vector of one concept less that of another.
**Arms.** In the true arm both models read the same text, plain or under exchanged words. In the control arm B reads
exchanged words where A reads the text, and the reverse.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sae_utils import pipeline
from sae_utils.engine.lms import models
from sae_utils.engine.params import Profile
from sae_utils.studies.function import maps, places
from sae_utils.studies.function.places import MAP, SETS, VECTORS, Read
from sae_utils.studies.function.targets import Concept, Target, Words
from sae_utils.studies.semantic_subspaces import concepts

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
KINDS = ("features", "means")
MAPS = ("affine", "orthogonal")
SHUFFLED = "shuffled tokens"
TRUE, CONTROL = "true", "exchanged words"


class Labelling(NamedTuple):
    """Which features are about a concept."""

    share: float  # least share of a feature's activation on the concept's words
    minimum: int  # least firings


class Chosen(NamedTuple):
    """Shared places whose activations are read."""

    fitted: Ints  # for maps
    mean: Ints  # for vectors


class Side(NamedTuple):
    """One model: on the text and, where there is a control arm, under exchanged words."""

    readings: tuple[Read, ...]
    bridge: Any
    fitted: tuple[NDArray[np.float32], ...]  # of each reading, (places, d) activations that fit maps
    mean: NDArray[np.float32]  # (places, d) activations that give vectors, on the text
    decoder: NDArray[np.float32]  # (features, d)
    found: concepts.Evidence  # on which words the features fire, in the documents that give vectors


def choose(of: Read, rows: Mapping[str, int]) -> Chosen:
    """The places of as many token rows as `rows` says, for maps and for vectors."""
    own = (np.flatnonzero(np.isin(of.rows, places.spread(of, part, rows[part]))) for part in (MAP, VECTORS))
    return Chosen(*own)


def side(run: Profile, name: str, readings: Sequence[int | None], at: Chosen) -> Side:
    """One model of a pair on its readings (seeds of exchanged words; None for the text), at the chosen places."""
    read = tuple(places.read(run, name, reading) for reading in readings)
    bridge, own = models.load(read[0].source.model), pipeline.features(run, name)
    on = read[0].part == SETS.index(VECTORS)
    found = concepts.evidence(own.codes, read[0].words, read[0].documents, on)
    fitted = tuple(x.activations(bridge, at.fitted) for x in read)
    return Side(read, bridge, fitted, read[0].activations(bridge, at.mean), own.decoder, found)


# --- vectors


def about(own: Side, words: Words, how: Labelling) -> Ints:
    """The features about some words."""
    listed, rule = concepts.word_mask(words, own.found), concepts.Mass(kind="mass", share=how.share)
    return np.flatnonzero(concepts.about(own.found, listed, rule) & (own.found.firings >= how.minimum))


def of_features(own: Side, words: Words, how: Labelling) -> Floats:
    """(d,) the mean decoder row of the features about some words; NaN where there is none."""
    rows = own.decoder[about(own, words, how)]
    return rows.mean(axis=0, dtype=np.float64) if len(rows) else np.full(rows.shape[1], np.nan)


def of_means(own: Side, at: Ints, words: Words) -> Floats:
    """(d,) the mean activation at the places `at` where one of the words ends, less that where other words end."""
    read = own.readings[0]
    ends, word = read.ends(words)[at], read.words.of[at] >= 0
    if not ends.any() or not (word & ~ends).any():
        return np.full(own.mean.shape[1], np.nan)
    return np.asarray(own.mean[ends].mean(axis=0, dtype=float) - own.mean[word & ~ends].mean(axis=0, dtype=float))


def vector(own: Side, at: Ints, target: Target, kind: str, how: Labelling) -> Floats:
    """(d,) the unit vector of a target, of one of KINDS; NaN where a concept has no feature or no word.

    `at`: the places of `own.mean`.
    """

    def of(concept: Concept) -> Floats:
        return of_means(own, at, concept.words) if kind == "means" else of_features(own, concept.words, how)

    return unit(of(target.plus) - of(target.minus) if target.minus else of(target.plus))


def unit(x: Floats) -> Floats:
    """A vector (d,) at length 1."""
    return np.asarray(x / np.maximum(np.linalg.norm(x), 1e-12))


# --- maps


def arms(a: Side) -> tuple[str, ...]:
    """The arms that the readings allow."""
    return (TRUE, CONTROL) if len(a.readings) > 1 else (TRUE,)


def correspondences(readings: int, arm: str) -> list[tuple[int, int]]:
    """The readings of A and of B that belong together in an arm."""
    numbers = range(readings)
    return list(zip(numbers, numbers if arm == TRUE else reversed(numbers), strict=True))


def rows_of(a: Side, b: Side, at: Ints, arm: str, left_out: Words) -> tuple[Floats, Floats]:
    """(n, d_a) and (n, d_b) activations at the places `at` of an arm, all correspondences one after another.

    Places at which either model reads, or has next, a word that is left out are not among them.
    """
    x, y = [], []
    for i, j in correspondences(len(a.readings), arm):
        near = (a.readings[i].about(left_out) | b.readings[j].about(left_out))[at]
        x.append(a.fitted[i][~near])
        y.append(b.fitted[j][~near])
    return np.concatenate(x).astype(np.float64), np.concatenate(y).astype(np.float64)


def fit(
    a: Side, b: Side, at: Ints, left_out: Words, ridge: float, seed: int | Sequence[int]
) -> dict[tuple[str, str], maps.Map]:
    """The maps by arm and name, all of equally many contexts; and in the true arm the one of shuffled tokens.

    Raises ValueError as `maps.refuse_few`.
    """
    rng, rows = np.random.default_rng(seed), {arm: rows_of(a, b, at, arm, left_out) for arm in arms(a)}
    n, found = min(len(x) for x, _ in rows.values()), dict[tuple[str, str], maps.Map]()
    for arm, (x, y) in rows.items():
        drawn = rng.permutation(len(x))[:n]
        found[arm, MAPS[0]] = maps.affine(x[drawn], y[drawn], ridge)
        found[arm, MAPS[1]] = maps.orthogonal(x[drawn], y[drawn])
        if arm == TRUE:
            found[TRUE, SHUFFLED] = maps.affine(x[drawn], y[rng.permutation(drawn)], ridge)
    return found
