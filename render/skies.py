"""Twenty procedural environments: studios and skies, from formulas and a fixed seed, nothing downloaded."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float

from mv3d.core.errors import UsageError
from mv3d.render.environment import Environment, exposed, texel_directions

_HEIGHT, _WIDTH = 128, 256
Color = tuple[float, float, float]

_WARM: Color = (1.0, 0.82, 0.62)
_COOL: Color = (0.72, 0.86, 1.0)
_WHITE: Color = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class _Box:
    """A glowing rectangle. width and height in tangents of the half angle, twice."""

    azimuth_deg: float
    elevation_deg: float
    width: float
    height: float
    strength: float
    color: Color = _WHITE
    soft: float = 0.1


@dataclass(frozen=True)
class _Studio:
    """Floor, wall and ceiling (a number is a grey), and boxes that glow."""

    colors: tuple[Color | float, Color | float, Color | float]
    boxes: tuple[_Box, ...]


@dataclass(frozen=True)
class _Sun:
    """A disc with a halo."""

    azimuth_deg: float
    elevation_deg: float
    strength: float
    color: Color
    radius_deg: float = 2.5
    halo: float = 0.3


@dataclass(frozen=True)
class _Sky:
    """Zenith, horizon and ground, a sun, clouds and a lit skyline from 0 to 1."""

    colors: tuple[Color, Color, Color]
    sun: _Sun | None = None
    clouds: float = 0.0
    skyline: float = 0.0


_RECIPES: dict[str, _Studio | _Sky] = {
    "studio_softbox": _Studio((0.35, 0.25, 0.3), (_Box(40, 40, 1.2, 1.2, 9), _Box(-60, 20, 1.0, 1.6, 2.5))),
    "studio_three_point": _Studio(
        (0.22, 0.15, 0.18),
        (_Box(45, 35, 0.9, 0.9, 14), _Box(-50, 15, 1.3, 1.3, 3), _Box(170, 45, 0.6, 0.9, 10)),
    ),
    "studio_two_sides": _Studio((0.3, 0.2, 0.2), (_Box(90, 15, 1.0, 2.0, 6), _Box(-90, 15, 1.0, 2.0, 6))),
    "studio_overhead": _Studio((0.45, 0.22, 0.3), (_Box(0, 85, 2.4, 2.4, 6),)),
    "studio_warm_cool": _Studio(
        (0.22, 0.17, 0.2), (_Box(60, 30, 1.1, 1.4, 7, _WARM), _Box(-75, 25, 1.1, 1.4, 6, _COOL))
    ),
    "studio_rim": _Studio(
        (0.18, 0.16, 0.16),
        (_Box(140, 30, 0.5, 1.8, 12), _Box(-140, 30, 0.5, 1.8, 12), _Box(0, 50, 1.5, 1.0, 4)),
    ),
    "studio_strips": _Studio(
        (0.3, 0.2, 0.2), tuple(_Box(azimuth, 45, 0.35, 1.6, 6) for azimuth in (0, 60, 120, 180, 240, 300))
    ),
    "light_tent": _Studio((0.9, 0.85, 1.0), (_Box(20, 60, 1.5, 1.5, 1.8, soft=0.6),)),
    "room_window": _Studio(
        ((0.3, 0.24, 0.18), (0.3, 0.28, 0.25), (0.35, 0.34, 0.32)),
        (_Box(75, 12, 0.7, 1.1, 12, _COOL, 0.03), _Box(112, 12, 0.7, 1.1, 10, _COOL, 0.03)),
    ),
    "room_lamps": _Studio(
        ((0.22, 0.15, 0.1), (0.3, 0.24, 0.17), (0.4, 0.34, 0.26)),
        (
            _Box(30, 55, 0.4, 0.4, 40, _WARM),
            _Box(-110, 35, 0.35, 0.35, 25, _WARM),
            _Box(180, 5, 1.0, 0.6, 1.5, _COOL),
        ),
    ),
    "sky_noon": _Sky(
        ((0.22, 0.42, 0.95), (0.75, 0.85, 1.0), (0.32, 0.3, 0.26)), _Sun(30, 68, 260, (1.0, 0.96, 0.9))
    ),
    "sky_morning": _Sky(
        ((0.3, 0.48, 0.9), (0.95, 0.85, 0.75), (0.3, 0.29, 0.24)), _Sun(70, 28, 160, (1.0, 0.85, 0.66))
    ),
    "sky_afternoon": _Sky(
        ((0.28, 0.46, 0.92), (0.9, 0.88, 0.85), (0.26, 0.3, 0.2)),
        _Sun(-65, 38, 200, (1.0, 0.9, 0.75)),
        clouds=0.35,
    ),
    "sky_sunset": _Sky(
        ((0.22, 0.25, 0.5), (1.0, 0.55, 0.3), (0.2, 0.16, 0.15)), _Sun(20, 8, 90, (1.0, 0.6, 0.3), 4.0, 1.2)
    ),
    "sky_golden": _Sky(
        ((0.35, 0.42, 0.65), (1.0, 0.75, 0.45), (0.28, 0.22, 0.15)),
        _Sun(-40, 16, 110, (1.0, 0.74, 0.45), 3.5, 0.8),
    ),
    "sky_overcast": _Sky(((0.95, 0.97, 1.0), (0.55, 0.57, 0.6), (0.3, 0.29, 0.27)), clouds=0.15),
    "sky_cloudy": _Sky(
        ((0.4, 0.52, 0.8), (0.85, 0.88, 0.92), (0.3, 0.3, 0.26)),
        _Sun(100, 50, 60, (1.0, 0.95, 0.88), 5.0, 0.8),
        clouds=0.8,
    ),
    "forest_shade": _Sky(
        ((0.45, 0.55, 0.5), (0.2, 0.28, 0.14), (0.16, 0.17, 0.09)),
        _Sun(50, 60, 40, (1.0, 0.95, 0.7), 6.0),
        clouds=0.9,
    ),
    "snow_field": _Sky(
        ((0.3, 0.48, 0.9), (0.8, 0.88, 1.0), (0.78, 0.82, 0.9)), _Sun(-30, 30, 120, (1.0, 0.92, 0.82))
    ),
    "city_dusk": _Sky(((0.16, 0.2, 0.38), (0.5, 0.4, 0.42), (0.16, 0.15, 0.16)), skyline=1.0),
}
BUILTIN = tuple(_RECIPES)
"""The names of the lights, in the order of their numbers."""


@lru_cache(maxsize=len(BUILTIN))
def builtin_environment(name: str | int) -> Environment:
    """A procedural light by its name or its number (modulo their count), exposed for white objects.

    Raises UsageError for a name that is not there.
    """
    if isinstance(name, int):
        name = BUILTIN[name % len(BUILTIN)]
    if name not in BUILTIN:
        raise UsageError(
            f"environment: expected one of {', '.join(BUILTIN)} or a .hdr or .exr file, got {name!r}"
        )
    return exposed(Environment(name, procedural_radiance(name)))


def procedural_radiance(name: str) -> Float[np.ndarray, "h w 3"]:
    """Linear radiance of the recipe of that name, (128, 256, 3) float32; the seed is the name's checksum."""
    recipe = _RECIPES[name]
    directions = texel_directions(_HEIGHT, _WIDTH)
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    radiance = _studio(recipe, directions) if isinstance(recipe, _Studio) else _sky(recipe, directions, rng)
    return radiance.astype(np.float32)


