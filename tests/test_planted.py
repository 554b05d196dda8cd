"""What was planted is there, and the procedures see it or fail to, as they should."""

import functools

import numpy as np
import pytest

from sae_utils import similarity
from sae_utils.engine.core import spec
from sae_utils.studies.known_truth import synthetic
from sae_utils.studies.published_tables import ladder, planted

SIZES = planted.Sizes(concepts=80, kept=0.75, words=160, expressed=3, documents=40, length=40, d_a=16, d_b=24)
SHARED, NOTHING = (synthetic.Copies(kind="copies", shared=shared) for shared in (1.0, 0.0))
SETTINGS = ladder.Settings((".", "<pad>", "<bos>"), top=5, least_r=0.1, draws=20, permutations=19, seed=0)


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
        # two of three kept concepts at random: about 45 of 80 in both
        assert 35 <= len(at) <= 55 and len(x.partner) == 60
        rows = x.sides.rows[0][at], x.sides.rows[1][x.partner[at]]
        assert np.allclose(np.linalg.norm(rows[0], axis=1), 1)
        score = similarity.rsa(*rows)
        assert score > 0.6 if shared else abs(score) < 0.1


def test_share_of_true_pairs_counts_them(drawn):
    x = drawn[1.0]
    found = ladder.pairs(x.sides, SETTINGS)[ladder.ALL]
    right = sum(x.partner[a] == b for a, b in zip(found.a, found.b, strict=True))
    assert x.true(found) == pytest.approx(right / len(found.a))
    assert np.isnan(x.true(found._replace(a=found.a[:0], b=found.b[:0])))


def test_corrections_find_the_planted_partners(drawn):
    for x in drawn.values():
        found = ladder.pairs(x.sides, SETTINGS)
        foot, head = (x.true(found[step]) for step in (ladder.PUBLISHED, ladder.ONE))
        assert foot < 0.6 < 0.7 < head


def test_padding_is_looked_at_by_the_published_procedure_alone(drawn):
    for step, seen in drawn[1.0].sides.seen.items():
        told = set(seen.facts(drawn[1.0].sides.words).top_a.ravel())
        assert bool(told & {"<pad>", "<bos>"}) == (step == ladder.PUBLISHED)


def test_after_topk_so_many_features_fire(drawn):
    seen = drawn[1.0].sides.seen
    assert seen[ladder.CODES].firings[0].sum() < 0.3 * seen[ladder.HOOK].firings[0].sum()
    inside = seen[ladder.CODES].firings[0].sum() / SIZES.expressed
    assert 0 < inside <= SIZES.documents * SIZES.length  # at most `expressed` at a position


def test_a_seed_says_all():
    one, again, other = (planted.draw(SHARED, SIZES, 5, seed).sides.seen[ladder.CODES].mutual for seed in (1, 1, 2))
    assert np.array_equal(one.b, again.b) and np.array_equal(one.r, again.r)
    assert not np.array_equal(one.a, other.a)


def test_repeats_are_counted_step_by_step():
    arguments = (SIZES, [".", "<pad>", "<bos>"], 5, 0.1, 20, 39, 2, 0)
    found = {world.shared: planted.repeated(world, *arguments).meta["found"] for world in (SHARED, NOTHING)}
    steps = set(ladder.STEPS) - {ladder.EXCESS}
    for x in found.values():
        assert set(x) == {"SVCCA", "RSA"} and all(set(by_step) == steps for by_step in x.values())
        assert all(0 <= below <= scored <= 2 for by_step in x.values() for below, scored in by_step.values())
    assert found[1.0]["RSA"][ladder.SHUFFLES] == [2, 2]
    settings = ladder.Settings((".", "<pad>", "<bos>"), 5, 0.1, 20, 39, 1)
    first = ladder.climb(planted.draw(NOTHING, SIZES, 5, 1).sides, settings)[-1].scores[ladder.RSA].p < 0.05
    assert first <= found[0.0]["RSA"][ladder.ALL][0]


def test_unknown_sizes_are_refused():
    with pytest.raises(spec.ProfileError, match=r"here\.width: unknown key"):
        spec.build(planted.Sizes, SIZES.model_dump() | {"width": 3}, "here")
