"""Textures: pyramids of halved pictures, filtered by the footprint of a pixel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from mv3d.core.colors import LINEAR_OF_SRGB, encode_srgb
from mv3d.render.model import Wrap

_BYTE = np.arange(256, dtype=np.float32) / 255


@dataclass(frozen=True, eq=False)
class Pyramid:
    """A texture and its halves down to one texel, in one flat array.

    texels: (t,) uint32, four bytes of RGBA each. offsets, widths, heights: of the levels, the largest first.
    """

    texels: np.ndarray
    offsets: np.ndarray
    widths: np.ndarray
    heights: np.ndarray
    wrap: tuple[Wrap, Wrap]
    srgb: bool
    channels: int


def build_pyramid(texture: UInt8[np.ndarray, "h w c"], wrap: tuple[Wrap, Wrap], *, srgb: bool) -> Pyramid:
    """Halve until one texel is left; colours are averaged as light (linear), weighted by alpha where there is
    one, so that what is cut out lends no colour to its rim."""
    height, width, channels = texture.shape
    image = np.full((height, width, 4), 255, np.uint8)
    image[..., :channels] = texture
    blend = channels == 4 and bool((texture[..., 3] < 255).any())
    flat, sizes = [image.reshape(-1, 4)], [(height, width)]
    current = image.astype(np.float32) / 255
    if srgb:
        current[..., :3] = LINEAR_OF_SRGB[image[..., :3]]
    while max(current.shape[:2]) > 1:
        if blend:
            weight = current[..., 3:] + np.float32(1e-4)
            half = _halve(current * weight) / _halve(weight)
            half[..., 3:] = _halve(current[..., 3:])
        else:
            half = _halve(current)
        current = half
        stored = np.empty(half.shape, np.float32)
        stored[..., :3] = encode_srgb(half[..., :3].copy()) if srgb else half[..., :3]
        stored[..., 3] = half[..., 3]
        flat.append((np.clip(stored, 0, 1) * 255 + 0.5).astype(np.uint8).reshape(-1, 4))
        sizes.append(half.shape[:2])
    counts = [len(level) for level in flat]
    return Pyramid(
        np.ascontiguousarray(np.concatenate(flat)).view(np.uint32).reshape(-1),
        np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.int32),
        np.array([w for _, w in sizes], np.int32),
        np.array([h for h, _ in sizes], np.int32),
        wrap,
        srgb,
        channels,
    )


def _halve(image: np.ndarray) -> np.ndarray:
    """Means of 2 × 2; an odd last row or column joins its neighbour."""
    for axis in (0, 1):
        size = image.shape[axis]
        if size == 1:
            continue
        even = np.take(image, range(0, size // 2 * 2, 2), axis)
        odd = np.take(image, range(1, size // 2 * 2, 2), axis)
        image = (even + odd) * np.float32(0.5)
    return image


def sample_pyramid(
    pyramid: Pyramid, u: Float[np.ndarray, " n"], v: Float[np.ndarray, " n"], lod: Float[np.ndarray, " n"]
) -> list[Float[np.ndarray, " n"]]:
    """Trilinear samples, one array a channel, in [0, 1]; colours of an sRGB texture come out linear.

    u, v: origin at the top left, any range, wrapped as the texture says. lod: log2 of the footprint in texels of
    the largest level; below 0 the texture is magnified.
    """
    top = len(pyramid.offsets) - 1
    lod = np.clip(lod, 0, top)
    low = lod.astype(np.int32)
    part = lod - low
    values = _bilinear(pyramid, u, v, low)
    between = np.flatnonzero(part > 0.02)
    if len(between):
        coarse = _bilinear(pyramid, u[between], v[between], np.minimum(low[between] + 1, top))
        weight = part[between]
        for value, other in zip(values, coarse, strict=True):
            fine = value[between]
            value[between] = fine + (other - fine) * weight
    return values


def _bilinear(pyramid: Pyramid, u: np.ndarray, v: np.ndarray, level: np.ndarray) -> list[np.ndarray]:
    width, height = pyramid.widths.take(level), pyramid.heights.take(level)
    x0, x1, fx = _wrapped(u, width, pyramid.wrap[0])
    y0, y1, fy = _wrapped(v, height, pyramid.wrap[1])
    base = pyramid.offsets.take(level)
    y0 *= width
    y0 += base
    y1 *= width
    y1 += base
    gx, gy = 1 - fx, 1 - fy
    taps = ((y0 + x0, gx * gy), (y0 + x1, fx * gy), (y1 + x0, gx * fy), (y1 + x1, fx * fy))
    result: list[np.ndarray] = [np.empty(0)] * pyramid.channels
    for tap, (index, weight) in enumerate(taps):
        texel = pyramid.texels.take(index)
        for channel in range(pyramid.channels):
            byte = (texel >> np.uint32(8 * channel)) & np.uint32(255)
            value = (LINEAR_OF_SRGB if pyramid.srgb and channel < 3 else _BYTE).take(byte)
            value *= weight
            if tap:
                result[channel] += value
            else:
                result[channel] = value
    return result


def _wrapped(position: np.ndarray, size: np.ndarray, wrap: Wrap) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The two texels beside a position in [0, 1) units, and the weight of the second."""
    if wrap == "repeat":
        position = position - np.floor(position)
    elif wrap == "mirror":
        position = 1 - np.abs(position - 2 * np.floor(position * np.float32(0.5)) - 1)
    else:
        position = np.clip(position, 0, 1)
    texel = position * size
    texel -= np.float32(0.5)
    floor = np.floor(texel)
    weight = (texel - floor).astype(np.float32)
    first = floor.astype(np.int32)
    second = first + 1
    if wrap == "repeat":
        first += size * (first < 0)
        second -= size * (second >= size)
    else:
        np.maximum(first, 0, out=first)
        np.minimum(second, size - 1, out=second)
    return first, second, weight
