"""Makes examples/demo_views: 21 views of a toy lantern of our own making, so that `make demo` needs no download.

Run: python examples/make_demo_views.py examples/demo_views
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from skimage.measure import marching_cubes

from mv3d.render.cameras import Orbit, sv3d_azimuths_deg
from mv3d.render.mesh import Mesh, vertex_normals
from mv3d.render.raycast import render_views
from mv3d.views.views import Views

SIZE = 320
ELEVATION_DEG = 10.0


def parts(p: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Signed distance and colour of each part of the lantern at points (n, 3); units: its height is about 1."""
    x, y, z = p.T
    around, ring = np.arctan2(y, x), np.hypot(x, y)

    def box(
        half: tuple[float, float, float], center: tuple[float, float, float], rounding: float
    ) -> np.ndarray:
        q = np.abs(p - center) - (np.array(half) - rounding)
        return np.linalg.norm(np.maximum(q, 0), axis=1) + np.minimum(q.max(1), 0) - rounding

    def paint(*rgb: float) -> np.ndarray:
        return np.broadcast_to(np.array(rgb), (len(p), 3))

    glass = np.sqrt(ring**2 + (z + 0.03) ** 2) - 0.22
    stripes = 0.5 + 0.5 * np.tanh(8 * np.sin(6 * around + 9 * z))
    glow = stripes[:, None] * np.array([0.98, 0.75, 0.25]) + (1 - stripes[:, None]) * np.array(
        [0.93, 0.45, 0.2]
    )
    base = box((0.25, 0.25, 0.05), (0, 0, -0.3), 0.03)
    checks = (np.sin(26 * x) * np.sin(26 * y) > 0)[:, None]
    wood = np.where(checks, [0.35, 0.2, 0.12], [0.5, 0.31, 0.18])
    roof = np.maximum(np.abs(z - 0.2) - 0.05, ring - (0.27 - 0.8 * (z - 0.15))) * 0.7 - 0.015
    handle = np.hypot(np.hypot(y, z - 0.32) - 0.13, x) - 0.025
    posts = np.min(
        [box((0.025, 0.025, 0.25), (sx * 0.2, sy * 0.2, -0.06), 0.02) for sx in (1, -1) for sy in (1, -1)],
        axis=0,
    )
    front = box((0.02, 0.07, 0.035), (0.25, 0, -0.3), 0.015)
    return [
        (glass, glow),
        (base, wood),
        (roof, paint(0.16, 0.35, 0.42)),
        (handle, paint(0.75, 0.72, 0.65)),
        (posts, paint(0.16, 0.35, 0.42)),
        (front, paint(0.85, 0.2, 0.25)),
    ]


def lantern(resolution: int = 160) -> Mesh:
    """The lantern as one closed mesh with vertex colours, lit softly from above left."""
    axis = np.linspace(-0.55, 0.55, resolution)
    points = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    distance = np.min([d for d, _ in parts(points)], axis=0).reshape((resolution,) * 3)
    vertices, faces, _, _ = marching_cubes(distance, 0.0, gradient_direction="descent")
    vertices = (vertices / (resolution - 1) * 1.1 - 0.55).astype(np.float32)
    found = parts(vertices.astype(np.float64))
    nearest = np.argmin([d for d, _ in found], axis=0)
    color = np.stack([c for _, c in found])[nearest, np.arange(len(vertices))]
    light = vertex_normals(vertices, faces) @ (np.array([0.45, 0.3, 0.84]))
    color = color * (0.72 + 0.28 * np.clip(light, -0.4, 1))[:, None]
    return Mesh(vertices, faces, vertex_colors=(np.clip(color, 0, 1) * 255).astype(np.uint8))


def lantern_views(size: int = SIZE, *, supersample: int = 3, resolution: int = 160) -> Views:
    """21 views in SV3D's order."""
    azimuths = sv3d_azimuths_deg(21)
    orbit = Orbit((ELEVATION_DEG,) * 21, tuple(azimuths.tolist()), input_view=20)
    cameras = orbit.cameras(size, size)
    return Views(render_views(lantern(resolution), cameras, supersample=supersample), cameras, orbit, 20)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: make_demo_views.py OUT_DIR")
    print(lantern_views().save(Path(sys.argv[1]), overwrite=True))
