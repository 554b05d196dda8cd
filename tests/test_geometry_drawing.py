"""Figures of geometry show what they are given."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from sae_utils.studies.geometry import circles, drawing, mapper, shapes


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_a_plane_has_every_word_at_its_place():
    rows = shapes.draw("circle", 6, 8, 0.0, np.random.default_rng(0))
    plane = circles.best(rows)
    figure = drawing.planes({"A": {"days": plane}}, {"days": ["monday", *"bcdef"]})
    (axis,) = figure.axes
    assert [text.get_text() for text in axis.texts] == ["mon", *"bcdef"]
    assert np.asarray(axis.collections[0].get_offsets()) == pytest.approx(
        np.stack([plane.points.real, plane.points.imag], 1)
    )
    assert len(axis.lines[0].get_xdata()) == 7 and "1.00" in axis.get_title()


def test_every_replicate_is_a_dot_and_few_have_no_interval():
    frame = pd.DataFrame({"concept": ["x"] * 4 + ["y"] * 2, "order": [0.1, 0.2, 0.3, np.nan, 0.5, 0.6]})
    axis = drawing.replicated(frame, "concept", {"order": "order"}, {"order": 0.15}).axes[0]
    assert [len(of.get_offsets()) for of in axis.collections] == [3, 2]
    assert [text.get_text() for text in axis.get_yticklabels()] == ["x", "y"]
    low, high = axis.lines[0].get_xdata()
    assert (low + high) / 2 == pytest.approx(0.2) and low < 0.1 < 0.3 < high


def test_a_graph_has_its_nodes_and_edges():
    rows = shapes.draw("circle", 60, 8, 0.01, np.random.default_rng(0))
    values = mapper.lens(rows, "PCA", np.ones(60), 0)[:, :1]
    graph = mapper.graph(rows, values, mapper.Cover(6, 0.4))
    figure = drawing.graphs({"A's features": {"PCA": graph}}, {"features": {"PCA": values[:, 0]}})
    (axis,) = figure.axes
    assert len(axis.collections[0].get_offsets()) == len(graph.members) and len(axis.lines) == len(graph.edges)


def test_matrices_stand_in_one_order():
    similar = np.arange(16.0).reshape(4, 4)
    order = np.array([2, 0, 1, 3])
    figure = drawing.matrices({"kind": {"A": similar, "B": similar.T}}, order, [2])
    assert np.asarray(figure.axes[0].images[0].get_array()) == pytest.approx(similar[np.ix_(order, order)])
    assert figure.axes[1].images[0].get_clim() == figure.axes[0].images[0].get_clim()
