"""A signed distance and colour field on a grid, fitted to all views.

Rendering follows NeuS (arXiv 2106.10689, eq. 13): alpha = max((Φ(s·f_k) − Φ(s·f_k+1)) / Φ(s·f_k), 0), with the
logistic Φ. Samples sit only around the surface that a ray meets first, so a step costs milliseconds on a CPU.
What no view can decide (top and bottom caps of a flat orbit, places seen at a grazing angle) is left to the
regulariser: the retreat from the hull is kept smooth and small, and the surface is gently pulled to less area.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float

from mv3d.recon.hull import Hull
from mv3d.render.cameras import Cameras
from mv3d.views.grid import Grid
from mv3d.views.silhouettes import march_lowest, silhouette_distance


@dataclass(frozen=True)
class FieldConfig:
    """Numbers of the fit. Lengths are in grid spacings of the level."""

    levels: tuple[tuple[int, int], ...] = ((48, 60), (96, 100))
    """(samples along the longest side, steps) from coarse to fine."""
    rays: int = 6144
    """Rays per step."""
    samples: int = 20
    """Samples around the surface per ray."""
    photometric: float = 1.0
    silhouette: float = 0.5
    smooth: float = 0.05
    """Weight of the retreat's roughness: what is carved from the hull is carved smoothly."""
    prior: float = 0.003
    """Weight of the retreat itself: without evidence in the colours the tightened hull stands."""
    area: float = 0.25
    """Weight of the pull toward less area. What flat colours leave open is then carved a little, without
    crumples; four times as much eats thin and dark parts that the colours do not hold."""
    eikonal: float = 0.1
    learning_rate: float = 0.12
    """Of the distance, in spacings per step; falls to a tenth."""
    color_rate: float = 0.03
    align: bool = True
    """Fit one colour gain and one 2D shift per view; the input view is fixed."""
    seed: int = 0


@dataclass(frozen=True)
class Field:
    """sdf: (x, y, z), world units, negative inside. rgb: (3, x, y, z) sRGB in [0, 1]. gains: (n, 3), shifts:
    (n, 2) pixels of the full image: view ≈ gain · field, moved by shift."""

    grid: Grid
    sdf: Float[torch.Tensor, "x y z"]
    rgb: Float[torch.Tensor, "3 x y z"]
    gains: Float[torch.Tensor, "n 3"]
    shifts: Float[torch.Tensor, "n 2"]


@dataclass(frozen=True)
class _Rays:
    origin: torch.Tensor
    direction: torch.Tensor
    color: torch.Tensor
    alpha: torch.Tensor
    view: torch.Tensor
    trusted: torch.Tensor
    across: torch.Tensor  # (r, 2, 3): world direction's change per pixel to the right and down
    edge: torch.Tensor  # indices of rays near a silhouette's edge
    body: torch.Tensor  # indices of all others that carry colour


def fit_field(
    images: Float[np.ndarray, "n h w 4"],
    cameras: Cameras,
    hull: Hull,
    config: FieldConfig,
    *,
    input_view: int | None,
    device: torch.device,
    progress: Callable[[float], None] | None = None,
) -> Field:
    """Fit the field, coarse to fine, starting from the hull, which stays its outer bound."""
    generator = torch.Generator(device="cpu").manual_seed(config.seed)
    count = len(images)
    gains = torch.zeros(count, 3, device=device, requires_grad=True)
    shifts = torch.zeros(count, 2, device=device, requires_grad=True)
    free = torch.ones(count, 1, device=device)
    free[input_view if input_view is not None else count - 1] = 0
    extent = [hull.grid.spacing * (n - 1) for n in hull.grid.shape]
    high = [a + b for a, b in zip(hull.grid.origin, extent, strict=True)]
    sdf_state: torch.Tensor | None = None
    rgb_state: torch.Tensor | None = None
    previous: Grid | None = None
    total, done = sum(steps for _, steps in config.levels), 0
    grid = hull.grid
    bound = hull.sdf
    for resolution, steps in config.levels:
        grid = Grid.around(list(hull.grid.origin), high, resolution)
        bound = hull.grid.resample(hull.sdf[None], grid)[0]
        if sdf_state is None or rgb_state is None or previous is None:
            sdf, rgb = bound.clone(), torch.full((3, *grid.shape), 0.5, device=device)
        else:
            # Carry what was carved, not the coarse surface: the hull's own detail comes back at this level.
            carved = (sdf_state - hull.grid.resample(hull.sdf[None], previous)[0]).clamp_min(0)
            sdf = bound + previous.resample(carved[None], grid)[0]
            rgb = previous.resample(rgb_state, grid)
        sdf_state, rgb_state = _fit_level(
            images, cameras, grid, sdf, rgb, bound, gains, shifts, free, config, steps, generator,
            lambda k, start=done: progress((start + k) / total) if progress else None,
        )  # fmt: skip
        previous = grid
        done += steps
    assert sdf_state is not None and rgb_state is not None
    scale = images.shape[2] / _ray_size(images.shape[2], grid)
    return Field(
        grid,
        torch.maximum(sdf_state, bound - 0.5 * grid.spacing),
        rgb_state,
        (gains * free).exp().detach(),
        (shifts * free * scale).detach(),
    )


