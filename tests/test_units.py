"""Units of a layer and their pairs are those of all correlations, chosen on one split and judged on the other."""

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from sae_utils import pipeline
from sae_utils.engine.core.spec import ProfileError
from sae_utils.engine.lms import models
from sae_utils.engine.saes import activations
from sae_utils.engine.text import corpora
from sae_utils.studies.llm_vs_sae import units
from sae_utils.studies.llm_vs_sae.units import KINDS, NEURONS, OUTPUTS, SAE, SPLITS

NAMES = ("one_layer", "two_layer")


def seen(world, name: str, kind: str) -> np.ndarray:
    """The activations of the units at all sites: (tokens, units)."""
    if kind == SAE:
        return pipeline.features(world, name).codes.toarray().astype(np.float64)
    x = pipeline.reader(world, name)
    hook = f"blocks.{models.block_of(x.hook)}.{units.HOOKS[kind]}"
    with torch.no_grad():
        stream = models.stream(models.load(x.model), x.rows, activations.judged(x.rows), [hook], x.skip)
        return torch.cat([window[hook] for window in stream]).double().numpy()


def in_split(world, split: str) -> np.ndarray:
    x = pipeline.reader(world, NAMES[0])
    return activations.sites(x.rows, x.skip).array("split") == corpora.SPLITS.index(split)


def correlations(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(units_a, units_b), NaN where either does not vary."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.corrcoef(x.T, y.T)[: x.shape[1], x.shape[1] :]


def mutual(r: np.ndarray) -> set[tuple[int, int]]:
    filled = np.nan_to_num(r, nan=-2)
    return {
        (i, j)
        for i, j in enumerate(filled.argmax(1).tolist())
        if filled[i, j] > -2 and filled[:, j].argmax() == i  # the first of equals, as matching does
    }


# --- what the units are


@pytest.mark.parametrize("name", NAMES)
def test_neurons_write_the_output_of_their_layer(world, name):
    """Activations times output weights plus bias are the activations that the SAE reads."""
    neurons, outputs = (seen(world, name, kind) for kind in (NEURONS, OUTPUTS))
    source, rows = pipeline.reader(world, name), units.decoder_rows(world, name, NEURONS)
    bias = models.load(source.model).blocks[models.block_of(source.hook)].mlp.b_out.detach().numpy()
    assert neurons.shape[1] == len(rows) == 32 and outputs.shape[1] == 16
    np.testing.assert_allclose(neurons @ rows + bias, outputs, atol=1e-4)


def test_rows_of_output_dimensions_are_their_incoming_weights(world):
    neurons, outputs = (units.decoder_rows(world, "two_layer", kind) for kind in (NEURONS, OUTPUTS))
    np.testing.assert_array_equal(outputs, neurons.T)


def test_the_layer_that_a_dictionary_reads(world):
    assert units.place(world, "two_layer") == ("two_layer", 1)
    with pytest.raises(ProfileError, match=r"params/world\.yaml: no dictionary is called 'two_layers'; .*two_layer"):
        units.place(world, "two_layers")


def test_what_does_not_exist_is_named(world):
    with pytest.raises(ValueError, match="kind 'neuron': known are SAE features, MLP neurons, MLP outputs"):
        units.matched(world, *NAMES, "neuron", 8)


# --- pairs


@pytest.mark.parametrize("how", units.MATCHINGS)
@pytest.mark.parametrize("kind", KINDS)
def test_pairs_are_those_of_all_correlations(world, kind, how):
    sides = [seen(world, name, kind) for name in NAMES]
    found = units.matched(world, *NAMES, kind, 8, how=how)
    assert [(x.arm, x.chosen_on) for x in found] == [("true", split) for split in SPLITS]
    for x, (split, other) in zip(found, (SPLITS, SPLITS[::-1]), strict=True):
        r, judged = (correlations(*(side[in_split(world, of)] for side in sides)) for of in (split, other))
        a, b = x.pairs.a, x.pairs.b
        if how == "mutual":
            assert set(zip(a.tolist(), b.tolist(), strict=True)) == mutual(r)
        else:
            live = np.ix_(*(np.flatnonzero(~np.isnan(r).all(axis=axis)) for axis in (1, 0)))
            best = linear_sum_assignment(-r[live])
            assert x.pairs.r.sum() == pytest.approx(r[live][best].sum(), abs=1e-3) and x.n == min(r[live].shape)
        np.testing.assert_allclose(x.pairs.r, r[a, b], atol=1e-4)
        np.testing.assert_allclose(x.held_out, judged[a, b], atol=1e-4)
        assert x.live == (~np.isnan(r).all(axis=1)).sum()
        assert x.kept(0.5) == np.mean(x.held_out >= 0.5) * x.n / x.live
        for rows, name, places in zip(x.rows, NAMES, (a, b), strict=True):
            np.testing.assert_array_equal(rows, units.decoder_rows(world, name, kind)[places])


def test_units_that_hardly_fire_are_in_no_pair(world):
    at = in_split(world, "matching")
    counts = [(seen(world, name, SAE)[at] > 0).sum(0) for name in NAMES]
    every = units.matched(world, *NAMES, SAE, 8)[0]
    fired = np.minimum(counts[0][every.pairs.a], counts[1][every.pairs.b])
    often, fires = units.matched(world, *NAMES, SAE, 8, minimum=int(fired.max()))[0], fired == fired.max()
    assert 0 < often.n < every.n
    np.testing.assert_array_equal(often.pairs.a, every.pairs.a[fires])
