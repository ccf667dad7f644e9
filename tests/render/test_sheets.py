"""Sheets that touch along an edge are taken apart."""

from __future__ import annotations

import numpy as np
import pytest

from mv3d.render.mesh import Mesh
from mv3d.render.sheets import separate_sheets
from mv3d.render.topology import enclosed_volume, inspect_mesh, is_closed
from mv3d.views.morphology import labelled


def cubes(occupied):
    """The border of filled cells, one vertex for a place: cells that touch at an edge alone share its two vertices."""
    padded = np.pad(occupied, 1)
    shape = np.array(padded.shape) + 1
    faces = []
    for axis in range(3):
        u, v = np.eye(3, dtype=int)[[(axis + 1) % 3, (axis + 2) % 3]]
        for side in (-1, 1):
            border = padded & ~np.roll(padded, -side, axis)
            for cell in np.argwhere(border):
                corner = cell + (np.eye(3, dtype=int)[axis] if side > 0 else 0)
                ring = np.array([corner, corner + u, corner + u + v, corner + v][::side])
                numbers = np.asarray(np.ravel_multi_index(tuple(ring.T), tuple(shape)))
                faces += [numbers[[0, 1, 2]], numbers[[0, 2, 3]]]
    used, inverse = np.unique(np.array(faces), return_inverse=True)
    points = np.stack(np.unravel_index(used, tuple(shape)), 1).astype(np.float32)
    return points, inverse.reshape(-1, 3).astype(np.int32)


def separated(vertices, faces):
    found = separate_sheets(vertices, faces)
    assert found is not None
    return found


def test_two_cubes_that_share_an_edge():
    occupied = np.zeros((2, 2, 1), bool)
    occupied[0, 0, 0] = occupied[1, 1, 0] = True
    vertices, faces = cubes(occupied)
    assert not is_closed(faces)
    points, found = separated(vertices, faces)
    report = inspect_mesh(Mesh(points, found))
    assert report.watertight and report.degenerate == 0 and len(found) == len(faces) + 4
    # The two stay two: each has its own vertices, and the new ones lie in them.
    assert len(points) == 2 * 8 + 2
    assert enclosed_volume(points, found) == pytest.approx(2, abs=0.1) and report.volume < 2


@pytest.mark.parametrize("seed", range(8))
def test_cells_filled_by_chance(seed):
    occupied = np.random.default_rng(seed).random((5, 5, 4)) < 0.45
    vertices, faces = cubes(occupied)
    assert not is_closed(faces)
    points, found = separated(vertices, faces)
    report = inspect_mesh(Mesh(points, found))
    assert report.watertight and report.degenerate == 0
    assert report.volume == pytest.approx(occupied.sum(), rel=0.05)
    # Solids that touch at an edge or a corner are taken apart: as many bodies as cells that share a side.
    _, bodies = labelled(occupied)
    _, spaces = labelled(~np.pad(occupied, 1), np.ones((3, 3, 3)))
    # Each vertex at a place of its own, so that what only touches is not welded.
    apart = points + np.random.default_rng(0).normal(0, 1e-3, points.shape).astype(np.float32)
    shells = inspect_mesh(Mesh(apart, found)).shells
    assert shells == bodies + spaces - 1


def test_what_is_closed_stays_as_it_is_and_faces_back_to_back_go():
    vertices, faces = cubes(np.ones((1, 1, 1), bool))
    same = separated(vertices, faces)
    assert np.array_equal(same[0], vertices) and np.array_equal(same[1], faces)
    flap = np.array([faces[0], faces[0][[1, 0, 2]]], np.int32)
    _, found = separated(vertices, np.concatenate([faces, flap]))
    assert len(found) == len(faces) and is_closed(found)


def test_what_cannot_be_taken_apart_is_refused():
    vertices, faces = cubes(np.ones((1, 1, 1), bool))
    assert separate_sheets(vertices, faces[1:]) is None  # open
    turned = faces.copy()
    turned[0] = turned[0][::-1]
    assert separate_sheets(vertices, turned) is None  # one face of the other winding
    # A checkerboard: more edges than a collapse joins by chance.
    x, y, z = np.indices((6, 6, 6))
    assert separate_sheets(*cubes((x + y + z) % 2 == 0)) is None
