"""A differentiable rasteriser of 3D Gaussians in torch, exact to its formulas, for a CPU or any other device.

Each Gaussian is projected by the local affine approximation of the camera (Zwicker et al. 2001, EWA volume splatting,
equations 24 to 31; Kerbl et al. 2023, equation 5) and composited front to back (Kerbl et al. 2023, equations 2 and 3)
with that paper's constants, so that viewers show what is measured here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy import sparse
from torch import Tensor

from mv3d.recon.splats.cloud import Splats
from mv3d.render.cameras import Cameras

BLUR = 0.3
"""Added to the variances of each projected Gaussian, square pixels: the low-pass filter of Kerbl et al. 2023."""
LEAST_ALPHA, MOST_ALPHA, LEAST_THROUGH = 1 / 255, 0.99, 1e-4
_NEAR = 1e-3
_SIDE = 192  # of a window in pixels, whose numbers fit into 16 bits

Window = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels; right and bottom are exclusive."""


@dataclass(frozen=True, eq=False)
class Gaussians:
    """`Splats` as tensors of one device and type; they may carry gradients. rotations: (n, 3, 3) matrices."""

    means: Float[Tensor, "n 3"]
    scales: Float[Tensor, "n 3"]
    rotations: Float[Tensor, "n 3 3"]
    opacities: Float[Tensor, " n"]
    colors: Float[Tensor, "n 3"]

    def __getitem__(self, index: Tensor) -> Gaussians:
        return Gaussians(*(value[index] for value in vars(self).values()))

    @staticmethod
    def of(splats: Splats, device: torch.device, dtype: torch.dtype = torch.float32) -> Gaussians:
        values = [torch.tensor(v, dtype=dtype, device=device) for v in vars(splats).values()]
        values[2] = rotation_matrices(values[2])
        return Gaussians(*values)


@dataclass(frozen=True, eq=False)
class Projected:
    """Gaussians in a picture. xy: (n, 2) pixels. covariance: (n, 3) xx, xy, yy in square pixels, blurred.
    depth: (n,) along the optical axis."""

    xy: Float[Tensor, "n 2"]
    covariance: Float[Tensor, "n 3"]
    depth: Float[Tensor, " n"]


def rotation_matrices(q: Float[Tensor, "n 4"]) -> Float[Tensor, "n 3 3"]:
    """Matrices of unit quaternions w x y z."""
    w, x, y, z = q.unbind(1)
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    return torch.stack([torch.stack(row, 1) for row in rows], 1)


def project(gaussians: Gaussians, cameras: Cameras, view: int, *, blur: float = BLUR) -> Projected:
    """Σ' = J W Σ Wᵀ Jᵀ + blur · 1 (Kerbl et al. 2023, equation 5): J is the Jacobian of the perspective at the mean
    (Zwicker et al. 2001, equation 29), W the camera's rotation."""
    like: dict[str, Any] = {"dtype": gaussians.means.dtype, "device": gaussians.means.device}
    w2c = torch.tensor(np.diag([1.0, -1, -1, 1]) @ cameras.w2c[view], **like)  # y down, z ahead
    fx, fy = float(cameras.fl_x[view]), float(cameras.fl_y[view])
    x, y, z = (gaussians.means @ w2c[:3, :3].T + w2c[:3, 3]).unbind(1)
    ahead = z.clamp(min=_NEAR)
    xy = torch.stack([fx * x / ahead + float(cameras.cx[view]), fy * y / ahead + float(cameras.cy[view])], 1)
    # Rows of J W R S: two vectors a Gaussian, whose products are the covariance.
    axes = (w2c[:3, :3] @ gaussians.rotations) * gaussians.scales[:, None, :]
    first = (fx / ahead)[:, None] * (axes[:, 0] - (x / ahead)[:, None] * axes[:, 2])
    second = (fy / ahead)[:, None] * (axes[:, 1] - (y / ahead)[:, None] * axes[:, 2])
    parts = ((first * first).sum(1) + blur, (first * second).sum(1), (second * second).sum(1) + blur)
    return Projected(xy, torch.stack(parts, 1), z)


def rasterise(
    gaussians: Gaussians, cameras: Cameras, view: int, window: Window, *, blur: float = BLUR
) -> Float[Tensor, "h w 4"]:
    """A window of one view: premultiplied sRGB and alpha. The window holds at most 65,536 pixels.

    Pixels are sampled at their centres. The gradient reaches all five tensors of `gaussians`; it is exact, but for what
    falls below `LEAST_ALPHA` or behind `LEAST_THROUGH`, which is left out.
    """
    left, top, right, bottom = window
    if (right - left) * (bottom - top) > 1 << 16:
        raise ValueError(f"window: expected at most 65536 pixels, got {(right - left) * (bottom - top)}")
    seen = project(gaussians, cameras, view, blur=blur)
    pairs = _pairs(seen, gaussians.opacities, window)
    flat = _Composite.apply(seen.xy, _inverse(seen), gaussians.opacities, gaussians.colors, pairs, window)
    return flat.reshape(bottom - top, right - left, 4)  # pyright: ignore[reportOptionalMemberAccess]


