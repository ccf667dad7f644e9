"""Connected parts of a model and how they lie together: what tells one object from a scene of many."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int, Num

_GRID = 1 << 20  # steps along the largest side within which vertices count as one
_MAX_PARTS = 2000  # the largest ones decide; a million crumbs do not


def face_areas(vertices: Num[np.ndarray, "v 3"], faces: Int[np.ndarray, "f 3"]) -> Float[np.ndarray, " f"]:
    """Area of each triangle, float64."""
    a, b, c = (vertices[faces[:, k]].astype(np.float64) for k in range(3))
    return np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2


def face_parts(
    vertices: Float[np.ndarray, "v 3"], faces: Int[np.ndarray, "f 3"], largest: float
) -> Int[np.ndarray, " f"]:
    """The number of the connected part, from 0, of each face. Vertices at the same place are one vertex.

    largest: largest side of the bounding box, the unit of "the same place" (2⁻²⁰ of it).
    """
    from mv3d.render.topology import vertex_components  # noqa: PLC0415 - scipy is slow to import

    low = vertices.min(0).astype(np.float64)
    grid = np.clip(np.round((vertices - low) * (_GRID / largest)), 0, (1 << 21) - 1).astype(np.int64)
    _, welded = np.unique(grid[:, 0] << 42 | grid[:, 1] << 21 | grid[:, 2], return_inverse=True)
    corner = welded.reshape(-1)[faces]
    label = vertex_components(len(vertices), corner)
    _, part = np.unique(label[corner[:, 0]], return_inverse=True)
    return part.reshape(-1)


def part_boxes(
    vertices: Float[np.ndarray, "v 3"], faces: Int[np.ndarray, "f 3"], largest: float
) -> tuple[Float[np.ndarray, "n 2 3"], Float[np.ndarray, " n"]]:
    """Bounding box (low, high) and area of each connected part, the largest 2,000 by area, largest first."""
    part = face_parts(vertices, faces, largest)
    areas = np.bincount(part, face_areas(vertices, faces))
    order = np.argsort(part, kind="stable")
    starts = np.searchsorted(part[order], np.arange(len(areas)))
    triangles = vertices[faces[order]].astype(np.float64)
    low = np.minimum.reduceat(triangles.min(1), starts, axis=0)
    high = np.maximum.reduceat(triangles.max(1), starts, axis=0)
    keep = np.argsort(-areas, kind="stable")[:_MAX_PARTS]
    return np.stack([low, high], 1)[keep], areas[keep]


def touching_groups(
    boxes: Float[np.ndarray, "n 2 3"], areas: Float[np.ndarray, " n"], gap: float
) -> Float[np.ndarray, " g"]:
    """Share of the surface of each group of parts whose boxes come nearer to each other than `gap`."""
    from scipy.sparse import csr_array  # noqa: PLC0415
    from scipy.sparse.csgraph import connected_components  # noqa: PLC0415

    near = np.ones((len(boxes), len(boxes)), bool)
    for axis in range(3):
        low, high = boxes[:, 0, axis] - gap / 2, boxes[:, 1, axis] + gap / 2
        near &= (low[:, None] <= high[None]) & (low[None] <= high[:, None])
    _, label = connected_components(csr_array(near), directed=False)
    return np.bincount(label, areas) / areas.sum()
