"""Hashes of what a model is, whatever file it came in: for finding duplicates and guarded objects."""

from __future__ import annotations

import hashlib

import numpy as np

from mv3d.render.model import Model, normalize_model


def geometry_hash(model: Model) -> str:
    """Hex digest of the shape: the same for the same triangles in any order, place, size or container."""
    normalized, _ = normalize_model(model)
    grid = np.round(normalized.vertices * 4096).astype(np.int16)
    corners = grid[normalized.faces].reshape(-1, 9).astype(np.int16)
    # Rotate each triangle so that its smallest corner comes first, then sort the triangles.
    triangles = corners.reshape(-1, 3, 3)
    order = np.lexsort([triangles[:, :, k].T for k in (2, 1, 0)], axis=0)[0]
    index = (order[:, None] + np.arange(3)) % 3
    turned = np.take_along_axis(triangles, index[:, :, None], 1).reshape(-1, 9)
    turned = turned[np.lexsort(turned.T[::-1])]
    return hashlib.sha256(np.ascontiguousarray(turned).tobytes()).hexdigest()


def texture_hash(model: Model) -> str:
    """Hex digest of what colours the model: textures' pixels, factors and vertex colours' mean."""
    digest = hashlib.sha256()
    parts = []
    for material in model.materials:
        part = hashlib.sha256(repr(tuple(round(v, 4) for v in material.base_color)).encode())
        for name, texture in sorted(material.textures.items()):
            part.update(f"{name} {texture.shape}".encode())
            part.update(np.ascontiguousarray(texture).tobytes())
        parts.append(part.hexdigest())
    for part in sorted(parts):
        digest.update(part.encode())
    if model.colors is not None:
        digest.update(
            np.round(np.sort(model.colors, axis=0)[:: max(1, len(model.colors) // 64)], 2).tobytes()
        )
    return digest.hexdigest()
