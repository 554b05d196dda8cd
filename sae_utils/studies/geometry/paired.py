"""Features of A with their one-to-one partners in B, in the true arm and, where there is one, in a control arm.

In: names of dictionaries of a profile. Out: decoder rows and codes of the features and of their partners, the codes on
documents that did not choose the partners.
Never: a threshold on a correlation; a role of B, since shapes and families of one side suffice here.

The control exchanges words where the profile has replicates; else it is the twin of B that is named, or there is none.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from sae_utils import pipeline, replicates
from sae_utils.engine.params import Profile
from sae_utils.replicates import SPLITS, Side

Ints = NDArray[np.int64]
TRUE, CONTROL = "true", "control"


class Part(NamedTuple):
    """Some features of one dictionary."""

    rows: np.ndarray  # (n, d) decoder rows
    codes: Any  # CSR (tokens, n) on the documents that judge


class Paired(NamedTuple):
    """Features of A and their partners; row i of all parts belongs to pair i."""

    features: Ints  # (n,) of A
    partners: Mapping[str, Ints]  # arm -> (n,) of B, or of its twin
    a: Part
    b: Mapping[str, Part]  # arm -> the partners
    live: int  # features of A that fire on the documents that choose

    def r(self, arm: str) -> NDArray[np.float64]:
        """(n, n) correlation of every feature with every partner on the documents that judge; 0 of a dead one."""
        return correlation(self.a.codes, self.b[arm].codes)


def sides(run: Profile, a: str, b: str, twin: str = "", *, exchange: bool = True) -> tuple[Side, ...]:
    """A and B on both readings where the profile has replicates and `exchange` is wanted; else A, B and the twin."""
    if run.common.replicates and exchange and not twin:
        return replicates.sides(run, (a, b))
    return tuple(replicates.side([pipeline.features(run, name)]) for name in (a, b, twin) if name)


def pair(own: tuple[Side, ...], minimum: int, most: int, seed: int) -> Paired:
    """A's content features that fire at least `minimum` times, at most `most` of them at random, with their partners.

    Partners are chosen on the matching documents. A feature without a partner in one arm is left out of both.
    """
    choose, judge = SPLITS[0]
    a, b = own[:2]
    codes = {TRUE: b.blocks[choose]} | ({} if control(own) is None else {CONTROL: control(own)[1][choose]})
    features = replicates.content_features(a.blocks[choose], a.classes[choose], minimum)
    partners, live, kept = {}, 0, np.ones(len(features), bool)
    for arm, blocks in codes.items():
        r = replicates.correlate(a.blocks[choose], blocks)
        live = int(r.live[0].sum())
        partners[arm] = replicates.partners(np.nan_to_num(r.r), features, r.live[1])
        kept &= partners[arm] >= 0
    at = np.flatnonzero(kept)
    if len(at) > most:
        at = np.sort(np.random.default_rng(seed).choice(at, most, replace=False))
    chosen = {arm: of[at] for arm, of in partners.items()}
    parts = {TRUE: part(b.decoder, b.blocks[judge], chosen[TRUE])}
    if CONTROL in chosen:
        decoder, blocks = control(own)
        parts[CONTROL] = part(decoder, blocks[judge], chosen[CONTROL])
    return Paired(features[at], chosen, part(a.decoder, a.blocks[judge], features[at]), parts, live)


def control(own: tuple[Side, ...]) -> Any:
    """Decoder and blocks by split of what takes the place of B in the control arm; None without a control."""
    if len(own) == 3:
        return own[2].decoder, own[2].blocks
    if len(next(iter(own[1].blocks.values()))) < 2:
        return None
    return own[1].decoder, {split: blocks[::-1] for split, blocks in own[1].blocks.items()}


def part(decoder: np.ndarray, blocks: Any, features: Ints) -> Part:
    """Some features of a dictionary, all readings one after another."""
    codes = sparse.vstack([block[:, features] for block in blocks], format="csr")
    return Part(decoder[features], sparse.csr_array(codes))


def correlation(a: Any, b: Any) -> NDArray[np.float64]:
    """(n_a, n_b) Pearson correlations of codes (tokens, n); 0 of a feature that never fires."""
    return np.nan_to_num(replicates.correlate([a], [b]).r)
