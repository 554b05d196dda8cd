"""Dictionaries of two models at once: a crosscoder, a universal SAE, and two SAEs whose latents share their index.

In: a recipe, activations of both models. Out: codes, reconstructions, the loss of a batch.
Never: a loop of training, a choice of text, a score.

A latent has an encoder and a decoder in either model. A crosscoder reads both models and writes both (J. Lindsey et
al., Sparse crosscoders, Transformer Circuits 2024), with BatchTopK as in arXiv 2504.02922. A universal SAE reads one
model and writes both (arXiv 2502.03714). Latents may be kept for one model, as in dedicated feature crosscoders.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from scipy import sparse

from sae_utils.engine.core.spec import Count, Rate, Seed, Spec
from sae_utils.engine.saes.dictionaries import SEGMENT

Side = Literal["a", "b"]
SIDES: tuple[Side, Side] = ("a", "b")
PARTS = ("shared", *SIDES)
Tensors = Sequence[torch.Tensor]
AUXILIARY = 1 / 32  # weight of the loss of dead latents (arXiv 2406.04093)


class Route(NamedTuple):
    """From which models a code is read, and into which it is written: places in `SIDES`."""

    read: tuple[int, ...]
    write: tuple[int, ...]


ROUTES: dict[str, tuple[Route, ...]] = {
    "crosscoder": (Route((0, 1), (0, 1)),),
    "universal": (Route((0,), (0, 1)), Route((1,), (0, 1))),
    "separate": (Route((0,), (0,)), Route((1,), (1,))),
}


class Partition(Spec):
    """Numbers of latents that both models have, and that one has alone."""

    shared: int = Field(ge=0, lt=2**31)
    a: int = Field(ge=0, lt=2**31)
    b: int = Field(ge=0, lt=2**31)


class Training(Spec):
    """How long and how wide a dictionary of two models is trained."""

    width: Count  # latents
    k: Count  # latents active at a token, on average
    steps: Count
    batch: Count  # tokens a step
    learning_rate: Rate  # peak of Adam's cosine schedule; it ends at a tenth
    partition: Partition | None = None  # of the latents; None: all may be shared

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.k > self.width:
            raise ValueError(f"k is at most width, and {self.k} latents are more than {self.width}")
        if self.partition and sum(self.partition.model_dump().values()) != self.width:
            raise ValueError(f"the parts of the partition must sum to the width, {self.width}")
        return self


class Recipe(Training):
    """What is trained."""

    # which models a code is read from and written to: both at once; either one and both; each its own
    kind: Literal["crosscoder", "universal", "separate"]
    seed: Seed
    # weight of the term that makes latents of one index fire alike, of two separate SAEs
    alike: float = Field(default=0.0, ge=0, le=1e6)

    @model_validator(mode="after")
    def _has_two_codes(self) -> Self:
        if self.alike and self.kind != "separate":
            raise ValueError("alike: only two separate SAEs have codes that can be made alike; give kind `separate`")
        return self


def latents(recipe: Training, part: str) -> slice:
    """The places of the latents of a part: "shared", "a" or "b". Raises ValueError for another part."""
    if part not in PARTS:
        raise ValueError(f"no part is called {part!r}: one of {', '.join(PARTS)}")
    sizes = recipe.partition or Partition(shared=recipe.width, a=0, b=0)
    ends = np.cumsum([0, sizes.shared, sizes.a, sizes.b])
    return slice(int(ends[PARTS.index(part)]), int(ends[PARTS.index(part) + 1]))


class Joint(torch.nn.Module):
    """The latents of a recipe, for models of d[0] and d[1] dimensions."""

    scale: torch.Tensor  # (2,) of the activations of either model
    threshold: torch.Tensor  # (routes,) of the score that a latent needs to be active

    def __init__(self, recipe: Recipe, d: Sequence[int]) -> None:
        super().__init__()
        self.recipe, width = recipe, recipe.width
        rows = [torch.nn.functional.normalize(torch.randn(width, n), dim=1) / 2**0.5 for n in d]
        self.decoder = torch.nn.ParameterList([x.clone() for x in rows])  # (width, d)
        self.encoder = torch.nn.ParameterList([x.T.clone() for x in rows])  # (d, width)
        self.bias = torch.nn.ParameterList([torch.zeros(width) for _ in d])
        self.offset = torch.nn.ParameterList([torch.zeros(n) for n in d])
        for place, n in enumerate(d):
            self.register_buffer(f"mean_{place}", torch.zeros(n))
            self.register_buffer(f"held_{place}", self._held(place))
        self.register_buffer("scale", torch.ones(len(d)))
        self.register_buffer("threshold", torch.zeros(len(ROUTES[recipe.kind])))

    def _held(self, place: int) -> torch.Tensor:
        """(width,) 1 for latents that the model of this place has, 0 for those of the other alone."""
        held = torch.ones(self.recipe.width)
        held[latents(self.recipe, SIDES[1 - place])] = 0
        return held

    @torch.no_grad()
    def normalise_by(self, x: Tensors) -> None:
        """Take means and scales from activations (tokens, d) of both models: then both have one total variance."""
        size = sum(part.shape[1] for part in x) / len(x)
        for place, part in enumerate(x):
            mean = part.mean(0)
            getattr(self, f"mean_{place}").copy_(mean)
            self.scale[place] = (size / (part - mean).square().sum(1).mean()).sqrt()

    def normalised(self, x: Sequence[Any]) -> list[torch.Tensor]:
        """Activations (tokens, d) of both models, arrays or tensors, centred and scaled."""
        return [
            (torch.as_tensor(part) - getattr(self, f"mean_{place}")) * self.scale[place] for place, part in enumerate(x)
        ]

    def rows(self, place: int) -> torch.Tensor:
        """Decoder rows (width, d) of one model, 0 for latents of the other alone."""
        return self.decoder[place] * getattr(self, f"held_{place}")[:, None]

    def norms(self, route: Route) -> torch.Tensor:
        """(width,) sum of the norms of the rows that a route writes, by which latents compete."""
        found: torch.Tensor = torch.stack([self.rows(place).norm(dim=1) for place in route.write]).sum(0)
        return found

    def active(self, x: Tensors, route: Route) -> torch.Tensor:
        """What latents read (tokens, width), above 0, before their selection; `x` is normalised."""
        held = [getattr(self, f"held_{place}") for place in route.read]
        read = [(x[p] @ self.encoder[p] + self.bias[p]) * on for p, on in zip(route.read, held, strict=True)]
        found: torch.Tensor = torch.stack(read).sum(0) if len(read) > 1 else read[0]
        return found.relu()

    def decode(self, codes: torch.Tensor, place: int) -> torch.Tensor:
        """Normalised activations (tokens, d) of one model from codes (tokens, width)."""
        found: torch.Tensor = codes @ self.rows(place) + self.offset[place]
        return found

    def loss(self, x: Tensors, route: Route, dead: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The loss of a batch on a route, which latents fired (width,), and what they read (tokens, width).

        Per model the share of the variance that is not explained. `dead` (width,) latents also learn to explain what
        the others leave.
        """
        active, norms = self.active(x, route), self.norms(route)
        codes = selected(active, active * norms, self.recipe.k)
        left = {place: x[place] - self.decode(codes, place) for place in route.write}
        total = sum_of_squares(list(left.values()), x)
        if dead.any():
            idle = active * dead
            again = selected(idle, idle * norms, min(int(dead.sum()), self.recipe.k))
            rest = [left[place].detach() - again @ self.rows(place) for place in route.write]
            total = total + AUXILIARY * sum_of_squares(rest, x)
        return total, (codes.detach() > 0).any(0), active

    @torch.no_grad()
    def set_threshold(self, x: Tensors) -> None:
        """Set the thresholds from activations of both models, so that `k` latents are active at a token on average."""
        for number, route in enumerate(ROUTES[self.recipe.kind]):
            score = self.active(x, route) * self.norms(route)
            self.threshold[number] = least(score, self.recipe.k)

    @torch.no_grad()
    def codes(self, x: Tensors, route: int = 0) -> torch.Tensor:
        """Codes (tokens, width) of raw activations, by the number of the route in `ROUTES`."""
        along = ROUTES[self.recipe.kind][route]
        active = self.active(self.normalised(x), along)
        return torch.where(active * self.norms(along) > self.threshold[route], active, 0)

    def encode(self, x: Sequence[np.ndarray], route: int = 0) -> sparse.csr_array:
        """`codes` of arrays, as CSR (tokens, width)."""
        parts = (sparse.csr_array(self.codes(part, route).numpy()) for part in batches(x))
        return sparse.csr_array(sparse.vstack(list(parts), "csr"))

    @torch.no_grad()
    def unexplained(self, x: Sequence[np.ndarray], route: int = 0) -> dict[str, float]:
        """The share of the variance of each model that a route writes which its code does not explain (FVU)."""
        along = ROUTES[self.recipe.kind][route]
        left, all_of = np.zeros(2), np.zeros(2)
        for part in batches(x):
            normal, codes = self.normalised(part), self.codes(part, route)
            for place in along.write:
                left[place] += float((normal[place] - self.decode(codes, place)).square().sum())
                all_of[place] += float((normal[place] - normal[place].mean(0)).square().sum())
        return {SIDES[place]: float(left[place] / all_of[place]) for place in along.write}


