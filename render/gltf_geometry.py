"""Geometry of glTF files: transforms, triangles and colours as arrays."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int


def compose(translation: np.ndarray, rotation: np.ndarray, scale: np.ndarray) -> Float[np.ndarray, "4 4"]:
    """A node's matrix from its translation, rotation (quaternion x, y, z, w of any length) and scale."""
    x, y, z, w = rotation / max(float(np.linalg.norm(rotation)), 1e-12)
    matrix = np.eye(4)
    matrix[:3, :3] = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
    matrix[:3, :3] *= scale
    matrix[:3, 3] = translation
    return matrix


def transformed(
    attributes: dict[str, np.ndarray], matrix: Float[np.ndarray, "4 4"]
) -> tuple[np.ndarray, np.ndarray | None, bool]:
    """World vertices, unit normals if there are any, and whether the winding is turned round."""
    linear = matrix[:3, :3]
    vertices = attributes["POSITION"].astype(np.float64) @ linear.T + matrix[:3, 3]
    determinant = float(np.linalg.det(linear))
    normals = None
    if "NORMAL" in attributes:
        # The cofactors are the inverse transpose times the determinant, and exist for flattened parts, too.
        cofactors = np.stack(
            [np.cross(linear[1], linear[2]), np.cross(linear[2], linear[0]), np.cross(linear[0], linear[1])]
        )
        normals = unit(attributes["NORMAL"].astype(np.float64) @ cofactors.T) * (-1 if determinant < 0 else 1)
    return vertices, normals, determinant < 0


def unit(vectors: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
    """Vectors of length 1; +Y where there is no direction."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    good = np.isfinite(length) & (length > 1e-12)
    return np.where(good, vectors / np.where(good, length, 1), [0.0, 1.0, 0.0])


def triangles(indices: Int[np.ndarray, " n"], mode: int) -> Int[np.ndarray, "f 3"]:
    """Vertex indices of a primitive as triangles. mode: 4 a list, 5 a strip, 6 a fan (glTF 2.0, section 3.7.2.1)."""
    if mode == 4:
        return indices[: len(indices) // 3 * 3].reshape(-1, 3)
    if len(indices) < 3:
        return np.zeros((0, 3), np.int64)
    if mode == 6:
        return np.stack([np.full(len(indices) - 2, indices[0]), indices[1:-1], indices[2:]], 1)
    faces = np.stack([indices[:-2], indices[1:-1], indices[2:]], 1)
    faces[1::2] = faces[1::2, [1, 0, 2]]
    return faces


def colors(attributes: dict[str, np.ndarray]) -> Float[np.ndarray, "v 4"] | None:
    """COLOR_0 as linear RGBA in [0, 1], or None."""
    rgba = attributes.get("COLOR_0")
    if rgba is None:
        return None
    if rgba.dtype.kind in "ui":  # not marked as normalized, though it must be
        rgba = rgba.astype(np.float32) / np.iinfo(rgba.dtype).max
    rgba = np.clip(np.nan_to_num(rgba.astype(np.float32)), 0, 1)
    if rgba.shape[1] == 3:
        rgba = np.concatenate([rgba, np.ones((len(rgba), 1), np.float32)], 1)
    return rgba
