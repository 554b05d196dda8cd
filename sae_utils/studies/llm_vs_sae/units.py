"""Units of two layers and their pairs: SAE features, and the neurons and outputs of the MLP that the SAEs read.

In: two dictionaries of a profile, which give the models, the layers and the tokens; a kind of unit. Out: `Matched`,
pairs of units in the true arm and with words exchanged, chosen on one split of the documents and judged on the other.
Never: a unit of another layer than a dictionary reads; a similarity of the pairs.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from sae_utils import correlate, matching, pipeline, replicates
from sae_utils.correlate import Correlation
from sae_utils.engine.core.spec import check_defined
from sae_utils.engine.lms import batching, hooking, models
from sae_utils.engine.params import Profile
from sae_utils.engine.saes import activations, releases
from sae_utils.matching import Pairs
from sae_utils.store import Artefact, artefact
from sae_utils.studies.llm_vs_sae import across, crossed
from sae_utils.studies.llm_vs_sae.crossed import SPLITS

SAE, NEURONS, OUTPUTS = "SAE features", "MLP neurons", "MLP outputs"
HOOKS = {NEURONS: "mlp.hook_post", OUTPUTS: "hook_mlp_out"}  # by their TransformerLens name within the block
KINDS = (SAE, *HOOKS)
ARMS = ("true", "exchanged")
MATCHINGS: dict[str, Callable[[Correlation], Pairs]] = {"one-to-one": matching.optimal, "mutual": matching.mutual}

Floats = NDArray[np.float32]


class Choice(NamedTuple):
    """All correlations of one arm on the split that chooses pairs, and those of given pairs on the other split."""

    arm: str
    chosen_on: str  # the split
    found: Correlation
    held_out: Callable[[Pairs], Floats]
    content: NDArray[np.bool_]  # (units_a,) which units of A have most of their activation on content words


class Matched(NamedTuple):
    """Pairs of units of one kind, chosen on one split of the documents and judged on the other."""

    arm: str
    chosen_on: str
    pairs: Pairs
    held_out: Floats  # (pairs,) NaN where a unit does not vary
    rows: tuple[np.ndarray, np.ndarray]  # (pairs, d_a) and (pairs, d_b), the rows of the units
    content: NDArray[np.bool_]  # (pairs,) whether the unit of A has most of its activation on content words
    live: int  # units of A that vary

    @property
    def n(self) -> int:
        """Pairs."""
        return len(self.pairs)

    def kept(self, r: float) -> float:
        """Share of the live units of A whose partner correlates by at least `r` on the other split."""
        return float((self.held_out >= r).sum()) / self.live

    def of_content(self) -> "Matched":
        """The pairs of content units of A."""
        rows = (self.rows[0][self.content], self.rows[1][self.content])
        held_out = self.held_out[self.content]
        pairs = self.pairs.subset(self.content)
        return self._replace(pairs=pairs, rows=rows, held_out=held_out, content=self.content[self.content])


def title(place: str, arm: str) -> str:
    """What a figure calls one arm of a place, on short lines."""
    name = "primary pair" if place == "primary" else place
    return "\n".join([*name.split(), *(("words", "exchanged") if arm == ARMS[1] else ())])


def places(profile: Profile, beside: Mapping[str, Sequence[Sequence[str]]]) -> dict[str, list[tuple[str, str]]]:
    """Pairs of dictionaries, a pair for each replicate, of the `primary` pair and of what stands beside it.

    `beside`: name -> pairs of dictionaries or of families. Raises ProfileError for an undefined name.
    """
    named = {"primary": [profile.common.primary.pair], **beside}
    return {
        name: list(dict.fromkeys((a, b) for pair in pairs for a, b in replicates.of(profile, *pair)))
        for name, pairs in named.items()
    }


def matched(
    profile: Profile, a: str, b: str, kind: str, k: int, *, exchanged: int | None = None, how: str = "one-to-one",
    minimum: int = 0,
) -> list[Matched]:  # fmt: skip
    """Pairs of the units of one kind by a matching of `MATCHINGS`, in every arm and chosen on either split.

    `exchanged`: seed of the exchange of words of the second arm; without it there is one arm. Features and neurons that
    fire on fewer than `minimum` tokens of that split are in no pair; outputs take both signs. `k` candidates a unit.
    Raises ValueError for an unknown kind, or a dictionary whose hook is in no block, and as `pipeline.correlated`.
    """
    if kind not in KINDS:
        raise ValueError(f"kind {kind!r}: known are {', '.join(KINDS)}")
    rows = decoder_rows(profile, a, kind), decoder_rows(profile, b, kind)
    choices = (sae_features if kind == SAE else mlp_units)(profile, a, b, kind, k, exchanged)
    return [_matched(choice, rows, how, 0 if kind == OUTPUTS else minimum) for choice in choices]


def _matched(choice: Choice, rows: tuple[np.ndarray, np.ndarray], how: str, minimum: int) -> Matched:
    found = choice.found
    pairs = MATCHINGS[how](found)
    pairs = pairs.subset(np.minimum(found.a.count[pairs.a], found.b.count[pairs.b]) >= minimum)
    of_pairs, content = (np.array(rows[0][pairs.a]), np.array(rows[1][pairs.b])), choice.content[pairs.a]
    return Matched(
        choice.arm, choice.chosen_on, pairs, choice.held_out(pairs), of_pairs, content, int(found.a.live.sum())
    )


def decoder_rows(profile: Profile, name: str, kind: str) -> np.ndarray:
    """Rows (units, d) of the layer that a dictionary reads: decoder rows of SAE features, output weights of neurons.

    Of output dimensions the incoming weights from all neurons, (d, d_mlp), as published.
    """
    if kind == SAE:
        return pipeline.features(profile, name).decoder
    model, block = place(profile, name)
    rows = output_weights(pipeline.model(profile, model), block).array("rows")
    return rows if kind == NEURONS else rows.T


def mlp_units(profile: Profile, a: str, b: str, kind: str, k: int, exchanged: int | None) -> Iterator[Choice]:
    """The neurons or the output dimensions of the layers that two dictionaries read; one pass serves both kinds."""
    one, two = (pipeline.reader(profile, name) for name in (a, b))
    (model, block), (_, other) = (place(profile, name) for name in (a, b))
    hooks = {x: (f"blocks.{block}.{hook}", f"blocks.{other}.{hook}") for x, hook in HOOKS.items()}
    seeds = [None] if exchanged is None else [None, exchanged]
    if pipeline.one_tokenizer(profile):
        readings = [one.rows if seed is None else pipeline.exchanged_rows(profile, model, seed) for seed in seeds]
        sites = activations.sites(one.rows, one.skip)
        made = crossed.crossed(list(hooks.values()), one.model, two.model, readings, sites, one.skip)
    else:
        where = [x for seed in seeds if (x := pipeline.positions(profile, seed))]
        read_a, read_b = (across.read(profile, name, seeds) for name in (a, b))
        made = across.correlated(list(hooks.values()), one.model, two.model, read_a, read_b, where, one.skip)
    stored = made[hooks[kind]]
    for number, arm in enumerate(ARMS[: len(seeds)]):
        for place_of, split in enumerate(SPLITS):
            r, share = stored.array("r")[1 - place_of, number], stored.array("a-share")[place_of]
            content = (share > replicates.CONTENT) | np.isnan(share).all()
            yield Choice(arm, split, crossed.correlation(stored, number, split, k), _looked_up(r), content)


def _looked_up(r: Floats) -> Callable[[Pairs], Floats]:
    return lambda pairs: np.asarray(r[pairs.a, pairs.b])


def sae_features(profile: Profile, a: str, b: str, kind: str, k: int, exchanged: int | None) -> Iterator[Choice]:
    """The features of two dictionaries; `kind` is theirs."""
    if exchanged is not None:
        own = replicates.sides(profile, (a, b))
        yield from _in_both_arms(own[0], own[1], k)
        return
    one, two = (pipeline.features(profile, name) for name in (a, b))
    for split in SPLITS:
        both = pipeline.correlated(one, two, k, swapped=split == SPLITS[1])
        yield Choice(ARMS[0], split, both.found, both.held_out, np.ones(one.codes.shape[1], bool))


def _in_both_arms(one: replicates.Side, two: replicates.Side, k: int) -> Iterator[Choice]:
    for arm, way in zip(ARMS, (1, -1), strict=True):
        codes = {x: (sparse.vstack(one.blocks[x]), sparse.vstack(two.blocks[x][::way])) for x in SPLITS}
        for split, other in (SPLITS, SPLITS[::-1]):
            found = correlate.features(*codes[split], k=min(k, *(x.shape[1] for x in codes[split])))
            content = np.zeros(len(found.a.live), bool)
            content[replicates.content_features(one.blocks[split], one.classes[split], 1)] = True
            yield Choice(arm, split, found, _judged(codes[other]), content)


def _judged(codes: tuple[Any, Any]) -> Callable[[Pairs], Floats]:
    return lambda pairs: pairs.held_out(*codes)


def neurons_on(profile: Profile, a: str, b: str, rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    """MLP neurons of the layers that two dictionaries read, on the first matching rows; (tokens, neurons) of either.

    The tokens are the first ones of the split at which features are compared.
    """
    readers = [pipeline.reader(profile, name) for name in (a, b)]
    hooks = [f"blocks.{place(profile, name)[1]}.{HOOKS[NEURONS]}" for name in (a, b)]
    chosen, where = batching.rows_in(readers[0].rows, "matching")[:rows], pipeline.positions(profile)
    found = []
    for name, side, hook in zip((a, b), readers, hooks, strict=True):
        with torch.no_grad():
            bridge = models.load(side.model)
            if where is None:
                (window,) = models.stream(bridge, readers[0].rows, chosen, [hook], side.skip)
            else:
                window = across.first(bridge, across.read(profile, name, [None]), where, hook, side.skip, rows)
        found.append(window[hook])
    return found[0], found[1]


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
