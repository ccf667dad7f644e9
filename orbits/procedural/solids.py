"""Closed triangle surfaces with normals and texture coordinates, and how they are moved and bent.

Lengths are those of the object, about 1 in all; Z is up. Texture coordinates are lengths, too, from 0 up: a look
(`mv3d.orbits.procedural.looks`) says how long one repeat of its texture is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

Vector = Sequence[float]
Axis = Literal["x", "y", "z"]
Warp = Callable[[np.ndarray], np.ndarray]
"""(n, 3) points → (n, 3) points."""


@dataclass(frozen=True, eq=False)
class Solid:
    """A closed surface.

    vertices: (v, 3) float64, split where normals or texture coordinates jump. faces: (f, 3) int32, counter-clockwise
    seen from outside. normals: (v, 3) unit. uv: (v, 2) lengths, u to the right and v down in the picture.
    closes_u: the length after which u meets itself (a lathe's girth), 0 where it does not.
    """

    vertices: Float[np.ndarray, "v 3"]
    faces: Int[np.ndarray, "f 3"]
    normals: Float[np.ndarray, "v 3"]
    uv: Float[np.ndarray, "v 2"]
    closes_u: float = 0.0

    @property
    def low(self) -> Float[np.ndarray, " 3"]:
        return self.vertices.min(0)

    @property
    def high(self) -> Float[np.ndarray, " 3"]:
        return self.vertices.max(0)


def volume(solid: Solid) -> float:
    """Enclosed, positive for outward winding (divergence theorem)."""
    a, b, c = (solid.vertices[solid.faces[:, k]] for k in range(3))
    return float((a * np.cross(b, c)).sum() / 6)


def moved(solid: Solid, offset: Vector) -> Solid:
    return replace(solid, vertices=solid.vertices + np.asarray(offset, np.float64))


def turned(solid: Solid, axis: Axis, angle_deg: float) -> Solid:
    """Turned about an axis through the origin, counter-clockwise seen from its tip."""
    return _linear(solid, rotation(axis, angle_deg))


def rotation(axis: Axis, angle_deg: float) -> Float[np.ndarray, "3 3"]:
    """Matrix of the turn about x, y or z; columns are the turned axes."""
    angle = np.deg2rad(angle_deg)
    cos, sin = np.cos(angle), np.sin(angle)
    k = "xyz".index(axis)
    matrix = np.eye(3)
    i, j = (k + 1) % 3, (k + 2) % 3
    matrix[i, i] = matrix[j, j] = cos
    matrix[j, i], matrix[i, j] = sin, -sin
    return matrix


def scaled(solid: Solid, factors: Vector) -> Solid:
    """Stretched along x, y and z; a negative factor mirrors. Texture coordinates stay."""
    return _linear(solid, np.diag(np.asarray(factors, np.float64)))


def mirrored(solid: Solid, axis: Axis) -> Solid:
    factors = np.ones(3)
    factors["xyz".index(axis)] = -1
    return scaled(solid, factors.tolist())


def _linear(solid: Solid, matrix: Float[np.ndarray, "3 3"]) -> Solid:
    normals = solid.normals @ _cofactors(matrix[None])[0].T
    faces = solid.faces if np.linalg.det(matrix) > 0 else solid.faces[:, ::-1]
    # The cofactors are det · inverse transpose: a mirror would turn the normals inwards.
    normals = normals if np.linalg.det(matrix) > 0 else -normals
    return replace(solid, vertices=solid.vertices @ matrix.T, normals=_unit(normals), faces=faces)


def pointed(solid: Solid, start: Vector, end: Vector) -> Solid:
    """The solid's z axis laid along start → end, its origin at start; lengths stay."""
    direction = np.asarray(end, np.float64) - np.asarray(start, np.float64)
    z = direction / np.linalg.norm(direction)
    # What was x stays as near to the world's z as it can, so that planks do not twist.
    guide = np.array([1.0, 0, 0]) if abs(z[2]) > 0.9 else np.array([0, 0, 1.0])
    y = np.cross(z, guide)
    y /= np.linalg.norm(y)
    return moved(_linear(solid, np.stack([np.cross(y, z), y, z], 1)), start)


def warped(solid: Solid, warp: Warp) -> Solid:
    """Every point moved by a smooth map that keeps orientation; normals by the cofactors of its Jacobian."""
    step = 1e-5
    columns = [
        (warp(solid.vertices + offset) - warp(solid.vertices - offset)) / (2 * step)
        for offset in np.eye(3) * step
    ]
    normals = np.einsum("nij,nj->ni", _cofactors(np.stack(columns, 2)), solid.normals)
    return replace(solid, vertices=warp(solid.vertices), normals=_unit(normals))


def planar(solid: Solid, u: Axis, v: Axis) -> Solid:
    """Texture coordinates seen along one axis: for flat things whose u would run round a pole."""
    places = ["xyz".index(u), "xyz".index(v)]
    uv = solid.vertices[:, places]
    return replace(solid, uv=uv - uv.min(0), closes_u=0.0)


def joined(solids: Iterable[Solid]) -> Solid:
    """Several solids as one value; texture coordinates that close are kept only where all close alike."""
    solids = list(solids)
    starts = np.cumsum([0] + [len(solid.vertices) for solid in solids[:-1]])
    closes = {solid.closes_u for solid in solids}
    return Solid(
        np.concatenate([solid.vertices for solid in solids]),
        np.concatenate([solid.faces + start for solid, start in zip(solids, starts, strict=True)]),
        np.concatenate([solid.normals for solid in solids]),
        np.concatenate([solid.uv for solid in solids]),
        closes.pop() if len(closes) == 1 else 0.0,
    )


def subdivided(solid: Solid) -> Solid:
    """Each triangle as four; the shape stays."""
    edges = np.sort(solid.faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
    unique, place = np.unique(edges, axis=0, return_inverse=True)
    middle = place.reshape(-1, 3) + len(solid.vertices)
    a, b, c = solid.faces.T
    ab, bc, ca = middle.T
    faces = np.concatenate(
        [np.stack(corner, 1) for corner in ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))]
    )

    def halved(values: np.ndarray) -> np.ndarray:
        return np.concatenate([values, values[unique].mean(1)])

    return replace(
        solid,
        vertices=halved(solid.vertices),
        faces=faces.astype(np.int32),
        normals=_unit(halved(solid.normals)),
        uv=halved(solid.uv),
    )


