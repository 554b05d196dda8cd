"""One difference by many choices: pairs against brute force, scores against scipy, planted arms."""

from itertools import permutations

import numpy as np
import pytest
from scipy.spatial.distance import pdist
from scipy.stats import spearmanr

from sae_utils.engine.core.spec import ProfileError
from sae_utils.studies.sensitivity import choices
from sae_utils.studies.sensitivity.choices import Choice

PRIMARY = Choice(measure="rsa_spearman", minimum_firings=5)


def view(seed=0, features=30, others=40, d=12, noise=0.3):
    """The true arm correlates feature i with i and the control arm with another; rows of i are alike on both sides."""
    generator = np.random.default_rng(seed)
    rows = generator.normal(size=(features, d))
    of_others = np.vstack([rows + noise * generator.normal(size=rows.shape), generator.normal(size=(others - 30, d))])
    r = 0.2 * generator.random((2, features, others)).astype(np.float32)
    r[0, np.arange(features), np.arange(features)] += 0.6
    r[1, np.arange(features), np.roll(np.arange(features), 7)] += 0.6
    return choices.View(r, rows, of_others, np.arange(features) + 5, np.arange(features) % 5 > 0)


def small(r):
    """A view of which all features take part, without rows."""
    features, others = r.shape
    rows = np.zeros((features, 2)), np.zeros((others, 2))
    return choices.View(np.stack([r, r]), *rows, np.full(features, 9), np.ones(features, bool))


@pytest.mark.parametrize("seed", range(5))
def test_pairs_are_those_of_brute_force(seed):
    r = np.random.default_rng(seed).normal(size=(4, 6)).astype(np.float32)
    found = choices.matched(small(r), 0, "optimal", 1)
    assert found.r.sum() == pytest.approx(max(sum(r[i, j] for i, j in enumerate(p)) for p in permutations(range(6), 4)))
    mutual = choices.matched(small(r), 0, "mutual", 1)
    both = [(i, j) for i in range(4) for j in range(6) if r[i, j] == r[i].max() == r[:, j].max()]
    assert list(zip(*mutual[:2], strict=True)) == both
    left, greedy = r.copy(), set()
    while np.isfinite(left).any():
        i, j = np.unravel_index(left.argmax(), left.shape)
        greedy.add((i, j))
        left[i], left[:, j] = -np.inf, -np.inf
    assert set(zip(*choices.matched(small(r), 0, "greedy", 1)[:2], strict=True)) == greedy


def test_only_live_content_features_that_fire_take_part():
    world = view()
    world.r[:, 3] = np.nan
    world.r[:, :, 8] = np.nan
    found = choices.matched(world, 0, "optimal", 12)
    allowed = [i for i in range(30) if i % 5 and i + 5 >= 12 and i != 3]
    assert found.features.tolist() == allowed and 8 not in found.others


def by_hand(world, arm):
    """Spearman of the dissimilarities (1 - Pearson r) of the optimal pairs."""
    i, j = choices.matched(world, arm, "optimal", 5)[:2]
    return spearmanr(pdist(world.rows[i], "correlation"), pdist(world.others[j], "correlation")).statistic


def test_the_primary_difference_is_the_one_by_hand():
    world = view()
    found = choices.differences([world], [PRIMARY], subsets=3, seed=0)[PRIMARY]
    assert found.true == pytest.approx(by_hand(world, 0)) and found.control == pytest.approx(by_hand(world, 1))
    assert found.value == found.true - found.control and found.n == 24
    assert found.true > 0.8 and abs(found.control) < 0.25


def test_the_views_are_averaged():
    worlds = [view(0), view(1)]
    both = choices.differences(worlds, [PRIMARY], subsets=3, seed=0)[PRIMARY]
    single = [choices.differences([world], [PRIMARY], subsets=3, seed=0)[PRIMARY].value for world in worlds]
    assert both.value == pytest.approx(np.mean(single))


def test_both_roles_hold_the_same_correlations():
    world = view()
    rows, firings = (world.rows, world.others), (world.firings, np.arange(40))
    one, other = choices.turned(world.r, rows, firings, (world.content, np.ones(40, bool)))
    assert one.r[1, 2, 3] == other.r[1, 3, 2] and other.rows is world.others and other.others is world.rows
    assert one.content is world.content and len(other.firings) == 40


