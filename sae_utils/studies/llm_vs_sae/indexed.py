"""Neurons of two models of one shape, paired by index, which trainings from the same start may preserve.

In: dictionaries that name the layers, other models of the same shape. Out: the correlation of units of equal index,
against a shuffled index, beside the units that correlation pairs.
Never: SAE features, whose index is arbitrary; a similarity of rows.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sae_utils import correlate, matching, nulls, pipeline, significance
from sae_utils.engine.core.spec import ProfileError, check_defined
from sae_utils.engine.params import Profile
from sae_utils.engine.saes import activations
from sae_utils.pipeline import Correlated, Features
from sae_utils.significance import Result
from sae_utils.studies.llm_vs_sae import units
from sae_utils.studies.models_and_dictionaries import description


class Indexed(NamedTuple):
    """Units of one layer in two models, paired by index and by correlation; both are judged on held-out documents."""

    unit: NDArray[np.int64]  # (units,) indices of the units that vary in both models on both splits
    r: NDArray[np.float32]  # (units,) their correlation
    shuffled: Result  # the mean of `r` against its mean with the units of B shuffled
    own: float  # share of `unit` whose best partner on the matching documents has the same index
    # (pairs,) of A and of B: each other's best on the matching documents
    mutual: tuple[NDArray[np.int32], NDArray[np.int32]]
    mutual_r: NDArray[np.float32]  # (pairs,) their correlation
    mutual_own: float  # share of the mutual pairs that have equal indices; NaN without pairs


def layers(profile: Profile, notebook: str, listed: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Every listed layer with each of its models: (dictionary, model).

    `listed`, the parameter `by_index` of the `notebook`: name of a dictionary, which gives the layer -> names of other
    models. Raises ProfileError for an undefined name, or no list of models.
    """
    where, found = f"params/{profile.name}.yaml: {notebook}.by_index", []
    for name, others in listed.items():
        units.place(profile, name)
        if not isinstance(others, list):
            raise ProfileError(f"{where}.{name}: expected a list of models, found {others!r}")
        for other in others:
            check_defined("model", other, profile.models, f"{where}.{name}")
        found += [(name, other) for other in others]
    return found


def pair(profile: Profile, name: str, other: str, k: int) -> Correlated:
    """Neurons of the layer that dictionary `name` reads, and those of that layer in the model `other`, correlated.

    Raises ProfileError if the models differ in their tokenizer, or in the shape of the layer.
    """
    _, block = units.place(profile, name)
    model, rows, skip = pipeline.model(profile, other), pipeline.rows(profile, other), profile.common.skip
    sites, a = activations.sites(rows, skip), units.features(profile, name, units.NEURONS)
    key = f"params/{profile.name}.yaml: models.{other}"
    if sites.key != a.sites.key:
        raise ProfileError(f"{key}: another tokenizer than that of {name}: an index needs two models of one shape")
    if block >= (deep := description.size(profile, other).layers):
        raise ProfileError(f"{key}: {name} reads block {block}, and it has {deep} blocks: an index needs one shape")
    weights = units.output_weights(model, block).array("rows")
    if weights.shape != a.decoder.shape:
        shapes = " and ".join(f"{len(rows)} neurons of width {rows.shape[1]}" for rows in (a.decoder, weights))
        raise ProfileError(f"{key}: block {block} of {name} and of {other} have {shapes}: an index needs one shape")
    hook = f"blocks.{block}.{units.KINDS[units.NEURONS].activations}"
    kept = activations.neurons([hook], model, rows, sites, skip)[hook]
    return pipeline.correlated(a, Features(activations.matrix(kept), weights, sites, kept), k)


def compare(both: Correlated, *, m: int, seed: int | Sequence[int]) -> Indexed:
    """Units paired by index, against `m` shuffles of the units of B, beside the units that correlation pairs.

    Raises ValueError for fewer than 2 units that vary in both models.
    """
    r = correlate.blocks(*both.judged)()  # (neurons, neurons)
    unit = np.flatnonzero(both.found.a.live & both.found.b.live & np.isfinite(np.diag(r)))
    if len(unit) < 2:
        raise ValueError(f"{len(unit)} units vary in both models: an index needs some that do")
    r_unit, generator = r[np.ix_(unit, unit)], np.random.default_rng(seed)
    drawn = r_unit[np.arange(len(unit)), nulls.permutations(generator, m, len(unit))].mean(axis=1)
    own = np.diag(r_unit)
    mutual = matching.mutual(both.found)
    return Indexed(
        unit=unit,
        r=own,
        shuffled=significance.summarise(float(own.mean()), drawn, measure="mean r", null="shuffled index", n=len(unit)),
        own=float((both.found.a_to_b.index[unit, 0] == unit).mean()),
        mutual=(mutual.a, mutual.b),
        mutual_r=r[mutual.a, mutual.b],
        mutual_own=float((mutual.a == mutual.b).mean()) if len(mutual.a) else float("nan"),
    )
