"""The soft visual hull: where the silhouettes allow matter.

Laurentini 1994 intersects the silhouettes' cones; one bad mask then amputates. Here the intersection is a signed
distance, and it is robust: places that several views miss are given back to a hull without their outlier views.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int

from mv3d.core.errors import EmptyHullError, InputError
from mv3d.recon.arrays import Rays, Volume, rays_through
from mv3d.render.cameras import Cameras
from mv3d.views.grid import Grid
from mv3d.views.silhouettes import (
    Silhouettes,
    common_box,
    march_lowest,
    projection,
    sample_view,
    silhouette_distance,
    view_distances,
)


@dataclass(frozen=True)
class HullConfig:
    """Numbers of the hull, tuned on the orbits and objects of benchmarks/recon.py."""

    resolution: int = 128  # samples along the longest side
    max_outliers: int = 2
    """Most views that are left out at a place which `quorum` others want filled; 0 is Laurentini's hull."""
    quorum: int = 3
    outlier_volume: float = 0.02
    """A view that alone removes more than this share of the volume is left out everywhere."""
    margin: float = 0.06  # Space between the hull and the border of its grid, in longest sides
    dilation: float = 1.2
    """The hull grows by this times the mean distance by which rays just inside the silhouettes miss it."""
    most_dilation: float = 0.3  # grid spacings


@dataclass(frozen=True)
class Hull:
    """sdf: world units, negative inside. outlier_share: of the surface samples, those where a view was left out.
    dilation: world units by which the intersection was made larger, as its views disagree."""

    grid: Grid
    sdf: Volume
    outlier_share: float
    dilation: float = 0.0


def visual_hull(silhouettes: Silhouettes, config: HullConfig | None = None, *, device: torch.device) -> Hull:
    """The soft visual hull. Views that agree give exactly the intersection of the cones.

    Raises EmptyHullError if the silhouettes have no object in common, InputError if it is thinner than the grid.
    """
    config = config or HullConfig()
    distances = torch.tensor(silhouettes.distances, device=device)
    center, half = common_box(silhouettes.alphas, silhouettes.cameras)
    coarse = Grid.around((center - half).tolist(), (center + half).tolist(), 64)
    sdf, _ = _soft_hull(distances, silhouettes.cameras, coarse, config)
    inside = (sdf < coarse.spacing).nonzero()
    if not (sdf < 0.5 * coarse.spacing).any() or len(inside) == 0:
        raise EmptyHullError(
            "views: the silhouettes have no common object (empty hull); check that the poses belong to these images, "
            "the elevation and the azimuth's direction (--azimuth-sign)"
        )
    low = inside.min(0).values.cpu().numpy() * coarse.spacing + np.array(coarse.origin)
    high = inside.max(0).values.cpu().numpy() * coarse.spacing + np.array(coarse.origin)
    margin = config.margin * float((high - low).max()) + coarse.spacing
    grid = Grid.around((low - margin).tolist(), (high + margin).tolist(), config.resolution)
    sdf, outlier_share = _soft_hull(distances, silhouettes.cameras, grid, config)
    if not (sdf < 0).any():
        raise InputError("views: the hull is thinner than the grid; use --quality high or check the poses")
    dilation = _dilation(sdf, grid, contour_rays(silhouettes, grid, device), config)
    return Hull(grid, sdf - dilation, outlier_share, dilation)


def _dilation(sdf: Volume, grid: Grid, rays: Rays, config: HullConfig) -> float:
    """By how much silhouettes that vary from view to view make their intersection too small, world units.

    It is measured on the rays just inside the silhouettes: in views that agree hardly any misses the hull (mean
    distance 0.001 to 0.003 spacings), in generated views a fifth to a quarter of them does (0.06 to 0.10).
    """
    lowest, _ = march_lowest(sdf, grid, *rays, samples=int(1.5 * max(grid.shape)))
    return min(config.dilation * float(lowest.clamp_min(0).mean()), config.most_dilation * grid.spacing)