def _studio(recipe: _Studio, directions: Float[np.ndarray, "h w 3"]) -> Float[np.ndarray, "h w 3"]:
    up = directions[..., 2:]
    floor, wall, ceiling = (1.5 * np.array(color) for color in recipe.colors)
    radiance = wall + (floor - wall) * _step(-up, 0.25, 0.6) + (ceiling - wall) * _step(up, 0.35, 0.7)
    for box in recipe.boxes:
        radiance = radiance + _box_mask(box, directions)[..., None] * box.strength * np.array(box.color)
    return radiance


def _box_mask(box: _Box, directions: Float[np.ndarray, "h w 3"]) -> Float[np.ndarray, "h w"]:
    middle, azimuth = _direction(box), np.radians(box.azimuth_deg)
    right = np.array([-np.sin(azimuth), np.cos(azimuth), 0])
    up = np.cross(middle, right)
    ahead = directions @ middle
    safe = np.where(ahead > 1e-3, ahead, 1e-3)
    x, y = np.abs(directions @ right / safe), np.abs(directions @ up / safe)
    inside = 1 - _step(x, box.width / 2 - box.soft, box.width / 2 + box.soft)
    inside = inside * (1 - _step(y, box.height / 2 - box.soft, box.height / 2 + box.soft))
    return inside * (ahead > 1e-3)


