"""Neurons by their index: found where two models have the same units in the same order, and nowhere else."""

import numpy as np
import pytest
import torch

from sae_utils import pipeline
from sae_utils.engine.core.spec import ProfileError
from sae_utils.engine.lms import toys
from sae_utils.studies.llm_vs_sae import crossed, indexed

UNITS = 24


class Planted:
    """As the artefact of `crossed`: unit i of A is unit `order[i]` of B, but for noise; of two splits of one size."""

    def __init__(self, order: np.ndarray, noise: float, dead: int = 0) -> None:
        rng = np.random.default_rng(0)
        self.a = rng.normal(size=(600, UNITS)).astype(np.float32)
        self.b = np.empty_like(self.a)
        self.b[:, order] = self.a + noise * rng.normal(size=self.a.shape)
        self.a[:, :dead] = 0
        self.sums = []
        for x, y in zip(np.split(self.a, 2), np.split(self.b, 2), strict=True):
            self.sums.append(crossed.Sums(*(torch.from_numpy(side) for side in (x, y))))
            self.sums[-1].add(*([torch.from_numpy(side)] for side in (x, y)))

    def array(self, name: str) -> np.ndarray:
        if name == "r":
            return np.stack([x.r() for x in self.sums])
        side, field = name.split("-")
        return np.stack([getattr(getattr(x, side).moments(), field) for x in self.sums])


def test_units_that_keep_their_index_are_all_found_by_it():
    found = indexed.compare(Planted(np.arange(UNITS), noise=0.5), m=199, seed=0)
    assert found.own == found.mutual_own == 1 and len(found.mutual_r) == len(found.unit) == UNITS
    assert found.shuffled.p == 1 / 200 and found.shuffled.observed == pytest.approx(1 / np.sqrt(1.25), abs=0.05)
    assert abs(found.shuffled.null_mean - found.shuffled.observed / UNITS) < 0.02  # one of the units is its own
    np.testing.assert_allclose(found.r, found.mutual_r)


def test_units_in_another_order_are_found_by_correlation_alone():
    found = indexed.compare(Planted(np.roll(np.arange(UNITS), 1), noise=0.5), m=199, seed=0)
    assert found.own == found.mutual_own == 0 and found.shuffled.p > 0.05 and abs(found.r.mean()) < 0.1
    assert len(found.mutual_r) == UNITS and found.mutual_r.mean() > 0.8


def test_half_of_the_units_in_their_place():
    order = np.concatenate([np.arange(UNITS // 2), np.roll(np.arange(UNITS // 2, UNITS), 1)])
    found = indexed.compare(Planted(order, noise=0.1), m=199, seed=0)
    assert found.own == found.mutual_own == 0.5 and found.shuffled.p == 1 / 200


def test_the_mean_is_that_of_the_held_out_documents():
    both = Planted(np.arange(UNITS), noise=1.0)
    expected = [np.corrcoef(both.a[300:, i], both.b[300:, i])[0, 1] for i in range(UNITS)]
    np.testing.assert_allclose(indexed.compare(both, m=9, seed=0).r, expected, atol=1e-5)


def test_a_dead_unit_is_left_out():
    assert indexed.compare(Planted(np.arange(UNITS), noise=0.5, dead=4), m=9, seed=0).unit.tolist() == [*range(4, 24)]
    with pytest.raises(ValueError, match="1 neurons vary in both models"):
        indexed.compare(Planted(np.arange(UNITS), noise=0.5, dead=UNITS - 1), m=9, seed=0)


# --- of a profile


def test_a_model_beside_itself_has_every_unit_in_its_place(world):
    found = indexed.compare(indexed.correlated(world, "two_layer", "two_layer"), m=99, seed=0)
    assert found.own == found.mutual_own == 1 and found.r == pytest.approx(1, abs=1e-3) and found.shuffled.p == 0.01


def test_two_states_of_one_training_share_units(world):
    """The first checkpoint is the model as it began: the first step has no learning rate yet."""
    step = pipeline.model(world, "one_layer").meta["checkpoints"][0]
    start = toys.ToyCheckpoint(kind="checkpoint", of="one_layer", step=step)
    profile = world._replace(models=world.models | {"start": start})
    found = indexed.compare(indexed.correlated(profile, "one_layer", "start"), m=199, seed=0)
    assert found.shuffled.p == 1 / 200 and 3 / 32 <= found.own < 1


def test_another_shape_is_refused(world):
    odd = world.models["two_layer"].model_copy(update={"d_mlp": 48, "layers": 1})
    profile = world._replace(models=world.models | {"odd": odd})
    with pytest.raises(
        ProfileError, match=r"models\.odd: block 0 of one_layer and of odd have 32 neurons of width 16 and 48"
    ):
        indexed.correlated(profile, "one_layer", "odd")


def test_a_block_that_is_not_there_is_refused(world):
    with pytest.raises(ProfileError, match=r"models\.one_layer: two_layer reads block 1, and it has 1 blocks"):
        indexed.correlated(world, "two_layer", "one_layer")


def test_another_tokenizer_is_refused(world):
    other = world.models["one_layer"].model_copy(update={"tokenizer": "bpe", "vocabulary": 400})
    with pytest.raises(ProfileError, match=r"models\.bpe: another tokenizer than that of one_layer"):
        indexed.correlated(world._replace(models=world.models | {"bpe": other}), "one_layer", "bpe")
