"""The soft visual hull: where the silhouettes allow matter.

Laurentini 1994 intersects the silhouettes' cones; one bad mask then amputates. Here the intersection is a
signed distance, and places that several views miss are given back to a hull that drops their worst views.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float

from mv3d.core.errors import EmptyHullError, InputError
from mv3d.render.cameras import Cameras
from mv3d.views.grid import Grid
from mv3d.views.silhouettes import (
    common_box,
    march_lowest,
    projection,
    sample_view,
    silhouette_distance,
    view_distances,
)


@dataclass(frozen=True)
class Hull:
    """sdf: (x, y, z) float32 on `grid`, world units, negative inside. dropped: share of the surface samples
    where at least one view was overruled. swell: world units by which the intersection was made larger, as its
    views disagree."""

    grid: Grid
    sdf: Float[torch.Tensor, "x y z"]
    dropped: float
    swell: float = 0.0


def visual_hull(
    alphas: Float[np.ndarray, "n h w"],
    cameras: Cameras,
    *,
    resolution: int = 128,
    device: torch.device,
    max_dropped: int = 2,
) -> Hull:
    """The soft visual hull with `resolution` samples along its longest side.

    max_dropped: how many views may be overruled at a place that at least three views want filled. Views that
    agree give exactly the intersection of the cones.

    Raises EmptyHullError if the silhouettes have no object in common.
    """
    distances = torch.tensor(np.stack([silhouette_distance(a) for a in alphas]), device=device)
    center, half = common_box(alphas, cameras)
    coarse = Grid.around((center - half).tolist(), (center + half).tolist(), 64)
    sdf, _ = _soft_hull(distances, cameras, coarse, device, max_dropped)
    inside = (sdf < coarse.spacing).nonzero()
    if not (sdf < 0.5 * coarse.spacing).any() or len(inside) == 0:
        raise EmptyHullError(
            "views: the silhouettes have no common object (empty hull); check that the poses belong to these images, "
            "the elevation and the azimuth's direction (--azimuth-sign)"
        )
    low = inside.min(0).values.cpu().numpy() * coarse.spacing + np.array(coarse.origin)
    high = inside.max(0).values.cpu().numpy() * coarse.spacing + np.array(coarse.origin)
    margin = 0.06 * float((high - low).max()) + coarse.spacing
    grid = Grid.around((low - margin).tolist(), (high + margin).tolist(), resolution)
    sdf, dropped = _soft_hull(distances, cameras, grid, device, max_dropped)
    if not (sdf < 0).any():
        raise InputError("views: the hull is thinner than the grid; use --quality high or check the poses")
    swell = _swell(sdf, grid, contour_rays(alphas, cameras, grid, device))
    return Hull(grid, sdf - swell, dropped, swell)


def _swell(sdf: Float[torch.Tensor, "x y z"], grid: Grid, rays: tuple[torch.Tensor, torch.Tensor]) -> float:
    """By how much silhouettes that wander from view to view make their intersection too small, world units.

    The rays just inside the silhouettes tell: in views that agree hardly any misses the hull (measured mean
    0.001 to 0.003 spacings), in generated views a fifth to a quarter of them does (0.06 to 0.10).
    """
    lowest, _ = march_lowest(sdf, grid, *rays, samples=int(1.5 * max(grid.shape)))
    return min(1.2 * float(lowest.clamp_min(0).mean()), 0.3 * grid.spacing)


def _soft_hull(
    distances: Float[torch.Tensor, "n h w"],
    cameras: Cameras,
    grid: Grid,
    device: torch.device,
    max_dropped: int,
) -> tuple[Float[torch.Tensor, "x y z"], float]:
    points = grid.points(device)
    keep = min(max_dropped + 1, len(cameras))
    parts = [
        torch.stack(view_distances(distances, cameras, part)).topk(keep, 0, largest=False, sorted=True)
        for part in points.split(500_000)
    ]
    lowest = torch.cat([part.values for part in parts], 1)
    strictest = torch.cat([part.indices[0].to(torch.int16) for part in parts])
    sdf = -lowest[0]
    changed = torch.zeros_like(sdf, dtype=torch.bool)
    for level in range(1, keep):
        votes = _uncovered_votes(sdf.reshape(grid.shape), grid, distances, cameras, points)
        give_back = votes >= 3
        if not give_back.any():
            break
        changed |= give_back & (sdf > 0) & (lowest[level] > 0)
        sdf = torch.where(give_back, -lowest[level], sdf)
    guilty = _guilty_views(strictest[changed], len(cameras), int((sdf < 0).sum()), max_dropped)
    if guilty and len(cameras) - len(guilty) >= 3:
        # What a bad mask took away inside cannot be voted back: other matter hides it. So the mask goes.
        others = [view for view in range(len(cameras)) if view not in guilty]
        sdf_3d, share = _soft_hull(
            distances[others], cameras[others], grid, device, max_dropped - len(guilty)
        )
        return sdf_3d, max(share, float(changed.sum() / (sdf.abs() < grid.spacing).sum().clamp_min(1)))
    surface = (sdf.abs() < grid.spacing).sum().clamp_min(1)
    return sdf.reshape(grid.shape), float(changed.sum() / surface)


def _guilty_views(blamed: torch.Tensor, count: int, volume: int, most: int) -> list[int]:
    """Views whose silhouettes alone took more than 2 % of the volume that the others agree on."""
    blame = torch.bincount(blamed.long(), minlength=count)
    worst = blame.argsort(descending=True)[:most].tolist()
    return [view for view in worst if int(blame[view]) > 0.02 * volume]


def _uncovered_votes(
    sdf: Float[torch.Tensor, "x y z"],
    grid: Grid,
    distances: Float[torch.Tensor, "n h w"],
    cameras: Cameras,
    points: Float[torch.Tensor, "p 3"],
) -> torch.Tensor:
    """Per grid sample: in how many views it projects onto foreground that the present hull leaves uncovered."""
    votes = torch.zeros(len(points), dtype=torch.int8, device=points.device)
    small = 96
    scale = small / max(cameras.width, cameras.height)
    width, height = max(2, round(cameras.width * scale)), max(2, round(cameras.height * scale))
    little = cameras.resized(width, height)
    for view in range(len(cameras)):
        depth_map = F.interpolate(distances[view][None, None], (height, width), mode="bilinear")[0, 0]
        wanted = depth_map * scale > 1.0
        ys, xs = wanted.nonzero(as_tuple=True)
        if len(ys) == 0:
            continue
        xy = np.stack([xs.cpu().numpy() + 0.5, ys.cpu().numpy() + 0.5], 1)
        origin, direction = (
            torch.tensor(a, dtype=torch.float32, device=points.device) for a in little.rays(view, xy)
        )
        lowest = march_lowest(sdf, grid, origin, direction, samples=96)[0]
        missing = torch.zeros(1, height, width, device=points.device)
        missing[0, ys, xs] = (lowest > 0.75 * grid.spacing).float()
        # Lone pixels are edge noise; a lost part covers a patch.
        missing = -F.max_pool2d(-missing[None], 3, 1, 1)[0]
        if not missing.any():
            continue
        missing = F.max_pool2d(missing[None], 5, 1, 2)[0]
        value, _, in_frame = sample_view(missing, projection(little, view, points.device), points)
        votes += ((value[:, 0] > 0.5) & in_frame).to(torch.int8)
    return votes


def contour_rays(
    alphas: Float[np.ndarray, "n h w"], cameras: Cameras, grid: Grid, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rays through foreground next to a silhouette's edge: if these meet the surface, the inside does too."""
    size = min(cameras.width, int(2 * max(grid.shape)))
    height = max(2, round(cameras.height * size / cameras.width))
    little = cameras.resized(size, height)
    origins, directions = [], []
    for view in range(len(cameras)):
        image = torch.tensor(alphas[view])[None, None]
        alpha = F.interpolate(image, (height, size), mode="area")[0, 0].numpy()
        distance = silhouette_distance(alpha)
        ys, xs = np.nonzero((distance > 0) & (distance < 2.2))
        origin, direction = little.rays(view, np.stack([xs + 0.5, ys + 0.5], 1))
        origins.append(origin)
        directions.append(direction)
    return (
        torch.tensor(np.concatenate(origins), dtype=torch.float32, device=device),
        torch.tensor(np.concatenate(directions), dtype=torch.float32, device=device),
    )
