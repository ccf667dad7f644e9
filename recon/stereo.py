"""Depth from neighbouring views, where their colours tell it: it opens hollows that no silhouette shows.

Plane sweeping (Collins, CVPR 1996) inside the hull: every pixel's ray is followed from the hull's surface inward, and at
each depth the windows of neighbouring views around the same point are compared by normalized cross-correlation, which
no view's exposure disturbs. Depths that are found clearly, and found again from another view, say of the samples along
their rays that they are free, or solid; between them goes the least surface (`free_space`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from scipy import ndimage

from mv3d.recon.arrays import Volume, blurred, rays_through
from mv3d.recon.free_space import least_cut
from mv3d.recon.hull import Hull
from mv3d.recon.tighten import carve
from mv3d.render.cameras import Cameras
from mv3d.views.grid import Grid
from mv3d.views.morphology import nearest_true
from mv3d.views.silhouettes import Silhouettes, box_interval, march_lowest, projection, sample_view
from mv3d.views.views import Views


@dataclass(frozen=True)
class StereoConfig:
    """Numbers of the sweep, tuned on the objects of benchmarks/recon.py. Lengths in longest sides of the hull's grid."""

    size: int = 128  # pixels along a view's width, at most its own
    depths: int = 40
    deepest: float = 0.7  # the sweep ends so far behind the hull's surface
    window: int = 5  # pixels along a side
    neighbours: int = 4
    angles_deg: tuple[float, float] = (6.0, 50.0)
    """Neighbours look from directions that differ by so much."""
    agreeing: int = (
        2  # the score of a depth is the mean of so many best neighbours: the others may be occluded
    )
    least_contrast: float = 0.008
    """Standard deviation of the colours in a window (sRGB) below which it shows nothing; 8 bits round to 0.001."""
    least_score: float = 0.7
    clearly: float = 0.15  # by how much the best depth's score must beat that of the hull's surface
    truncation: float = 0.035
    """A depth says that what lies so far before it is free, and that what lies up to so far behind it is solid."""
    agreement: float = 0.04  # another view's depth at the same place may differ by so much
    least_views: float = 1.5  # sum of confidences from which on the fused depths are believed
    doubt: float = 0.2  # confidence, for a solid, of a sample of which no ray says anything
    solid: float = 3.0  # how much more than a free one a solid sample counts: few rays tell of thin walls
    weight: float = 64.0  # of the rays against the surface's area
    least_depth: float = 0.03
    """What is dug goes at least so deep below the hull; the field carves flatter relief, and more exactly."""
    blur: float = 0.0125  # standard deviation of the Gaussian over the fused distances: less leaves crumples
    reach: float = 0.12  # a dig spreads so far from where it is that deep


@dataclass(frozen=True, eq=False)
class DepthMap:
    """Of one view at the sweep's size. depth: along the rays, world units, inf outside of the silhouette.
    confidence: 0 to 1, 0 where nothing was found. front: the hull's depth."""

    depth: Float[torch.Tensor, "h w"]
    confidence: Float[torch.Tensor, "h w"]
    front: Float[torch.Tensor, "h w"]


def open_hollows(
    views: Views, silhouettes: Silhouettes, hull: Hull, config: StereoConfig | None = None
) -> Hull:
    """The hull less what the views' agreed depths show to be free. Never larger than the hull; silhouettes stay."""
    config = config or StereoConfig()
    cameras, maps = depth_maps(views, hull, config)
    dug = dig(hull, evidence(agreed(maps, cameras, hull, config), cameras, hull.grid, config), config)
    return hull if dug is hull else carve(silhouettes, hull, dug.sdf, hull.grid, noise=0.0)


@dataclass(frozen=True, eq=False)
class Evidence:
    """Sums of the views' confidences. free: that a sample lies before a view's depth. solid: just behind one. Both grow to
    the whole confidence within the `truncation`. known: of the views that say anything of a sample."""

    free: Volume
    solid: Volume
    known: Volume


