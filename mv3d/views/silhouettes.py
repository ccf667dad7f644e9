"""Silhouettes of one object in several views: distances, projection, and rays through a field of their cones."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float

from mv3d.core.errors import EmptyHullError, InputError
from mv3d.render.cameras import Cameras
from mv3d.views.grid import Grid
from mv3d.views.morphology import distance_to_false

FAR = 1e3  # pixels: "this view says nothing here"
_SAMPLES_AT_ONCE = 250_000  # of rays: their positions stay in the cache


@dataclass(frozen=True, eq=False)
class Silhouettes:
    """Masks of one object in posed views. alphas: 0 to 1, one for each camera."""

    alphas: Float[np.ndarray, "n h w"]
    cameras: Cameras

    @cached_property
    def distances(self) -> Float[np.ndarray, "n h w"]:
        """`silhouette_distance` of every view."""
        return np.stack([silhouette_distance(alpha) for alpha in self.alphas])


def silhouette_distance(alpha: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    """Signed distance to the silhouette's edge in pixels, positive inside; sub-pixel where alpha is soft."""
    inside = alpha > 0.5
    if not inside.any():
        return np.full(alpha.shape, -FAR, np.float32)
    if inside.all():
        return np.full(alpha.shape, FAR, np.float32)
    within = distance_to_false(inside) - 0.5
    outside = distance_to_false(~inside) - 0.5
    distance = np.where(inside, within, -outside)
    edge = np.abs(distance) < 0.6
    return np.where(edge, np.clip(alpha - 0.5, -0.5, 0.5), distance).astype(np.float32)


def projection(cameras: Cameras, view: int, device: torch.device) -> Float[torch.Tensor, "3 4"]:
    """World → homogeneous pixel (x·depth, y·depth, depth)."""
    w2c = cameras.w2c[view]
    intrinsics = np.array(
        [[cameras.fl_x[view], 0, -cameras.cx[view]], [0, -cameras.fl_y[view], -cameras.cy[view]], [0, 0, -1]]
    )
    return torch.tensor(intrinsics @ w2c[:3], dtype=torch.float32, device=device)


def sample_view(
    image: Float[torch.Tensor, "c h w"],
    matrix: Float[torch.Tensor, "3 4"],
    points: Float[torch.Tensor, "p 3"],
) -> tuple[Float[torch.Tensor, "p c"], Float[torch.Tensor, " p"], torch.Tensor]:
    """Bilinear image values where points project, their depth, and whether they fall into the frame."""
    xy, depth = _pixels(matrix, points)
    found, in_frame = _sampled(image, xy, depth)
    return found, depth, in_frame


def _pixels(
    matrix: Float[torch.Tensor, "3 4"], points: Float[torch.Tensor, "p 3"]
) -> tuple[Float[torch.Tensor, "p 2"], Float[torch.Tensor, " p"]]:
    pixel = points @ matrix[:, :3].T + matrix[:, 3]
    depth = pixel[:, 2]
    return pixel[:, :2] / depth.clamp_min(1e-6)[:, None], depth


def _sampled(
    image: Float[torch.Tensor, "c h w"], xy: Float[torch.Tensor, "p 2"], depth: Float[torch.Tensor, " p"]
) -> tuple[Float[torch.Tensor, "p c"], torch.Tensor]:
    height, width = image.shape[1:]
    unit = xy / xy.new_tensor([width / 2, height / 2]) - 1
    in_frame = (unit.abs() <= 1).all(1) & (depth > 1e-6)
    found = F.grid_sample(
        image[None], unit[None, None].clamp(-2, 2), align_corners=False, padding_mode="border"
    )
    return found[0, :, 0].T, in_frame


def view_distances(
    distances: Float[torch.Tensor, "n h w"], cameras: Cameras, points: Float[torch.Tensor, "p 3"]
) -> list[Float[torch.Tensor, " p"]]:
    """Per view: distance to the silhouette's cone in world units, positive inside.

    Outside the frame a view carves, except beyond a border that its silhouette touches: there the object
    was cropped and the view says nothing.
    """
    answers = []
    for view in range(len(cameras)):
        image = distances[view]
        matrix = projection(cameras, view, points.device)
        pixel, depth = _pixels(matrix, points)
        value, in_frame = _sampled(image[None], pixel, depth)
        size = pixel.new_tensor([cameras.width, cameras.height])
        overshoot = (pixel - pixel.clamp_min(0).minimum(size)).norm(dim=1)
        borders = (image[0], image[-1], image[:, 0], image[:, -1])
        cropped = any(bool((border > 0).any()) for border in borders)
        if cropped:
            distance = torch.where(in_frame, value[:, 0], torch.full_like(depth, FAR))
        else:
            distance = value[:, 0] - overshoot  # continuous beyond the frame
        world = torch.where(depth > 1e-6, distance * depth / float(cameras.fl_x[view]), -depth.abs() - 1)
        answers.append(world)
    return answers


