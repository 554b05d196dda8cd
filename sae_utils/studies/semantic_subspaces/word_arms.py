"""Relations and relatedness of words in one replicate; relations in both arms (`sae_utils.replicates`).

In: the dictionaries of a replicate, relations between words, lists of words. Out: of every relation its differences and
their excess in both arms, of every concept how related its words are, as means over both roles and both splits.
Never: the correlations of all features; only those of the few features that stand for words are computed.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sae_utils import pipeline, replicates
from sae_utils.engine.params import Profile
from sae_utils.engine.saes.correlations import in_split
from sae_utils.replicates import SPLITS, Names, Side
from sae_utils.studies.semantic_subspaces import concepts, relatedness, relations
from sae_utils.studies.semantic_subspaces.arms import BothArms, mean
from sae_utils.studies.semantic_subspaces.concepts import Evidence, Ints, Mask, Mass
from sae_utils.studies.semantic_subspaces.word2vec import Vectors


class Role(NamedTuple):
    """One side, whose features words choose, and the other, with their partners, on the documents of one split."""

    own: Side
    other: Side
    split: str
    found: Evidence  # of the side that chooses, on the true text
    live: Mask  # its features that fire often enough there

    @property
    def exchanged(self) -> bool:
        """Whether there is a second reading, under exchanged words."""
        return len(self.own.blocks[self.split]) > 1

    def rows(self, features: Ints) -> BothArms:
        """Decoder rows of the features and of their one-to-one partners, in the true and in the control arm."""
        mine = [block[:, features] for block in self.own.blocks[self.split]]
        others = self.other.blocks[self.split]
        true = replicates.correlate(mine, others)
        arms = true, replicates.correlate(mine, others[::-1]) if self.exchanged else true
        found = replicates.match("a", np.arange(len(features)), arms, arms)
        rows = self.own.decoder[features[found.features]]
        return (rows, self.other.decoder[found.true]), (rows, self.other.decoder[found.control])


def roles(run: Profile, names: Names, minimum: int) -> list[Role]:
    """Both roles on both splits; `minimum`: firings of a live feature."""
    read = [pipeline.features(run, name) for name in names]
    words = pipeline.words(run, names[0], read[0].sites)
    a, b = replicates.sides(run, names) if run.common.replicates else [replicates.side([x]) for x in read]
    made = []
    for split, _ in SPLITS:
        for x, own, other in zip(read, (a, b), (b, a), strict=True):
            found = concepts.evidence(x.codes, words, x.sites.array("documents"), in_split(x.sites, split))
            made.append(Role(own, other, split, found, found.firings >= minimum))
    return made


# --- relations


class Relation(NamedTuple):
    """One relation in one replicate, a mean over roles and splits; NaN where too few differences have features."""

    n: float  # differences whose words have features of their own
    parallel: float  # excess of the mean cosine of two differences in one model, over features shuffled among words
    true: float  # excess of the correlation of these cosines with those of the partners
    control: float  # the same where the partners are those under exchanged words

    @property
    def difference(self) -> float:
        """The excess of the true arm less that of the control."""
        return self.true - self.control


def relation(chosen: Sequence[Role], words: Sequence[Sequence[str]], share: float, *, m: int, seed: int) -> Relation:
    """One relation, given as pairs of words or of groups of words, in all roles of a replicate."""
    found = []
    for number, role in enumerate(chosen):
        own = relations.find(role.found, role.live, words, share=share)
        n = len(own.words)
        pairs = role.rows(np.concatenate([own.first, own.second]))
        if n < relations.FEWEST or len(pairs[0][0]) < 2 * n:
            found.append(Relation(n, np.nan, np.nan, np.nan))
            continue
        true, control = (relations.test(*pair, m=m, seed=[seed, number]) for pair in pairs)
        exchanged = control["across"].excess if role.exchanged else np.nan
        found.append(Relation(n, true["parallel"].excess, true["across"].excess, exchanged))
    return Relation(*(mean(values) for values in zip(*found, strict=True)))


# --- relatedness


class Words(NamedTuple):
    """How related the words of the features about one concept are, in one replicate; a mean over roles and splits."""

    words: float  # different words of these features that have a vector
    unknown: float  # share of the words that have none
    related: float  # mean cosine of two of the words
    random: float  # the same for as many random features

    @property
    def difference(self) -> float:
        """The mean cosine less that of random features."""
        return self.related - self.random


def related(
    chosen: Sequence[Role], listed: Sequence[str], rule: Mass, vectors: Vectors, *, m: int, seed: int
) -> Words:  # fmt: skip
    """The words of the features about the `listed` words, against as many random live features, drawn `m` times."""
    found = []
    for role in chosen:
        own = concepts.about(role.found, concepts.word_mask(listed, role.found), rule) & role.live
        spelt = relatedness.words_of(role.found.top, role.found.words)
        near = relatedness.related(np.flatnonzero(own), np.flatnonzero(role.live), spelt, vectors, m=m, seed=seed)
        if near:
            found.append(Words(near.words, near.unknown, near.pairwise.observed, near.pairwise.null_mean))
    return Words(*map(mean, zip(*found, strict=True))) if found else Words(*[np.nan] * 4)
