"""Hashes of what a model is, whatever file it came in: for finding duplicates and guarded objects."""

from __future__ import annotations

import hashlib

import numpy as np

from mv3d.render.mesh import face_normals
from mv3d.render.model import Model, normalize_model

_STEPS = 2000  # of a moment; rounding noise is far below one step
_SHIFT = 0.1234  # keeps the round numbers of simple shapes away from the borders between steps


def geometry_hash(model: Model) -> str:
    """Hex digest of the shape: the same for the same triangles in any order, place, size or container.

    Made of the number of faces with an area, and of the surface's area, centre, second moments and mean distance
    from the centre in the normalized frame. Raises InputError for a model without a size.
    """
    normalized, _ = normalize_model(model)
    corners = normalized.triangles.astype(np.float64)
    area = np.linalg.norm(face_normals(normalized.vertices, normalized.faces), axis=1) / 2
    kept = area > 1e-12
    corners, area = corners[kept], area[kept]
    total = max(float(area.sum()), 1e-12)
    middle = corners.mean(1)
    center = (area[:, None] * middle).sum(0) / total
    # The integral of x xᵀ over a triangle: area / 12 · (sum of v vᵀ over its corners + 9 m mᵀ).
    squares = np.einsum("fki,fkj->fij", corners, corners) + 9 * np.einsum("fi,fj->fij", middle, middle)
    second = np.einsum("f,fij->ij", area / 12, squares) / total
    distance = float((area * np.linalg.norm(middle, axis=1)).sum() / total)
    moments = np.array([total, distance, *center, *second[np.triu_indices(3)]])
    steps = np.floor(moments * _STEPS + _SHIFT).astype(np.int64)
    return hashlib.sha256(np.array([kept.sum(), *steps], np.int64).tobytes()).hexdigest()


def texture_hash(model: Model) -> str:
    """Hex digest of what colours the model: the textures' pixels, the materials' factors, the vertex colours."""
    looks = []
    for material in model.materials:
        factors = (*material.base_color, material.metallic, material.roughness, *material.emissive)
        look = hashlib.sha256(np.floor(np.array(factors) * 1000 + _SHIFT).astype(np.int64).tobytes())
        for name, texture in sorted(material.textures.items()):
            look.update(f"{name} {texture.shape}".encode())
            look.update(np.ascontiguousarray(texture).tobytes())
        looks.append(look.hexdigest())
    digest = hashlib.sha256("".join(sorted(looks)).encode())
    if model.colors is not None:
        used = model.colors[np.unique(model.faces)].astype(np.float64)
        moments = [*used.mean(0), *used.std(0)]
        digest.update(np.floor(np.array(moments) * 500 + _SHIFT).astype(np.int64).tobytes())
    return digest.hexdigest()
