"""Neurons by their index: found where two models have the same units in the same order, and nowhere else."""

import numpy as np
import pytest

from sae_utils import correlate, pipeline
from sae_utils.engine.core.spec import ProfileError
from sae_utils.engine.kernels import sides
from sae_utils.engine.lms import toys
from sae_utils.engine.text import corpora
from sae_utils.studies.llm_vs_sae import indexed

UNITS = 24


class Sites:
    """As `activations.sites`, of documents that are given to two splits in turn."""

    key = "sites"

    def array(self, name):
        assert name == "split"
        return np.repeat([corpora.SPLITS.index("matching"), corpora.SPLITS.index("held_out")] * 5, 60)


def planted(order: np.ndarray, noise: float, seed: int = 0) -> pipeline.Correlated:
    """Unit i of A is unit `order[i]` of B, but for noise."""
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(600, UNITS))
    b = np.empty_like(a)
    b[:, order] = a + noise * rng.normal(size=a.shape)
    split, chosen = Sites().array("split"), corpora.SPLITS.index("matching")
    both = [pipeline.Features(x.astype(np.float32), np.eye(UNITS), Sites(), None) for x in (a, b)]
    found = correlate.features(both[0].codes, both[1].codes, k=4, rows=split == chosen)
    judged = tuple(sides.prepare(x.codes, np.flatnonzero(split != chosen), "of the test") for x in both)
    return pipeline.Correlated(*both, found, split == chosen, split != chosen, judged)


def test_units_that_keep_their_index_are_all_found_by_it():
    found = indexed.compare(planted(np.arange(UNITS), noise=0.5), m=199, seed=0)
    assert found.own == found.mutual_own == 1 and len(found.mutual[0]) == len(found.unit) == UNITS
    assert found.shuffled.p == 1 / 200 and found.shuffled.observed == pytest.approx(1 / np.sqrt(1.25), abs=0.05)
    assert abs(found.shuffled.null_mean - found.shuffled.observed / UNITS) < 0.02  # one of the units is its own
    np.testing.assert_allclose(found.r, found.mutual_r)


def test_units_in_another_order_are_found_by_correlation_alone():
    order = np.roll(np.arange(UNITS), 1)
    found = indexed.compare(planted(order, noise=0.5), m=199, seed=0)
    assert found.own == found.mutual_own == 0 and found.shuffled.p > 0.05 and abs(found.r.mean()) < 0.1
    np.testing.assert_array_equal(found.mutual[1], order[found.mutual[0]])
    assert found.mutual_r.mean() > 0.8


def test_half_of_the_units_in_their_place():
    order = np.concatenate([np.arange(UNITS // 2), np.roll(np.arange(UNITS // 2, UNITS), 1)])
    found = indexed.compare(planted(order, noise=0.1), m=199, seed=0)
    assert found.own == found.mutual_own == 0.5 and found.shuffled.p == 1 / 200


def test_the_mean_is_that_of_the_held_out_documents():
    both = planted(np.arange(UNITS), noise=1.0)
    x, y = (side.codes[both.on_held_out] for side in (both.a, both.b))
    expected = [np.corrcoef(x[:, i], y[:, i])[0, 1] for i in range(UNITS)]
    np.testing.assert_allclose(indexed.compare(both, m=9, seed=0).r, expected, atol=1e-5)


def test_a_dead_unit_is_left_out():
    both = planted(np.arange(UNITS), noise=0.5)
    both.a.codes[:, 3] = 0
    found = correlate.features(both.a.codes, both.b.codes, k=4, rows=both.on_matching)
    assert 3 not in indexed.compare(both._replace(found=found), m=9, seed=0).unit
    for dead in range(1, UNITS):
        both.a.codes[:, dead] = 0
    found = correlate.features(both.a.codes, both.b.codes, k=4, rows=both.on_matching)
    with pytest.raises(ValueError, match="1 units vary in both models"):
        indexed.compare(both._replace(found=found), m=9, seed=0)


# --- of a profile


def test_a_model_beside_itself_has_every_unit_in_its_place(world):
    both = indexed.pair(world, "two_layer", "two_layer", 8)
    found = indexed.compare(both, m=99, seed=0)
    assert found.own == found.mutual_own == 1 and found.r == pytest.approx(1, abs=1e-3) and found.shuffled.p == 0.01
    np.testing.assert_array_equal(both.a.decoder, both.b.decoder)


def test_two_states_of_one_training_share_units(world):
    """The first checkpoint is the model as it began: the first step has no learning rate yet."""
    step = pipeline.model(world, "one_layer").meta["checkpoints"][0]
    start = toys.ToyCheckpoint(kind="checkpoint", of="one_layer", step=step)
    both = indexed.pair(world._replace(models=world.models | {"start": start}), "one_layer", "start", 8)
    assert both.b.codes.shape == both.a.codes.shape and not np.allclose(both.b.decoder, both.a.decoder)
    found = indexed.compare(both, m=199, seed=0)
    assert found.shuffled.p == 1 / 200 and found.own > 3 / 32


def test_another_shape_is_refused(world):
    odd = world.models["two_layer"].model_copy(update={"d_mlp": 48, "layers": 1})
    profile = world._replace(models=world.models | {"odd": odd})
    with pytest.raises(
        ProfileError, match=r"models\.odd: block 0 of one_layer and of odd have 32 neurons of width 16 and 48"
    ):
        indexed.pair(profile, "one_layer", "odd", 8)


def test_a_block_that_is_not_there_is_refused(world):
    with pytest.raises(ProfileError, match=r"models\.one_layer: two_layer reads block 1, and it has 1 blocks"):
        indexed.pair(world, "two_layer", "one_layer", 8)


def test_another_tokenizer_is_refused(world):
    other = world.models["one_layer"].model_copy(update={"tokenizer": "bpe", "vocabulary": 400})
    with pytest.raises(ProfileError, match=r"models\.bpe: another tokenizer than that of one_layer"):
        indexed.pair(world._replace(models=world.models | {"bpe": other}), "one_layer", "bpe", 8)


def test_layers_are_checked_before_anything_runs(world):
    listed = {"one_layer": ["one_layer", "two_layer"], "two_layer": []}
    assert indexed.layers(world, "n", listed) == [("one_layer", "one_layer"), ("one_layer", "two_layer")]
    assert indexed.layers(world, "n", {}) == []
    with pytest.raises(ProfileError, match=r"no dictionary is called 'one_layers'; .*one_layer"):
        indexed.layers(world, "n", {"one_layers": ["one_layer"]})
    with pytest.raises(ProfileError, match=r"n\.by_index\.one_layer: no model is called 'two'; .*two_layer"):
        indexed.layers(world, "n", {"one_layer": ["two"]})
    with pytest.raises(ProfileError, match=r"n\.by_index\.one_layer: expected a list of models, found 'two_layer'"):
        indexed.layers(world, "n", {"one_layer": "two_layer"})
