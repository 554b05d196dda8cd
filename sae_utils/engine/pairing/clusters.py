"""A matching as a graph: which features of both sides hang together.

In: pairs, of any matching or of several. Out: the connected components of the graph whose nodes are the features of
both sides and whose edges are the pairs. It ranks nothing and drops nothing.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from sae_utils import matching
from sae_utils.matching import Pairs


class Clusters(NamedTuple):
    """Connected components of a matching, the largest first."""

    of_a: NDArray[np.int64]  # (features_a,) cluster of every feature of side a, -1 for those in no pair
    of_b: NDArray[np.int64]  # (features_b,) the same for side b
    size_a: NDArray[np.int64]  # (clusters,) features of side a in each
    size_b: NDArray[np.int64]  # (clusters,) features of side b in each
    edges: NDArray[np.int64]  # (clusters,) pairs in each, a pair found twice counted once


def clusters(*matchings: Pairs) -> Clusters:
    """Clusters of the union of matchings, as of both many-to-one directions; one-to-one pairs are clusters of 1 and 1.

    Raises ValueError for matchings of sides of different widths, and as ``matching.check``.
    """
    n_a, n_b = matching.widths(*matchings)
    a = np.concatenate([pairs.a for pairs in matchings]).astype(np.int64)
    b = np.concatenate([pairs.b for pairs in matchings]).astype(np.int64)
    a, b = np.divmod(np.unique(a * n_b + b), n_b)
    graph = sparse.coo_array((np.ones(len(a)), (a, n_a + b)), shape=(n_a + n_b, n_a + n_b))
    _, component = connected_components(graph, directed=False)
    # number the components that hold a pair: most features first, then the lowest feature
    members = np.bincount(component)
    held, first = np.unique(component[a], return_index=True)
    order = held[np.lexsort((first, -members[held]))]
    number = np.full(len(members), -1)
    number[order] = np.arange(len(order))
    of_a, of_b = number[component[:n_a]], number[component[n_a:]]
    count = [np.bincount(part[part >= 0], minlength=len(order)) for part in (of_a, of_b, number[component[a]])]
    return Clusters(of_a, of_b, *count)
