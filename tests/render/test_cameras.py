"""Cameras against closed forms and their own inverses."""

import numpy as np
import pytest

from mv3d.core.errors import InputError
from mv3d.render.cameras import (
    Cameras,
    gltf_from_world,
    invert_rigid,
    opencv_from_opengl,
    opengl_from_opencv,
    orbit_cameras,
    sine_orbit,
    sv3d_azimuths_deg,
    world_from_gltf,
)


def test_orbit_position_and_last_view_is_the_input():
    cameras = orbit_cameras(10.0, sv3d_azimuths_deg(21), radius=2.0, width=64, height=48)
    e, a = np.radians(10), np.radians(360 / 21)
    expected = 2 * np.array([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)])
    np.testing.assert_allclose(cameras.centers[0], expected, atol=1e-12)
    np.testing.assert_allclose(cameras.centers[-1], 2 * np.array([np.cos(e), 0, np.sin(e)]), atol=1e-12)


@pytest.mark.parametrize("elevation", [-89.0, -10, 0, 35, 90])
def test_every_camera_sees_the_origin_in_the_middle(elevation):
    cameras = orbit_cameras(elevation, sv3d_azimuths_deg(5), width=64, height=48)
    for view in range(5):
        xy, depth = cameras.project(np.zeros((1, 3)), view)
        np.testing.assert_allclose(xy[0], [32, 24], atol=1e-9)
        np.testing.assert_allclose(depth, 2.0)


def test_rays_invert_projection():
    rng = np.random.default_rng(0)
    cameras = sine_orbit().cameras(61, 47)
    points = rng.uniform(-0.5, 0.5, (50, 3))
    for view in (0, 7, 20):
        xy, _ = cameras.project(points, view)
        origins, directions = cameras.rays(view, xy)
        across = np.cross(points - origins, directions)
        np.testing.assert_allclose(across, 0, atol=1e-9)


def test_up_in_the_world_is_up_in_the_picture():
    cameras = orbit_cameras(10.0, [0.0], width=100, height=100)
    xy, _ = cameras.project(np.array([[0, 0, 0.3], [0, 0.3, 0]]), 0)
    assert xy[0, 1] < 50
    assert xy[1, 0] > 50  # +Y lies to the right of a camera on +X


def test_resized_keeps_the_ray_of_a_relative_position():
    cameras = sine_orbit().cameras(40, 30)
    small = cameras.resized(20, 15)
    _, a = cameras.rays(3, np.array([[10.0, 8.0]]))
    _, b = small.rays(3, np.array([[5.0, 4.0]]))
    np.testing.assert_allclose(a, b, atol=1e-12)


def test_conversions_are_inverses():
    c2w = sine_orbit().cameras(8, 8).c2w
    np.testing.assert_allclose(opengl_from_opencv(opencv_from_opengl(c2w)), c2w)
    np.testing.assert_allclose(invert_rigid(c2w) @ c2w, np.tile(np.eye(4), (21, 1, 1)), atol=1e-12)
    points = np.random.default_rng(0).normal(size=(9, 3))
    np.testing.assert_array_equal(world_from_gltf(gltf_from_world(points)), points)
    np.testing.assert_array_equal(
        gltf_from_world(np.array([[1.0, 0, 0], [0, 0, 1.0]])), [[0, 0, 1], [0, 1, 0]]
    )


@pytest.mark.parametrize("what", ["nan", "scaled", "mirrored", "shape"])
def test_bad_matrices_are_refused(what):
    c2w = np.tile(np.eye(4), (3, 1, 1))
    if what == "nan":
        c2w[1, 0, 3] = np.nan
    elif what == "scaled":
        c2w[1, :3, :3] *= 2
    elif what == "mirrored":
        c2w[1, 0, 0] = -1
    else:
        c2w = c2w[:, :3]
    one = np.ones(3)
    with pytest.raises(InputError):
        Cameras(c2w, one, one, one, one, 2, 2)
