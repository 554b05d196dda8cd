"""The study of notebooks 01: who is paired with whom, against chance; how many have a counterpart; who is a hub.

`counterparts`, `chance` and `replicated` compute; `readings` has tables, `drawing` figures.
"""

from sae_utils.studies.feature_matching.chance import (
    Maxima,
    agreement,
    both_nulls,
    conjunction,
    document_halves,
    documents_permuted,
    maxima,
    permuted,
    unrelated,
)
from sae_utils.studies.feature_matching.counterparts import Curve, best, bins, curve, planted_share, reached, share
from sae_utils.studies.feature_matching.replicated import Numbers, of_replicate, similarity

__all__ = [
    "Curve", "Maxima", "Numbers", "agreement", "best", "bins", "both_nulls", "conjunction", "curve",
    "document_halves", "documents_permuted", "maxima", "of_replicate", "permuted", "planted_share", "reached",
    "share", "similarity", "unrelated",
]  # fmt: skip
