"""The rasteriser against a slow twin that loops over pixels, and its gradient against differences."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from mv3d.recon.splats.cloud import Splats, matrix_from_quaternion
from mv3d.recon.splats.rasterise import Gaussians, project, rasterise, render_splats, shares, windows
from mv3d.render.cameras import Cameras, Orbit

CPU = torch.device("cpu")


def some_splats(count: int = 12, seed: int = 0, size: float = 0.12) -> Splats:
    rng = np.random.default_rng(seed)
    return Splats(
        rng.uniform(-0.4, 0.4, (count, 3)),
        size * rng.uniform(0.3, 1, (count, 3)),
        rng.normal(size=(count, 4)),
        rng.uniform(0.2, 1, count),
        rng.random((count, 3)),
    )


def cameras(size: int = 20) -> Cameras:
    return Orbit((20.0, -35.0), (30.0, 200.0), 2.0, 33.8).cameras(size, size)


def slowly(splats: Splats, cameras: Cameras, view: int) -> np.ndarray:
    """Every pixel and every Gaussian in a loop, in double precision: premultiplied sRGB and alpha."""
    w2c = np.diag([1.0, -1, -1, 1]) @ np.linalg.inv(cameras.c2w[view])
    fx, fy, cx, cy = (float(v[view]) for v in (cameras.fl_x, cameras.fl_y, cameras.cx, cameras.cy))
    seen = []
    turns = matrix_from_quaternion(splats.rotations.astype(np.float64))
    for k in range(len(splats)):
        x, y, z = w2c[:3, :3] @ splats.means[k].astype(np.float64) + w2c[:3, 3]
        jacobian = np.array([[fx / z, 0, -fx * x / z**2], [0, fy / z, -fy * y / z**2]]) @ w2c[:3, :3]
        world = turns[k] @ np.diag(splats.scales[k].astype(np.float64) ** 2) @ turns[k].T
        inverse = np.linalg.inv(jacobian @ world @ jacobian.T + 0.3 * np.eye(2))
        seen.append((z, fx * x / z + cx, fy * y / z + cy, inverse, k))
    image = np.zeros((cameras.height, cameras.width, 4))
    for row in range(cameras.height):
        for column in range(cameras.width):
            through = 1.0
            for _, x, y, inverse, k in sorted(seen, key=lambda entry: entry[0]):
                away = np.array([column + 0.5 - x, row + 0.5 - y])
                alpha = min(0.99, splats.opacities[k] * math.exp(-0.5 * away @ inverse @ away))
                if alpha < 1 / 255:
                    continue
                if through * (1 - alpha) < 1e-4:
                    break
                image[row, column] += through * alpha * np.array([*splats.colors[k], 1])
                through *= 1 - alpha
    return image


@pytest.mark.parametrize("view", [0, 1])
def test_the_rasteriser_is_its_slow_twin(view):
    # Enough of them in the middle that what lies behind is left out.
    splats = some_splats(40, size=0.25)
    twin = slowly(splats, cameras(), view)
    assert twin[..., 3].max() > 0.999
    gaussians = Gaussians.of(splats, CPU)
    for box in ((0, 0, 20, 20), (3, 5, 17, 12)):
        left, top, right, bottom = box
        found = rasterise(gaussians, cameras(), view, box).numpy()
        assert np.abs(found - twin[top:bottom, left:right]).max() < 2e-5


def test_windows_join_without_a_seam():
    splats, wide = some_splats(60), cameras(250)
    whole = render_splats(splats, wide, device=CPU)
    whole[..., :3] *= whole[..., 3:]
    part = rasterise(Gaussians.of(splats, CPU), wide, 1, (100, 60, 250, 250)).numpy()
    assert len(list(windows(250, 250))) == 4
    assert np.abs(whole[1, 60:, 100:] - part).max() < 1e-5


def test_shares_times_colours_are_the_picture():
    gaussians = Gaussians.of(some_splats(40, size=0.25), CPU)
    box = (3, 5, 17, 12)
    matrix, alpha = shares(gaussians, cameras(), 0, box)
    picture = rasterise(gaussians, cameras(), 0, box).reshape(-1, 4).numpy()
    assert np.abs(matrix @ gaussians.colors.numpy() - picture[:, :3]).max() < 1e-5
    assert np.abs(alpha - picture[:, 3]).max() < 1e-5 and alpha.max() > 0.99


@pytest.mark.parametrize("name", ["means", "scales", "rotations", "opacities", "colors"])
def test_the_gradient_is_that_of_differences(name):
    exact = Gaussians.of(some_splats(15, seed=1), CPU, torch.float64)
    weights = torch.tensor(np.random.default_rng(2).normal(size=(20, 20, 4)))

    def loss(value: torch.Tensor) -> torch.Tensor:
        changed = Gaussians(**{**vars(exact), name: value})
        return (rasterise(changed, cameras(), 0, (0, 0, 20, 20)) * weights).sum()

    start = getattr(exact, name).clone().requires_grad_()
    loss(start).backward()
    rng, step = np.random.default_rng(3), 1e-6
    for _ in range(6):
        direction = torch.tensor(rng.normal(size=start.shape))
        with torch.no_grad():
            slope = (loss(start + step * direction) - loss(start - step * direction)) / (2 * step)
        # What crosses the least alpha within the step is a jump of 1/255 of a Gaussian; the seeds meet none.
        assert float((start.grad * direction).sum()) == pytest.approx(float(slope), rel=1e-4, abs=1e-6)


def test_a_ball_far_away_is_a_disc_of_its_size():
    """A round Gaussian of deviation s at distance d has a deviation of f·s/d pixels in its picture."""
    ball = Splats([[0, 0, 0]], [[0.1] * 3], [[1, 0, 0, 0]], [1], [[1, 1, 1]])
    lens = Orbit((0.0,), (0.0,), 8.0, 30.0).cameras(64, 64)
    found = project(Gaussians.of(ball, CPU), lens, 0, blur=0.0)
    assert found.xy.numpy() == pytest.approx(np.array([[32, 32]]), abs=1e-3)
    wanted = (float(lens.fl_x[0]) * 0.1 / 8) ** 2
    assert found.covariance.numpy() == pytest.approx(np.array([[wanted, 0, wanted]]), rel=1e-4, abs=1e-6)
    assert float(found.depth[0]) == pytest.approx(8)