@torch.no_grad()
def shares(
    gaussians: Gaussians, cameras: Cameras, view: int, window: Window
) -> tuple[sparse.csr_matrix, Float[np.ndarray, " p"]]:
    """(pixels of the window, Gaussians): how much of each pixel, row by row, is of each Gaussian's colour, and the
    pixels' alpha. `rasterise` gives this matrix times the colours."""
    left, top, right, bottom = window
    seen = project(gaussians, cameras, view)
    pairs = _pairs(seen, gaussians.opacities, window)
    gaussian, pixel, _, _, _, alpha, through = _blended(
        seen.xy, _inverse(seen), gaussians.opacities, pairs, window
    )
    weight = (alpha * through).float().cpu().numpy()
    count = (right - left) * (bottom - top)
    start = np.concatenate([[0], np.bincount(pixel.cpu().numpy(), minlength=count).cumsum()])
    columns = gaussian.cpu().numpy().astype(np.int32)
    matrix = sparse.csr_matrix((weight, columns, start.astype(np.int32)), shape=(count, len(gaussians.means)))
    return matrix, matrix @ np.ones(len(gaussians.means), np.float32)


@torch.no_grad()
def render_splats(splats: Splats, cameras: Cameras, *, device: torch.device) -> Float[np.ndarray, "n h w 4"]:
    """Views of splats: sRGB in [0, 1], straight alpha, as a viewer shows them."""
    gaussians = Gaussians.of(splats, device)
    out = np.zeros((len(cameras), cameras.height, cameras.width, 4), np.float32)
    for view in range(len(cameras)):
        for window in windows(cameras.width, cameras.height):
            left, top, right, bottom = window
            part = rasterise(gaussians, cameras, view, window).cpu().numpy()
            part[..., :3] /= np.maximum(part[..., 3:], 1e-6)
            out[view, top:bottom, left:right] = np.clip(part, 0, 1)
    return out


def windows(width: int, height: int, side: int = _SIDE) -> Iterator[Window]:
    """Windows of at most `side` squared pixels that cover a picture, row by row."""
    for top in range(0, height, side):
        for left in range(0, width, side):
            yield left, top, min(left + side, width), min(top + side, height)


def _inverse(seen: Projected) -> Float[Tensor, "n 3"]:
    """Of the covariances: xx, xy, yy."""
    a, b, c = seen.covariance.unbind(1)
    return torch.stack([c, -b, a], 1) / (a * c - b * b)[:, None]


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Gaussians and the pixels that they touch, by pixel and then by depth. gaussian, pixel: (p,). start: (pixels + 1,)
    where each pixel's begin."""

    gaussian: Int[Tensor, " p"]
    pixel: Int[Tensor, " p"]
    start: Int[Tensor, " s"]


@torch.no_grad()
def _pairs(seen: Projected, opacities: Float[Tensor, " n"], window: Window) -> _Pairs:
    """All pairs in the box of the ellipse where a Gaussian's alpha reaches LEAST_ALPHA."""
    left, top, right, bottom = window
    reach = torch.sqrt(2 * torch.log((opacities / LEAST_ALPHA).clamp(min=1)))[:, None]
    half = reach * seen.covariance[:, [0, 2]].sqrt()
    like: dict[str, Any] = {"dtype": seen.xy.dtype, "device": seen.xy.device}
    lowest, highest = torch.tensor([left, top], **like), torch.tensor([right, bottom], **like)
    low = torch.maximum(torch.ceil(seen.xy - half - 0.5), lowest)
    size = (torch.minimum(torch.floor(seen.xy + half - 0.5) + 1, highest) - low).clamp(min=0).long()
    count = size[:, 0] * size[:, 1] * (seen.depth > _NEAR)
    touched = count.nonzero()[:, 0]
    touched = touched[torch.argsort(seen.depth[touched], stable=True)]
    count = count[touched]
    corner, across = (low[touched] - lowest).long(), size[touched, 0]
    index = torch.repeat_interleave(torch.arange(len(touched), device=count.device), count)
    within = torch.arange(len(index), device=count.device) - (count.cumsum(0) - count)[index]
    row = within // across[index]
    column = within - row * across[index]
    pixel = (corner[index, 1] + row) * (right - left) + corner[index, 0] + column
    order = _stable_order(pixel)
    pixel = pixel[order]
    pixels = (right - left) * (bottom - top)
    start = torch.zeros(pixels + 1, dtype=torch.long, device=count.device)
    start[1:] = torch.bincount(pixel, minlength=pixels).cumsum(0)
    return _Pairs(touched[index[order]], pixel, start)


