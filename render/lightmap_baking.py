"""Baking of a light map: see `mv3d.render.lightmap`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from mv3d.render.lightmap import FaceGrids, LightMap, grid_points, locate, plan_grids
from mv3d.render.mesh import face_normals, weld
from mv3d.render.model import Model
from mv3d.render.prefilter import LightCut
from mv3d.render.raycast import Caster, Hits
from mv3d.render.surface import facing_signs
from mv3d.render.topology import vertex_components

_MOST_APART = 4096  # pieces: times 8192³ cells and 729 normals they still fit into 63 bits


def pieces(model: Model) -> Int[np.ndarray, " f"]:
    """Which connected piece each face belongs to, vertices at the same place joined."""
    _, faces = weld(model.vertices, model.faces)
    return vertex_components(int(faces.max()) + 1, faces)[faces[:, 0]].astype(np.int32)


@dataclass(frozen=True, eq=False)
class BakePoints:
    """Grid points of one side that share a place and a normal, joined."""

    index: Int[np.ndarray, " p"]  # joined point of every grid point, -1 where not baked
    position: Float[np.ndarray, "q 3"]
    normal: Float[np.ndarray, "q 3"]
    ground: Float[np.ndarray, "q 3"]  # the geometric normal
    sample: Int[np.ndarray, " q"]  # one grid point that stands for it


def join_points(
    position: Float[np.ndarray, "p 3"],
    place: Float[np.ndarray, "p 3"],
    normal: Float[np.ndarray, "p 3"],
    ground: Float[np.ndarray, "p 3"],
    wanted: np.ndarray,
    piece: Int[np.ndarray, " p"],
    cell: float,
    most: int,
) -> BakePoints:
    """Join points whose exact `place` falls into one cell, whose normals are nearly the same and which lie on the
    same piece; the cells grow until there are at most `most`."""
    chosen = np.flatnonzero(wanted)
    # Or a pane just above a wall would take the light that the wall beneath it does not get.
    apart = piece[chosen].astype(np.int64)
    if piece.max(initial=0) >= _MOST_APART:
        apart[:] = 0
    coarse = cell * 512
    turn = np.round(normal[chosen] * 4).astype(np.int64) + 4
    key_normal = (turn[:, 0] * 9 + turn[:, 1]) * 9 + turn[:, 2]
    low = place.min(0)
    while True:
        at = np.round((place[chosen] - low) / cell).astype(np.int64)
        span = at.max(0) + 1 if len(at) else np.ones(3, np.int64)
        key = ((at[:, 0] * span[1] + at[:, 1]) * span[2] + at[:, 2]) * 729 + key_normal
        if cell < coarse:  # a heap of crumbs would never become few enough
            key = key * (int(apart.max(initial=0)) + 1) + apart
        _, first, inverse = np.unique(key, return_index=True, return_inverse=True)
        if len(first) <= most:
            break
        cell *= 2 if cell > 1 / 512 else 4
    index = np.full(len(place), -1, np.int32)
    index[chosen] = inverse.reshape(-1)
    sample = chosen[first]
    mean = np.stack([np.bincount(inverse.reshape(-1), normal[chosen, k], len(first)) for k in range(3)], 1)
    mean /= np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-12)
    return BakePoints(
        index, position[sample], mean.astype(np.float32), ground[sample], sample.astype(np.int32)
    )


def bake_lightmap(
    model: Model,
    caster: Caster,
    light: LightCut,
    albedo_at: Float[np.ndarray, "f 3"],
    *,
    backs: np.ndarray,
    spacing: float,
    bounces: int,
    size: float,
    most_points: int = 60_000,
) -> LightMap:
    """Bake the arriving light of every face.

    albedo_at: (f, 3) mean linear colour of each face, for the light that it reflects. backs: (f,) bool, which
    faces are baked from behind as well. spacing: of the points, world units. size: largest side of the model.
    """
    assert model.normals is not None
    triangles = model.triangles
    grids = plan_grids(triangles, spacing, most_points * 3)
    face, exact, inner = grid_points(grids)
    corners = model.faces[face]
    place = _mix(model.vertices, corners, exact)
    position = _mix(model.vertices, corners, inner)
    normal = _unit(_mix(model.normals, corners, exact))
    ground = _unit(face_normals(model.vertices, model.faces).astype(np.float32))[face]
    normal *= facing_signs(model)[face][:, None]
    # A single vertex normal that points away from its face would light the wrong side.
    normal = np.where((normal * ground).sum(1, keepdims=True) < 0, -normal, normal)
    piece = pieces(model)[face]
    cell = size / 8192
    points = [
        join_points(position, place, normal * sign, ground * sign, wanted, piece, cell, most_points)
        for sign, wanted in ((1, np.ones(grids.count, bool)), (-1, backs[face]))
        if wanted.any()
    ]
    index_front = index_back = points[0].index
    if len(points) > 1:
        index_back = points[1].index
        index_back = np.where(index_back >= 0, index_back + len(points[0].position), index_front)
    everything = _Points(
        np.concatenate([part.position for part in points]),
        np.concatenate([part.normal for part in points]),
        np.concatenate([part.ground for part in points]),
        np.concatenate([albedo_at[face[part.sample]] for part in points]),
    )
    ratio, buried = _gather(everything, caster, light, grids, index_front, index_back, bounces, size * 2e-4)
    planes, shift = np.ones((2, 3, grids.count), np.float32), 0
    for plane, part in zip(planes, points, strict=False):
        mine = slice(shift, shift + len(part.position))
        values = _fill_buried(ratio[mine], buried[mine], grids, part.index)
        plane[:, part.index >= 0] = values[part.index[part.index >= 0]].T
        shift += len(part.position)
    return LightMap(grids, planes)


@dataclass(frozen=True, eq=False)
class _Points:
    position: np.ndarray
    normal: np.ndarray
    ground: np.ndarray
    albedo: np.ndarray


def _gather(
    points: _Points,
    caster: Caster,
    light: LightCut,
    grids: FaceGrids,
    index_front: np.ndarray,
    index_back: np.ndarray,
    bounces: int,
    lift: float,
) -> tuple[Float[np.ndarray, "q 3"], np.ndarray]:
    """Ratio of arriving to unoccluded irradiance, and whether a point lies inside other geometry."""
    count = len(points.position)
    # Along a curve through space, so that neighbouring rays meet the same triangles.
    order = _morton(points.position)
    position, normal, ground = points.position[order], points.normal[order], points.ground[order]
    origin = position + ground * np.float32(lift)
    open_sum, direct = np.zeros((count, 3), np.float32), np.zeros((count, 3), np.float32)
    rays, inside = np.zeros(count, np.float32), np.zeros(count, np.float32)
    rows, columns, weights = [], [], []
    for direction, radiance, angle in zip(
        light.directions.astype(np.float32), light.radiance.astype(np.float32), light.solid_angle, strict=True
    ):
        cosine = normal @ direction
        up = np.flatnonzero((cosine > 0) & (ground @ direction > 0.01))
        if not len(up):
            continue
        cos = cosine[up]
        open_sum[up] += cos[:, None] * radiance
        hits = caster.first_hits(origin[up], np.broadcast_to(direction, (len(up), 3)))
        clear = hits.face < 0
        free = up[clear]
        direct[free] += cos[clear][:, None] * radiance
        rays[up] += 1
        inside[up[~clear & hits.back]] += 1
        if bounces:
            met = np.flatnonzero(~clear)
            rows.append(up[met])
            columns.append(_nearest_points(hits, met, grids, index_front, index_back))
            weights.append(cos[met] * np.float32(angle / np.pi))
    arriving = direct
    if rows and bounces:
        row, column, weight = np.concatenate(rows), np.concatenate(columns), np.concatenate(weights)
        back_order = np.empty(count, np.int64)
        back_order[order] = np.arange(count)
        column = back_order[column]
        albedo = points.albedo[order]
        for _ in range(bounces):
            leaving = arriving * albedo
            arriving = direct + np.stack(
                [np.bincount(row, weight * leaving[column, k], count) for k in range(3)], 1
            ).astype(np.float32)
    ratio = np.empty((count, 3), np.float32)
    floor = 1e-4 * max(float(open_sum.mean()), 1e-12)
    ratio[order] = (arriving + floor) / (open_sum + floor)
    buried = np.empty(count, bool)
    buried[order] = (inside > 0.5 * rays) & (rays > 0)
    return ratio, buried


def _nearest_points(
    hits: Hits, met: np.ndarray, grids: FaceGrids, index_front: np.ndarray, index_back: np.ndarray
) -> np.ndarray:
    """The joined point that is nearest to each crossing, on the side that was met."""
    start, row, s, t = locate(grids, hits.face[met], hits.u[met], hits.v[met])
    at = start + (t + np.float32(0.5)).astype(np.int32) * row + (s + np.float32(0.5)).astype(np.int32)
    return np.where(hits.back[met], index_back[at], index_front[at])


def _fill_buried(
    values: np.ndarray, buried: np.ndarray, grids: FaceGrids, index: np.ndarray, rounds: int = 4
) -> np.ndarray:
    """Points inside other geometry see nothing; they take the mean of their neighbours outside, or darkness
    would leak along the seam."""
    if not buried.any() or buried.all():
        return values
    at = np.arange(grids.count)
    face = np.repeat(np.arange(len(grids.start)), (grids.across + 1) * (grids.along + 1))
    local = at - grids.start[face]
    row = grids.across[face] + 1
    right = np.flatnonzero(local % row != row - 1)
    below = np.flatnonzero(local // row != grids.along[face])
    first = index[np.concatenate([right, below])]
    second = index[np.concatenate([right + 1, below + row[below]])]
    keep = (first >= 0) & (second >= 0) & (first != second)
    first, second = first[keep], second[keep]
    first, second = np.concatenate([first, second]), np.concatenate([second, first])
    values, unknown = values.copy(), buried.copy()
    for _ in range(rounds):
        use = unknown[first] & ~unknown[second]
        if not use.any():
            break
        share = np.bincount(first[use], minlength=len(values))
        got = np.flatnonzero(share)
        for channel in range(3):
            total = np.bincount(first[use], values[second[use], channel], len(values))
            values[got, channel] = total[got] / share[got]
        unknown[got] = False
    return values


def _mix(attribute: np.ndarray, corners: np.ndarray, weights: np.ndarray) -> np.ndarray:
    total = attribute[corners[:, 0]] * weights[:, :1]
    total += attribute[corners[:, 1]] * weights[:, 1:2]
    total += attribute[corners[:, 2]] * weights[:, 2:]
    return total


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-20)


def _morton(points: np.ndarray) -> np.ndarray:
    """An order along a Z-curve of 1024³ cells."""
    low = points.min(0)
    extent = max(float((points.max(0) - low).max()), 1e-20)
    cells = np.clip((points - low) / extent * 1023, 0, 1023).astype(np.int64)
    code = np.zeros(len(points), np.int64)
    for axis in range(3):
        spread = cells[:, axis]
        for shift, mask in ((16, 0x30000FF), (8, 0x300F00F), (4, 0x30C30C3), (2, 0x9249249)):
            spread = (spread | (spread << shift)) & mask
        code |= spread << axis
    return np.argsort(code, kind="stable")
