"""Splats of a mesh in closed form, and that no fit can take them away from it."""

from __future__ import annotations

import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import trimesh
from helpers.shapes import as_mesh, orbit_of, sphere
from scipy.spatial import KDTree

from mv3d.recon.splats import colors
from mv3d.recon.splats.cloud import Splats, matrix_from_quaternion
from mv3d.recon.splats.colors import fitted_colors
from mv3d.recon.splats.cuda import rasterise_gsplat, rasteriser_on
from mv3d.recon.splats.making import SplatConfig, fit_splats
from mv3d.recon.splats.rasterise import Gaussians, rasterise, render_splats
from mv3d.recon.splats.refine import RefineConfig, refined, room_inside
from mv3d.recon.splats.surface import splats_of_mesh
from mv3d.views.metrics import mask_iou, psnr
from mv3d.views.views import composite

CPU = torch.device("cpu")


def likeness(splats: Splats, views) -> tuple[float, float]:
    pairs = list(zip(render_splats(splats, views.cameras, device=CPU), views.images, strict=True))
    by_color = [psnr(composite(a), composite(b)) for a, b in pairs]
    return float(np.mean(by_color)), float(np.mean([mask_iou(a[..., 3], b[..., 3]) for a, b in pairs]))


def test_splats_lie_flat_on_the_surface_and_cover_it():
    ball = sphere(0.4)
    splats = splats_of_mesh(ball, 1500)
    radius = np.linalg.norm(splats.means, axis=1)
    assert abs(len(splats) - 1500) < 30 and radius.min() > 0.39 and radius.max() < 0.4005
    normal = matrix_from_quaternion(splats.rotations)[:, :, 2]
    assert (normal * splats.means).sum(1).min() > 0.39  # outward, along the radius
    assert (splats.scales[:, 2] <= 0.41 * splats.scales[:, :2].min(1)).all()
    nearest = KDTree(splats.means).query(splats.means, 2)[0][:, 1]
    spacing = np.sqrt(4 * np.pi * 0.4**2 / 1500)
    assert nearest.mean() > 0.6 * spacing  # random places would have 0.5
    wanted = 0.5 + 0.5 * np.sin(7 * splats.means + [0, 1, 2])
    assert np.abs(splats.colors - wanted).mean() < 0.03
    assert likeness(splats, orbit_of(ball, count=3))[1] > 0.9


def test_the_sides_of_a_thin_wall_stay_apart():
    wall = as_mesh(trimesh.creation.box((0.004, 0.6, 0.6)).subdivide().subdivide().subdivide())
    colors = np.where(wall.vertices[:, :1] > 0, [[250, 10, 10]], [[10, 10, 250]]).astype(np.uint8)
    splats = splats_of_mesh(replace(wall, vertex_colors=colors), 600)
    facing = matrix_from_quaternion(splats.rotations)[:, 0, 2]
    broad = np.abs(facing) > 0.9
    assert broad.mean() > 0.9 and (np.sign(splats.means[broad, 0]) == np.sign(facing[broad])).all()
    inner = broad & (np.abs(splats.means[:, 1:]).max(1) < 0.25)  # the texture of the rim is of both
    assert (splats.colors[inner & (facing > 0), 0] > 0.9).all()
    assert (splats.colors[inner & (facing < 0), 2] > 0.9).all()


def test_the_fit_comes_nearer_to_the_views():
    ball = sphere(0.4)
    views = orbit_of(ball, count=5, size=56)
    start = splats_of_mesh(replace(ball, vertex_colors=np.full_like(ball.vertex_colors, 128)), 700)
    found = refined(start, views, RefineConfig(passes=3), device=CPU)
    (before, _), (after, iou) = likeness(start, views), likeness(found, views)
    assert after > before + 8 and after > 21 and iou > 0.93
    again = refined(start, views, RefineConfig(passes=3), device=CPU)
    assert np.array_equal(found.means, again.means) and np.array_equal(found.colors, again.colors)


def test_colours_are_found_again(monkeypatch):
    """Splats drawn in other colours: those that the views show come back, of a part of the pixels too."""
    ball = sphere(0.4)
    splats, around = splats_of_mesh(ball, 300), orbit_of(ball, count=5, size=64).cameras
    true, grey = Gaussians.of(splats, CPU), replace(splats, colors=np.full_like(splats.colors, 0.5))
    box = (0, 0, 64, 64)
    targets = [(view, box, rasterise(true, around, view, box)) for view in range(5)]
    for most in (colors.MOST_PIXELS, 8000):
        monkeypatch.setattr(colors, "MOST_PIXELS", most)
        found = fitted_colors(Gaussians.of(grey, CPU), around, targets, pixels=12_000, rounds=60)
        error = (found - true.colors).abs().amax(1)
        assert error.median() < 0.01 and error.quantile(0.9) < 0.05
    once = fitted_colors(Gaussians.of(grey, CPU), around, targets, pixels=12_000, rounds=2)
    assert (once - true.colors).abs().mean() > 2 * (found - true.colors).abs().mean()


