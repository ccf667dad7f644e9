"""Novel views of a representation, and the volume rendering of a fitted field."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float

from mv3d.recon.field import Field, neus_weights
from mv3d.recon.representation import Representation
from mv3d.render.cameras import Cameras, Orbit
from mv3d.render.trajectories import NAMED, load_orbit, named_orbit
from mv3d.views.silhouettes import box_interval
from mv3d.views.views import Views


def novel_orbit(name: str, like: Views, *, seed: int = 0, count: int = 21) -> Orbit:
    """An orbit by name (`named_orbit`) around the mean elevation of `like`, or from a JSON file.

    Radius and field of view, where a file has none, are those of `like`. Raises InputError, UsageError.
    """
    centers = like.cameras.centers
    radius = float(np.linalg.norm(centers, axis=1).mean())
    fov_deg = float(np.degrees(2 * np.arctan(0.5 * like.cameras.width / like.cameras.fl_x.mean())))
    if name not in NAMED:
        return load_orbit(name, radius=radius, fov_deg=fov_deg)
    sine = centers[:, 2] / np.linalg.norm(centers, axis=1)
    elevation = float(np.degrees(np.arcsin(np.clip(sine, -1, 1))).mean())
    rng = np.random.default_rng(seed)
    orbit = named_orbit(name, count, rng, elevation_range_deg=(elevation, elevation))
    return replace(orbit, radius=radius, fov_deg=fov_deg, input_view=None)


@torch.no_grad()
def render_field(
    field: Field, cameras: Cameras, view: int, *, samples: int = 192
) -> Float[np.ndarray, "h w 4"]:
    """One view: (h, w, 4) float32, straight alpha, sRGB."""
    device = field.sdf.device
    out = np.zeros((cameras.height * cameras.width, 4), np.float32)
    origins, directions = (torch.tensor(a, dtype=torch.float32, device=device) for a in cameras.rays(view))
    near, far = box_interval(field.grid, origins, directions)
    crossing = (far > near).nonzero()[:, 0]
    step = torch.linspace(0, 1, samples, device=device)
    for index in crossing.split(16_384):
        o, d, n, f = origins[index], directions[index], near[index], far[index]
        t = n[:, None] + (f - n)[:, None] * step
        points = o[:, None] + d[:, None] * t[..., None]
        value = field.grid.sample(field.sdf[None], points)[..., 0] / field.grid.spacing
        weight = neus_weights(value, field.sharpness, least=1e-6)
        hit = (weight.sum(1) > 1e-3).nonzero()[:, 0]
        centers = 0.5 * (points[hit, 1:] + points[hit, :-1])
        color = (field.grid.sample(field.rgb, centers) * weight[hit, :, None]).sum(1)
        total = weight[hit].sum(1)
        out[index[hit].cpu().numpy(), :3] = (color / total[:, None]).clamp(0, 1).cpu().numpy()
        out[index[hit].cpu().numpy(), 3] = total.clamp(0, 1).cpu().numpy()
    return out.reshape(cameras.height, cameras.width, 4)


def novel_views(shown: Representation, orbit: Orbit, width: int, height: int) -> Views:
    """Views of a representation along an orbit."""
    cameras = orbit.cameras(width, height)
    return Views(shown.render(cameras), cameras, orbit, orbit.input_view)
