"""A 3D prior whose layers are those of a sphere in closed form, and a photo of that sphere."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mv3d.models.folder import ModelInfo, write_info
from mv3d.models.prior.folder import PriorSettings, save_prior
from mv3d.models.prior.layers import RANGE, Layers
from mv3d.models.prior.network import Prediction, PriorNetwork
from mv3d.render.cameras import FOREGROUND_RATIO, SV3D_FOV_DEG, SV3D_RADIUS
from mv3d.render.mesh import Mesh

SLOPE = math.tan(math.radians(SV3D_FOV_DEG) / 2)
_TANGENT = FOREGROUND_RATIO * SLOPE  # of the angle between the axis and the outline
RADIUS = SV3D_RADIUS * _TANGENT / math.hypot(1, _TANGENT)
"""Of the sphere whose outline fills the frame as framed photos do, in the world of its views."""
ELEVATION_DEG, STD_DEG = 25.0, 4.0
SIDE = 64
"""Of the views, pixels."""
_INPUT = 256  # of the network: an outline's depths are known to two of its pixels


class SpherePrior(PriorNetwork):
    """Sees the sphere in whatever it is given: the photo's colour in front, blue behind."""

    def __init__(self) -> None:
        super().__init__(16)

    def forward(self, rgba: torch.Tensor) -> Prediction:
        count = rgba.shape[-1] // 2
        at = ((torch.arange(count) + 0.5) / count * 2 - 1) * SLOPE
        down, across = torch.meshgrid(at, at, indexing="ij")
        square, radius = across**2 + down**2 + 1, RADIUS / SV3D_RADIUS
        root = (1 - square * (1 - radius**2)).clamp(min=0).sqrt()
        enter, leave = (((1 + sign * root) / square - 1) / RANGE for sign in (-1, 1))
        middle, photos = torch.zeros_like(enter), len(rgba)
        colors = torch.zeros(photos, 3, 3, count, count)
        colors[:, :, 2] = 1
        return Prediction(
            Layers(*(layer.expand(photos, -1, -1) for layer in (enter, leave, middle, middle, middle - 20))),
            colors,
            torch.zeros(photos, 3, count, count),
            torch.full((photos,), ELEVATION_DEG),
            torch.full((photos,), math.log(STD_DEG)),
        )


def disc(side: int, *, fine: int = 8) -> np.ndarray:
    """(side, side) alpha in [0, 1] of the sphere's outline in any of its views."""
    at = (np.arange(side * fine) + 0.5) / (side * fine) * 2 - 1
    inside = np.hypot(*np.meshgrid(at, at)) < FOREGROUND_RATIO
    return inside.reshape(side, fine, side, fine).mean((1, 3)).astype(np.float32)


def write_photo(path: Path, side: int = 128) -> None:
    """The red sphere on transparent ground."""
    rgba = np.zeros((side, side, 4), np.uint8)
    rgba[..., 0], rgba[..., 3] = 255, disc(side) * 255 + 0.5
    Image.fromarray(rgba).save(path)


def write_prior(folder: Path) -> None:
    """A model folder with a prior alone. Its weights are random: tests put `SpherePrior` in their place."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    save_prior(folder, PriorNetwork(16), PriorSettings(16, _INPUT))
    write_info(folder, ModelInfo("prior", resolution=SIDE, elevations_deg=(-10.0, 60.0)))


def sphere_at_hand(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a folder with the photo x.png and a model that sees the sphere."""
    write_photo(folder / "x.png")
    write_prior(folder / "model")
    monkeypatch.setattr("mv3d.generation.prior.load_prior", lambda folder: SpherePrior().eval())
    monkeypatch.chdir(folder)


def off_the_sphere(mesh: Mesh) -> float:
    """Mean distance of a mesh's vertices from the sphere. The depths near the outline are known to a pixel only."""
    return float(np.abs(np.linalg.norm(mesh.vertices, axis=1) - RADIUS).mean())
