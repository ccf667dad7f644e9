"""Outlines that meet the silhouettes, the texture's last pass, and a fit that has nothing to go by."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import trimesh
from helpers.shapes import as_mesh, cube, orbit_of, sphere

from mv3d.recon.field import FieldConfig, fit_field
from mv3d.recon.hull import visual_hull
from mv3d.recon.outline import OutlineConfig, _on_rim, fit_outlines
from mv3d.recon.pipeline import rerender_report
from mv3d.recon.surface import extract_mesh
from mv3d.recon.texture import BakeConfig, bake
from mv3d.recon.tighten import TightenConfig, carve, tighten
from mv3d.render.mesh import face_normals
from mv3d.render.raycast import render_views
from mv3d.render.topology import is_closed

CPU = torch.device("cpu")


@pytest.mark.parametrize("scale", [0.97, 1.03])
def test_a_ball_of_the_wrong_size_gets_the_right_one(scale):
    views = orbit_of(sphere(0.4), size=192)
    ball = sphere(0.4 * scale)
    fitted = fit_outlines(ball.vertices, ball.faces, views.images[..., 3], views.cameras)
    radius = np.linalg.norm(fitted, axis=1)
    # Where outlines run: between the circles that the lowest and the highest camera see.
    girdle = np.abs(fitted[:, 2]) < 0.3
    assert abs(radius[girdle].mean() - 0.4) < 0.002
    assert is_closed(ball.faces)
    assert ((face_normals(ball.vertices, ball.faces) * face_normals(fitted, ball.faces)).sum(1) > 0).all()


def test_what_fits_already_stays():
    ball = sphere(0.4)
    views = orbit_of(ball, size=192)
    fitted = fit_outlines(ball.vertices, ball.faces, views.images[..., 3], views.cameras)
    assert np.linalg.norm(fitted - ball.vertices, axis=1).max() < 0.003  # two thirds of a pixel


def test_outlines_lie_between_views_that_disagree():
    large, small = orbit_of(sphere(0.405), size=192), orbit_of(sphere(0.395), size=192)
    images = np.where((np.arange(12) % 2 == 0)[:, None, None, None], large.images, small.images)
    ball = sphere(0.395)
    even = OutlineConfig(inward=1.0)
    wary = OutlineConfig(inward=5.0)
    radii = []
    for config in (even, wary):
        fitted = fit_outlines(ball.vertices, ball.faces, images[..., 3], large.cameras, config)
        radii.append(np.linalg.norm(fitted, axis=1)[np.abs(fitted[:, 2]) < 0.25].mean())
    assert abs(radii[0] - 0.4) < 0.0015
    assert 0.3945 < radii[1] < radii[0]


def test_a_silhouette_of_something_else_is_not_followed():
    views = orbit_of(sphere(0.4), size=192)
    images = views.images.copy()
    images[3, ..., 3] = orbit_of(sphere(0.55), size=192).images[3, ..., 3]
    ball = sphere(0.4)
    fitted = fit_outlines(ball.vertices, ball.faces, images[..., 3], views.cameras)
    assert np.linalg.norm(fitted - ball.vertices, axis=1).max() < 0.004


def test_rim_against_the_slow_twin():
    box = cube()
    center = np.array([2.0, 0.7, 0.4])
    normals = face_normals(box.vertices, box.faces)
    sides: dict[int, set[bool]] = {}
    for face, normal in zip(box.faces, normals, strict=True):
        for vertex in face:
            side = bool((center - box.vertices[face[0]]) @ normal > 0)
            sides.setdefault(int(vertex), set()).add(side)
    slow = [len(sides.get(vertex, set())) == 2 for vertex in range(len(box.vertices))]
    assert (_on_rim(box.vertices, box.faces, normals, center) == slow).all()
    assert 0 < sum(slow) < len(slow)


def test_the_last_pass_brings_the_texture_nearer_to_the_views():
    solid = cube()
    fine = (127.5 + 127.5 * np.sin(40 * solid.vertices)).astype(np.uint8)
    views = orbit_of(replace(solid, vertex_colors=fine), size=128)
    psnr = []
    for rounds in (0, 1):
        config = BakeConfig(texture_size=256, refine_rounds=rounds)
        mesh = bake(solid.vertices, solid.faces, views.images, views.cameras, config).mesh
        psnr.append(rerender_report(views, render_views(mesh, views.cameras, supersample=2))["psnr_mean_db"])
    assert psnr[1] > psnr[0] + 0.5


def test_without_colours_to_go_by_the_fit_leaves_the_hull_alone():
    """A dark bar: least area alone would eat it between its silhouettes."""
    bar = as_mesh(trimesh.creation.box((0.25, 0.9, 0.15)), (40, 40, 45))
    views = orbit_of(bar, size=128)
    alphas = views.images[..., 3]
    hull = visual_hull(alphas, views.cameras, resolution=48, device=CPU)
    hull = tighten(alphas, views.cameras, hull, TightenConfig(levels=((32, 60),)))
    config = FieldConfig(levels=((32, 60), (48, 60)), rays=2048)
    field = fit_field(views, hull, config)
    carved = carve(alphas, views.cameras, hull, field.sdf, field.grid)
    volumes = [trimesh.Trimesh(*extract_mesh(h.sdf, h.grid), process=False).volume for h in (hull, carved)]
    assert volumes[1] > 0.95 * volumes[0]
