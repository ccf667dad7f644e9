"""The tightest surface inside the hull that still casts every silhouette.

A hull of few elevations has cones: above a flat top and below a flat bottom no view carves. Among all
shapes with the same silhouettes the one of least area has no cones. This is the silhouette-constrained
minimal surface of Kolev and Cremers (ECCV 2008), reached by mean curvature flow on a signed distance,
coarse to fine, with the silhouettes put back after every step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F

from mv3d.recon.arrays import Rays, Volume
from mv3d.recon.hull import Hull, contour_rays
from mv3d.render.cameras import Cameras
from mv3d.views.grid import Grid
from mv3d.views.morphology import distance_to_false
from mv3d.views.silhouettes import Silhouettes, march_lowest


@dataclass(frozen=True)
class TightenConfig:
    """Numbers of the flow, tuned on the orbits and objects of benchmarks/recon.py."""

    levels: tuple[tuple[int, int], ...] = ((32, 200), (64, 60))
    """(samples along the longest side, steps) from coarse to fine."""
    rate: float = 0.5  # share of the neighbours' mean per step; below 1 for stability
    grazing_cosines: tuple[float, float] = (0.3, 0.5)
    """The flow acts fully where the best camera sees the surface below the first cosine, not at all above
    the second."""
    half_kept: float = 0.012
    """Half of the carve depth below this (share of the longest side) is taken back: between the
    contours of two neighbouring views the hull is too large by about as much as the least area is too small."""


def tighten(
    silhouettes: Silhouettes,
    hull: Hull,
    config: TightenConfig,
    *,
    on_progress: Callable[[float], None] | None = None,
) -> Hull:
    """The hull with its unseen cones pulled flat, on the hull's own grid. Never larger than the hull."""
    device = hull.sdf.device
    depth: torch.Tensor | None = None
    previous = hull.grid
    done, total = 0, sum(steps for _, steps in config.levels)
    for resolution, steps in config.levels:
        grid = hull.grid.resized(min(resolution, max(hull.grid.shape)))
        bound = redistance(hull.grid.resample(hull.sdf[None], grid)[0], grid.spacing)
        sdf = bound if depth is None else bound + previous.resample(depth[None], grid)[0]
        rays = contour_rays(silhouettes, grid, device)
        rate = torch.zeros_like(sdf)
        for step in range(steps):
            if step % 10 == 0:
                rate = config.rate * _grazing(sdf, grid, silhouettes.cameras, config)
            sdf = torch.maximum(sdf + rate * (_neighbour_mean(sdf) - sdf), bound)
            if step % 2 == 1 or step == steps - 1:
                sdf = _hold_silhouettes(sdf, bound, grid, rays)
            if step % 10 == 9:
                sdf = torch.maximum(redistance(sdf, grid.spacing), bound)
            if on_progress:
                on_progress((done + step + 1) / total)
        sdf = _hold_silhouettes(sdf, bound, grid, rays)
        done += steps
        depth = (sdf - bound).clamp_min(0)
        previous = grid
    assert depth is not None
    extent = max(hull.grid.spacing * (n - 1) for n in hull.grid.shape)
    depth = depth - 0.5 * depth.clamp_max(config.half_kept * extent)
    return replace(hull, sdf=hull.sdf + previous.resample(depth[None], hull.grid)[0])


def carve(silhouettes: Silhouettes, hull: Hull, carved: Volume, grid: Grid, *, noise: float = 0.25) -> Hull:
    """The hull less what a field on `grid` (signed distance `carved`) dug out of it, on the hull's finer grid.

    Only the carve depth is taken over, less `noise` spacings of `grid`, and no silhouette may lose by it: these
    stay as sharp as the hull has them, and never grow.
    """
    bound = hull.grid.resample(hull.sdf[None], grid)[0]
    depth = (carved - bound - noise * grid.spacing).clamp_min(0)
    sdf = hull.sdf + grid.resample(depth[None], hull.grid)[0]
    rays = contour_rays(silhouettes, hull.grid, sdf.device)
    for _ in range(2):
        sdf = _hold_silhouettes(sdf, hull.sdf, hull.grid, rays)
    return replace(hull, sdf=sdf)