def dig(hull: Hull, found: Evidence, config: StereoConfig) -> Hull:
    """The hull less what is free and lies deep in it, with the ways that lead there from outside.

    Free is what the least cut says, and with it what the fused distances show wherever enough rays are known: they are
    exact between samples, and a cut closes gaps of few samples.
    """
    extent, spacing = max(hull.grid.shape) * hull.grid.spacing, hull.grid.spacing
    inside, least = hull.sdf < 0, -config.least_depth * extent
    against = config.solid * found.solid + config.doubt
    cost = (against - found.free) / (against + found.free)
    if not ((cost < 0) & (hull.sdf < least)).any():
        return hull
    share = least_cut(cost, inside, config.weight * spacing / extent)
    cut = blurred(2 * share - 1, 1.0) * (2 * spacing)
    difference, known = (
        blurred(part, config.blur * extent / spacing) for part in (found.free - found.solid, found.known)
    )
    told = known >= config.least_views
    fused = torch.where(told, difference / known.clamp_min(1e-4), torch.full_like(known, -1.0))
    steps = max(1, round(config.reach * extent / spacing))
    sdf = hull.sdf
    # A thin part that no ray touches has more area than it is worth: near the hull's surface rays must say that it is free.
    cut_off = inside & (share > 0.5) & ((cost < 0) | (hull.sdf < least))
    for depth, empty, deep in (
        (cut, cut_off, cut_off),
        (fused * (config.truncation * extent), fused > 0, fused > 0.5),
    ):
        near = _grown(deep & empty & (hull.sdf < least), empty, steps)
        # Beside the dug samples the depth goes on, so that the surface lies between samples.
        shell = F.max_pool3d(near[None, None].float(), 3, 1, 1)[0, 0] > 0
        sdf = torch.where(shell, torch.maximum(sdf, depth), sdf)
    return hull if torch.equal(sdf, hull.sdf) else replace(hull, sdf=sdf)


def _grown(seeds: torch.Tensor, within: torch.Tensor, steps: int) -> torch.Tensor:
    """The samples within a region that lie so many steps from a seed, going through the region."""
    if not seeds.any():
        return seeds
    near = ndimage.binary_dilation(
        seeds.cpu().numpy(), np.ones((3, 3, 3)), iterations=steps, mask=within.cpu().numpy()
    )
    return torch.as_tensor(near, device=seeds.device)


def agreed(maps: list[DepthMap], cameras: Cameras, hull: Hull, config: StereoConfig) -> list[DepthMap]:
    """The maps with confidence only where a neighbour found the same place, and no more of them see through it."""
    tolerance = config.agreement * max(hull.grid.shape) * hull.grid.spacing
    answers = []
    for view, one in enumerate(maps):
        ys, xs = (one.confidence > 0).nonzero(as_tuple=True)
        if not len(ys):
            answers.append(one)
            continue
        origin, direction = rays_through(cameras, view, xs.cpu().numpy(), ys.cpu().numpy(), one.depth.device)
        points = origin + direction * one.depth[ys, xs][:, None]
        votes = torch.zeros(len(points), 2, device=points.device)
        for other in neighbours_of(cameras, view, config):
            theirs = maps[other]
            image = torch.stack(
                [torch.where(theirs.confidence > 0, theirs.depth, 0.0), (theirs.confidence > 0).float()]
            )
            value, _, in_frame = sample_view(image, projection(cameras, int(other), points.device), points)
            known = in_frame & (value[:, 1] > 0.5)
            distance = (points - points.new_tensor(cameras.centers[other])).norm(dim=1)
            beyond = value[:, 0] / value[:, 1].clamp_min(1e-3) - distance
            votes[:, 0] += known & (beyond.abs() < tolerance)
            votes[:, 1] += known & (beyond > tolerance)
        kept = (votes[:, 0] >= 1) & (votes[:, 0] >= votes[:, 1])
        confidence = one.confidence.clone()
        confidence[ys, xs] *= kept
        answers.append(replace(one, confidence=confidence))
    return answers


