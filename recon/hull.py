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

from mv3d.errors import InputError
from mv3d.recon.grid import Grid
from mv3d.recon.morphology import distance_to_false
from mv3d.render.cameras import Cameras

FAR = 1e3  # pixels: "this view says nothing here"


@dataclass(frozen=True)
class Hull:
    """sdf: (x, y, z) float32 on `grid`, world units, negative inside. dropped: share of the surface samples
    where at least one view was overruled. swell: world units by which the intersection was made larger, as its
    views disagree."""

    grid: Grid
    sdf: Float[torch.Tensor, "x y z"]
    dropped: float
    swell: float = 0.0


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
    height, width = image.shape[1:]
    pixel = points @ matrix[:, :3].T + matrix[:, 3]
    depth = pixel[:, 2]
    xy = pixel[:, :2] / depth.clamp_min(1e-6)[:, None]
    unit = xy / xy.new_tensor([width / 2, height / 2]) - 1
    in_frame = (unit.abs() <= 1).all(1) & (depth > 1e-6)
    found = F.grid_sample(
        image[None], unit[None, None].clamp(-2, 2), align_corners=False, padding_mode="border"
    )
    return found[0, :, 0].T, depth, in_frame


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
        value, depth, in_frame = sample_view(image[None], matrix, points)
        pixel = (points @ matrix[:, :3].T + matrix[:, 3])[:, :2] / depth.clamp_min(1e-6)[:, None]
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
        raise InputError(
            "views: the silhouettes have no common object in front of all cameras (empty hull); check the poses "
            "and their axes (OpenGL: +X right, +Y up, +Z back)"
        )
    half = max(depth * spread for depth, (_, _, spread) in zip(depths, rays, strict=True))
    return center, half * 1.25


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

    Raises InputError where the silhouettes have nothing in common.
    """
    distances = torch.tensor(np.stack([silhouette_distance(a) for a in alphas]), device=device)
    center, half = common_box(alphas, cameras)
    coarse = Grid.around((center - half).tolist(), (center + half).tolist(), 64)
    sdf, _ = _soft_hull(distances, cameras, coarse, device, max_dropped)
    inside = (sdf < coarse.spacing).nonzero()
    if not (sdf < 0.5 * coarse.spacing).any() or len(inside) == 0:
        raise InputError(
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
    for o, d, n, f in zip(*(a.split(60_000) for a in (origin, direction, near, far)), strict=True):
        t = n[:, None] + (f - n)[:, None] * step
        values = grid.sample(sdf[None], o[:, None] + d[:, None] * t[..., None])[..., 0]
        low, at = values.min(1)
        inside = values < 0
        first = torch.where(inside.any(1), inside.float().argmax(1), at)
        lows.append(low)
        wheres.append(t.gather(1, first[:, None])[:, 0])
    return torch.cat(lows), torch.cat(wheres)


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
