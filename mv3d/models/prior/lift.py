"""A framed photo through the prior's network: its solid, and that solid seen from an orbit."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mv3d.core.errors import InputError
from mv3d.models.prior.layers import Layers
from mv3d.models.prior.network import Prediction, PriorNetwork
from mv3d.models.prior.solid import Solid
from mv3d.render.cameras import FOREGROUND_RATIO
from mv3d.views.views import composite

SIDE = 160
"""Pixels of the network's input, as in training."""


def lift_photo(
    network: PriorNetwork,
    photo: Float[np.ndarray, "h h 4"],
    *,
    elevation_deg: float | None = None,
    side: int = SIDE,
) -> Solid:
    """The solid that the network sees in a photo: `predict`, then `solid_of`."""
    made, crop = predict(network, photo, side=side)
    return solid_of(made, photo, crop, elevation_deg=elevation_deg)


def predict(
    network: PriorNetwork, photo: Float[np.ndarray, "h h 4"], *, side: int = SIDE
) -> tuple[Prediction, tuple[float, float, float]]:
    """What the network says of a photo, and the crop that it saw: the mean of its answers to the photo and to its
    mirror image.

    photo: straight alpha in [0, 1], sRGB, square, of a camera of 33.8 degrees that looks at the object's centre. Raises
    InputError for a photo without an object.
    """
    device, dtype = next(network.parameters()).device, next(network.parameters()).dtype
    crop = object_crop(photo[..., 3])
    framed = cropped(photo, crop, side)
    on_white = np.concatenate([composite(framed), framed[..., 3:]], -1)
    given = torch.from_numpy(on_white).permute(2, 0, 1)
    with torch.no_grad():
        made = network(torch.stack([given, given.flip(-1)]).to(device, dtype))
    layers = Layers(**{part.name: _mean(getattr(made.layers, part.name)) for part in fields(Layers)})
    angle, log_std = made.elevation_deg.mean(0, keepdim=True), made.elevation_log_std.mean(0, keepdim=True)
    enters = torch.stack([made.layers.enter[0], made.layers.enter[1].flip(-1)])
    return Prediction(layers, _mean(made.colors), _mean(made.gates), angle, log_std, enters), crop


def _mean(pair: Float[Tensor, "2 *c h w"]) -> Float[Tensor, "1 *c h w"]:
    """Of the picture of a photo and that of its mirror image, turned back."""
    return (pair[:1] + pair[1:].flip(-1)) / 2


def solid_of(
    made: Prediction,
    photo: Float[np.ndarray, "h h 4"],
    crop: tuple[float, float, float],
    *,
    elevation_deg: float | None = None,
) -> Solid:
    """A prediction with its photo at full resolution.

    elevation_deg: of the photo's camera; the network's own estimate where None.
    """
    layers = made.layers
    depths = torch.stack([layers.enter, layers.leave, layers.first_leave, layers.second_enter])[:, 0]
    fine = cropped(photo, crop, max(2 * depths.shape[-1], round(photo.shape[0] * crop[2])))
    return Solid(
        depths.float().cpu().numpy(),
        torch.sigmoid(layers.two[0]).cpu().numpy(),
        made.colors[0].permute(0, 2, 3, 1).cpu().numpy(),
        made.gates[0].cpu().numpy(),
        fine,
        crop,
        float(made.elevation_deg[0]) if elevation_deg is None else elevation_deg,
        None if made.enters is None else made.enters.float().cpu().numpy(),
    )


def object_crop(alpha: Float[np.ndarray, "h w"]) -> tuple[float, float, float]:
    """Centre x and y and half side of a square around the object, in an image that reaches from -1 to 1."""
    rows, columns = np.flatnonzero((alpha > 0.5).any(1)), np.flatnonzero((alpha > 0.5).any(0))
    if not len(rows):
        raise InputError("photo: expected an object, found nothing opaque; give a photo with an object in it")
    height, width = alpha.shape
    side = max(rows[-1] + 1 - rows[0], columns[-1] + 1 - columns[0]) / FOREGROUND_RATIO
    x, y = (columns[0] + columns[-1] + 1) / width - 1, (rows[0] + rows[-1] + 1) / height - 1
    return float(x), float(y), float(side / height)


def cropped(
    photo: Float[np.ndarray, "h w 4"], crop: tuple[float, float, float], side: int
) -> Float[np.ndarray, "s s 4"]:
    """The part of a photo in a crop, resampled with its alpha; transparent beyond the border."""
    x, y, half = crop
    planes = torch.from_numpy(np.concatenate([photo[..., :3] * photo[..., 3:], photo[..., 3:]], -1))
    planes = planes.permute(2, 0, 1)[None].float()
    # Where it gets smaller, several samples a pixel are averaged.
    finer = max(1, int(np.ceil(half * photo.shape[0] / side - 0.01)))
    at = ((torch.arange(side * finer) + 0.5) / (side * finer) * 2 - 1) * half
    grid = torch.stack(torch.meshgrid(at + x, at + y, indexing="xy"), -1)[None]
    found = torch.nn.functional.grid_sample(planes, grid, align_corners=False)
    found = torch.nn.functional.avg_pool2d(found, finer)[0].permute(1, 2, 0).numpy()
    return np.concatenate([found[..., :3] / np.maximum(found[..., 3:], 1e-4), found[..., 3:]], -1).clip(0, 1)
