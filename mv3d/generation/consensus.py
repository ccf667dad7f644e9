"""Alphas of generated views → the alphas of one visual hull under their cameras."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float

from mv3d.core.errors import InputError
from mv3d.render.cameras import Cameras
from mv3d.views.silhouettes import common_box, projection, sample_view

_CHUNK = 1 << 18  # points at a time


def consistent_alpha(
    alphas: Float[np.ndarray, "n h w"],
    cameras: Cameras,
    *,
    resolution: int = 96,
    samples: int = 128,
    device: torch.device | None = None,
) -> Float[np.ndarray, "n h w"]:
    """Alphas in [0, 1], each at most the given one, whose thresholded silhouettes are those of one visual hull.

    A regression-like generator predicts per-pixel occupancy probabilities, which may disagree between views. Each 3D point
    gets the minimum alpha over all views; each pixel gets the maximum over its ray. Thresholding then yields silhouettes of
    one visual hull (Laurentini 1994), up to the grid's resolution. A view with a sharp alpha, the photo, carves the others.

    resolution: grid points along a side of the cube that holds the object. samples: points along a ray.
    Raises InputError for views without a common object (as `common_box`) and for cameras of another number or size.
    """
    if len(alphas) != len(cameras) or alphas.shape[1:] != (cameras.height, cameras.width):
        raise InputError(
            f"alphas: expected {len(cameras)} of {cameras.width}x{cameras.height} as the cameras say, got {len(alphas)} of "
            f"{alphas.shape[2]}x{alphas.shape[1]}"
        )
    device = device or torch.device("cpu")
    # The threshold of the box is so low that the faintest view still has a silhouette.
    center, half = common_box((alphas > 0.05).astype(np.float32), cameras)
    occupancy = _min_over_views(alphas, cameras, center, half, resolution, device)
    consistent = np.zeros(alphas.shape, np.float32)
    for view in range(len(cameras)):
        ys, xs = np.nonzero(alphas[view] > 0)
        if len(xs):
            most = _max_along_rays(
                occupancy, cameras, view, np.stack([xs, ys], 1) + 0.5, center, half, samples
            )
            consistent[view, ys, xs] = np.minimum(most, alphas[view, ys, xs])
    return consistent


def _min_over_views(
    alphas: Float[np.ndarray, "n h w"],
    cameras: Cameras,
    center: np.ndarray,
    half: float,
    resolution: int,
    device: torch.device,
) -> Float[torch.Tensor, "z y x"]:
    """Minimum alpha over all views at the centres of the grid's cells; 0 behind a camera."""
    axis = (torch.arange(resolution, device=device) + 0.5) / resolution * 2 - 1
    middle = torch.tensor(center, dtype=torch.float32, device=device)
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    points = torch.stack([x, y, z], -1).reshape(-1, 3) * half + middle
    images = torch.as_tensor(alphas, dtype=torch.float32, device=device)
    matrices = [projection(cameras, view, device) for view in range(len(cameras))]
    parts = []
    for chunk in points.split(_CHUNK):
        lowest = torch.ones(len(chunk), device=device)
        for image, matrix in zip(images, matrices, strict=True):
            value, depth, _ = sample_view(image[None], matrix, chunk)
            # Beyond the frame the border's alpha continues: 0, unless the object is cropped there.
            lowest = torch.minimum(lowest, torch.where(depth > 1e-6, value[:, 0], torch.zeros_like(depth)))
        parts.append(lowest)
    return torch.cat(parts).reshape(resolution, resolution, resolution)


def _max_along_rays(
    occupancy: Float[torch.Tensor, "z y x"],
    cameras: Cameras,
    view: int,
    xy: Float[np.ndarray, "p 2"],
    center: np.ndarray,
    half: float,
    samples: int,
) -> Float[np.ndarray, " p"]:
    origins, directions = cameras.rays(view, xy)
    middle, radius = ((center - origins) * directions).sum(-1), half * 3**0.5
    device = occupancy.device
    start = torch.tensor((origins - center) / half, dtype=torch.float32, device=device).expand(len(xy), 3)
    along = torch.tensor(directions / half, dtype=torch.float32, device=device)
    steps = torch.linspace(-radius, radius, samples, device=device)
    depths = torch.tensor(middle, dtype=torch.float32, device=device)[:, None] + steps
    most, count = [], max(1, _CHUNK // samples)
    for first in range(0, len(xy), count):
        rows = slice(first, first + count)
        points = start[rows, None] + depths[rows, :, None] * along[rows, None]
        values = F.grid_sample(occupancy[None, None], points[None, :, :, None], align_corners=False)
        most.append(values[0, 0, :, :, 0].amax(1))
    return torch.cat(most).cpu().numpy()
