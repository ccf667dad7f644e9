"""Layered depth: where each pixel's ray enters and leaves the object, up to twice.

Depth is measured along the optical axis in distances from the camera to the object's centre, less 1, and scaled by
`RANGE`: -1 is nearest, 0 the centre, 1 farthest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from mv3d.render.cameras import SV3D_FOV_DEG

SLOPE = math.tan(math.radians(SV3D_FOV_DEG) / 2)
"""Half the height of the frustum at the depth of 1: of the photo's camera."""
RANGE = 0.34
"""Half the depth of the frustum, in distances from the camera to the object's centre."""
GEOMETRY_CHANNELS = 5
_SOFTNESS = 1.5 * 32
"""Slope of the occupancy at a surface, by depth in units of `RANGE`: 1.5 a sample of 64."""


@dataclass(frozen=True, eq=False)
class Layers:
    """enter, leave: (b, h, w), the first entry and the last exit. first_leave, second_enter: (b, h, w), the gap between
    two layers. two: (b, h, w) logit that there are two."""

    enter: Float[Tensor, "b h w"]
    leave: Float[Tensor, "b h w"]
    first_leave: Float[Tensor, "b h w"]
    second_enter: Float[Tensor, "b h w"]
    two: Float[Tensor, "b h w"]


def layers_of(raw: Float[Tensor, "b 5 h w"]) -> Layers:
    """Numbers of the network → ordered depths, by construction enter <= first_leave <= second_enter <= leave."""
    raw = raw.float()
    middle, half = 0.5 * raw[:, 0], 0.19 * F.softplus(raw[:, 1])
    enter, leave = middle - half, middle + half
    first_leave = enter + (leave - enter) * torch.sigmoid(raw[:, 2])
    second_enter = first_leave + (leave - first_leave) * torch.sigmoid(raw[:, 3])
    return Layers(enter, leave, first_leave, second_enter, raw[:, 4])


def stacked(layers: Layers) -> Float[Tensor, "b 5 h w"]:
    """The layers as channels, for looking them up between pixels."""
    parts = (layers.enter, layers.leave, layers.first_leave, layers.second_enter, layers.two)
    return torch.stack(parts, 1)


def signed_depth(channels: Float[Tensor, "b 5 p"], depth: Float[Tensor, "b p"]) -> Float[Tensor, "b p"]:
    """How deep points lie in the solid along their rays, in units of `RANGE`, negative outside."""
    enter, leave, first_leave, second_enter, two = channels.unbind(1)
    whole = torch.minimum(depth - enter, leave - depth)
    in_gap = torch.minimum(depth - first_leave, second_enter - depth)
    share = torch.sigmoid(two)
    return torch.minimum(whole, -in_gap) * share + whole * (1 - share)


def occupancy(channels: Float[Tensor, "b 5 p"], depth: Float[Tensor, "b p"]) -> Float[Tensor, "b p"]:
    """Soft occupancy in [0, 1]."""
    return torch.sigmoid(_SOFTNESS * signed_depth(channels, depth))
