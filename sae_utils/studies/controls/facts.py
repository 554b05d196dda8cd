"""Facts about features that a trivial account rests on: their tokens, how often they fire, what they fire with.

In: codes, tokens, vectors of tokens. Out: centroids (features, d) of the top tokens, and dissimilarities (n, n).
Never: pairs of features; a model.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import svds

from sae_utils.engine.geometry.registry import Floats


def token_mass(codes: sparse.csr_array, tokens: np.ndarray, vocabulary: int) -> sparse.csr_array:
    """Total activation of every feature on every token: (features, vocabulary), of `codes` and `tokens` of one length.

    Raises ValueError for other lengths.
    """
    if codes.shape[0] != len(tokens):
        raise ValueError(f"codes have {codes.shape[0]} rows, and there are {len(tokens)} tokens: one a row")
    which = sparse.csr_array((np.ones(len(tokens)), (np.arange(len(tokens)), tokens)), (len(tokens), vocabulary))
    return sparse.csr_array(codes.T.astype(np.float64) @ which)


def top_tokens(mass: sparse.csr_array, top: int) -> sparse.csr_array:
    """`mass` (features, vocabulary) with the `top` tokens of every feature only; of equal ones the lower token."""
    kept = []
    for row in range(mass.shape[0]):
        span = slice(mass.indptr[row], mass.indptr[row + 1])
        order = np.lexsort((mass.indices[span], -mass.data[span]))[:top]
        kept.append(np.sort(order) + span.start)
    places = np.concatenate(kept).astype(np.int64)
    starts = np.cumsum([0, *map(len, kept)])
    return sparse.csr_array((mass.data[places], mass.indices[places], starts), mass.shape)


def centroids(mass: sparse.csr_array, vectors: np.ndarray) -> Floats:
    """The mean vector of a feature's tokens, weighted by its activation on them: (features, d); 0 where there is none.

    `mass` (features, vocabulary), `vectors` (vocabulary, d).
    """
    total = np.asarray(mass.sum(axis=1)).ravel()
    return np.asarray(mass @ vectors.astype(np.float64)) / np.maximum(total, 1e-12)[:, None]


def without_shared(mass_a: sparse.csr_array, mass_b: sparse.csr_array) -> NDArray[np.bool_]:
    """Which pairs share no token: (pairs,), of two matrices (pairs, vocabulary) that hold the top tokens of each."""
    return np.asarray((mass_a > 0).multiply(mass_b > 0).sum(axis=1)).ravel() == 0


def in_frequency(firings: np.ndarray) -> Floats:
    """Difference of the log firing counts of features: (n, n)."""
    logs = np.log(np.maximum(firings, 1.0))
    return np.asarray(np.abs(logs[:, None] - logs))


def in_cofiring(codes: Any, features: np.ndarray) -> Floats:
    """1 - correlation of firing, over the tokens of `codes`, of some of its features: (n, n).

    A feature that never fires is uncorrelated with all others.
    """
    fires = sparse.csc_array(codes)[:, features] > 0
    together = np.asarray((fires.T.astype(np.float64) @ fires.astype(np.float64)).todense()) / codes.shape[0]
    rate = np.diag(together).copy()
    sd = np.sqrt(np.maximum(rate * (1 - rate), 1e-300))
    found: Floats = 1 - (together - rate[:, None] * rate) / (sd[:, None] * sd)
    np.fill_diagonal(found, 0.0)
    return found


# --- word vectors that no model has a part in


def together(tokens: np.ndarray, rows: np.ndarray, window: int, vocabulary: int) -> sparse.csr_array:
    """How often two tokens stand within `window` places of each other in one row: (vocabulary, vocabulary), symmetric.

    `tokens`, `rows` (tokens,): token ids in reading order and the row of each.
    """
    counts = sparse.csr_array((vocabulary, vocabulary))
    for step in range(1, window + 1):
        near = rows[step:] == rows[:-step]
        left, right = tokens[:-step][near], tokens[step:][near]
        counts = counts + sparse.csr_array((np.ones(len(left)), (left, right)), (vocabulary, vocabulary))
    return sparse.csr_array(counts + counts.T)


def ppmi(counts: sparse.csr_array) -> sparse.csr_array:
    """Positive pointwise mutual information of symmetric counts; Levy, Goldberg & Dagan 2015, doi:10.1162/tacl_a_00134.

    log of count x total / (count of row x count of column), 0 where that is negative.
    """
    found = sparse.coo_array(counts)
    of_token = np.asarray(counts.sum(axis=0)).ravel()
    values = np.log(found.data * of_token.sum() / (of_token[found.row] * of_token[found.col]))
    found.data = np.maximum(values, 0.0)
    made = sparse.csr_array(found)
    made.eliminate_zeros()
    return made


def word_vectors(matrix: sparse.csr_array, size: int) -> Floats:
    """Vectors (vocabulary, size) of a symmetric matrix: left singular vectors times the roots of the singular values.

    `size` is cut to one less than the vocabulary, as ARPACK finds no more.
    """
    count = len(matrix.indptr) - 1
    size = min(size, count - 1)
    start = np.random.default_rng(0).standard_normal(count)
    left, values, _ = svds(matrix.astype(np.float64), size, v0=start, return_singular_vectors="u")
    order = np.argsort(-values)
    return np.asarray(left[:, order] * np.sqrt(values[order]))


# --- all facts of one dictionary


class Facts(NamedTuple):
    """What is known of the features of one dictionary besides their decoder rows."""

    codes: sparse.csc_array  # (tokens, features), whose firing together is compared
    firings: NDArray[np.int64]  # (features,)
    tokens: sparse.csr_array  # (features, vocabulary) mass on the top tokens of each
    centroids: dict[str, Floats]  # name -> (features, d) mean vector of the top tokens


def of(codes: sparse.csr_array, tokens: np.ndarray, vectors: Mapping[str, np.ndarray], top: int) -> Facts:
    """The facts of all features of `codes` (tokens, features), with the centroids of their `top` tokens.

    `tokens` (tokens,); `vectors`: name -> (vocabulary, d), all of one vocabulary.
    """
    vocabulary = len(next(iter(vectors.values())))
    mass = top_tokens(token_mass(codes, tokens, vocabulary), top)
    columns = sparse.csc_array(codes)
    middles = {name: centroids(mass, rows) for name, rows in vectors.items()}
    return Facts(columns, np.diff(columns.indptr), mass, middles)


def dissimilarities(facts: Facts, features: np.ndarray) -> dict[str, Floats]:
    """By fact how much some features differ in it, each (n, n)."""
    of_tokens = {name: in_direction(rows[features]) for name, rows in facts.centroids.items()}
    return of_tokens | {
        "firing frequency": in_frequency(facts.firings[features]),
        "co-firing": in_cofiring(facts.codes, features),
    }


def in_direction(rows: np.ndarray) -> Floats:
    """1 - cosine of rows (n, d); a row of zeros differs by 1 from all others."""
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    unit = np.divide(rows, length, out=np.zeros(rows.shape), where=length > 0)
    found: Floats = 1 - unit @ unit.T
    np.fill_diagonal(found, 0.0)
    return found
