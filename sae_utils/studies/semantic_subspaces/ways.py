"""Two ways to find the pairs about a concept: pair all features first, or label features first.

In: correlations of the features of two models, and which features of either are about a concept. Out: how many pairs
either way finds, and how far they are the same. Pairing first matches all live features one-to-one, and keeps the pairs
of which both features are about the concept. Labelling first matches the features about the concept on one side with
those on the other.
Never: a threshold on a correlation; a score of similarity.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from sae_utils.studies.semantic_subspaces import concepts
from sae_utils.studies.semantic_subspaces.arms import Role, mean
from sae_utils.studies.semantic_subspaces.concepts import Floats, Ints, Mask, Mass


class Ways(NamedTuple):
    """The pairs about one concept, found in both ways; means over splits where they come from `found`."""

    pairing: float  # pairs that pairing first finds
    labelling: float  # pairs that labelling first finds
    by_both: float  # share of the features of A in a pair of either way that are in a pair of both; NaN without any
    same_partner: float  # share of the features of A in a pair of both that have the same partner in both


def partners(r: Floats, of_a: Ints, of_b: Ints) -> Ints:
    """(features_a,) partner of each feature `of_a` among those `of_b`, one-to-one by the largest total r; -1 for none.

    `r` (features_a, features_b) has no NaN among these features.
    """
    found = np.full(len(r), -1)
    row, column = linear_sum_assignment(r[np.ix_(of_a, of_b)], maximize=True)
    found[of_a[row]] = of_b[column]
    return found


def compare(r: Floats, paired: Ints, about_a: Mask, about_b: Mask) -> Ways:
    """Both ways for one concept. `paired`: partners when all live features are paired (`partners`)."""
    first = about_a & (paired >= 0) & about_b[paired]
    inside = partners(r, np.flatnonzero(about_a), np.flatnonzero(about_b))
    either, both = first | (inside >= 0), first & (inside >= 0)
    same = both & (inside == paired)
    share = both.sum() / either.sum() if either.any() else np.nan
    return Ways(int(first.sum()), int((inside >= 0).sum()), share, same.sum() / both.sum() if both.any() else np.nan)


def found(chosen: Sequence[Role], lists: Mapping[str, Sequence[str]], rule: Mass) -> dict[str, Ways]:
    """Both ways for every concept, means over splits. `chosen`: the roles of a replicate (`arms.roles`)."""
    of: dict[str, list[Ways]] = {concept: [] for concept in lists}
    for a, b in zip(chosen[::2], chosen[1::2], strict=True):  # both roles of one split
        r = a.chosen[0].r
        paired = partners(r, np.flatnonzero(a.live), np.flatnonzero(b.live))
        for concept, words in lists.items():
            masks = [concepts.about(x.found, concepts.word_mask(words, x.found), rule) & x.live for x in (a, b)]
            of[concept].append(compare(r, paired, *masks))
    return {concept: Ways(*map(mean, zip(*each, strict=True))) for concept, each in of.items()}
