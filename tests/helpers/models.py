"""Models with closed forms."""

from __future__ import annotations

import numpy as np

from mv3d.render.cameras import Cameras, orbit_cameras
from mv3d.render.environment import Environment, texel_directions, texel_solid_angles
from mv3d.render.model import Material, Model

WHITE = Material(metallic=0.0, roughness=1.0)


def sphere_model(radius: float = 0.5, rings: int = 96, material: Material = WHITE) -> Model:
    """A fine latitude-longitude sphere with exact normals."""
    down, around = np.meshgrid(
        np.linspace(0, np.pi, rings + 1), np.linspace(0, 2 * np.pi, 2 * rings + 1), indexing="ij"
    )
    normals = np.stack([np.sin(down) * np.cos(around), np.sin(down) * np.sin(around), np.cos(down)], -1)
    width = 2 * rings + 1
    i, j = np.meshgrid(np.arange(rings), np.arange(2 * rings), indexing="ij")
    a, b, c, d = i * width + j, (i + 1) * width + j, (i + 1) * width + j + 1, i * width + j + 1
    faces = np.concatenate([np.stack([a, b, c], -1).reshape(-1, 3), np.stack([a, c, d], -1).reshape(-1, 3)])
    uv = np.stack([around / (2 * np.pi), down / np.pi], -1).reshape(-1, 2)
    normals = normals.reshape(-1, 3)
    return Model(normals * radius, faces, normals, uv, materials=(material,))


def quad_model(
    corners: list[list[float]], material: Material = WHITE, uv: list[list[float]] | None = None
) -> Model:
    """A flat quad; corners counter-clockwise seen from its front, by default top left of the picture first."""
    uv = uv or [[0, 0], [0, 1], [1, 1], [1, 0]]
    return Model(np.array(corners), np.array([[0, 1, 2], [0, 2, 3]]), uv=np.array(uv), materials=(material,))


def facing_quad(material: Material = WHITE, half: float = 0.5) -> Model:
    """A quad in the plane x = 0 whose front, picture upright, is seen from +X (azimuth 0)."""
    return quad_model([[0, -half, half], [0, -half, -half], [0, half, -half], [0, half, half]], material)


def cube_model(half: float = 0.5, material: Material = WHITE) -> Model:
    """A cube with hard edges, 24 vertices."""
    vertices, faces, normals = [], [], []
    for axis in range(3):
        for sign in (-1, 1):
            u, v = (axis + 1) % 3, (axis + 2) % 3
            start = len(vertices)
            for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1)):
                point = np.zeros(3)
                point[axis], point[u], point[v] = sign * half, a * half, b * half
                vertices.append(point)
                normals.append(np.eye(3)[axis] * sign)
            order = [0, 1, 2, 0, 2, 3] if sign > 0 else [0, 2, 1, 0, 3, 2]
            faces += [[start + k for k in order[:3]], [start + k for k in order[3:]]]
    return Model(np.array(vertices), np.array(faces), np.array(normals), materials=(material,))


def join(*models: Model) -> Model:
    """One model of several, materials kept apart, texture coordinates dropped unless all have them."""
    starts = np.cumsum([0] + [len(model.vertices) for model in models])
    counts = np.cumsum([0] + [len(model.materials) for model in models])
    uv = [model.uv for model in models]
    return Model(
        np.concatenate([model.vertices for model in models]),
        np.concatenate([model.faces + start for model, start in zip(models, starts, strict=False)]),
        np.concatenate([model.normals for model in models]),  # pyright: ignore[reportCallIssue]
        None if any(part is None for part in uv) else np.concatenate(uv),  # pyright: ignore[reportCallIssue]
        None,
        np.concatenate([model.face_material + count for model, count in zip(models, counts, strict=False)]),
        tuple(material for model in models for material in model.materials),
    )


def front(
    size: int = 96, radius: float = 3.0, azimuth_deg: float = 0.0, elevation_deg: float = 0.0
) -> Cameras:
    return orbit_cameras(elevation_deg, [azimuth_deg], radius=radius, width=size, height=size)


def spot(
    direction: tuple[float, float, float], radius_deg: float = 12.0, ambient: float = 0.0
) -> Environment:
    """A disc of light of irradiance π: a white surface that faces it has radiance one."""
    directions = texel_directions(64, 128)
    towards = np.array(direction) / np.linalg.norm(direction)
    disc = directions @ towards > np.cos(np.radians(radius_deg))
    strength = np.pi / texel_solid_angles(64, 128)[disc].sum()
    radiance = np.where(disc[..., None], strength, 0.0) + np.full((64, 128, 3), ambient)
    return Environment("spot", radiance.astype(np.float32))
