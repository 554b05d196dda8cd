"""Features in words: their top tokens and a context, as text for a table.

In: labels (`labels.label`) and the vocabulary of a dictionary's tokenizer. Out: text.
Never: a judgement of what a feature means.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sae_utils import pipeline
from sae_utils.pairing import labels
from sae_utils.pairing.labels import Labels
from sae_utils.params import Profile


def vocabulary(profile: Profile, dictionary: str) -> list[str]:
    """Text of every token that the model of a dictionary reads, without spaces around it; newlines show as \\n."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(pipeline.tokenizer_of(profile, dictionary).path, trust_remote_code=False)
    names = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    texts = [tokenizer.decode([token]).strip(" ").replace("\n", r"\n") for token in range(len(names))]
    return [text or name for text, name in zip(texts, names, strict=True)]  # a token of nothing but space by its name


def top(found: Labels, words: Sequence[str]) -> NDArray[np.str_]:
    """Top tokens of every feature as text (features, k), "" where it fires on fewer: what `filters.Facts` takes."""
    return labels.spell(found.token, words)


def distinct(found: Labels, features: ArrayLike, words: Sequence[str], *, most: int = 4) -> list[str]:
    """For each of `features`, its first `most` different top tokens, strongest first: "red blue green"."""
    spelt = top(found, words)[np.asarray(features)]
    return [" ".join(list(dict.fromkeys(word for word in row if word))[:most]) for row in spelt]


def quote(found: Labels, features: ArrayLike, words: Sequence[str], *, reach: int = 3) -> list[str]:
    """For each of `features`, its strongest token in brackets with `reach` tokens either side; "" where it is dead."""
    chosen = np.asarray(features)
    centre = found.context.shape[2] // 2
    if reach > centre:
        raise ValueError(f"reach = {reach}, but contexts hold {centre} tokens either side: label with a wider window")
    spelt = labels.spell(found.context[chosen, 0, centre - reach : centre + reach + 1], words)
    spelt = spelt.astype(object)
    fires = found.token[chosen, 0] >= 0
    spelt[fires, reach] = [f"[{word}]" for word in spelt[fires, reach]]
    return [re.sub(" +", " ", " ".join(row)).strip() for row in spelt]