def taper(amount: float, height: float) -> Warp:
    """x and y grow by 1 + amount · z / height."""

    def warp(points: np.ndarray) -> np.ndarray:
        factor = 1 + amount * points[:, 2:] / height
        return np.concatenate([points[:, :2] * factor, points[:, 2:]], 1)

    return warp


def twist(turn_deg: float, height: float) -> Warp:
    """Turned about z, by turn_deg at z = height."""

    def warp(points: np.ndarray) -> np.ndarray:
        angle = np.deg2rad(turn_deg) * points[:, 2] / height
        cos, sin = np.cos(angle), np.sin(angle)
        x, y, z = points.T
        return np.stack([cos * x - sin * y, sin * x + cos * y, z], 1)

    return warp


def bow(depth: float, half_width: float) -> Warp:
    """The sides (y = ± half_width) moved by depth along x, the middle kept: a back that holds."""

    def warp(points: np.ndarray) -> np.ndarray:
        x, y, z = points.T
        return np.stack([x + depth * (y / half_width) ** 2, y, z], 1)

    return warp


def _cofactors(matrices: Float[np.ndarray, "n 3 3"]) -> Float[np.ndarray, "n 3 3"]:
    """det · inverse transpose: how surface normals go along."""
    a, b, c = matrices[:, :, 0], matrices[:, :, 1], matrices[:, :, 2]
    return np.stack([np.cross(b, c), np.cross(c, a), np.cross(a, b)], 2)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-30)
