"""Maps of the features of a dictionary in two dimensions, and the nearest neighbours of their decoder rows.

In: a dictionary, the correlation that says which of its features are live. Out: coordinates by UMAP from two seeds and
by principal components; neighbours by cosine. An artefact, since UMAP takes minutes.
Never: a distance on a map that stands for one between rows; a map is to look at.

UMAP: McInnes, Healy and Melville, arXiv:1802.03426; with 15 neighbours, cosine, min_dist .01. It is unstable: another
seed gives another map. Fewer features than its neighbours get principal components only.
"""

import importlib.metadata
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sae_utils.engine.saes import dictionaries
from sae_utils.store import Artefact, artefact

NEIGHBOURS, MIN_DIST, SEEDS = 15, 0.01, (0, 1)
EXACT = 4096  # rows up to which UMAP compares every row with every other by itself
PRINCIPAL = "principal components"


def arranged(dictionary: Artefact, correlated: Artefact, side: str) -> Artefact:
    """The maps and neighbours of the live features of a `side`, "a" or "b", of a correlation, in their order.

    Arrays: `near` (features, k) and `cosine`, nearest first; `map-<i>` (features, 2), named in `meta["maps"]`.
    """
    return arrange(dictionary, correlated, side, list(SEEDS), importlib.metadata.version("umap-learn"))


@artefact
def arrange(
    folder: Path, dictionary: Artefact, correlated: Artefact, side: str, seeds: list[int], library: str
) -> dict[str, Any]:
    """As `arranged`, by UMAP of the version `library`."""
    rows = dictionaries.decoder(dictionary)[correlated.array(f"{side}-live")].astype(np.float32)
    index, distance = nearest(rows, NEIGHBOURS - 1)
    maps = {f"UMAP, seed {seed}": embedded(rows, index, distance, seed) for seed in seeds if len(rows) > NEIGHBOURS}
    maps[PRINCIPAL] = principal(rows)
    np.save(folder / "near.npy", index)
    np.save(folder / "cosine.npy", 1 - distance)
    for number, made in enumerate(maps.values()):
        np.save(folder / f"map-{number}.npy", made)
    return {"maps": list(maps)}


def nearest(rows: np.ndarray, k: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The k nearest other rows by cosine, (n, k) indices and distances 1 - cosine; all others where they are fewer."""
    from sklearn.neighbors import NearestNeighbors

    k = min(k, len(rows) - 1)
    if k < 1:
        return np.zeros((len(rows), 0), np.int32), np.zeros((len(rows), 0), np.float32)
    search = NearestNeighbors(n_neighbors=k, metric="cosine", algorithm="brute").fit(rows)
    distance, index = search.kneighbors()  # of no query: a row is not its own neighbour
    return index.astype(np.int32), distance.astype(np.float32)


def embedded(rows: np.ndarray, index: np.ndarray, distance: np.ndarray, seed: int) -> NDArray[np.float32]:
    """Coordinates (n, 2) by UMAP; above `EXACT` rows it is given their neighbours, which it would only estimate."""
    from umap import UMAP

    known: tuple[Any, ...] = (None, None, None)
    if len(rows) > EXACT:
        itself = np.arange(len(rows), dtype=np.int32)[:, None]
        known = (np.hstack([itself, index]), np.hstack([np.zeros_like(distance[:, :1]), distance]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of one thread for one seed, and of components that hang together by nothing
        settings = {"metric": "cosine", "random_state": seed, "n_jobs": 1, "precomputed_knn": known}
        made = UMAP(n_neighbors=NEIGHBOURS, min_dist=MIN_DIST, **settings).fit_transform(rows)
    return np.nan_to_num(np.asarray(made, np.float32))


def principal(rows: np.ndarray) -> NDArray[np.float32]:
    """The first two principal components (n, 2) of rows of length 1; the largest coordinate of each is positive."""
    if not len(rows):
        return np.zeros((0, 2), np.float32)
    unit = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    centred = unit - unit.mean(0)
    _, axes = np.linalg.eigh(centred.T @ centred)  # the largest last
    found = centred @ axes[:, ::-1][:, :2]
    found = np.pad(found, ((0, 0), (0, 2 - found.shape[1])))
    largest = np.take_along_axis(found, np.abs(found).argmax(0)[None], 0)
    return np.asarray(found * np.where(largest < 0, -1, 1), np.float32)
