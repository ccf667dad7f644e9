"""Consistency of silhouettes with each other and with their cameras, without ground truth.

The hull of all silhouettes (the intersection of their cones, Laurentini 1994), seen again by each camera, lies inside
each silhouette. The share of a silhouette that it covers is 1 if one solid object can have cast them all.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from mv3d.core.errors import InputError
from mv3d.render.cameras import Cameras


def silhouette_recall(
    alphas: Float[np.ndarray, "n h w"],
    cameras: Cameras,
    *,
    rays: int = 1500,
    samples: int = 256,
    tolerance_px: float = 1.0,
) -> Float[np.ndarray, " n"]:
    """Per view: the share of its silhouette that the hull of all silhouettes covers, 0 to 1.

    A pixel is covered if some point of its ray projects into the silhouette of every camera. There is no grid: at
    most `rays` pixels of each silhouette, evenly spread, are tried at `samples` depths of the part of the ray that
    can see the object. `tolerance_px`: how far outside of a silhouette a point may project, in pixels; it takes up
    the rounding of silhouettes to pixels. A view excludes nothing beyond a border that its silhouette touches (a cropped
    object).

    Raises InputError for an empty mask, fewer than two views or wrong sizes, EmptyHullError for silhouettes without a
    common object.
    """
    if len(alphas) != len(cameras) or len(alphas) < 2:
        raise InputError(
            f"silhouettes: expected at least 2, one for each camera, got {len(alphas)} for {len(cameras)} cameras"
        )
    if alphas.shape[1:] != (cameras.height, cameras.width):
        raise InputError(
            f"silhouettes: expected {cameras.width}x{cameras.height} as the cameras say, got "
            f"{alphas.shape[2]}x{alphas.shape[1]}"
        )
    if not np.isfinite(alphas).all():
        raise InputError("silhouettes: expected finite values, got NaN or infinity")
    for view, alpha in enumerate(alphas):
        if not (alpha > 0.5).any():
            raise InputError(f"silhouettes: view {view} is empty; expected an object in every view")
    from mv3d.views.silhouettes import common_box, silhouette_distance  # noqa: PLC0415 - loads torch

    distances = [silhouette_distance(alpha) for alpha in alphas]
    borders = [np.concatenate([alpha[0], alpha[-1], alpha[:, 0], alpha[:, -1]]) for alpha in alphas]
    cropped = [bool((border > 0.5).any()) for border in borders]
    center, half = common_box(alphas, cameras)
    radius = half * 3**0.5
    shares = np.zeros(len(cameras))
    for view in range(len(cameras)):
        ys, xs = np.nonzero(alphas[view] > 0.5)
        chosen = np.linspace(0, len(xs) - 1, min(rays, len(xs))).astype(int)
        origins, directions = cameras.rays(view, np.stack([xs[chosen] + 0.5, ys[chosen] + 0.5], 1))
        middle = ((center - origins) * directions).sum(1)
        near = np.maximum(middle - radius, 1e-3 * radius)
        steps = (np.arange(samples) + 0.5) / samples
        depths = near[:, None] + steps * (middle + radius - near)[:, None]
        points = (origins[:, None] + depths[..., None] * directions[:, None]).reshape(-1, 3)
        ray = np.repeat(np.arange(len(chosen)), samples)
        # Views from across exclude most points, so with them first few are left for the others.
        for other in _farthest_first(cameras, view):
            inside = _inside(points, cameras, other, distances[other], tolerance_px, cropped[other])
            points, ray = points[inside], ray[inside]
        shares[view] = len(np.unique(ray)) / len(chosen)
    return shares


def _inside(
    points: Float[np.ndarray, "p 3"],
    cameras: Cameras,
    view: int,
    distance: Float[np.ndarray, "h w"],
    tolerance_px: float,
    cropped: bool,
) -> np.ndarray:
    xy, depth = cameras.project(points, view)
    pixel, last = np.floor(xy), np.array([cameras.width - 1, cameras.height - 1])
    in_frame = ((pixel >= 0) & (pixel <= last)).all(1)
    column, row = np.clip(pixel, 0, last).astype(int).T
    inside = distance[row, column] > -tolerance_px
    return (depth > 0) & np.where(in_frame, inside, cropped)


def _farthest_first(cameras: Cameras, view: int) -> list[int]:
    backs = cameras.c2w[:, :3, 2]
    across = np.abs(backs @ backs[view])
    return [int(other) for other in np.argsort(across) if other != view]