def test_both_arms_have_one_n():
    """A threshold leaves the control arm half of its pairs, so that the true arm is cut to as many."""
    world = view()
    world.r[1] *= 0.5
    world.r[1, :15] += 0.3
    strong, weak = (PRIMARY.model_copy(update={"least_r": least}) for least in (0.5, 0.0))
    found = choices.differences([world], [strong, weak], subsets=200, seed=0)
    kept = [int((choices.matched(world, arm, "optimal", 5).r >= 0.5).sum()) for arm in (0, 1)]
    assert kept == [24, 12] and (found[strong].n, found[weak].n) == (12, 24)
    assert found[strong].true == pytest.approx(found[weak].true, abs=0.08)  # random subsets keep the expected score


def test_random_subsets_of_n_say_the_same_with_the_same_places_in_both_arms():
    world = view()
    every = choices.differences([world], [PRIMARY], subsets=1, seed=0)[PRIMARY]
    at_n = PRIMARY.model_copy(update={"n": 15})
    found = choices.differences([world], [at_n], subsets=200, seed=0)[at_n]
    assert found.n == 15 and found.value == pytest.approx(every.value, abs=0.08)
    same = world._replace(r=np.stack([world.r[0], world.r[0]]))
    assert choices.differences([same], [at_n], subsets=3, seed=0)[at_n].value == 0


@pytest.mark.parametrize(
    "change", [{"n": 25}, {"least_r": 0.95}, {"measure": "mutual_knn_24"}, {"minimum_firings": 30}]
)
def test_too_few_pairs_are_no_difference(change):
    choice = PRIMARY.model_copy(update=change)
    assert np.isnan(choices.differences([view()], [choice], subsets=3, seed=0)[choice].value)


def test_where_nothing_is_shared_no_choice_finds_a_difference():
    """Both arms are drawn alike: over 40 replicates the mean difference of every choice is within 4 standard errors."""
    asked = [
        PRIMARY.model_copy(update=change)
        for change in ({}, {"measure": "cka_debiased"}, {"measure": "mutual_knn_3"}, {"matching": "mutual"}, {"n": 12})
    ]
    found = []
    for seed in range(40):
        generator = np.random.default_rng([7, seed])
        world = view(seed)._replace(r=generator.random((2, 30, 40)).astype(np.float32))
        world = world._replace(others=generator.normal(size=(40, 12)), content=np.ones(30, bool))
        by_choice = choices.differences([world], asked, subsets=5, seed=0)
        found.append([by_choice[choice].value for choice in asked])
    mean, error = np.nanmean(found, axis=0), np.nanstd(found, axis=0) / np.sqrt(40)
    assert (abs(mean) < 4 * error).all() and (error < 0.05).all()


# --- the list of specifications


def test_each_alternative_differs_in_one_choice_and_none_stands_twice():
    alternatives = {"least_r": [0.1, 0.3], "minimum_firings": [5, 20], "measure": ["mutual_knn_5"]}
    crossed = [{"matching": "mutual", "least_r": 0.3}, {"minimum_firings": 20}]
    found = choices.specifications(PRIMARY, alternatives, crossed, "x")
    assert [x.label for x in found] == [
        "primary analysis", "r at least 0.1", "r at least 0.3", "at least 20 firings", "mutual kNN (k = 5)",
        "mutual matching, r at least 0.3",
    ]  # fmt: skip
    base = PRIMARY.model_dump()
    changed = [sum(base[key] != value for key, value in x.choice.model_dump().items()) for x in found]
    assert changed == [0, 1, 1, 1, 1, 2]


@pytest.mark.parametrize(
    ("alternatives", "message"),
    [
        ({"measure": ["svcca"]}, r"^x.measure: the null mean of svcca is not known in closed form"),
        ({"measure": ["knn"]}, "unknown measure 'knn'"),
        ({"matching": ["soft"]}, r"^x.matching: "),
        ({"firings": [3]}, r"^x.firings: unknown key; did you mean `minimum_firings`"),
    ],
)
def test_what_is_no_choice_is_refused(alternatives, message):
    with pytest.raises(ProfileError, match=message):
        choices.specifications(PRIMARY, alternatives, [], "x")
