"""Models whose features are known, of which a chosen share is common to all of them.

In: a recipe as a profile writes it, a seed. Out: for each model the planted rows, rates and activations of the same
samples. Every model holds the shared features (A) and features of its own (B, C, ...): A + B against A + C.
Never: an SAE, a score.
"""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from pydantic import Field
from scipy import sparse

from sae_utils.engine.core.spec import Count, Spec, build
from sae_utils.studies.known_truth.synthetic import Rng, rotation
from sae_utils.studies.recovery import firing, shapes
from sae_utils.studies.recovery.firing import Firing

BLOCK = 2048  # samples drawn together


class Model(Spec):
    """One model of a world."""

    d: Count  # dimensions
    # expected norm of Gaussian noise, about, in units of one feature at its mean magnitude
    noise: float = Field(default=0.0, ge=0, le=1e3)


class World(Spec):
    """Models with a share of common features."""

    features: Count  # of every model
    shared: float = Field(default=0.0, ge=0, le=1)  # share of them that all models have
    shape: Annotated[shapes.Shape, Field(discriminator="kind")]  # how directions are arranged
    firing: Firing
    models: dict[str, Model] = Field(min_length=1)
    # shared features are arranged alike in all models, up to a rotation; `own`: every model draws its directions anew
    relations: Literal["kept", "own"] = "kept"
    rates: Literal["shared", "own"] = "shared"  # `own`: every model deals the rates to its features at random
    covariance: Literal["shared", "own"] = "shared"  # `own`: every model has random correlations of its own

    def draw(self, seed: int, rows: np.ndarray | None = None) -> "Truth":
        """The planted truth of this seed. `rows` (more, narrowest d): of a decoder, for the shape `given`.

        Raises ValueError where features do not fit in their shape, or more are active than exist.
        """
        return _drawn(self, np.random.default_rng([seed, 0]), rows)


def world(value: Mapping[str, Any], where: str) -> World:
    """The world that `value` describes. Raises ProfileError as `spec.build`; `where`: file and key."""
    return build(World, value, where)


class Sample(NamedTuple):
    """Activations of one model."""

    x: np.ndarray  # (samples, d) float32
    codes: sparse.csr_array  # (samples, features) float32, above 0 where a feature is active


@dataclass(frozen=True, eq=False)
class TrueModel:
    """What is planted in one model."""

    rows: np.ndarray  # (features, d) float32 of norm 1
    place: np.ndarray  # (features,) of the feature in its world; the shared ones come first, alike in all models
    groups: np.ndarray  # (features,) as `shapes.Directions`
    rates: np.ndarray  # (features,) share of samples in which a feature is active
    noise: float  # SD of a coordinate's noise
    root: np.ndarray | None  # (features, features) of its own copula; None where the world has one