def _stable_order(pixel: Int[Tensor, " p"]) -> Int[Tensor, " p"]:
    """A stable argsort of numbers below 65,536."""
    if pixel.device.type != "cpu":
        return torch.argsort(pixel, stable=True)
    # Of 16-bit numbers NumPy makes a radix sort, ten times as fast as a comparing one.
    return torch.from_numpy(np.argsort(pixel.numpy().astype(np.uint16), kind="stable"))


def _blended(
    xy: Tensor, inverse: Tensor, opacities: Tensor, pairs: _Pairs, window: Window
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The pairs that are drawn: Gaussian, pixel, place of the pixel from the mean (x and y), exp(−½ dᵀ Σ'⁻¹ d), α, and
    the product of 1 − α of those in front."""
    left, top, right, _ = window
    gaussian, pixel = pairs.gaussian, pairs.pixel
    place = xy[gaussian]
    dx = (pixel % (right - left)).to(xy.dtype) + (left + 0.5) - place[:, 0]
    dy = (pixel // (right - left)).to(xy.dtype) + (top + 0.5) - place[:, 1]
    q = inverse[gaussian]
    fall = torch.exp(-0.5 * (q[:, 0] * dx * dx + q[:, 2] * dy * dy) - q[:, 1] * dx * dy)
    alpha = (opacities[gaussian] * fall).clamp(max=MOST_ALPHA)
    alpha = torch.where(alpha >= LEAST_ALPHA, alpha, 0)
    log_through = torch.log1p(-alpha).double().cumsum(0)  # double: a long sum, of which differences are taken
    before = torch.cat([log_through.new_zeros(1), log_through])
    through = torch.exp(before[:-1] - before[pairs.start[:-1]][pixel])
    # What would leave less than LEAST_THROUGH behind it is not drawn, nor is anything behind it.
    drawn = (alpha > 0) & (through * (1 - alpha.double()) >= LEAST_THROUGH)
    keep = drawn.nonzero()[:, 0]
    through = through[keep].to(xy.dtype)
    return gaussian[keep], pixel[keep], dx[keep], dy[keep], fall[keep], alpha[keep], through


class _Composite(torch.autograd.Function):
    """C = Σᵢ cᵢ αᵢ Πⱼ₍ⱼ<ᵢ₎ (1 − αⱼ), α = o · exp(−½ dᵀ Σ'⁻¹ d) (Kerbl et al. 2023, equations 2 to 4), and its gradient."""

    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any,
        xy: Tensor,
        inverse: Tensor,
        opacities: Tensor,
        colors: Tensor,
        pairs: _Pairs,
        window: Window,
    ) -> Tensor:
        gaussian, pixel, dx, dy, fall, alpha, through = _blended(xy, inverse, opacities, pairs, window)
        weight = alpha * through
        pixels = len(pairs.start) - 1
        color = colors[gaussian]
        sums = [_sums(pixel, weight * color[:, k], pixels) for k in range(3)]
        image = torch.stack([*sums, _sums(pixel, weight, pixels)], 1).to(xy.dtype)
        kept = (gaussian, pixel, dx, dy, fall, alpha, through)
        ctx.save_for_backward(inverse, opacities, colors, *kept)
        ctx.pixels = pixels
        return image

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        inverse, opacities, colors, gaussian, pixel, dx, dy, fall, alpha, through = ctx.saved_tensors
        grad, count = grads[0][pixel], len(opacities)
        weight = alpha * through
        by_color = [_sums(gaussian, weight * grad[:, k], count) for k in range(3)]
        by_weight = (grad[:, :3] * colors[gaussian]).sum(1) + grad[:, 3]
        # A denser Gaussian shows more of itself and hides what is behind it.
        shares = (weight * by_weight).double()
        total = _sums(pixel, shares, ctx.pixels).cumsum(0)[pixel]
        behind = (total - shares.cumsum(0)).to(alpha.dtype)
        by_alpha = through * by_weight - behind / (1 - alpha)
        by_alpha = torch.where(alpha < MOST_ALPHA, by_alpha, 0)
        by_power = by_alpha * alpha
        q = inverse[gaussian]
        by_xy = (by_power * (q[:, 0] * dx + q[:, 1] * dy), by_power * (q[:, 1] * dx + q[:, 2] * dy))
        by_inverse = (-0.5 * by_power * dx * dx, -by_power * dx * dy, -0.5 * by_power * dy * dy)

        def gathered(parts: Any) -> Tensor:
            return torch.stack([_sums(gaussian, part, count) for part in parts], 1).to(inverse.dtype)

        by_opacity = _sums(gaussian, by_alpha * fall, count).to(inverse.dtype)
        return (
            gathered(by_xy),
            gathered(by_inverse),
            by_opacity,
            torch.stack(by_color, 1).to(inverse.dtype),
            None,
            None,
        )


def _sums(index: Int[Tensor, " p"], values: Float[Tensor, " p"], count: int) -> Float[Tensor, " c"]:
    """Sums of the values of each index."""
    return torch.bincount(index, values, minlength=count)
