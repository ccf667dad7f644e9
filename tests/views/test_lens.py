"""Lenses: kornia's formulas, inverses, and a bent picture that comes back straight."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from helpers.colmap_files import bent_images, unbent_slowly
from PIL import Image

from mv3d.views.folder import to_uint8
from mv3d.views.lens import CAMERA_MODELS, Lens, straightened
from mv3d.views.readers import load_views

SIZE = 128
COEFFICIENTS = {
    "SIMPLE_RADIAL": {"k1": -0.2},
    "RADIAL": {"k1": 0.15, "k2": -0.05},
    "OPENCV": {"k1": -0.3, "k2": 0.1, "p1": 0.01, "p2": -0.02},
    "OPENCV_FISHEYE": {"k1": 0.05, "k2": -0.02, "k3": 0.01, "k4": -0.004},
    "FULL_OPENCV": {
        "k1": 0.2,
        "k2": 0.1,
        "p1": 0.003,
        "p2": 0.002,
        "k3": 0.05,
        "k4": 0.3,
        "k5": 0.02,
        "k6": 0.01,
    },
    "SIMPLE_RADIAL_FISHEYE": {"k1": -0.05},
    "RADIAL_FISHEYE": {"k1": 0.1, "k2": 0.02},
}


def lens_of(model: str, *, focal: float = 100.0, **coefficients: float) -> Lens:
    values = {"f": focal, "cx": 66.0, "cy": 60.0} | (coefficients or COEFFICIENTS.get(model, {}))
    return Lens.of(model, values, SIZE, SIZE)


@pytest.mark.parametrize("model", COEFFICIENTS)
def test_points_go_where_kornia_sends_them(model):
    from kornia.geometry.calibration import distort_points
    from kornia.geometry.camera import distort_points_kannala_brandt

    lens, c = lens_of(model), COEFFICIENTS[model]
    points = np.random.default_rng(0).uniform(-0.6, 0.6, (50, 2))
    got = torch.tensor(points)
    if "FISHEYE" in model:
        k = [c.get(name, 0.0) for name in ("k1", "k2", "k3", "k4")]
        expected = distort_points_kannala_brandt(got, torch.tensor([1.0, 1, 0, 0, *k], dtype=torch.float64))
    else:
        order = ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6")
        k = torch.tensor([c.get(name, 0.0) for name in order], dtype=torch.float64)
        expected = distort_points(got[None], torch.eye(3, dtype=torch.float64)[None], k[None])[0]
    assert np.allclose(lens.bent(points), expected.numpy(), atol=1e-9)


@pytest.mark.parametrize("model", COEFFICIENTS)
def test_the_inverse_is_newtons(model):
    lens = lens_of(model)
    plane = np.random.default_rng(1).uniform(-0.5, 0.5, (50, 2))
    assert np.allclose(lens.unbent(plane), unbent_slowly(lens, plane), atol=2e-6)
    assert np.allclose(lens.bent(lens.unbent(plane)), plane, atol=2e-6)


def test_a_term_of_the_eighth_power_is_nerfstudios():
    assert lens_of("OPENCV", k4=0.5).bent(np.array([[0.5, 0.0]])) == pytest.approx(
        np.array([[0.5 * (1 + 0.5 * 0.5**8), 0]])
    )


def checkers(size: int = SIZE) -> np.ndarray:
    """A disc with soft squares on it, in the middle."""
    ys, xs = (np.mgrid[:size, :size] + 0.5) / size
    waves = 0.5 + 0.4 * np.sin(24 * xs) * np.sin(24 * ys)
    alpha = np.clip((0.3 - np.hypot(xs - 0.5, ys - 0.5)) * size / 8 + 0.5, 0, 1)  # an edge of 8 pixels
    return np.stack([waves, 1 - waves, np.full_like(waves, 0.4), alpha], -1).astype(np.float32)[None]


@pytest.mark.parametrize("model", COEFFICIENTS)
def test_a_bent_picture_comes_back_straight(model):
    lens, picture = lens_of(model), checkers()
    bent = bent_images(picture, lens.straight(), lens)
    back, target = straightened(bent, lens)
    assert target == lens.straight()  # the disc stays in the frame
    far = np.abs(bent[..., 3] - picture[..., 3]).mean()
    assert far > 0.005 and np.abs(back[..., 3] - picture[..., 3]).mean() < 0.0012
    inside = picture[0, ..., 3] * back[0, ..., 3] > 0.99
    assert np.abs(back - picture)[0][inside].mean() < 0.01


def test_the_focal_length_follows_an_object_near_the_border():
    lens = lens_of("OPENCV_FISHEYE", focal=60.0, k1=0.0)
    near = np.zeros((1, SIZE, SIZE, 4), np.float32)
    near[0, 50:70, 5:20] = 1
    back, target = straightened(near, lens)
    assert target.fl_x < 0.9 * lens.fl_x
    covered = np.argwhere(back[0, ..., 3] > 0.5)
    assert covered.min() >= 1  # nothing is cut off
    corner = lens.unbent(lens.plane(np.array([[5.0, 50.0]])))
    assert target.pixels(corner)[0, 0] == pytest.approx(covered[:, 1].min(), abs=1.5)
    near[0, 50:70, :20] = 1  # cut off by the frame: it stays cut off
    back, target = straightened(near, lens)
    assert target.fl_x >= lens.fl_x and (back[0, ..., 3] > 0.5)[:, 0].any()


@pytest.mark.parametrize(("k1", "bends"), [(0.0, False), (1e-5, False), (6e-4, True)])
def test_what_bends(k1, bends):
    assert lens_of("OPENCV", focal=80.0, k1=k1).bends is bends


@pytest.mark.parametrize("spread", ["shared", "per frame", "distortion_params", "instant-ngp fisheye"])
def test_frames_of_a_bending_lens_are_read_straight(spread, cube_views, tmp_path):
    cameras = cube_views.cameras
    coefficients = {"k1": 1.5, "k2": 0.1, "p1": 0.02, "p2": 0.0}
    model = "OPENCV_FISHEYE" if "fisheye" in spread else "OPENCV"
    known = {"f": cameras.fl_x[0], "cx": 48.0, "cy": 48.0}
    lens = Lens.of(model, known | coefficients, 96, 96)
    bent = bent_images(cube_views.images, lens.straight(), lens)
    (tmp_path / "images").mkdir()
    shared = {"w": 96, "h": 96, "fl_x": known["f"], "cx": 48, "cy": 48, "camera_model": "OPENCV"}
    own: dict = {}
    if spread == "shared":
        shared |= coefficients
    elif spread == "per frame":
        own = coefficients
    elif spread == "distortion_params":
        own = {"distortion_params": [1.5, 0.1, 0, 0, 0.02, 0.0]}
    else:
        shared |= coefficients | {"is_fisheye": True}
        shared.pop("camera_model")
    frames = []
    for index, image in enumerate(bent):
        Image.fromarray(to_uint8(image[..., :3])).save(tmp_path / "images" / f"{index}.png")
        Image.fromarray(to_uint8(image[..., 3])).save(tmp_path / "images" / f"{index}_mask.png")
        frames.append(
            {"file_path": f"images/{index}.png", "transform_matrix": cameras.c2w[index].tolist(), **own}
        )
    (tmp_path / "transforms.json").write_text(json.dumps({**shared, "frames": frames}))
    back = load_views(tmp_path)
    before = (bent[..., 3] > 0.5) != (cube_views.images[..., 3] > 0.5)
    after = (back.images[..., 3] > 0.5) != (cube_views.images[..., 3] > 0.5)
    assert after.mean() < 0.01 and after.mean() < 0.25 * before.mean()
    assert back.cameras.fl_x == pytest.approx(cameras.fl_x)
    (told,) = back.reading["undistorted"]
    assert told["views"] == list(range(12)) and told["fl_x"] == pytest.approx(known["f"], abs=1e-3)


def test_every_model_has_a_test():
    assert {*COEFFICIENTS, "SIMPLE_PINHOLE", "PINHOLE"} == set(CAMERA_MODELS)
