"""A mesh as a cloud of points: drawn evenly by area, with normals and colours, as a PLY without faces."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from mv3d.core.colors import linear_from_srgb, srgb_from_linear
from mv3d.core.errors import InputError, UsageError
from mv3d.core.files import write_files
from mv3d.render.mesh import Mesh, face_normals, smooth_normals, unit_vectors
from mv3d.render.mesh_io import vertex_rows
from mv3d.render.raycast import sample_bilinear
from mv3d.render.writers import WriteOptions

_MOST = 50_000_000


@dataclass(frozen=True, eq=False)
class PointCloud:
    """Points in the world frame. normals: unit. colors: sRGB, or None where the mesh has none."""

    points: Float[np.ndarray, "n 3"]
    normals: Float[np.ndarray, "n 3"]
    colors: UInt8[np.ndarray, "n 3"] | None


def sample_surface(mesh: Mesh, count: int, *, seed: int = 0) -> PointCloud:
    """`count` points on the faces: one in each of as many equal shares of the area, at a random place of it, so that they
    lie more evenly than independent ones. The same seed gives the same points.

    Places in a triangle: Osada et al., Shape Distributions (2002), section 4.1. Normals are interpolated, colours are the
    texture's times those of the vertices as light. Raises InputError for a mesh without area, UsageError for a count
    out of 1 to 50 million.
    """
    if not 1 <= count <= _MOST:
        raise UsageError(f"points: expected 1 to {_MOST}, got {count}")
    area = np.cumsum(np.linalg.norm(face_normals(mesh.vertices, mesh.faces), axis=1))
    if not len(area) or not area[-1] > 0:
        raise InputError("mesh: expected faces with an area, got none")
    draw = np.random.default_rng(seed).random((count, 3))
    share = (np.arange(count) + draw[:, 0]) / count * area[-1]
    face = np.minimum(np.searchsorted(area, share, side="right"), len(area) - 1)
    root = np.sqrt(draw[:, 1])
    weights = np.stack([1 - root, root * (1 - draw[:, 2]), root * draw[:, 2]], 1)
    corners = mesh.faces[face]

    def between(values: np.ndarray) -> np.ndarray:
        return np.einsum("nk,nkc->nc", weights, values[corners].astype(np.float64))

    normals = mesh.normals if mesh.normals is not None else smooth_normals(mesh.vertices, mesh.faces)
    colors = None
    if mesh.vertex_colors is not None:
        colors = between(mesh.vertex_colors) / 255
    if mesh.texture is not None and mesh.uv is not None:
        height, width = mesh.texture.shape[:2]
        sampled = sample_bilinear(mesh.texture, between(mesh.uv) * [width, height]) / 255
        tint = 1.0 if colors is None else linear_from_srgb(colors)
        colors = srgb_from_linear(linear_from_srgb(sampled) * tint)
    return PointCloud(
        between(mesh.vertices).astype(np.float32),
        unit_vectors(between(normals), least=1e-6).astype(np.float32),
        None if colors is None else (colors * 255 + 0.5).astype(np.uint8),
    )


def write_points(mesh: Mesh, path: Path, options: WriteOptions) -> None:
    """Write `options.points` points as a binary PLY, Z up: x, y, z, nx, ny, nz and, where there are colours, red, green,
    blue."""
    assert options.points is not None, "the caller asks for points"
    cloud = sample_surface(mesh, options.points, seed=options.seed)
    rows, declared = vertex_rows(cloud.points, cloud.normals, cloud.colors)
    header = ["ply", "format binary_little_endian 1.0", "comment mv3d, Z up", *declared, "end_header"]
    write_files({path: ("\n".join(header) + "\n").encode() + rows.tobytes()})
