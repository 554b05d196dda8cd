"""Concepts in one replicate, in the true arm and in that of exchanged words (`sae_utils.replicates`).

In: the dictionaries of a replicate, lists of words. Out: of every concept its features and their excess in both arms,
as means over both roles of A and B and over both splits of the documents.
Never: a partner that words choose. Words choose features of one side, and correlation their partners on the other, so
that both arms hold the same features.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from sae_utils import pipeline, replicates
from sae_utils.engine.params import Profile
from sae_utils.engine.saes.correlations import in_split
from sae_utils.engine.text.words import Words
from sae_utils.replicates import SPLITS, Correlations, Matched, Names, Side
from sae_utils.studies.semantic_subspaces import concepts, placebos
from sae_utils.studies.semantic_subspaces.concepts import Evidence, Ints, Mask, Mass

BothArms = tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]  # rows of A and B, true and control


class Role(NamedTuple):
    """One side, whose features words choose, and the other, with their partners, on the documents of one split."""

    name: str  # "a" or "b"
    own: tuple[Side, Side]  # a and b
    found: Evidence  # of the side that chooses, on the true text
    live: Mask  # its features that fire often enough there
    judged_share: Mapping[str, np.ndarray]  # concept -> (features,) share on its true classes, on the other split
    chosen: tuple[Correlations, Correlations]  # of both arms; the true ones twice without exchanged words
    judged: tuple[Correlations, Correlations]  # on the other split

    @property
    def exchanged(self) -> bool:
        """Whether there is a second reading, under exchanged words."""
        return len(next(iter(self.own[0].blocks.values()))) > 1

    @property
    def strength(self) -> np.ndarray:
        """(features,) correlation with the best partner in the true arm; NaN of a dead feature."""
        r = self.chosen[0].r if self.name == "a" else self.chosen[0].r.T
        return np.nan_to_num(r, nan=-1).max(1)

    def truly(self, concept: str, truth: float) -> Mask | None:
        """(features,) the live ones with at least the share `truth` on its true classes; None where none is known."""
        return (self.judged_share[concept] >= truth) & self.live if concept in self.judged_share else None

    def match(self, features: Ints) -> Matched:
        """The features with their partners in the true and in the control arm."""
        return replicates.match(self.name, features, self.chosen, self.judged)

    def rows(self, features: Ints) -> BothArms:
        """Decoder rows of the features and of their partners, in the true and in the control arm."""
        return replicates.rows(self.own, self.match(features))


def roles(run: Profile, names: Names, minimum: int, classes: Mapping[str, Sequence[int]]) -> list[Role]:
    """Both roles on both splits; `minimum`: firings of a live feature. `classes`: true classes of every concept."""
    read = [pipeline.features(run, name) for name in names]
    words = pipeline.words(run, names[0], read[0].sites)
    a, b = replicates.sides(run, names) if run.common.replicates else [replicates.side([x]) for x in read]
    arms = {split: _both(a, b, split) for split, _ in SPLITS}
    return [
        _role(role, (a, b), side, words, minimum, classes, (choose, judge), (arms[choose], arms[judge]))
        for choose, judge in SPLITS
        for role, side in zip("ab", read, strict=True)
    ]


def _both(a: Side, b: Side, split: str) -> tuple[Correlations, Correlations]:
    of_a, of_b = a.blocks[split], b.blocks[split]
    true = replicates.correlate(of_a, of_b)
    return true, replicates.correlate(of_a, of_b[::-1]) if len(of_a) > 1 else true


def _role(
    name: str, own: tuple[Side, Side], side: pipeline.Features, words: Words, minimum: int,
    classes: Mapping[str, Sequence[int]], splits: tuple[str, str],
    arms: tuple[tuple[Correlations, Correlations], tuple[Correlations, Correlations]],
) -> Role:  # fmt: skip
    choose, judge = (in_split(side.sites, split) for split in splits)
    found = concepts.evidence(side.codes, words, side.sites.array("documents"), choose)
    of = side.sites.array("classes")
    truth = {concept: concepts.class_share(side.codes, of, true, judge) for concept, true in classes.items()}
    return Role(name, own, found, found.firings >= minimum, truth, *arms)


# --- concepts


class Concept(NamedTuple):
    """One concept in one replicate, a mean over roles and splits; NaN where nothing is known."""

    n: float  # features about it with a partner
    true: float  # excess over a shuffled pairing, in the true arm
    control: float  # in the arm of exchanged words; NaN where words are not exchanged
    placebo: float  # true - control of placebo lists
    precision: float  # of its features, against the true classes
    recall: float

    @property
    def difference(self) -> float:
        """The excess of the true arm less that of the control."""
        return self.true - self.control


def concept(
    chosen: Sequence[Role], listed: str, words: Sequence[str], rule: Mass, measure: str, truth: float, *, lists: int,
    seed: int,
) -> Concept:  # fmt: skip
    """One concept, by its name `listed` and its `words`, in all roles of a replicate.

    `truth`: share of the activation on its true classes that makes a feature truly about it. `lists`: placebo lists.
    A role with fewer than `replicates.FEWEST` features has no score.
    """
    found = []
    for number, role in enumerate(chosen):
        mask = concepts.word_mask(words, role.found)
        own = concepts.about(role.found, mask, rule) & role.live
        pairs = role.rows(np.flatnonzero(own))
        true, control = score(role, pairs, measure)
        m_lists = 0 if np.isnan(true) else lists
        drawn = placebos.draw(role.found, role.live, mask, rule, role.strength, m=m_lists, seed=[seed, number])
        others = [np.subtract(*score(role, role.rows(x), measure)) for x in drawn]
        judged = concepts.recovery(own, role.truly(listed, truth))
        found.append(Concept(len(pairs[0][0]), true, control, mean(others), judged.precision, judged.recall))
    return Concept(*(mean(values) for values in zip(*found, strict=True)))


def score(role: Role, pairs: Sequence[tuple[np.ndarray, np.ndarray]], measure: str) -> tuple[float, float]:
    """Excess in both arms; NaN in that of the control where words are not exchanged."""
    true, control = (replicates.excesses(pair, [measure])[measure] for pair in pairs)
    return true, control if role.exchanged else np.nan


def mean(values: Sequence[float] | np.ndarray) -> float:
    """The mean of the values that are not NaN; NaN without any."""
    known = np.asarray(values, float)
    return float(known[~np.isnan(known)].mean()) if (~np.isnan(known)).any() else np.nan
