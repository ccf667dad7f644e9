"""Boxes, bars, extruded outlines, superellipsoids and bent sheets. Each is closed and wound outwards."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from jaxtyping import Float, Int

from mv3d.orbits.procedural.solids import Solid, Vector, moved, pointed

_CREASE = np.cos(np.deg2rad(40))  # flatter corners than this are shaded smooth


def box(size: Vector, bevel: float = 0.0) -> Solid:
    """A box around the origin; bevelled edges are cut off at 45° and shaded round. u runs along the longer side."""
    half = np.asarray(size, np.float64) / 2
    inset = min(float(bevel), 0.45 * 2 * float(half.min()))
    signs, normal_axes, project, faces = _box_plan(bevelled=inset > 0)
    own = np.abs(normal_axes).argmax(1)
    vertices = signs * (half - inset)
    rows = np.arange(len(vertices))
    vertices[rows, own] = signs[rows, own] * half[own]
    # Seen along `project`, the longer one of the two other sides is u.
    order = np.argsort(-half, kind="stable")
    planes = np.array([[axis for axis in order if axis != k] for k in range(3)])
    start = vertices + half
    uv = np.stack([start[rows, planes[project, 0]], start[rows, planes[project, 1]]], 1)
    return Solid(vertices, faces, normal_axes.astype(np.float64), uv)


@lru_cache(maxsize=2)
def _box_plan(*, bevelled: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Signs (v, 3), normals (v, 3), axis of projection (v,) and faces of a box: six sides, and with a bevel
    twelve strips and eight corners."""
    signs: list[np.ndarray] = []
    normals: list[np.ndarray] = []
    project: list[int] = []
    faces: list[tuple[int, int, int]] = []

    def polygon(corners: list[tuple[np.ndarray, np.ndarray]], axis: int) -> None:
        centre = sum(sign + normal for sign, normal in corners)
        first, second, third = (sign + normal for sign, normal in corners[:3])
        if np.dot(np.cross(second - first, third - second), centre) < 0:
            corners = corners[::-1]
        start = len(signs)
        for sign, normal in corners:
            signs.append(sign)
            normals.append(normal)
            project.append(axis)
        faces.extend((start, start + k, start + k + 1) for k in range(1, len(corners) - 1))

    unit = np.eye(3)
    both = (-1.0, 1.0)
    for a in range(3):
        b, c = (a + 1) % 3, (a + 2) % 3
        for s in both:
            ring = ((-1, -1), (1, -1), (1, 1), (-1, 1))
            polygon([(s * unit[a] + p * unit[b] + q * unit[c], s * unit[a]) for p, q in ring], a)
    if bevelled:
        for a in range(3):
            b, c = (a + 1) % 3, (a + 2) % 3
            for p in both:
                for q in both:
                    edge = p * unit[b] + q * unit[c]
                    ends = ((-1, b, p), (1, b, p), (1, c, q), (-1, c, q))
                    polygon([(edge + t * unit[a], sign * unit[axis]) for t, axis, sign in ends], b)
        for x in both:
            for y in both:
                for z in both:
                    sign = np.array([x, y, z])
                    polygon([(sign, sign[k] * unit[k]) for k in range(3)], 0)
    return np.array(signs), np.array(normals), np.array(project), np.array(faces, np.int32)


def plank(start: Vector, end: Vector, width: float, thickness: float, bevel: float = 0.0) -> Solid:
    """A bar of rectangular section between two points; `thickness` lies towards the world's z (x for upright ones)."""
    length = float(np.linalg.norm(np.subtract(end, start)))
    return pointed(moved(box((thickness, width, length), bevel), (0, 0, length / 2)), start, end)


