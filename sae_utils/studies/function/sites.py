"""What the text says next where a feature fires, and how much of two features' logits it explains.

In: codes, the next word of every site; decoder rows and unembeddings of paired features. Out: counts of next words by
feature; correlations, plain and partial, of logits and of the text.
Never: features x vocabulary at once.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from sae_utils.engine.geometry.registry import Floats
from sae_utils.store import Artefact
from sae_utils.studies.function.attribution import blocks

Ints = NDArray[np.int64]


def next_places(sites: Artefact, place: Ints) -> Ints:
    """(sites,) the place among the shared words of the word after each site, -1 where there is none.

    `place` (labels,): of every label of the sites' `tokens`, its shared word, or -1. At the last site of a row or
    document, and before a position that is left out, nothing follows.
    """
    tokens, rows, positions = (sites.array(name) for name in ("tokens", "rows", "positions"))
    found = np.full(len(tokens), -1, np.int64)
    follows = rows[1:] == rows[:-1]
    if "lexis" in sites.meta:  # positions are ends of words, and a row is one of A
        follows = sites.array("documents")[1:] == sites.array("documents")[:-1]
    else:
        follows &= positions[1:] == positions[:-1] + 1
    found[:-1][follows] = place[tokens[1:]][follows]
    return found


def counts(codes: Any, following: Ints, words: int) -> sparse.csr_array:
    """How often every word follows a firing of every feature: (features, words), of codes (sites, features)."""
    known = np.flatnonzero(following >= 0)
    fires = sparse.csr_array(codes[known])
    fires.data = np.ones(len(fires.data))
    which = sparse.csr_array((np.ones(len(known)), (np.arange(len(known)), following[known])), (len(known), words))
    return sparse.csr_array(fires.T @ which)


def lift(count: Floats, share: Floats) -> Floats:
    """log((n + 1) / (N p + 1)) by feature and word: how much more often than elsewhere a word follows the feature.

    `count` (features, words): n; N is its sum over words. `share` (words,): p, of all next words. Adding 1 keeps words
    that are expected less than once near 0.
    """
    expected = count.sum(axis=1, keepdims=True) * share
    return np.asarray(np.log((count + 1) / (expected + 1)))


class Explained(NamedTuple):
    """Correlations over words for each pair, (n,)."""

    logits: Floats  # of A's and B's logits
    own_text: Floats  # of A's logits with the text at A's sites
    text: Floats  # of A's logits with the text at B's sites: what B tells without its logits
    partial: Floats  # of both logits, given the text at both


class Told(NamedTuple):
    """One side of pairs: what its features promote, and what the text says at their sites."""

    decoder: np.ndarray  # (n, d)
    u: np.ndarray  # (words, d)
    counts: sparse.csr_array  # (n, words)
    share: Floats  # (words,) of all next words


def explained(a: Told, b: Told) -> Explained:
    """The logits of paired features, their text, and what the text leaves of their likeness.

    The partial correlation is that of what least squares on both texts leaves of either logits.
    """
    found = [np.empty(len(a.decoder)) for _ in Explained._fields]
    for rows in blocks(len(a.decoder), 8 * len(a.u)):
        logits = [_standard(side.decoder[rows] @ side.u.T) for side in (a, b)]
        texts = [_standard(lift(side.counts[rows].toarray(), side.share)) for side in (a, b)]
        each = np.stack([*logits, *texts], axis=1)  # (n, 4, words)
        r = each @ each.transpose(0, 2, 1)
        for field, values in zip(found, (r[:, 0, 1], r[:, 0, 2], r[:, 0, 3], partial(r)), strict=True):
            field[rows] = values
    return Explained(*found)


def partial(r: Floats) -> Floats:
    """(n,) the correlation of the first two of some variables given the others, from correlations (n, q, q)."""
    given = np.linalg.pinv(r[:, 2:, 2:], rcond=1e-8, hermitian=True)
    left = r[:, :2, :2] - r[:, :2, 2:] @ given @ r[:, 2:, :2]
    size = np.sqrt(np.maximum(left[:, 0, 0] * left[:, 1, 1], 0))
    return np.asarray(np.divide(left[:, 0, 1], size, out=np.full(len(r), np.nan), where=size > 1e-9))


def _standard(rows: np.ndarray) -> Floats:
    """Rows less their mean, of norm 1; 0 for a constant row."""
    found = rows.astype(np.float64) - rows.mean(axis=1, keepdims=True)
    norm = np.linalg.norm(found, axis=1, keepdims=True)
    return np.asarray(np.divide(found, norm, out=np.zeros_like(found), where=norm > 0))


def totals(following: Sequence[Ints], words: int) -> Floats:
    """(words,) the share of each among all next words of some readings."""
    count = sum(np.bincount(x[x >= 0], minlength=words) for x in following)
    return np.asarray(count / np.maximum(np.sum(count), 1))
