"""Worlds whose origin is far from the object: what is computed in float32 needs it near."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Float

from mv3d.render.cameras import Cameras
from mv3d.render.mesh import Mesh
from mv3d.views.views import Views

_FAR = 10.0  # distances of the farthest camera from the object


def origin_of(cameras: Cameras) -> Float[np.ndarray, " 3"]:
    """The point nearest to all optical axes where it is far from the world's origin, else zeros."""
    mean, axes = cameras.centers.mean(0), cameras.c2w[:, :3, 2]
    across = np.eye(3) - axes[:, :, None] * axes[:, None, :]
    aside = (across @ (cameras.centers - mean)[..., None]).sum(0)[:, 0]
    point = mean + np.linalg.lstsq(across.sum(0), aside, rcond=1e-9)[0]
    reach = np.linalg.norm(cameras.centers - point, axis=1).max()
    return point if np.linalg.norm(point) > _FAR * reach else np.zeros(3)


def moved_views(views: Views, offset: Float[np.ndarray, " 3"]) -> Views:
    """The same views in a world moved by `offset`; the very same object for zeros."""
    if not offset.any():
        return views
    c2w = views.cameras.c2w.copy()
    c2w[:, :3, 3] += offset
    solid = None if views.solid is None else moved_mesh(views.solid, offset)
    return replace(views, cameras=replace(views.cameras, c2w=c2w), solid=solid)


def moved_mesh(mesh: Mesh, offset: Float[np.ndarray, " 3"]) -> Mesh:
    """The same mesh moved by `offset`; the very same object for zeros."""
    return replace(mesh, vertices=mesh.vertices.astype(np.float64) + offset) if offset.any() else mesh
