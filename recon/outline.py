"""Silhouette refinement, the last step of the shape: outlines amid the views' silhouettes.

An intersection of silhouettes that vary from view to view is too small, for the smallest one wins at every
place. Here the distance of every vertex on a view's outline to that view's silhouette is its target offset, and the
surface moves along its normals to the mean of these, smoothly in between. Where the views agree nothing moves.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy import sparse
from scipy.sparse.linalg import cg

from mv3d.recon.arrays import Faces, PerVertex, Vertices
from mv3d.render.mesh import face_normals, vertex_normals
from mv3d.render.raycast import RayScene, sample_bilinear
from mv3d.render.topology import vertex_links
from mv3d.views.silhouettes import Silhouettes, silhouette_distance


@dataclass(frozen=True)
class OutlineConfig:
    """Numbers of the refinement, tuned on the orbits and objects of benchmarks/recon.py. Lengths are shares of the
    image's width."""

    rounds: int = 3
    farthest: float = 0.014
    """A silhouette farther away than this belongs to something else, or is wrong: it is not followed."""
    own: float = 0.006  # A vertex this near to the border of the mesh's own mask is on the outline
    stiffness: float = 1.0  # weight of smoothness along an edge of the mesh, against one view's target offset
    inward: float = 3.0
    """How much more a view counts that asks for a smaller outline: matter over background shows more than
    background over matter."""
    damping: float = 0.8


def fit_outlines(
    vertices: Vertices, faces: Faces, silhouettes: Silhouettes, config: OutlineConfig | None = None
) -> Vertices:
    """Vertices moved along their normals so that the mesh's outlines lie amid the views' silhouettes.

    Faces and topology stay; a vertex whose faces would turn over stays where it was.
    """
    config = config or OutlineConfig()
    links = vertex_links(len(vertices), faces)
    links.data[:] = 1.0  # an edge is an edge, however many faces share it
    for _ in range(config.rounds):
        target, weight = _target_offsets(vertices, faces, silhouettes, config)
        offset = config.damping * _spread(target, weight, links, config.stiffness)
        vertices = _moved(vertices, faces, offset)
    return vertices


def _target_offsets(
    vertices: Vertices, faces: Faces, silhouettes: Silhouettes, config: OutlineConfig
) -> tuple[PerVertex, PerVertex]:
    """Per vertex the weighted sum over the views of its distance to the silhouette (world units, outward positive),
    and the sum of the weights; 0 where it is on no outline."""
    cameras = silhouettes.cameras
    scene = RayScene(vertices, faces)
    normals = face_normals(vertices, faces)
    target, weight = np.zeros(len(vertices)), np.zeros(len(vertices))
    size = min(cameras.width, 320)
    small = cameras.resized(size, max(2, round(cameras.height * size / cameras.width)))
    for view, distance in enumerate(silhouettes.distances):
        hits = scene.first_hits(*small.rays(view))
        mask = (hits.face >= 0).reshape(small.height, small.width)
        if not mask.any() or mask.all():
            continue
        rim = np.flatnonzero(_on_rim(vertices, faces, normals, cameras.centers[view]))
        xy, depth = cameras.project(vertices[rim].astype(np.float64), view)
        own_edge = silhouette_distance(mask.astype(np.float32))[..., None]
        own = sample_bilinear(own_edge, xy * (size / cameras.width))[:, 0]
        given = sample_bilinear(distance[..., None], xy)[:, 0]
        used = ((xy > 1) & (xy < [cameras.width - 1, cameras.height - 1])).all(1) & (depth > 0)
        used &= (np.abs(own) < config.own * size) & (np.abs(given) < config.farthest * cameras.width)
        offset = given - own * (cameras.width / size)
        share = np.where(offset < 0, config.inward, 1.0)[used]
        target[rim[used]] += share * offset[used] * depth[used] / cameras.fl_x[view]
        weight[rim[used]] += share
    return target, weight


def _on_rim(
    vertices: Vertices, faces: Faces, normals: Float[np.ndarray, "f 3"], center: Float[np.ndarray, " 3"]
) -> Bool[np.ndarray, " v"]:
    """Vertices with a face toward the camera and a face away from it."""
    toward = ((center - vertices[faces[:, 0]]) * normals).sum(1) > 0
    front, back = np.zeros(len(vertices), bool), np.zeros(len(vertices), bool)
    front[faces[toward].ravel()] = True
    back[faces[~toward].ravel()] = True
    return front & back


def _spread(target: PerVertex, weight: PerVertex, links: sparse.csr_matrix, stiffness: float) -> PerVertex:
    """The offset o of least Σ weight·(o − target/weight)² + stiffness·Σ_edges (o_i − o_j)²."""
    degree = np.asarray(links.sum(1)).ravel()
    # The tiny last term keeps a shell without any outline vertex solvable: it stays.
    system = sparse.diags(weight + stiffness * degree + 1e-4) - stiffness * links
    return cg(system, target, rtol=1e-4, maxiter=500)[0]


def _moved(vertices: Vertices, faces: Faces, offset: PerVertex) -> Vertices:
    before = face_normals(vertices, faces)
    normals = vertex_normals(vertices, faces)
    still = np.zeros(len(vertices), bool)
    for _ in range(8):
        moved = (vertices + np.where(still, 0, offset)[:, None] * normals).astype(np.float32)
        after = face_normals(moved, faces)
        # Turned over, or shrunk to a sliver.
        bad = (before * after).sum(1) <= 0.05 * (before * before).sum(1)
        bad &= ~still[faces].all(1)
        if not bad.any():
            return moved
        still[faces[bad].ravel()] = True
    return vertices
