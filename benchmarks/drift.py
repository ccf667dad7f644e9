"""Views that disagree as generated ones do, made from true ones with a fixed seed: a stand-in for a generator.

Every view but the input is moved in its plane, scaled, given another exposure and, first of all, shows an object that
wobbles in 3D: a smooth displacement of the surface, another one for every view, carried into the picture.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from mv3d.render.cameras import Cameras
from mv3d.render.raycast import sample_bilinear
from mv3d.views.morphology import nearest_true
from mv3d.views.views import Views


@dataclass(frozen=True)
class Drift:
    """Bounds of what differs from view to view; each is drawn uniformly within ± its bound.

    shift_px: along both axes, in pixels of a view 576 wide. scale: about the frame's centre. gain: of each colour
    channel. wobble: largest displacement along each world axis, of an object of largest side 1, over waves of that
    length or twice that.
    """

    shift_px: float = 2.0
    scale: float = 0.01
    gain: float = 0.05
    wobble: float = 0.008
    wave_length: float = 0.6


def drifted(views: Views, depths: np.ndarray, drift: Drift | None = None, *, seed: int = 0) -> Views:
    """The views, drifted; the input view stays as it is. depths: (n, h, w) along the optical axis, 0 for background."""
    drift = drift or Drift()
    rng = np.random.default_rng(seed)
    images = [
        image if view == views.input_view else _drifted(image, views.cameras, view, depths[view], drift, rng)
        for view, image in enumerate(views.images)
    ]
    return replace(views, images=np.stack(images))


def _drifted(
    image: np.ndarray,
    cameras: Cameras,
    view: int,
    depth: np.ndarray,
    drift: Drift,
    rng: np.random.Generator,
) -> np.ndarray:
    height, width = depth.shape
    ys, xs = np.mgrid[:height, :width]
    pixel = np.stack([xs.ravel() + 0.5, ys.ravel() + 0.5], 1)
    # Background takes the depth of the nearest surface, so that outlines move with what they bound.
    rows, columns = nearest_true(depth > 0)
    origins, directions = cameras.rays(view, pixel)
    along = directions @ -cameras.c2w[view, :3, 2]
    points = origins + directions * (depth[rows, columns].ravel() / along)[:, None]
    moved, _ = cameras.project(points + wobble(points, drift, rng), view)
    shift = rng.uniform(-1, 1, 2) * drift.shift_px * width / 576
    scale = 1 + rng.uniform(-1, 1) * drift.scale
    gain = 1 + rng.uniform(-1, 1, 3) * drift.gain
    middle = np.array([width, height]) / 2
    flow = middle + (moved - middle) * scale + shift - pixel
    # Read backwards: the flow is smooth and small, so it is taken where it arrives.
    straight = np.concatenate([image[..., :3] * image[..., 3:], image[..., 3:]], -1)
    found = sample_bilinear(straight, pixel - flow).reshape(height, width, 4)
    alpha = found[..., 3:]
    color = np.clip(found[..., :3] / np.maximum(alpha, 1e-6) * gain, 0, 1)
    return np.concatenate([np.where(alpha > 0, color, 0), alpha], -1).astype(np.float32)


def wobble(points: np.ndarray, drift: Drift, rng: np.random.Generator) -> np.ndarray:
    """(p, 3) displacements, at most `drift.wobble` along each axis: three waves in random directions for each axis."""
    total = np.zeros_like(points)
    for axis in range(3):
        for _ in range(3):
            direction = rng.normal(size=3)
            direction *= 2 * np.pi / (drift.wave_length * rng.uniform(1, 2)) / np.linalg.norm(direction)
            total[:, axis] += np.sin(points @ direction + rng.uniform(0, 2 * np.pi)) / 3
    return drift.wobble * total
