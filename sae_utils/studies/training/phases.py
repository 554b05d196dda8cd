"""The phases of one replicate: how alike its states are to the last one and to the other model, and what they hold.

In: the readings of the states of two models, an SAE at its states. Out: numbers and small arrays that a process can
hand back.
Never: an interval over replicates.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from sae_utils import pipeline, replicates
from sae_utils.engine.params import Profile
from sae_utils.engine.text import lexicon, stories
from sae_utils.studies.training import appearing, states
from sae_utils.studies.training.appearing import Floats
from sae_utils.studies.training.states import Reading

TO_LAST, ACROSS, EXCHANGED = "A and its last state", "A and B", "A and B, words exchanged"
CONTENT, FUNCTION = "content words", "function words"
OWN, OTHER = "A itself", "B"


class Settings(NamedTuple):
    """What the notebook asks for."""

    documents: int  # stories on which states are read
    occurrences: int  # least of a word whose mean activation is compared
    minimum: int  # firings of a feature on one half of the documents
    measure: str  # the primary one
    states: int  # most of an SAE


# --- states of the models


def word_similarity(run: Profile, names: tuple[str, str], along: Mapping[str, Mapping[int, Reading]], settings: Settings
) -> pd.DataFrame:  # fmt: skip
    """A row a step, kind of words and comparison: `excess` of the measure over a shuffled pairing, `n` words.

    Compared are the mean activations of words: of A with its last state, of A and B at the same step, and, as a
    control, of A with those that B has at the words with which they are exchanged (content words only).
    """
    a, b = (along[name] for name in names)
    rows = []
    for kind, (words, partner) in chosen_words(run, names[0], a, settings.occurrences).items():
        of_a, of_b = ({step: _means(x, words) for step, x in side.items()} for side in (a, b))
        last = of_a[max(a)]
        for step in sorted(of_a.keys() & of_b.keys()):
            pairs = {TO_LAST: (of_a[step], last), ACROSS: (of_a[step], of_b[step])}
            if kind == CONTENT:
                pairs[EXCHANGED] = of_a[step], of_b[step][partner]
            values = {label: appearing.alike(pair, settings.measure) for label, pair in pairs.items()}
            rows += [
                {"step": step, "words": kind, "compared": label, "excess": value, "n": len(words)}
                for label, value in values.items()
            ]
    return pd.DataFrame(rows)


def chosen_words(run: Profile, name: str, along: Mapping[int, Reading], occurrences: int) -> dict[str, tuple[Any, Any]]:
    """Kind -> tokens of its words that occur often enough, and of each the place of its partner of equal frequency."""
    vocabulary, seed = pipeline.own_vocabulary(run, name), replicates.seed(run, name)
    tokens = next(iter(along.values())).sites.array("tokens")
    exchange = lexicon.exchange(seed)
    content, rest = stories.WORDS[: len(exchange)], stories.WORDS[len(exchange) :]
    found = {}
    for kind, words, partner in ((CONTENT, content, exchange), (FUNCTION, rest, np.arange(len(rest)))):
        ids = states.tokens_of(words, vocabulary)
        kept = appearing.common_words(tokens, ids, partner, occurrences)
        place = np.cumsum(kept) - 1
        found[kind] = ids[kept], place[partner[kept]]
    return found


def _means(x: Reading, words: Any) -> Floats:
    return appearing.word_means(x.x, x.sites.array("tokens"), words)


class Held(NamedTuple):
    """What the states of two models hold of the features of A's last state."""

    steps: list[int]
    kinds: np.ndarray  # (features,) of `appearing.KINDS`, "" for features that fire too seldom
    r: dict[str, Floats]  # OWN, OTHER -> (steps, features) held-out correlation of the readout

    def by_kind(self, of: str) -> dict[str, Floats]:
        """Kind -> (steps,) mean r over its features."""
        return {
            kind: np.nanmean(self.r[of][:, self.kinds == kind], axis=1)
            for kind in appearing.KINDS
            if (self.kinds == kind).any()
        }


