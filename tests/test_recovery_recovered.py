"""Scores against the truth are what brute force gives; a planted parent with two children is found to split."""

import numpy as np
import pytest
import torch

from sae_utils import arrays, matching
from sae_utils.studies.recovery import recovered, shapes
from sae_utils.studies.recovery.recovered import Dictionary


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def all_live(decoder) -> Dictionary:
    return Dictionary(decoder, np.ones(len(decoder), bool))


def test_a_dictionary_that_is_the_truth(rng):
    truth = arrays.unit(rng.normal(size=(40, 12)))
    found = recovered.found(truth, all_live(3 * truth[rng.permutation(40)]), 0.9, [0, 7])
    assert found[:3] == pytest.approx((1, 1, 1)) and 0.4 < found.chance < 0.8


def test_near_features_against_brute_force(rng):
    truth, decoder, live = rng.normal(size=(30, 8)), rng.normal(size=(50, 8)), rng.random(50) < 0.7
    close = arrays.unit(truth) @ arrays.unit(decoder[live]).T
    found = recovered.found(truth, Dictionary(decoder, live), 0.7, 0)
    expected = close.max(axis=1).mean(), close.max(axis=0).mean(), (close.max(axis=1) >= 0.7).mean()
    assert found[:3] == pytest.approx(expected, abs=1e-6)
    drawn = [recovered.found(truth, all_live(rng.normal(size=(50, 8))), 0.7, 0).mmcs for _ in range(100)]
    chance = [recovered.found(truth, all_live(decoder), 0.7, seed).chance for seed in range(100)]
    assert np.mean(drawn) == pytest.approx(np.mean(chance), abs=0.01)  # a random dictionary is at chance


def test_optimal_pairs_score_as_in_saelens(rng):
    from sae_lens.synthetic import mean_correlation_coefficient

    truth, decoder = rng.normal(size=(30, 64)), rng.normal(size=(50, 64))
    decoder[:30] += truth
    ours = matching.pw_mcc(recovered.cosines(truth, all_live(decoder)))
    theirs = mean_correlation_coefficient(torch.from_numpy(decoder), torch.from_numpy(truth))
    assert ours == pytest.approx(theirs, abs=1e-6)


def test_random_errors_of_a_given_size(rng):
    rows, cosine = rng.normal(size=(2000, 16)), rng.uniform(-1, 1, 2000)
    noisy = recovered.blurred(rows, cosine, rng)
    assert (arrays.unit(rows) * noisy).sum(axis=1) == pytest.approx(cosine)
    assert np.linalg.norm(noisy, axis=1) == pytest.approx(1)
    error = arrays.unit(noisy - cosine[:, None] * arrays.unit(rows))
    assert np.abs(error.mean(axis=0)).max() < 0.03


def test_relations_are_recovered_lost_or_blurred(rng):
    truth = shapes.Mixture(kind="mixture", groups=8, alike=0.5).draw(rng, 80, 24).rows
    measures = ["rsa_spearman", "mutual_knn", "jaccard_knn"]
    exact = recovered.relations(truth, all_live(truth.copy()), measures, 19, [0])
    assert all(x.excess == pytest.approx(1, abs=1e-3) and x.p == 0.05 for x in exact.values())
    noisy = all_live(recovered.blurred(truth, np.full(80, 0.85), rng))
    for x in recovered.relations(truth, noisy, measures, 19, [0]).values():
        assert 0.2 < x.excess < 0.9 and x.excess == pytest.approx(x.blurred, abs=0.12)


def test_a_planted_parent_with_two_children_is_found(rng):
    drawn = shapes.Mixture(kind="mixture", groups=20, alike=0.6).draw(rng, 40, 32)
    order = rng.permutation(40)
    truth, groups = drawn.rows[order], drawn.groups[order]
    parents = arrays.unit(np.stack([truth[groups == group].sum(axis=0) for group in range(20)]))
    narrow, wide = all_live(parents[rng.permutation(20)]), all_live(truth[rng.permutation(40)])
    assert recovered.split(truth, groups, narrow, wide, 0.9, 50, [0])[:2] == (20, 1.0)
    assert recovered.split(truth, groups, narrow, wide, 0.9, 200, [0]).chance == pytest.approx(1 / 20 / 39, abs=0.002)
    lost = Dictionary(wide.decoder, np.arange(40) > 0)  # one child is not live: its parent is not tested
    assert recovered.split(truth, groups, narrow, lost, 0.9, 50, [0])[:2] == (19, 1.0)
    kept = all_live(truth[np.argsort(groups, kind="stable")[::2]])  # one child each, and no parent
    assert recovered.split(truth, groups, kept, wide, 0.5, 5, [0]).tested == 0
    none = recovered.split(truth, groups, all_live(rng.normal(size=(20, 32))), wide, 0.9, 5, [0])
    assert none.tested == 0 and np.isnan(none.found)


def test_origins_are_the_nearest_live_narrow_latents(rng):
    wide, narrow = rng.normal(size=(30, 8)), rng.normal(size=(12, 8))
    live = rng.random(30) < 0.8, rng.random(12) < 0.8
    index, cosine = recovered.origins(Dictionary(wide, live[0]), Dictionary(narrow, live[1]))
    close = np.where(live[1], arrays.unit(wide) @ arrays.unit(narrow).T, -2)
    assert (index == np.where(live[0], close.argmax(axis=1), -1)).all()
    assert cosine[live[0]] == pytest.approx(close.max(axis=1)[live[0]], abs=1e-6) and np.isnan(cosine[~live[0]]).all()
