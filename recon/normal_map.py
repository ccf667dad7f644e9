"""The relief of a finer mesh as a tangent-space normal map of a coarser one."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from mv3d.core.errors import InputError
from mv3d.recon.arrays import Faces, Vertices
from mv3d.recon.texture import padded, texel_map
from mv3d.render.mesh import Mesh, smooth_normals, unit_vectors
from mv3d.render.raycast import RayScene
from mv3d.render.tangents import with_tangents

_LEAST_COSINE = 0.3  # between the two meshes' normals: what is turned farther is another side of the object


@dataclass(frozen=True, eq=False)
class BakedNormals:
    """mesh: with tangents and a normal map. found: share of the texels for which the finer mesh was found.
    bend_deg: mean angle between the two meshes' normals there, degrees."""

    mesh: Mesh
    found: float
    bend_deg: float


def bake_normal_map(mesh: Mesh, vertices: Vertices, faces: Faces, *, size: int, reach: float) -> BakedNormals:
    """Normals of a finer mesh (vertices, faces) on the texture of `mesh`, whose texture coordinates do not overlap.

    From each texel's point the nearest place of the finer mesh along the normal, either way and at most `reach` away
    (world units), gives its smooth normal; elsewhere the map is flat. The map is that of glTF 2.0: row 0 at the top,
    x along the tangent, y up in the picture, 0..1 for -1..1. Raises InputError for a mesh without texture coordinates.
    """
    if mesh.uv is None:
        raise InputError("normal map: expected a mesh with texture coordinates, got none")
    mesh = with_tangents(mesh)
    assert mesh.uv is not None and mesh.normals is not None and mesh.tangents is not None
    mask, face, bary = texel_map(mesh.uv, mesh.faces, size)
    corners, weights = mesh.faces[face], bary[:, :, None]
    point, normal, tangent = (
        (rows[corners] * weights).sum(1) for rows in (mesh.vertices, mesh.normals, mesh.tangents)
    )
    normal = unit_vectors(normal, least=1e-9)
    wanted, found = _nearest_normals(vertices, faces, point, normal, reach)
    along = tangent[:, :3]
    along = unit_vectors(along - (along * normal).sum(1, keepdims=True) * normal, least=1e-9)
    up = np.where(tangent[:, 3:] < 0, -1, 1) * np.cross(normal, along)
    bent = np.stack([(wanted * axis).sum(1) for axis in (along, up, normal)], 1)
    bent[~found] = [0, 0, 1]
    page = padded(mask, (bent + 1) / 2, size, elsewhere=(0.5, 0.5, 1.0))
    bend = np.degrees(np.arccos(np.clip(bent[found, 2], -1, 1)))
    return BakedNormals(
        replace(mesh, normal_map=page),
        float(found.mean()) if len(found) else 0.0,
        float(bend.mean()) if len(bend) else 0.0,
    )


def _nearest_normals(
    vertices: Vertices,
    faces: Faces,
    point: Float[np.ndarray, "t 3"],
    normal: Float[np.ndarray, "t 3"],
    reach: float,
) -> tuple[Float[np.ndarray, "t 3"], np.ndarray]:
    """Smooth normals of the mesh at its nearest places along ±`normal`, and where there are any."""
    scene, smooth = RayScene(vertices, faces), smooth_normals(vertices, faces)
    # Backed off a little, so that surfaces that coincide are hit from either side.
    back = 1e-3 * reach
    nearest, answer = np.full(len(point), reach), np.zeros_like(normal)
    for sign in (1.0, -1.0):
        direction = sign * normal
        hits = scene.first_hits(point - back * direction, direction)
        distance = np.abs(hits.distance - back)
        hit = np.flatnonzero((hits.face >= 0) & (distance < nearest))
        at = (smooth[faces[hits.face[hit]]] * hits.bary[hit][:, :, None]).sum(1)
        at = unit_vectors(at, least=1e-9)
        alike = (at * normal[hit]).sum(1) > _LEAST_COSINE
        answer[hit[alike]], nearest[hit[alike]] = at[alike], distance[hit[alike]]
    return answer, nearest < reach
