"""The sRGB transfer curve (IEC 61966-2-1) on arrays. `mv3d.render.torch_scene` has its differentiable twin."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

_ENCODE_STEPS = 65535


def linear_from_srgb(values: Float[np.ndarray, "*b"]) -> Float[np.ndarray, "*b"]:
    """sRGB → linear light, [0, 1] → [0, 1], in the precision of `values`."""
    values = np.asarray(values)
    return np.where(values <= 0.04045, values / 12.92, ((np.maximum(values, 0) + 0.055) / 1.055) ** 2.4)


def srgb_from_linear(values: Float[np.ndarray, "*b"]) -> Float[np.ndarray, "*b"]:
    """Linear light → sRGB, [0, 1] → [0, 1]: the inverse of `linear_from_srgb`."""
    values = np.asarray(values)
    return np.where(
        values <= 0.0031308, values * 12.92, 1.055 * np.maximum(values, 1e-9) ** (1 / 2.4) - 0.055
    )


LINEAR_OF_SRGB = linear_from_srgb(np.arange(256, dtype=np.float32) / 255)
"""(256,) float32: linear light of each 8-bit level."""
_SRGB_TABLE = srgb_from_linear(np.arange(_ENCODE_STEPS + 1) / _ENCODE_STEPS).astype(np.float32)


def encode_srgb(linear: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """`srgb_from_linear` of values clipped to [0, 1], float32, by a table of 65,536 steps. Overwrites its argument.

    The error is at most 0.05 of an 8-bit level, at the darkest.
    """
    np.clip(linear, 0, 1, out=linear)
    linear *= _ENCODE_STEPS
    linear += 0.5
    return _SRGB_TABLE.take(linear.astype(np.int32))
