"""Steering transfer: what A's vector of a concept does in B, carried by a map that has not seen the concept.

In: the two dictionaries of a replicate, and a `Plan`. Out: a row for each vector, target and group of articles: by how
much the words that should rise do rise, with every vector at the strength that changes B's predictions equally.
Never: an interval, a verdict (`transferred` has them).

Beside A's vectors stand B's own, those of a placebo (another concept, carried alike), a map of shuffled tokens, random
directions, the unembedding of the words that should rise, and nothing.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from sae_utils import inference, replicates
from sae_utils.engine.core.spec import ProfileError
from sae_utils.engine.params import Profile
from sae_utils.engine.text.words import folded, token_texts
from sae_utils.replicates import Names
from sae_utils.studies.function import carrying, places, resuming, scoring, targets
from sae_utils.studies.function.carrying import CONTROL, KINDS, TRUE, Chosen, Floats, Ints, Labelling, Side, unit
from sae_utils.studies.function.maps import Map
from sae_utils.studies.function.places import JUDGE, SETS, VECTORS
from sae_utils.studies.function.targets import Target, Words

OWN, RANDOM, UNEMBEDDING, NOTHING = "own", "random", "unembedding", "nothing"
DRAWS = 3  # random directions


class Plan(NamedTuple):
    """What is carried, and how it is judged."""

    groups: Sequence[tuple[Target, Target]]  # either target is the placebo of the other
    rows: Mapping[str, int]  # `map`, `vectors`: token rows that are read
    contexts: Mapping[str, int]  # `calibration`, `judge`: contexts of each group
    strengths: Sequence[float]  # the grid, in units of the mean norm of B's activations
    kl: float  # nats; the divergence at which vectors are compared
    labelling: Labelling
    ridge: float


class Label(NamedTuple):
    """Where a vector comes from."""

    vector: str  # the target whose vector it is; "" for a random direction and for nothing
    kind: str  # one of KINDS, or ""
    way: str  # OWN, a map, RANDOM, UNEMBEDDING or NOTHING
    arm: str  # TRUE or CONTROL


class Sets(NamedTuple):
    """Tokens of B that should rise and, for a relation, fall, in either arm."""

    tokens: list[torch.Tensor]
    number: Mapping[tuple[str, str], tuple[int, int | None]]  # (target, arm) -> index into `tokens` of rise and fall

    def rise(self, total: Floats, target: str, arm: str) -> Floats:
        """Log total probability of what should rise, less that of what should fall, from `Said.total`.

        NaN where none of the words is a token.
        """
        plus, minus = self.number[target, arm]
        if not all(len(self.tokens[i]) for i in (plus, minus) if i is not None):
            return np.full(total[plus].shape, np.nan)
        return total[plus] if minus is None else total[plus] - total[minus]


def measure(run: Profile, names: Names, plan: Plan, *, seed: int = 0) -> pd.DataFrame:
    """All groups of a plan in one replicate or given pair, with a control arm where the profile has replicates.

    Columns: `target` (what should rise), those of `Label`, `unit` (group of articles), `contexts`, `rise` (of the log
    total probability, over nothing), `kl`, `log_p` (mean log-probability of the token that follows), `strength`.
    Raises ValueError as `maps.refuse_few` and `acting.over`, ProfileError for words that are no tokens of B.
    """
    exchange = replicates.seed(run, names[0]) if run.common.replicates else None
    at, a, b = sides(run, names, plan)
    found = [group_of(a, b, at, group, plan, exchange, [seed, i]) for i, group in enumerate(plan.groups)]
    frame = pd.concat(found, ignore_index=True)
    if frame.rise.isna().all():
        raise ProfileError(f"params/{run.name}.yaml: 08_function.groups: no listed word is one token of the model that "
                           f"{names[1]} reads; list other words")  # fmt: skip
    return frame


def sides(run: Profile, names: Names, plan: Plan) -> tuple[Chosen, Side, Side]:
    """Both models of a pair, at the places that the plan chooses."""
    readings = [None, replicates.seed(run, names[0])] if run.common.replicates else [None]
    at = carrying.choose(places.read(run, names[0]), plan.rows)
    a, b = (carrying.side(run, name, readings, at) for name in names)
    return at, a, b


def group_of(
    a: Side, b: Side, at: Chosen, group: tuple[Target, Target], plan: Plan, exchange: int | None, seed: Sequence[int]
) -> pd.DataFrame:
    """One group in one replicate; columns as in `measure`."""
    left_out, part = group[0].left_out | group[1].left_out, b.readings[0].part
    sets = word_sets(b, group, {TRUE: None, CONTROL: exchange} if len(a.readings) > 1 else {TRUE: None})
    found = carrying.fit(a, b, at.fitted, left_out, plan.ridge, [*seed, 0])
    made = vectors(a, b, at.mean, group, found, sets, plan.labelling, [*seed, 1])
    directions = np.array(list(made.values()))
    calibrating = draw(b, part == SETS.index(VECTORS), left_out, plan.contexts["calibration"], [*seed, 2])
    strengths = calibrate(b, calibrating, directions, plan.strengths, plan.kl)
    judged = draw(b, part == SETS.index(JUDGE), left_out, plan.contexts["judge"], [*seed, 3])
    here, following = resumed(b, judged)
    labels, directions = [Label("", "", NOTHING, TRUE), *made], np.concatenate([directions[:1], directions])
    said = scoring.said(here, following, directions, np.append(0, strengths), sets.tokens)
    return tabulate(said, labels, np.append(0, strengths), sets, units(b)[judged])


# --- vectors and the words that should rise


def vectors(
    a: Side, b: Side, at: Ints, group: tuple[Target, Target], found: Mapping[tuple[str, str], Map], sets: Sets,
    how: Labelling, seed: Sequence[int],
) -> dict[Label, Floats]:  # fmt: skip
    """All vectors of a group in B, of length 1; one that cannot be had, for want of features, is left out."""
    made: dict[Label, Floats] = {}
    for target, kind in itertools.product(group, KINDS):
        made[Label(target.name, kind, OWN, TRUE)] = carrying.vector(b, at, target, kind, how)
        mine = carrying.vector(a, at, target, kind, how)
        made |= {Label(target.name, kind, way, arm): unit(x.carry(mine)) for (arm, way), x in found.items()}
    made |= {Label(x.name, "", UNEMBEDDING, TRUE): unembedding(b, sets, x.name) for x in group}
    draws = np.random.default_rng(seed).standard_normal((DRAWS, b.decoder.shape[1]))
    made |= {Label("", str(number), RANDOM, TRUE): unit(x) for number, x in enumerate(draws)}
    return {label: x for label, x in made.items() if np.isfinite(x).all()}


def unembedding(b: Side, sets: Sets, target: str) -> Floats:
    """(d,) the mean unembedding of what should rise, less that of what should fall, or of all tokens.

    NaN at a hook of another width than the residual stream.
    """
    weight = b.bridge.original_model.get_output_embeddings().weight.detach().float().cpu().numpy()
    if weight.shape[1] != b.decoder.shape[1]:
        return np.full(b.decoder.shape[1], np.nan)
    plus, minus = sets.number[target, TRUE]
    less = weight if minus is None else weight[sets.tokens[minus].numpy()]
    if not len(sets.tokens[plus]) or not len(less):
        return np.full(weight.shape[1], np.nan)
    return unit(weight[sets.tokens[plus].numpy()].mean(axis=0, dtype=np.float64) - less.mean(axis=0, dtype=np.float64))


def word_sets(b: Side, group: tuple[Target, Target], arms: Mapping[str, int | None]) -> Sets:
    """The tokens of both targets in each arm; with the seed of an exchange, those of the exchanged words."""
    texts, tokens = token_texts(b.bridge.tokenizer), list[torch.Tensor]()
    number: dict[tuple[str, str], tuple[int, int | None]] = {}

    def add(words: Words, exchange: int | None) -> int:
        tokens.append(tokens_of(words if exchange is None else targets.exchanged(words, exchange), texts))
        return len(tokens) - 1

    for target, (arm, exchange) in itertools.product(group, arms.items()):
        plus = add(target.plus.rises, exchange)
        number[target.name, arm] = plus, add(target.minus.rises, exchange) if target.minus else None
    return Sets(tokens, number)


def tokens_of(words: Words, texts: Sequence[bytes]) -> torch.Tensor:
    """(n,) the tokens that are one of the words, in any case, with the space before it."""
    spelt = [folded(text[1:].decode("utf-8", "replace")) if text.startswith(b" ") else "" for text in texts]
    return torch.tensor([token for token, word in enumerate(spelt) if word in words], dtype=torch.long)


# --- contexts and strengths


def draw(b: Side, among: NDArray[np.bool_], left_out: Words, count: int, seed: Sequence[int]) -> Ints:
    """Up to `count` places of B where a word ends that is not left out and not followed by one that is."""
    read = b.readings[0]
    free = np.flatnonzero(among & (read.words.of >= 0) & (read.next >= 0) & ~read.about(left_out))
    if not len(free):
        raise ValueError("no context is left: read more documents, or leave out fewer words")
    return np.sort(np.random.default_rng(seed).permutation(free)[:count])


def resumed(b: Side, at: Ints) -> tuple[resuming.Resumed, Ints]:
    """B at the contexts that end at places `at`, and the token that follows each in the text."""
    read, source = b.readings[0], b.readings[0].source
    row, position = (np.asarray(read.sites.array(x)[read.at[at]], np.int64) for x in ("rows", "positions"))
    following = np.asarray(source.rows.array("tokens")[row, position + 1], np.int64)
    return resuming.resume(b.bridge, resuming.contexts(source.rows, row, position), source.hook), following


def calibrate(b: Side, at: Ints, directions: Floats, grid: Sequence[float], kl: float) -> Floats:
    """(vectors,) the strength at which each direction has the divergence `kl` on the contexts at places `at`."""
    here, following = resumed(b, at)
    lengths = np.array(grid) * np.linalg.norm(b.mean, axis=1).mean()
    every = scoring.said(here, following, np.repeat(directions, len(grid), 0), np.tile(lengths, len(directions)), [])
    return scoring.matched(every.kl.mean(axis=1).reshape(len(directions), len(grid)), lengths.tolist(), kl)


def units(b: Side) -> Ints:
    """(places,) the group of articles of each place that judges, -1 elsewhere; for intervals of a single pair."""
    read = b.readings[0]
    judge = read.part == SETS.index(JUDGE)
    found = np.full(len(judge), -1)
    found[judge] = inference.grouped(read.articles[judge])
    return found


def tabulate(
    said: scoring.Said, labels: Sequence[Label], strengths: Floats, sets: Sets, unit_of: Ints
) -> pd.DataFrame:  # fmt: skip
    """Means over the contexts of every unit, a row a vector, target and unit; the first vector is nothing."""
    known, place, count = np.unique(unit_of, return_inverse=True, return_counts=True)
    member = np.zeros((len(known), len(unit_of)))
    member[place, np.arange(len(unit_of))] = 1 / count[place]
    kl, log_p = said.kl @ member.T, said.follows @ member.T  # (vectors, units)
    rows = []
    for target, arm in sets.number:
        total = sets.rise(said.total, target, arm)
        rise = (total - total[0]) @ member.T
        for i, label in enumerate(labels):
            if label.arm == arm:
                shared = {"target": target, **label._asdict(), "strength": strengths[i]}
                of_unit = {"unit": known, "contexts": count, "rise": rise[i], "kl": kl[i], "log_p": log_p[i]}
                rows.append(pd.DataFrame(shared | of_unit))
    return pd.concat(rows, ignore_index=True)
