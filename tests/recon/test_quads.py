"""Quads made of a closed mesh, closed again."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from helpers.shapes import ball_grid, orbit_of, silhouettes_of, sphere

from mv3d.core.errors import MissingPartError
from mv3d.recon.quads import check_quads, closed_quads, remeshed
from mv3d.recon.surface import extract_mesh, smooth
from mv3d.recon.texture import BakeConfig, bake
from mv3d.render.mesh import Mesh
from mv3d.render.mesh_io import load_mesh
from mv3d.render.topology import inspect_mesh


def box_of_quads(cuts: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """The unit cube, each side of cuts² quads; vertices at the same place are not merged."""
    i, j = np.divmod(np.arange((cuts + 1) ** 2), cuts + 1)
    flat = np.stack([i / cuts, j / cuts, np.zeros(len(i))], 1)
    first = np.flatnonzero((i < cuts) & (j < cuts))
    quads = np.stack([first, first + 1, first + cuts + 2, first + cuts + 1], 1)  # seen from below
    vertices, faces = [], []
    for axis in range(3):
        below = np.roll(flat, axis, 1)
        for points, winding in ((below, quads), (below + np.eye(3)[(axis + 2) % 3], quads[:, ::-1])):
            faces.append(winding + len(vertices) * len(flat))
            vertices.append(points)
    return np.concatenate(vertices).astype(np.float32), np.concatenate(faces)


def made(found: tuple[np.ndarray, np.ndarray, int] | None) -> tuple[np.ndarray, np.ndarray, int]:
    assert found is not None
    return found


def test_a_hole_and_a_doubled_face_are_closed():
    vertices, sides = box_of_quads()
    points, faces, quads = made(closed_quads(vertices, sides))
    assert quads == len(sides) == 96 and inspect_mesh(
        Mesh(points, faces, quads=quads)
    ).volume == pytest.approx(1)
    # One quad missing, one on another's back.
    spoilt = np.concatenate([sides[:5], sides[6:], sides[40:41, ::-1]])
    points, faces, quads = made(closed_quads(vertices, spoilt))
    report = inspect_mesh(Mesh(points, faces, quads=quads))
    assert report.watertight and report.shells == 1 and report.duplicate == 0 and 80 < quads < 96
    assert report.volume == pytest.approx(1, abs=0.05)


def test_a_ball_becomes_closed_textured_quads(tmp_path):
    pytest.importorskip("pyinstantmeshes")
    grid, sdf = ball_grid()
    vertices, faces = extract_mesh(sdf, grid)
    vertices, faces, quads = made(remeshed(smooth(vertices, faces), faces, 300))
    assert 240 <= quads <= 420 and len(faces) - 2 * quads < 10
    report = inspect_mesh(Mesh(vertices, faces, quads=quads))
    assert report.watertight and report.shells == 1
    assert report.volume == pytest.approx(4 / 3 * np.pi * 0.4**3, rel=0.03)
    side = [np.linalg.norm(np.diff(vertices[faces[: 2 * quads : 2]], axis=1)[:, k], axis=1) for k in (0, 1)]
    assert np.quantile(np.concatenate(side), 0.9) < 2 * np.quantile(np.concatenate(side), 0.1)
    views = orbit_of(sphere())
    settings = BakeConfig(texture_size=256)
    mesh = bake(vertices, faces, views, silhouettes_of(views).distances, settings, quads=quads).mesh
    assert 0.7 * quads < mesh.quads <= quads and len(mesh.faces) == len(faces)
    lines = mesh.export(tmp_path / "m.obj").read_text().splitlines()
    sides = [len(line.split()) - 1 for line in lines if line.startswith("f ")]
    assert sides.count(4) == mesh.quads and sides.count(3) == len(faces) - 2 * mesh.quads
    for name in ("m.obj", "m.glb"):
        back = inspect_mesh(load_mesh(mesh.export(tmp_path / name)))
        assert back.watertight and back.faces == len(faces)


def test_the_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyinstantmeshes", None)
    with pytest.raises(MissingPartError, match=r"pyinstantmeshes.*pip install pyinstantmeshes"):
        check_quads()
