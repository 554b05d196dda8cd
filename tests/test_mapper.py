"""Mapper: the graph of a circle is a cycle, and equal graphs have distance 0."""

import numpy as np
import pytest

from sae_utils.studies.geometry import mapper, shapes

COVER = mapper.Cover(6, 0.4)


def first_axis(name, noise=0.01, n=80):
    rows = shapes.draw(name, n, 8, noise, np.random.default_rng(0))
    return rows, mapper.lens(rows, "PCA", np.ones(n), 0)[:, :1]


def graph(name):
    return mapper.graph(*first_axis(name), COVER)


def test_the_graph_of_a_circle_is_a_cycle():
    found = graph("circle")
    degree = np.bincount(found.edges.ravel(), minlength=len(found.members))
    assert found.cycles == 1 and found.pieces == 1 and (degree == 2).all()


@pytest.mark.parametrize(("name", "pieces", "cycles"), [("figure-eight", 1, 2), ("line", 1, 0), ("two clusters", 2, 0)])
def test_graphs_of_other_shapes(name, pieces, cycles):
    assert (graph(name).pieces, graph(name).cycles) == (pieces, cycles)


def test_edges_are_nodes_that_share_rows():
    found = graph("figure-eight")
    nodes = range(len(found.members))
    shared = {(i, j) for i in nodes for j in nodes if i < j and found.members[i] & found.members[j]}
    assert set(map(tuple, found.edges.tolist())) == shared


@pytest.mark.parametrize("name", ["circle", "figure-eight", "two clusters"])
def test_equal_graphs_have_distance_0(name):
    found, partner = graph(name), np.arange(80)
    assert mapper.distance(found, found, partner) == pytest.approx(0, abs=1e-8)


def test_pairs_are_told_from_shuffled_ones():
    rows, values = first_axis("circle")
    order = np.random.default_rng(1).permutation(80)  # B has the rows of A in another order, and partners undo it
    other = mapper.graph(rows[order], values[order], COVER)
    found = mapper.graph(rows, values, COVER)
    assert mapper.distance(found, other, order.argsort()) == pytest.approx(0, abs=1e-8)
    compared = mapper.compare(found, found, 80, 9, 0)
    assert compared.observed == pytest.approx(0, abs=1e-8) and compared.null_mean > 10 * compared.null_sd > 0


def test_the_lens_of_the_norm_is_what_a_feature_writes():
    assert mapper.lens(np.eye(3), "norm", np.array([1, np.e, 1]), 0).ravel() == pytest.approx([0, 1, 0])


def test_a_lens_is_refused_by_name_and_for_few_rows():
    with pytest.raises(ValueError, match="no lens is called 'height'; known are PCA, norm, isomap, UMAP"):
        mapper.lens(np.eye(3), "height", np.ones(3), 0)
    with pytest.raises(ValueError, match="3 rows, but isomap and UMAP look at 10 neighbours: give more"):
        mapper.lens(np.eye(3), "isomap, UMAP", np.ones(3), 0)


def test_isomap_unrolls_a_circle_in_two_dimensions():
    """Neighbours on the circle stay neighbours; UMAP itself is not run, since it compiles for half a minute."""
    rows = shapes.draw("circle", 60, 8, 0.0, np.random.default_rng(0))
    found = mapper.unfolded(rows)[:, :2]
    near = np.linalg.norm(found[:, None] - found[None], axis=2).argsort(axis=1)[:, 1:3]
    assert all({(i - 1) % 60, (i + 1) % 60} == set(row) for i, row in enumerate(near.tolist()))
