"""Lenses that bend straight lines, and images made straight.

Only the way from straight to bent is needed to resample an image: Brown's and Kannala's polynomials are a few lines,
and the r⁸ term that nerfstudio has is in neither OpenCV nor kornia; kornia's functions are the twins in the tests.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float

CAMERA_MODELS: dict[str, tuple[str, ...]] = {
    "SIMPLE_PINHOLE": ("f", "cx", "cy"),
    "PINHOLE": ("fl_x", "fl_y", "cx", "cy"),
    "SIMPLE_RADIAL": ("f", "cx", "cy", "k1"),
    "RADIAL": ("f", "cx", "cy", "k1", "k2"),
    "OPENCV": ("fl_x", "fl_y", "cx", "cy", "k1", "k2", "p1", "p2"),
    "OPENCV_FISHEYE": ("fl_x", "fl_y", "cx", "cy", "k1", "k2", "k3", "k4"),
    "FULL_OPENCV": ("fl_x", "fl_y", "cx", "cy", "k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6"),
    "SIMPLE_RADIAL_FISHEYE": ("f", "cx", "cy", "k1"),
    "RADIAL_FISHEYE": ("f", "cx", "cy", "k1", "k2"),
}
"""Camera models that are read, with their parameters in COLMAP's order; `f` is both focal lengths."""
_WIDEST = np.tan(np.radians(85))  # radius on the plane z = 1; beyond it no flat picture has room
_STEPS = 4096
_STRAIGHT_PX = 0.05  # displacement that no resampling is worth
_MARGIN = 0.02  # of the frame, around what must stay in it
_LEAST_SCALE, _MOST_SCALE = 0.1, 4.0