def common_box(alphas: Float[np.ndarray, "n h w"], cameras: Cameras) -> tuple[np.ndarray, float]:
    """Centre and half side of a cube that holds what all silhouettes see.

    The centre is nearest to the rays through the silhouettes' centroids (least squares), the half side the
    largest silhouette radius at that depth.

    Raises InputError for an empty silhouette and for cameras that all look along one line, EmptyHullError if that
    centre lies behind a camera.
    """
    normal, right = np.zeros((3, 3)), np.zeros(3)
    rays = []
    for view in range(len(cameras)):
        ys, xs = np.nonzero(alphas[view] > 0.5)
        if not len(xs):
            raise InputError(
                f"view {view}: expected an object that can be seen in {cameras.width}x{cameras.height} pixels, found "
                "none; give larger or cropped images, or remove the view"
            )
        middle = np.array([[(xs.min() + xs.max()) / 2 + 0.5, (ys.min() + ys.max()) / 2 + 0.5]])
        origin, direction = cameras.rays(view, middle)
        across = np.eye(3) - np.outer(direction[0], direction[0])
        normal += across
        right += across @ origin[0]
        radius = 0.5 * float(np.hypot(xs.max() - xs.min() + 1, ys.max() - ys.min() + 1))
        rays.append((origin[0], direction[0], radius / min(cameras.fl_x[view], cameras.fl_y[view])))
    if np.linalg.cond(normal) > 1e8:
        raise InputError(
            "views: all cameras look along the same line, so depth cannot be found; give views from different sides"
        )
    center = np.linalg.solve(normal, right)
    depths = [float((center - origin) @ direction) for origin, direction, _ in rays]
    if min(depths) <= 0:
        raise EmptyHullError(
            "views: the silhouettes have no common object in front of all cameras (empty hull); check the poses "
            "and their axes (OpenGL: +X right, +Y up, +Z back)"
        )
    half = max(depth * spread for depth, (_, _, spread) in zip(depths, rays, strict=True))
    return center, half * 1.25


def box_interval(
    grid: Grid, origin: Float[torch.Tensor, "r 3"], direction: Float[torch.Tensor, "r 3"]
) -> tuple[Float[torch.Tensor, " r"], Float[torch.Tensor, " r"]]:
    """Where rays enter and leave the grid's box (slab method); near ≥ far where they miss it."""
    low = origin.new_tensor(grid.origin)
    high = low + grid.spacing * (origin.new_tensor(grid.shape) - 1)
    safe = torch.where(direction.abs() < 1e-9, torch.full_like(direction, 1e-9), direction)
    first, second = (low - origin) / safe, (high - origin) / safe
    near = torch.minimum(first, second).amax(1).clamp_min(0)
    return near, torch.maximum(first, second).amin(1)


def march_lowest(
    sdf: Float[torch.Tensor, "x y z"],
    grid: Grid,
    origin: Float[torch.Tensor, "r 3"],
    direction: Float[torch.Tensor, "r 3"],
    *,
    samples: int,
) -> tuple[Float[torch.Tensor, " r"], Float[torch.Tensor, " r"]]:
    """Along each ray: the lowest value of the field in the box, and the distance where the ray first enters
    (field < 0), or where it is lowest if it never enters."""
    near, far = box_interval(grid, origin, direction)
    far = torch.maximum(far, near + 1e-6)
    step = torch.linspace(0, 1, samples, device=origin.device)
    lows, wheres = [], []
    rays = max(1, _SAMPLES_AT_ONCE // samples)
    for o, d, n, f in zip(*(a.split(rays) for a in (origin, direction, near, far)), strict=True):
        t = n[:, None] + (f - n)[:, None] * step
        values = grid.sample_along(sdf, o, d, t)
        low, at = values.min(1)
        inside = values < 0
        first = torch.where(inside.any(1), inside.float().argmax(1), at)
        lows.append(low)
        wheres.append(t.gather(1, first[:, None])[:, 0])
    return torch.cat(lows), torch.cat(wheres)