def depth_maps(views: Views, hull: Hull, config: StereoConfig) -> tuple[Cameras, list[DepthMap]]:
    """The sweep's cameras and one map for each view."""
    size = min(views.cameras.width, config.size)
    height = max(8, round(views.cameras.height * size / views.cameras.width))
    cameras = views.cameras.resized(size, height)
    device = hull.sdf.device
    colors, masks = [], []
    for image in views.images:
        straight = torch.tensor(image).permute(2, 0, 1)[None]
        premultiplied = torch.cat([straight[:, :3] * straight[:, 3:], straight[:, 3:]], 1)
        small = F.interpolate(premultiplied, (height, size), mode="area")[0]
        mask = small[3] > 0.7
        rows, columns = nearest_true(mask.numpy())
        colors.append((small[:3] / small[3:].clamp_min(1e-3))[:, rows, columns].to(device))
        masks.append(mask.to(device))
    maps = [_sweep(view, cameras, colors, masks[view], hull, config) for view in range(len(cameras))]
    return cameras, maps


def neighbours_of(cameras: Cameras, view: int, config: StereoConfig) -> Int[np.ndarray, " k"]:
    """The nearest views by the angle between their optical axes, within `angles_deg`."""
    axes = cameras.c2w[:, :3, 2]
    angle = np.rad2deg(np.arccos(np.clip(axes @ axes[view], -1, 1)))
    low, high = config.angles_deg
    order = np.argsort(angle, kind="stable")
    return order[(angle[order] >= low) & (angle[order] <= high)][: config.neighbours]


def _sweep(
    view: int,
    cameras: Cameras,
    colors: list[Float[torch.Tensor, "3 h w"]],
    mask: torch.Tensor,
    hull: Hull,
    config: StereoConfig,
) -> DepthMap:
    height, width = mask.shape
    device = mask.device
    full = torch.full((height, width), torch.inf, device=device)
    nothing = DepthMap(full, torch.zeros_like(full), full)
    others = neighbours_of(cameras, view, config)
    if len(others) < config.agreeing or not mask.any():
        return nothing
    ys, xs = mask.nonzero(as_tuple=True)
    top, left, bottom, right = int(ys.min()), int(xs.min()), int(ys.max()) + 1, int(xs.max()) + 1
    box = (slice(top, bottom), slice(left, right))
    gy, gx = np.mgrid[top:bottom, left:right]
    origin, direction = rays_through(cameras, view, gx.ravel(), gy.ravel(), device)
    lowest, front = march_lowest(hull.sdf, hull.grid, origin, direction, samples=max(hull.grid.shape))
    end = box_interval(hull.grid, origin, direction)[1]
    extent = max(hull.grid.shape) * hull.grid.spacing
    inside = (lowest < 0).reshape(bottom - top, right - left) & mask[box]
    step = config.deepest * extent / (config.depths - 1)
    offsets = step * torch.arange(config.depths, device=device, dtype=torch.float32)
    t = torch.minimum(front + offsets[:, None], end)  # (depths, pixels)
    own = colors[view][(slice(None), *box)]
    weight = inside.float()[None]
    share = _boxed(weight[None], config.window)[0].clamp_min(1e-3)
    mean = _boxed((own * weight)[None], config.window)[0] / share
    variance = (
        (_boxed((own * own * weight)[None], config.window)[0] / share - mean * mean).sum(0).clamp_min(0)
    )
    scores = []
    for other in others:
        matrix = projection(cameras, int(other), device)
        start = matrix[:, :3] @ origin[0] + matrix[:, 3]
        x, y, z = (s + t * a for s, a in zip(start, (direction @ matrix[:, :3].T).T, strict=True))
        z = z.clamp_min(1e-6)
        unit = torch.stack([x / z * (2 / width) - 1, y / z * (2 / height) - 1], -1)
        # Depths are the batch: that is what torch shares out to its threads.
        found = F.grid_sample(
            colors[other].expand(config.depths, -1, -1, -1),
            unit.reshape(config.depths, bottom - top, right - left, 2),
            align_corners=False,
            padding_mode="border",
        )
        scores.append(_correlation(own, found, mean, variance, weight, share, config.window))
    best = torch.stack(scores).topk(config.agreeing, 0).values.mean(0)  # (depths, h, w)
    top_score, at = best.max(0)
    # Vertex of the parabola through the best score and its neighbours.
    inner = at.clamp(1, config.depths - 2)
    a, b, c = (best.gather(0, (inner + k)[None])[0] for k in (-1, 0, 1))
    shift = (0.5 * (a - c) / (a - 2 * b + c).clamp_max(-1e-6)).clamp(-0.5, 0.5)
    shift = torch.where(at == inner, shift, torch.zeros_like(shift))
    offset = (at + shift) * step
    contrast = variance.sqrt()
    sure = (top_score - config.least_score) / (1 - config.least_score)
    stands = (top_score > best[0] + config.clearly) | (at <= 1)
    confidence = sure.clamp(0, 1) * stands * inside * (contrast > config.least_contrast)
    depth = full.clone()
    depth[box] = front.reshape(inside.shape) + offset
    sure_of = torch.zeros_like(full)
    sure_of[box] = confidence
    before = full.clone()
    before[box] = torch.where(inside, front.reshape(inside.shape), torch.full_like(offset, torch.inf))
    return DepthMap(depth, sure_of, before)