def test_no_splat_leaves_the_surface_whatever_the_views_show():
    """Views of something else, huge steps: every Gaussian stays where it began, within its bounds."""
    ball = sphere(0.3)
    start = splats_of_mesh(ball, 300)
    other = orbit_of(sphere(0.55, color=(250, 0, 0)), count=3, size=40)
    wild = RefineConfig(passes=6, color=0.5, opacity=2.0, place=3.0, scale=3.0)
    found = refined(start, other, wild, device=CPU)
    turn = matrix_from_quaternion(start.rotations)
    local = np.einsum("nji,nj->ni", turn, found.means - start.means)
    along, thick = start.scales[:, :2], start.scales[:, 2]
    assert (local[:, 2] / thick).max() > 0.6 * wild.reach  # the views did pull
    assert np.abs(local[:, :2] / along).max() <= wild.reach * 1.001
    assert (local[:, 2] / thick).max() <= wild.reach * 1.001
    assert (-local[:, 2] / along.min(1)).max() <= wild.sink * 1.001
    assert (found.scales / start.scales).max() <= 1.501 and (found.scales / start.scales).min() >= 1 / 1.501
    spacing = np.sqrt(4 * np.pi * 0.3**2 / 300)
    assert (
        np.linalg.norm(found.means, axis=1).max() < 0.3 + 0.25 * spacing
    )  # sideways along the tangent included


def test_what_lies_on_a_thin_wall_does_not_go_through_it():
    wall = as_mesh(trimesh.creation.box((0.01, 0.6, 0.6)).subdivide().subdivide())
    start = splats_of_mesh(wall, 200)
    room = room_inside(start, wall)
    facing = np.abs(matrix_from_quaternion(start.rotations)[:, 0, 2]) > 0.99
    assert facing.mean() > 0.8 and np.abs(room[facing] - 0.0045).max() < 5e-4
    wild = RefineConfig(passes=3, place=3.0)
    found = refined(start, orbit_of(sphere(0.2), count=2, size=32), wild, room=room, device=CPU)
    sides = np.sign(start.means[facing, 0]) * found.means[facing, 0]
    assert sides.min() > 0 and start.scales[:, :2].mean() > 0.01


def test_a_single_view_leaves_the_other_sides_as_the_mesh_has_them():
    ball = sphere(0.4)
    views = orbit_of(ball, count=4, size=48)
    found = fit_splats(ball, views.subset([3]), SplatConfig(500, RefineConfig(passes=1)))
    others = views.subset([0, 1, 2])
    alone = likeness(
        refined(splats_of_mesh(ball, 500), views.subset([3]), RefineConfig(passes=1), device=CPU), others
    )
    assert likeness(found, others)[0] > max(18, alone[0])


def test_gsplat_gets_what_it_expects(monkeypatch):
    """Its kernels need CUDA; here a stand-in with its signature draws with ours, so that the arguments are checked."""
    splats, views = splats_of_mesh(sphere(0.4), 300), orbit_of(sphere(), count=3, size=60)

    def rasterization(means, quats, scales, opacities, colors, viewmats, Ks, width, height, **options):
        assert viewmats.shape == (1, 4, 4) and Ks.shape == (1, 3, 3) and options["eps2d"] == 0.3
        values = (means, scales, quats, opacities, colors)
        c2w = torch.linalg.inv(viewmats).double().numpy() @ np.diag([1.0, -1, -1, 1])
        lens = Ks[0].double().numpy()
        camera = replace(
            views.cameras[[0]], c2w=c2w, fl_x=lens[0, 0], fl_y=lens[1, 1], cx=lens[0, 2], cy=lens[1, 2], width=width,
            height=height,
        )  # fmt: skip
        drawn = rasterise(
            Gaussians.of(Splats(*(v.numpy() for v in values)), CPU), camera, 0, (0, 0, width, height)
        )
        return drawn[None, ..., :3], drawn[None, ..., 3:], {}

    monkeypatch.setitem(sys.modules, "gsplat", SimpleNamespace(rasterization=rasterization))
    gaussians, box = Gaussians.of(splats, CPU), (10, 5, 50, 60)
    ours, theirs = (draw(gaussians, views.cameras, 1, box) for draw in (rasterise, rasterise_gsplat))
    assert ours.shape == (55, 40, 4) and ours[..., 3].max() > 0.9
    assert torch.allclose(ours, theirs, atol=2e-3)
    assert rasteriser_on(CPU) is rasterise


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gsplat_draws_as_ours_does():
    pytest.importorskip("gsplat")
    cuda = torch.device("cuda")
    splats, views = splats_of_mesh(sphere(0.4), 3000), orbit_of(sphere(), count=2, size=96)
    gaussians = Gaussians.of(splats, cuda)
    ours, theirs = (
        draw(gaussians, views.cameras, 1, (0, 0, 96, 96)) for draw in (rasterise, rasterise_gsplat)
    )
    assert (ours - theirs).abs().max() < 0.02
