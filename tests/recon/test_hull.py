"""The visual hull of clean, spoiled and contradicting silhouettes."""

from __future__ import annotations

import pytest
import torch
from helpers.shapes import orbit_of, silhouettes_of, sphere

from mv3d.core.errors import EmptyHullError
from mv3d.recon.hull import HullConfig, visual_hull
from mv3d.views.silhouettes import Silhouettes

CPU = torch.device("cpu")


def test_hull_of_a_ball_from_all_around_is_nearly_the_ball():
    views = orbit_of(sphere(), count=20, size=96, elevation_deg=0)
    hull = visual_hull(silhouettes_of(views), HullConfig(resolution=48), device=CPU)
    assert hull.outlier_share == 0
    points = hull.grid.points(CPU)
    middle = points[:, 2].abs() < 0.05
    error = hull.sdf.reshape(-1)[middle] - (points[middle].norm(dim=1) - 0.4)
    near = (points[middle].norm(dim=1) - 0.4).abs() < 0.05
    assert error[near].abs().mean() < 0.01
    # No cone may cut into the ball.
    assert (hull.sdf.reshape(-1)[points.norm(dim=1) < 0.38] < 0).all()


def test_one_bad_mask_does_not_amputate(cube_views):
    alphas = cube_views.images[..., 3].copy()
    alphas[4, :, 48:] = 0
    spoiled = Silhouettes(alphas, cube_views.cameras)
    soft = visual_hull(spoiled, HullConfig(resolution=48), device=CPU)
    hard = visual_hull(spoiled, HullConfig(resolution=48, max_outliers=0), device=CPU)
    whole = visual_hull(silhouettes_of(cube_views), HullConfig(resolution=48), device=CPU)
    volumes = [float((h.sdf < 0).sum()) * h.grid.spacing**3 for h in (hard, soft, whole)]
    assert volumes[0] < 0.75 * volumes[2] < 0.93 * volumes[2] < volumes[1] < 1.05 * volumes[2]
    assert soft.outlier_share > 0


def test_views_without_a_common_object_are_refused(cube_views):
    images = cube_views.images.copy()
    images[..., 3] = 0
    for i in range(len(images)):
        images[i, (5 if i % 2 else 80) : (12 if i % 2 else 88), 5:12, 3] = 1
    with pytest.raises(EmptyHullError, match="empty hull"):
        visual_hull(Silhouettes(images[..., 3], cube_views.cameras), device=CPU)