def held(run: Profile, names: tuple[str, str], along: Mapping[str, Mapping[int, Reading]], settings: Settings) -> Held:
    """How much of the features of A's finished SAE can be read from every state of A, and of B."""
    a, b = (along[name] for name in names)
    last = a[max(a)]
    z = states.encode(pipeline.reader(run, names[0]).dictionary, last.x)
    halves = last.split("matching"), last.split("held_out")
    seen = [appearing.kinds(z[np.flatnonzero(half)], last.sites.array("classes")[half], settings.minimum)
            for half in halves]  # fmt: skip
    kinds = np.where((seen[0] != "") & (seen[1] != ""), appearing.kinds(z, last.sites.array("classes"), 1), "")
    steps = sorted(a.keys() & b.keys())
    r = {
        of: np.array([appearing.held(side[step].x, z, halves) for step in steps]) for of, side in ((OWN, a), (OTHER, b))
    }
    return Held(steps, kinds, r)


# --- states of an SAE


class State(NamedTuple):
    """An SAE at one state: its features against those of the finished SAE, and against those of B."""

    samples: int  # activations seen in training
    unexplained: float  # fraction of the variance
    dead: float  # share of features that never fire on these documents
    cosine: dict[str, float]  # kind -> mean cosine of the decoder rows with those of the finished SAE
    arrived: dict[str, float]  # kind -> share of features whose codes correlate enough with those of the finished SAE
    arms: replicates.Arms  # content features and their partners in B
    counterparts: float  # share of live features with a best partner in B of at least that r on the other documents


def dictionary_states(run: Profile, names: tuple[str, str], settings: Settings, counterpart: float) -> list[State]:
    """The states of an SAE of A (names[0], which keeps checkpoints), beside the finished SAE of B (names[1])."""
    a, b = names
    given = {name: _readings(run, name, settings.documents) for name in names}
    other = replicates.side([states.features(pipeline.reader(run, b).dictionary, x) for x in given[b]])
    along = states.dictionaries_along(run, a, settings.states)
    plain = given[a][0]
    on = np.flatnonzero(plain.split("held_out"))
    last = states.features(along[max(along)], plain)
    kinds = appearing.kinds(last.codes, plain.sites.array("classes"), settings.minimum)
    found = []
    for samples, made in along.items():
        codes = [states.features(made, x) for x in given[a]]
        mine = replicates.side(codes)
        own = replicates.match_all((mine, other), settings.minimum)
        r = by_index(codes[0].codes[on], last.codes[on])
        cosine = (_unit(codes[0].decoder) * _unit(last.decoder)).sum(axis=1)
        found.append(State(
            samples, states.unexplained(made, plain.x[on], codes[0].codes[on]),
            float((codes[0].codes.sum(0) == 0).mean()),
            {kind: float(cosine[kinds == kind].mean()) for kind in appearing.KINDS if (kinds == kind).any()},
            {kind: float((r[kinds == kind] >= counterpart).mean())
             for kind in appearing.KINDS if (kinds == kind).any()},
            replicates.scored((mine, other), own, [settings.measure]),
            appearing.counterparts(mine, other, counterpart),
        ))  # fmt: skip
    return found


def _readings(run: Profile, name: str, documents: int) -> list[Reading]:
    """What the finished model of a dictionary has on the text, and under exchanged words."""
    seeds = (None, replicates.seed(run, name))
    return [states.read(run, name, states.rows(run, name, documents, seed)) for seed in seeds]


def by_index(one: Any, two: Any) -> Floats:
    """Pearson's r of feature i with feature i (features,), 0 where either is constant."""
    n = one.shape[0]
    means = [np.asarray(x.sum(0)).ravel() / n for x in (one, two)]
    variances = [
        np.asarray(x.multiply(x).sum(0)).ravel() / n - mean**2 for x, mean in zip((one, two), means, strict=True)
    ]
    covariance = np.asarray(one.multiply(two).sum(0)).ravel() / n - means[0] * means[1]
    scale = np.sqrt(np.maximum(variances[0] * variances[1], 0))
    return np.divide(covariance, scale, out=np.zeros_like(covariance, dtype=np.float64), where=scale > 0)


def _unit(rows: np.ndarray) -> Floats:
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.maximum(norms, np.finfo(np.float32).tiny), np.float64)