def _ray_size(width: int, grid: Grid) -> int:
    return min(width, int(2.5 * max(grid.shape)))


def _fit_level(
    images, cameras, grid, sdf_start, rgb_start, bound, gains, shifts, free, config, steps, generator, tick
):  # fmt: skip
    spacing = grid.spacing
    with torch.no_grad():
        rays = _collect_rays(images, cameras, grid, bound)
    sdf = (sdf_start / spacing).clamp(-6, 6).detach().requires_grad_(True)
    rgb = rgb_start.detach().requires_grad_(True)
    floor = (bound / spacing).clamp(-6, 6)
    optimizer = torch.optim.Adam(
        [
            {"params": [sdf], "lr": config.learning_rate},
            {"params": [rgb], "lr": config.color_rate},
            {"params": [gains], "lr": 0.004},
            {"params": [shifts], "lr": 0.02},
        ],
        betas=(0.9, 0.99),
    )
    base_rates = [group["lr"] for group in optimizer.param_groups]
    if not config.align:
        base_rates[2] = base_rates[3] = 0.0
    surface = torch.zeros(0, dtype=torch.long, device=sdf.device)
    for step in range(steps):
        fall = 0.1 ** (step / steps)
        for group, rate in zip(optimizer.param_groups, base_rates, strict=True):
            group["lr"] = rate * fall
        if step % 10 == 0:
            surface = _band(sdf.detach(), 2.5)
        sharpness = 1.5 + 2.5 * step / steps  # logistic slope per spacing
        half = config.rays // 3
        pick = torch.cat([_draw(rays.edge, half, generator), _draw(rays.body, config.rays - half, generator)])
        loss = _ray_loss(
            rays, pick, grid, sdf, rgb, gains * free, shifts * free, sharpness, config, generator
        )
        loss = loss + _surface_loss(sdf, floor, surface, config)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            torch.maximum(sdf, floor - 0.5, out=sdf)
            rgb.clamp_(0, 1)
        tick(step + 1)
    return sdf.detach() * spacing, rgb.detach()


def _draw(pool: torch.Tensor, count: int, generator: torch.Generator) -> torch.Tensor:
    return pool[torch.randint(len(pool), (count,), generator=generator).to(pool.device)]


def _band(sdf: torch.Tensor, width: float) -> torch.Tensor:
    """Flat indices of inner samples within `width` spacings of the surface."""
    near = sdf.abs() < width
    inner = torch.zeros_like(near)
    inner[1:-1, 1:-1, 1:-1] = near[1:-1, 1:-1, 1:-1]
    return inner.reshape(-1).nonzero()[:, 0]


def _surface_loss(
    sdf: torch.Tensor, floor: torch.Tensor, at: torch.Tensor, config: FieldConfig
) -> torch.Tensor:
    _, ny, nz = sdf.shape
    flat = sdf.reshape(-1)
    strides = (ny * nz, nz, 1)
    gradient = torch.stack([flat[at + stride] - flat[at - stride] for stride in strides], 1) / 2
    eikonal = (((gradient**2).sum(1) + 1e-8).sqrt() - 1).square().mean()
    # Least area alone would eat whatever the colours do not hold; so it is first of all the retreat from the
    # hull that is kept smooth and small, not the surface.
    retreat = flat - floor.reshape(-1)
    middle = retreat[at]
    smooth = (_around(retreat, at, strides) - middle).square().mean()
    regular = config.eikonal * eikonal + config.smooth * smooth + config.prior * middle.abs().mean()
    # Each sample is pulled to its neighbours' mean, which itself is held: descent is then motion by mean
    # curvature (Δf, where |∇f| = 1), which makes the surface smaller. Without the hold it would be −Δ²f.
    pull = _around(flat, at, strides).detach() - flat[at]
    near = torch.exp(-0.5 * flat[at].detach() ** 2)
    return regular + config.area * (near * pull.square()).mean()


