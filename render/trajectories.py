"""Camera paths around an object: which angles, and from how far.

Every closed orbit is in SV3D's order: the last frame is the input view, at azimuth `start_deg`, and the step from the
last frame to the first one is a step like the others.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float

from mv3d.core.errors import InputError, UsageError, shown
from mv3d.render.cameras import SV3D_FOV_DEG, SV3D_RADIUS, Orbit, sine_orbit

Variant = Literal["paper", "release"]
NAMED = ("static", "dynamic", "dynamic-release", "sine")
RANDOM = "random"
"""No path: views from anywhere, for data sets alone."""

LIMIT_DEG = 89.0
"""Elevations stay below this: straight up, azimuth means nothing."""
_SINUSOIDS = 5  # of the paper's variant; the paper gives their ranges, not their number
_KERNEL = 5  # frames of the smoothing window
_TRIES = 1000
_NEAR = 0.01  # least distance of the camera's plane from the object, where the object is a needle seen end on
_CHUNK = 65_536


def static_orbit(
    count: int, elevation_deg: float, *, step_deg: float | None = None, start_deg: float = 0.0
) -> Orbit:
    """Constant elevation, equal steps (by default 360/count): SV3D's static orbit (arXiv 2403.12008, section 3)."""
    _check(count, elevation_deg)
    step = 360.0 / count if step_deg is None else step_deg
    if not np.isfinite([step, start_deg]).all() or step == 0:
        raise UsageError(f"step: expected a finite angle other than 0 degrees, got {step}")
    azimuths = (start_deg + step * np.arange(1, count + 1)) % 360.0
    if step_deg is None:
        azimuths[-1] = start_deg % 360.0  # exactly, not up to rounding
    return Orbit((float(elevation_deg),) * count, tuple(azimuths.tolist()), input_view=count - 1)


def dynamic_orbit(
    count: int,
    rng: np.random.Generator,
    *,
    elevation_deg: float = 0.0,
    start_deg: float = 0.0,
    variant: Variant = "paper",
) -> Orbit:
    """SV3D's dynamic orbit around a mean elevation.

    paper (arXiv 2403.12008, appendix B): elevation plus a sum of sinusoids with whole periods 1 to 5, amplitudes 0.5
    to 10 degrees and random phases, smoothed by a small window and clamped at 89 degrees; azimuth steps with small
    noise. The paper does not give the number of sinusoids; here five.
    release: the ranges of the helper published with the weights: as many sinusoids as frames, periods 1 to 4, phases
    0 or π, steps of 0 to 2 times the mean, drawn again until no elevation passes the limit.
    Both are closed: the window and the steps wrap around, the steps sum to 360 degrees.
    """
    _check(count, elevation_deg)
    if variant == "paper":
        waves = _waves(count, rng, _SINUSOIDS, last_period=5, phases=rng.uniform(0, 2 * np.pi, _SINUSOIDS))
        elevations = _smooth(np.clip(elevation_deg + waves, -LIMIT_DEG, LIMIT_DEG))
        steps = _smooth(1 + rng.uniform(-0.5, 0.5, count))
    elif variant == "release":
        elevations = _released_elevations(count, rng, elevation_deg)
        steps = rng.uniform(0, 2, count)
        # The closing step is drawn on its own, the others share what it leaves of the turn.
        steps[:-1] *= (count - steps[-1]) / max(steps[:-1].sum(), 1e-9)
    else:
        raise UsageError(f"dynamic orbit: expected variant paper or release, got {variant}")
    # Strictly below the limit, also where the clamp held for a whole window.
    elevations = np.clip(elevations, -LIMIT_DEG + 1e-3, LIMIT_DEG - 1e-3)
    turned = np.cumsum(steps) * (360.0 / steps.sum())
    turned[-1] = 360.0
    azimuths = (start_deg + turned) % 360.0
    return Orbit(tuple(elevations.tolist()), tuple(azimuths.tolist()), input_view=count - 1)


