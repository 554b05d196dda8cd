"""What may stand in the place of an SAE: a layer's own units, and directions of its activations that nobody learnt.

In: a dictionary of a profile, which says the model, the layer and the tokens; a kind of unit. Out: `Features` that
`pipeline.pair` takes as it takes an SAE's, and pairs of them.
Never: a unit of another layer than the dictionary reads; a principal component fitted on the documents that judge.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sae_utils import activations, candidates, matching, models, pipeline
from sae_utils.correlation import Candidates, Correlation
from sae_utils.matching import Pairs
from sae_utils.params import Profile
from sae_utils.pipeline import Features, Pair
from sae_utils.sides import BLOCK
from sae_utils.store import Appender, Artefact, artefact


class Kind(NamedTuple):
    """One kind of unit."""

    activations: str
    """what is correlated; hooks by their TransformerLens name within the block"""
    rows: str
    """what stands for decoder rows, or "" where they are orthonormal and their arrangement says nothing"""
    either_sign: bool
    """pair by |r|: for directions that could as well point the other way"""


SAE, NEURONS, OUTPUTS = "SAE features", "MLP neurons", "MLP output dimensions"
EITHER, RESIDUAL, RANDOM, PRINCIPAL = (
    "MLP output dimensions, |r|",
    "residual basis",
    "random directions",
    "principal components",
)
KINDS = {
    SAE: Kind("codes", "decoder rows", False),
    NEURONS: Kind("mlp.hook_post", "output weights", False),  # positive when they fire, nearly zero when not
    OUTPUTS: Kind("hook_mlp_out", "incoming weights", False),  # both signs; r and rows as published
    EITHER: Kind("hook_mlp_out", "", True),
    RESIDUAL: Kind("hook_resid_post", "", True),
    RANDOM: Kind("what the SAE reads", "", True),
    PRINCIPAL: Kind("what the SAE reads", "", True),
}
SEED = 0  # of random directions


@artefact
def output_weights(folder: Path, model: Artefact, block: int) -> None:
    """Output weights of the MLP of a block: `rows`, float32 (d_mlp, d); row i is what neuron i writes."""
    weights = models.load(model).blocks[block].mlp.W_out
    np.save(folder / "rows.npy", weights.detach().float().cpu().numpy())


@artefact
def turned(
    folder: Path, values: Artefact, sites: Artefact, into: Literal["random", "principal"], seed: int
) -> dict[str, Any]:
    """Activations (tokens, d) seen from another orthonormal basis: `values`, float16 (tokens, d).

    `directions`, float32 (d, d), has the basis in its rows: the Q of a Gaussian matrix, or the principal components of
    the matching documents, the largest variance first. The sign of a row means nothing.
    """
    x = values.array("values")
    if into == "random":
        directions = np.linalg.qr(np.random.default_rng(seed).normal(size=(x.shape[1], x.shape[1])))[0].T
    else:
        directions = _principal(x, candidates.on(sites, "matching"))
    np.save(folder / "directions.npy", directions.astype(np.float32))
    with Appender(folder / "values.npy", np.float16, (len(directions),)) as out:
        for first in range(0, len(x), BLOCK):
            out.append(x[first : first + BLOCK].astype(np.float64) @ directions.T)
    return {"sites": sites.key}


def _principal(x: np.ndarray, chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Principal components of the chosen rows in rows, from sums over blocks: (d, d)."""
    total, square = np.zeros(x.shape[1]), np.zeros((x.shape[1], x.shape[1]))
    for first in range(0, len(x), BLOCK):
        block = x[first : first + BLOCK][chosen[first : first + BLOCK]].astype(np.float64)
        total += block.sum(axis=0)
        square += block.T @ block
    covariance = square / chosen.sum() - np.outer(total, total) / chosen.sum() ** 2
    found: NDArray[np.float64] = np.linalg.eigh(covariance)[1][:, ::-1].T
    return found


def block_of(hook: str) -> int:
    """Number of the block that a hook is in. Raises ValueError for a hook outside all blocks."""
    found = re.match(r"blocks\.(\d+)\.", hook)
    if not found:
        raise ValueError(f"hook {hook!r} is in no block: neurons are those of the block that the dictionary reads")
    return int(found[1])


