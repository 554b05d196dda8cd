"""Planted shapes: points whose shape is known, in more dimensions than the shape has, with noise.

In: the name of a shape, a number of points, dimensions, noise. Out: rows in the order of the shape.
Never: a feature of a model.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float64]
Rng = np.random.Generator


def _around(n: int) -> Rows:
    """(n,) angles, evenly once around."""
    return 2 * np.pi * np.arange(n) / n


def _circle(n: int, rng: Rng) -> Rows:
    return np.stack([np.cos(_around(n)), np.sin(_around(n))], axis=1)


def _figure_eight(n: int, rng: Rng) -> Rows:
    """Two circles that touch: the path runs once around the first, then once around the second."""
    first, second = _circle(n - n // 2, rng), _circle(n // 2, rng)
    return np.vstack([[1, 0] - first, second - [1, 0]])


def _line(n: int, rng: Rng) -> Rows:
    return np.linspace(-1, 1, n)[:, None]


def _two_clusters(n: int, rng: Rng) -> Rows:
    return np.repeat([[-1.0], [1.0]], [n // 2, n - n // 2], axis=0)


def _blocks(n: int, rng: Rng) -> Rows:
    """Four clusters in general position, each of points that follow each other."""
    return np.eye(4)[np.arange(n) * 4 // n]


def _nothing(n: int, rng: Rng) -> Rows:
    return np.zeros((n, 1))


def _torus(n: int, rng: Rng) -> Rows:
    """The flat torus in four dimensions; angles on a jittered grid, so that n points cover it."""
    side = int(np.ceil(np.sqrt(n)))
    grid = np.stack(np.meshgrid(np.arange(side), np.arange(side)), axis=-1).reshape(-1, 2)[:n]
    angles = 2 * np.pi * (grid + rng.uniform(-0.2, 0.2, grid.shape)) / side
    return np.hstack([np.cos(angles), np.sin(angles)])


def _sphere(n: int, rng: Rng) -> Rows:
    """Fibonacci's points on the sphere, which cover it evenly."""
    height, turn = 1 - (2 * np.arange(n) + 1) / n, np.pi * (3 - np.sqrt(5)) * np.arange(n)
    radius = np.sqrt(1 - height**2)
    return np.stack([radius * np.cos(turn), radius * np.sin(turn), height], axis=1)


SHAPES: dict[str, Callable[[int, Rng], Rows]] = {
    "circle": _circle, "figure-eight": _figure_eight, "line": _line, "two clusters": _two_clusters,
    "clusters in a row": _blocks, "nothing": _nothing, "torus": _torus, "sphere": _sphere,
}  # fmt: skip


def draw(name: str, n: int, d: int, noise: float, rng: Rng) -> Rows:
    """(n, d) points of the shape `name`, turned at random into `d` dimensions, plus Gaussian noise of SD `noise` each.

    Raises ValueError for an unknown name, and for fewer dimensions than the shape needs.
    """
    if name not in SHAPES:
        raise ValueError(f"no shape is called {name!r}; known are {', '.join(SHAPES)}")
    points = SHAPES[name](n, rng)
    if d < points.shape[1]:
        raise ValueError(f"{d} dimensions: a {name} needs {points.shape[1]}")
    frame = np.linalg.qr(rng.normal(size=(d, points.shape[1])))[0]
    return np.asarray(points @ frame.T + noise * rng.normal(size=(n, d)))
