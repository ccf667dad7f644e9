"""A signed distance and colour field on a grid, fitted to all views.

Rendering follows NeuS (arXiv 2106.10689). Samples lie only around the surface that a ray meets first, so a step
costs milliseconds on a CPU. The regulariser decides what no view can decide (top and bottom caps of a flat orbit,
places seen at a grazing angle): the depth carved from the hull is kept smooth and small, and the surface is gently
pulled to less area.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int

from mv3d.recon.arrays import Volume, rays_through
from mv3d.recon.hull import Hull
from mv3d.recon.sampling import sample_field
from mv3d.views.grid import Grid
from mv3d.views.silhouettes import march_lowest, silhouette_distance
from mv3d.views.views import Views


@dataclass(frozen=True)
class FieldConfig:
    """Numbers of the fit, tuned on the orbits and objects of benchmarks/recon.py where no source is named.

    Lengths are in grid spacings of the level, or in pixels of the level's rays (`_px`).
    """

    levels: tuple[tuple[int, int], ...] = ((48, 60), (96, 100))
    """(samples along the longest side, steps) from coarse to fine."""
    rays: int = 6144  # rays per step
    edge_every: int = 3  # one of so many rays runs near the edge of a silhouette, the others inside
    samples: int = 20  # samples around the surface per ray
    march_samples: int = 64  # samples per ray of the search for that surface
    half_width: float = 4.0  # samples lie at most this far from it
    photometric: float = 4.0
    silhouette: float = 0.5
    smooth: float = 0.05
    """Weight of the carve depth's roughness: what is carved from the hull is carved smoothly."""
    plain: float = 10.0
    """How much more that roughness weighs where the field's colours are flat: no colour asks for a lump there."""
    plain_contrast: float = 0.02
    """Change of the colour (sRGB) per spacing at which a place counts as half flat."""
    prior: float = 0.003
    """Weight of the carve depth itself: without evidence in the colours the tightened hull stands."""
    area: float = 0.25
    """Weight of the pull toward less area. What flat colours leave open is then carved a little, without
    crumples; four times as much eats thin and dark parts that the colours do not hold."""
    eikonal: float = 0.1  # weight of (|∇f| − 1)², as in NeuS (eq. 16)
    huber: float = 0.1
    """Colour residual (sRGB, 0 to 1) where the loss turns from quadratic to linear (Huber 1964)."""
    learning_rate: float = 0.12  # spacings per step of the distance
    color_rate: float = 0.03
    gain_rate: float = 0.004
    shift_rate: float = 0.02
    last_rate: float = 0.1  # share of every rate that is left at the end; it falls exponentially
    betas: tuple[float, float] = (0.9, 0.99)  # Adam's (arXiv 1412.6980)
    sharpness: tuple[float, float] = (1.5, 4.0)
    """Slope of the logistic Φ per spacing at the first and the last step; NeuS learns it."""
    truncation: float = 6.0  # the distance is clamped to ± this
    slack: float = 0.5  # how far the surface may leave the hull
    band: float = 2.5  # the regulariser acts on samples this near to the surface
    band_every: int = 10  # steps between two searches for that band
    pixels_per_sample: float = 2.5
    """Width of the views that rays are drawn from, at most the views' own, per sample of the grid."""
    outside_px: float = 5.0  # rays farther outside of a silhouette are left out
    edge_px: float = 3.0  # rays nearer to a silhouette's edge are edge rays
    color_px: float = 1.5  # the colours of pixels deeper inside are trusted
    align: bool = True  # fit one colour gain and one 2D shift per view; the input view is fixed
    seed: int = 0


@dataclass(frozen=True)
class Field:
    """sdf: world units, negative inside. rgb: sRGB in [0, 1]. gains, shifts (pixels of the full image): a view is
    about gain · field, moved by shift. sharpness: slope of NeuS's logistic per spacing."""

    grid: Grid
    sdf: Volume
    rgb: Float[torch.Tensor, "3 x y z"]
    gains: Float[torch.Tensor, "n 3"]
    shifts: Float[torch.Tensor, "n 2"]
    sharpness: float