def load_orbit(
    path: str | os.PathLike[str], *, radius: float = SV3D_RADIUS, fov_deg: float = SV3D_FOV_DEG
) -> Orbit:
    """The orbit of a JSON file, or of the `orbit` block of a views folder's transforms.json.

    radius, fov_deg: for a file without them. The keys and limits are those of `Orbit`. Raises InputError, and UsageError
    for a name without a suffix.
    """
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        if Path(path).suffix:
            raise InputError(f"{path}: expected a JSON file of an orbit, found no such file") from error
        raise UsageError(
            f"--trajectory: expected one of {', '.join(NAMED)} or a JSON file, got {path}"
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: expected a JSON file of an orbit ({shown(error)})") from error
    block = document.get("orbit", document) if isinstance(document, dict) else document
    try:
        return Orbit.from_dict(block, radius=radius, fov_deg=fov_deg)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def named_orbit(
    name: str, count: int, rng: np.random.Generator, *, elevation_range_deg: tuple[float, float]
) -> Orbit:
    """static, dynamic, dynamic-release, sine, random, or a JSON file. One draw of the elevation whatever the name;
    random draws another one for each further view, and all azimuths.

    A file has its own number of frames; `count` must agree with it.
    """
    elevation_deg = float(rng.uniform(*elevation_range_deg))
    if name == "static":
        return static_orbit(count, elevation_deg)
    if name in ("dynamic", "dynamic-release"):
        variant: Variant = "release" if name.endswith("release") else "paper"
        return dynamic_orbit(count, rng, elevation_deg=elevation_deg, variant=variant)
    if name == "sine":
        return sine_orbit(count)
    if name == RANDOM:
        elevations = (elevation_deg, *rng.uniform(*elevation_range_deg, count - 1).tolist())
        return Orbit(elevations, tuple(rng.uniform(0, 360, count).tolist()))
    orbit = load_orbit(name)
    if len(orbit.azimuths_deg) != count:
        raise UsageError(f"--views: expected {len(orbit.azimuths_deg)}, as many as {name} has, got {count}")
    return orbit


def fit_radius(points: Float[np.ndarray, "n 3"], orbit: Orbit, *, margin: float = 0.05) -> float:
    """The least distance at which every point is inside every square frame, `margin` of its half side away from
    the border.

    With camera axes (right, up, back) a point is inside when |right·p| and |up·p| are at most t·(r − back·p),
    t = (1 − margin)·tan(fov/2). So r is the largest (back ± right/t)·p or (back ± up/t)·p over points and views:
    exact, and linear in the points.
    """
    if not 0 <= margin < 1:
        raise UsageError(f"margin: expected 0 or more and less than 1, got {margin}")
    if len(points) == 0 or not np.isfinite(points).all():
        raise InputError("fit_radius: expected finite points, at least one")
    axes = replace(orbit, radius=1.0).cameras(2, 2).c2w
    right, up, back = (axes[:, :3, axis] for axis in range(3))
    t = (1 - margin) * np.tan(np.radians(orbit.fov_deg) / 2)
    sides = np.concatenate([back + right / t, back - right / t, back + up / t, back - up / t]).T
    reach, depth = -np.inf, -np.inf
    for begin in range(0, len(points), _CHUNK):
        part = points[begin : begin + _CHUNK].astype(np.float64)
        reach = max(reach, float((part @ sides).max()))
        depth = max(depth, float((part @ back.T).max()))
    return max(reach, depth + _NEAR)


def fitted(orbit: Orbit, points: Float[np.ndarray, "n 3"], *, fov_deg: float, margin: float) -> Orbit:
    """The same angles at the distance of `fit_radius`."""
    seen = replace(orbit, fov_deg=fov_deg)
    return replace(seen, radius=fit_radius(points, seen, margin=margin))


def _waves(
    count: int, rng: np.random.Generator, terms: int, *, last_period: int, phases: Float[np.ndarray, " t"]
) -> Float[np.ndarray, " n"]:
    """Σ a·sin(2π·period·i/count + phase), i = 1 … count: whole periods, so the end meets the beginning."""
    periods = rng.integers(1, last_period + 1, terms)
    amplitudes = rng.uniform(0.5, 10, terms)
    turn = 2 * np.pi * np.arange(1, count + 1) / count
    return (amplitudes[:, None] * np.sin(periods[:, None] * turn + phases[:, None])).sum(0)


def _released_elevations(
    count: int, rng: np.random.Generator, elevation_deg: float
) -> Float[np.ndarray, " n"]:
    for _ in range(_TRIES):
        phases = np.pi * rng.integers(0, 2, count)
        elevations = _smooth(elevation_deg + _waves(count, rng, count, last_period=4, phases=phases))
        if np.abs(elevations).max() < LIMIT_DEG:
            return elevations
    raise UsageError(
        f"dynamic orbit: no elevation below {LIMIT_DEG:g} degrees around {elevation_deg:g} in {_TRIES} draws; "
        "start nearer to the horizon"
    )


def _smooth(values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """The mean over a window that wraps around."""
    half = min(_KERNEL, len(values)) // 2
    return np.mean([np.roll(values, shift) for shift in range(-half, half + 1)], axis=0)


def _check(count: int, elevation_deg: float) -> None:
    if not 1 <= count <= 1000:
        raise UsageError(f"views: expected 1 to 1000, got {count}")
    if not abs(elevation_deg) < LIMIT_DEG:
        raise UsageError(
            f"elevation: expected less than {LIMIT_DEG:g} degrees up or down, got {elevation_deg}"
        )