def extrude(outline: object, depth: float) -> Solid:
    """A simple polygon, (n, 2) in x and y in either order, made thick: z from -depth/2 to depth/2."""
    points = np.asarray(outline, np.float64)
    x, y = points.T
    if (x * np.roll(y, -1) - y * np.roll(x, -1)).sum() < 0:
        points = points[::-1]
    count = len(points)
    inner = _ear_triangles(points)
    flat = points - points.min(0)
    top = np.concatenate([points, np.full((count, 1), depth / 2)], 1)
    low = np.concatenate([points, np.full((count, 1), -depth / 2)], 1)
    step = np.roll(points, -1, axis=0) - points
    length = np.linalg.norm(step, axis=1)
    out = np.stack([step[:, 1], -step[:, 0]], 1) / length[:, None]
    following = np.roll(np.arange(count), -1)
    # The wall's corners: each side has its own, shaded together where the outline bends little.
    meet = (out * np.roll(out, 1, axis=0)).sum(1) > _CREASE
    mean = out + np.roll(out, 1, axis=0)
    mean /= np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-30)
    begin = np.where(meet[:, None], mean, out)
    end = np.where(meet[following][:, None], mean[following], out)
    run = np.concatenate([[0], np.cumsum(length)])
    zero = np.zeros(count)
    wall_uv = [(run[:-1], zero + depth), (run[1:], zero + depth), (run[1:], zero), (run[:-1], zero)]
    vertices = np.concatenate([top, low, low, low[following], top[following], top])
    normals = np.concatenate([begin, end, end, begin])
    normals = np.concatenate([normals, np.zeros((4 * count, 1))], 1)
    up = np.tile([0.0, 0.0, 1.0], (count, 1))
    j = np.arange(count)
    a, b, c, d = (j + k * count for k in (2, 3, 4, 5))
    faces = np.concatenate([inner, inner[:, ::-1] + count, np.stack([a, b, c], 1), np.stack([a, c, d], 1)])
    uv = np.concatenate([flat, flat, *(np.stack(pair, 1) for pair in wall_uv)])
    return Solid(vertices, faces.astype(np.int32), np.concatenate([up, -up, normals]), uv)


def _ear_triangles(points: Float[np.ndarray, "n 2"]) -> Int[np.ndarray, "m 3"]:
    """Triangles of a simple counter-clockwise polygon by ear clipping, the roundest of the ears first."""
    left = list(range(len(points)))
    found: list[tuple[int, int, int]] = []

    def turn(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
        return (b[..., 0] - a[..., 0]) * (c[..., 1] - a[..., 1]) - (b[..., 1] - a[..., 1]) * (
            c[..., 0] - a[..., 0]
        )

    while len(left) > 3:
        ring = points[left]
        before, after = np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0)
        area = turn(before, ring, after)
        reach = np.linalg.norm(after - before, axis=1)
        for k in np.argsort(np.where(area > 1e-14, reach, np.inf), kind="stable"):
            a, b, c = before[k], ring[k], after[k]
            inside = (
                (turn(a, b, ring) >= -1e-14) & (turn(b, c, ring) >= -1e-14) & (turn(c, a, ring) >= -1e-14)
            )
            inside[[k - 1, k, (k + 1) % len(left)]] = False
            if not inside.any():
                break
        found.append((left[k - 1], left[k], left[(k + 1) % len(left)]))
        del left[k]
    return np.array([*found, tuple(left)])


