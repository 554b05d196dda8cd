"""Joint dictionaries find what two models share where it is known, and refuse what does not fit together."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from sae_utils.studies.joint import dictionary, norms, training
from sae_utils.studies.joint.dictionary import ROUTES, Joint, Partition, Recipe
from sae_utils.studies.recovery import worlds

BOUNDS = norms.Bounds(exclusive=0.1, shared=0.3)
WORLD = {
    "features": 16,
    "shape": {"kind": "sphere"},
    "firing": {"active": 1.5, "magnitude": "constant"},
    "models": {"a": {"d": 16}, "b": {"d": 20}},
}


def recipe(**changes):
    values = {"kind": "crosscoder", "width": 32, "k": 3, "steps": 400, "batch": 128, "learning_rate": 0.01, "seed": 0}
    return Recipe(**(values | changes))


def sampled(shared, n=8000):
    found = worlds.world(WORLD | {"shared": shared}, "test").draw(0).sample(n, 1)
    return found["a"].x, found["b"].x


def live(made, x):
    return np.bincount(made.encode(x).indices, minlength=made.recipe.width) > 0


@pytest.fixture(scope="module")
def nothing():
    x = sampled(0.0)
    return x, training.fit(recipe(), x)


def test_on_identical_models_relative_norms_are_one_half():
    x = sampled(1.0)[0]
    made = training.fit(recipe(k=2), (x, x))
    relative = norms.relative(made)[live(made, (x, x))]
    assert len(relative) >= 12 and abs(relative - 0.5).max() < 0.1


def test_models_without_a_common_feature_have_exclusive_latents(nothing):
    x, made = nothing
    shares = norms.shares(norms.kinds(norms.relative(made)[live(made, x)], BOUNDS))
    assert shares[norms.ONLY_A] + shares[norms.ONLY_B] > 0.6 > 0.3 > shares[norms.SHARED]


def test_what_is_planted_is_explained_with_k_latents(nothing):
    x, made = nothing
    assert all(value < 0.15 for value in made.unexplained(x).values())
    assert made.encode(x).nnz / len(x[0]) == pytest.approx(3, rel=0.05)


def test_latents_of_a_part_read_and_write_their_model_alone():
    parts = Partition(shared=16, a=10, b=6)
    x = sampled(0.5, 2000)
    made = training.fit(recipe(partition=parts, steps=40), x)
    relative = norms.relative(made)
    only_a, only_b = (dictionary.latents(made.recipe, part) for part in "ab")
    assert (relative[only_a] == 0).all() and (relative[only_b] == 1).all()
    other = x[0], np.random.default_rng(0).normal(size=x[1].shape).astype(np.float32)
    a, b = (made.active(made.normalised(y), ROUTES["crosscoder"][0])[:, only_a] for y in (x, other))
    torch.testing.assert_close(a, b)


def test_a_universal_code_crosses_where_all_is_shared():
    x = sampled(1.0)
    made = training.fit(recipe(kind="universal", k=2, width=16, steps=600), x)
    assert all(value < 0.25 for route in (0, 1) for value in made.unexplained(x, route).values())
    apart = x[0], np.roll(x[1], 4000, axis=0)
    crossed = training.fit(recipe(kind="universal", k=2, width=16, steps=100), apart)
    assert crossed.unexplained(apart, 0)["b"] > 0.9


def test_the_loss_gives_partners_one_index_and_invents_none():
    def same(shared, weight):
        x = sampled(shared)
        made = training.fit(recipe(kind="separate", width=16, k=2, alike=weight), x)
        codes = [made.encode(x, route).toarray() for route in (0, 1)]
        on = np.flatnonzero(np.all([y.std(axis=0) > 0 for y in codes], axis=0))
        return np.mean([np.corrcoef(codes[0][:, i], codes[1][:, i])[0, 1] for i in on])

    assert same(1.0, 1.0) > same(1.0, 0.0) + 0.3
    assert abs(same(0.0, 1.0)) < 0.1


def test_selection_keeps_the_largest_scores_of_the_batch():
    active = torch.tensor([[3.0, 1.0, 0.0], [2.0, 5.0, 4.0]])
    score = active * torch.tensor([1.0, 0.1, 1.0])
    torch.testing.assert_close(dictionary.selected(active, score, 1), torch.tensor([[3.0, 0.0, 0.0], [0.0, 0.0, 4.0]]))
    torch.testing.assert_close(dictionary.selected(active, score, 3), active)


def test_both_models_have_one_total_variance_and_a_dictionary_does_not_depend_on_scales():
    x = sampled(0.5, 2000)
    scaled = 100 * x[0] + 3, x[1]
    made, again = (training.fit(recipe(steps=20), y) for y in (x, scaled))
    sizes = [part.square().sum(1).mean().item() for part in made.normalised(x)]
    assert sizes == pytest.approx([18, 18], rel=1e-3)
    np.testing.assert_allclose(norms.relative(made), norms.relative(again), atol=1e-3)


def test_the_learning_rate_rises_and_falls_to_a_tenth():
    paces = [training.pace(step, 100, 10) for step in range(100)]
    assert paces[0] == 0.1 and paces[9] == 1 and max(paces) <= 1 and paces[-1] == pytest.approx(0.1, abs=0.01)


def test_it_is_saved_whole(tmp_path, nothing):
    class Stored:
        meta = training.save(tmp_path, nothing[1])

        def array(self, name):
            return np.load(tmp_path / f"{name}.npy")

    again = training.load(Stored())
    assert (again.encode(nothing[0]) != nothing[1].encode(nothing[0])).nnz == 0


def test_the_same_seed_gives_the_same_bytes():
    x = sampled(0.5, 2000)
    one, two = (training.fit(recipe(steps=10), x).state_dict() for _ in range(2))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_other_numbers_of_tokens_are_refused():
    x = sampled(0.5, 2000)
    with pytest.raises(ValueError, match="2000 tokens of A, 1999 of B: give both models at the same tokens"):
        training.fit(recipe(), (x[0], x[1][1:]))
    with pytest.raises(ValueError, match="100 tokens for batches of 128"):
        training.fit(recipe(), (x[0][:100], x[1][:100]))


def test_an_unknown_part_is_named():
    with pytest.raises(ValueError, match="no part is called 'c': one of shared, a, b"):
        dictionary.latents(recipe(), "c")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"k": 33}, "33 latents are more than 32"),
        ({"partition": Partition(shared=1, a=1, b=1)}, "sum to the width, 32"),
        ({"alike": 1.0}, "two separate SAEs"),
    ],
)
def test_recipes_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ValidationError, match=message):
        recipe(**changes)


def test_bounds_that_overlap_are_refused():
    with pytest.raises(ValidationError, match="would be both"):
        norms.Bounds(exclusive=0.4, shared=0.3)


def test_kinds_by_relative_norm():
    found = norms.kinds(np.array([0.05, 0.2, 0.3, 0.5, 0.7, 0.95, np.nan]), BOUNDS)
    expected = [norms.ONLY_A, norms.BETWEEN, norms.SHARED, norms.SHARED, norms.SHARED, norms.ONLY_B, norms.BETWEEN]
    assert list(found) == expected


def test_latents_that_are_silent_are_revived():
    torch.manual_seed(0)
    made = Joint(recipe(), (16, 20))
    x = made.normalised([torch.randn(64, 16), torch.randn(64, 20)])
    dead = torch.zeros(32)
    dead[:4] = 1
    route = ROUTES["crosscoder"][0]
    plain, _, _ = made.loss(x, route, torch.zeros(32))
    with_dead, fired, active = made.loss(x, route, dead)
    assert with_dead > plain and fired.shape == (32,) and active.shape == (64, 32)
