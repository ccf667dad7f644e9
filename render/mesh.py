"""The mesh value: triangles with an optional texture, in the world frame (Z up)."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8

from mv3d.core.errors import InputError, Mv3dWarning
from mv3d.render.load_warnings import LoadWarning

_PER_VERTEX = ("normals", "uv", "vertex_colors", "tangents")


@dataclass(frozen=True, eq=False)
class Mesh:
    """Triangles in the world frame.

    vertices: (v, 3) float32. faces: (f, 3) int32, counter-clockwise seen from outside.
    normals: (v, 3) float32 unit, or None. uv: (v, 2) float32 in [0, 1], origin at the top left of the
    texture (as glTF), or None; vertices are then split along UV seams.
    texture: (h, w, 3) uint8 sRGB albedo, or None. vertex_colors: (v, 3) uint8 sRGB, or None. Where there are both, the
    albedo is their product as light. warnings: of the file that it was read from, what could not be used.
    normal_map: (h, w, 3) uint8, tangent space with +Y up as in glTF, or None; needs uv and tangents.
    tangents: (v, 4) float32, unit in the world and the sign of the bitangent (`mv3d.render.tangents`), or None.
    quads: the first 2 · quads faces are pairs (a, b, c), (a, c, d), halves of one quad a, b, c, d each.
    """

    vertices: Float[np.ndarray, "v 3"]
    faces: Int[np.ndarray, "f 3"]
    normals: Float[np.ndarray, "v 3"] | None = None
    uv: Float[np.ndarray, "v 2"] | None = None
    texture: UInt8[np.ndarray, "h w 3"] | None = None
    vertex_colors: UInt8[np.ndarray, "v 3"] | None = None
    normal_map: UInt8[np.ndarray, "h w 3"] | None = None
    tangents: Float[np.ndarray, "v 4"] | None = None
    quads: int = 0
    warnings: tuple[LoadWarning, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "vertices", np.ascontiguousarray(self.vertices, np.float32).reshape(-1, 3))
        object.__setattr__(self, "faces", np.ascontiguousarray(self.faces, np.int32).reshape(-1, 3))
        check_triangles(self.vertices, self.faces)
        for name in _PER_VERTEX:
            value = getattr(self, name)
            if value is not None and len(value) != len(self.vertices):
                raise InputError(f"{name}: expected {len(self.vertices)} rows, got {len(value)}")
        pairs = self.faces[: 2 * self.quads].reshape(-1, 2, 3)
        if self.quads < 0 or len(pairs) != self.quads or (pairs[:, 0, [0, 2]] != pairs[:, 1, [0, 1]]).any():
            raise InputError(
                f"quads: expected {self.quads} pairs of faces (a, b, c), (a, c, d) before all others, got others"
            )
        if self.normal_map is not None and (self.uv is None or self.tangents is None):
            raise InputError("normal_map: expected texture coordinates and tangents beside it, got none")

    def __repr__(self) -> str:
        pictures = {"texture": self.texture, "normal_map": self.normal_map}
        more = [f"{name} {p.shape[1]}x{p.shape[0]}" for name, p in pictures.items() if p is not None]
        more += ["vertex_colors"] if self.vertex_colors is not None else []
        more += [f"{self.quads} quads"] if self.quads else []
        return f"Mesh({', '.join([f'{len(self.vertices)} vertices', f'{len(self.faces)} faces', *more])})"

    @property
    def triangles(self) -> Float[np.ndarray, "f 3 3"]:
        return self.vertices[self.faces]

    def with_vertices(self, rows: Int[np.ndarray, " w"]) -> Mesh:
        """The mesh with these vertices and what belongs to them; the faces' numbers are those of before."""
        values = {name: getattr(self, name) for name in ("vertices", *_PER_VERTEX)}
        chosen = {name: value[rows] for name, value in values.items() if value is not None}
        return replace(self, **chosen)

    def export(self, path: str | os.PathLike[str], **options: Any) -> Path:
        """Write as .glb, .obj (+ .mtl + _texture.png), .ply, .stl, .3mf or .usdz (extra `usd`), chosen by the suffix;
        written aside, then renamed. A .ply with `points=N` is a cloud of so many points on the surface.
        Only `path` itself and side files of an earlier export there are replaced.
        options: fields of `mv3d.render.writers.WriteOptions`."""
        from mv3d.render.writers import WriteOptions, save_mesh  # noqa: PLC0415 - writers need this module

        return save_mesh(self, path, WriteOptions(**options))  # pyright: ignore[reportArgumentType]

    def to_trimesh(self) -> Any:
        """A `trimesh.Trimesh` of the same vertices and faces (see `mv3d.render.bridges.to_trimesh`)."""
        from mv3d.render.bridges import to_trimesh  # noqa: PLC0415

        return to_trimesh(self)  # pyright: ignore[reportArgumentType]

    @staticmethod
    def from_trimesh(source: Any) -> Mesh:
        """The mesh of a `trimesh.Trimesh` (see `mv3d.render.bridges.from_trimesh`)."""
        from mv3d.render.bridges import from_trimesh  # noqa: PLC0415

        return from_trimesh(source)  # pyright: ignore[reportReturnType]

    def to_open3d(self) -> Any:
        """An `open3d.geometry.TriangleMesh` (extra `open3d`)."""
        from mv3d.render.bridges import to_open3d  # noqa: PLC0415

        return to_open3d(self)  # pyright: ignore[reportArgumentType]

    def to_pytorch3d(self, device: str = "cpu") -> Any:
        """A `pytorch3d.structures.Meshes` of one mesh."""
        from mv3d.render.bridges import to_pytorch3d  # noqa: PLC0415

        return to_pytorch3d(self, device)  # pyright: ignore[reportArgumentType]

    @staticmethod
    def load(path: str | os.PathLike[str]) -> Mesh:
        """Read any mesh file (see `mv3d.render.mesh_io.load_mesh`). Its warnings are issued as Python warnings, too."""
        from mv3d.render.mesh_io import load_mesh  # noqa: PLC0415

        mesh = load_mesh(path)
        for warning in mesh.warnings:
            warnings.warn(f"{Path(path).name}: {warning}", Mv3dWarning, stacklevel=2)
        return mesh  # pyright: ignore[reportReturnType]


