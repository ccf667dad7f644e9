"""The colours of splats whose places, sizes and opacities are settled: linear least squares over all views."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from jaxtyping import Float
from scipy import sparse
from torch import Tensor

from mv3d.recon.splats.rasterise import Gaussians, Window, shares
from mv3d.render.cameras import Cameras

MOST_PIXELS = 4_000_000
"""That are held in memory, with about 16 Gaussians of 8 bytes each. Of more a random part is taken."""
_BACKGROUND = 0.5
"""What shines through where the splats' alpha is not the view's. Viewers show other backgrounds than white: a middle grey
is right for all of them on average."""
_STAY = 0.05  # weight of each colour's change, in pixels


def fitted_colors(
    gaussians: Gaussians,
    cameras: Cameras,
    targets: Iterable[tuple[int, Window, Float[Tensor, "h w 4"]]],
    *,
    pixels: int,
    rounds: int,
    seed: int = 0,
) -> Float[Tensor, "n 3"]:
    """The colours that bring the Gaussians' pictures nearest to the targets, in [0, 1].

    A picture is linear in the colours. Conjugate gradients on the normal equations (CGNR, Hestenes and Stiefel 1952) with
    the diagonal as preconditioner, from the colours that there are. targets: windows of views, premultiplied. pixels: how
    many of all windows the Gaussians touch, about.
    """
    rng, taken = np.random.default_rng(seed), min(1.0, MOST_PIXELS / max(pixels, 1))
    parts: list[tuple[sparse.csr_matrix, Float[np.ndarray, "p 3"]]] = []
    for view, box, target in targets:
        matrix, alpha = shares(gaussians, cameras, view, box)
        goal = target.cpu().numpy().reshape(-1, 4)
        used = np.flatnonzero((alpha > 0) & (rng.random(len(alpha)) < taken))
        beyond = _BACKGROUND * (alpha - goal[:, 3])
        parts.append((matrix[used], (goal[:, :3] + beyond[:, None])[used]))
    start = gaussians.colors.detach().cpu().numpy()
    colors = start.copy()
    diagonal = np.full((len(start), 1), _STAY, np.float32)
    left = np.zeros_like(start)
    for matrix, goal in parts:
        diagonal[:, 0] += np.bincount(matrix.indices, matrix.data**2, len(start))
        left += matrix.T @ (goal - matrix @ start)
    step = first = left / diagonal
    # The channels are three problems with one matrix.
    product = (left * first).sum(0)
    for _ in range(rounds):
        across = _STAY * step
        for matrix, _ in parts:
            across += matrix.T @ (matrix @ step)
        length = product / np.maximum((step * across).sum(0), 1e-20)
        colors += length * step
        left = left - length * across
        again = left / diagonal
        before, product = product, (left * again).sum(0)
        step = again + product / np.maximum(before, 1e-20) * step
    return torch.tensor(np.clip(colors, 0, 1), device=gaussians.colors.device)