def redistance(sdf: Volume, spacing: float) -> Volume:
    """A true signed distance with the same zero set; sub-spacing values next to the surface are kept."""
    values = sdf.detach().cpu().numpy()
    inside = values < 0
    if not inside.any() or inside.all():
        return sdf
    far = distance_to_false(~inside) - 0.5
    deep = distance_to_false(inside) - 0.5
    distance = np.where(inside, -deep, far) * spacing
    # Near the surface: the value over its gradient is the distance to the zero set to first order.
    slope = np.linalg.norm(np.stack([np.gradient(values, spacing, axis=k) for k in range(3)]), axis=0)
    near = np.abs(distance) < 1.2 * spacing
    local = np.clip(values / np.maximum(slope, 0.3), -1.5 * spacing, 1.5 * spacing)
    return torch.tensor(np.where(near, local, distance), dtype=torch.float32, device=sdf.device)


def _grazing(sdf: Volume, grid: Grid, cameras: Cameras, config: TightenConfig) -> torch.Tensor:
    """1 where no camera faces the level set, 0 where one sees it well: silhouettes and colours decide there."""
    gradient = torch.stack(torch.gradient(sdf))
    normal = F.normalize(gradient.reshape(3, -1), dim=0).T
    points = grid.points(sdf.device)
    best = torch.full((len(points),), -1.0, device=sdf.device)
    for center in cameras.centers:
        toward = F.normalize(points.new_tensor(center) - points, dim=1)
        best = torch.maximum(best, (toward * normal).sum(1))
    low, high = config.grazing_cosines
    return (1 - ((best - low) / (high - low)).clamp(0, 1)).reshape(sdf.shape)


def _neighbour_mean(sdf: Volume) -> Volume:
    p = F.pad(sdf[None, None], (1, 1, 1, 1, 1, 1), mode="replicate")[0, 0]
    return (
        p[2:, 1:-1, 1:-1] + p[:-2, 1:-1, 1:-1] + p[1:-1, 2:, 1:-1]
        + p[1:-1, :-2, 1:-1] + p[1:-1, 1:-1, 2:] + p[1:-1, 1:-1, :-2]
    ) / 6  # fmt: skip


def _hold_silhouettes(sdf: Volume, bound: Volume, grid: Grid, rays: Rays) -> Volume:
    """Where a foreground ray lost the surface, lower the field at the ray's lowest point until it touches."""
    origin, direction = rays
    lowest, where = march_lowest(sdf, grid, origin, direction, samples=int(1.5 * max(grid.shape)))
    lost = lowest > 0
    if not lost.any():
        return sdf
    points = origin[lost] + direction[lost] * where[lost, None]
    cell = (points - points.new_tensor(grid.origin)) / grid.spacing
    base = cell.floor().long()
    lower = torch.zeros(sdf.numel(), device=sdf.device)
    need = lowest[lost]
    shape = points.new_tensor(grid.shape).long()
    for corner in range(8):
        offset = torch.tensor([corner >> 2 & 1, corner >> 1 & 1, corner & 1], device=sdf.device)
        index = (base + offset).clamp_min(0).minimum(shape - 1)
        flat = (index[:, 0] * shape[1] + index[:, 1]) * shape[2] + index[:, 2]
        share = (1 - (cell - (base + offset)).abs().clamp_max(1)).prod(1)
        # Half of the corners' weights sum to the need already, so a full push at near corners suffices.
        lower.scatter_reduce_(0, flat, need * (0.25 + share).clamp_max(1) * 1.3, "amax")
    return torch.maximum(sdf - lower.reshape(sdf.shape), bound)
