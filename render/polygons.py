"""Polygons → triangles: convex ones as fans, the others so that their notches stay open."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int

_STRAIGHT = 1e-5
"""Sine of a turn that counts as none: rounding in the file must not make a polygon concave."""
_MOST_CORNERS = 5000
"""Larger polygons stay fans: the time of the clipping grows with the square of their corners."""


def triangulate(
    corners: Float[np.ndarray, "c 3"], sizes: Int[np.ndarray, " p"]
) -> tuple[Int[np.ndarray, "t 3"], Int[np.ndarray, " t"]]:
    """Triangles as indices of corners, in the polygons' winding, and the polygon that each belongs to.

    corners: places of the corners, polygon after polygon. sizes: corners of each polygon; below three they have no
    triangle. A polygon of n corners gives n - 2 triangles, in its own place. A fan from any corner of a convex polygon
    covers it, one from the only notch of a polygon, too; polygons with more notches are clipped ear by ear, in the
    plane of their mean normal.
    """
    counts = np.maximum(sizes - 2, 0)
    begins = np.cumsum(sizes) - sizes
    owner = np.repeat(np.arange(len(sizes)), counts)
    step = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
    notched = np.flatnonzero((sizes > 3) & (sizes <= _MOST_CORNERS))
    apex, clipped = np.zeros(len(sizes), np.int64), np.zeros(0, np.int64)
    if len(notched):
        mine = np.repeat(np.isin(np.arange(len(sizes)), notched, assume_unique=True), sizes)
        reflex, normals = _notches(corners[mine], sizes[notched])
        first = np.cumsum(sizes[notched]) - sizes[notched]
        many = np.add.reduceat(reflex.astype(np.int64), first)
        places = np.flatnonzero(reflex)
        of = np.searchsorted(first, places, "right") - 1
        single = many[of] == 1
        apex[notched[of[single]]] = places[single] - first[of[single]]
        clipped, normals = notched[many > 1], normals[many > 1]
    size, begin, top = sizes[owner], begins[owner], apex[owner]
    triangles = begin[:, None] + np.stack([top, (top + step + 1) % size, (top + step + 2) % size], 1)
    starts = np.cumsum(counts) - counts
    for polygon, normal in zip(clipped, normals if len(clipped) else (), strict=True):
        begin, size = begins[polygon], sizes[polygon]
        ears = _clipped(corners[begin : begin + size], normal)
        if len(ears) == size - 2:
            triangles[starts[polygon] : starts[polygon] + size - 2] = begin + ears
    return triangles, owner


def _notches(
    corners: Float[np.ndarray, "c 3"], sizes: Int[np.ndarray, " p"]
) -> tuple[Bool[np.ndarray, " c"], Float[np.ndarray, "p 3"]]:
    """Which corners turn the wrong way, and the polygons' unit normals (Newell's)."""
    first = np.cumsum(sizes) - sizes
    after, before = np.arange(len(corners)) + 1, np.arange(len(corners)) - 1
    after[first + sizes - 1], before[first] = first, first + sizes - 1
    points = np.nan_to_num(corners.astype(np.float64))
    relative = points - np.repeat(points[first], sizes, 0)
    normals = np.add.reduceat(np.cross(relative, relative[after]), first)
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    normals = normals / np.where(length > 0, length, 1)
    incoming, outgoing = points - points[before], points[after] - points
    turn = (np.cross(incoming, outgoing) * np.repeat(normals, sizes, 0)).sum(1)
    scale = np.linalg.norm(incoming, axis=1) * np.linalg.norm(outgoing, axis=1)
    return turn < -_STRAIGHT * scale, normals


def _clipped(corners: Float[np.ndarray, "n 3"], normal: Float[np.ndarray, " 3"]) -> Int[np.ndarray, "t 3"]:
    from manifold3d import triangulate as clip_ears  # noqa: PLC0415 - a native library

    across = np.eye(3)[np.abs(normal).argmin()]
    u = np.cross(across, normal)
    u /= max(float(np.linalg.norm(u)), 1e-30)
    flat = (corners - corners[0]) @ np.stack([u, np.cross(normal, u)], 1)
    return np.asarray(clip_ears([flat / max(float(np.abs(flat).max()), 1e-30)]), np.int64).reshape(-1, 3)
