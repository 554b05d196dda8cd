"""Subspaces of single keywords: which are held against which, and the features that are about one of them alone.

In: the keywords of a profile, masks of the features about each. Out: pairs of keywords, masks. Never: one feature
counted under two keywords.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sae_utils.spec import ProfileError, nearest
from sae_utils.studies.concepts import Mask


def asked(value: Mapping[str, Any], where: str) -> list[tuple[str, str]]:
    """Every keyword of `single` against itself, then the `mismatched` pairs: the keyword in A, that in B.

    Raises:
        ProfileError: a key that is not one of the two, a pair that is not of two keywords, or of one that is not in
            `single`; it begins with `where`, the file and key.
    """
    if set(value) != {"single", "mismatched"}:
        raise ProfileError(f"{where}: expected the keys single and mismatched, found {sorted(value)}")
    single, mismatched = value["single"], value["mismatched"]
    for pair in mismatched:
        if not isinstance(pair, Sequence) or isinstance(pair, str) or len(pair) != 2:
            raise ProfileError(f"{where}.mismatched: {pair!r} is no pair; write [keyword in A, keyword in B]")
        for word in pair:
            if word not in single:
                raise ProfileError(
                    f"{where}.mismatched: {word!r} is not in single: list it there, or name one that is; "
                    f"{nearest(str(word), single)}"
                )
    return [*((word, word) for word in single), *((x, y) for x, y in mismatched)]


def alone(about: Mapping[str, Mask], word: str) -> Mask:
    """(features,) about `word` and about no other of the keywords."""
    others = [mask for other, mask in about.items() if other != word]
    return np.asarray(about[word] & ~np.any(others, axis=0)) if others else about[word]
