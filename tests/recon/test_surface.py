"""From a field to a clean, simple, closed mesh."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import trimesh
from helpers.shapes import as_mesh, ball_grid

import mv3d
from mv3d.core.errors import InputError
from mv3d.recon import surface
from mv3d.recon.denoise import DenoiseConfig, denoise, filtered_normals
from mv3d.recon.surface import clean_field, decimate, extract_mesh, mesh_within, meshes_within, smooth
from mv3d.render.mesh import Mesh, face_normals
from mv3d.render.topology import inspect_mesh, is_closed
from mv3d.views.grid import Grid

CPU = torch.device("cpu")


def test_a_sponge_becomes_simple_and_a_ball_stays_as_it_is():
    grid, ball = ball_grid()
    x, y, z = (40 * grid.points(CPU)).T
    gyroid = x.sin() * y.cos() + y.sin() * z.cos() + z.sin() * x.cos()  # tunnels in all directions
    sponge = torch.maximum(ball, (gyroid.reshape(grid.shape) - 1) / 40)
    vertices, faces = extract_mesh(sponge, grid)
    _, simplified = decimate(smooth(vertices, faces), faces, 300)
    assert len(simplified) > 600  # its handles need them
    vertices, faces = mesh_within(sponge, grid, 300)
    assert len(faces) <= 375 and is_closed(faces)
    assert np.abs(np.linalg.norm(vertices, axis=1) - 0.4).mean() < 0.06
    vertices, faces = extract_mesh(ball, grid)
    expected = decimate(denoise(smooth(vertices, faces), faces), faces, 300)
    for ours, theirs in zip(mesh_within(ball, grid, 300), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_clean_field_removes_floaters_and_voids():
    grid, sdf = ball_grid()
    points = grid.points(CPU)
    floater = ((points - torch.tensor([0.45, 0.45, 0.45])).norm(dim=1) - 0.05).reshape(grid.shape)
    hollow = torch.maximum(sdf, 0.15 - points.norm(dim=1).reshape(grid.shape))
    vertices, faces = extract_mesh(torch.minimum(hollow, floater), grid)
    report = inspect_mesh(mv3d.Mesh(vertices, faces))
    assert report.watertight and report.shells == 1
    assert report.volume == pytest.approx(4 / 3 * np.pi * 0.4**3, rel=0.03)
    with pytest.raises(InputError, match="nothing is inside"):
        clean_field(np.ones((5, 5, 5), np.float32))


def test_smoothing_takes_the_crumples_and_leaves_the_size():
    grid, sdf = ball_grid()
    vertices, faces = extract_mesh(sdf, grid)
    crumpled = vertices + np.random.default_rng(0).normal(0, 0.004, vertices.shape).astype(np.float32)
    radius = np.linalg.norm(smooth(crumpled, faces), axis=1)
    assert abs(radius.mean() - 0.4) < 0.001
    assert np.linalg.norm(crumpled, axis=1).std() > 0.0035 and radius.std() < 0.0015
    # One step against its slow twin.
    neighbours = [set() for _ in vertices]
    for a, b, c in faces:
        for one, other in ((a, b), (b, c), (c, a)):
            neighbours[one].add(other)
            neighbours[other].add(one)
    slow = crumpled.astype(np.float64)
    for step in (0.5, -0.53):
        slow = slow + step * (np.stack([slow[list(near)].mean(0) for near in neighbours]) - slow)
    assert np.abs(smooth(crumpled, faces, rounds=1) - slow).max() < 1e-5


@pytest.mark.parametrize("target", [300, 1500])
def test_decimation_stays_closed_and_on_the_surface(target):
    grid, sdf = ball_grid(60)
    vertices, faces = decimate(*extract_mesh(sdf, grid), target)
    assert len(faces) <= 1.02 * target and is_closed(faces)
    assert np.abs(np.linalg.norm(vertices, axis=1) - 0.4).max() < 0.02
    assert ((face_normals(vertices, faces) * vertices[faces].mean(1)).sum(1) > 0).all()


def test_denoising_flattens_the_sides_of_a_cube_and_keeps_its_edges():
    box = as_mesh(trimesh.creation.box((0.8,) * 3).subdivide().subdivide().subdivide().subdivide())
    noise = np.random.default_rng(0).normal(0, 0.004, box.vertices.shape)
    rough = (box.vertices + noise).astype(np.float32)
    even = denoise(rough, box.faces, DenoiseConfig(normal_rounds=15, vertex_rounds=15, angle_deg=20))

    def off(points):
        """Mean distance to the cube's surface, and degrees between the faces' normals and their side's."""
        largest = np.abs(points).max(1)
        n = face_normals(points, box.faces)
        n /= np.linalg.norm(n, axis=1, keepdims=True)
        true = face_normals(box.vertices, box.faces)
        true /= np.linalg.norm(true, axis=1, keepdims=True)
        turned = np.degrees(np.arccos(np.clip((n * true).sum(1), -1, 1)))
        return np.abs(largest - 0.4).mean(), turned.mean(), np.quantile(turned, 0.95)

    before, after = off(rough), off(even)
    assert after[0] < 0.3 * before[0] and after[1] < 1 and after[2] < 2
    # A low-pass filter rounds the edges instead.
    assert after[2] < 0.2 * off(smooth(rough, box.faces))[2]


