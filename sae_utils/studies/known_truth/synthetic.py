"""Paired rows with a planted truth.

In: a recipe as a profile writes it, a generator, n and two widths. Out: paired Gaussian rows, and the group of every
pair. Random rotations give the two sides different directions for their shared structure.
Never: a score, a null, a model.
"""

import math
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, cast

import numpy as np
from pydantic import Field

from sae_utils.engine.core.spec import Spec, choose

Rng = np.random.Generator


class PairedRows(NamedTuple):
    """Paired rows, and their groups."""

    a: np.ndarray  # (n, d_a)
    b: np.ndarray  # (n, d_b)
    # (n,) cluster, family, stratum or shared partner of a pair; a unique number where there are no groups
    groups: np.ndarray


class Copies(Spec):
    """Rows whose two sides are rotations of the same latent rows, mixed with noise."""

    kind: Literal["copies"]
    # population canonical correlation of each of min(d_a, d_b) directions; 0: unrelated, 1: a rotated copy
    shared: float = Field(ge=0, le=1)

    def draw(self, rng: Rng, n: int, d_a: int, d_b: int) -> PairedRows:
        """`n` pairs of `d_a` and `d_b` dimensions; O(n d^2 + d^3)."""
        narrow, wide = sorted((d_a, d_b))
        latent = rng.normal(size=(n, narrow))
        rotated = latent @ rotation(rng, narrow, wide)
        a, b = (latent, rotated) if d_a == narrow else (rotated, latent)
        return PairedRows(_with_noise(rng, a, self.shared), _with_noise(rng, b, self.shared), np.arange(n))


class PartlyCopied(Spec):
    """Pairs of which a share are rotations of the same latent rows with noise; the others are unrelated."""

    kind: Literal["partly_copied"]
    share: float = Field(ge=0, le=1)  # of the pairs
    shared: float = Field(ge=0, le=1)  # as in `Copies`, of the copied pairs

    def draw(self, rng: Rng, n: int, d_a: int, d_b: int) -> PairedRows:
        """`n` pairs of `d_a` and `d_b` dimensions; the copied ones come first."""
        copied = round(self.share * n)
        a, b, _ = Copies(kind="copies", shared=self.shared).draw(rng, 2 * n - copied, d_a, d_b)
        return PairedRows(a[:n], np.concatenate([b[:copied], b[n:]]), np.arange(n))  # the rest: partners of others


class OneDirection(Spec):
    """Rows that share one direction and nothing else."""

    kind: Literal["one_direction"]
    strength: float = Field(ge=0, le=1)  # share of the variance of either side that lies along it

    def draw(self, rng: Rng, n: int, d_a: int, d_b: int) -> PairedRows:
        """`n` pairs of `d_a` and `d_b` dimensions."""
        latent = rng.normal(size=(n, 1))
        a, b = (_with_noise(rng, math.sqrt(d) * latent @ rotation(rng, 1, d), self.strength) for d in (d_a, d_b))
        return PairedRows(a, b, np.arange(n))


class Grouped(Spec):
    """Rows that scatter around the centres of groups, whose sizes differ by one at most.

    With `centres` above 0 the two sides are clustered copies. With 0 they share only the groups: small groups
    are families of near-duplicates, large groups are a confounder; with `alike_b` = 1 groups share one partner.
    """

    kind: Literal["grouped"]
    groups: int = Field(gt=1, lt=2**31)
    centres: float = Field(ge=0, le=1)  # population canonical correlation of the centres of both sides
    # share of side a's variance that lies between groups; 1: rows of a group are equal
    alike_a: float = Field(ge=0, le=1)
    alike_b: float = Field(ge=0, le=1)

    def draw(self, rng: Rng, n: int, d_a: int, d_b: int) -> PairedRows:
        """`n` pairs of `d_a` and `d_b` dimensions, sorted by group. Raises ValueError for fewer pairs than groups."""
        if n < self.groups:
            raise ValueError(f"n = {n} pairs in {self.groups} groups: plant at least one a group")
        groups = np.arange(n) * self.groups // n
        centres = Copies(kind="copies", shared=self.centres).draw(rng, self.groups, d_a, d_b)
        a = _with_noise(rng, centres.a[groups], self.alike_a)
        b = _with_noise(rng, centres.b[groups], self.alike_b)
        return PairedRows(a, b, groups)


World = Copies | PartlyCopied | OneDirection | Grouped
UNRELATED = Copies(kind="copies", shared=0.0)
KINDS: dict[str, type[Spec]] = {
    "copies": Copies, "partly_copied": PartlyCopied, "one_direction": OneDirection, "grouped": Grouped,
}  # fmt: skip


def worlds(values: Mapping[str, Any], where: str) -> dict[str, World]:
    """The worlds that `values` describe, by name.

    Raises ProfileError as `spec.choose`; `where` names the file and the key.
    """
    return {name: cast(World, choose(KINDS, value, f"{where}.{name}")) for name, value in values.items()}


def rotation(rng: Rng, d: int, width: int) -> np.ndarray:
    """Orthonormal rows (d, width), uniform among all such. Raises ValueError where d > width."""
    if d > width:
        raise ValueError(f"{d} orthonormal rows do not fit in {width} dimensions")
    q, r = np.linalg.qr(rng.normal(size=(width, d)))
    return np.asarray((q * np.sign(np.diag(r))).T)


def _with_noise(rng: Rng, planted: np.ndarray, share: float) -> np.ndarray:
    """`planted` (n, d) and fresh noise of unit variance; `share` is the planted part of the variance."""
    return math.sqrt(share) * planted + math.sqrt(1 - share) * rng.normal(size=planted.shape)
