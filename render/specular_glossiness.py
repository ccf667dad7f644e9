"""Specular-glossiness materials (KHR_materials_pbrSpecularGlossiness) as metallic-roughness, texel by texel.

The closed form is the one that Khronos published with the extension ("Conversion between the two PBR material
models", its appendix and the example `convert-between-workflows`): metalness solves the quadratic equation that makes
both models reflect and scatter as brightly, with a dielectric reflectance of 4 %.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from mv3d.core.colors import LINEAR_OF_SRGB, srgb_from_linear

_F0 = 0.04
_LEAST = 1e-6
_ROWS = 256  # converted at a time


@dataclass(frozen=True, eq=False)
class SpecularGlossiness:
    """The factors (linear) and textures (sRGB colours; alpha is coverage, and glossiness) of the extension."""

    diffuse: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)
    specular: tuple[float, float, float] = (1.0, 1.0, 1.0)
    glossiness: float = 1.0
    diffuse_texture: UInt8[np.ndarray, "h w 4"] | None = None
    specular_texture: UInt8[np.ndarray, "h w 4"] | None = None


@dataclass(frozen=True, eq=False)
class MetallicRoughness:
    """As the fields of `Material`."""

    base_color: tuple[float, float, float, float]
    base_color_texture: UInt8[np.ndarray, "h w 4"] | None
    metallic: float
    roughness: float
    metallic_roughness_texture: UInt8[np.ndarray, "h w 3"] | None


def metallic_roughness_of(given: SpecularGlossiness) -> MetallicRoughness:
    """Convert. Without textures the result has none; with one or both, its textures have the larger size of the two,
    and factors of 1 apart from the alpha. What is the same in all texels becomes a factor."""
    diffuse = np.asarray(given.diffuse[:3], np.float64)
    specular = np.asarray(given.specular, np.float64)
    alpha = float(given.diffuse[3])
    textures = [t for t in (given.diffuse_texture, given.specular_texture) if t is not None]
    if not textures:
        base, metallic = convert(diffuse[None], specular[None])
        red, green, blue = base[0].tolist()
        return MetallicRoughness(
            (red, green, blue, alpha),
            None,
            float(metallic[0]),
            min(max(1 - given.glossiness, 0.0), 1.0),
            None,
        )
    height, width = (max(t.shape[axis] for t in textures) for axis in (0, 1))
    color = np.full((height, width, 4), 255, np.uint8)
    surface = np.zeros((height, width, 3), np.uint8)
    pair = [_resized(t, width, height) for t in (given.diffuse_texture, given.specular_texture)]
    for start in range(0, height, _ROWS):
        rows = slice(start, start + _ROWS)
        parts = [None if t is None else t[rows].reshape(-1, 4) for t in pair]
        tint = diffuse if parts[0] is None else diffuse * LINEAR_OF_SRGB[parts[0][:, :3]]
        shine = specular if parts[1] is None else specular * LINEAR_OF_SRGB[parts[1][:, :3]]
        base, metallic = convert(*np.broadcast_arrays(tint, shine))
        gloss = 1.0 if parts[1] is None else parts[1][:, 3] / 255
        shape = color[rows].shape[:2]
        color[rows, :, :3] = _bytes(srgb_from_linear(base)).reshape(*shape, 3)
        if parts[0] is not None:
            color[rows, :, 3] = parts[0][:, 3].reshape(shape)
        rough = np.broadcast_to(1 - given.glossiness * gloss, metallic.shape)
        surface[rows, :, 1] = _bytes(rough).reshape(shape)
        surface[rows, :, 2] = _bytes(metallic).reshape(shape)
    flat = bool((surface == surface[0, 0]).all())
    _, least, metal = (surface[0, 0] / 255).tolist()
    return MetallicRoughness(
        (1.0, 1.0, 1.0, alpha),
        color,
        metal if flat else 1.0,
        least if flat else 1.0,
        None if flat else surface,
    )


def convert(
    diffuse: Float[np.ndarray, "n 3"], specular: Float[np.ndarray, "n 3"]
) -> tuple[Float[np.ndarray, "n 3"], Float[np.ndarray, " n"]]:
    """Linear diffuse and specular colours → linear base colour in [0, 1], and metalness in [0, 1]."""
    rest = 1 - specular.max(1)
    d, s = _brightness(diffuse), _brightness(specular)
    # 0.04 m² + b m + c = 0, where the brighter of the two models' reflections agree.
    b = d * rest / (1 - _F0) + s - 2 * _F0
    c = _F0 - s
    root = np.sqrt(np.maximum(b * b - 4 * _F0 * c, 0))
    metallic = np.where(s < _F0, 0.0, np.clip((root - b) / (2 * _F0), 0, 1))
    m = metallic[:, None]
    from_diffuse = diffuse * (rest / (1 - _F0))[:, None] / np.maximum(1 - m, _LEAST)
    from_specular = (specular - _F0 * (1 - m)) / np.maximum(m, _LEAST)
    base = from_diffuse + (from_specular - from_diffuse) * m * m
    return np.clip(base, 0, 1), metallic


def _brightness(color: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, " n"]:
    """The perceived brightness of the published conversion (HSP)."""
    return np.sqrt(color * color @ [0.299, 0.587, 0.114])


def _resized(texture: np.ndarray | None, width: int, height: int) -> np.ndarray | None:
    if texture is None or texture.shape[:2] == (height, width):
        return texture
    # Channel by channel: alpha is no weight of the colours here.
    channels = (Image.fromarray(np.ascontiguousarray(texture[..., k])) for k in range(4))
    resized = [channel.resize((width, height), Image.Resampling.BILINEAR) for channel in channels]
    return np.stack([np.asarray(channel) for channel in resized], -1)


def _bytes(values: np.ndarray) -> UInt8[np.ndarray, "*s"]:
    return (np.clip(values, 0, 1) * 255 + 0.5).astype(np.uint8)