@dataclass(frozen=True, eq=False)
class _Rays:
    """Rays through pixels that can meet the hull. per_pixel: change of the world direction per pixel to the right
    and down. trusted: 1 where the colour counts. near_edge: close to the edge of a silhouette."""

    origin: Float[torch.Tensor, "r 3"]
    direction: Float[torch.Tensor, "r 3"]
    per_pixel: Float[torch.Tensor, "r 2 3"]
    color: Float[torch.Tensor, "r 3"]
    alpha: Float[torch.Tensor, " r"]
    trusted: Float[torch.Tensor, " r"]
    near_edge: Bool[torch.Tensor, " r"]
    view: Int[torch.Tensor, " r"]

    @staticmethod
    def joined(parts: list[_Rays], device: torch.device) -> _Rays:
        columns = zip(*([getattr(part, f.name) for f in fields(_Rays)] for part in parts), strict=True)
        return _Rays(*(torch.cat(column).to(device) for column in columns))

    @cached_property
    def edge(self) -> Int[torch.Tensor, " e"]:
        """Indices of the rays near an edge."""
        return self.near_edge.nonzero()[:, 0]

    @cached_property
    def body(self) -> Int[torch.Tensor, " b"]:
        """Indices of the rays whose colour counts."""
        return (self.trusted > 0).nonzero()[:, 0]


@dataclass(frozen=True, eq=False)
class _Level:
    """The problem of one level. bound: the hull's distance in spacings, the lower bound of the field's."""

    grid: Grid
    bound: Volume
    rays: _Rays
    steps: int


@dataclass(frozen=True, eq=False)
class _State:
    """The variables of the fit. sdf: spacings. log_gains, shifts (pixels of the rays) count where free is 1."""

    sdf: Volume
    rgb: Float[torch.Tensor, "3 x y z"]
    log_gains: Float[torch.Tensor, "n 3"]
    shifts: Float[torch.Tensor, "n 2"]
    free: Float[torch.Tensor, "n 1"]


def neus_weights(
    distance: Float[torch.Tensor, "r s"], slope: float, *, least: float, leak: float = 0.0
) -> Float[torch.Tensor, "r s-1"]:
    """Weight of each interval along rays: opacity α = max((Φ(f_i) − Φ(f_i+1)) / Φ(f_i), 0) times transmittance
    (NeuS, arXiv 2106.10689, eq. 10 and 13), Φ the logistic function of the given slope.

    least: bound of the denominator. leak: added to each interval's 1 − α, so that gradients reach what lies behind.
    """
    cdf = torch.sigmoid(distance * slope)
    alpha = ((cdf[:, :-1] - cdf[:, 1:]) / cdf[:, :-1].clamp_min(least)).clamp(0, 1)
    passed = torch.cat([torch.ones_like(alpha[:, :1]), 1 - alpha + leak], 1)
    return alpha * torch.cumprod(passed, 1)[:, :-1]


def fit_field(
    views: Views, hull: Hull, config: FieldConfig, *, on_progress: Callable[[float], None] | None = None
) -> Field:
    """Fit the field to the views, coarse to fine, on the hull's device.

    The hull is the start and, but for `slack`, the outer bound. on_progress: gets the share done, 0 to 1.
    """
    device = hull.sdf.device
    generator = torch.Generator(device="cpu").manual_seed(config.seed)
    log_gains = torch.zeros(len(views), 3, device=device, requires_grad=True)
    shifts = torch.zeros(len(views), 2, device=device, requires_grad=True)
    free = torch.ones(len(views), 1, device=device)
    free[views.input_view if views.input_view is not None else len(views) - 1] = 0
    total, done = sum(steps for _, steps in config.levels), 0
    found: tuple[Grid, torch.Tensor, torch.Tensor] | None = None
    for resolution, steps in config.levels:
        grid = hull.grid.resized(resolution)
        bound = hull.grid.resample(hull.sdf[None], grid)[0]
        if found is None:
            sdf, rgb = bound, torch.full((3, *grid.shape), 0.5, device=device)
        else:
            # Carry what was carved, not the coarse surface: the hull's own detail comes back at this level.
            coarse, sdf, rgb = found
            carved = (sdf - hull.grid.resample(hull.sdf[None], coarse)[0]).clamp_min(0)
            sdf, rgb = bound + coarse.resample(carved[None], grid)[0], coarse.resample(rgb, grid)
        limits = (-config.truncation, config.truncation)
        start = (sdf / grid.spacing).clamp(*limits).detach().requires_grad_(True)
        state = _State(start, rgb.detach().requires_grad_(True), log_gains, shifts, free)
        with torch.no_grad():
            rays = _Rays.joined(_collect_rays(views, grid, config), device)
        level = _Level(grid, (bound / grid.spacing).clamp(*limits), rays, steps)
        for step in _descend(level, state, config, generator):
            if on_progress:
                on_progress((done + step) / total)
        done += steps
        sdf = torch.maximum(state.sdf.detach() * grid.spacing, bound - config.slack * grid.spacing)
        found = grid, sdf, state.rgb.detach()
    assert found is not None
    scale = views.cameras.width / _ray_size(views.cameras.width, found[0], config)
    return Field(
        *found, (log_gains * free).exp().detach(), (shifts * free * scale).detach(), config.sharpness[1]
    )


