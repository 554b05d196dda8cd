"""Planted pairs hold what was planted, and the steps of the ladder find it or miss it as they should."""

import functools

import numpy as np
import pytest

from sae_utils import measures
from sae_utils.engine.core import spec
from sae_utils.studies.known_truth import synthetic
from sae_utils.studies.published_tables import ladder, planted, views

SIZES = planted.Sizes(concepts=80, kept=0.75, words=160, expressed=3, documents=40, length=40, d_a=16, d_b=24)
SHARED, NOTHING = (synthetic.Copies(kind="copies", shared=shared) for shared in (1.0, 0.0))
SETTINGS = ladder.Settings(tokens=[".", "<pad>", "<bos>"], top=5, least_r=0.1, draws=20, permutations=39, seed=0)


@functools.cache
def made(world):
    return planted.draw(world, SIZES, 5, 0)


@pytest.fixture
def drawn():
    return {world.shared: made(world) for world in (SHARED, NOTHING)}


def test_partners_are_one_to_one_and_arranged_as_the_world_says(drawn):
    for shared, x in drawn.items():
        at = np.flatnonzero(x.partner >= 0)
        assert len(set(x.partner[at])) == len(at)
        # three of four concepts are kept on either side, at random: about 45 of 80 on both
        assert 35 <= len(at) <= 55 and len(x.partner) == 60
        rows = x.sides.rows[0][at], x.sides.rows[1][x.partner[at]]
        assert np.allclose(np.linalg.norm(rows[0], axis=1), 1)
        score = measures.rsa(*rows)
        assert score > 0.6 if shared else abs(score) < 0.1


def test_share_of_true_pairs_counts_them(drawn):
    x = drawn[1.0]
    found = ladder.choose(x.sides, ladder.ALL, SETTINGS)
    right = sum(x.partner[a] == b for a, b in zip(found.a, found.b, strict=True))
    assert x.true(found) == pytest.approx(right / len(found))
    assert np.isnan(x.true(found.subset(np.arange(0))))


def test_corrections_find_the_planted_partners(drawn):
    for x in drawn.values():
        first, last = (x.true(ladder.choose(x.sides, step, SETTINGS)) for step in (ladder.PUBLISHED, ladder.ONE))
        assert first < 0.6 < 0.7 < last


def test_only_the_published_view_contains_padding(drawn):
    for name, view in drawn[1.0].sides.views.items():
        top = set(view.facts(drawn[1.0].sides.words)["top_a"].ravel())
        assert bool(top & {"<pad>", "<bos>"}) == (name == views.PUBLISHED)


def test_after_topk_at_most_so_many_features_fire(drawn):
    found = {name: view.firings[0].sum() for name, view in drawn[1.0].sides.views.items()}
    assert found[views.CODES] < 0.3 * found[views.HOOK]
    inside = found[views.CODES] / SIZES.expressed
    assert 0 < inside <= SIZES.documents * SIZES.length  # at most `expressed` at a position


def test_the_same_seed_draws_the_same_pair():
    one, again, other = (planted.draw(SHARED, SIZES, 5, seed).sides.views[views.CODES].mutual for seed in (1, 1, 2))
    assert np.array_equal(one.b, again.b) and np.array_equal(one.r, again.r)
    assert not np.array_equal(one.a, other.a)


def test_unknown_sizes_are_refused():
    with pytest.raises(spec.ProfileError, match=r"here\.width: unknown key"):
        spec.build(planted.Sizes, SIZES.model_dump() | {"width": 3}, "here")
