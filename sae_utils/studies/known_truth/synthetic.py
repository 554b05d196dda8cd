"""Paired rows whose truth is known, because it was planted.

In: a recipe as a profile writes it, a generator, n and the two widths. Out: paired Gaussian rows, and the group that
each pair belongs to. What both sides share lies in other directions of either, by a random rotation.
Never: a score, a null, a model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, cast

import numpy as np
from pydantic import Field

from sae_utils.engine.core.spec import Spec, choose

Rng = np.random.Generator


class PairedRows(NamedTuple):
    """Paired rows."""

    a: np.ndarray
    """(n, d_a)"""
    b: np.ndarray
    """(n, d_b)"""
    groups: np.ndarray
    """(n,) the cluster, family, stratum or shared partner of a pair; a number of its own where there are no groups"""


class Copies(Spec):
    """Independent rows, noisy copies, rotated copies: the same latent rows on both sides, beside noise."""

    kind: Literal["copies"]
    shared: float = Field(ge=0, le=1)
    """population canonical correlation of each of min(d_a, d_b) directions; 0: unrelated, 1: a rotated copy"""

    def draw(self, rng: Rng, n: int, d_a: int, d_b: int) -> PairedRows:
        """`n` pairs of `d_a` and `d_b` dimensions; O(n d^2 + d^3)."""
        narrow, wide = sorted((d_a, d_b))
        latent = rng.normal(size=(n, narrow))
        turned = latent @ rotation(rng, narrow, wide)
        a, b = (latent, turned) if d_a == narrow else (turned, latent)
        return PairedRows(_mixed(rng, a, self.shared), _mixed(rng, b, self.shared), np.arange(n))


class OneDirection(Spec):
    """Rows that share one direction and nothing else."""

    kind: Literal["one_direction"]
    strength: float = Field(ge=0, le=1)
    """share of the variance of either side that lies along it"""

    def draw(self, rng: Rng, n: int, d_a: int, d_b: int) -> PairedRows:
        """`n` pairs of `d_a` and `d_b` dimensions."""
        latent = rng.normal(size=(n, 1))
        a, b = (_mixed(rng, math.sqrt(d) * latent @ rotation(rng, 1, d), self.strength) for d in (d_a, d_b))
        return PairedRows(a, b, np.arange(n))


class Grouped(Spec):
    """Rows that scatter around the centre of their group, of groups of one size (or one less).

    With `centres` above 0 a clustered copy. With 0 nothing is shared but membership: families of near-duplicates where
    groups are small, a confounder where they are large, features that chose the same partner where `alike_b` is 1.
    """

    kind: Literal["grouped"]
    groups: int = Field(gt=1, lt=2**31)
    centres: float = Field(ge=0, le=1)
    """population canonical correlation of the centres of both sides"""
    alike_a: float = Field(ge=0, le=1)
    """share of side a's variance that lies between groups; 1: rows of a group are equal"""
    alike_b: float = Field(ge=0, le=1)

    def draw(self, rng: Rng, n: int, d_a: int, d_b: int) -> PairedRows:
        """`n` pairs of `d_a` and `d_b` dimensions, sorted by group. Raises ValueError for fewer pairs than groups."""
        if n < self.groups:
            raise ValueError(f"n = {n} pairs in {self.groups} groups: plant at least one a group")
        groups = np.arange(n) * self.groups // n
        centres = Copies(kind="copies", shared=self.centres).draw(rng, self.groups, d_a, d_b)
        a, b = (
            _mixed(rng, rows[groups], alike) for rows, alike in ((centres.a, self.alike_a), (centres.b, self.alike_b))
        )
        return PairedRows(a, b, groups)


World = Copies | OneDirection | Grouped
UNRELATED = Copies(kind="copies", shared=0.0)
KINDS: dict[str, type[Spec]] = {"copies": Copies, "one_direction": OneDirection, "grouped": Grouped}


def worlds(values: Mapping[str, Any], where: str) -> dict[str, World]:
    """The records that `values` describe by their `kind`, by name.

    Raises:
        ProfileError: as `spec.choose`; `where` names the file and the key.
    """
    found = {name: choose(KINDS, value, f"{where}.{name}") for name, value in values.items()}
    assert all(isinstance(world, World) for world in found.values())
    return cast(dict[str, World], found)


def rotation(rng: Rng, d: int, width: int) -> np.ndarray:
    """Orthonormal rows (d, width), uniform among all such. Raises ValueError where d > width."""
    if d > width:
        raise ValueError(f"{d} orthonormal rows do not fit in {width} dimensions")
    q, r = np.linalg.qr(rng.normal(size=(width, d)))
    return np.asarray((q * np.sign(np.diag(r))).T)


def _mixed(rng: Rng, planted: np.ndarray, share: float) -> np.ndarray:
    """`planted` (n, d) and fresh noise of unit variance, in shares of variance."""
    return math.sqrt(share) * planted + math.sqrt(1 - share) * rng.normal(size=planted.shape)