def _ray_size(width: int, grid: Grid, config: FieldConfig) -> int:
    return min(width, int(config.pixels_per_sample * max(grid.shape)))


def _descend(level: _Level, state: _State, config: FieldConfig, generator: torch.Generator) -> Iterator[int]:
    """Change the state's tensors in place, step by step; yields the number of steps done."""
    aligned = 1.0 if config.align else 0.0
    rates = (config.learning_rate, config.color_rate, config.gain_rate * aligned, config.shift_rate * aligned)
    variables = (state.sdf, state.rgb, state.log_gains, state.shifts)
    groups = [{"params": [v], "lr": rate} for v, rate in zip(variables, rates, strict=True)]
    optimizer = torch.optim.Adam(groups, betas=config.betas, fused=True)
    band = torch.zeros(0, dtype=torch.long, device=state.sdf.device)
    flat = torch.zeros(0, device=state.sdf.device)
    edge_rays = config.rays // config.edge_every
    for step in range(level.steps):
        fall = config.last_rate ** (step / level.steps)
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * fall
        if step % config.band_every == 0:
            band = _band(state.sdf.detach(), config.band)
            flat = _flatness(state.rgb.detach(), band, config.plain_contrast)
        first, last = config.sharpness
        slope = first + (last - first) * step / level.steps
        edge = _draw(level.rays.edge, edge_rays, generator)
        pick = torch.cat([edge, _draw(level.rays.body, config.rays - edge_rays, generator)])
        loss = _ray_loss(level, state, pick, slope, config, generator)
        loss = loss + _surface_loss(state.sdf, level.bound, band, flat, config)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            torch.maximum(state.sdf, level.bound - config.slack, out=state.sdf)
            state.rgb.clamp_(0, 1)
        yield step + 1


def _draw(pool: torch.Tensor, count: int, generator: torch.Generator) -> torch.Tensor:
    return pool[torch.randint(len(pool), (count,), generator=generator).to(pool.device)]


def _band(sdf: Volume, width: float) -> Int[torch.Tensor, " b"]:
    """Flat indices of inner samples within `width` spacings of the surface."""
    near = sdf.abs() < width
    inner = torch.zeros_like(near)
    inner[1:-1, 1:-1, 1:-1] = near[1:-1, 1:-1, 1:-1]
    return inner.reshape(-1).nonzero()[:, 0]


def _flatness(
    rgb: Float[torch.Tensor, "3 x y z"], at: Int[torch.Tensor, " b"], contrast: float
) -> Float[torch.Tensor, " b"]:
    """1 where the colours around the samples `at` are all alike, toward 0 where they change by more than `contrast`
    per spacing."""
    _, _, ny, nz = rgb.shape
    flat = rgb.reshape(3, -1)
    slopes = [(flat[:, at + stride] - flat[:, at - stride]).abs().amax(0) / 2 for stride in (ny * nz, nz, 1)]
    return 1 / (1 + (torch.stack(slopes).amax(0) / contrast) ** 2)


def _surface_loss(
    sdf: Volume,
    bound: Volume,
    at: Int[torch.Tensor, " b"],
    flat_colors: Float[torch.Tensor, " b"],
    config: FieldConfig,
) -> Float[torch.Tensor, ""]:
    """The regulariser over the samples `at`; distances in spacings. flat_colors: `_flatness` there."""
    _, ny, nz = sdf.shape
    flat = sdf.reshape(-1)
    strides = (ny * nz, nz, 1)
    around = [flat[at + step] for stride in strides for step in (stride, -stride)]
    here = flat[at]
    slopes = [(ahead - behind) / 2 for ahead, behind in zip(around[::2], around[1::2], strict=True)]
    steepness = (slopes[0] ** 2 + slopes[1] ** 2 + slopes[2] ** 2 + 1e-8).sqrt()
    eikonal = (steepness - 1).square().mean()
    # Least area alone would eat whatever the colours do not hold; so it is first of all the carve depth that is
    # kept smooth and small, not the surface.
    hull = bound.reshape(-1)
    mean = torch.stack(around).mean(0)
    carved = here - hull[at]
    rough = (mean - _neighbour_mean(hull, at, strides) - carved).square()
    smooth = ((1 + config.plain * flat_colors) * rough).mean()
    regular = config.eikonal * eikonal + config.smooth * smooth + config.prior * carved.abs().mean()
    # Each sample is pulled to its neighbours' mean, which itself is held: descent is then motion by mean
    # curvature (Δf, where |∇f| = 1), which makes the surface smaller. Without the hold it would be −Δ²f.
    pull = mean.detach() - here
    near = torch.exp(-0.5 * here.detach() ** 2)
    return regular + config.area * (near * pull.square()).mean()


