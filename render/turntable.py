"""A turntable: one turn around a mesh, as frames."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import UInt8

from mv3d.render.cameras import SV3D_FOV_DEG, orbit_cameras
from mv3d.render.mesh import Mesh
from mv3d.render.raycast import render_views


def turntable(
    mesh: Mesh,
    *,
    frames: int = 30,
    size: int = 320,
    elevation_deg: float = 15.0,
    shaded: float = 0.25,
    threads: int = 1,
) -> UInt8[np.ndarray, "n s s 3"]:
    """Frames of one turn on white, the object centred and filling the frame without clipping.

    shaded: how much the shape darkens away from the viewer, 0 for the texture alone.
    """
    low, high = mesh.vertices.min(0), mesh.vertices.max(0)
    radius = 0.5 * float(np.linalg.norm(high - low)) or 1.0
    centered = replace(mesh, vertices=mesh.vertices - (low + high) / 2)
    distance = 1.05 * radius / np.sin(np.radians(SV3D_FOV_DEG) / 2)
    azimuths = 360.0 * np.arange(frames) / frames
    cameras = orbit_cameras(
        elevation_deg, azimuths, radius=distance, fov_deg=SV3D_FOV_DEG, width=size, height=size
    )
    pictures = render_views(centered, cameras, supersample=2, headlight=shaded, threads=threads)
    alpha = pictures[..., 3:]
    white = pictures[..., :3] * alpha + 1 - alpha
    return (np.clip(white, 0, 1) * 255 + 0.5).astype(np.uint8)
