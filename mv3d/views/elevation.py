"""The elevation of a flat orbit, from its silhouettes alone.

With the right elevation the hull of all silhouettes, projected back, covers each of them; with a wrong one the
cones miss each other and the hull loses matter. The covered share peaks at the truth.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float

from mv3d.core.errors import InputError
from mv3d.render.cameras import Cameras, orbit_cameras
from mv3d.views.grid import Grid
from mv3d.views.silhouettes import common_box, march_lowest, silhouette_distance, view_distances

CANDIDATES_DEG = (-20.0, -10.0, 0.0, 10.0, 20.0, 30.0, 40.0, 55.0)
# Pixels and grid samples along a side: to find the valley, and its floor.
_COARSE, _FINE = (64, 32), (128, 48)


@dataclass(frozen=True)
class ElevationEstimate:
    """recall: share of the silhouettes that their hull covers at that elevation; 1 is a perfect fit."""

    elevation_deg: float
    recall: float


def estimate_elevation(
    alphas: Float[np.ndarray, "n h w"],
    azimuths_deg: Float[np.ndarray, " n"],
    *,
    radius: float,
    fov_deg: float,
) -> ElevationEstimate:
    """The one elevation, in degrees, under which the silhouettes fit together best: a coarse search, then
    bisection down to half a degree, then the vertex of the parabola.

    Raises InputError where no elevation makes a common object.
    """
    coarse, fine = (_Silhouettes(_shrink(alphas, pixels), grid) for pixels, grid in (_COARSE, _FINE))
    for view, alpha in enumerate(coarse.alphas):
        if not (alpha > 0.5).any():
            raise InputError(
                f"elevation: the object is too small in view {view} to be seen in {_COARSE[0]} pixels; crop the images "
                "around it, or give --elevation"
            )

    def recall(elevation_deg: float, small: _Silhouettes) -> float:
        cameras = orbit_cameras(
            elevation_deg,
            azimuths_deg,
            radius=radius,
            fov_deg=fov_deg,
            width=small.alphas.shape[2],
            height=small.alphas.shape[1],
        )
        return _recall(small, cameras)

    rough = {angle: recall(angle, coarse) for angle in CANDIDATES_DEG}
    start = max(rough, key=lambda angle: rough[angle])
    scores, step = {start: recall(start, fine)}, 5.0
    while step >= 0.6:
        best = max(scores, key=lambda angle: scores[angle])
        for angle in (best - step, best + step):
            if abs(angle) < 85 and angle not in scores:
                scores[angle] = recall(angle, fine)
        step /= 2
    best = max(scores, key=lambda angle: scores[angle])
    if scores[best] < 0.5:
        raise InputError(
            f"elevation: no angle makes the silhouettes fit together (best {scores[best]:.0%} at {best:g} degrees); "
            "check that the frames are one turn around one object, or give --elevation"
        )
    near = sorted(angle for angle in scores if abs(angle - best) <= 5)
    if len(near) >= 3:
        a, b, _ = np.polyfit(near, [scores[angle] for angle in near], 2)
        if a < 0 and abs(-b / (2 * a) - best) < 2.5:
            return ElevationEstimate(float(-b / (2 * a)), scores[best])
    return ElevationEstimate(best, scores[best])


def hull_recall(alphas: Float[np.ndarray, "n h w"], cameras: Cameras) -> float:
    """Share of all silhouette pixels whose rays meet the intersection of the cones, mean over the views."""
    return _recall(_Silhouettes(alphas, _FINE[1]), cameras)


@dataclass(frozen=True, eq=False)
class _Silhouettes:
    alphas: Float[np.ndarray, "n h w"]
    grid: int

    @cached_property
    def distances(self) -> Float[torch.Tensor, "n h w"]:
        return torch.tensor(np.stack([silhouette_distance(alpha) for alpha in self.alphas]))


def _recall(silhouettes: _Silhouettes, cameras: Cameras) -> float:
    device = torch.device("cpu")
    alphas = silhouettes.alphas
    try:
        center, half = common_box(alphas, cameras)
    except InputError:
        return 0.0
    grid = Grid.around((center - half).tolist(), (center + half).tolist(), silhouettes.grid)
    lowest = torch.stack(view_distances(silhouettes.distances, cameras, grid.points(device))).amin(0)
    sdf = -lowest.reshape(grid.shape)
    shares = []
    for view in range(len(cameras)):
        ys, xs = np.nonzero(alphas[view] > 0.5)
        xy = np.stack([xs + 0.5, ys + 0.5], 1)[:: max(1, len(xs) // 1500)]
        origin, direction = (torch.tensor(a, dtype=torch.float32) for a in cameras.rays(view, xy))
        low, _ = march_lowest(sdf, grid, origin, direction, samples=int(1.3 * silhouettes.grid))
        shares.append(float((low < 0.25 * grid.spacing).float().mean()))
    return float(np.mean(shares))


def _shrink(alphas: Float[np.ndarray, "n h w"], pixels: int) -> Float[np.ndarray, "n s t"]:
    height, width = alphas.shape[1:]
    scale = min(1.0, pixels / max(height, width))
    size = (max(8, round(height * scale)), max(8, round(width * scale)))
    return torch.nn.functional.interpolate(torch.tensor(alphas)[:, None], size, mode="area")[:, 0].numpy()
