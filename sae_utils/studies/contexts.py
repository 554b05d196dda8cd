"""Features in words: their top tokens and a context, as text for a table.

In: labels (`labels.label`) and the vocabulary of a dictionary's tokenizer. Out: text.
Never: a judgement of what a feature means.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sae_utils import labels, pipeline
from sae_utils.engine.text import tokenization
from sae_utils.labels import Labels
from sae_utils.profiles import Profile
from sae_utils.studies.words import pieces

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


def vocabulary(profile: Profile, dictionary: str) -> list[str]:
    """Label of every token that the model of a dictionary reads, as `shown`."""
    from transformers import AutoTokenizer

    path = pipeline.tokenizer_of(profile, dictionary).path
    return shown(AutoTokenizer.from_pretrained(path, trust_remote_code=False))


def shown(tokenizer: PreTrainedTokenizerFast) -> list[str]:
    """Label of every token, as `labels.shown`: special tokens by their names, the others by their text.

    The space before a word is part of its token, whatever the tokenizer writes for it. Where it is part of all tokens,
    as with whole words, it says nothing and is left out.
    """
    special, texts = tokenization.special(tokenizer), pieces(tokenizer)
    added = tokenizer.backend_tokenizer.get_added_tokens_decoder()
    spaced = all(text.startswith(b" ") for token, text in enumerate(texts) if text and token not in added)
    return [
        special.get(token) or labels.shown(text.removeprefix(b" ") if spaced else text)
        for token, text in enumerate(texts)
    ]


def top(found: Labels, words: Sequence[str]) -> NDArray[np.str_]:
    """Top tokens of every feature as text (features, k), "" where it fires on fewer: what `filters.Facts` takes."""
    return labels.spell(found.token, labels.unspaced(words))


def distinct(found: Labels, features: ArrayLike, words: Sequence[str], *, most: int = 4) -> list[str]:
    """For each of `features`, its first `most` different top tokens, strongest first: "red blue green"."""
    spelt = labels.spell(found.token, words)[np.asarray(features)]
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
