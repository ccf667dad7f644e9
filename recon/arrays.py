"""Shapes that many signatures share, and what several stages do with them."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy import ndimage

from mv3d.render.cameras import Cameras

Vertices = Float[np.ndarray, "v 3"]
Faces = Int[np.ndarray, "f 3"]
PerVertex = Float[np.ndarray, " v"]
Volume = Float[torch.Tensor, "x y z"]
Rays = tuple[Float[torch.Tensor, "r 3"], Float[torch.Tensor, "r 3"]]
"""Origins and unit directions in the world."""


def rays_through(
    cameras: Cameras,
    view: int,
    xs: Int[np.ndarray, " r"],
    ys: Int[np.ndarray, " r"],
    device: torch.device | None = None,
) -> Rays:
    """Rays through the centres of pixels, float32."""
    rays = cameras.rays(view, np.stack([xs + 0.5, ys + 0.5], 1))
    origins, directions = (torch.tensor(part, dtype=torch.float32, device=device) for part in rays)
    return origins, directions


def blurred(values: Volume, sigma: float) -> Volume:
    """Gaussian blur, on the device of the values. sigma: samples."""
    return torch.from_numpy(ndimage.gaussian_filter(values.detach().cpu().numpy(), sigma)).to(values.device)