def test_filtered_normals_against_a_slow_twin():
    grid, sdf = ball_grid(8)
    vertices, faces = extract_mesh(sdf, grid)
    config = DenoiseConfig(normal_rounds=1)
    found = filtered_normals(vertices, faces, config)
    weighted, middle = face_normals(vertices, faces), vertices[faces].astype(float).mean(1)
    area = np.linalg.norm(weighted, axis=1)
    unit = weighted / area[:, None]
    near = [
        [j for j in range(len(faces)) if j != i and set(faces[i]) & set(faces[j])] for i in range(len(faces))
    ]
    spread = np.mean([((middle[i] - middle[j]) ** 2).sum() for i, others in enumerate(near) for j in others])
    limit = 2 * np.sin(np.radians(config.angle_deg) / 2)
    for i, others in enumerate(near):
        total = area[i] * unit[i]
        for j in others:
            apart = ((middle[i] - middle[j]) ** 2).sum() / (2 * spread)
            unlike = ((unit[i] - unit[j]) ** 2).sum() / (2 * limit**2)
            total = total + area[j] * np.exp(-apart - unlike) * unit[j]
        assert np.allclose(found[i], total / np.linalg.norm(total), atol=1e-6)


def test_a_known_sheet_with_many_holes_keeps_its_shape():
    """A thin plate with 100 holes: no closed simplification comes near the target, and a blur would dissolve it."""
    n = 72
    grid = Grid((-0.5, -0.5, -0.5), 1 / (n - 1), (n, n, n))
    at = np.linspace(-0.5, 0.5, n)
    x, y, z = np.meshgrid(at, at, at, indexing="ij")
    plate = np.maximum(np.maximum(np.abs(x), np.abs(y)) - 0.45, np.abs(z) - 0.02)
    cell = 0.09
    holes = 0.025 - np.hypot((x + 0.5) % cell - cell / 2, (y + 0.5) % cell - cell / 2)
    sdf = torch.tensor(np.maximum(plate, holes), dtype=torch.float32)
    (fine, all_faces), (points, faces) = meshes_within(sdf, grid, 500, faithful=True)
    assert len(faces) < len(all_faces) and inspect_mesh(Mesh(points, faces)).watertight
    volume = inspect_mesh(Mesh(fine, all_faces)).volume
    assert inspect_mesh(Mesh(points, faces)).volume == pytest.approx(volume, rel=0.05)


def test_a_rough_pit_does_not_take_the_faces(monkeypatch):
    """Collapse joins sheets there that lie close together; they are taken apart again."""
    grid, ball = ball_grid(60)
    rng = np.random.default_rng(0)
    points = grid.points(CPU).reshape(*grid.shape, 3)
    near = (points - torch.tensor([0.0, 0.0, 0.35])).norm(dim=-1) < 0.1
    rough = ball + near * torch.from_numpy(rng.normal(0, 0.05, grid.shape).astype(np.float32))
    _, (vertices, faces) = meshes_within(rough, grid, 2000)
    assert len(faces) <= 2100 and inspect_mesh(Mesh(vertices, faces)).watertight
    low = vertices[faces].mean(1)[:, 2] < 0.2
    assert np.abs(np.linalg.norm(vertices[faces].mean(1)[low], axis=1) - 0.4).max() < 0.01
    monkeypatch.setattr(surface, "separate_sheets", lambda v, f, most: (v, f) if is_closed(f) else None)
    assert surface._quadric_decimate(*meshes_within(rough, grid, 10**6)[0], 2000) is None
