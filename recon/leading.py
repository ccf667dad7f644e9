"""A solid that is known beforehand leads the reconstruction: what it has dug out of the hull is taken over."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.spatial import KDTree

from mv3d.recon.arrays import Volume
from mv3d.recon.hull import Hull
from mv3d.recon.tighten import carve
from mv3d.render.mesh import Mesh, face_normals
from mv3d.render.raycast import RayScene, render_views
from mv3d.views.grid import Grid
from mv3d.views.metrics import mask_iou
from mv3d.views.morphology import distance_to_false
from mv3d.views.silhouettes import Silhouettes

LEAST_IOU = 0.95
"""Mean silhouette IoU from which on views are taken for those of the solid. Its own renders reach 0.98 or more."""
_MOST_CROSSINGS = 64
_SAMPLES = 300_000
_NEAR = 2.5  # spacings: farther from the surface whole spacings are enough


def follow(silhouettes: Silhouettes, hull: Hull, solid: Mesh) -> Hull | None:
    """The hull less what lies outside of `solid`, with its silhouettes kept; None where the views are not the solid's.

    No least area is needed then: the solid decides what the views leave open, cones above and below, hollows and gaps.
    """
    seen = render_views(solid, silhouettes.cameras)[..., 3]
    ious = [mask_iou(a, b) for a, b in zip(silhouettes.alphas, seen, strict=True)]
    if float(np.mean(ious)) < LEAST_IOU:
        return None
    return carve(silhouettes, hull, signed_distance(solid, hull.grid).to(hull.sdf.device), hull.grid)


def signed_distance(mesh: Mesh, grid: Grid) -> Volume:
    """The distance of a grid's samples from a closed mesh, negative inside, in world units."""
    inside = inside_of(mesh, grid)
    distance = np.where(inside, 0.5 - distance_to_false(inside), distance_to_false(~inside) - 0.5)
    near = np.abs(distance) < _NEAR
    distance = distance * grid.spacing
    points = np.stack(np.nonzero(near), 1) * grid.spacing + np.array(grid.origin)
    found = KDTree(_on_surface(mesh)).query(points)[0]
    distance[near] = np.where(inside[near], -found, found)
    return torch.tensor(distance, dtype=torch.float32)


def inside_of(mesh: Mesh, grid: Grid) -> Bool[np.ndarray, "x y z"]:
    """Which samples lie in a closed mesh: along x, every entry opens it and every exit closes it."""
    scene, (nx, ny, nz) = RayScene(mesh.vertices, mesh.faces), grid.shape
    # Beside the samples by next to nothing, so that no ray runs along an edge of faces that lie on the grid.
    y = grid.origin[1] + grid.spacing * (np.arange(ny) + 1.0e-3)
    z = grid.origin[2] + grid.spacing * (np.arange(nz) + 1.3e-3)
    y, z = np.meshgrid(y, z, indexing="ij")
    origins = np.stack([np.full(y.size, grid.origin[0] - grid.spacing), y.ravel(), z.ravel()], 1)
    directions = np.tile([1.0, 0.0, 0.0], (y.size, 1))
    change, rays = np.zeros((y.size, nx + 1), np.int32), np.arange(y.size)
    for _ in range(_MOST_CROSSINGS):
        hits = scene.first_hits(origins[rays], directions[rays])
        hit = hits.face >= 0
        rays = rays[hit]
        if not len(rays):
            break
        x = origins[rays, 0] + hits.distance[hit]
        first = np.clip(np.ceil((x - grid.origin[0]) / grid.spacing), 0, nx).astype(int)
        np.add.at(change, (rays, first), np.where(hits.back[hit], -1, 1))
        origins[rays, 0] = x + 1e-4 * grid.spacing
    return (np.cumsum(change, 1)[:, :nx] > 0).reshape(ny, nz, nx).transpose(2, 0, 1)


def _on_surface(mesh: Mesh) -> Float[np.ndarray, "s 3"]:
    """Points spread evenly over the faces."""
    rng = np.random.default_rng(0)
    area = np.linalg.norm(face_normals(mesh.vertices, mesh.faces), axis=1)
    face = rng.choice(len(area), _SAMPLES, p=area / area.sum())
    weights = rng.dirichlet((1.0, 1.0, 1.0), _SAMPLES)
    return (mesh.vertices[mesh.faces[face]].astype(np.float64) * weights[:, :, None]).sum(1)
