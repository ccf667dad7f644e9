"""Which cameras a model is asked for, and what of them it is told."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mv3d.core.errors import UsageError
from mv3d.models.folder import ModelInfo
from mv3d.models.network import MicroConditioning
from mv3d.render.cameras import SV3D_RADIUS, Orbit, sine_orbit
from mv3d.render.trajectories import LIMIT_DEG, NAMED, dynamic_orbit, load_orbit, static_orbit

DEFAULT_ELEVATION_DEG = 10.0
"""SV3D's own scripts take this where nothing is known of the photo."""


def takes_elevation(vector: MicroConditioning) -> bool:
    """Whether the network is told how high the camera stands."""
    return "elevation" in vector.names or "polar" in vector.names


def is_video_model(vector: MicroConditioning) -> bool:
    """SVD as it was released: a photo comes to life, the photo is its first frame, and no camera is known."""
    return "fps" in vector.names and not vector.takes_camera


def plan_orbit(
    info: ModelInfo,
    vector: MicroConditioning,
    *,
    views: int | None,
    trajectory: str,
    elevation_deg: float,
    seed: int = 0,
) -> Orbit:
    """The orbit to generate: `input_view` is the photo's, at azimuth 0 and `elevation_deg` (a file has its own).

    views: by default as many as the model was trained for, or as the file has. seed: of a dynamic trajectory.
    Raises UsageError where the model cannot do it: more views than it was trained for, a trajectory that it is not
    told of, an elevation beyond those it was trained for.
    """
    from_file = trajectory not in NAMED
    orbit = load_orbit(trajectory) if from_file else None
    count = views or (len(orbit.azimuths_deg) if orbit else info.num_frames)
    if count > info.num_frames:
        raise UsageError(
            f"--views: expected at most {info.num_frames}, as many as the model was trained for, got {count}"
        )
    if is_video_model(vector):
        _refuse_trajectory(trajectory, info, "no camera")
        still = Orbit((elevation_deg,) * count, (0.0,) * count, SV3D_RADIUS, info.fov_deg, 0)
        return still
    if "azimuth" not in vector.names:
        _refuse_trajectory(trajectory, info, "no azimuths")
        if count != info.num_frames:
            raise UsageError(
                f"--views: expected {info.num_frames}, got {count}: the model takes no azimuths, its views are always "
                f"{info.num_frames} even steps of one turn"
            )
    if orbit is not None:
        if len(orbit.azimuths_deg) != count:
            raise UsageError(
                f"--views: expected {len(orbit.azimuths_deg)}, as many as {trajectory} has, got {count}"
            )
        photo = orbit.input_view if orbit.input_view is not None else count - 1
        # The world turns so that the photo is at azimuth 0; scale is free.
        azimuths = tuple((a - orbit.azimuths_deg[photo]) % 360.0 for a in orbit.azimuths_deg)
        orbit = Orbit(orbit.elevations_deg, azimuths, SV3D_RADIUS, info.fov_deg, photo)
    else:
        orbit = replace(_named(trajectory, count, elevation_deg, seed), fov_deg=info.fov_deg)
    low, high = info.elevations_deg
    if takes_elevation(vector) and not all(low <= e <= high for e in orbit.elevations_deg):
        raise UsageError(
            f"--elevation: expected {low:g} to {high:g} degrees, for which the model was trained, got "
            f"{min(orbit.elevations_deg):.1f} to {max(orbit.elevations_deg):.1f}"
        )
    return orbit


def _refuse_trajectory(trajectory: str, info: ModelInfo, takes: str) -> None:
    if trajectory != "static":
        raise UsageError(
            f"--trajectory: expected static, got {trajectory}: the model ({info.kind}) takes {takes}; use one that "
            "takes a camera per view, such as sv3d_p"
        )


def _named(name: str, count: int, elevation_deg: float, seed: int) -> Orbit:
    if name == "static":
        return static_orbit(count, elevation_deg)
    if name == "sine":
        orbit = sine_orbit(count)
        static_orbit(count, elevation_deg)  # the same bounds
    else:
        orbit = dynamic_orbit(
            count,
            np.random.default_rng(seed),
            elevation_deg=elevation_deg,
            variant="release" if name.endswith("release") else "paper",
        )
    # The last view is the photo: the whole path moves so that it has the photo's elevation.
    moved = np.asarray(orbit.elevations_deg) + elevation_deg - orbit.elevations_deg[-1]
    top = LIMIT_DEG - 1e-3
    return replace(orbit, elevations_deg=tuple(np.clip(moved, -top, top).tolist()), input_view=count - 1)


def conditioning_order(orbit: Orbit, vector: MicroConditioning) -> list[int]:
    """The orbit's views in the order in which the network makes them: the photo last, as SV3D was trained, the turn
    kept; SVD's own order has it first."""
    count = len(orbit.azimuths_deg)
    if is_video_model(vector) or orbit.input_view is None:
        return list(range(count))
    return [(orbit.input_view + 1 + i) % count for i in range(count)]


def angles_rad(orbit: Orbit, order: list[int]) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """Polar angles (90° - elevation, absolute) and azimuths relative to the photo in [0, 2π), in radians, float32."""
    elevations = np.asarray(orbit.elevations_deg)[order]
    azimuths = np.asarray(orbit.azimuths_deg)[order]
    zero = orbit.azimuths_deg[orbit.input_view] if orbit.input_view is not None else azimuths[-1]
    polars = torch.tensor(np.radians(90.0 - elevations), dtype=torch.float32)
    return polars, torch.tensor(np.radians((azimuths - zero) % 360.0), dtype=torch.float32)