def _neighbour_mean(values: torch.Tensor, at: torch.Tensor, strides: tuple[int, ...]) -> torch.Tensor:
    """Mean of the six neighbours of the samples `at`."""
    return torch.stack([values[at + s] for stride in strides for s in (stride, -stride)]).mean(0)


def _ray_loss(
    level: _Level,
    state: _State,
    pick: Int[torch.Tensor, " k"],
    slope: float,
    config: FieldConfig,
    generator: torch.Generator,
) -> Float[torch.Tensor, ""]:
    """Silhouette and colour loss of the rays `pick`."""
    rays, grid, device = level.rays, level.grid, state.sdf.device
    log_gains, shifts = state.log_gains * state.free, state.shifts * state.free
    origin, direction, view = rays.origin[pick], rays.direction[pick], rays.view[pick]
    if config.align:
        direction = F.normalize(direction + (rays.per_pixel[pick] * shifts[view][:, :, None]).sum(1), dim=1)
    with torch.no_grad():
        _, t_surface = march_lowest(
            state.sdf.detach(), grid, origin, direction.detach(), samples=config.march_samples
        )
    jitter = torch.rand(len(pick), config.samples + 1, generator=generator).to(device)
    steps = (torch.arange(config.samples + 1, device=device) + jitter) / (config.samples + 1) * 2 - 1
    t = t_surface[:, None] + config.half_width * grid.spacing * steps
    points = origin[:, None] + direction[:, None] * t[..., None]
    values = sample_field(grid, state.sdf, state.rgb, points)
    weight = neus_weights(values[..., 0], slope, least=1e-4, leak=1e-6)
    opacity = weight.sum(1)
    color = values[..., 1:]
    rendered_rgb = (weight[..., None] * (color[:, :-1] + color[:, 1:]) / 2).sum(1) * log_gains[view].exp()
    silhouette = F.binary_cross_entropy(opacity.clamp(1e-3, 1 - 1e-3), rays.alpha[pick])
    target_rgb = rays.color[pick] * opacity.detach()[:, None]
    residual = (rendered_rgb - target_rgb).abs().mean(1)
    knee = config.huber
    robust = torch.where(residual < knee, residual * residual / (2 * knee), residual - knee / 2)
    trusted = rays.trusted[pick]
    photometric = (robust * trusted).sum() / trusted.sum().clamp_min(1)
    return config.photometric * photometric + config.silhouette * silhouette


def _collect_rays(views: Views, grid: Grid, config: FieldConfig) -> list[_Rays]:
    """Rays of each view at a size that fits the grid."""
    size = _ray_size(views.cameras.width, grid, config)
    height = max(1, round(views.cameras.height * size / views.cameras.width))
    cameras = views.cameras.resized(size, height)
    parts = []
    for view, image in enumerate(views.images):
        straight = torch.tensor(image).permute(2, 0, 1)[None]
        premultiplied = torch.cat([straight[:, :3] * straight[:, 3:], straight[:, 3:]], 1)
        small = F.interpolate(premultiplied, (height, size), mode="area")[0]
        distance = silhouette_distance(small[3].numpy())
        ys, xs = np.nonzero(distance > -config.outside_px)
        inside = torch.tensor(distance[ys, xs])
        origin, direction = rays_through(cameras, view, xs, ys)
        right = cameras.c2w[view, :3, 0] / cameras.fl_x[view]
        down = -cameras.c2w[view, :3, 1] / cameras.fl_y[view]
        parts.append(
            _Rays(
                origin,
                direction,
                torch.tensor(np.stack([right, down]), dtype=torch.float32).expand(len(xs), 2, 3),
                (small[:3] / small[3:].clamp_min(1e-3)).permute(1, 2, 0)[ys, xs],
                small[3][ys, xs].clamp(0, 1),
                (inside > config.color_px).float(),
                inside.abs() < config.edge_px,
                torch.full((len(xs),), view),
            )
        )
    return parts
