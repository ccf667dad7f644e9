"""Filters of meshopt bufferViews (appendix B of KHR_meshopt_compression): what an element's bytes mean."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import UInt8

Bytes = UInt8[np.ndarray, "n s"]


def octahedral(data: Bytes) -> Bytes:
    """Unit vectors from two octahedral coordinates and the value of 1; the fourth component stays."""
    kind = _signed(data)
    given = np.ascontiguousarray(data).view(kind)
    one = np.where(given[:, 2] == 0, 1, given[:, 2]).astype(np.float32)
    x, y = given[:, 0] / one, given[:, 1] / one
    z = 1 - np.abs(x) - np.abs(y)
    fold = np.minimum(z, 0)
    x, y = x - np.copysign(fold, x), y - np.copysign(fold, y)
    length = np.maximum(np.sqrt(x * x + y * y + z * z), np.float32(1e-20))
    result = given.copy()
    for axis, value in enumerate((x, y, z)):
        result[:, axis] = _rounded(value / length * np.iinfo(kind).max, kind)
    return result.view(np.uint8).reshape(data.shape)


def quaternion(data: Bytes) -> Bytes:
    """Unit quaternions from their three smaller components, scaled by √2, and the number of the largest."""
    given = np.ascontiguousarray(data).view(np.int16)
    largest = (given[:, 3] & 3).astype(np.int64)
    one = (given[:, 3] | 3).astype(np.float32)
    small = given[:, :3] / one[:, None] * np.float32(np.sqrt(0.5))
    rest = np.sqrt(np.maximum(0, 1 - (small * small).sum(1)))
    result, row = np.empty_like(given), np.arange(len(given))
    for step, value in enumerate((rest, *small.T)):
        result[row, (largest + step) % 4] = _rounded(value * 32767, np.int16)
    return result.view(np.uint8).reshape(data.shape)


def exponential(data: Bytes) -> Bytes:
    """float32 from a signed exponent of 8 bits and a signed mantissa of 24."""
    given = np.ascontiguousarray(data).view(np.int32)
    exponent, mantissa = given >> 24, (given << 8) >> 8
    with np.errstate(over="ignore"):
        values = np.ldexp(mantissa.astype(np.float64), exponent).astype(np.float32)
    return values.view(np.uint8).reshape(data.shape)


def color(data: Bytes) -> Bytes:
    """RGBA from YCoCg and an alpha whose highest bit says how many bits there are."""
    kind = np.uint8 if data.shape[1] == 4 else np.uint16
    signed = np.ascontiguousarray(data).view(_signed(data)).astype(np.int64)
    given = np.ascontiguousarray(data).view(kind).astype(np.int64)
    y, co, cg, alpha = given[:, 0], signed[:, 1], signed[:, 2], given[:, 3]
    _, bits = np.frexp(alpha)  # the place of the highest bit, plus one
    one = (1 << bits.astype(np.int64)) - 1
    alpha = alpha & (one >> 1)
    alpha = (alpha << 1) | (alpha & 1)
    scale = np.iinfo(kind).max / np.maximum(one, 1).astype(np.float32)
    values = np.stack([y + co - cg, y + cg, y - co - cg, alpha], 1) * scale[:, None]
    return _rounded(values, kind).view(np.uint8).reshape(data.shape)


def _signed(data: Bytes) -> type:
    return np.int8 if data.shape[1] == 4 else np.int16


def _rounded(values: np.ndarray, kind: type) -> np.ndarray:
    """The nearest integers, halves away from zero, held within the type."""
    limits = np.iinfo(kind)
    nearest = np.trunc(values + np.copysign(np.float32(0.5), values))
    return np.clip(nearest, limits.min, limits.max).astype(kind)


def unchanged(data: Bytes) -> Bytes:
    return data


FILTERS: dict[str, tuple[tuple[int, ...], Callable[[Bytes], Bytes]]] = {
    "NONE": ((), unchanged),
    "OCTAHEDRAL": ((4, 8), octahedral),
    "QUATERNION": ((8,), quaternion),
    "EXPONENTIAL": ((), exponential),
    "COLOR": ((4, 8), color),
}
"""By name: the strides that it takes (empty: any), and what it does."""
