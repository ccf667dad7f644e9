"""Boxes, each with its own sides and colours: objects whose views follow from their shape."""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8

from helpers.models import cube_model
from mv3d.orbits.jobs import object_rng
from mv3d.render.mesh import Mesh
from mv3d.render.raycast import render_views
from mv3d.render.trajectories import static_orbit


def box_views(
    uid: str, views: int, size: int
) -> tuple[UInt8[np.ndarray, "n h w 4"], UInt8[np.ndarray, "n h w 4"]]:
    """A box in a static orbit with a colour a side, and the same in grey; straight alpha."""
    rng, model = object_rng(0, uid), cube_model()
    vertices = (model.vertices * rng.uniform(0.25, 0.75, 3)).astype(np.float32)
    colors = np.repeat(rng.integers(0, 256, (6, 3), np.uint8), 4, axis=0)
    mesh = Mesh(vertices, model.faces.astype(np.int32), vertex_colors=colors)
    cameras = static_orbit(views, elevation_deg=10.0).cameras(size, size)
    seen = (render_views(mesh, cameras) * 255 + 0.5).astype(np.uint8)
    grey = seen.copy()
    grey[..., :3] = 128
    return seen, grey
