"""What a mesh is made of: shells, closedness, winding. Judged on welded vertices, as UV seams split them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from mv3d.render.mesh import Mesh, face_normals, weld


@dataclass(frozen=True)
class MeshReport:
    """watertight: every edge has exactly two faces of opposite direction. shells: connected components.
    volume: enclosed, world units³, positive for outward winding. degenerate, duplicate: faces."""

    faces: int
    vertices: int
    watertight: bool
    shells: int
    volume: float
    degenerate: int
    duplicate: int


def inspect_mesh(mesh: Mesh) -> MeshReport:
    """Count what can be wrong with a mesh."""
    vertices, faces = weld(mesh.vertices, mesh.faces)
    proper = (faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])
    area = np.linalg.norm(face_normals(vertices, faces), axis=1)
    unique = np.unique(np.sort(faces, axis=1), axis=0)
    return MeshReport(
        faces=len(faces),
        vertices=len(vertices),
        watertight=is_closed(faces),
        shells=len(np.unique(vertex_components(len(vertices), faces)[faces[:, 0]])),
        volume=enclosed_volume(vertices, faces),
        degenerate=int((~proper | (area <= 0)).sum()),
        duplicate=len(faces) - len(unique),
    )


def enclosed_volume(vertices: Float[np.ndarray, "v 3"], faces: Int[np.ndarray, "f 3"]) -> float:
    """Of a closed mesh, world units³; positive for outward winding."""
    corners = vertices[faces].astype(np.float64)
    return float(np.einsum("fi,fi->", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])) / 6)


def is_closed(faces: Int[np.ndarray, "f 3"]) -> bool:
    """Whether every directed edge is met by exactly one opposite one: watertight, manifold edges, one winding."""
    if not len(faces):
        return False
    start, end = faces.reshape(-1).astype(np.int64), np.roll(faces, -1, axis=1).reshape(-1).astype(np.int64)
    count = int(faces.max()) + 1
    forward = np.sort(start * count + end)
    backward = np.sort(end * count + start)
    return bool((np.diff(forward) > 0).all() and np.array_equal(forward, backward))


def vertex_links(vertices: int, faces: Int[np.ndarray, "f 3"]) -> sparse.csr_matrix:
    """Symmetric (v, v): how many directed edges of faces join two vertices, in either direction; two on a closed
    mesh."""
    start, end = faces.reshape(-1), np.roll(faces, -1, axis=1).reshape(-1)
    one_way = sparse.coo_matrix((np.ones(len(start)), (start, end)), (vertices, vertices)).tocsr()
    return one_way + one_way.T


def vertex_components(vertices: int, faces: Int[np.ndarray, "f 3"]) -> Int[np.ndarray, " v"]:
    """The connected component of each vertex, numbered from 0 in the order of their first vertices."""
    ends = faces[:, [0, 1]].reshape(-1), faces[:, [1, 2]].reshape(-1)
    links = sparse.coo_matrix((np.ones(len(ends[0]), np.int8), ends), (vertices, vertices))
    return connected_components(links, directed=False)[1]