def _soft_hull(
    distances: Float[torch.Tensor, "n h w"], cameras: Cameras, grid: Grid, config: HullConfig
) -> tuple[Volume, float]:
    points = grid.points(distances.device)
    keep = min(config.max_outliers + 1, len(cameras))
    parts = [
        torch.stack(view_distances(distances, cameras, part)).topk(keep, 0, largest=False, sorted=True)
        for part in points.split(500_000)
    ]
    lowest = torch.cat([part.values for part in parts], 1)
    strictest = torch.cat([part.indices[0].to(torch.int16) for part in parts])
    sdf = -lowest[0]
    changed = torch.zeros_like(sdf, dtype=torch.bool)
    for level in range(1, keep):
        give_back = _uncovering_views(sdf.reshape(grid.shape), grid, distances, cameras) >= config.quorum
        if not give_back.any():
            break
        changed |= give_back & (sdf > 0) & (lowest[level] > 0)
        sdf = torch.where(give_back, -lowest[level], sdf)
    share = float(changed.sum() / (sdf.abs() < grid.spacing).sum().clamp_min(1))
    removed = torch.bincount(strictest[changed].long(), minlength=len(cameras))
    worst = removed.argsort(descending=True)[: config.max_outliers].tolist()
    volume = int((sdf < 0).sum())
    outliers = [view for view in worst if int(removed[view]) > config.outlier_volume * volume]
    if outliers and len(cameras) - len(outliers) >= 3:
        # What a bad mask took away inside cannot be given back: other matter hides it. So the view goes.
        others = [view for view in range(len(cameras)) if view not in outliers]
        fewer = replace(config, max_outliers=config.max_outliers - len(outliers))
        without, share_without = _soft_hull(distances[others], cameras[others], grid, fewer)
        return without, max(share_without, share)
    return sdf.reshape(grid.shape), share


def _uncovering_views(
    sdf: Volume, grid: Grid, distances: Float[torch.Tensor, "n h w"], cameras: Cameras
) -> Int[torch.Tensor, " p"]:
    """Per grid sample: the number of views in which it projects onto foreground that the hull leaves uncovered."""
    points = grid.points(distances.device)
    counts = torch.zeros(len(points), dtype=torch.int8, device=points.device)
    scale = 96 / max(cameras.width, cameras.height)
    width, height = max(2, round(cameras.width * scale)), max(2, round(cameras.height * scale))
    small = cameras.resized(width, height)
    for view in range(len(cameras)):
        distance = F.interpolate(distances[view][None, None], (height, width), mode="bilinear")[0, 0]
        ys, xs = (distance * scale > 1.0).nonzero(as_tuple=True)
        if len(ys) == 0:
            continue
        origin, direction = rays_through(small, view, xs.cpu().numpy(), ys.cpu().numpy(), points.device)
        lowest = march_lowest(sdf, grid, origin, direction, samples=96)[0]
        missing = torch.zeros(1, height, width, device=points.device)
        missing[0, ys, xs] = (lowest > 0.75 * grid.spacing).float()
        # Lone pixels are edge noise; a lost part covers a patch.
        missing = -F.max_pool2d(-missing[None], 3, 1, 1)[0]
        if not missing.any():
            continue
        missing = F.max_pool2d(missing[None], 5, 1, 2)[0]
        value, _, in_frame = sample_view(missing, projection(small, view, points.device), points)
        counts += ((value[:, 0] > 0.5) & in_frame).to(torch.int8)
    return counts


def contour_rays(silhouettes: Silhouettes, grid: Grid, device: torch.device) -> Rays:
    """Rays through foreground next to a silhouette's edge: if these meet the surface, the inside does too."""
    cameras = silhouettes.cameras
    size = min(cameras.width, int(2 * max(grid.shape)))
    height = max(2, round(cameras.height * size / cameras.width))
    small = cameras.resized(size, height)
    rays = []
    for view, full in enumerate(silhouettes.alphas):
        alpha = F.interpolate(torch.tensor(full)[None, None], (height, size), mode="area")[0, 0].numpy()
        distance = silhouette_distance(alpha)
        ys, xs = np.nonzero((distance > 0) & (distance < 2.2))
        rays.append(rays_through(small, view, xs, ys, device))
    origins, directions = zip(*rays, strict=True)
    return torch.cat(origins), torch.cat(directions)
