"""Units that can replace SAE features: neurons and outputs of a layer, and untrained directions.

In: a dictionary of a profile, which gives the model, the layer and the tokens; a kind of unit. Out: `Features` that
`pipeline.correlated` takes like those of an SAE, and pairs of them.
Never: a unit of another layer than the dictionary reads; a similarity of the pairs.
"""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sae_utils import correlate, matching, pipeline, store, sweep
from sae_utils.correlate import Block, Candidates, Correlation
from sae_utils.engine.core.spec import ProfileError, check_defined
from sae_utils.engine.kernels.sides import BLOCK, Side
from sae_utils.engine.lms import hooking, models
from sae_utils.engine.params import Profile
from sae_utils.engine.saes import activations, correlations, releases
from sae_utils.engine.text import corpora
from sae_utils.matching import Pairs
from sae_utils.pipeline import Correlated, Features
from sae_utils.store import Appender, Artefact, artefact


class Kind(NamedTuple):
    """One kind of unit."""

    activations: str  # the activations that are correlated; hooks by their TransformerLens name within the block
    # the rows that replace decoder rows, or "" for orthonormal rows, whose arrangement carries no information
    rows: str
    either_sign: bool  # whether pairs are found by |r|, because the sign of a direction is arbitrary


SAE, NEURONS, OUTPUTS = "SAE features", "MLP neurons", "MLP outputs"
EITHER, RESIDUAL, RANDOM, PRINCIPAL = (
    "MLP outputs, |r|",
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
BASES = (RANDOM, PRINCIPAL)
SEED = 0  # of random directions


def features(profile: Profile, name: str, kind: str) -> Features:
    """The units of one kind in the layer that a dictionary reads, at the sites of its codes.

    Codes are CSR for an SAE, and dense float16 for other kinds. Rows (units, d) are output weights for neurons,
    incoming weights (d, d_mlp) for output dimensions, and the orthonormal directions themselves for bases. Raises
    ValueError for an unknown kind, or a dictionary whose hook is in no block.
    """
    if kind not in KINDS:
        raise ValueError(f"kind {kind!r}: known are {', '.join(KINDS)}")
    if kind == SAE:
        return pipeline.features(profile, name)
    source = pipeline.reader(profile, name)
    sites, hook = activations.sites(source.rows, source.skip), _hook(source, kind)
    kept = activations.neurons([hook], source.model, source.rows, sites, source.skip)[hook]
    if kind in BASES:
        kept = in_basis(kept, sites, "random" if kind == RANDOM else "principal", SEED)
        return Features(activations.matrix(kept), kept.array("directions"), sites, kept)
    values = activations.matrix(kept)
    if kind in (NEURONS, OUTPUTS):
        rows = output_weights(source.model, models.block_of(source.hook)).array("rows")
        return Features(values, rows if kind == NEURONS else rows.T, sites, kept)
    return Features(values, np.eye(values.shape[1], dtype=np.float32), sites, kept)


def _hook(source: pipeline.Reader, kind: str) -> str:
    return source.hook if kind in BASES else f"blocks.{models.block_of(source.hook)}.{KINDS[kind].activations}"


def prepare(profile: Profile, units: Iterable[tuple[str, str]]) -> None:
    """Store the activations for many `features` (dictionary, kind), with one pass over each model.

    Raises ValueError as `features` does.
    """
    units = list(units)
    pipeline.features_of(profile, dict.fromkeys(name for name, kind in units if kind == SAE))
    found = pipeline.readers(profile, dict.fromkeys(name for name, kind in units if kind != SAE))
    hooks, of = defaultdict[str, dict[str, None]](dict), {}
    for name, kind in units:
        if kind != SAE:
            model, _ = place(profile, name)
            hooks[model][_hook(found[name], kind)] = None
            of[model] = found[name]

    def harvest(model: str) -> None:
        source = of[model]
        sites = activations.sites(source.rows, source.skip)
        activations.neurons(hooks[model], source.model, source.rows, sites, source.skip)

    sweep.run(harvest, hooks, "neurons")


def in_memory(found: Correlation) -> Correlation:
    """The same correlation with its whole matrix in memory, so that many blocks read dense activations once.

    Raises ValueError, as `block` does, where the matrix does not fit.
    """
    return found._replace(block=_held(found.block()))


def _held(r: NDArray[np.float32]) -> Block:
    def block(rows: Any = None, columns: Any = None) -> NDArray[np.float32]:
        part = r if rows is None else r[rows]
        return part if columns is None else part[:, columns]

    return block


def either_sign(one: Side, two: Side, k: int) -> Correlation:
    """Two sides correlated by |r|, with `k` candidates for each unit; a direction and its opposite count as one.

    It holds the whole matrix of correlations, which is small because bases have only d units.
    """
    r = np.abs(correlate.blocks(one, two, device=store.device())())

    def best(r: NDArray[np.float32]) -> Candidates:
        order = np.argsort(-r, axis=1, kind="stable")[:, :k]  # NaN last
        values = np.take_along_axis(r, order, axis=1)
        return Candidates(np.where(np.isnan(values), -1, order).astype(np.int32), values)

    return Correlation(one.moments, two.moments, best(r), best(r.T), _held(r))


class Compared(NamedTuple):
    """Units of one kind in two layers, paired on the matching documents and judged on the held-out ones."""

    pairs: Pairs  # r is |r| where the sign of a direction is arbitrary
    # (pairs,) NaN where a unit is dead; positive where the sign agrees with that on the matching documents
    held_out: NDArray[np.float32]
    rows: tuple[np.ndarray, np.ndarray]  # (pairs, d_a) and (pairs, d_b), the rows of paired units
    live: tuple[int, int]  # units of either side that vary on the matching documents

    @property
    def n(self) -> int:
        """Pairs."""
        return len(self.pairs.a)

    @property
    def d(self) -> str:
        """Coordinates of the rows of either side, for a table."""
        return ", ".join(str(rows.shape[1]) for rows in self.rows)

    @property
    def retention(self) -> float:
        """Share of the live units of A in a pair."""
        return self.n / self.live[0]

    @property
    def retention_by_chance(self) -> float:
        """Expected retention of mutual pairs if correlations were independent draws of one continuous distribution.

        Each of the |A| |B| correlations is then the largest of its row and column with probability 1 / (|A| + |B| - 1).
        """
        return self.live[1] / (sum(self.live) - 1)

    def kept(self, r: float) -> float:
        """Share of the live units of A whose partner correlates by at least `r` on the held-out documents."""
        return float((self.held_out >= r).sum()) / self.live[0]


def pair(profile: Profile, a: str, b: str, kind: str, k: int) -> Correlated:
    """The units of one kind in the layers that dictionaries `a` and `b` read, correlated; `k` candidates a unit.

    By |r| where the sign is arbitrary. Raises ValueError as `features` and `pipeline.correlated` do.
    """
    one, two = features(profile, a, kind), features(profile, b, kind)
    if not KINDS[kind].either_sign:
        return pipeline.correlated(one, two, k)

    def by_magnitude(a: Artefact, b: Artefact, sites: Artefact, split: str, k: int) -> Correlation:
        return either_sign(correlations.side(a, sites, split), correlations.side(b, sites, split), k)

    return pipeline.correlated(one, two, k, method=by_magnitude)


def compare(both: Correlated, kind: str, *, one_to_one: Literal["mutual", "optimal"] = "mutual") -> Compared:
    """Units of one kind, paired mutually, or one-to-one with the largest sum of correlations."""
    found, either = both.found, KINDS[kind].either_sign
    if one_to_one == "optimal" and kind != SAE and not either:
        found = in_memory(found)
    pairs = matching.mutual(found) if one_to_one == "mutual" else matching.optimal(found)
    held_out = both.held_out(pairs)
    if either:
        one, two = (correlations.side(x.kept, x.sites, "matching") for x in (both.a, both.b))
        held_out = held_out * np.sign(correlate.pairs(one, two, pairs.a, pairs.b))
    return Compared(
        pairs,
        held_out,
        (np.array(both.a.decoder[pairs.a]), np.array(both.b.decoder[pairs.b])),
        both.found.live,
    )


def place(profile: Profile, name: str) -> tuple[str, int]:
    """The model and the block that a dictionary reads.

    Raises ProfileError if no dictionary has that name, and ValueError if its hook is in no block.
    """
    check_defined("dictionary", name, profile.dictionaries, f"params/{profile.name}.yaml")
    record = pipeline.origin(profile.dictionaries, name)
    # for a released one the hook may stand only in its own files
    hook = pipeline.reader(profile, name).hook if isinstance(record, releases.Released) else record.hook
    return record.model, models.block_of(hook)


@artefact
def output_weights(folder: Path, model: Artefact, block: int) -> None:
    """Output weights of the MLP of a block: `rows`, float32 (d_mlp, d); row i is what neuron i writes.

    Raises ProfileError if the MLP has several layers of neurons (experts).
    """
    bridge = models.load(model)
    hooking.refuse_hook(bridge, f"blocks.{block}.mlp.hook_post")
    weights = bridge.blocks[block].mlp.W_out
    np.save(folder / "rows.npy", weights.detach().float().cpu().numpy())


@artefact
def in_basis(
    folder: Path, values: Artefact, sites: Artefact, into: Literal["random", "principal"], seed: int
) -> dict[str, Any]:
    """Activations in another orthonormal basis: `values`, float16 (tokens, d), and the basis, `directions`.

    The rows of `directions`, float32 (d, d), are the Q of a Gaussian matrix, or the principal components of the
    matching documents, the largest variance first. The sign of a row is arbitrary. Raises ProfileError if an activation
    is beyond float16 in that basis.
    """
    x = values.array("values")
    if into == "random":
        directions = np.linalg.qr(np.random.default_rng(seed).normal(size=(x.shape[1], x.shape[1])))[0].T
    else:
        directions = _principal(x, np.asarray(sites.array("split") == corpora.SPLITS.index("matching")))
    np.save(folder / "directions.npy", directions.astype(np.float32))
    with Appender(folder / "values.npy", np.float16, (len(directions),)) as out:
        for first in range(0, len(x), BLOCK):
            rotated = x[first : first + BLOCK].astype(np.float64) @ directions.T
            if np.abs(rotated).max(initial=0) > models.HALF:
                raise ProfileError(
                    f"a {into} basis: an activation of {np.abs(rotated).max():.3g} is beyond the {models.HALF:.0f} of "
                    "float16, in which it would be stored; read a hook with smaller values"
                )
            out.append(rotated)
    return {"sites": sites.key}


def _principal(x: np.ndarray, chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Principal components (d, d) of the chosen rows, one in each row; summed in blocks."""
    total, square = np.zeros(x.shape[1]), np.zeros((x.shape[1], x.shape[1]))
    for first in range(0, len(x), BLOCK):
        block = x[first : first + BLOCK][chosen[first : first + BLOCK]].astype(np.float64)
        total += block.sum(axis=0)
        square += block.T @ block
    covariance = square / chosen.sum() - np.outer(total, total) / chosen.sum() ** 2
    found: NDArray[np.float64] = np.linalg.eigh(covariance)[1][:, ::-1].T
    return found
