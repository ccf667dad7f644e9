"""Where points lie in the views of an object, and in the frame that the network is given of one of them.

The frame is a crop of the photo around the object, perhaps mirrored; x to the right and y down reach from -1 to 1 in it.
Its depths are those of `mv3d.models.prior.layers`, scaled by the crop's zoom: a crop of half the size shows the object
as a camera would that stands twice as near, and the frustum becomes half as deep.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mv3d.models.prior.layers import RANGE, SLOPE

_NEAREST = 1e-4  # depth at which a point behind the camera is put


@dataclass(frozen=True, eq=False)
class View:
    """A camera of 33.8 degrees that looks at the origin, upright.

    rotation: (3, 3), columns right, up, back. center: (3,). distance: from the origin.
    """

    rotation: Float[Tensor, "3 3"]
    center: Float[Tensor, " 3"]
    distance: float

    @staticmethod
    def of(elevation_deg: float, azimuth_deg: float, distance: float) -> View:
        """As `mv3d.render.cameras.orbit_cameras` places it."""
        e, a = math.radians(elevation_deg), math.radians(azimuth_deg)
        back = torch.tensor([math.cos(e) * math.cos(a), math.cos(e) * math.sin(a), math.sin(e)])
        right = torch.tensor([-math.sin(a), math.cos(a), 0.0])
        up = torch.linalg.cross(back, right)
        return View(torch.stack([right, up, back], 1), back * distance, distance)

    def project(self, points: Float[Tensor, "*p 3"]) -> tuple[Float[Tensor, "*p 2"], Float[Tensor, "*p"]]:
        """World → (places in the image, which reaches from -1 to 1 with y down; depths along the axis)."""
        seen = (points - self.center) @ self.rotation
        depth = -seen[..., 2]
        scale = depth.clamp(min=_NEAREST) * SLOPE
        return torch.stack([seen[..., 0] / scale, -seen[..., 1] / scale], -1), depth

    def unproject(self, places: Float[Tensor, "*p 2"], depth: Float[Tensor, "*p"]) -> Float[Tensor, "*p 3"]:
        """The inverse of `project`."""
        seen = torch.stack([places[..., 0] * SLOPE * depth, -places[..., 1] * SLOPE * depth, -depth], -1)
        return seen @ self.rotation.T + self.center


@dataclass(frozen=True, eq=False)
class Frame:
    """view: of the photo. x, y, half: centre and half side of the crop in its image. mirrored: left for right."""

    view: View
    x: float
    y: float
    half: float
    mirrored: bool = False

    @property
    def _sign(self) -> float:
        return -1.0 if self.mirrored else 1.0

    def pixels(self, side: int) -> Float[Tensor, "s s 2"]:
        """Places of the frame's pixels in the view's image."""
        at = (torch.arange(side) + 0.5) / side * 2 - 1
        across, down = self.x + self.half * self._sign * at, self.y + self.half * at
        return torch.stack([across.expand(side, side), down[:, None].expand(side, side)], -1)

    def scaled(self, relative: Tensor) -> Tensor:
        """Depths along the axis as multiples of the view's distance → units of the network."""
        return (relative - 1) / (RANGE * self.half)

    def along_axis(self, depth: Tensor) -> Tensor:
        """The inverse of `scaled`, in world lengths."""
        return (depth * (RANGE * self.half) + 1) * self.view.distance

    def locate(self, points: Float[Tensor, "*p 3"]) -> Float[Tensor, "*p 3"]:
        """World → x and y in the frame and depth in units of the network."""
        places, depth = self.view.project(points)
        across = (places[..., 0] - self.x) / (self.half * self._sign)
        down = (places[..., 1] - self.y) / self.half
        return torch.stack([across, down, self.scaled(depth / self.view.distance)], -1)
