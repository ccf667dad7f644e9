"""Clouds of points: on the surface, even by area, coloured as the mesh, the same for the same seed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import trimesh
from helpers.shapes import cube, sphere, textured_quad

from mv3d.core.errors import InputError, UsageError
from mv3d.render.mesh import Mesh
from mv3d.render.points import sample_surface


def test_points_lie_on_a_ball_with_its_normals_and_colours():
    ball = sphere(0.4)
    cloud = sample_surface(ball, 5000)
    length = np.linalg.norm(cloud.points, axis=1, keepdims=True)
    assert length == pytest.approx(0.4, rel=0.005)
    assert (cloud.normals * cloud.points / length).sum(1).min() > 0.999
    expected = 127.5 + 127.5 * np.sin(7 * cloud.points + [0, 1, 2])
    assert cloud.colors is not None and np.abs(cloud.colors - expected).max() < 6


def test_every_part_of_the_area_has_its_share():
    """A large and a small square far from each other; independent points would be off by about 40 here."""
    small = textured_quad()
    large = small.vertices * 3 + [5, 0, 0]
    mesh = Mesh(np.concatenate([small.vertices, large]), np.concatenate([small.faces, small.faces + 4]))
    cloud = sample_surface(mesh, 10_000, seed=3)
    assert (cloud.points[:, 0] < 1).sum() == pytest.approx(1000, abs=2)
    on_large = cloud.points[cloud.points[:, 0] > 1][:, 1:] / 3
    counts, _, _ = np.histogram2d(*on_large.T, bins=3, range=[[-1, 1]] * 2)
    assert counts == pytest.approx(np.full((3, 3), 1000), abs=120)
    assert cloud.colors is None


def test_colours_are_the_textures():
    cloud = sample_surface(textured_quad(), 4000)
    left, high = cloud.points[:, 1] < 0, cloud.points[:, 2] > 0
    # A texel (a quarter) away from the borders of the four colours.
    clear = (np.abs(cloud.points[:, 1:]) > 0.25).all(1)
    for side, up, color in (
        (0, 1, (250, 0, 0)),
        (1, 1, (125, 0, 0)),
        (0, 0, (0, 0, 250)),
        (1, 0, (0, 0, 125)),
    ):
        there = clear & (left == side) & (high == up)
        assert there.sum() > 400 and (cloud.colors[there] == color).all()
    tinted = replace(textured_quad(), vertex_colors=np.full((4, 3), 188, np.uint8))
    darker = sample_surface(tinted, 4000).colors[clear & ~left & high]
    assert (np.abs(darker.astype(int) - [184, 0, 0]) <= 1).all()  # half the light of 250


def test_the_file_has_no_faces_and_the_seed_decides(tmp_path):
    mesh = cube(0.5)
    path = mesh.export(tmp_path / "a.ply", points=500, seed=1)
    read = trimesh.load(path)
    cloud = sample_surface(mesh, 500, seed=1)
    assert isinstance(read, trimesh.PointCloud) and (read.vertices == cloud.points).all()
    assert (read.colors[:, :3] == cloud.colors).all()
    assert b"property float nx" in path.read_bytes()[:400]
    assert path.read_bytes() == mesh.export(tmp_path / "b.ply", points=500, seed=1).read_bytes()
    assert path.read_bytes() != mesh.export(tmp_path / "c.ply", points=500, seed=2).read_bytes()


def test_what_cannot_be_a_cloud(tmp_path):
    with pytest.raises(UsageError, match=r"points: expected only with \.ply, got a\.glb"):
        cube().export(tmp_path / "a.glb", points=5)
    with pytest.raises(UsageError, match="points: expected 1 to"):
        cube().export(tmp_path / "a.ply", points=0)
    with pytest.raises(InputError, match="faces with an area"):
        sample_surface(Mesh(np.zeros((3, 3)), np.array([[0, 1, 2]])), 5)
    assert not list(tmp_path.iterdir())