@dataclass(frozen=True)
class Lens:
    """A camera's intrinsics in pixels (centres at +0.5) of an image of width x height, and how it bends.

    radial: k1 to k4. tangential: p1, p2. denominator: k4 to k6 of FULL_OPENCV, whose radial has k1 to k3.
    fisheye: radial is a polynomial of the angle instead of the radius.
    """

    fl_x: float
    fl_y: float
    cx: float
    cy: float
    width: float
    height: float
    radial: tuple[float, ...] = ()
    tangential: tuple[float, float] = (0.0, 0.0)
    denominator: tuple[float, ...] = ()
    fisheye: bool = False

    @staticmethod
    def of(model: str, values: dict[str, float], width: float, height: float) -> Lens:
        """values: of the names in CAMERA_MODELS; absent coefficients are 0."""
        k1, k2, k3, k4, k5, k6, p1, p2 = (
            values.get(name, 0.0) for name in ("k1", "k2", "k3", "k4", "k5", "k6", "p1", "p2")
        )
        fl_x, fl_y = (values.get(name, values.get("f", 0.0)) for name in ("fl_x", "fl_y"))
        full, fisheye = model == "FULL_OPENCV", "FISHEYE" in model
        return Lens(
            fl_x,
            fl_y,
            values["cx"],
            values["cy"],
            width,
            height,
            (k1, k2, k3) if full else (k1, k2, k3, k4),
            (0.0, 0.0) if fisheye else (p1, p2),
            (k4, k5, k6) if full else (),
            fisheye,
        )

    def scaled(self, width: int, height: int) -> Lens:
        """For the same image resampled to width x height."""
        x, y = width / self.width, height / self.height
        return replace(
            self,
            fl_x=self.fl_x * x,
            fl_y=self.fl_y * y,
            cx=self.cx * x,
            cy=self.cy * y,
            width=width,
            height=height,
        )

    def straight(self, scale: float = 1.0) -> Lens:
        """The pinhole camera of the same size and centre, its focal lengths times `scale`."""
        size = (self.cx, self.cy, self.width, self.height)
        return Lens(self.fl_x * scale, self.fl_y * scale, *size)

    @cached_property
    def reach(self) -> float:
        """Radius on the plane z = 1 up to which the lens maps one point to one point; its polynomial turns back there."""
        return float(self._table[0][-1])

    @cached_property
    def _table(self) -> tuple[Float[np.ndarray, " s"], Float[np.ndarray, " s"]]:
        """Radii on the plane z = 1 and where the radial part takes them, both growing."""
        radius = np.tan(np.linspace(0, np.arctan(_WIDEST), _STEPS))
        bent = radius * self._factor(radius**2)
        falls = np.flatnonzero(~(np.diff(bent) > 0))
        end = int(falls[0]) + 1 if len(falls) else _STEPS
        return radius[:end], bent[:end]

    def _factor(self, squared: Float[np.ndarray, "*p"]) -> Float[np.ndarray, "*p"]:
        """Bent over straight radius. squared: straight radius², on the plane z = 1."""
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            if not self.fisheye:
                return _polynomial(self.radial, squared) / _polynomial(self.denominator, squared)
            radius = np.sqrt(squared)
            angle = np.arctan(radius)
            factor = angle / np.maximum(radius, 1e-12) * _polynomial(self.radial, angle**2)
            return np.where(radius > 1e-9, factor, 1.0)

    def bent(self, xy: Float[np.ndarray, "p 2"]) -> Float[np.ndarray, "p 2"]:
        """Points of the plane z = 1 (x right, y down) → where the lens images them, on the same plane.

        Brown, "Close-range camera calibration" (1971), as OpenCV and COLMAP write it; fisheye: Kannala and Brandt, "A
        generic camera model" (2006).
        """
        x, y = xy[:, 0], xy[:, 1]
        squared = x**2 + y**2
        p1, p2 = self.tangential
        sideways = np.stack(
            [2 * p1 * x * y + p2 * (squared + 2 * x**2), p1 * (squared + 2 * y**2) + 2 * p2 * x * y], 1
        )
        return xy * self._factor(squared)[:, None] + sideways

    def unbent(self, xy: Float[np.ndarray, "p 2"], *, steps: int = 20) -> Float[np.ndarray, "p 2"]:
        """The inverse of `bent` within `reach`, by the table of the radial part and a fixed point for the rest."""
        straight_radii, bent_radii = self._table
        straight = xy
        for _ in range(steps if any(self.tangential) else 1):
            squared = (straight**2).sum(1)
            radial = xy - (self.bent(straight) - straight * self._factor(squared)[:, None])
            radius = np.linalg.norm(radial, axis=1)
            found = np.interp(radius, bent_radii, straight_radii)
            straight = radial * (found / np.maximum(radius, 1e-12))[:, None]
        return straight

    def covers(self, xy: Float[np.ndarray, "p 2"]) -> Bool[np.ndarray, " p"]:
        """Which pixels the lens images something on: its polynomial turns back at `reach`, and nothing lies beyond."""
        return np.linalg.norm(self.plane(xy), axis=1) <= self._table[1][-1]

    def plane(self, xy: Float[np.ndarray, "p 2"]) -> Float[np.ndarray, "p 2"]:
        """Pixels → the plane z = 1, whatever the lens does to them."""
        return (xy - [self.cx, self.cy]) / [self.fl_x, self.fl_y]

    def pixels(self, xy: Float[np.ndarray, "p 2"]) -> Float[np.ndarray, "p 2"]:
        """The inverse of `plane`."""
        return xy * [self.fl_x, self.fl_y] + [self.cx, self.cy]

    @cached_property
    def bends(self) -> bool:
        """Whether any pixel of the border moves by more than a twentieth of a pixel."""
        border = _border(self)
        straight = self.unbent(self.plane(border))
        return bool(np.abs(self.pixels(straight) - border).max() > _STRAIGHT_PX)

    def details(self) -> dict[str, Any]:
        """The intrinsics for a record."""
        return {
            name: round(float(getattr(self, name)), 4)
            for name in ("fl_x", "fl_y", "cx", "cy", "width", "height")
        }


