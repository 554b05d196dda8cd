"""Mapper graphs of features: a lens, a cover of its values, clusters within each part, and edges where they overlap.

In: rows of features or neurons, values of a lens. Out: graphs; how alike two of them are, through pairs of features.
Never: a p. A graph depends on choices (cover, overlap, clusters), and a distance of two graphs stands beside its null.

Source: G. Singh, F. Memoli and G. Carlsson, Topological methods for the analysis of high dimensional data sets (2007).
"""

import warnings
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.csgraph import connected_components, shortest_path
from scipy.spatial.distance import cdist, pdist, squareform

from sae_utils.studies.geometry import transport

Floats = NDArray[np.float64]
LENSES = ("PCA", "norm", "isomap, UMAP")
NEIGHBOURS = 10
REACH = 2.0  # clusters link points nearer than this many times the usual distance of a nearest neighbour
WEIGHT = 0.5  # of the graph's distances in a fused distance; the rest is whether nodes hold the same pairs


class Cover(NamedTuple):
    """How the values of a lens are cut into overlapping parts."""

    parts: int  # in each of its dimensions
    overlap: float  # share of a part that overlaps the next


class Graph(NamedTuple):
    """A Mapper graph."""

    members: tuple[frozenset[int], ...]  # of every node, the rows in it
    edges: NDArray[np.int64]  # (edges, 2) nodes that share a row

    @property
    def pieces(self) -> int:
        """Connected components."""
        return int(connected_components(self.adjacency, directed=False)[0])

    @property
    def cycles(self) -> int:
        """Independent cycles: edges - nodes + components."""
        return len(self.edges) - len(self.members) + self.pieces

    @property
    def adjacency(self) -> sparse.coo_array:
        """(nodes, nodes) 1 where an edge is."""
        n = len(self.members)
        return sparse.coo_array((np.ones(len(self.edges)), self.edges.T), (n, n))

    def steps(self) -> Floats:
        """(nodes, nodes) edges of the shortest path by the longest one; 1 between components."""
        found = shortest_path(self.adjacency, directed=False, unweighted=True)
        most = max(float(found[np.isfinite(found)].max(initial=0.0)), 1.0)
        return np.asarray(np.minimum(np.where(np.isfinite(found), found, most), most) / most)


def lens(rows: np.ndarray, name: str, size: np.ndarray, seed: int) -> Floats:
    """Values of a lens: (n, 2) of "PCA" and of "isomap, UMAP", (n, 1) of "norm".

    `size` (n,): how much a feature writes, whose logarithm is the lens "norm"; decoder rows themselves have norm 1.
    Raises ValueError for another name, or fewer rows than neighbours.
    """
    if name == "PCA":
        centre = rows - rows.mean(axis=0)
        u, s, _ = np.linalg.svd(centre, full_matrices=False)
        return np.asarray(u[:, :2] * s[:2], np.float64)
    if name == "norm":
        return np.asarray(np.log(np.maximum(size, 1e-12))[:, None])
    if name != LENSES[2]:
        raise ValueError(f"no lens is called {name!r}; known are {', '.join(LENSES)}")
    if len(rows) <= NEIGHBOURS:
        raise ValueError(f"{len(rows)} rows, but isomap and UMAP look at {NEIGHBOURS} neighbours: give more")
    return embedded(unfolded(rows), seed)


def unfolded(rows: np.ndarray) -> Floats:
    """(n, 5) isomap of the rows."""
    from sklearn.manifold import Isomap

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # components are joined, and say so
        found = Isomap(n_neighbors=NEIGHBOURS, n_components=min(5, rows.shape[1])).fit_transform(rows)
    return np.asarray(found, np.float64)


def embedded(rows: np.ndarray, seed: int) -> Floats:
    """(n, 2) UMAP of the rows, with a fixed seed and hence in one thread."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from umap import UMAP  # it compiles for half a minute

        found = UMAP(n_neighbors=NEIGHBOURS, min_dist=0.01, random_state=seed % 2**31, n_jobs=1).fit_transform(rows)
    return np.asarray(found, np.float64)


def graph(rows: np.ndarray, values: Floats, cover: Cover) -> Graph:
    """The Mapper graph of `rows` (n, d) under the lens `values` (n, 1 or 2); kepler-mapper makes it.

    Clusters are those of single linkage below `REACH` times the 90% quantile of the distances of nearest neighbours. A
    part with one row has no node.
    """
    import kmapper
    from sklearn.cluster import AgglomerativeClustering

    near = squareform(pdist(rows))
    np.fill_diagonal(near, np.inf)
    reach = max(REACH * float(np.quantile(near.min(axis=1), 0.9)), 1e-9)
    clusters = AgglomerativeClustering(n_clusters=None, distance_threshold=reach, linkage="single")
    parts = kmapper.Cover(n_cubes=cover.parts, perc_overlap=cover.overlap)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = kmapper.KeplerMapper(verbose=0).map(values, rows, clusterer=clusters, cover=parts)
    names = list(made["nodes"])
    edges = sorted({tuple(sorted((names.index(x), names.index(y)))) for x, ys in made["links"].items() for y in ys})
    members = tuple(frozenset(map(int, made["nodes"][name])) for name in names)
    return Graph(members, np.array(edges, np.int64).reshape(-1, 2))


def unlike(a: Graph, b: Graph, partner: NDArray[np.int64]) -> Floats:
    """(nodes_a, nodes_b) 1 - the share of pairs that two nodes have in common, of those that either has (Jaccard).

    `partner` (n,): the row of B that is paired with each row of A.
    """
    one, two = (_member_matrix(g.members, len(partner)) for g in (a, b))
    return np.asarray(cdist(one, two[:, partner], "jaccard"))


def _member_matrix(members: tuple[frozenset[int], ...], n: int) -> NDArray[np.bool_]:
    found = np.zeros((len(members), n), bool)
    for node, rows in enumerate(members):
        found[node, list(rows)] = True
    return found


class Compared(NamedTuple):
    """Two Mapper graphs of paired rows."""

    nodes: tuple[int, int]
    cycles: tuple[int, int]
    observed: float  # fused Gromov-Wasserstein distance
    null_mean: float  # with shuffled pairs
    null_sd: float


def distance(a: Graph, b: Graph, partner: NDArray[np.int64]) -> float:
    """The fused Gromov-Wasserstein distance of two graphs whose nodes hold paired rows; 0 of a graph and itself."""
    return transport.fused(a.steps(), b.steps(), unlike(a, b, partner), WEIGHT).distance


def compare(a: Graph, b: Graph, n: int, m: int, seed: int) -> Compared:
    """Two graphs of `n` paired rows, beside `m` shuffled pairings."""
    rng, partner = np.random.default_rng(seed), np.arange(n)
    drawn = [distance(a, b, rng.permutation(n)) for _ in range(m)]
    nodes, cycles = (len(a.members), len(b.members)), (a.cycles, b.cycles)
    return Compared(nodes, cycles, distance(a, b, partner), float(np.mean(drawn)), float(np.std(drawn)))