def _boxed(values: Float[torch.Tensor, "b c h w"], window: int) -> Float[torch.Tensor, "b c h w"]:
    """Means over square windows; zeros beyond the border count."""
    half = window // 2
    rows = F.avg_pool2d(values, (window, 1), 1, (half, 0))
    return F.avg_pool2d(rows, (1, window), 1, (0, half))


def _correlation(
    own: Float[torch.Tensor, "3 h w"],
    found: Float[torch.Tensor, "d 3 h w"],
    mean: Float[torch.Tensor, "3 h w"],
    variance: Float[torch.Tensor, "h w"],
    weight: Float[torch.Tensor, "1 h w"],
    share: Float[torch.Tensor, "1 h w"],
    window: int,
) -> Float[torch.Tensor, "d h w"]:
    """Normalized cross-correlation over windows, of all channels together, for each depth."""
    weighted = found * weight
    maps = torch.cat([weighted, _total(weighted * found), _total(weighted * own)], 1)
    boxed = _boxed(maps, window) / share
    theirs, square, product = boxed[:, :3], boxed[:, 3], boxed[:, 4]
    other = (square - _total(theirs * theirs)[:, 0]).clamp_min(0)
    covariance = product - _total(theirs * mean)[:, 0]
    return covariance / ((variance * other).sqrt() + 1e-5)


def _total(channels: Float[torch.Tensor, "d 3 h w"]) -> Float[torch.Tensor, "d 1 h w"]:
    return channels[:, :1] + channels[:, 1:2] + channels[:, 2:]


def evidence(maps: list[DepthMap], cameras: Cameras, grid: Grid, config: StereoConfig) -> Evidence:
    """What the views' depths say of the grid's samples."""
    device = maps[0].depth.device
    points = grid.points(device)
    reach = config.truncation * max(grid.shape) * grid.spacing
    sums = torch.zeros(3, len(points), device=device)
    for view, one in enumerate(maps):
        usable = one.confidence > 0
        if not usable.any():
            continue
        image = torch.stack(
            [torch.where(usable, one.depth, torch.zeros_like(one.depth)), usable.float(), one.confidence]
        )
        value, _, in_frame = sample_view(image, projection(cameras, view, device), points)
        covered = value[:, 1]
        depth = value[:, 0] / covered.clamp_min(1e-3)
        before = (depth - (points - points.new_tensor(cameras.centers[view])).norm(dim=1)) / reach
        told = in_frame & (covered > 0.5) & (before > -1)
        confidence = torch.where(told, value[:, 2], torch.zeros_like(before))
        sums[0] += confidence * before.clamp(0, 1)
        sums[1] += confidence * (-before).clamp(0, 1)
        sums[2] += confidence
    return Evidence(*sums.reshape(3, *grid.shape))