def ellipsoid(radii: Vector, *, roundness: tuple[float, float] = (1.0, 1.0), segments: int = 24) -> Solid:
    """A superellipsoid around the origin (Barr 1981). roundness: exponents from pole to pole and around; 1 is an
    ellipsoid, 0.2 nearly a box, 2 an octahedron. u runs around, v from the upper pole down."""
    rows = max(4, segments * 2 // 3)
    up, around = roundness
    lat = np.linspace(np.pi / 2, -np.pi / 2, rows + 1)
    lon = np.linspace(0, 2 * np.pi, segments + 1)

    def power(values: np.ndarray, exponent: float) -> np.ndarray:
        return np.sign(values) * np.abs(values) ** exponent

    # Rounded: a power of 1e-17 is not small.
    cos_lat, sin_lat, cos_lon, sin_lon = (np.round(f(t), 12) for t in (lat, lon) for f in (np.cos, np.sin))
    cos_lat[[0, -1]] = 0
    cos_lon[-1], sin_lon[-1] = cos_lon[0], sin_lon[0]
    ring = power(cos_lat, up)[:, None]
    size = np.asarray(radii, np.float64)
    grid = (
        np.stack(
            [
                ring * power(cos_lon, around) + 0.0,
                ring * power(sin_lon, around) + 0.0,
                np.repeat(power(sin_lat, up)[:, None], segments + 1, 1),
            ],
            2,
        )
        * size
    )
    thin = power(cos_lat, 2 - up)[:, None]
    normal = (
        np.stack(
            [
                thin * power(cos_lon, 2 - around),
                thin * power(sin_lon, 2 - around),
                np.repeat(power(sin_lat, 2 - up)[:, None], segments + 1, 1),
            ],
            2,
        )
        / size
    )
    normal /= np.maximum(np.linalg.norm(normal, axis=2, keepdims=True), 1e-30)
    girth = float(np.pi * (size[0] + size[1]))
    uv = np.stack(
        np.broadcast_arrays(lon[None] / (2 * np.pi) * girth, (np.pi / 2 - lat)[:, None] * size.mean()), 2
    )
    row, column = np.meshgrid(np.arange(rows), np.arange(segments), indexing="ij")
    a = row * (segments + 1) + column
    b, c, d = a + segments + 1, a + segments + 2, a + 1
    faces = np.concatenate(
        [np.stack([a, b, c], 2)[:-1].reshape(-1, 3), np.stack([a, c, d], 2)[1:].reshape(-1, 3)]
    )
    return Solid(grid.reshape(-1, 3), faces.astype(np.int32), normal.reshape(-1, 3), uv.reshape(-1, 2), girth)


def sheet(grid: Float[np.ndarray, "n m 3"], thickness: float) -> Solid:
    """A thick sheet through a grid of points: the side of (second axis × first axis) and its back, half the
    thickness away each, and the rim between them. u along the second axis, v along the first."""
    points = np.asarray(grid, np.float64)
    n, m = points.shape[:2]
    normal = np.cross(np.gradient(points, axis=1), np.gradient(points, axis=0))
    normal /= np.maximum(np.linalg.norm(normal, axis=2, keepdims=True), 1e-30)
    front, back = points + normal * thickness / 2, points - normal * thickness / 2
    u = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(points, axis=1), axis=2).mean(0))])
    v = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=2).mean(1))])
    uv = np.stack(np.meshgrid(u, v), 2).reshape(-1, 2)
    row, column = np.meshgrid(np.arange(n - 1), np.arange(m - 1), indexing="ij")
    a = (row * m + column).reshape(-1)
    quads = np.stack([a, a + 1, a + m + 1, a + m], 1)
    top = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    rim = np.concatenate(
        [
            np.arange(m),
            np.arange(2, n) * m - 1,
            np.arange(n * m - 1, n * m - m - 1, -1),
            np.arange(n - 2, 0, -1) * m,
        ]
    )
    flat, flat_back, flat_normal = front.reshape(-1, 3), back.reshape(-1, 3), normal.reshape(-1, 3)
    first, second = rim, np.roll(rim, -1)
    run = flat[second] - flat[first]
    out = np.cross(run, flat_normal[first])
    out /= np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-30)
    j, count, base = np.arange(len(rim)), len(rim), 2 * n * m
    p, q, r, s = (base + j + k * count for k in range(4))
    walls = np.concatenate([np.stack([p, q, r], 1), np.stack([p, r, s], 1)])
    return Solid(
        np.concatenate([flat, flat_back, flat_back[first], flat_back[second], flat[second], flat[first]]),
        np.concatenate([top, top[:, ::-1] + n * m, walls]).astype(np.int32),
        np.concatenate([flat_normal, -flat_normal, out, out, out, out]),
        np.concatenate([uv, uv, uv[first], uv[second], uv[second], uv[first]]),
    )