@dataclass(frozen=True, eq=False)
class Truth:
    """The planted features of all models, and samples of them."""

    models: dict[str, TrueModel]
    shared: int  # the first so many features of every model are the same
    features: int  # of the world: shared ones, and those of each model
    root: np.ndarray | None  # (features, features) of the common copula; None if independent, or one a model
    magnitude: str

    def sample(self, n: int, seed: int, *, threads: int = 1) -> dict[str, Sample]:
        """`n` samples of every model, which see the same text: a shared feature is active in all at once.

        The same for any number of `threads`. Raises ValueError for fewer samples than a model has features.
        """
        least = max(len(model.rates) for model in self.models.values())
        if n < least:
            raise ValueError(f"n = {n} samples of {least} features: draw at least as many samples as features")
        parts = list(_mapped(lambda i: self._block(i, min(BLOCK, n - i * BLOCK), seed), -(-n // BLOCK), threads))
        return {name: _joined([part[name] for part in parts]) for name in self.models}

    def batches(self, name: str, size: int, seed: int) -> Iterator[np.ndarray]:
        """Endless fresh activations (size, d) of the model `name`, in float32."""
        held: list[np.ndarray] = []
        for block in count():
            held.append(self._block(block, BLOCK, seed, [name])[name].x)
            x = np.concatenate(held)
            whole = len(x) - len(x) % size
            yield from (x[start : start + size] for start in range(0, whole, size))
            held = [x[whole:]]

    def _block(self, number: int, n: int, seed: int, names: list[str] | None = None) -> dict[str, Sample]:
        """Samples of one block, which has a generator of its own."""
        rng = np.random.Generator(np.random.SFC64([seed, number]))
        white = rng.standard_normal((n, self.features), np.float32)
        common = white if self.root is None else white @ self.root
        found = {}
        for (name, model), own in zip(self.models.items(), rng.spawn(len(self.models)), strict=True):
            if names is None or name in names:
                found[name] = self._seen(own, model, common)
        return found

    def _seen(self, rng: Rng, model: TrueModel, common: np.ndarray) -> Sample:
        normals = common if len(model.place) == self.features else common[:, model.place]
        normals = normals if model.root is None else normals @ model.root
        codes = firing.codes(rng, normals, firing.thresholds(model.rates), self.magnitude)
        x = codes @ model.rows
        if model.noise:
            x += np.float32(model.noise) * rng.standard_normal(x.shape, np.float32)
        return Sample(x, codes)


def _joined(parts: list[Sample]) -> Sample:
    return Sample(np.concatenate([part.x for part in parts]), sparse.vstack([part.codes for part in parts], "csr"))


def _mapped(call: Callable[[int], dict[str, Sample]], n: int, threads: int) -> Iterator[dict[str, Sample]]:
    """Results of a call for 0 to n - 1, in order."""
    if threads == 1:
        yield from map(call, range(n))
        return
    with ThreadPoolExecutor(threads) as pool:
        yield from pool.map(call, range(n))


def _drawn(world: World, rng: Rng, rows: np.ndarray | None) -> Truth:
    common = round(world.shared * world.features)
    own = world.features - common
    total = common + own * len(world.models)
    d = min(model.d for model in world.models.values())
    directions, copula, dealt, *streams = rng.spawn(3 + len(world.models))
    planted = _directions(world, directions, total, d, rows)
    order = dealt.permutation(world.features)  # of rates: otherwise the shared features would be the frequent ones
    models = {}
    for i, (name, model) in enumerate(world.models.items()):
        place = np.concatenate([np.arange(common), common + own * i + np.arange(own)])
        models[name] = _model(world, model, streams[i], planted, place, order, rows)
    together = world.firing.correlated > 0 and world.covariance == "shared"
    root = firing.root(firing.correlations(copula, total, world.firing)) if together else None
    return Truth(models, common, total, root, world.firing.magnitude)


def _directions(world: World, rng: Rng, features: int, d: int, rows: np.ndarray | None) -> shapes.Directions:
    """Directions in random order, so that neither sharing nor rates go with their groups."""
    shape = world.shape
    drawn = shape.draw(rng, features, d, rows) if isinstance(shape, shapes.Given) else shape.draw(rng, features, d)
    order = rng.permutation(features)
    return shapes.Directions(drawn.rows[order], drawn.groups[order])


def _model(
    world: World, model: Model, rng: Rng, planted: shapes.Directions, place: np.ndarray, order: np.ndarray,
    rows: np.ndarray | None,
) -> TrueModel:  # fmt: skip
    turned, dealt, copula, anew = rng.spawn(4)
    d = planted.rows.shape[1]
    if world.relations == "own":
        planted = _directions(world, anew, len(planted.rows), d, rows)
    rates = firing.rates(world.features, world.firing.active, world.firing.decay)
    order = dealt.permutation(world.features) if world.rates == "own" else order
    own = world.covariance == "own" and world.firing.correlated > 0
    return TrueModel(
        rows=(planted.rows[place] @ rotation(turned, d, model.d)).astype(np.float32),
        place=place,
        groups=planted.groups[place],
        rates=rates[order],
        noise=model.noise / model.d**0.5,
        root=firing.root(firing.correlations(copula, world.features, world.firing)) if own else None,
    )


def truly_shared(a: np.ndarray, b: np.ndarray, common: int) -> np.ndarray:
    """Whether the feature that a latent of A recovers is in both models and recovered by both: (latents_a,).

    `a` (latents_a,), `b` (latents_b,): places of the recovered features, -1 for none. `common`: features of the world
    that both models have, the first ones.
    """
    return (a >= 0) & (a < common) & np.isin(a, b)
