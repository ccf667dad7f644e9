"""Light on surfaces, baked once per object and shared by all views: shadow, ambient occlusion, reflected light.

Each face carries a small grid of points; at every point the share of the environment's light that arrives is
found with shadow rays towards a fixed cut of the sphere (one direction a light, so there is no noise and the
rays are coherent). What is kept is the ratio of arriving to unoccluded irradiance, per channel: a renderer
multiplies it by the unoccluded irradiance at its own (smooth, bumped) normal.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from mv3d.render.prefilter import bilinear

_MAX_SIDE = 64  # grid cells along a side of one face


@dataclass(frozen=True, eq=False)
class FaceGrids:
    """A grid of points on every face.

    With the corners of a face in `order` called A, B, C (BC the shortest side), a point is A + t·((B + s·(C - B))
    - A); the grid has across + 1 points in s and along + 1 in t, in rows of s, from index `start`. One cell
    interpolates exactly as barycentric coordinates do.
    """

    order: Int[np.ndarray, "f 3"]
    across: Int[np.ndarray, " f"]
    along: Int[np.ndarray, " f"]
    start: Int[np.ndarray, " f"]
    count: int


def plan_grids(triangles: Float[np.ndarray, "f 3 3"], spacing: float, most: int) -> FaceGrids:
    """Grids of about `spacing`, coarser where there would be more than `most` points above the least."""
    sides = np.linalg.norm(triangles[:, [2, 0, 1]] - triangles[:, [1, 2, 0]], axis=2)  # opposite to corners
    apex = sides.argmin(1)
    order = ((apex[:, None] + np.arange(3)) % 3).astype(np.int32)
    short, long = sides.min(1), sides.max(1)
    while True:
        across = np.clip(np.ceil(short / spacing), 1, _MAX_SIDE).astype(np.int32)
        along = np.clip(np.ceil(long / spacing), 1, _MAX_SIDE).astype(np.int32)
        points = (across + 1).astype(np.int64) * (along + 1)
        if points.sum() <= most + 4 * len(triangles):
            break
        spacing *= 1.25
    start = np.concatenate([[0], np.cumsum(points)[:-1]])
    return FaceGrids(order, across, along, start.astype(np.int32), int(points.sum()))


def grid_points(
    grids: FaceGrids,
) -> tuple[Int[np.ndarray, " p"], Float[np.ndarray, "p 3"], Float[np.ndarray, "p 3"]]:
    """Face, barycentric weights, and the weights pulled a little off the face's borders, of every grid point."""
    per_face = (grids.across + 1) * (grids.along + 1)
    face = np.repeat(np.arange(len(per_face), dtype=np.int32), per_face)
    local = np.arange(grids.count, dtype=np.int32) - grids.start[face]
    row = grids.across[face] + 1
    s = (local % row) / grids.across[face]
    t = (local // row) / grids.along[face]
    order = grids.order[face]
    exact = np.zeros((grids.count, 3), np.float32)
    rows = np.arange(grids.count)
    exact[rows, order[:, 0]] = 1 - t
    exact[rows, order[:, 1]] = t * (1 - s)
    exact[rows, order[:, 2]] = t * s
    pull = (0.08 / np.maximum(grids.along, 1))[face][:, None].astype(np.float32)
    return face, exact, exact + (np.float32(1 / 3) - exact) * pull


class LightMap:
    """Ratios of arriving to unoccluded irradiance on both sides of a model's faces; 1 where nothing was baked.

    planes: (2, 3, points) float32: side (front, back), channel, grid point.
    """

    def __init__(self, grids: FaceGrids, planes: Float[np.ndarray, "2 3 p"]) -> None:
        self.grids = grids
        self.planes = planes
        self._flat = bool((planes == 1).all())

    def sample(
        self,
        face: Int[np.ndarray, " n"],
        u: Float[np.ndarray, " n"],
        v: Float[np.ndarray, " n"],
        back: np.ndarray,
    ) -> list[Float[np.ndarray, " n"]]:
        """The ratio at points of faces, one array a channel."""
        if self._flat:
            one = np.ones(len(face), np.float32)
            return [one, one.copy(), one.copy()]
        corner, row, s, t = locate(self.grids, face, u, v)
        i, j = _cells(s, self.grids.across.take(face)), _cells(t, self.grids.along.take(face))
        s -= i
        t -= j
        corner += j * row
        corner += i
        if back.any():
            corner += back * np.int32(self.planes.shape[2])  # the back's planes follow the front's
            planes = [self.planes[:, channel].reshape(-1) for channel in range(3)]
        else:
            planes = list(self.planes[0])
        return bilinear(planes, corner, row, s, t)


def _cells(position: np.ndarray, count: np.ndarray) -> np.ndarray:
    cell = position.astype(np.int32)
    return np.minimum(cell, count - 1, out=cell)


def locate(
    grids: FaceGrids, face: np.ndarray, u: np.ndarray, v: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """First point and row length of the faces' grids, and the place in cells, across and along."""
    first = grids.order[:, 0].take(face)
    w = 1 - u - v
    b_a = np.where(first == 0, w, np.where(first == 1, u, v))
    b_c = np.where(first == 0, v, np.where(first == 1, w, u))
    t = np.clip(1 - b_a, 0, 1)
    s = np.clip(b_c / np.maximum(t, np.float32(1e-9)), 0, 1)
    across = grids.across.take(face)
    s *= across
    t *= grids.along.take(face)
    return grids.start.take(face), across + 1, s.astype(np.float32), t.astype(np.float32)
