"""The mesh value: triangles with an optional texture, in the world frame (Z up)."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8

from mv3d.core.errors import InputError, Mv3dWarning
from mv3d.render.load_warnings import LoadWarning


@dataclass(frozen=True, eq=False)
class Mesh:
    """Triangles in the world frame.

    vertices: (v, 3) float32. faces: (f, 3) int32, counter-clockwise seen from outside.
    normals: (v, 3) float32 unit, or None. uv: (v, 2) float32 in [0, 1], origin at the top left of the
    texture (as glTF), or None; vertices are then split along UV seams.
    texture: (h, w, 3) uint8 sRGB albedo, or None. vertex_colors: (v, 3) uint8 sRGB, or None. Where there are both, the
    albedo is their product as light. warnings: of the file that it was read from, what could not be used.
    """

    vertices: Float[np.ndarray, "v 3"]
    faces: Int[np.ndarray, "f 3"]
    normals: Float[np.ndarray, "v 3"] | None = None
    uv: Float[np.ndarray, "v 2"] | None = None
    texture: UInt8[np.ndarray, "h w 3"] | None = None
    vertex_colors: UInt8[np.ndarray, "v 3"] | None = None
    warnings: tuple[LoadWarning, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "vertices", np.ascontiguousarray(self.vertices, np.float32).reshape(-1, 3))
        object.__setattr__(self, "faces", np.ascontiguousarray(self.faces, np.int32).reshape(-1, 3))
        check_triangles(self.vertices, self.faces)
        for name in ("normals", "uv", "vertex_colors"):
            value = getattr(self, name)
            if value is not None and len(value) != len(self.vertices):
                raise InputError(f"{name}: expected {len(self.vertices)} rows, got {len(value)}")

    @property
    def triangles(self) -> Float[np.ndarray, "f 3 3"]:
        return self.vertices[self.faces]

    def export(self, path: str | os.PathLike[str], **options: Any) -> Path:
        """Write as .glb, .obj (+ .mtl + _texture.png), .ply or .stl, chosen by the suffix; written aside, then renamed.
        Only `path` itself and side files of an earlier export there are replaced.
        options: fields of `mv3d.render.writers.WriteOptions`."""
        from mv3d.render.writers import WriteOptions, save_mesh  # noqa: PLC0415 - writers need this module

        return save_mesh(self, path, WriteOptions(**options))  # pyright: ignore[reportArgumentType]

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


def weld(
    vertices: Float[np.ndarray, "v 3"], faces: Int[np.ndarray, "f 3"]
) -> tuple[Float[np.ndarray, "w 3"], Int[np.ndarray, "f 3"]]:
    """Merge vertices at exactly the same place (UV seams), so that topology can be judged."""
    unique, inverse = np.unique(np.ascontiguousarray(vertices), axis=0, return_inverse=True)
    return unique, inverse.reshape(-1)[faces].astype(np.int32)
