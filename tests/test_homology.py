"""Persistent homology: the loops and hollows of known shapes, and diagrams of partners against those of others."""

import numpy as np
import pytest
from scipy.sparse.csgraph import minimum_spanning_tree

from sae_utils.studies.geometry import homology, shapes
from sae_utils.studies.geometry.homology import HOLLOWS, LOOPS, PIECES

RNG = np.random.default_rng


@pytest.mark.parametrize(
    ("shape", "loops", "n"), [("circle", 1, 60), ("figure-eight", 2, 60), ("torus", 2, 196), ("sphere", 0, 120)]
)
def test_long_loops_are_those_of_the_shape(shape, loops, n):
    """A loop is long if it lasts twice as long as the next shorter one and a fifth of the mean distance."""
    life = homology.longest(shapes.draw(shape, n, 8, 0.01, RNG(0)), loops + 1)
    assert (life[:loops] > 0.2).all() and life[loops] < 0.5 * min([0.4, *life[:loops]])


@pytest.mark.parametrize(("shape", "hollows", "n"), [("sphere", 1, 100), ("torus", 1, 121), ("circle", 0, 40)])
def test_hollows_are_those_of_the_shape(shape, hollows, n):
    life = homology.longest(shapes.draw(shape, n, 8, 0.0, RNG(0)), hollows + 1, HOLLOWS)
    assert (life[:hollows] > 0.1).all() and life[hollows] < 0.1


def test_two_clusters_have_one_wide_gap():
    pieces = homology.lifetimes(homology.diagrams(shapes.draw("two clusters", 40, 8, 0.05, RNG(0)))[PIECES])
    assert pieces[0] > 4 * pieces[1]


def test_pieces_die_at_the_edges_of_the_minimum_spanning_tree():
    rows = RNG(0).normal(size=(30, 5))
    found = np.sort(homology.diagrams(rows)[PIECES][:, 1])
    assert found == pytest.approx(np.sort(minimum_spanning_tree(homology.distances(rows)).data), rel=1e-5)


def test_a_shape_is_told_from_gaussian_points_and_nothing_is_not():
    of = {name: homology.shape(shapes.draw(name, 40, 8, 0.03, RNG(0)), 19, 0) for name in ("circle", "two clusters")}
    assert of["circle"]["longest loop"].p == 0.05 and of["circle"]["gap"].p > 0.05
    assert of["two clusters"]["gap"].p == 0.05
    drawn = [homology.shape(shapes.draw("nothing", 30, 8, 1.0, RNG(i)), 19, i)["longest loop"].p for i in range(60)]
    assert np.mean(np.array(drawn) <= 0.05) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 60)


def test_equal_diagrams_have_distance_0_whatever_turn_and_scale():
    rows, turn = RNG(0).normal(size=(20, 6)), np.linalg.qr(RNG(1).normal(size=(6, 6)))[0]
    one, two = homology.diagrams(rows), homology.diagrams(3 * rows[::-1] @ turn)
    assert [homology.bottleneck(x, y) for x, y in zip(one, two, strict=True)] == pytest.approx([0, 0], abs=1e-5)


def test_the_distance_of_one_bar_from_none_is_half_its_length():
    assert homology.bottleneck(np.array([[0.2, 1.0]]), np.empty((0, 2))) == pytest.approx(0.4)
    assert homology.bottleneck(np.empty((0, 2)), np.empty((0, 2))) == 0


def test_partners_of_one_shape_are_nearer_than_others():
    """Twenty features lie on a circle in both models, the others anywhere."""
    rng = RNG(0)
    sides = [np.vstack([shapes.draw("circle", 20, 8, 0.02, rng), rng.normal(size=(60, 8))]) for _ in "ab"]
    found = homology.across(*sides, np.arange(20), 5, 0)
    assert found[PIECES].n == 20 and found[PIECES].excess > 0.5 and found[LOOPS].excess > 0.5


def test_points_without_a_shape_are_refused():
    with pytest.raises(ValueError, match="3 points have no shape: give 4 or more"):
        homology.distances(np.eye(3))
    with pytest.raises(ValueError, match="all distances are 0: the rows are one point"):
        homology.distances(np.ones((5, 2)))
