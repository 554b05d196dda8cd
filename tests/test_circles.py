"""Circularity: a planted circle is found, Gaussian rows are not, and the null keeps its level."""

import numpy as np
import pytest
from scipy import stats

from sae_utils.studies.geometry import circles, shapes

N, D, M = 12, 16, 99


def against(rows, rng, lists=None):
    items = np.arange(len(rows))
    return circles.against(rows, items, circles.orders(items, M, rng, lists), "shuffled order")


def test_a_planted_circle_is_found_whatever_its_turn_and_direction():
    rng = np.random.default_rng(0)
    rows = shapes.draw("circle", N, D, 0.05, rng)
    for order in (np.arange(N), np.roll(np.arange(N), 5), np.arange(N)[::-1]):
        found = against(rows[order], rng)
        assert found["agreement"].observed > 0.99 and found["variance"].observed > 0.9
        assert all(x.p <= 0.02 for x in found.values())


def test_a_perfect_circle_is_explained_wholly_and_a_line_is_not():
    rng = np.random.default_rng(0)
    of = {name: against(shapes.draw(name, N, D, 0.0, rng), rng) for name in ("circle", "line")}
    assert of["circle"]["variance"].observed == pytest.approx(1) and of["circle"][
        "agreement"
    ].observed == pytest.approx(1)
    assert of["line"]["variance"].observed < 0.5


@pytest.mark.parametrize("statistic", circles.STATISTICS)
def test_gaussian_rows_are_found_as_often_as_the_level_says(statistic):
    rng = np.random.default_rng(1)
    found = [against(rng.normal(size=(N, D)), rng)[statistic].p for _ in range(200)]
    assert np.mean(np.array(found) <= 0.05) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 200)
    assert stats.kstest(found, "uniform").pvalue > 0.001


def test_random_subsets_that_repeat_the_search_keep_the_level():
    """Items are themselves random words of the pool: they are found in 5% of the draws."""
    rng = np.random.default_rng(2)
    found = []
    for _ in range(100):
        words = rng.normal(size=(60, D))
        drawn = circles.subsets(np.arange(N, 60), N, M, rng)
        found.append(circles.against(words, np.arange(N), drawn, "random words")["agreement"].p)
    assert np.mean(np.array(found) <= 0.05) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 100)


def test_clusters_of_neighbours_are_no_circle_within_their_lists():
    """Four clusters of items that follow each other are found under a shuffled order, and not within the clusters."""
    rng, lists = np.random.default_rng(3), np.arange(N) * 4 // N
    drawn = [shapes.draw("clusters in a row", N, D, 0.15, rng) for _ in range(60)]
    free, within = ([against(rows, rng, of)["variance"].p for rows in drawn] for of in (None, lists))
    assert np.mean(np.array(free) <= 0.05) > 0.9 and np.mean(np.array(within) <= 0.05) < 0.15


def test_the_explained_variance_is_that_of_procrustes():
    rng = np.random.default_rng(4)
    rows = rng.normal(size=(N, D))
    centred, angle = rows - rows.mean(0), 2 * np.pi * np.arange(N) / N
    target = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    u, s, vt = np.linalg.svd(target.T @ centred, full_matrices=False)
    residual = centred - s.sum() / N * target @ u @ vt
    expected = 1 - (residual**2).sum() / (centred**2).sum()
    assert circles.statistics(rows, np.arange(N)[None])["variance"][0] == pytest.approx(expected)


def test_agreement_is_the_length_of_the_mean_turn():
    points, order = np.exp(1j * np.array([0.1, 2.0, 3.0, -1.0, -0.5])), circles.calendar(5)
    rank = np.exp(2j * np.pi * np.array([2, 3, 4, 0, 1]) / 5)
    expected = max(abs(np.mean(rank * order.conj())), abs(np.mean(rank * order)))
    assert circles.rank_correlation(points, order) == pytest.approx(expected)


def test_orders_within_lists_stay_in_their_list():
    items, lists = np.arange(10, 22), np.arange(12) // 3
    for row in circles.orders(items, 20, np.random.default_rng(0), lists):
        assert sorted(row) == items.tolist() and ((row - 10) // 3 == lists).all()


def test_too_few_items_are_refused():
    with pytest.raises(ValueError, match="4 items: an order around a circle needs 5 or more"):
        circles.best(np.eye(4))
    with pytest.raises(ValueError, match="a pool of 3 items for subsets of 5: take a wider one"):
        circles.subsets(np.arange(3), 5, 2, np.random.default_rng(0))
