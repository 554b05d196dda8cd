"""Directions of planted features, and how they are arranged.

In: a recipe as a profile writes it, a generator, a number of features and of dimensions. Out: unit rows, and the group
of every feature.
Never: how often a feature fires, a model, a score.
"""

from typing import Literal, NamedTuple

import numpy as np
from pydantic import Field

from sae_utils import arrays
from sae_utils.engine.core.spec import Count, Spec
from sae_utils.studies.known_truth.synthetic import Rng, rotation


class Directions(NamedTuple):
    """Planted features."""

    rows: np.ndarray  # (features, d) of norm 1
    groups: np.ndarray  # (features,) cluster, circle or line of the grid; a unique number where there are none


class Sphere(Spec):
    """Directions uniform on the sphere: no relation between features but chance."""

    kind: Literal["sphere"]

    def draw(self, rng: Rng, features: int, d: int) -> Directions:
        """`features` directions of `d` dimensions."""
        return Directions(arrays.unit(rng.normal(size=(features, d))), np.arange(features))


class Mixture(Spec):
    """Directions that scatter around the centres of groups, which are uniform on the sphere.

    Groups of two are the children of one parent: an SAE that is too narrow finds the centre, a wider one splits it.
    """

    kind: Literal["mixture"]
    groups: Count
    alike: float = Field(ge=0, le=1)  # expected cosine of two features of a group, about
    even: bool = True  # groups of equal size, to one; else sizes are drawn from the uniform Dirichlet distribution

    def draw(self, rng: Rng, features: int, d: int) -> Directions:
        """`features` directions of `d` dimensions, sorted by group. Raises ValueError for fewer than groups."""
        if features < self.groups:
            raise ValueError(f"{features} features in {self.groups} groups: plant at least one feature a group")
        groups = np.arange(features) * self.groups // features
        if not self.even:
            groups = np.sort(rng.choice(self.groups, features, p=rng.dirichlet(np.ones(self.groups))))
        centres, around = (arrays.unit(rng.normal(size=(n, d))) for n in (self.groups, features))
        return Directions(arrays.unit(self.alike**0.5 * centres[groups] + (1 - self.alike) ** 0.5 * around), groups)


class Circles(Spec):
    """Features that lie evenly on circles, each in a random plane, as days of the week do (arXiv 2405.14860)."""

    kind: Literal["circles"]
    circles: Count
    lift: float = Field(default=0.5, ge=0, lt=1)  # part of the norm along an axis of the circle's own; 0: a flat circle

    def draw(self, rng: Rng, features: int, d: int) -> Directions:
        """`features` directions of `d` dimensions, sorted by circle and angle.

        Raises ValueError for fewer than 3 dimensions or fewer features than circles.
        """
        if features < self.circles:
            raise ValueError(f"{features} features on {self.circles} circles: plant at least one feature a circle")
        groups = np.arange(features) * self.circles // features
        sizes = np.bincount(groups)
        angle = np.concatenate([2 * np.pi * np.arange(size) / size for size in sizes])
        axes = np.stack([rotation(rng, 3, d) for _ in range(self.circles)])[groups]  # (features, 3, d)
        flat = (1 - self.lift**2) ** 0.5
        at = np.stack([flat * np.cos(angle), flat * np.sin(angle), np.full(features, self.lift)], axis=1)
        return Directions(np.einsum("fa,fad->fd", at, axes), groups)


class Grid(Spec):
    """Features on the points of a square grid, of which near ones are alike: a smooth curved sheet."""

    kind: Literal["grid"]
    reach: float = Field(gt=0, le=1e3)  # distance in points at which the expected cosine is exp(-1/2)

    def draw(self, rng: Rng, features: int, d: int) -> Directions:
        """`features` directions of `d` dimensions, line by line of the grid; `groups` are the lines."""
        side = int(np.ceil(features**0.5))
        points = np.stack(np.divmod(np.arange(features), side), axis=1)
        square = ((points[:, None] - points[None]) ** 2).sum(axis=2)
        values, vectors = np.linalg.eigh(np.exp(-square / (2 * self.reach**2)))
        rows = (vectors * np.sqrt(np.maximum(values, 0))) @ rng.normal(size=(features, d))
        return Directions(arrays.unit(rows), points[:, 0])


class Given(Spec):
    """Directions of given rows, such as a trained decoder's; so many of them are taken at random."""

    kind: Literal["given"]

    def draw(self, rng: Rng, features: int, d: int, rows: np.ndarray | None = None) -> Directions:
        """`features` of the `rows` (more, d), which must have a direction; `groups` are their places.

        Raises ValueError without rows, for too few of them, of other dimensions or of norm 0.
        """
        if rows is None:
            raise ValueError("the shape `given` needs the rows of a decoder: pass `rows`")
        rows = arrays.rows(rows, "rows", features)
        if rows.shape[1] != d:
            raise ValueError(f"given rows have {rows.shape[1]} dimensions, the narrowest model {d}: they must be equal")
        chosen = np.sort(rng.choice(len(rows), features, replace=False))
        if not np.linalg.norm(rows[chosen], axis=1).all():
            raise ValueError("given rows: some have norm 0, and no direction; leave them out")
        return Directions(arrays.unit(rows[chosen]), chosen)


Shape = Sphere | Mixture | Circles | Grid | Given