def straightened(
    images: Float[np.ndarray, "n h w 4"], lens: Lens
) -> tuple[Float[np.ndarray, "n h w 4"], Lens]:
    """Images as a pinhole camera of the same size would have taken them, and that camera.

    images: straight alpha, taken with `lens`, whose size is theirs. The focal length is kept, unless the foreground
    would leave the frame: then it is shortened until it fits; where the foreground is cut off by the frame, it is
    lengthened until no pixel looks past the image. Pixels without a source are transparent.
    """
    height, width = images.shape[1:3]
    target = lens.straight(_scale(images[..., 3], lens))
    ys, xs = np.mgrid[:height, :width] + 0.5
    source, there = _sources(lens, target, np.stack([xs.ravel(), ys.ravel()], 1))
    grid = torch.tensor(
        (source / [width / 2, height / 2] - 1).reshape(1, height, width, 2), dtype=torch.float32
    )
    seen = there.reshape(height, width)
    made = np.empty(images.shape, np.float32)
    for image, out in zip(images, made, strict=True):
        stacked = np.concatenate([image[..., :3] * image[..., 3:], image[..., 3:], image[..., :3]], -1)
        values = (
            F.grid_sample(
                torch.tensor(stacked).permute(2, 0, 1)[None],
                grid,
                mode="bilinear",
                padding_mode="border",
                align_corners=False,
            )[0]
            .permute(1, 2, 0)
            .numpy()
        )
        alpha = np.where(seen, values[..., 3], 0)
        # Colours are mixed by their alpha; where there is none, hidden ones stay as they are.
        mixed = np.where(
            alpha[..., None] > 1e-3, values[..., :3] / np.maximum(values[..., 3:4], 1e-3), values[..., 4:]
        )
        out[..., :3], out[..., 3] = np.clip(mixed, 0, 1), alpha
    return made, target


def _sources(
    lens: Lens, target: Lens, xy: Float[np.ndarray, "p 2"]
) -> tuple[Float[np.ndarray, "p 2"], Bool[np.ndarray, " p"]]:
    """Where the image of `lens` shows the pixels of `target`, and whether it does."""
    straight = target.plane(xy)
    near = np.linalg.norm(straight, axis=1) <= lens.reach
    source = lens.pixels(lens.bent(np.where(near[:, None], straight, 0.0)))
    return source, near & (source >= 0).all(1) & (source <= [lens.width, lens.height]).all(1)


def _scale(alphas: Float[np.ndarray, "n h w"], lens: Lens) -> float:
    covered = np.asarray((alphas > 0.5).any(0))
    if not covered.any():
        return 1.0
    if covered[0].any() or covered[-1].any() or covered[:, 0].any() or covered[:, -1].any():
        border = _border(lens)
        scales = np.geomspace(1.0, _MOST_SCALE, 60)
        return float(
            next((s for s in scales if _sources(lens, lens.straight(s), border)[1].all()), scales[-1])
        )
    ys, xs = np.nonzero(covered & ~_surrounded(covered))
    edges = np.concatenate(
        [np.stack([xs + right, ys + down], 1) for right in (0.0, 1.0) for down in (0.0, 1.0)]
    )
    outer = lens.unbent(lens.plane(edges)) * [lens.fl_x, lens.fl_y]
    room = (1 - _MARGIN) * np.array([[-lens.cx, -lens.cy], [lens.width - lens.cx, lens.height - lens.cy]])
    ratios = [room[0] / np.minimum(outer.min(0), -1e-9), room[1] / np.maximum(outer.max(0), 1e-9)]
    return float(np.clip(np.min(ratios), _LEAST_SCALE, 1.0))


def _surrounded(mask: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Pixels whose four neighbours are all in the mask."""
    inner = np.zeros_like(mask)
    inner[1:-1, 1:-1] = mask[:-2, 1:-1] & mask[2:, 1:-1] & mask[1:-1, :-2] & mask[1:-1, 2:]
    return inner


def _border(lens: Lens, steps: int = 33) -> Float[np.ndarray, "p 2"]:
    along = np.linspace(0, 1, steps)
    ends = np.concatenate([np.stack([along, np.full(steps, side)], 1) for side in (0.0, 1.0)])
    return np.concatenate([ends, ends[:, ::-1]]) * [lens.width, lens.height]


def _polynomial(coefficients: tuple[float, ...], squared: Float[np.ndarray, "*p"]) -> Float[np.ndarray, "*p"]:
    """1 + c1 s + c2 s² + …"""
    value = np.zeros_like(squared)
    for coefficient in reversed(coefficients):
        value = squared * (coefficient + value)
    return 1 + value
