"""Metallic-roughness shading under an environment: diffuse irradiance and split-sum glossy reflection.

Karis, "Real Shading in Unreal Engine 4" (2013) for the split sum; Fdez-Agüera, "A Multiple-Scattering Microfacet
Model for Real-Time Image-based Lighting" (JCGT 2019), equations 8 to 15, so that no energy is lost: white stays
white in a white furnace at every roughness.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from jaxtyping import Float

from mv3d.render.lightmap import LightMap
from mv3d.render.prefilter import LightField
from mv3d.render.surface import Channels, Points, Surface

_F0 = np.float32(0.04)  # glTF: index of refraction 1.5
_TABLE = 33


@lru_cache(maxsize=1)
def ggx_energy() -> tuple[Float[np.ndarray, "r c"], Float[np.ndarray, "r c"]]:
    """Scale and bias on F0 of single scattering by roughness (rows, 0..1) and n·v (columns, 0..1): the second
    sum of the split-sum approximation, integrated numerically."""
    roughness = np.linspace(0, 1, _TABLE)[:, None, None]
    n_v = np.maximum(np.linspace(0, 1, _TABLE), 1e-3)[None, :, None]
    count = 512
    first = ((np.arange(count) + 0.5) / count)[None, None]
    turn = 2 * np.pi * ((np.arange(count) * 0.6180339887) % 1)[None, None]
    alpha = np.maximum(roughness, 0.02) ** 2
    cos_h = np.sqrt((1 - first) / (1 + (alpha**2 - 1) * first))
    sin_h = np.sqrt(np.maximum(1 - cos_h**2, 0))
    view_x = np.sqrt(1 - n_v**2)
    v_h = view_x * sin_h * np.cos(turn) + n_v * cos_h
    n_l = 2 * v_h * cos_h - n_v
    valid = (n_l > 0) & (v_h > 0)
    n_l = np.where(valid, n_l, 1)
    # Height-correlated Smith, as Cycles and glTF use it: visibility = G / (4 n·l n·v).
    a2 = alpha**2
    visibility = 0.5 / (n_l * np.sqrt(n_v**2 * (1 - a2) + a2) + n_v * np.sqrt(n_l**2 * (1 - a2) + a2))
    weight = np.where(valid, visibility * 4 * n_l * v_h / cos_h, 0)
    fresnel = (1 - np.clip(v_h, 0, 1)) ** 5
    scale = ((1 - fresnel) * weight).mean(-1)
    bias = (fresnel * weight).mean(-1)
    total = scale + bias
    over = np.maximum(total, 1)  # what the sampling adds beyond one
    return (scale / over).astype(np.float32), (bias / over).astype(np.float32)


def _energy(roughness: np.ndarray, n_v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bilinear look-up in `ggx_energy`."""
    x, y = n_v * np.float32(_TABLE - 1), roughness * np.float32(_TABLE - 1)
    i = np.minimum(x.astype(np.int32), _TABLE - 2)
    j = np.minimum(y.astype(np.int32), _TABLE - 2)
    x -= i
    y -= j
    at = j * np.int32(_TABLE) + i
    result = []
    for table in ggx_energy():
        flat = table.reshape(-1)
        low = flat.take(at)
        low += x * (flat.take(at + 1) - low)
        high = flat.take(at + _TABLE)
        high += x * (flat.take(at + _TABLE + 1) - high)
        low += y * (high - low)
        result.append(low)
    return result[0], result[1]


def shade(
    surface: Surface,
    light: LightField,
    lightmap: LightMap,
    points: Points,
    view: Channels,
    normal: Channels,
    base: Channels,
    *,
    diffuse_only: bool,
) -> Channels:
    """Radiance towards the viewer, linear r, g, b.

    view: unit directions from the point to the viewer. normal: unit, on the side that is seen. base: linear.
    """
    arriving = light.irradiance.sample(*normal)
    ratio = lightmap.sample(points.face, points.u, points.v, points.back)
    for channel in range(3):
        arriving[channel] *= ratio[channel]
    if diffuse_only:
        color = [base[channel] * arriving[channel] for channel in range(3)]
    else:
        color = _glossy_and_diffuse(surface, light, points, view, normal, base, arriving, ratio)
    if surface.unlit.any():
        flat = surface.unlit.take(surface.material.take(points.face))
        color = [np.where(flat, base[channel], color[channel]) for channel in range(3)]
    if surface.emits:
        for channel, value in enumerate(surface.emission(points)):
            color[channel] += value
    return color


def _glossy_and_diffuse(
    surface: Surface,
    light: LightField,
    points: Points,
    view: Channels,
    normal: Channels,
    base: Channels,
    arriving: Channels,
    ratio: Channels,
) -> Channels:
    metallic, roughness = surface.metallic_roughness(points)
    n_v = normal[0] * view[0] + normal[1] * view[1] + normal[2] * view[2]
    np.abs(n_v, out=n_v)
    np.clip(n_v, 1e-3, 1, out=n_v)
    twice = 2 * n_v
    reflected = [normal[k] * twice - view[k] for k in range(3)]
    length = np.sqrt(reflected[0] ** 2 + reflected[1] ** 2 + reflected[2] ** 2)
    reflected = [value / length for value in reflected]
    mirrored = _mirrored(light, reflected, roughness)
    scale, bias = _energy(roughness, n_v)
    single = scale + bias
    lost = 1 - single
    # Lagarde and de Rousiers, "Moving Frostbite to PBR" (2014): occlusion of the lobe from that of the hemisphere.
    openness = np.clip((ratio[0] + ratio[1] + ratio[2]) * np.float32(1 / 3), 0, 1)
    shine = (n_v + openness) ** np.exp2(-16 * roughness - 1)
    shine -= 1
    shine += openness
    np.clip(shine, 0, 1, out=shine)
    color = []
    dielectric = 1 - metallic
    for channel in range(3):
        f0 = _F0 * dielectric + base[channel] * metallic
        f_single = f0 * scale + bias
        mean = f0 + (1 - f0) * np.float32(1 / 21)
        f_multi = f_single * mean / np.maximum(1 - mean * lost, np.float32(1e-4)) * lost
        body = base[channel] * dielectric * (1 - f_single - f_multi)
        color.append(f_single * mirrored[channel] * shine + (f_multi + body) * arriving[channel])
    return color


def _mirrored(light: LightField, direction: Channels, roughness: np.ndarray) -> Channels:
    """The prefiltered environment; roughness in steps of 1/32 where few differ, of 1/8 where many do."""
    step = (roughness * 32 + np.float32(0.5)).astype(np.int32)
    present = np.flatnonzero(np.bincount(step, minlength=33))
    if len(present) > 4:
        step = (step + 2) // 4 * 4
        present = np.flatnonzero(np.bincount(step, minlength=33))
    if len(present) == 1:
        return light.glossy(float(present[0]) / 32).sample(*direction)
    result = [np.empty(len(step), np.float32) for _ in range(3)]
    for value in present:
        chosen = np.flatnonzero(step == value)
        part = light.glossy(float(value) / 32).sample(*(axis[chosen] for axis in direction))
        for channel in range(3):
            result[channel][chosen] = part[channel]
    return result
