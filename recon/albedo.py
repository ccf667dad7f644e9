"""Light taken out of a texture: low-order spherical harmonics, fitted with the mesh's normals.

A diffuse surface in far light shows albedo times irradiance, and irradiance is nearly a quadratic polynomial of the
normal: nine spherical harmonics (Ramamoorthi and Hanrahan, An Efficient Representation for Irradiance Environment Maps,
SIGGRAPH 2001). Two places of the same albedo a and b satisfy I_a E(n_b) = I_b E(n_a), which is linear in the harmonics'
coefficients. Pairs of like chromaticity are taken to have the same albedo, unless they disagree (robust weights). Light
is white, its mean over the surface is kept, shadows and light between surfaces are not modelled.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from mv3d.core.colors import linear_from_srgb, srgb_from_linear
from mv3d.core.errors import InputError
from mv3d.recon.arrays import Faces, Vertices
from mv3d.recon.texture import padded, texel_map
from mv3d.render.mesh import Mesh, corner_angles, face_normals, unit_vectors
from mv3d.render.raycast import sample_bilinear


@dataclass(frozen=True)
class AlbedoConfig:
    """Numbers of the fit. Light is a share of its mean."""

    crease_deg: float = 40.0  # faces that meet at a larger angle do not share normals
    far_pairs: int = 6  # pairs with faces anywhere, a face; neighbours come on top
    alike: float = 0.04  # chromaticities so far apart count 0.6 of equal ones
    far_weight: float = 0.3
    """Weight of a far pair: two greys far apart may well be of different paint, neighbours hardly ever."""
    tolerance: float = 0.08  # relative difference at which a pair has half its weight (Cauchy)
    rounds: int = 8  # reweightings
    ridge: float = 2e-3  # pull of the coefficients toward even light, per pair's weight
    least: float = 0.25  # light is not taken as darker than this


@dataclass(frozen=True, eq=False)
class Delit:
    """mesh: with the albedo as texture. coefficients: (9,) of the light, the first is 1. contrast: ratio of the light's
    95 % to its 5 % quantile over the surface."""

    mesh: Mesh
    coefficients: Float[np.ndarray, " 9"]
    contrast: float


def harmonics(normals: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 9"]:
    """Real spherical harmonics up to degree 2 of unit vectors, each divided by the first, which is 1."""
    x, y, z = np.moveaxis(normals.astype(np.float64), -1, 0)
    root = np.sqrt
    return np.stack(
        [
            np.ones_like(x),
            *(root(3) * axis for axis in (y, z, x)),
            *(root(15) * pair for pair in (x * y, y * z, x * z)),
            root(5) / 2 * (3 * z * z - 1),
            root(15) / 2 * (x * x - y * y),
        ],
        -1,
    )


def crease_normals(vertices: Vertices, faces: Faces, crease_deg: float) -> Float[np.ndarray, "f 3 3"]:
    """Unit normals at the faces' corners: the angle-weighted mean over the vertex's faces that are turned from this one
    by less than `crease_deg`."""
    flat = unit_vectors(face_normals(vertices, faces), least=1e-30)
    angle = corner_angles(vertices, faces).reshape(-1)
    vertex = faces.reshape(-1)
    order = np.argsort(vertex, kind="stable")
    start = np.searchsorted(vertex[order], np.arange(len(vertices) + 1))
    uses = np.diff(start)[vertex]
    corner = np.repeat(np.arange(len(vertex)), uses)
    offset = np.arange(len(corner)) - np.repeat(np.cumsum(uses) - uses, uses)
    other = order[start[vertex[corner]] + offset]
    near = (flat[corner // 3] * flat[other // 3]).sum(1) > np.cos(np.radians(crease_deg))
    weighted = np.where(near, angle[other], 0)[:, None] * flat[other // 3]
    sums = np.stack([np.bincount(corner, column, len(vertex)) for column in weighted.T], 1)
    return unit_vectors(sums, least=1e-20).reshape(-1, 3, 3)


def without_light(mesh: Mesh, config: AlbedoConfig | None = None, *, seed: int = 0) -> Delit:
    """The mesh with its texture divided by the light that fits it best. Raises InputError for one without a texture."""
    config = config or AlbedoConfig()
    if mesh.texture is None or mesh.uv is None:
        raise InputError("albedo: expected a mesh with a texture, got none")
    welded, inverse = np.unique(mesh.vertices, axis=0, return_inverse=True)
    faces = inverse.reshape(-1)[mesh.faces]
    normals = crease_normals(welded, faces, config.crease_deg)
    size = mesh.texture.shape[0]
    middle = mesh.uv[mesh.faces].mean(1) * size
    color = linear_from_srgb(sample_bilinear(mesh.texture, middle) / 255).astype(np.float64)
    area = np.linalg.norm(face_normals(welded, faces), axis=1)
    basis = harmonics(unit_vectors(normals.mean(1), least=1e-9))
    light = fitted_light(color, basis, area, _pairs(faces, len(welded), config, seed), config)
    mean = float((area * (basis @ light)).sum() / area.sum())
    at_corners = np.clip(harmonics(normals) @ light / mean, config.least, None)
    mask, face, bary = texel_map(mesh.uv, mesh.faces, size)
    shade = (at_corners[face] * bary).sum(1)
    albedo = linear_from_srgb(mesh.texture[mask] / 255) / shade[:, None]
    page = padded(mask, srgb_from_linear(np.clip(albedo, 0, 1)), size)
    low, high = np.quantile(shade, [0.05, 0.95])
    return Delit(replace(mesh, texture=page), light / mean, float(high / low))


def fitted_light(
    color: Float[np.ndarray, "f 3"],
    basis: Float[np.ndarray, "f 9"],
    area: Float[np.ndarray, " f"],
    pairs: tuple[np.ndarray, np.ndarray, np.ndarray],
    config: AlbedoConfig,
) -> Float[np.ndarray, " 9"]:
    """Coefficients of the light, the first 1. color: linear. pairs: two lists of faces, and their weights."""
    first, second, weight = pairs
    bright = color.mean(1)
    hue = color / np.maximum(color.sum(1, keepdims=True), 1e-3)
    apart = ((hue[first] - hue[second]) ** 2).sum(1)
    weight = weight * np.sqrt(area[first] * area[second]) * np.exp(-apart / (2 * config.alike**2))
    weight = weight * (np.minimum(bright[first], bright[second]) > 0.01)
    # Relative: divided by the brighter of the two, so that dark paint counts as bright paint does.
    scale = np.maximum(np.maximum(bright[first], bright[second]), 1e-3)
    rows = (bright[first, None] * basis[second] - bright[second, None] * basis[first]) / scale[:, None]
    light, robust = np.eye(9)[0], weight
    for _ in range(config.rounds):
        matrix = rows[:, 1:].T @ (robust[:, None] * rows[:, 1:])
        matrix += config.ridge * robust.sum() * np.eye(8)
        light = np.concatenate([[1.0], np.linalg.solve(matrix, -rows[:, 1:].T @ (robust * rows[:, 0]))])
        robust = weight / (1 + (rows @ light / config.tolerance) ** 2)
    return light


def _pairs(
    faces: Faces, vertices: int, config: AlbedoConfig, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Faces with a common edge, and faces anywhere."""
    ends = np.sort(np.stack([faces, np.roll(faces, -1, 1)], -1).reshape(-1, 2), 1).astype(np.int64)
    code = ends @ [vertices, 1]
    order = np.argsort(code, kind="stable")
    same = np.flatnonzero(code[order[1:]] == code[order[:-1]])
    near = order[same] // 3, order[same + 1] // 3
    rng = np.random.default_rng(seed)
    one, other = rng.integers(0, len(faces), (2, config.far_pairs * len(faces)))
    weight = np.concatenate([np.ones(len(same)), np.full(len(one), config.far_weight)])
    return np.concatenate([near[0], one]), np.concatenate([near[1], other]), weight
