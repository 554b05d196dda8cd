"""Attribution: which next tokens a feature promotes by its direction alone, and how alike two features are in that.

In: decoder rows (features, d), effective unembeddings (words, d) of `heads`. Out: coordinates of the features in which
cosines are correlations of logits; the words that each promotes most.
Never: features x vocabulary at once; an activation.

The logits of a feature over V words are u = U w, with a decoder row w (d,) and an effective unembedding U (V, d) whose
columns have mean 0. All inner products of such vectors, in one model and across two, follow from the products of the
columns of both U: (d_a + d_b) numbers a feature hold them all, whatever V is.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import squareform

from sae_utils import arrays, measures
from sae_utils.engine.geometry.registry import Floats

BLOCK = 1 << 24  # logits in memory at once
FLAT = 1e-12  # of the largest eigenvalue: a direction that no word tells from others


class Space(NamedTuple):
    """Maps of the decoder rows of two models into one space, in which inner products are those of their logits."""

    a: Floats  # (d_a, k)
    b: Floats  # (d_b, k)


def space(u_a: NDArray[np.float32], u_b: NDArray[np.float32]) -> Space:
    """The space of two effective unembeddings (words, d_a), (words, d_b), row t of both the same word.

    Its k <= d_a + d_b coordinates come from the eigenvectors of the products of all columns, summed in blocks of words.
    Raises ValueError for other numbers of words.
    """
    if len(u_a) != len(u_b):
        raise ValueError(f"unembeddings of {len(u_a)} and {len(u_b)} words: give both the same words, in one order")
    d_a = u_a.shape[1]
    gram = np.zeros((d_a + u_b.shape[1],) * 2)
    for rows in blocks(len(u_a), len(gram)):
        both = np.hstack([u_a[rows], u_b[rows]]).astype(np.float64)
        gram += both.T @ both
    values, vectors = np.linalg.eigh(gram)
    kept = values > FLAT * values[-1]
    factor = vectors[:, kept] * np.sqrt(values[kept])
    return Space(factor[:d_a], factor[d_a:])


def blocks(n: int, width: int) -> Iterator[slice]:
    """Slices of `n` rows of so many numbers each, of at most `BLOCK` numbers."""
    step = max(BLOCK // max(width, 1), 1)
    return (slice(first, first + step) for first in range(0, n, step))


def unit(decoder: NDArray[np.float32], into: Floats) -> NDArray[np.float32]:
    """Features in the space, of norm 1: (features, k); 0 for a feature that tells no words apart.

    The product of two rows, of one model or of both, is the Pearson correlation of the two features' logits.
    Raises ValueError for decoder rows of another d than that of the model.
    """
    found = coordinates(decoder, into)
    norm = np.linalg.norm(found, axis=1, keepdims=True)
    return np.asarray(np.divide(found, norm, out=np.zeros_like(found), where=norm > 0), np.float32)


def coordinates(decoder: NDArray[np.float32], into: Floats) -> Floats:
    """Features in the space (features, k), whose norm is that of their logits, less the mean."""
    if decoder.shape[1] != len(into):
        raise ValueError(f"decoder rows of {decoder.shape[1]} numbers, and a residual stream of {len(into)}: name a "
                         "dictionary that writes to the residual stream")  # fmt: skip
    return np.asarray(decoder.astype(np.float64) @ into)


def promoted(decoder: NDArray[np.float32], u: NDArray[np.float32], top: int) -> NDArray[np.int64]:
    """The `top` words with the largest logits of every feature, the largest first: (features, top).

    Raises ValueError for more words than there are.
    """
    if not 0 < top <= len(u):
        raise ValueError(f"top = {top} of {len(u)} words")
    found = np.empty((len(decoder), top), np.int64)
    for rows in blocks(len(decoder), len(u)):
        logits = decoder[rows] @ u.T
        best = np.argpartition(-logits, top - 1, axis=1)[:, :top]
        order = np.argsort(-np.take_along_axis(logits, best, axis=1), axis=1, kind="stable")
        found[rows] = np.take_along_axis(best, order, axis=1)
    return found


def overlap(one: NDArray[np.int64], two: NDArray[np.int64]) -> Floats:
    """Share of the top words that two features have in common: (n,), of `promoted` words (n, top) of both."""
    return np.asarray((one[:, :, None] == two[:, None, :]).any(axis=2).mean(axis=1))


# --- weights by attribution


def strength(decoder: NDArray[np.float32], into: Floats, mean_code: Floats) -> Floats:
    """How far a feature moves the logits where it fires: (features,), its `mean_code` times the norm of its logits."""
    return np.asarray(np.linalg.norm(coordinates(decoder, into), axis=1) * mean_code)


def weighted_rsa(a: np.ndarray, b: np.ndarray, weights: Floats) -> float:
    """Spearman RSA of paired rows (n, d_a), (n, d_b) in which pair i has the weight `weights[i]` (n,).

    The ranks of the dissimilarities 1 - r of pairs i, k are correlated with weights w_i w_k; equal weights give
    `rsa_spearman`. The mean over shuffled partners is near 0. Raises ValueError for weights that are not positive.
    """
    from scipy.stats import rankdata  # imported here: it takes half a second

    weights = arrays.numbers(weights, "weights", 1).astype(np.float64)
    if len(weights) != len(a) or not (weights > 0).all():
        raise ValueError(f"{len(weights)} weights of {len(a)} pairs: give a positive one each")
    weight = squareform(np.outer(weights, weights), checks=False)
    ranks = np.array([rankdata(squareform(measures.dissimilarities(x, "pearson"), checks=False)) for x in (a, b)])
    ranks -= np.average(ranks, axis=1, weights=weight)[:, None]
    covariance = (ranks * weight) @ ranks.T
    return float(covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1]))
