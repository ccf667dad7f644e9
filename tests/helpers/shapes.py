"""Small objects with closed forms, and views of them."""

from __future__ import annotations

import numpy as np
import torch
import trimesh

from mv3d.render.cameras import Orbit, sv3d_azimuths_deg
from mv3d.render.mesh import Mesh
from mv3d.render.raycast import render_views
from mv3d.views.grid import Grid
from mv3d.views.silhouettes import Silhouettes
from mv3d.views.views import Views


def as_mesh(solid: trimesh.Trimesh, color: tuple[int, int, int] | None = None) -> Mesh:
    """A trimesh solid as a Mesh; coloured by position where no colour is given."""
    vertices = np.asarray(solid.vertices, np.float32)
    if color is None:
        colors = (127.5 + 127.5 * np.sin(7 * vertices + [0, 1, 2])).astype(np.uint8)
    else:
        colors = np.tile(np.array(color, np.uint8), (len(vertices), 1))
    return Mesh(vertices, np.asarray(solid.faces), vertex_colors=colors)


def sphere(radius: float = 0.4, color: tuple[int, int, int] | None = None) -> Mesh:
    return as_mesh(trimesh.creation.icosphere(4, radius), color)


def cube(side: float = 0.6, color: tuple[int, int, int] | None = None) -> Mesh:
    return as_mesh(trimesh.creation.box((side,) * 3).subdivide().subdivide().subdivide(), color)


def orbit_of(mesh: Mesh, *, count: int = 12, size: int = 96, elevation_deg: float = 10.0) -> Views:
    """Views of a mesh in SV3D's order."""
    orbit = Orbit((elevation_deg,) * count, tuple(sv3d_azimuths_deg(count).tolist()), input_view=count - 1)
    cameras = orbit.cameras(size, size)
    return Views(render_views(mesh, cameras, supersample=2), cameras, orbit, count - 1)


def ball_grid(resolution: int = 40, radius: float = 0.4) -> tuple[Grid, torch.Tensor]:
    """The signed distance of a ball on a grid."""
    grid = Grid.around([-0.5] * 3, [0.5] * 3, resolution)
    return grid, (grid.points(torch.device("cpu")).norm(dim=1) - radius).reshape(grid.shape)


def silhouettes_of(views: Views) -> Silhouettes:
    return Silhouettes(views.images[..., 3], views.cameras)


def textured_quad() -> Mesh:
    """A square in the plane x = 0 facing +X, red above, blue below (by z), its left (y < 0) darker."""
    vertices = np.array([[0, -1, -1], [0, 1, -1], [0, 1, 1], [0, -1, 1]], np.float32)
    uv = np.array([[0, 1], [1, 1], [1, 0], [0, 0]], np.float32)
    texture = np.zeros((8, 8, 3), np.uint8)
    texture[:4, :, 0], texture[4:, :, 2] = 250, 250
    texture[:, :4] //= 2
    return Mesh(vertices, np.array([[0, 1, 2], [0, 2, 3]]), uv=uv, texture=texture)
