"""Gaussians of a textured mesh in closed form: the moments of clusters of surface samples."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial import KDTree

from mv3d.recon.splats.cloud import Splats, quaternion_from_matrix
from mv3d.render.mesh import Mesh, face_normals
from mv3d.render.raycast import Hits, mesh_colors

_SAMPLES = 6  # of a Gaussian
_SPREAD = (
    2.3  # standard deviation of a Gaussian in those of its cluster, which closes the gaps between neighbours
)
_OPACITY = 0.98
_LONGEST = 2.5  # ratio of the two scales in the surface
_FLAT = (0.1, 0.4)  # thickness in scales of the surface


def splats_of_mesh(mesh: Mesh, count: int, *, seed: int = 0) -> Splats:
    """About `count` flat Gaussians that cover the surface of a mesh evenly.

    Samples of equal area are grouped around `count` of them by place and normal (Lloyd's iteration), so that the two
    sides of a thin wall stay apart. Each group's moments are a Gaussian: its mean on the surface, its covariance along
    the surface widened to meet its neighbours', thin along the normal; its colour is the texture's mean there.
    The third axis of the rotation is the normal.
    """
    rng = np.random.default_rng(seed)
    places, normals, colors = _samples(mesh, _SAMPLES * count, rng)
    area = 0.5 * np.linalg.norm(face_normals(mesh.vertices, mesh.faces), axis=1).sum()
    spacing = np.sqrt(area / count)
    features = np.concatenate([places, normals * spacing], 1)
    group = _clusters(features, rng.permutation(len(features))[:count])
    size = np.bincount(group, minlength=count)
    used = np.flatnonzero(size)
    mean, normal, color = (_group_mean(values, group, size)[used] for values in (places, normals, colors))
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-9)
    away = places - _group_mean(places, group, size)[group]
    products = (away[:, :, None] * away[:, None, :]).reshape(-1, 9)
    covariance = _group_mean(products, group, size)[used].reshape(-1, 3, 3)
    axes, scales = _flat_axes(covariance, normal, spacing)
    opacities = np.full(len(mean), _OPACITY)
    return Splats(mean, scales, quaternion_from_matrix(axes), opacities, np.clip(color, 0, 1))


def _samples(
    mesh: Mesh, count: int, rng: np.random.Generator
) -> tuple[Float[np.ndarray, "s 3"], Float[np.ndarray, "s 3"], Float[np.ndarray, "s 3"]]:
    """Places, unit normals and sRGB colours of samples of equal area, one at each of as many stretches of it."""
    normals = face_normals(mesh.vertices, mesh.faces)
    twice_area = np.linalg.norm(normals, axis=1)
    ends = np.cumsum(twice_area)
    at = (np.arange(count) + rng.random(count)) * (ends[-1] / count)
    face = np.minimum(np.searchsorted(ends, at, side="right"), len(ends) - 1).astype(np.int32)
    # Uniform in a triangle: a uniform point of the square, folded (Turk 1990).
    u, v = rng.random((2, count)).astype(np.float32)
    fold = u + v > 1
    u, v = np.where(fold, 1 - u, u), np.where(fold, 1 - v, v)
    hits = Hits(face, u, v, np.zeros(count, np.float32), np.zeros(count, bool))
    places = (mesh.triangles[face].astype(np.float64) * hits.bary[:, :, None]).sum(1)
    colors = mesh_colors(mesh, hits, np.ones(count, bool))
    return places, normals[face] / np.maximum(twice_area[face], 1e-30)[:, None], colors


def _clusters(
    features: Float[np.ndarray, "s d"], seeds: Int[np.ndarray, " k"], *, rounds: int = 3
) -> Int[np.ndarray, " s"]:
    """The nearest centre of each sample after some rounds of Lloyd's iteration."""
    centers = features[seeds]
    group = _nearest(centers, features)
    for _ in range(rounds - 1):
        size = np.bincount(group, minlength=len(centers))
        centers = np.where(size[:, None] > 0, _group_mean(features, group, size), centers)
        group = _nearest(centers, features)
    return group


def _nearest(centers: Float[np.ndarray, "k d"], features: Float[np.ndarray, "s d"]) -> Int[np.ndarray, " s"]:
    return np.asarray(KDTree(centers, balanced_tree=False, compact_nodes=False).query(features)[1])


def _group_mean(
    values: Float[np.ndarray, "s d"], group: Int[np.ndarray, " s"], size: Int[np.ndarray, " k"]
) -> Float[np.ndarray, "k d"]:
    sums = np.stack([np.bincount(group, column, len(size)) for column in values.T], 1)
    return sums / np.maximum(size, 1)[:, None]


def _flat_axes(
    covariance: Float[np.ndarray, "n 3 3"], normal: Float[np.ndarray, "n 3"], spacing: float
) -> tuple[Float[np.ndarray, "n 3 3"], Float[np.ndarray, "n 3"]]:
    """Rotations, whose columns are two axes along the surface and the normal, and standard deviations along them."""
    helper = np.eye(3)[np.abs(normal).argmin(1)]
    first = np.cross(helper, normal)
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    plane = np.stack([first, np.cross(normal, first)], 2)
    inside = np.swapaxes(plane, 1, 2) @ covariance @ plane
    variances, turn = np.linalg.eigh(inside)
    turn[:, :, 1] *= np.sign(np.linalg.det(turn))[:, None]  # no mirror, or the normal would point inward
    along = plane @ turn
    axes = np.concatenate([along, normal[..., None]], 2)
    # A group of one or two samples says little of its size; a disc of the mean area has a deviation of 0.28 spacings.
    wide = _SPREAD * np.clip(np.sqrt(np.maximum(variances, 0)), 0.17 * spacing, 0.45 * spacing)
    wide = np.maximum(wide, wide.max(1, keepdims=True) / _LONGEST)
    through = np.sqrt(np.maximum(np.einsum("ni,nij,nj->n", normal, covariance, normal), 0))
    least = wide.min(1)
    thin = np.clip(through, _FLAT[0] * least, _FLAT[1] * least)
    return axes, np.concatenate([wide, thin[:, None]], 1)
