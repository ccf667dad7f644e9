"""The rasteriser of a device: gsplat's kernels on CUDA where they are installed (extra `gpu`), else mv3d's own."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mv3d.recon.splats.cloud import quaternion_from_matrix
from mv3d.recon.splats.rasterise import BLUR, Gaussians, Window, rasterise
from mv3d.render.cameras import Cameras

if TYPE_CHECKING:
    from mv3d.recon.splats.refine import Rasteriser


def rasteriser_on(device: torch.device) -> Rasteriser:
    """`rasterise_gsplat` on CUDA where gsplat is installed, else `rasterise`, which runs on every device."""
    if device.type == "cuda" and importlib.util.find_spec("gsplat") is not None:
        return rasterise_gsplat
    return rasterise


def rasterise_gsplat(
    gaussians: Gaussians, cameras: Cameras, view: int, window: Window
) -> Float[Tensor, "h w 4"]:
    """As `mv3d.recon.splats.rasterise.rasterise`, by gsplat's kernels (Ye et al. 2024, arXiv 2409.06765).

    No gradient reaches `gaussians.rotations`. Needs CUDA tensors; the first call compiles the kernels.
    """
    import gsplat  # noqa: PLC0415  # pyright: ignore[reportMissingImports] - the extra `gpu`

    left, top, right, bottom = window
    like: dict[str, Any] = {"dtype": gaussians.means.dtype, "device": gaussians.means.device}
    w2c = torch.tensor(np.diag([1.0, -1, -1, 1]) @ cameras.w2c[view], **like)
    lens = torch.tensor(
        [
            [cameras.fl_x[view], 0, cameras.cx[view] - left],
            [0, cameras.fl_y[view], cameras.cy[view] - top],
            [0, 0, 1],
        ],
        **like,
    )
    turns = gaussians.rotations.detach().cpu().double().numpy()
    color, alpha, _ = gsplat.rasterization(
        gaussians.means,
        torch.tensor(quaternion_from_matrix(turns), **like),
        gaussians.scales,
        gaussians.opacities,
        gaussians.colors,
        w2c[None],
        lens[None],
        right - left,
        bottom - top,
        near_plane=1e-3,
        eps2d=BLUR,
        packed=False,
    )
    return torch.cat([color[0], alpha[0]], -1)
