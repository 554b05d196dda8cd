"""Clusters of a matching against networkx."""

import networkx
import numpy as np
import pytest

from sae_utils.engine.pairing.clusters import clusters
from sae_utils.matching import Pairs


def matching_of(seed, n_a=30, n_b=25, edges=18):
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, n_a, edges).astype(np.int32), rng.integers(0, n_b, edges).astype(np.int32)
    return Pairs(a, b, rng.random(edges, dtype=np.float32), np.zeros(n_a, np.int8), np.zeros(n_b, np.int8))


@pytest.mark.parametrize("seed", range(20))
def test_agree_with_networkx(seed):
    one, two = matching_of(seed), matching_of(seed + 100)
    found = clusters(one, two)
    graph = networkx.Graph()
    for pairs in (one, two):
        graph.add_edges_from((("a", i), ("b", j)) for i, j in zip(pairs.a.tolist(), pairs.b.tolist(), strict=True))
    expected = {frozenset(part) for part in networkx.connected_components(graph)}
    got = []
    for c in range(len(found.edges)):
        nodes = {("a", i) for i in np.flatnonzero(found.of_a == c).tolist()}
        nodes |= {("b", j) for j in np.flatnonzero(found.of_b == c).tolist()}
        assert (found.size_a[c], found.size_b[c]) == (sum(s == "a" for s, _ in nodes), sum(s == "b" for s, _ in nodes))
        assert found.edges[c] == graph.subgraph(nodes).number_of_edges()
        got.append(frozenset(nodes))
    assert set(got) == expected
    sizes = found.size_a + found.size_b
    assert (np.diff(sizes) <= 0).all()


def test_other_sides_are_refused():
    with pytest.raises(ValueError, match="widths"):
        clusters(matching_of(0), matching_of(1, n_a=31))
