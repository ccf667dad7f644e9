"""Depth from neighbouring views: a pit is opened, a plain solid stays, and the sweep finds known depths."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.shapes import orbit_of, silhouettes_of

from mv3d.recon.hull import Hull, HullConfig, visual_hull
from mv3d.recon.stereo import (
    Evidence,
    StereoConfig,
    _boxed,
    _correlation,
    agreed,
    depth_maps,
    dig,
    neighbours_of,
    open_hollows,
)
from mv3d.recon.surface import extract_mesh
from mv3d.render.mesh import Mesh
from mv3d.render.raycast import RayScene
from mv3d.views.grid import Grid

CPU = torch.device("cpu")
CONFIG = StereoConfig(size=96, depths=32)


def block(*, pit: bool, painted: bool = True) -> Mesh:
    """A block of 0.8 × 0.8 × 0.6, with a pit of 0.5 × 0.5 × 0.2 in its top."""
    grid = Grid.around([-0.5, -0.5, -0.4], [0.5, 0.5, 0.4], 51)
    x, y, z = grid.points(CPU).T
    sdf = torch.stack([x.abs() - 0.4, y.abs() - 0.4, z.abs() - 0.3]).amax(0)
    if pit:
        sdf = torch.maximum(sdf, -torch.stack([x.abs() - 0.25, y.abs() - 0.25, 0.1 - z]).amax(0))
    vertices, faces = extract_mesh(sdf.reshape(grid.shape), grid)
    waves = np.sin(vertices @ np.array([[31, 17, -9], [-13, 29, 23], [19, -21, 33]]))
    colors = 127.5 + 100 * waves if painted else np.full(vertices.shape, 150)
    return Mesh(vertices, faces, vertex_colors=colors.astype(np.uint8))


def views_and_hull(mesh: Mesh):
    views = orbit_of(mesh, count=15, size=96, elevation_deg=40.0)
    return views, visual_hull(silhouettes_of(views), HullConfig(resolution=48), device=CPU)


@pytest.fixture(scope="module")
def pit():
    return views_and_hull(block(pit=True))


def in_pit(hull: Hull) -> torch.Tensor:
    x, y, z = hull.grid.points(CPU).T
    inner = (x.abs() < 0.17) & (y.abs() < 0.17) & (z > 0.17) & (z < 0.29)
    return hull.sdf.reshape(-1)[inner]


def test_the_pit_is_opened_and_the_walls_stay(pit):
    views, hull = pit
    silhouettes = silhouettes_of(views)
    opened = open_hollows(views, silhouettes, hull, CONFIG)
    assert (in_pit(hull) < 0).all(), "the silhouettes alone must fill it"
    assert (in_pit(opened) > 0).float().mean() > 0.7
    assert (opened.sdf >= hull.sdf - 1e-6).all()
    x, y, z = hull.grid.points(CPU).T
    body = torch.stack([x.abs() - 0.36, y.abs() - 0.36, z - 0.02, -0.2 - z]).amax(0) < 0
    assert (opened.sdf.reshape(-1)[body] < 0).float().mean() > 0.995


@pytest.mark.parametrize("painted", [True, False])
def test_a_block_without_a_pit_stays(painted: bool):
    views, hull = views_and_hull(block(pit=False, painted=painted))
    opened = open_hollows(views, silhouettes_of(views), hull, CONFIG)
    x, y, z = hull.grid.points(CPU).T
    body = torch.stack([x.abs() - 0.36, y.abs() - 0.36, z.abs() - 0.26]).amax(0) < 0
    assert (opened.sdf.reshape(-1)[body] < 0).float().mean() > 0.99


def test_flat_colours_open_nothing(pit):
    views, hull = pit
    flat = replace(
        views, images=np.where(views.images[..., 3:] > 0, [0.5, 0.5, 0.5, 1], 0).astype(np.float32)
    )
    assert open_hollows(flat, silhouettes_of(flat), hull, CONFIG) is hull


def test_agreed_depths_are_the_true_ones(pit):
    views, hull = pit
    cameras, maps = depth_maps(views, hull, CONFIG)
    mesh = block(pit=True)
    scene = RayScene(mesh.vertices, mesh.faces)
    errors = []
    for view, one in enumerate(agreed(maps, cameras, hull, CONFIG)):
        sure = one.confidence.numpy() > 0.3
        true = scene.first_hits(*cameras.rays(view)).distance.reshape(sure.shape)
        known = sure & np.isfinite(true)
        errors.append(np.abs(one.depth.numpy()[known] - true[known]))
    errors = np.concatenate(errors)
    assert len(errors) > 5000
    assert np.median(errors) < 0.015 and np.quantile(errors, 0.9) < 0.06


def test_neighbours_are_the_nearest_within_the_angles(pit):
    views, _ = pit
    found = neighbours_of(views.cameras, 3, replace(CONFIG, neighbours=2))
    assert sorted(found.tolist()) == [2, 4]
    assert not len(neighbours_of(views.cameras, 3, replace(CONFIG, angles_deg=(1.0, 5.0))))


def test_correlation_is_the_textbook_one():
    rng = torch.Generator().manual_seed(0)
    own, found = torch.rand(3, 9, 9, generator=rng), torch.rand(2, 3, 9, 9, generator=rng)
    found[1] = 0.7 * own + 0.1  # another exposure
    weight = torch.ones(1, 9, 9)
    share = _boxed(weight[None], 5)[0]
    mean = _boxed(own[None], 5)[0] / share
    variance = (_boxed((own * own)[None], 5)[0] / share - mean * mean).sum(0)
    score = _correlation(own, found, mean, variance, weight, share, 5)
    assert score[1, 4, 4] > 0.999
    a, b = own[:, 2:7, 2:7].reshape(3, -1), found[0, :, 2:7, 2:7].reshape(3, -1)
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    assert abs(score[0, 4, 4] - (a * b).sum() / (a.norm() * b.norm())) < 1e-3


def test_a_fin_over_a_pit_stays():
    grid = Grid.around([-0.5, -0.5, -0.5], [0.5, 0.5, 0.5], 64)
    x, y, z = grid.points(CPU).T
    fin = torch.stack([x.abs() - 0.012, y.abs() - 0.3, -z, z - 0.4]).amax(0)
    block = torch.stack([x.abs() - 0.3, y.abs() - 0.3, z, -0.4 - z]).amax(0)
    hull = Hull(grid, torch.minimum(fin, block).reshape(grid.shape), 0.0)
    # The pit lies under the fin, which goes on beside it: its middle hangs free.
    pit = (torch.stack([x.abs() - 0.2, y.abs() - 0.2, -0.2 - z, z]).amax(0) < 0).reshape(grid.shape)
    free = 3 * pit.float()
    dug = dig(hull, Evidence(free, torch.zeros_like(free), free), StereoConfig())
    assert (dug.sdf[pit] > 0).float().mean() > 0.9
    assert (dug.sdf.reshape(-1)[(fin < 0) & (z > 0.05)] < 0).all()
