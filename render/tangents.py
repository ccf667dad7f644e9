"""Tangent vectors of textured meshes, for normal maps.

By the rule of MikkTSpace (Mikkelsen, Simulation of Wrinkled Surfaces Revisited, 2008), which glTF 2.0 names as the
default (section 3.7.2.1): the unit direction in which u grows on a face, laid into the plane of the vertex's normal,
made unit there and weighted by the angle of the corner in that plane. An implementation of the rule in NumPy, not the
authors' library: vertices of faces with mirrored texture coordinates are split, those of other corners are not merged.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Float, Int

from mv3d.core.errors import InputError
from mv3d.render.mesh import Mesh, scattered, smooth_normals

Rows = Float[np.ndarray, "v 3"]


def vertex_tangents(
    vertices: Rows, faces: Int[np.ndarray, "f 3"], normals: Rows, uv: Float[np.ndarray, "v 2"]
) -> Float[np.ndarray, "v 4"]:
    """Unit tangents at right angles to the unit normals, and the sign w of bitangent = w · normal × tangent, which
    points to where v falls (up in the picture). uv: origin at the top left.

    A vertex whose faces have no extent in the texture gets any tangent of its plane.
    """
    orientation = uv_orientation(faces, uv)
    points, n = vertices[faces].astype(np.float64), normals[faces].astype(np.float64)
    edges, steps = _from_first(points), _from_first(uv[faces].astype(np.float64))
    along = edges[0] * steps[1][:, 1:] - edges[1] * steps[0][:, 1:]
    along = _unit(along * np.where(orientation < 0, 1.0, -1.0)[:, None])  # by the sign of the texture's area
    laid = _unit(_in_plane(np.repeat(along[:, None], 3, 1), n))
    ahead, back = np.roll(points, -1, 1) - points, np.roll(points, 1, 1) - points
    cosine = (_unit(_in_plane(ahead, n)) * _unit(_in_plane(back, n))).sum(-1)
    angle = np.where(orientation[:, None] == 0, 0.0, np.arccos(np.clip(cosine, -1, 1)))
    tangent = scattered(angle[..., None] * laid, faces, len(vertices))
    hand = scattered(angle[..., None] * orientation[:, None, None], faces, len(vertices))
    length = np.linalg.norm(tangent, axis=1, keepdims=True)
    up = normals.astype(np.float64)
    spare = _unit(np.cross(np.where(np.abs(up[:, 2:]) < 0.9, [[0, 0, 1.0]], [[1.0, 0, 0]]), up))
    tangent = np.where(length > 1e-12, tangent / np.maximum(length, 1e-12), spare)
    return np.concatenate([tangent, np.where(hand < 0, -1.0, 1.0)], 1).astype(np.float32)


def uv_orientation(faces: Int[np.ndarray, "f 3"], uv: Float[np.ndarray, "v 2"]) -> Float[np.ndarray, " f"]:
    """1 where the texture lies on the outside of a face as it is in the picture, -1 where it is mirrored, 0 where the
    face has no extent in it."""
    first, second = _from_first(uv[faces].astype(np.float64))
    return np.sign(first[:, 1] * second[:, 0] - first[:, 0] * second[:, 1])  # v grows downwards


def with_tangents(mesh: Mesh) -> Mesh:
    """The mesh with normals and tangents. A vertex of faces that are mirrored in the texture and of others is split.

    Raises InputError for a mesh without texture coordinates.
    """
    uv = mesh.uv
    if uv is None:
        raise InputError("tangents: expected a mesh with texture coordinates, got none")
    if mesh.normals is None:
        mesh = replace(mesh, normals=smooth_normals(mesh.vertices, mesh.faces))
    mirrored = uv_orientation(mesh.faces, uv) < 0
    mirrored[: 2 * mesh.quads] = np.repeat(mirrored[: 2 * mesh.quads : 2], 2)  # a quad stays whole
    both = np.intersect1d(mesh.faces[mirrored], mesh.faces[~mirrored])
    if len(both):
        number = np.arange(len(mesh.vertices), dtype=np.int32)
        number[both] = len(number) + np.arange(len(both), dtype=np.int32)
        faces = np.where(mirrored[:, None], number[mesh.faces], mesh.faces)
        rows = np.concatenate([np.arange(len(mesh.vertices)), both])
        mesh = replace(mesh.with_vertices(rows), faces=faces)
    assert mesh.uv is not None and mesh.normals is not None
    return replace(mesh, tangents=vertex_tangents(mesh.vertices, mesh.faces, mesh.normals, mesh.uv))


def _from_first(
    corners: Float[np.ndarray, "f 3 c"],
) -> tuple[Float[np.ndarray, "f c"], Float[np.ndarray, "f c"]]:
    """From the first corner to the second and to the third."""
    return corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]


def _in_plane(
    vectors: Float[np.ndarray, "*n 3"], normals: Float[np.ndarray, "*n 3"]
) -> Float[np.ndarray, "*n 3"]:
    return vectors - (vectors * normals).sum(-1, keepdims=True) * normals


def _unit(vectors: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 3"]:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-30)
