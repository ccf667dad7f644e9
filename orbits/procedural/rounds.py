"""Round parts: surfaces of revolution and tubes along curves. Each is closed and wound outwards."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from mv3d.orbits.procedural.solids import Solid, Vector, pointed

_CREASE = np.cos(np.deg2rad(40))  # flatter corners than this are shaded smooth


def lathe(profile: object, segments: int = 28, *, closed: bool = False) -> Solid:
    """A surface of revolution about z. profile: (n, 2) of (radius, z), with the outside on its right hand: upwards
    on the outer side. Closed where it begins and ends at radius 0, or goes in a ring (closed).
    u runs around, v along the profile."""
    points = np.asarray(profile, np.float64)
    if closed:
        points = np.concatenate([points, points[:1]])
    keep = np.concatenate([[True], np.linalg.norm(np.diff(points, axis=0), axis=1) > 1e-9])
    points = points[keep]
    step = np.diff(points, axis=0)
    length = np.linalg.norm(step, axis=1)
    outward = np.stack([step[:, 1], -step[:, 0]], 1) / length[:, None]
    along = np.concatenate([[0], np.cumsum(length)])
    rings, normals, vs, starts, ends = _rings(points, outward, along, closed=closed)
    angle = np.linspace(0, 2 * np.pi, segments + 1)
    cos, sin = np.cos(angle), np.sin(angle)
    cos[-1], sin[-1] = cos[0], sin[0]

    def around(values: np.ndarray) -> np.ndarray:
        r, z = values[:, :1], values[:, 1:]
        return np.stack([r * cos + 0.0, r * sin + 0.0, np.repeat(z, segments + 1, 1)], 2).reshape(-1, 3)

    girth = 2 * np.pi * float(points[:, 0].max())
    u = np.tile(angle / (2 * np.pi) * girth, len(rings))
    v = np.repeat(along[-1] - vs, segments + 1)
    faces = _strips(starts, ends, segments, rings[:, 0])
    return Solid(around(rings), faces, around(normals), np.stack([u, v], 1), girth)


def _rings(
    points: Float[np.ndarray, "n 2"],
    outward: Float[np.ndarray, "m 2"],
    along: Float[np.ndarray, " n"],
    *,
    closed: bool,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[int], list[int]]:
    """Rings of a lathe, doubled at creases, and the first and the last ring of each segment."""
    rings: list[np.ndarray] = []
    normals: list[np.ndarray] = []
    vs: list[float] = []
    starts: list[int] = []
    ends: list[int] = []
    count = len(outward)

    def ring(at: int, normal: np.ndarray) -> int:
        if points[at, 0] < 1e-9 and abs(normal[1]) > _CREASE:  # a smooth pole
            normal = np.array([0.0, np.sign(normal[1])])
        rings.append(points[at])
        normals.append(normal / np.linalg.norm(normal))
        vs.append(along[at])
        return len(rings) - 1

    for k in range(count):
        before = outward[k - 1] if k or closed else None
        smooth = before is not None and float(before @ outward[k]) > _CREASE
        after = outward[(k + 1) % count] if k + 1 < count or closed else None
        smooth_end = after is not None and float(after @ outward[k]) > _CREASE
        if smooth and k:
            starts.append(ends[-1])
        else:
            starts.append(ring(k, outward[k] + before if smooth and before is not None else outward[k]))
        ends.append(ring(k + 1, outward[k] + after if smooth_end and after is not None else outward[k]))
    return np.array(rings), np.array(normals), np.array(vs), starts, ends


def _strips(
    starts: list[int], ends: list[int], segments: int, radii: Float[np.ndarray, " r"]
) -> Int[np.ndarray, "f 3"]:
    """Triangles between pairs of rings of segments + 1 vertices; none at the tip of a ring of radius 0."""
    j = np.arange(segments)
    found: list[np.ndarray] = []
    for low, high in zip(starts, ends, strict=True):
        a, d = low * (segments + 1) + j, high * (segments + 1) + j
        if radii[low] > 1e-9:
            found.append(np.stack([a, a + 1, d + 1], 1))
        if radii[high] > 1e-9:
            found.append(np.stack([a, d + 1, d], 1))
    return np.concatenate(found).astype(np.int32)


def cylinder(
    radius: float, height: float, segments: int = 24, *, top: float | None = None, bevel: float = 0.0
) -> Solid:
    """On the ground, z from 0 to height; `top` is the upper radius (a cone where it is 0)."""
    top = radius if top is None else top
    edge = min(bevel, 0.4 * height, 0.4 * radius)
    if edge > 0 and top > edge:
        profile = [
            (0, 0),
            (radius - edge, 0),
            (radius, edge),
            (top, height - edge),
            (top - edge, height),
            (0, height),
        ]
    else:
        profile = [(0, 0), (radius, 0), (top, height), (0, height)]
    return lathe(profile, segments)


def rod(
    start: Vector, end: Vector, radius: float, *, end_radius: float | None = None, segments: int = 12
) -> Solid:
    """A round bar between two points."""
    length = float(np.linalg.norm(np.subtract(end, start)))
    return pointed(cylinder(radius, length, segments, top=end_radius), start, end)


def tube(
    path: object,
    radius: object,
    segments: int = 12,
    *,
    closed: bool = False,
    round_ends: bool = False,
    flat: float = 1.0,
) -> Solid:
    """A tube along a curve. path: (n, 3). radius: one, or (n,). closed: the curve is a ring (of one plane).
    flat: the section's thickness across its first frame axis, as a share of its width.
    u runs around, v along."""
    points = np.asarray(path, np.float64)
    radii = np.broadcast_to(np.asarray(radius, np.float64), (len(points),)).copy()
    if closed:
        points, radii = np.concatenate([points, points[:1]]), np.append(radii, radii[0])
    elif round_ends:
        points, radii = _round_ends(points, radii)
    step = np.diff(points, axis=0)
    length = np.linalg.norm(step, axis=1)
    along = np.concatenate([[0], np.cumsum(length)])
    tangents = np.gradient(points, axis=0)
    if closed:
        tangents[0] = tangents[-1] = points[1] - points[-2]
    tangents /= np.maximum(np.linalg.norm(tangents, axis=1, keepdims=True), 1e-30)
    first, second = _turning_frames(tangents)
    if closed:
        first[-1], second[-1] = first[0], second[0]
    angle = np.linspace(0, 2 * np.pi, segments + 1)
    cos, sin = np.cos(angle), np.sin(angle)
    cos[-1], sin[-1] = cos[0], sin[0]
    across = first[:, None] * (cos * flat)[None, :, None] + second[:, None] * sin[None, :, None]
    normal = first[:, None] * cos[None, :, None] + second[:, None] * (sin * flat)[None, :, None]
    normal /= np.linalg.norm(normal, axis=2, keepdims=True)
    slope = (
        np.zeros(len(points))
        if closed
        else np.gradient(radii, np.maximum(along, np.arange(len(along)) * 1e-9))
    )
    normal = normal - slope[:, None, None] * tangents[:, None]
    normal /= np.linalg.norm(normal, axis=2, keepdims=True)
    vertices = points[:, None] + radii[:, None, None] * across
    count = len(points)
    girth = 2 * np.pi * float(radii.max())
    uv = np.stack(
        [
            np.broadcast_to(angle / (2 * np.pi) * girth, (count, segments + 1)),
            np.broadcast_to(along[:, None], (count, segments + 1)),
        ],
        2,
    )
    rows = list(range(count))
    faces = _strips(rows[:-1], rows[1:], segments, radii)
    parts = [vertices.reshape(-1, 3)], [normal.reshape(-1, 3)], [uv.reshape(-1, 2)], [faces]
    if not closed:
        for at, sign in ((0, -1.0), (count - 1, 1.0)):
            if radii[at] > 1e-9:
                _cap(parts, vertices[at, :-1], points[at], sign * tangents[at], sign)
    return Solid(
        np.concatenate(parts[0]),
        np.concatenate(parts[3]).astype(np.int32),
        np.concatenate(parts[1]),
        np.concatenate(parts[2]),
        girth,
    )


def _round_ends(
    points: Float[np.ndarray, "n 3"], radii: Float[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, "m 3"], Float[np.ndarray, " m"]]:
    """The path with a half ball at either end."""
    angle = np.deg2rad([25.0, 50.0, 72.0, 90.0])

    def ball(end: np.ndarray, inner: np.ndarray, radius: float) -> tuple[np.ndarray, np.ndarray]:
        out = (end - inner) / np.linalg.norm(end - inner)
        shrink = radius * np.cos(angle)
        shrink[-1] = 0
        return end + radius * np.sin(angle)[:, None] * out, shrink

    head, head_radii = ball(points[0], points[1], radii[0])
    tail, tail_radii = ball(points[-1], points[-2], radii[-1])
    return (
        np.concatenate([head[::-1], points, tail]),
        np.concatenate([head_radii[::-1], radii, tail_radii]),
    )


def _turning_frames(tangents: Float[np.ndarray, "n 3"]) -> tuple[np.ndarray, np.ndarray]:
    """Two axes across the curve at each point that turn as little as they can (parallel transport); the first
    starts as near to the world's z as it can."""
    guide = np.array([1.0, 0, 0]) if abs(tangents[0, 2]) > 0.9 else np.array([0, 0, 1.0])
    first = np.empty_like(tangents)
    axis = guide
    for k, tangent in enumerate(tangents):
        axis = axis - (axis @ tangent) * tangent
        axis = axis / np.linalg.norm(axis)
        first[k] = axis
    return first, np.cross(tangents, first)


def _cap(
    pieces: tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray], list[np.ndarray]],
    ring: Float[np.ndarray, "s 3"],
    centre: Float[np.ndarray, " 3"],
    normal: Float[np.ndarray, " 3"],
    sign: float,
) -> None:
    """Close a tube's end with a flat fan."""
    vertices, normals, uv, faces = pieces
    start = sum(map(len, vertices))
    count = len(ring)
    j = np.arange(count)
    following = (j + 1) % count
    fan = np.stack(
        [np.full(count, count), j, following] if sign > 0 else [np.full(count, count), following, j], 1
    )
    offset = ring - centre
    u_axis = offset[0] / np.linalg.norm(offset[0])
    flat = np.stack([offset @ u_axis, offset @ np.cross(normal, u_axis)], 1)
    flat = np.concatenate([flat, [[0.0, 0.0]]])
    vertices.append(np.concatenate([ring, centre[None]]))
    normals.append(np.broadcast_to(normal, (count + 1, 3)))
    uv.append(flat - flat.min(0))
    faces.append(fan + start)