def check_triangles(vertices: Float[np.ndarray, "v 3"], faces: Int[np.ndarray, "f 3"]) -> None:
    """Raise InputError for NaN, infinity and indices out of range."""
    if not np.isfinite(vertices).all():
        raise InputError("vertices: expected finite numbers, got NaN or infinity")
    if len(faces) and (faces.min() < 0 or faces.max() >= len(vertices)):
        raise InputError(
            f"faces: expected indices in 0..{len(vertices) - 1}, got {faces.min()}..{faces.max()}"
        )


def unit_vectors(vectors: Float[np.ndarray, "n 3"], *, least: float) -> Float[np.ndarray, "n 3"]:
    """Vectors of length 1; +Z for those no longer than `least`."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.where(length > least, vectors / np.maximum(length, least), [0.0, 0.0, 1.0])


def face_normals(
    vertices: Float[np.ndarray, "v 3"], faces: Int[np.ndarray, "f 3"]
) -> Float[np.ndarray, "f 3"]:
    """Normals whose length is twice the area of the face."""
    a, b, c = (vertices[faces[:, k]].astype(np.float64) for k in range(3))
    return np.cross(b - a, c - a)


def vertex_normals(
    vertices: Float[np.ndarray, "v 3"], faces: Int[np.ndarray, "f 3"]
) -> Float[np.ndarray, "v 3"]:
    """Area-weighted unit normals; a vertex of no face gets +Z."""
    weighted = face_normals(vertices, faces)
    sums = [sum(np.bincount(faces[:, k], column, len(vertices)) for k in range(3)) for column in weighted.T]
    return unit_vectors(np.stack(sums, 1), least=1e-20).astype(np.float32)


def corner_angles(
    vertices: Float[np.ndarray, "v 3"], faces: Int[np.ndarray, "f 3"]
) -> Float[np.ndarray, "f 3"]:
    """Angle of each face at each of its corners, radians; 0 at a side without length."""
    points = vertices[faces].astype(np.float64)
    ahead, back = np.roll(points, -1, 1) - points, np.roll(points, 1, 1) - points
    # From sine and cosine: exact for slivers, too.
    return np.arctan2(np.linalg.norm(np.cross(ahead, back), axis=-1), (ahead * back).sum(-1))


def smooth_normals(
    vertices: Float[np.ndarray, "v 3"], faces: Int[np.ndarray, "f 3"]
) -> Float[np.ndarray, "v 3"]:
    """Angle-weighted unit normals (Thürmer and Wüthrich, Computing Vertex Normals from Polygonal Facets, 1998): they
    do not depend on how a flat part is cut into faces. A vertex of no face gets +Z."""
    weighted = unit_vectors(face_normals(vertices, faces), least=1e-30)
    corners = corner_angles(vertices, faces)[..., None] * weighted[:, None]
    return unit_vectors(scattered(corners, faces, len(vertices)), least=1e-20).astype(np.float32)


def scattered(
    corners: Float[np.ndarray, "f 3 c"], faces: Int[np.ndarray, "f 3"], vertices: int
) -> Float[np.ndarray, "v c"]:
    """Sums of values at the faces' corners, by vertex."""
    at = faces.reshape(-1)
    flat = corners.reshape(len(at), -1)
    return np.stack([np.bincount(at, column, vertices) for column in flat.T], 1)


def weld(
    vertices: Float[np.ndarray, "v 3"], faces: Int[np.ndarray, "f 3"]
) -> tuple[Float[np.ndarray, "w 3"], Int[np.ndarray, "f 3"]]:
    """Merge vertices at exactly the same place (UV seams), so that topology can be judged."""
    unique, inverse = np.unique(np.ascontiguousarray(vertices), axis=0, return_inverse=True)
    return unique, inverse.reshape(-1)[faces].astype(np.int32)
