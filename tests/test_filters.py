"""Filters by hand and by brute force; their counts; their order, which matters."""

import numpy as np
import pytest

from sae_utils import filters, matching
from sae_utils.engine import pairs as reasons
from sae_utils.matching import Pairs


def pairs_from(rows, width_a=8, width_b=8):
    """Pairs of (a, b, r)."""
    a, b, r = (np.array(x) for x in zip(*rows, strict=True))
    why = []
    for chosen, width in ((a, width_a), (b, width_b)):
        why.append(np.full(width, reasons.NOT_CHOSEN, np.int8))
        why[-1][chosen] = reasons.PAIRED
    return Pairs(a.astype(np.int32), b.astype(np.int32), r.astype(np.float32), *why)


FIRINGS = np.arange(8) * 10
HUBS = [(0, 1, 0.3), (2, 1, 0.9), (3, 1, 0.5), (4, 5, 0.7), (6, 5, 0.7), (7, 6, 0.2)]


def kept(found):
    return list(zip(found.a.tolist(), found.b.tolist(), strict=True))


@pytest.mark.parametrize(
    "more_than, keep, expected",
    [
        (1, "best", [(2, 1), (4, 5), (7, 6)]),
        (1, "first", [(0, 1), (4, 5), (7, 6)]),
        (1, "none", [(7, 6)]),
        (2, "none", [(4, 5), (6, 5), (7, 6)]),
        (2, "best", [(2, 1), (4, 5), (6, 5), (7, 6)]),
        (3, "none", [pair[:2] for pair in HUBS]),
    ],
)
def test_hubs(more_than, keep, expected):
    found = filters.hubs(pairs_from(HUBS), more_than=more_than, keep=keep)
    assert kept(found) == expected


def test_hubs_of_the_other_side_are_the_mirror_image():
    mirrored = pairs_from(sorted((b, a, r) for a, b, r in HUBS))
    for keep in ("best", "first", "none"):
        one = filters.hubs(pairs_from(HUBS), more_than=1, keep=keep)
        two = filters.hubs(mirrored, more_than=1, keep=keep, side="a")
        assert sorted((b, a) for a, b in kept(two)) == kept(one)


def test_rare_and_weak_give_their_reasons():
    pairs = pairs_from(HUBS)
    found = filters.rare(pairs, FIRINGS, FIRINGS, minimum=20)
    assert kept(found) == [(4, 5), (6, 5), (7, 6)]
    assert matching.left_out(found)["a"] == {"rare": 3, "chosen by nobody": 2}
    found = filters.weak(pairs, r=0.5)
    assert kept(found) == [(2, 1), (3, 1), (4, 5), (6, 5)]
    assert matching.left_out(found)["b"] == {"correlation below the threshold": 1, "chosen by nobody": 5}


def test_top_tokens():
    top_a = np.array([["dog", "cat"], [".", "cat"], ["the", ""], ["red", "blue"]])
    top_b = np.array([["cat", "cow"], ["cat", "dog"], ["sun", ""], ["\n", "red"]])
    pairs = pairs_from([(0, 0, 0.9), (1, 1, 0.8), (2, 2, 0.7), (3, 3, 0.6)], 4, 4)
    listed = [".", "\n"]
    assert kept(filters.non_concept(pairs, top_a, top_b, tokens=listed, top=2)) == [(0, 0), (2, 2)]
    assert kept(filters.non_concept(pairs, top_a, top_b, tokens=listed, top=2, most=1)) == [(i, i) for i in range(4)]
    assert kept(filters.non_concept(pairs, top_a, top_b, tokens=[*listed, ""], top=2)) == [(0, 0)]
    assert kept(filters.no_shared_token(pairs, top_a, top_b, top=2)) == [(0, 0), (1, 1), (3, 3)]
    assert kept(filters.no_shared_token(pairs, top_a, top_b, top=1)) == []
    with pytest.raises(ValueError, match="top = 3"):
        filters.no_shared_token(pairs, top_a, top_b, top=3)


@pytest.mark.parametrize("seed", range(20))
def test_one_to_one_and_strongest_by_brute_force(seed):
    rng = np.random.default_rng(seed)
    edges = np.unique(rng.integers(0, 8, (20, 2)), axis=0)
    r = rng.integers(0, 4, len(edges)) / 4
    pairs = pairs_from([(*e, v) for e, v in zip(edges.tolist(), r, strict=True)])
    ranked = sorted(range(len(edges)), key=lambda p: (-r[p], *edges[p]))
    free_a, free_b, expected = set(range(8)), set(range(8)), []
    for p in ranked:
        a, b = edges[p].tolist()
        if a in free_a and b in free_b:
            expected.append((a, b))
            free_a.remove(a)
            free_b.remove(b)
    assert kept(filters.one_to_one(pairs)) == sorted(expected)
    half = filters.strongest(pairs, share=0.5)
    assert kept(half) == sorted(tuple(edges[p].tolist()) for p in ranked[: -(-len(edges) // 2)])


def test_the_order_of_filters_matters_and_every_step_is_counted():
    pairs = pairs_from(HUBS)
    steps = [("one_to_one", {}), ("strongest", {"share": 0.5})]
    one, counted = filters.apply(pairs, steps)
    other, _ = filters.apply(pairs, steps[::-1])
    assert kept(one) == [(2, 1), (4, 5)]
    assert kept(other) == [(2, 1), (4, 5)]
    assert [(s.name, s.before, s.removed) for s in counted] == [("one_to_one", 6, 3), ("strongest", 3, 1)]
    assert counted[1].a.tolist() == [7] and counted[1].b.tolist() == [6]
    # three of the six strongest share a partner: one-to-one first keeps more distinct features
    crowded = pairs_from([(0, 0, 0.9), (1, 0, 0.8), (2, 0, 0.7), (3, 1, 0.6), (4, 2, 0.5), (5, 3, 0.4)])
    assert len(filters.apply(crowded, steps)[0].r) == 2
    assert len(filters.apply(crowded, steps[::-1])[0].r) == 1


def test_a_sequence_gives_every_filter_the_facts_that_it_asks_for():
    pairs, top = pairs_from(HUBS), np.full((8, 1), "x")
    steps = [("rare", {"minimum": 20}), ("no_shared_token", {"top": 1}), ("weak", {"r": 0.5})]
    found, taken = filters.apply(pairs, steps, firings_a=FIRINGS, firings_b=FIRINGS, top_a=top, top_b=top)
    assert kept(found) == [(4, 5), (6, 5)] and [step.removed for step in taken] == [3, 0, 1]
    assert list(filters.options("hubs")) == ["more_than", "keep", "side"] and list(filters.options("rare")) == [
        "minimum"
    ]


def test_bad_input_is_named():
    pairs = pairs_from(HUBS)
    with pytest.raises(ValueError, match="filter 'hub' is not known: one of rare, weak, hubs"):
        filters.apply(pairs, [("hub", {})])
    with pytest.raises(ValueError, match="filter 'rare' asks for firings_b: give them"):
        filters.apply(pairs, [("rare", {"minimum": 1})], firings_a=FIRINGS)
    with pytest.raises(ValueError, match=r"r = 1.2"):
        filters.weak(pairs, r=1.2)
    with pytest.raises(ValueError, match="keep is 'best'"):
        filters.hubs(pairs, more_than=1, keep="last")
    with pytest.raises(ValueError, match="share = 2"):
        filters.strongest(pairs, share=2)
