"""A layer's own units and untrained directions, which features are compared with."""

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment
from scipy.stats import ortho_group
from sklearn.decomposition import PCA

from sae_utils import correlate, matching, pipeline, significance
from sae_utils.engine.core.spec import ProfileError
from sae_utils.engine.kernels import sides
from sae_utils.engine.lms import models
from sae_utils.engine.saes import activations
from sae_utils.studies.llm_vs_sae import units
from sae_utils.studies.llm_vs_sae.units import EITHER, KINDS, NEURONS, OUTPUTS, PRINCIPAL, RANDOM, RESIDUAL, SAE

NAMES = ("one_layer", "two_layer")
BASES = (EITHER, RESIDUAL, RANDOM, PRINCIPAL)


def dense(features) -> np.ndarray:
    codes = features.codes
    return np.asarray(codes.toarray() if hasattr(codes, "toarray") else codes, np.float64)


def neurons_at(source, sites, hook: str) -> np.ndarray:
    return activations.neurons([hook], source.model, source.rows, sites, source.skip)[hook].array("values")


def correlations(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(features_a, features_b), NaN where either does not vary."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.corrcoef(x.T, y.T)[: x.shape[1], x.shape[1] :]


def prepared(x: np.ndarray) -> sides.Side:
    return sides.prepare(x, np.arange(len(x)), "of the test")


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
    neurons, outputs = (units.features(world, name, kind) for kind in (NEURONS, OUTPUTS))
    source = pipeline.reader(world, name)
    bias = models.load(source.model).blocks[models.block_of(source.hook)].mlp.b_out.detach().numpy()
    assert neurons.codes.shape[1] == len(neurons.decoder) == 32 and outputs.codes.shape[1] == len(outputs.decoder) == 16
    np.testing.assert_allclose(dense(neurons) @ neurons.decoder + bias, dense(outputs), atol=5e-3)
    read = neurons_at(source, neurons.sites, source.hook)
    np.testing.assert_array_equal(outputs.codes, read)


def test_rows_of_output_dimensions_are_their_incoming_weights(world):
    neurons, outputs = (units.features(world, "two_layer", kind) for kind in (NEURONS, OUTPUTS))
    np.testing.assert_array_equal(outputs.decoder, neurons.decoder.T)


def test_sae_features_are_those_of_the_pipeline(world):
    found, expected = units.features(world, "one_layer", SAE), pipeline.features(world, "one_layer")
    assert found.kept.key == expected.kept.key
    np.testing.assert_array_equal(found.decoder, expected.decoder)


def test_all_kinds_look_at_the_same_tokens(world):
    assert len({units.features(world, "one_layer", kind).sites.key for kind in KINDS}) == 1


@pytest.mark.parametrize("kind", BASES)
def test_rows_of_a_basis_are_orthonormal_and_its_codes_are_seen_from_them(world, kind):
    found = units.features(world, "two_layer", kind)
    source = pipeline.reader(world, "two_layer")
    hook = "blocks.1.hook_resid_post" if kind == RESIDUAL else source.hook
    x = neurons_at(source, found.sites, hook)
    np.testing.assert_allclose(found.decoder @ found.decoder.T, np.eye(16), atol=1e-5)
    np.testing.assert_allclose(dense(found), x.astype(np.float64) @ found.decoder.T, atol=2e-3 * np.abs(x).max())


def test_why_orthonormal_rows_are_not_scored():
    """The rows of a standard basis are equally far from each other: no pairing is better than another."""
    rows = np.eye(16)[np.random.default_rng(0).permutation(16)]
    found = significance.test(np.eye(16), rows, ["rsa_cosine_pearson"], m=9)["rsa_cosine_pearson"]
    assert found.undefined and "equally dissimilar" in found.note


def test_principal_components_are_fitted_on_the_matching_documents_alone(world):
    found = units.features(world, "two_layer", PRINCIPAL)
    source = pipeline.reader(world, "two_layer")
    x = neurons_at(source, found.sites, source.hook)
    x = x.astype(np.float64)
    on_matching = found.sites.array("split") == 1
    cosines = np.abs((PCA().fit(x[on_matching]).components_ * found.decoder).sum(1))
    np.testing.assert_allclose(cosines, 1, atol=1e-4)
    assert np.abs((PCA().fit(x).components_ * found.decoder).sum(1)).min() < 1 - 1e-4
    covariance = np.cov(dense(found)[on_matching].T)
    assert np.abs(covariance - np.diag(np.diag(covariance))).max() < 1e-2 * covariance.max()
    assert (np.diff(np.diag(covariance)) < 1e-3 * covariance.max()).all(), "the largest variance first"


def test_what_does_not_exist_is_named(world):
    with pytest.raises(ValueError, match="kind 'neuron': known are SAE features, MLP neurons"):
        units.features(world, "one_layer", "neuron")


def test_the_layer_that_a_dictionary_reads(world):
    assert units.place(world, "two_layer") == ("two_layer", 1)
    with pytest.raises(ProfileError, match=r"params/world\.yaml: no dictionary is called 'two_layers'; .*two_layer"):
        units.place(world, "two_layers")


# --- pairs


@pytest.mark.parametrize("kind", KINDS)
def test_pairs_are_those_of_all_correlations(world, kind):
    both = units.pair(world, *NAMES, kind, 8)
    found = units.compare(both, kind)
    x, y = (dense(units.features(world, name, kind)) for name in NAMES)
    chosen, judged = both.on_matching, both.on_held_out
    r, out = correlations(x[chosen], y[chosen]), correlations(x[judged], y[judged])
    a, b = found.pairs.a, found.pairs.b
    assert set(zip(a.tolist(), b.tolist(), strict=True)) == mutual(np.abs(r) if KINDS[kind].either_sign else r)
    sign = np.sign(r[a, b]) if KINDS[kind].either_sign else 1
    np.testing.assert_allclose(found.pairs.r, r[a, b] * sign, atol=1e-4)
    np.testing.assert_allclose(found.held_out, out[a, b] * sign, atol=1e-4)
    assert found.live == tuple((np.std(side[chosen], axis=0) > 0).sum() for side in (x, y))
    assert found.retention == found.n / found.live[0]
    assert found.d == ", ".join(str(units.features(world, name, kind).decoder.shape[1]) for name in NAMES)
    assert found.kept(0.5) == np.mean(found.held_out >= 0.5) * found.retention
    for rows, name, places in zip(found.rows, NAMES, (a, b), strict=True):
        np.testing.assert_array_equal(rows, units.features(world, name, kind).decoder[places])


@pytest.mark.parametrize("kind", [NEURONS, RANDOM])
def test_one_to_one_pairs_have_the_largest_sum(world, kind):
    both = units.pair(world, *NAMES, kind, 8)
    found = units.compare(both, kind, one_to_one="optimal")
    r = both.found.block()
    assert found.pairs.r.sum() == pytest.approx(r[linear_sum_assignment(-r)].sum(), abs=1e-4)
    assert found.n == min(found.live)


def test_a_direction_and_its_opposite_are_one():
    """Pairs by |r| do not change where columns are turned round; pairs by r do."""
    generator = np.random.default_rng(0)
    shared = generator.normal(size=(500, 6))
    x, y = (shared @ ortho_group.rvs(6, random_state=s) + 0.3 * generator.normal(size=(500, 6)) for s in (1, 2))
    turned = y * np.array([1, -1, 1, -1, -1, 1])
    one, other = (units.either_sign(prepared(x), prepared(side), 3) for side in (y, turned))
    for first, second in zip(one.a_to_b[:2] + one.b_to_a[:2], other.a_to_b[:2] + other.b_to_a[:2], strict=True):
        np.testing.assert_allclose(first, second, atol=1e-6)
    for match in (matching.mutual, matching.greedy, matching.optimal):
        assert match(one).b.tolist() == match(other).b.tolist()
    best = matching.mutual(one)
    assert set(zip(best.a, best.b, strict=True)) == mutual(np.abs(correlations(x, y)))
    signed = (matching.optimal(correlate.features(x, side, k=3)).b.tolist() for side in (y, turned))
    assert next(signed) != next(signed)


def test_correlations_that_are_held_are_the_same():
    generator = np.random.default_rng(0)
    found = correlate.features(generator.normal(size=(200, 5)), generator.normal(size=(200, 7)), k=3)
    held = units.in_memory(found)
    for rows, columns in ((None, None), ([4, 1], None), (None, [6, 0, 2]), ([3, 0], [1, 5])):
        np.testing.assert_allclose(held.block(rows, columns), found.block(rows, columns), atol=1e-6)
    assert matching.optimal(held).b.tolist() == matching.optimal(found).b.tolist()


def test_dead_units_have_no_partner_of_either_sign():
    x = np.random.default_rng(0).normal(size=(100, 4))
    x[:, 2] = 3
    found = units.either_sign(prepared(x), prepared(x), 4)
    assert (found.a_to_b.index[2] == -1).all() and np.isnan(found.a_to_b.r[2]).all()
    assert matching.mutual(found).a.tolist() == [0, 1, 3]


def test_how_many_mutual_pairs_chance_gives(world):
    found = units.compare(units.pair(world, *NAMES, NEURONS, 8), NEURONS)
    live_a, live_b = found.live
    generator = np.random.default_rng(0)
    drawn = [len(mutual(generator.random((live_a, live_b)))) / live_a for _ in range(400)]
    assert np.mean(drawn) == pytest.approx(found.retention_by_chance, abs=4 * np.std(drawn) / 20)
