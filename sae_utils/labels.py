"""Labels of features: the tokens that activate each feature most, with their contexts.

In: sparse codes (tokens, features) or dense activations (tokens, neurons), and the token and document of every row.
Out: the top positions of every feature, their tokens, activations and contexts, and firing counts, from one pass over
the store. Equal activations are ranked by position, only activations above 0 count, and no context
extends into another document.

**How a token is shown** (`shown`), the same for all tokenizers: as the text that it stands for. A space is shown as
␣. Bytes of incomplete characters are shown by their values (\\xe2\\x80), characters that cannot be seen as Python
writes them (\\n, \\u200b), and a backslash as two. Tokens with different text have different labels.
"""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from sae_utils import arrays
from sae_utils.engine.core.progress import bar
from sae_utils.engine.kernels import keys, sides
from sae_utils.engine.kernels.sides import Codes


class Labels(NamedTuple):
    """Top tokens of every feature, strongest first; -1 (activation 0) where a feature fires on fewer."""

    position: NDArray[np.int64]  # (features, k) row of the store
    token: NDArray[np.int32]  # (features, k) token there
    activation: NDArray[np.float32]  # (features, k)
    context: NDArray[np.int32]  # (features, k, 2 * window + 1) tokens around it, -1 outside its document
    firings: NDArray[np.int64]  # (features,) tokens on which the feature fires


def label(codes: Codes, tokens: ArrayLike, document: ArrayLike, *, k: int = 10, window: int = 8) -> Labels:
    """Top ``k`` tokens of every feature of ``codes`` (tokens, features) with ``window`` tokens either side.

    ``tokens`` (tokens,) are token ids, -1 for none, ``document`` (tokens,) the nondecreasing document of every row.
    Raises ValueError as ``arrays.codes``, and where lengths differ, k is not positive, or an activation is not finite.
    """
    from sae_utils.engine.kernels import accumulate  # numba, which takes longer to load than all else

    codes = arrays.codes(codes, "codes")
    token, home = arrays.numbers(tokens, "tokens", 1), arrays.plain(document, "document")
    n, width = codes.shape
    if token.shape != (n,) or home.shape != (n,):
        raise ValueError(f"codes have {n} rows, tokens {token.shape}, document {home.shape}: one of each a row")
    if token.dtype.kind not in "iu" or ((token < -1) | (token > keys.LOW)).any():
        raise ValueError(f"tokens holds {token.dtype}: give token ids, integers from 0 to {keys.LOW}, or -1 for none")
    if arrays.count(k, "k") < 1 or arrays.count(window, "window") < 0:
        raise ValueError(f"k = {k}, window = {window}: k must be at least 1, window at least 0")
    if home.dtype.kind not in "biufSU" or not (home[1:] >= home[:-1]).all():
        raise ValueError("document falls, or is no number: give the nondecreasing number of every row's document")
    heaps, firings = keys.heaps(width, k), np.zeros(width, np.int64)
    for first in bar(range(0, n, sides.BLOCK), "labels"):
        block = _checked(codes[first : first + sides.BLOCK], first)
        if not sparse.issparse(block):
            block = sparse.csr_array(np.maximum(block, 0))
        accumulate.strongest(*sides.raw(block), first, heaps, firings)
    place, activation = keys.decode(heaps)
    position = place.astype(np.int64)
    none = position < 0
    around = position[..., None] + np.arange(-window, window + 1)
    inside = np.clip(around, 0, n - 1)
    elsewhere = none[..., None] | (around != inside) | (home[inside] != home[position][..., None])
    return Labels(
        position,
        np.where(none, -1, token[position]).astype(np.int32),
        np.where(none, np.float32(0), activation),
        np.where(elsewhere, -1, token[inside]).astype(np.int32),
        firings,
    )


def _checked(block: Any, first: int) -> Any:
    """A block whose first row is ``first`` as float32, in which activations are ranked."""
    with np.errstate(over="ignore"):  # what float32 cannot hold is infinite
        block = block.astype(np.float32, copy=False)
    if (bad := arrays.infinite(block)) is not None:
        raise ValueError(f"NaN or infinite activations, first in row {first + bad[0]}, column {bad[1]}: harvest again")
    return block


SPACE = "␣"
INVISIBLE = {"\n": r"\n", "\r": r"\r", "\t": r"\t", "\\": r"\\", " ": SPACE}


def shown(text: bytes) -> str:
    """A readable label of the UTF-8 text of a token; different texts have different labels."""
    return "".join(map(_shown, text.decode("utf-8", "surrogateescape")))


def _shown(c: str) -> str:
    code = ord(c)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is part of no character
        return rf"\x{code - 0xDC00:02x}"
    if c in INVISIBLE:
        return INVISIBLE[c]
    return c if c.isprintable() and c != SPACE else rf"\u{code:04x}" if code < 0x10000 else rf"\U{code:08x}"


def unspaced(vocabulary: Sequence[str]) -> list[str]:
    """Labels without surrounding spaces, so that filters see one word wherever it stands in a sentence."""
    return [label.strip(SPACE) or label for label in vocabulary]


def spell(token: ArrayLike, vocabulary: Sequence[str]) -> NDArray[np.str_]:
    """Token ids of any shape as text, "" for -1; tokens of two models can be compared only as text.

    Raises ValueError for ids that the vocabulary does not hold.
    """
    found = arrays.plain(token, "token")
    if found.dtype.kind not in "iu" or ((found < -1) | (found >= len(vocabulary))).any():
        raise ValueError(f"token must hold ids from -1 to {len(vocabulary) - 1}, the vocabulary's last")
    return np.array([*vocabulary, ""])[found]


def top_tokens(found: Labels, vocabulary: Sequence[str]) -> NDArray[np.str_]:
    """Top tokens of every feature as text (features, k), "" where it fires on fewer, for ``filters``."""
    return spell(found.token, unspaced(vocabulary))


def summary(found: Labels, features: ArrayLike, vocabulary: Sequence[str], *, most: int = 4) -> list[str]:
    """For each of ``features``, its first ``most`` different top tokens, strongest first: "red blue green"."""
    spelled = spell(found.token, vocabulary)[np.asarray(features)]
    return [" ".join(list(dict.fromkeys(word for word in row if word))[:most]) for row in spelled]


def quote(found: Labels, features: ArrayLike, vocabulary: Sequence[str], *, reach: int = 3) -> list[str]:
    """For each of ``features``, its strongest token in brackets with ``reach`` tokens either side; "" where it is dead.

    Raises ValueError where ``reach`` exceeds the window of the labels.
    """
    chosen = np.asarray(features)
    centre = found.context.shape[2] // 2
    if reach > centre:
        raise ValueError(f"reach = {reach}, but contexts hold {centre} tokens either side: label with a wider window")
    spelled = spell(found.context[chosen, 0, centre - reach : centre + reach + 1], vocabulary).astype(object)
    fires = found.token[chosen, 0] >= 0
    spelled[fires, reach] = [f"[{word}]" for word in spelled[fires, reach]]
    return [re.sub(" +", " ", " ".join(row)).strip() for row in spelled]