def _around(values: torch.Tensor, at: torch.Tensor, strides: tuple[int, ...]) -> torch.Tensor:
    """Mean of the six neighbours of the samples `at`."""
    return torch.stack([values[at + s] for stride in strides for s in (stride, -stride)], 1).mean(1)


def _ray_loss(rays, pick, grid, sdf, rgb, log_gain, shift, sharpness, config, generator):
    spacing = grid.spacing
    origin, direction, view = rays.origin[pick], rays.direction[pick], rays.view[pick]
    if config.align:
        moved = direction + (rays.across[pick] * shift[view][:, :, None]).sum(1)
        direction = F.normalize(moved, dim=1)
    with torch.no_grad():
        _, middle = march_lowest(sdf.detach(), grid, origin, direction.detach(), samples=64)
    half_width = 4.0 * spacing
    jitter = torch.rand(len(pick), config.samples + 1, generator=generator).to(sdf.device)
    steps = (torch.arange(config.samples + 1, device=sdf.device) + jitter) / (config.samples + 1) * 2 - 1
    t = middle[:, None] + half_width * steps
    points = origin[:, None] + direction[:, None] * t[..., None]
    field = grid.sample(torch.cat([sdf[None], rgb]), points)
    value, color = field[..., 0], field[..., 1:]
    cdf = torch.sigmoid(value * sharpness)
    alpha = ((cdf[:, :-1] - cdf[:, 1:]) / cdf[:, :-1].clamp_min(1e-4)).clamp(0, 1)
    through = torch.cumprod(torch.cat([torch.ones_like(alpha[:, :1]), 1 - alpha + 1e-6], 1), 1)[:, :-1]
    weight = alpha * through
    opacity = weight.sum(1)
    seen = (weight[..., None] * (color[:, :-1] + color[:, 1:]) / 2).sum(1)
    target_alpha = rays.alpha[pick]
    silhouette = F.binary_cross_entropy(opacity.clamp(1e-3, 1 - 1e-3), target_alpha)
    wanted = rays.color[pick]
    predicted = seen * log_gain[view].exp()
    trusted = rays.trusted[pick]
    residual = (predicted - wanted * opacity.detach()[:, None]).abs().mean(1)
    robust = torch.where(residual < 0.1, residual * residual / 0.2, residual - 0.05)
    photometric = (robust * trusted).sum() / trusted.sum().clamp_min(1)
    return config.photometric * 4 * photometric + config.silhouette * silhouette


def _collect_rays(images, cameras: Cameras, grid: Grid, bound: torch.Tensor) -> _Rays:
    """Rays of all views at a size that fits the grid, those that can meet the hull and no others."""
    device = bound.device
    size = _ray_size(images.shape[2], grid)
    height = max(1, round(images.shape[1] * size / images.shape[2]))
    little = cameras.resized(size, height)
    columns: dict[str, list[torch.Tensor]] = {k: [] for k in ("o", "d", "c", "a", "v", "w", "x", "e")}
    for view in range(len(images)):
        image = torch.tensor(images[view]).permute(2, 0, 1)[None]
        straight = torch.cat([image[:, :3] * image[:, 3:], image[:, 3:]], 1)
        small = F.interpolate(straight, (height, size), mode="area")[0]
        alpha = small[3].numpy()
        distance = silhouette_distance(alpha)
        ys, xs = np.nonzero(distance > -5)
        xy = np.stack([xs + 0.5, ys + 0.5], 1)
        origin, direction = little.rays(view, xy)
        right = little.c2w[view, :3, 0] / little.fl_x[view]
        down = -little.c2w[view, :3, 1] / little.fl_y[view]
        columns["o"].append(torch.tensor(origin, dtype=torch.float32))
        columns["d"].append(torch.tensor(direction, dtype=torch.float32))
        columns["x"].append(torch.tensor(np.stack([right, down]), dtype=torch.float32).expand(len(xs), 2, 3))
        columns["a"].append(torch.tensor(alpha[ys, xs]))
        columns["c"].append((small[:3] / small[3:].clamp_min(1e-3)).permute(1, 2, 0)[ys, xs])
        columns["v"].append(torch.full((len(xs),), view))
        columns["w"].append(torch.tensor((distance[ys, xs] > 1.5).astype(np.float32)))
        columns["e"].append(torch.tensor(np.abs(distance[ys, xs]) < 3))
    joined = {key: torch.cat(parts).to(device) for key, parts in columns.items()}
    return _Rays(
        joined["o"], joined["d"], joined["c"], joined["a"].clamp(0, 1), joined["v"], joined["w"], joined["x"],
        edge=joined["e"].nonzero()[:, 0],
        body=(joined["w"] > 0).nonzero()[:, 0],
    )  # fmt: skip
