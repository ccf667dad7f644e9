"""Novel views of a fitted field, for those who came for the radiance field and not for a mesh."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from mv3d.core.errors import InputError, shown
from mv3d.recon.field import Field, neus_weights
from mv3d.render.cameras import Cameras, Orbit, sine_orbit, sv3d_azimuths_deg
from mv3d.views.silhouettes import box_interval
from mv3d.views.views import Views

_NAMED = ("static", "sine", "dynamic")


def trajectory(name: str, like: Views, *, seed: int = 0, count: int = 21) -> Orbit:
    """An orbit by name, or from a JSON file with elevations_deg and azimuths_deg.

    static: the views' own mean elevation. sine: 30 deg · sin 2a. dynamic: a closed sum of seeded sinusoids.
    Radius and field of view are those of `like`.
    """
    reach = float(np.linalg.norm(like.cameras.centers, axis=1).mean())
    fov_deg = float(np.degrees(2 * np.arctan(0.5 * like.cameras.width / like.cameras.fl_x.mean())))
    azimuths = sv3d_azimuths_deg(count)
    if name == "static":
        sine = like.cameras.centers[:, 2] / np.linalg.norm(like.cameras.centers, axis=1)
        elevations = np.full(count, float(np.degrees(np.arcsin(np.clip(sine, -1, 1))).mean()))
    elif name == "sine":
        elevations = np.array(sine_orbit(count).elevations_deg)
    elif name == "dynamic":
        rng = np.random.default_rng(seed)
        periods, phases = np.arange(1, 5), rng.uniform(0, 2 * np.pi, 4)
        waves = (rng.uniform(2, 10, 4) / periods)[:, None] * np.sin(
            np.radians(azimuths) * periods[:, None] + phases[:, None]
        )
        elevations = 10 + waves.sum(0)
    else:
        return _from_file(Path(name), reach, fov_deg)
    return Orbit(tuple(elevations.tolist()), tuple(azimuths.tolist()), reach, fov_deg)


def _from_file(path: Path, radius: float, fov_deg: float) -> Orbit:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        elevations = tuple(float(v) for v in document["elevations_deg"])
        azimuths = tuple(float(v) for v in document["azimuths_deg"])
        radius, fov_deg = float(document.get("radius", radius)), float(document.get("fov_deg", fov_deg))
    except FileNotFoundError as error:
        raise InputError(f"--trajectory: expected {', '.join(_NAMED)} or a JSON file, got {path}") from error
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        OverflowError,
        RecursionError,
    ) as error:
        raise InputError(
            f"{path}: expected JSON with elevations_deg and azimuths_deg, lists of numbers ({shown(error)})"
        ) from error
    if (
        not elevations
        or len(elevations) != len(azimuths)
        or not np.isfinite([*elevations, *azimuths, radius, fov_deg]).all()
    ):
        raise InputError(
            f"{path}: expected as many finite elevations_deg as azimuths_deg, got {len(elevations)} and {len(azimuths)}"
        )
    if radius <= 0 or not 0 < fov_deg < 180:
        raise InputError(
            f"{path}: expected a positive radius and a fov_deg between 0 and 180, got {radius:g}, {fov_deg:g}"
        )
    return Orbit(elevations, azimuths, radius, fov_deg)


@torch.no_grad()
def render_field(
    field: Field, cameras: Cameras, view: int, *, samples: int = 192
) -> Float[np.ndarray, "h w 4"]:
    """One view: (h, w, 4) float32, straight alpha, sRGB."""
    device = field.sdf.device
    out = np.zeros((cameras.height * cameras.width, 4), np.float32)
    origin_np, direction_np = cameras.rays(view)
    origins = torch.tensor(origin_np, dtype=torch.float32, device=device)
    directions = torch.tensor(direction_np, dtype=torch.float32, device=device)
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
        middle = 0.5 * (points[hit, 1:] + points[hit, :-1])
        color = (field.grid.sample(field.rgb, middle) * weight[hit, :, None]).sum(1)
        total = weight[hit].sum(1)
        out[index[hit].cpu().numpy(), :3] = (color / total[:, None]).clamp(0, 1).cpu().numpy()
        out[index[hit].cpu().numpy(), 3] = total.clamp(0, 1).cpu().numpy()
    return out.reshape(cameras.height, cameras.width, 4)


def novel_views(field: Field, orbit: Orbit, width: int, height: int) -> Views:
    """Views of the field along an orbit."""
    cameras = orbit.cameras(width, height)
    images = np.stack([render_field(field, cameras, view) for view in range(len(cameras))])
    return Views(images, cameras, orbit, orbit.input_view)
