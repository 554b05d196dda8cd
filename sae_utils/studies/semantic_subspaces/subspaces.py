"""Pairs about a concept.

In: pairs of features, masks of the features about a concept (`concepts.about`). Out: the pairs about it.
Never: a choice of which features are about a concept.
"""

from typing import Literal

from sae_utils.matching import Pairs
from sae_utils.studies.semantic_subspaces.concepts import Mask


def pairs_about(pairs: Pairs, about_a: Mask, about_b: Mask, *, sides: Literal["both", "either"]) -> Pairs:
    """The pairs whose features are about the concept on both sides, or on either."""
    of_a, of_b = about_a[pairs.a], about_b[pairs.b]
    return pairs.subset(of_a & of_b if sides == "both" else of_a | of_b)
