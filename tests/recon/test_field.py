"""The fitted field, its regulariser against a closed form, and a fit without evidence."""

from __future__ import annotations

import torch
import trimesh
from helpers.shapes import as_mesh, orbit_of, silhouettes_of

from mv3d.recon.field import FieldConfig, _flatness, _surface_loss, fit_field
from mv3d.recon.hull import HullConfig, visual_hull
from mv3d.recon.surface import extract_mesh
from mv3d.recon.tighten import TightenConfig, carve, tighten

CPU = torch.device("cpu")


def test_field_finds_the_cubes_colours_and_is_reproducible(cube_views):
    hull = visual_hull(silhouettes_of(cube_views), HullConfig(resolution=32), device=CPU)
    config = FieldConfig(levels=((24, 40),), rays=2048)
    first, second = (fit_field(cube_views, hull, config) for _ in range(2))
    assert torch.equal(first.sdf, second.sdf)
    assert (first.gains[11] == 1).all() and (first.shifts[11] == 0).all()
    front = torch.tensor([[0.3, 0.0, 0.0], [0.3, 0.15, 0.1]])
    exact = (127.5 + 127.5 * torch.sin(7 * front + torch.tensor([0.0, 1, 2]))) / 255
    assert (first.grid.sample(first.rgb, front) - exact).abs().mean() < 0.15


def area_pull(sdf: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
    """What the area term alone wants each sample `at` to grow by, per unit of its weight."""
    quiet = FieldConfig(smooth=0, prior=0, eikonal=0, area=1.0)
    variable = sdf.clone().requires_grad_(True)
    _surface_loss(variable, sdf, at, torch.zeros(len(at)), quiet).backward()
    assert variable.grad is not None
    moved = variable.grad.reshape(-1).nonzero()[:, 0]
    assert torch.isin(moved, at).all()
    return -variable.grad.reshape(-1)[at] * len(at) / 2


def test_area_term_is_motion_by_mean_curvature():
    # Distance to a ball: the mean of six neighbours lies ∇²|x| / 6 = 1 / (3 |x|) above the middle; spacing 1.
    for radius in (6.0, 12.0):
        points = torch.stack(torch.meshgrid(*[torch.arange(33.0) - 16] * 3, indexing="ij"))
        ball = points.norm(dim=0) - radius
        at = (ball[1:-1, 1:-1, 1:-1].abs() < 0.1).nonzero() + 1
        flat = (at[:, 0] * 33 + at[:, 1]) * 33 + at[:, 2]
        pull = area_pull(ball, flat)
        assert torch.allclose(pull, torch.full_like(pull, 1 / (3 * radius)), rtol=0.05)
        # The slow twin: one sample at a time.
        for index, (i, j, k) in list(enumerate(at.tolist()))[:20]:
            near = [ball[i - 1, j, k], ball[i + 1, j, k], ball[i, j - 1, k]]
            near += [ball[i, j + 1, k], ball[i, j, k - 1], ball[i, j, k + 1]]
            slow = (sum(near) / 6 - ball[i, j, k]) * torch.exp(-0.5 * ball[i, j, k] ** 2)
            assert abs(slow - pull[index]) < 1e-5
    plane = torch.arange(9.0)[:, None, None].expand(9, 9, 9) - 4.25
    inner = torch.tensor([(i * 9 + 4) * 9 + 4 for i in (3, 4, 5)])
    assert area_pull(plane.contiguous(), inner).abs().max() < 1e-6


def test_flatness_is_one_where_colours_are_alike():
    rgb = torch.full((3, 9, 9, 9), 0.5)
    rgb[1, 5:] = 0.9  # a step of colour in the middle
    at = torch.tensor([(i * 9 + 4) * 9 + 4 for i in (2, 4, 5, 7)])
    found = _flatness(rgb, at, 0.02)
    assert found[[0, 3]].tolist() == [1, 1] and (found[1:3] < 0.02).all()


def test_a_lump_on_flat_colours_costs_more_than_one_on_a_picture():
    points = torch.stack(torch.meshgrid(*[torch.arange(17.0) - 8] * 3, indexing="ij"))
    bound = points.norm(dim=0) - 5
    sdf = bound + 0.3 * torch.sin(2 * points).prod(0)
    at = (sdf[1:-1, 1:-1, 1:-1].abs() < 1).nonzero() + 1
    at = (at[:, 0] * 17 + at[:, 1]) * 17 + at[:, 2]
    config = FieldConfig(prior=0, eikonal=0, area=0, plain=40)
    flat, picture = (_surface_loss(sdf, bound, at, torch.full((len(at),), f), config) for f in (1.0, 0.0))
    assert abs(flat / picture - 41) < 1e-3


def test_without_colours_to_go_by_the_fit_leaves_the_hull_alone():
    """A dark bar: least area alone would eat it between its silhouettes."""
    bar = as_mesh(trimesh.creation.box((0.25, 0.9, 0.15)), (40, 40, 45))
    views = orbit_of(bar, size=128)
    silhouettes = silhouettes_of(views)
    hull = visual_hull(silhouettes, HullConfig(resolution=48), device=CPU)
    hull = tighten(silhouettes, hull, TightenConfig(levels=((32, 60),)))
    config = FieldConfig(levels=((32, 60), (48, 60)), rays=2048)
    field = fit_field(views, hull, config)
    carved = carve(silhouettes, hull, field.sdf, field.grid)
    volumes = [trimesh.Trimesh(*extract_mesh(h.sdf, h.grid), process=False).volume for h in (hull, carved)]
    assert volumes[1] > 0.95 * volumes[0]
