"""Outlines that meet the silhouettes."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.shapes import cube, orbit_of, silhouettes_of, sphere

from mv3d.recon.outline import OutlineConfig, _on_rim, fit_outlines
from mv3d.render.mesh import face_normals
from mv3d.render.topology import is_closed
from mv3d.views.silhouettes import Silhouettes


@pytest.mark.parametrize("scale", [0.97, 1.03])
def test_a_ball_of_the_wrong_size_gets_the_right_one(scale):
    views = orbit_of(sphere(0.4), size=192)
    ball = sphere(0.4 * scale)
    fitted = fit_outlines(ball.vertices, ball.faces, silhouettes_of(views))
    radius = np.linalg.norm(fitted, axis=1)
    # Where outlines run: between the circles that the lowest and the highest camera see.
    girdle = np.abs(fitted[:, 2]) < 0.3
    assert abs(radius[girdle].mean() - 0.4) < 0.002
    assert is_closed(ball.faces)
    assert ((face_normals(ball.vertices, ball.faces) * face_normals(fitted, ball.faces)).sum(1) > 0).all()


def test_what_fits_already_stays():
    ball = sphere(0.4)
    views = orbit_of(ball, size=192)
    fitted = fit_outlines(ball.vertices, ball.faces, silhouettes_of(views))
    assert np.linalg.norm(fitted - ball.vertices, axis=1).max() < 0.003  # two thirds of a pixel


def test_outlines_lie_between_views_that_disagree():
    large, small = orbit_of(sphere(0.405), size=192), orbit_of(sphere(0.395), size=192)
    images = np.where((np.arange(12) % 2 == 0)[:, None, None, None], large.images, small.images)
    ball = sphere(0.395)
    even = OutlineConfig(inward=1.0)
    wary = OutlineConfig(inward=5.0)
    radii = []
    for config in (even, wary):
        fitted = fit_outlines(ball.vertices, ball.faces, Silhouettes(images[..., 3], large.cameras), config)
        radii.append(np.linalg.norm(fitted, axis=1)[np.abs(fitted[:, 2]) < 0.25].mean())
    assert abs(radii[0] - 0.4) < 0.0015
    assert 0.3945 < radii[1] < radii[0]


def test_a_silhouette_of_something_else_is_not_followed():
    views = orbit_of(sphere(0.4), size=192)
    images = views.images.copy()
    images[3, ..., 3] = orbit_of(sphere(0.55), size=192).images[3, ..., 3]
    ball = sphere(0.4)
    fitted = fit_outlines(ball.vertices, ball.faces, Silhouettes(images[..., 3], views.cameras))
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