def features(profile: Profile, name: str, kind: str) -> Features:
    """The units of one kind in the layer that a dictionary reads, at the sites of its codes.

    Codes are CSR of an SAE and else dense float16; rows (units, d) as `KINDS` says: of neurons their output weights, of
    output dimensions their incoming weights (d, d_mlp), of bases the orthonormal directions themselves.

    Raises:
        ValueError: an unknown kind, or a dictionary whose hook is in no block.
    """
    if kind not in KINDS:
        raise ValueError(f"kind {kind!r}: known are {', '.join(KINDS)}")
    if kind == SAE:
        return pipeline.features(profile, name)
    source = pipeline.reader(profile, name)
    sites, block = activations.sites(source.rows, source.skip), block_of(source.hook)
    basis = kind in (RANDOM, PRINCIPAL)
    hook = source.hook if basis else f"blocks.{block}.{KINDS[kind].activations}"
    kept = activations.neurons(source.model, source.rows, sites, hook, source.skip)
    if basis:
        kept = turned(kept, sites, "random" if kind == RANDOM else "principal", SEED)
        return Features(activations.matrix(kept), kept.array("directions"), sites, kept)
    values = activations.matrix(kept)
    if kind in (NEURONS, OUTPUTS):
        rows = output_weights(source.model, block).array("rows")
        return Features(values, rows if kind == NEURONS else rows.T, sites, kept)
    return Features(values, np.eye(values.shape[1], dtype=np.float32), sites, kept)


def either_sign(found: Correlation) -> Correlation:
    """The same two sides by |r|, for `matching`: a direction and its opposite are one.

    It holds all correlations of the two sides at once, which a basis, d wide, allows. Cosine and Jaccard index of the
    candidates, which would need a sign, are NaN.
    """
    r, k = np.abs(found.price()), found.a_to_b.index.shape[1]

    def best(r: NDArray[np.float32]) -> Candidates:
        order = np.argsort(-r, axis=1, kind="stable")[:, :k]  # NaN last
        values = np.take_along_axis(r, order, axis=1)
        unknown = np.full_like(values, np.nan)
        return Candidates(np.where(np.isnan(values), -1, order).astype(np.int32), values, unknown, unknown)

    def price(rows: Any = None, columns: Any = None) -> NDArray[np.float32]:
        return np.abs(found.price(rows, columns))

    return found._replace(a_to_b=best(r), b_to_a=best(r.T), price=price)


class Compared(NamedTuple):
    """Units of one kind in two layers, paired on the matching documents and judged on the held-out ones."""

    kind: str
    both: Pair
    pairs: Pairs
    """r is |r| where either sign will do"""
    held_out: NDArray[np.float32]
    """(pairs,) NaN where a unit is dead there; positive where the sign is that of the matching documents"""
    rows: tuple[np.ndarray, np.ndarray]
    """(pairs, d_a) and (pairs, d_b), the rows of paired units"""

    @property
    def n(self) -> int:
        """Pairs."""
        return len(self.pairs.a)

    @property
    def live(self) -> tuple[int, int]:
        """Units of either side that vary on the matching documents."""
        return int(self.both.found.a.live.sum()), int(self.both.found.b.live.sum())

    @property
    def retention(self) -> float:
        """Share of the live units of A in a pair."""
        return self.n / self.live[0]

    @property
    def retention_by_chance(self) -> float:
        """Retention of mutual pairs if all correlations were drawn from one continuous law, independently.

        Each of the |A| |B| correlations is then the largest of its row and column with probability 1 / (|A| + |B| - 1).
        """
        return self.live[1] / (sum(self.live) - 1)

    def kept(self, r: float) -> float:
        """Share of the live units of A whose partner correlates by at least `r` on the held-out documents."""
        return float((self.held_out >= r).sum()) / self.live[0]


def compare(
    profile: Profile, a: str, b: str, kind: str, k: int, *, one_to_one: Literal["mutual", "optimal"] = "mutual"
) -> Compared:
    """Pair the units of one kind in the layers that dictionaries `a` and `b` read; `k` candidates a unit.

    Raises ValueError as `features` and `pipeline.pair` do.
    """
    one, two = (features(profile, name, kind) for name in (a, b))
    both = pipeline.pair(one, two, k)
    found = either_sign(both.found) if KINDS[kind].either_sign else both.found
    pairs = matching.mutual(found) if one_to_one == "mutual" else matching.optimal(found).pairs
    held_out = both.held_out(pairs)
    if KINDS[kind].either_sign:
        held_out = held_out * np.sign(matching.correlations(both.found, pairs.a, pairs.b))
    return Compared(kind, both, pairs, held_out, (one.decoder[pairs.a], two.decoder[pairs.b]))
