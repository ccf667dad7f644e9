"""Surface samples, occupancy on a grid, and cameras around a mesh, for comparing meshes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float

from mv3d.core.errors import InputError
from mv3d.render.cameras import Cameras, Orbit
from mv3d.render.mesh import Mesh, face_normals, weld
from mv3d.render.raycast import Hits, RayScene
from mv3d.render.trajectories import fit_radius

OUTER_DIRECTIONS = 64
_MOST_CROSSINGS = 200


@dataclass(frozen=True, eq=False)
class Samples:
    """Samples of a surface.

    points: (n, 3) float64, world. normals: (n, 3) float64, unit, oriented by the winding of the faces. hits: the faces
    they lie on, as rays that ended there; None for samples that were merged.
    """

    points: Float[np.ndarray, "n 3"]
    normals: Float[np.ndarray, "n 3"]
    hits: Hits | None = None

    def __len__(self) -> int:
        return len(self.points)


def checked_mesh(mesh: Mesh, name: str) -> Mesh:
    """The mesh, if it has a surface. Raises InputError for one without faces or without area."""
    if not len(mesh.faces):
        raise InputError(f"{name}: expected a mesh with faces, got none")
    if not np.linalg.norm(face_normals(mesh.vertices, mesh.faces), axis=1).sum() > 0:
        raise InputError(f"{name}: expected a surface, got faces without area")
    return mesh


def largest_side(mesh: Mesh) -> float:
    """The largest side of the bounding box of the vertices that faces use."""
    used = mesh.vertices[np.unique(mesh.faces)]
    return float(np.ptp(used, axis=0).max())


def normalizing(mesh: Mesh, side: float = 1.0) -> Float[np.ndarray, "4 4"]:
    """The scale and shift that centre the bounding box at the origin and make its largest side `side`."""
    used = mesh.vertices[np.unique(mesh.faces)].astype(np.float64)
    low, high = used.min(0), used.max(0)
    if not (high - low).max() > 0:
        raise InputError("mesh: expected a surface, got all vertices at one place")
    scale = side / (high - low).max()
    matrix = np.diag([scale, scale, scale, 1.0])
    matrix[:3, 3] = -scale * (low + high) / 2
    return matrix


def moved(mesh: Mesh, matrix: Float[np.ndarray, "4 4"]) -> Mesh:
    """The mesh moved by a similarity. Stored normals are dropped: they follow from the faces."""
    vertices = mesh.vertices.astype(np.float64) @ matrix[:3, :3].T + matrix[:3, 3]
    return replace(mesh, vertices=vertices, normals=None)


def normalized(mesh: Mesh, side: float = 1.0) -> Mesh:
    """The mesh centred at the origin, with its largest side scaled to `side`."""
    return moved(mesh, normalizing(mesh, side))


def sample_surface(mesh: Mesh, count: int, rng: np.random.Generator, *, outer: bool = False) -> Samples:
    """`count` points, uniform by area.

    outer: sample only the surface that is visible from outside, from one of 64 directions; inner walls, which no view
    shows, are left out. Raises InputError if hardly any of the surface is visible.
    """
    checked_mesh(mesh, "mesh")
    area = face_normals(mesh.vertices, mesh.faces)
    size = np.linalg.norm(area, axis=1)
    share = size / size.sum()
    scene = RayScene(mesh.vertices, mesh.faces) if outer else None
    lift = 2e-3 * largest_side(mesh)
    points: list[np.ndarray] = []
    faces: list[np.ndarray] = []
    corners: list[np.ndarray] = []
    for _ in range(16):
        face = rng.choice(len(mesh.faces), count, p=share)
        cuts = np.sort(rng.random((count, 2)), axis=1)
        weights = np.stack([cuts[:, 0], cuts[:, 1] - cuts[:, 0], 1 - cuts[:, 1]], 1)
        found = (mesh.vertices[mesh.faces[face]].astype(np.float64) * weights[:, :, None]).sum(1)
        if scene is not None:
            seen = visible_from_outside(scene, found, lift)
            found, face, weights = found[seen], face[seen], weights[seen]
        points.append(found)
        faces.append(face)
        corners.append(weights)
        if sum(map(len, points)) >= count:
            chosen = np.concatenate(faces)[:count]
            u, v = np.concatenate(corners)[:count, 1:].astype(np.float32).T
            hits = Hits(chosen, u, v, np.zeros(count, np.float32), np.zeros(count, bool))
            return Samples(np.concatenate(points)[:count], area[chosen] / size[chosen, None], hits)
    raise InputError("mesh: hardly any of its surface can be seen from outside")


def visible_from_outside(
    scene: RayScene, points: Float[np.ndarray, "n 3"], lift: float
) -> Bool[np.ndarray, " n"]:
    """True for points from which a ray in one of 64 directions is free. lift: offset of a ray's start from the surface."""
    seen = np.zeros(len(points), bool)
    for direction in fibonacci_sphere(OUTER_DIRECTIONS):
        left = np.flatnonzero(~seen)
        if not len(left):
            break
        rays = np.tile(direction, (len(left), 1))
        seen[left] = ~scene.blocked(points[left] + lift * direction, rays)
    return seen


