"""Cameras in a world of any origin, scale and direction → the object's own: upright, centred, its largest side 1."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Float

from mv3d.core.errors import InputError
from mv3d.views.posed import moved
from mv3d.views.silhouettes import common_box
from mv3d.views.views import Views

_LEAST_POINTS = 30
_ON_OBJECT = 0.9  # share of the views that must show a point on the object
_BOX = (1, 99)  # percentiles of the points: strays lie outside
_HALF_ROOM = 1.25  # by which common_box is larger than the silhouettes


def in_object_world(views: Views, points: Float[np.ndarray, "p 3"]) -> Views:
    """The views in a world whose Z axis is the mean of the cameras' upward axes, and whose unit is the object's size.

    Centre and size come from the points that lie on the object in the views (`world.from: "points"`), or where these are
    fewer than 30, from the silhouettes. `reading["world"]` has the change: x' = scale · rotation · (x - center).
    Raises InputError where the silhouettes have no object in common.
    """
    up = views.cameras.c2w[:, :3, 1].mean(0)
    rotation = _turn_to_z(up)
    on_object = points[_shows_object(views, points)] if len(points) else points
    if len(on_object) >= _LEAST_POINTS:
        low, high = np.percentile(on_object @ rotation.T, _BOX, axis=0)
        center, size, source = (low + high) / 2 @ rotation, float((high - low).max()), "points"
    else:
        center, half = common_box(views.images[..., 3], views.cameras)
        size, source = 2 * half / _HALF_ROOM, "silhouettes"
    if not 0 < size < np.inf or not np.isfinite(center).all():
        raise InputError(
            f"cameras: expected an object of some size, got {size:g} from the {source}; check the poses"
        )
    c2w = views.cameras.c2w.copy()
    c2w[:, :3, :3] = rotation @ c2w[:, :3, :3]
    c2w[:, :3, 3] = (c2w[:, :3, 3] - center) @ rotation.T / size
    world = {
        "from": source,
        "points": len(on_object),
        "scale": 1 / size,
        "center": center.tolist(),
        "rotation": rotation.tolist(),
    }
    return moved(replace(views, cameras=replace(views.cameras, c2w=c2w)), world=world)


def _shows_object(views: Views, points: Float[np.ndarray, "p 3"]) -> np.ndarray:
    """Which points at least two views show, and nearly all that do show on the object."""
    seen, hit = np.zeros(len(points), int), np.zeros(len(points), int)
    width, height = views.cameras.width, views.cameras.height
    for view in range(len(views)):
        xy, depth = views.cameras.project(points, view)
        inside = (depth > 0) & (xy >= 0).all(1) & (xy < [width, height]).all(1)
        columns, rows = xy[inside].astype(int).T
        seen[inside] += 1
        hit[inside] += views.images[view, rows, columns, 3] > 0.5
    return (seen >= 2) & (hit >= _ON_OBJECT * seen)


def _turn_to_z(up: Float[np.ndarray, " 3"]) -> Float[np.ndarray, "3 3"]:
    """The smallest rotation that takes `up` to +Z (Rodrigues); none where the cameras have no common direction."""
    length = float(np.linalg.norm(up))
    if length < 0.1:
        return np.eye(3)
    x, y, z = up / length
    if z < -1 + 1e-9:
        return np.diag([1.0, -1.0, -1.0])
    cross = np.array([[0, 0, -x], [0, 0, -y], [x, y, 0]])
    return np.eye(3) + cross + cross @ cross / (1 + z)
