"""How often the published ladder and the primary analysis find something in planted pairs whose truth is known.

In: planted worlds by name, sizes, settings. Out: for every draw the p of each step and the difference of the two arms
of the primary analysis.
Never: a trained model; a p of another test than the step reports; a share of draws (`rates` has them).
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple, cast

import numpy as np
from pydantic import Field
from scipy import sparse

from sae_utils import inference, measures, replicates, sweep
from sae_utils.engine.core.spec import Count, ProfileError, Spec, build, choose
from sae_utils.inference import LEVEL
from sae_utils.replicates import Side
from sae_utils.store import artefact
from sae_utils.studies.controls import accounts, facts
from sae_utils.studies.known_truth import synthetic
from sae_utils.studies.known_truth.synthetic import World
from sae_utils.studies.published_tables import ladder, planted
from sae_utils.studies.published_tables.planted import Along, Gradient, Plan, Sizes
from sae_utils.studies.published_tables.views import CODES

ENDS = ("nothing", "all")  # worlds that every profile has
SCORES = ("RSA", "SVCCA")
STEPS = tuple(step for step in ladder.STEPS if step != ladder.EXCESS)  # the p of that step is that of the one before
ARMS = ("primary", "given firing rate")  # the difference of the primary analysis, and the same of partial RSA
MEASURE = "rsa_spearman"  # of the primary analysis
MINIMUM = 20  # firings of a feature on the documents that choose, as in the primary analysis


class Planted(Spec):
    """What two planted models share, and how many pairs are drawn."""

    world: Annotated[dict[str, Any], Field(min_length=1)]  # a world of `synthetic`, or a gradient
    along: Along = "chance"  # what the groups of the world follow
    partners: bool = True  # whether words express the same concepts in both
    draws: Count


class Draws(NamedTuple):
    """What was found in the draws of one planted world."""

    p: Mapping[str, Mapping[str, np.ndarray]]  # score -> step -> (draws,) p, NaN for too few pairs
    differences: Mapping[str, np.ndarray]  # by `ARMS`, (draws,) the true arm less the control, NaN for too few pairs

    def found(self, score: str, step: str) -> tuple[int, int]:
        """In how many draws p is below LEVEL, and in how many there is a p."""
        p = self.p[score][step]
        return int(np.sum(p < LEVEL)), int(np.isfinite(p).sum())

    def replicated(self, arm: str, number: int) -> list[inference.Replicated]:
        """A difference over `number` replicates each; draws that are left over enter none."""
        values = self.differences[arm]
        return [inference.over_replicates(x) for x in values[: len(values) // number * number].reshape(-1, number)]


def check(section: Mapping[str, Any], where: str) -> None:
    """Refuse a section of 12d whose worlds or sizes do not fit. Raises ProfileError."""
    sizes = build(Sizes, section["sizes"], f"{where}.sizes")
    for name, x in worlds(section["worlds"], f"{where}.worlds").items():
        key, groups = f"{where}.worlds.{name}", int(x.world.get("groups", 1))
        if name in ENDS:
            raise ProfileError(f"{key}: the name of a world at the ends; choose another")
        if groups > sizes.concepts:
            raise ProfileError(f"{key}.world.groups: {groups} groups of {sizes.concepts} concepts; give fewer")
        if x.along == "topics" and sizes.concepts // groups < sizes.expressed:
            raise ProfileError(
                f"{key}.world.groups: a topic of {sizes.concepts // groups} concepts, of which a word expresses "
                f"{sizes.expressed}; give fewer groups"
            )


def worlds(values: Mapping[str, Any], where: str) -> dict[str, Planted]:
    """The planted worlds that `values` describe; raises ProfileError for an unknown key, kind or number."""
    found = {name: build(Planted, value, f"{where}.{name}") for name, value in values.items()}
    for name, x in found.items():
        arrangement(x.world, f"{where}.{name}.world")
    return found


def with_ends(values: Mapping[str, Any], *, nothing: int, all: int, shared: float) -> dict[str, Any]:
    """`values` between a world in which no direction is shared and one in which all are noisy copies.

    `nothing`, `all`: draws of either; `shared`: canonical correlation of the copies.
    """
    first, last = ({"world": {"kind": "copies", "shared": of}, "draws": n} for of, n in ((0.0, nothing), (shared, all)))
    return {ENDS[0]: first, **values, ENDS[1]: last}


def arrangement(world: Mapping[str, Any], where: str) -> World | Gradient:
    """The world of `synthetic`, or the gradient, that `world` describes."""
    return cast(World | Gradient, choose(synthetic.KINDS | {"gradient": Gradient}, world, where))


def drawn(given: Mapping[str, Planted], sizes: Sizes, settings: ladder.Settings, together: int) -> dict[str, Draws]:
    """All draws by world, `together` at a time side by side in processes."""
    cells = [
        (name, first, min(together, x.draws - first))
        for name, x in given.items()
        for first in range(0, x.draws, together)
    ]
    world = {name: arrangement(x.world, name) for name, x in given.items()}

    def some(cell: tuple[str, int, int]) -> Any:
        name, first, number = cell
        x = given[name]
        return several(world[name], x.along, x.partners, sizes, settings, first, number).meta

    parts = sweep.run(some, cells, "planted pairs")
    return {name: _joined([x for cell, x in parts.items() if cell[0] == name]) for name in given}


@artefact
def several(
    folder: Path, world: World | Gradient, along: Along, partners: bool, sizes: Sizes, settings: ladder.Settings,
    first: int, number: int,
) -> dict[str, Any]:  # fmt: skip
    """`number` draws from number `first` on: `p`: score -> step -> p of each draw (None: too few pairs), `differences`.

    The draw i depends on the seed of the settings and on i alone.
    """
    found = [one(world, along, partners, sizes, settings, i) for i in range(first, first + number)]
    return {
        "p": {score: {step: [p[score].get(step) for p, _ in found] for step in STEPS} for score in SCORES},
        "differences": {arm: [x[arm] if math.isfinite(x[arm]) else None for _, x in found] for arm in ARMS},
    }


def one(
    world: World | Gradient, along: Along, partners: bool, sizes: Sizes, settings: ladder.Settings, number: int
) -> tuple[dict[str, dict[str, float]], dict[str, float]]:
    """One draw: p by score and step where there are pairs enough, and the `differences` of the arms."""
    rng = np.random.default_rng([settings.seed, number])
    made = planted.plan(rng, world, sizes, along, partners=partners)
    codes = planted.codes(rng, made, made.text.tokens)
    sides = planted.sides(made, codes, settings.top)
    mine = settings.model_copy(update={"seed": settings.seed + number})
    p: dict[str, dict[str, float]] = {score: {} for score in SCORES}
    for step in STEPS:
        for measure, x in ladder.rung(sides, step, mine).scores.items():
            p["RSA" if measure == ladder.RSA else "SVCCA"][step] = x.p
    other = planted.codes(rng, made, planted.exchanged(made), last=True)
    return p, differences(made, [[x[CODES] for x in reading] for reading in (codes, other)])


def differences(made: Plan, readings: Sequence[Sequence[sparse.csr_array]]) -> dict[str, float]:
    """By `ARMS`, RSA with true partners less that with partners that read exchanged words, as `replicates` pairs them.

    `readings`: the codes of A and of B on the text, then with its words exchanged. Every other document chooses.
    """
    inside, home = made.text.inside, made.text.documents
    rows = {name: inside & (home % 2 == part) for part, name in enumerate(("matching", "held_out"))}
    own = tuple(
        Side(
            model.rows,
            {split: [sparse.csr_array(reading[side][at], dtype=np.float64) for reading in readings]
             for split, at in rows.items()},
            {split: [np.full(int(at.sum()), -1)] * 2 for split, at in rows.items()},  # no token has a class
        )
        for side, model in enumerate(made.models)
    )  # fmt: skip
    matched = replicates.match_all(own, MINIMUM)
    return {
        "primary": replicates.scored(own, matched, [MEASURE]).difference(MEASURE),
        "given firing rate": float(np.mean([_given_rates(own, x) for x in matched])),
    }


def _given_rates(own: Sequence[Side], x: replicates.Matched) -> float:
    """Partial RSA given how often the features of both sides fire, of the true arm less that of the control."""
    firings = [np.sum([_firings(x) for blocks in side.blocks.values() for x in blocks], axis=0) for side in own]
    of_left, of_right = firings if x.role == "a" else firings[::-1]
    partial = []
    for pair, partner in zip(replicates.rows((own[0], own[1]), x), (x.true, x.control), strict=True):
        left, right = (measures.dissimilarities(rows, "pearson") for rows in pair)
        rates = [facts.in_frequency(of_left[x.features]), facts.in_frequency(of_right[partner])]
        partial.append(accounts.account(left, right, rates).partial)
    return partial[0] - partial[1]


def _firings(codes: sparse.csr_array) -> np.ndarray:
    return np.bincount(codes.indices, minlength=codes.shape[1])


def _joined(parts: Iterable[Mapping[str, Any]]) -> Draws:
    parts = list(parts)
    p = {
        score: {step: np.array([x for part in parts for x in part["p"][score][step]], float) for step in STEPS}
        for score in SCORES
    }
    return Draws(p, {arm: np.array([x for part in parts for x in part["differences"][arm]], float) for arm in ARMS})
