"""Neurons of two models of one shape, paired by index, which trainings from the same start may preserve.

In: a dictionary that names the layer, another model of the same shape. Out: the correlation of neurons of equal index,
against a shuffled index, beside the neurons that correlation pairs.
Never: SAE features, whose index is arbitrary; a similarity of rows.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sae_utils import matching, nulls, pipeline, significance
from sae_utils.engine.core.spec import ProfileError
from sae_utils.engine.params import Profile
from sae_utils.engine.saes import activations
from sae_utils.significance import Result
from sae_utils.store import Artefact
from sae_utils.studies.llm_vs_sae import crossed, units
from sae_utils.studies.models_and_dictionaries import description


class Indexed(NamedTuple):
    """Neurons of one layer in two models, paired by index and by correlation; both are judged on held-out documents."""

    unit: NDArray[np.int64]  # (units,) indices of the neurons that vary in both models on both splits
    r: NDArray[np.float32]  # (units,) their correlation
    shuffled: Result  # the mean of `r` against its mean with the neurons of B shuffled
    own: float  # share of `unit` whose best partner on the matching documents has the same index
    mutual_r: NDArray[np.float32]  # (pairs,) correlation of those that are each other's best on the matching documents
    mutual_own: float  # share of these pairs that have equal indices; NaN without pairs


def correlated(profile: Profile, name: str, other: str) -> Artefact:
    """`crossed` neurons of the layer that dictionary `name` reads, and of that layer in the model `other`.

    Raises ProfileError if the models differ in their tokenizer, or in the shape of the layer.
    """
    _, block = units.place(profile, name)
    read, model = pipeline.reader(profile, name), pipeline.model(profile, other)
    key = f"params/{profile.name}.yaml: models.{other}"
    if pipeline.tokenizer(profile, other).key != pipeline.tokenizer_of(profile, name).key:
        raise ProfileError(f"{key}: another tokenizer than that of {name}: an index needs two models of one shape")
    if block >= (deep := description.size(profile, other).layers):
        raise ProfileError(f"{key}: {name} reads block {block}, and it has {deep} blocks: an index needs one shape")
    rows = [units.output_weights(x, block).array("rows") for x in (read.model, model)]
    if rows[0].shape != rows[1].shape:
        shapes = " and ".join(f"{len(x)} neurons of width {x.shape[1]}" for x in rows)
        raise ProfileError(f"{key}: block {block} of {name} and of {other} have {shapes}: an index needs one shape")
    hook = f"blocks.{block}.{units.HOOKS[units.NEURONS]}"
    sites = activations.sites(read.rows, read.skip)
    return crossed.crossed([(hook, hook)], read.model, model, [read.rows], sites, read.skip)[hook, hook]


def compare(stored: Artefact, *, m: int, seed: int | Sequence[int]) -> Indexed:
    """Neurons of `correlated` models paired by index, against `m` shuffles of those of B, beside the mutual pairs.

    Raises ValueError for fewer than 2 neurons that vary in both models.
    """
    found, r = crossed.correlation(stored, 0, "matching", 1), stored.array("r")[1, 0]  # (neurons, neurons), held out
    unit = np.flatnonzero(found.a.live & found.b.live & np.isfinite(np.diag(r)))
    if len(unit) < 2:
        raise ValueError(f"{len(unit)} neurons vary in both models: an index needs some that do")
    r_unit, generator = r[np.ix_(unit, unit)], np.random.default_rng(seed)
    drawn = r_unit[np.arange(len(unit)), nulls.permutations(generator, m, len(unit))].mean(axis=1)
    own, mutual = np.diag(r_unit), matching.mutual(found)
    return Indexed(
        unit=unit,
        r=own,
        shuffled=significance.summarise(float(own.mean()), drawn, measure="mean r", null="shuffled index", n=len(unit)),
        own=float((found.a_to_b.index[unit, 0] == unit).mean()),
        mutual_r=np.asarray(r[mutual.a, mutual.b]),
        mutual_own=float((mutual.a == mutual.b).mean()) if len(mutual) else float("nan"),
    )
