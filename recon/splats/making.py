"""From a mesh and its views to files of splats, measured as they are read back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from mv3d.core.devices import pick_device
from mv3d.core.progress import Clock
from mv3d.recon.config import ReconConfig
from mv3d.recon.splats.cloud import Splats, moved
from mv3d.recon.splats.cuda import rasteriser_on
from mv3d.recon.splats.files import load_splats, save_splats
from mv3d.recon.splats.formats import splat_files
from mv3d.recon.splats.rasterise import rasterise
from mv3d.recon.splats.refine import RefineConfig, refined, room_inside
from mv3d.recon.splats.surface import splats_of_mesh
from mv3d.render.cameras import sine_orbit
from mv3d.render.mesh import Mesh
from mv3d.render.raycast import render_views
from mv3d.views.views import Views

_FEWEST = 6  # views; fewer say nothing of the sides


@dataclass(frozen=True)
class SplatConfig:
    """count: Gaussians, about. refine: how long to fit."""

    count: int = 60_000
    refine: RefineConfig = field(default_factory=RefineConfig)


SPLAT_PRESETS = {
    "draft": SplatConfig(40_000, RefineConfig(passes=1)),
    "standard": SplatConfig(80_000, RefineConfig(passes=2)),
    "high": SplatConfig(160_000, RefineConfig(passes=3)),
}


def fit_splats(
    mesh: Mesh,
    views: Views,
    config: SplatConfig | None = None,
    *,
    device: torch.device | None = None,
    seed: int = 0,
    on_progress: Callable[[float], None] = lambda share: None,
) -> Splats:
    """Splats of a textured mesh in the world of its views: in closed form, then fitted to the views.

    Where there are less than six views, they are fitted to renders of the mesh instead: few views say nothing of the
    other sides. device: by default the CPU. On CUDA gsplat rasterises where it is installed, else mv3d's own code does.
    """
    config, device = config or SplatConfig(), device or torch.device("cpu")
    start = splats_of_mesh(mesh, config.count, seed=seed)
    targets = views if len(views) >= _FEWEST else _renders(mesh, views)
    draw = rasteriser_on(device)
    return refined(
        start,
        targets,
        config.refine,
        room=room_inside(start, mesh),
        device=device,
        draw=draw,
        seed=seed,
        on_progress=on_progress,
    )


def write_splats(
    config: ReconConfig,
    views: Views,
    mesh: Mesh,
    staged: Path,
    clock: Clock,
    *,
    origin: Float[np.ndarray, " 3"],
) -> tuple[Splats, dict[str, Any]]:
    """Fit and write the splats of a mesh to `staged`, in every format asked for.

    config: resolved settings. mesh, views: in a world whose zero is at `origin` of the world that is written. Returns
    the splats of the first file as a reader gets them, in the world of `views`, and their figures.
    """
    device, names = pick_device(config.device), splat_files(config.formats)
    with clock.stage("splats") as on_progress:
        settings = SPLAT_PRESETS[config.quality]
        splats = fit_splats(mesh, views, settings, device=device, seed=config.seed, on_progress=on_progress)
    with clock.stage("splats export"):
        for name in names:
            save_splats(moved(splats, origin), staged / name)
        shown = moved(load_splats(staged / names[0]), -origin)
    return shown, {
        "count": len(shown),
        "file": names[0],
        "bytes": {name: (staged / name).stat().st_size for name in names},
        "rasteriser": "mv3d" if rasteriser_on(device) is rasterise else "gsplat",
    }


def _renders(mesh: Mesh, views: Views) -> Views:
    """An orbit of a mesh with the lens, the size and the distance of the first of `views`."""
    cameras = views.cameras
    fov_deg = float(np.degrees(2 * np.arctan(0.5 * cameras.width / cameras.fl_x[0])))
    orbit = replace(sine_orbit(), radius=float(np.linalg.norm(cameras.centers[0])), fov_deg=fov_deg)
    around = orbit.cameras(cameras.width, cameras.height)
    return Views(render_views(mesh, around, supersample=2), around, orbit)
