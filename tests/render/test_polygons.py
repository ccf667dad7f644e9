"""Polygons are covered once, whatever their shape, place and winding."""

from __future__ import annotations

import numpy as np
import pytest

from mv3d.render.polygons import triangulate

STAR = [[np.cos(a) * r, np.sin(a) * r] for a, r in zip(np.arange(10) * np.pi / 5, [2, 0.7] * 5, strict=True)]
SHAPES = {
    "triangle": [[0, 0], [1, 0], [0, 1]],
    "square": [[0, 0], [1, 0], [1, 1], [0, 1]],
    "arrow": [[0, 0], [2, -1], [0, 3], [-2, -1]],
    "arrow whose fan is wrong": [[2, -1], [0, 3], [-2, -1], [0, 0]],
    "L": [[0, 0], [3, 0], [3, 1], [1, 1], [1, 3], [0, 3]],
    "straight corners": [[0, 0], [1, 0], [2, 0], [2, 1], [2, 2], [1, 2], [0, 2]],
    "star": STAR,
    "comb": [[0, 0], [5, 0], [5, 3], [4, 3], [4, 1], [3, 1], [3, 3], [2, 3], [2, 1], [1, 1], [1, 3], [0, 3]],
    "ring with a bridge": [[0, 0], [4, 0], [4, 4], [0, 4], [0, 0], [1, 1], [1, 3], [3, 3], [3, 1], [1, 1]],
}


def shoelace(points: np.ndarray) -> float:
    """Signed area of a polygon in the plane."""
    x, y = points.T
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2)


def placed(flat: list, turn: np.ndarray, offset: float) -> np.ndarray:
    return np.column_stack([np.array(flat, float), np.zeros(len(flat))]) @ turn.T * 3 + offset


@pytest.mark.parametrize("offset", [0.0, 1e4])
@pytest.mark.parametrize("winding", [1, -1])
def test_the_area_is_covered_once(winding, offset):
    rng = np.random.default_rng(1)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    flats = [flat[::winding] for flat in SHAPES.values()]
    corners = np.concatenate([placed(flat, turn, offset) for flat in flats])
    sizes = np.array([len(flat) for flat in flats])
    triangles, owner = triangulate(corners, sizes)
    assert (np.bincount(owner) == sizes - 2).all() and (np.diff(owner) >= 0).all()
    begins = np.cumsum(sizes) - sizes
    for index, flat in enumerate(flats):
        own = triangles[owner == index] - begins[index]
        assert set(own.ravel()) <= set(range(len(flat)))
        areas = [shoelace(np.array(flat)[triangle]) for triangle in own]
        whole = shoelace(np.array(flat))
        assert sum(areas) == pytest.approx(whole, rel=1e-6)  # as large
        assert min(np.array(areas) * np.sign(whole)) >= -1e-6  # and nothing twice


def test_convex_polygons_are_fans_from_their_first_corner():
    corners = placed(SHAPES["square"], np.eye(3), 0)
    triangles, _ = triangulate(np.concatenate([corners, corners]), np.array([4, 4]))
    assert triangles.tolist() == [[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7]]


def test_what_is_no_polygon_has_no_triangles_or_any():
    corners = np.array([[0, 0, 0], [1, 1, 1], *[[np.nan] * 3] * 5, *[[2, 2, 2]] * 6], float)
    triangles, owner = triangulate(corners, np.array([0, 2, 5, 6, 0]))
    assert owner.tolist() == [2] * 3 + [3] * 4 and triangles.min() >= 2 and triangles.max() < 13
    nothing, of_none = triangulate(np.zeros((0, 3)), np.zeros(0, np.int64))
    assert nothing.shape == (0, 3) and of_none.shape == (0,)


def test_a_polygon_of_very_many_corners_is_quick():
    angle = np.linspace(0, 2 * np.pi, 60_000, endpoint=False)
    radius = np.where(np.arange(60_000) % 2, 0.5, 1.0)
    ring = np.column_stack([radius * np.cos(angle), radius * np.sin(angle), angle * 0])
    assert len(triangulate(ring, np.array([60_000]))[0]) == 59_998