def batches(x: Sequence[np.ndarray]) -> Iterator[list[torch.Tensor]]:
    """Both sides in parts of some thousand tokens, float32."""
    for start in range(0, len(x[0]), SEGMENT):
        yield [torch.from_numpy(np.asarray(part[start : start + SEGMENT], np.float32)) for part in x]


def least(score: torch.Tensor, k: int) -> torch.Tensor:
    """The largest score that is left out where k x tokens scores (tokens, width) are kept; 0 where all are."""
    flat = score.detach().flatten()
    kept = k * len(score)
    return flat.kthvalue(len(flat) - kept).values if kept < len(flat) else flat.new_zeros(())


def selected(active: torch.Tensor, score: torch.Tensor, k: int) -> torch.Tensor:
    """BatchTopK: what is active (tokens, width) at the k x tokens largest scores of the batch, 0 elsewhere."""
    return torch.where(score > least(score, k), active, 0)


def sum_of_squares(left: Sequence[torch.Tensor], x: Tensors) -> torch.Tensor:
    """Squares of what is left of each model, in units of the total variance of normalised activations."""
    size = sum(part.shape[1] for part in x) / len(x)
    found: torch.Tensor = torch.stack([part.square().sum(1).mean() for part in left]).sum() / size
    return found


def alike(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """1 - r of what latents of one index read in two models (tokens, width), a mean over latents active in both."""
    on = (one.detach() > 0).any(0) & (other.detach() > 0).any(0)
    centred = [x[:, on] - x[:, on].mean(0) for x in (one, other)]
    r = torch.nn.functional.cosine_similarity(centred[0], centred[1], dim=0, eps=1e-6)
    found: torch.Tensor = (1 - r).mean() if on.any() else one.new_zeros(())
    return found
