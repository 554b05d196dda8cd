"""Optimal transport: an assignment by correlation, and geometry without a pairing."""

import itertools

import numpy as np
import pytest

from sae_utils.studies.geometry import transport

RNG = np.random.default_rng


def test_transport_by_correlation_is_the_best_assignment():
    r = RNG(0).uniform(-1, 1, (6, 6))
    best = max(sum(r[i, j] for i, j in enumerate(order)) for order in itertools.permutations(range(6)))
    assert transport.by_correlation(r) == pytest.approx(1 - best / 6)


def test_a_turned_copy_has_distance_0_and_finds_its_partners():
    rows, order = RNG(0).normal(size=(40, 16)), RNG(2).permutation(40)
    turned = rows @ np.linalg.qr(RNG(1).normal(size=(16, 16)))[0]
    a, b = transport.cosine_distances(rows), transport.cosine_distances(turned)
    assert transport.gromov(a, b).distance == pytest.approx(0, abs=1e-6)
    assert transport.gromov(a, b).on_partners == pytest.approx(1)
    moved = transport.gromov(a, b[np.ix_(order, order)])
    assert moved.distance == pytest.approx(0, abs=1e-6) and moved.mass[order, np.arange(40)].sum() == pytest.approx(1)


def test_unrelated_rows_find_partners_by_chance():
    found = [
        transport.gromov(*(transport.cosine_distances(rng.normal(size=(30, 8))) for _ in "ab"))
        for rng in map(RNG, range(20))
    ]
    assert np.mean([x.on_partners for x in found]) == pytest.approx(1 / 30, abs=0.04)
    assert min(x.distance for x in found) > 0.05


def test_the_distance_is_the_loss_of_the_plan():
    a, b = (transport.cosine_distances(rng.normal(size=(8, 4))) for rng in map(RNG, (0, 1)))
    plan = transport.gromov(a, b)
    loss = sum(
        (a[i, k] - b[j, m]) ** 2 * plan.mass[i, j] * plan.mass[k, m]
        for i, k in itertools.product(range(8), repeat=2)
        for j, m in itertools.product(range(8), repeat=2)
    )
    assert plan.distance**2 == pytest.approx(loss)
    assert plan.mass.sum(0) == pytest.approx(np.full(8, 1 / 8)) and plan.mass.sum(1) == pytest.approx(np.full(8, 1 / 8))


def test_fused_transport_of_a_graph_and_itself_is_0_and_weighs_its_parts():
    a, cost = transport.cosine_distances(RNG(0).normal(size=(10, 4))), 1 - np.eye(10)
    assert transport.fused(a, a, cost, 0.5).distance == pytest.approx(0, abs=1e-9)
    assert transport.fused(a, a, np.ones((10, 10)), 0.5).distance == pytest.approx(0.5, abs=1e-6)
