"""The tightened hull."""

from __future__ import annotations

import torch
from helpers.shapes import silhouettes_of

import mv3d
from mv3d.recon.hull import HullConfig, visual_hull
from mv3d.recon.surface import extract_mesh
from mv3d.recon.tighten import TightenConfig, tighten
from mv3d.render.raycast import render_views

CPU = torch.device("cpu")


def test_tightening_flattens_the_cones_and_keeps_the_silhouettes(cube_views):
    alphas = cube_views.images[..., 3]
    silhouettes = silhouettes_of(cube_views)
    hull = visual_hull(silhouettes, HullConfig(resolution=48), device=CPU)
    tight = tighten(silhouettes, hull, TightenConfig(levels=((32, 80),)))
    assert (tight.sdf >= hull.sdf - 1e-5).all()
    heights = [float(h.grid.points(CPU)[h.sdf.reshape(-1) < 0][:, 2].min()) for h in (hull, tight)]
    assert heights[0] < -0.33 and abs(heights[1] + 0.3) < 0.7 * abs(heights[0] + 0.3)
    vertices, faces = extract_mesh(tight.sdf, tight.grid)
    shown = render_views(mv3d.Mesh(vertices, faces), cube_views.cameras)[..., 3] > 0.5
    wanted = alphas > 0.5
    assert (shown & wanted).sum() / (shown | wanted).sum() > 0.95