def _direction(light: _Box | _Sun) -> Float[np.ndarray, " 3"]:
    azimuth, elevation = np.radians(light.azimuth_deg), np.radians(light.elevation_deg)
    return np.array(
        [np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)]
    )


def _sky(
    recipe: _Sky, directions: Float[np.ndarray, "h w 3"], rng: np.random.Generator
) -> Float[np.ndarray, "h w 3"]:
    up = directions[..., 2:]
    zenith, horizon, ground = (np.array(color) for color in recipe.colors)
    radiance = horizon + (zenith - horizon) * np.clip(up, 0, 1) ** 0.5
    if recipe.clouds:
        cover = _step(_noise(directions, rng), 0.62 - 0.45 * recipe.clouds, 0.75)[..., None]
        radiance = radiance + (horizon * 1.15 - radiance) * cover * 0.8 * _step(up, 0.02, 0.3)
    if (sun := recipe.sun) is not None:
        away_deg = np.degrees(np.arccos(np.clip(directions @ _direction(sun), -1, 1)))[..., None]
        disc = 1 - _step(away_deg, sun.radius_deg - 1, sun.radius_deg + 1)
        halo = sun.halo * np.exp(-away_deg / 18) * 4
        radiance = radiance + np.array(sun.color) * (sun.strength * disc + halo)
    if recipe.skyline:
        radiance = radiance + recipe.skyline * _lit_windows(directions, rng)
    return np.where(up >= 0, radiance, ground * (0.7 + 0.3 * np.exp(up * 3)))


def _lit_windows(
    directions: Float[np.ndarray, "h w 3"], rng: np.random.Generator
) -> Float[np.ndarray, "h w 3"]:
    """Bright panes between the horizon and 25 degrees."""
    height, width = directions.shape[:2]
    lit = np.zeros((height, width, 3))
    for _ in range(70):
        row, column = rng.integers(int(height * 0.36), height // 2 - 2), rng.integers(0, width - 4)
        color = np.array(_WARM) if rng.random() < 0.7 else np.array(_COOL)
        lit[row : row + 2, column : column + rng.integers(1, 4)] = color * rng.uniform(4, 18)
    return lit


def _noise(directions: Float[np.ndarray, "h w 3"], rng: np.random.Generator) -> Float[np.ndarray, "h w"]:
    """Smooth noise on the sphere in [0, 1]: waves of random direction, four octaves."""
    total, weight = np.zeros(directions.shape[:2]), 0.0
    for octave in range(4):
        for _ in range(6):
            axis = rng.normal(size=3) * 2.2 * 2**octave
            total += np.sin(directions @ axis + rng.uniform(0, 2 * np.pi)) / 2**octave
        weight += 6 * 0.5 / 2 ** (2 * octave)
    return 0.5 + 0.5 * np.tanh(total / np.sqrt(weight))


def _step(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Smooth step from 0 below `low` to 1 above `high`."""
    t = np.clip((values - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)
