"""The solid that a prior sees in a photo, rendered along an orbit: what leads a multi-view network."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
from jaxtyping import Float

from mv3d.core.files import sha256
from mv3d.models.folder import PRIOR, weights_path
from mv3d.models.prior.lean import lean_of
from mv3d.models.prior.lift import SIDE, lift_photo
from mv3d.models.prior.network import PriorNetwork
from mv3d.models.prior.solid import Solid
from mv3d.models.prior.surface import SurfaceConfig, placed, solid_mesh
from mv3d.render.cameras import Orbit
from mv3d.render.mesh import Mesh
from mv3d.render.raycast import render_views

_RAYS = 256
"""Rays along a side of a render, at least: smaller pictures get several a pixel."""
_COLUMNS = (96, 192)


def surface_for(size: int) -> SurfaceConfig:
    """The surface of a solid that is rendered at `size` pixels: as fine as its pixels, within limits.

    Training and generation use the same one, so that the network meets the renders it has learned from.
    """
    columns = max(_COLUMNS[0], min(size, _COLUMNS[1]))
    usual = SurfaceConfig()
    share = columns / usual.columns
    return SurfaceConfig(columns, usual.step / share, round(usual.faces * share**2), max(128, min(size, 512)))


def lifted_along(
    network: PriorNetwork,
    photo: Float[np.ndarray, "h h 4"],
    orbit: Orbit,
    *,
    side: int = SIDE,
) -> tuple[Mesh, Float[np.ndarray, "n h h 4"]]:
    """The solid in a photo and its renders of the photo's size: `rendered_along` of what the network sees.

    photo: straight alpha in [0, 1]. Raises InputError for a photo without a solid, ValueError for an orbit without the
    photo.
    """
    return rendered_along(lift_photo(network, photo, side=side), orbit, photo.shape[0])


def rendered_along(solid: Solid, orbit: Orbit, size: int) -> tuple[Mesh, Float[np.ndarray, "n size size 4"]]:
    """A photo's solid in the world of an orbit whose `input_view` is the photo's, and its square renders.

    size: pixels along a side. Renders: float32 in [0, 1], straight alpha, unlit. Raises InputError for a solid without a
    surface, ValueError for an orbit without the photo.
    """
    if orbit.input_view is None:
        raise ValueError("expected an orbit with the photo among its views")
    cameras = orbit.cameras(size, size)
    mesh = placed(
        solid_mesh(solid, surface_for(size)),
        cameras[orbit.input_view],
        orbit.radius,
        lean=lean_of(solid),
    )
    return mesh, render_views(mesh, cameras, supersample=max(1, _RAYS // size))


def prior_sha256(folder: str | os.PathLike[str]) -> str:
    """The hash of the prior in a model folder, whatever lies beside it."""
    digest = hashlib.sha256()
    for path in (Path(folder) / PRIOR / "config.json", weights_path(Path(folder), PRIOR)):
        digest.update(f"{path.name}\0{sha256(path)}".encode())
    return digest.hexdigest()