def fibonacci_sphere(count: int) -> Float[np.ndarray, "n 3"]:
    """Unit vectors, evenly spread."""
    index = np.arange(count) + 0.5
    polar, azimuth = np.arccos(1 - 2 * index / count), np.pi * (1 + 5**0.5) * index
    return np.stack([np.cos(azimuth) * np.sin(polar), np.sin(azimuth) * np.sin(polar), np.cos(polar)], 1)


def nearly_closed(mesh: Mesh) -> bool:
    """True if at least 99.9 % of the edges have two faces, so that ray parity defines an inside."""
    _, faces = weld(mesh.vertices, mesh.faces)
    edges = np.sort(faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
    _, uses = np.unique(edges, axis=0, return_counts=True)
    return bool((uses == 2).mean() > 0.999)


def occupancy(
    mesh: Mesh, low: Float[np.ndarray, " 3"], spacing: float, shape: tuple[int, int, int]
) -> Bool[np.ndarray, "x y z"]:
    """True for samples low + spacing·(i + ½) inside the mesh: an odd number of crossings on the way to them.

    Along each axis one ray serves a whole row of samples; the majority of the three axes decides, so that a ray that
    runs along an edge does no harm.
    """
    scene = RayScene(mesh.vertices, mesh.faces)
    votes = np.zeros(shape, np.int8)
    axes = [low[k] + spacing * (np.arange(shape[k]) + 0.5) for k in range(3)]
    used = mesh.vertices[np.unique(mesh.faces)].astype(np.float64)
    for axis in range(3):
        a, b = (axis + 1) % 3, (axis + 2) % 3
        grid_a, grid_b = np.meshgrid(axes[a], axes[b], indexing="ij")
        origins = np.zeros((grid_a.size, 3))
        origins[:, a], origins[:, b] = grid_a.ravel(), grid_b.ravel()
        origins[:, axis] = min(float(used[:, axis].min()), float(axes[axis][0])) - spacing
        inside = _inside_rows(scene, origins, axis, axes[axis], 1e-3 * spacing)
        block = inside.reshape(shape[a], shape[b], shape[axis])
        votes += np.moveaxis(block, (0, 1, 2), (a, b, axis))
    return votes >= 2


def _inside_rows(
    scene: RayScene,
    origins: Float[np.ndarray, "r 3"],
    axis: int,
    samples: Float[np.ndarray, " s"],
    step: float,
) -> Bool[np.ndarray, "r s"]:
    """Parity of the crossings before each sample, for parallel rays along +axis."""
    toggles = np.zeros((len(origins), len(samples) + 1), np.int32)
    direction = np.zeros(3)
    direction[axis] = 1
    active, start = np.arange(len(origins)), origins.copy()
    for _ in range(_MOST_CROSSINGS):
        hits = scene.first_hits(start[active], np.tile(direction, (len(active), 1)))
        hit = hits.face >= 0
        active = active[hit]
        if not len(active):
            break
        place = start[active, axis] + hits.distance[hit]
        np.add.at(toggles, (active, np.searchsorted(samples, place)), 1)
        start[active, axis] = place + step
    return np.cumsum(toggles, axis=1)[:, :-1] % 2 == 1


def fitting_cameras(
    mesh: Mesh,
    elevations_deg: Float[np.ndarray, " n"],
    azimuths_deg: Float[np.ndarray, " n"],
    size: int,
    *,
    margin: float = 0.03,
) -> tuple[Cameras, float]:
    """Cameras at the least distance that keeps `margin` of the frame free at its border, and that distance.

    The distance grows from 1.5 of the mesh's largest side in steps of a twentieth. The mesh should be centred. Raises
    InputError for a mesh that fits at no distance up to 6 sides.
    """
    side = largest_side(mesh)
    orbit = Orbit(tuple(elevations_deg.tolist()), tuple(azimuths_deg.tolist()))
    least = fit_radius(mesh.vertices[np.unique(mesh.faces)], orbit, margin=2 * margin)
    radii = np.arange(1.5, 6.0, 0.05) * side
    if not (radii > least).any():
        raise InputError(
            f"mesh: does not fit into the views of any camera up to {6 * side:g} away; centre it first"
        )
    radius = float(radii[radii > least][0])
    return replace(orbit, radius=radius).cameras(size, size), radius
