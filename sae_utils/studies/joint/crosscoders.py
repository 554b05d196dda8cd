"""A crosscoder of two models beside the models' own SAEs: which latents, and which pairs, both find.

In: the models' activations at the same tokens in one arm, a recipe, the SAEs' codes there. Out: `Read`.
Never: a planted truth; a verdict.

Partners are chosen on the documents that train the crosscoder, and judged on others.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from sae_utils import replicates
from sae_utils.studies import feature_matching
from sae_utils.studies.joint import norms, training
from sae_utils.studies.joint.dictionary import Joint, Recipe
from sae_utils.studies.joint.norms import Bounds
from sae_utils.studies.joint.texts import Texts

SPLITS = ("matching", "held_out")
Matrices = Mapping[str, NDArray[np.float64]]  # split -> correlations (latents, features)


class Overlap(NamedTuple):
    """A share, beside what chance gives."""

    n: int  # of what it is a share
    share: float  # NaN for none
    chance: float  # the same with partners shuffled


class Read(NamedTuple):
    """A crosscoder of one replicate in one arm."""

    unexplained: dict[str, float]  # share of the variance by model, on documents that judge
    relative: NDArray[np.float64]  # (live,) relative norms
    shares: dict[str, float]  # of live latents by kind
    own: Overlap  # exclusive latents that have a counterpart in the SAE of their own model
    other: Overlap  # exclusive latents that have one in the SAE of the other model
    found: Overlap  # matched pairs of the SAEs that one shared latent stands for
    back: Overlap  # shared latents whose counterparts in the two SAEs are a matched pair


def counterparts(r: Matrices, least: float) -> NDArray[np.int64]:
    """(latents,) the partner with the largest r on the documents that choose; -1 below `least` on those that judge."""
    best = feature_matching.best(r["matching"])
    judged = np.nan_to_num(r["held_out"][np.arange(len(best)), best], nan=-1.0)
    return np.where((best >= 0) & (judged >= least), best, -1)


def pairs(r: Matrices, least: float) -> NDArray[np.int64]:
    """(pairs, 2) features of two sides that are each other's best, and reach `least` on the documents that judge."""
    there, back = counterparts(r, least), feature_matching.best(r["matching"].T)
    a = np.flatnonzero(there >= 0)
    a = a[back[there[a]] == a]
    return np.stack([a, there[a]], axis=1)


def overlap(hit: NDArray[np.bool_], chance: NDArray[np.bool_]) -> Overlap:
    """Shares of hits, NaN for none."""
    return Overlap(len(hit), *(float(x.mean()) if len(x) else np.nan for x in (hit, chance)))


def read(
    texts: Texts, own: tuple[replicates.Side, replicates.Side], recipe: Recipe, bounds: Bounds, least: float,
    firings: int,
) -> Read:  # fmt: skip
    """Train a crosscoder, or take it from the store, and compare it with both SAEs.

    `own`: their codes at the tokens of `texts`. `least`: held-out r of a counterpart. A latent is live that fires at
    least `firings` times on the documents that train it.
    """
    made = training.of(texts, recipe)
    codes = {split: made.encode(texts.activations(split)) for split in SPLITS}
    live = np.bincount(codes["matching"].indices, minlength=recipe.width) >= firings
    return compared(made, live, codes, own, bounds, least, made.unexplained(texts.activations("held_out")))


def compared(
    made: Joint, live: np.ndarray, codes: Mapping[str, Any], own: tuple[replicates.Side, replicates.Side],
    bounds: Bounds, least: float, unexplained: Mapping[str, float],
) -> Read:  # fmt: skip
    """The numbers of a crosscoder from its `codes` by split (tokens, width)."""
    sides = {split: [sparse.csr_array(sparse.vstack(x.blocks[split])) for x in own] for split in SPLITS}
    with_a, with_b = ({s: replicates.correlate([codes[s]], [sides[s][i]]).r for s in SPLITS} for i in (0, 1))
    both = {split: replicates.correlate([sides[split][0]], [sides[split][1]]).r for split in SPLITS}
    relation = norms.relative(made)
    kind = np.where(live, norms.kinds(relation, bounds), "dead")
    partner = counterparts(with_a, least), counterparts(with_b, least)
    matched = pairs(both, least)
    return Read(
        dict(unexplained),
        relation[live],
        norms.shares(kind[live]),
        *_of_exclusive(kind, partner),
        _found(matched, kind, with_a, with_b, least),
        _back(matched, np.flatnonzero(kind == norms.SHARED), partner),
    )


def _of_exclusive(kind: np.ndarray, partner: tuple[np.ndarray, np.ndarray]) -> tuple[Overlap, Overlap]:
    """Exclusive latents with a counterpart in the SAE of their own model, and in that of the other."""
    only = [np.flatnonzero(kind == name) for name in (norms.ONLY_A, norms.ONLY_B)]
    shared = kind == norms.SHARED  # how often these have one, in place of a shuffle
    of_own, of_other = ([partner[i if own else 1 - i][only[i]] >= 0 for i in (0, 1)] for own in (True, False))
    usual = np.concatenate([x[shared] >= 0 for x in partner])
    one, other = (overlap(np.concatenate(x), usual) for x in (of_own, of_other))
    return one, other


def _found(matched: np.ndarray, kind: np.ndarray, with_a: Matrices, with_b: Matrices, least: float) -> Overlap:
    """Matched pairs that one shared latent, the best for A's feature, stands for."""
    a, b = matched.T
    latent = feature_matching.best(with_a["matching"].T)[a]
    reached = with_a["held_out"][latent, a] >= least  # NaN is not
    shared = kind[latent] == norms.SHARED
    hit, chance = (reached & shared & (with_b["held_out"][latent, x] >= least) for x in (b, np.roll(b, 1)))
    return overlap(hit, chance)


def _back(matched: np.ndarray, shared: np.ndarray, partner: tuple[np.ndarray, np.ndarray]) -> Overlap:
    """Shared latents whose counterparts are a matched pair."""
    known = {(int(a), int(b)) for a, b in matched}
    of_a, of_b = (x[shared] for x in partner)
    hit, chance = (
        np.array([(int(a), int(b)) in known for a, b in zip(of_a, x, strict=True)], bool)
        for x in (of_b, np.roll(of_b, 1))
    )
    return overlap(hit, chance)
