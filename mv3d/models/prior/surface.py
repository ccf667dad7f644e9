"""From layered depth to a textured mesh, in the photo's own frustum.

The grid is the frustum itself: columns are pixels, samples along them are depths. A vertex therefore knows its pixel,
and the texture is the photo for what it shows and the network's colours for what it hides. Nothing is unwrapped.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from skimage.measure import marching_cubes

from mv3d.core.errors import InputError
from mv3d.models.prior.depths import DepthMaps, depth_maps
from mv3d.models.prior.layers import RANGE, SLOPE
from mv3d.models.prior.lean import Lean, upright
from mv3d.models.prior.solid import ENTER, FIRST_LEAVE, LEAVE, SECOND_ENTER, Solid
from mv3d.models.prior.texture import textured
from mv3d.recon.surface import clean_field, decimate, smooth
from mv3d.render.cameras import Cameras
from mv3d.render.mesh import Mesh

_DEEPEST = (
    2.5  # of the grid, in units of RANGE: a stick seen end-on is several times as deep as its picture is wide
)
_MOST_SAMPLES = 150
_LEAST_SLANT = 0.3  # horizontal share of the camera's distance: 73 degrees


@dataclass(frozen=True)
class SurfaceConfig:
    """columns: pixels of the grid along a side. step: between the grid's depths, in units of RANGE, at least. faces: of the mesh,
    about. texture_size: pixels of one of the four tiles. smoothing: rounds of Taubin's filter, which takes out
    the steps of the grid."""

    columns: int = 192
    step: float = 0.02
    faces: int = 40_000
    texture_size: int = 256
    smoothing: int = 8


def solid_mesh(solid: Solid, config: SurfaceConfig | None = None) -> Mesh:
    """The solid's surface in camera axes (OpenGL), the camera at the origin, the object's centre at (0, 0, -1).

    Raises InputError where no pixel of the photo is wholly inside the object.
    """
    config = config or SurfaceConfig()
    maps = depth_maps(solid, config.columns)
    field, (nearest, step) = _field(maps, config)
    cleaned = clean_field(-field)
    vertices, faces, _, _ = marching_cubes(cleaned, 0.0, gradient_direction="descent")
    faces = faces[:, ::-1]  # (sample, row, column) is a left-handed frame
    vertices -= 1  # of the border that clean_field adds
    faces = np.ascontiguousarray(faces, np.int32)
    vertices[:, 0] = vertices[:, 0] * step + nearest
    points = _unprojected(vertices, solid.crop, config.columns)
    if config.smoothing:
        points = smooth(points, faces, rounds=config.smoothing)
    # In columns: the tolerances of the collapse are absolute, and in units of the scene it tears small triangles.
    pitch = 2 * SLOPE * solid.crop[2] / config.columns
    points, faces = decimate((points / pitch).astype(np.float32), faces, config.faces, quick=True)
    points = points * np.float32(pitch)
    return textured(points, faces, solid, maps, config.texture_size)


def placed(mesh: Mesh, camera: Cameras, radius: float, *, lean: Lean | None = None) -> Mesh:
    """A mesh of `solid_mesh` in the world of the photo's camera, which looks at the origin from `radius`; `centred`.

    lean: of the solid, which is turned `upright` for the camera; None where it was seen from there.
    """
    rotation, center = camera.c2w[0, :3, :3], camera.c2w[0, :3, 3]
    given = mesh.vertices.astype(np.float64)
    if lean is not None:
        elevation_deg = float(np.degrees(np.arctan2(center[2], np.hypot(center[0], center[1]))))
        given = upright(given, lean, elevation_deg)
    vertices = centred((given * radius) @ rotation.T + center, center)
    normals = None if mesh.normals is None else (mesh.normals @ rotation.T).astype(np.float32)
    return Mesh(vertices.astype(np.float32), mesh.faces, normals, mesh.uv, mesh.texture, mesh.vertex_colors)


def centred(vertices: Float[np.ndarray, "v 3"], camera: Float[np.ndarray, " 3"]) -> Float[np.ndarray, "v 3"]:
    """World points scaled about the camera, so that the middle of their box lies on the axis of the orbit (Z).

    The box of a whole object is centred there, which a photo does not show and the network says with an error. The photo's
    own picture stays: a scale about the camera moves every point along its line of sight. From steeply above or below the
    points stay as they are.
    """
    distance = float(np.hypot(camera[0], camera[1]))
    if distance < _LEAST_SLANT * float(np.linalg.norm(camera)):
        return vertices
    toward = np.array([camera[0], camera[1], 0.0]) / distance
    along = (vertices - camera) @ toward  # middle after a scale k: distance + k (min + max) / 2
    nearest, farthest = float(along.max()), float(along.min())
    if nearest >= 0:
        return vertices
    return camera + (vertices - camera) * (-2 * distance / (nearest + farthest))


def _field(maps: DepthMaps, config: SurfaceConfig) -> tuple[Float[np.ndarray, "d n n"], tuple[float, float]]:
    """The signed depth, positive inside, on the frustum's grid; depth of its first sample and step."""
    size, inside = config.columns, maps.distance > 0
    nearest, farthest = float(maps.depths[ENTER][inside].min()), float(maps.depths[LEAVE][inside].max())
    nearest, farthest = max(-_DEEPEST, nearest), min(_DEEPEST, farthest)
    step = max(config.step, (farthest - nearest) / _MOST_SAMPLES)
    depths = _thickened(maps.depths, 1.3 * step)
    lateral = maps.distance * (2 * SLOPE / size / RANGE)
    nearest -= 2 * step
    at = np.arange(nearest, farthest + 3 * step, step).astype(np.float32)[:, None, None]
    signed = np.minimum(at - depths[ENTER], depths[LEAVE] - at)
    gap = np.minimum(at - depths[FIRST_LEAVE], depths[SECOND_ENTER] - at)
    signed = np.where(maps.two, np.minimum(signed, -gap), signed)
    field = np.minimum(signed, lateral.astype(np.float32))
    # Crossings very near a sample make slivers.
    least = 0.15 * 2 * SLOPE / size / RANGE
    field = np.where(np.abs(field) < least, np.where(field > 0, least, -least), field)
    field[[0, -1]] = np.minimum(field[[0, -1]], -1e-3)
    field[:, [0, -1]] = np.minimum(field[:, [0, -1]], -1e-3)
    field[:, :, [0, -1]] = np.minimum(field[:, :, [0, -1]], -1e-3)
    if not (field > 0).any():
        raise InputError("photo: the prior found no solid in it; give a photo of one object")
    return field, (nearest, step)


def _thickened(depths: Float[np.ndarray, "4 n n"], least: float) -> Float[np.ndarray, "4 n n"]:
    """Layers at least so thick, about their middles: a thinner wall falls between two samples and is torn."""
    enter, leave, first_leave, second_enter = depths
    grown = np.where(first_leave >= enter, np.maximum(0, least - (first_leave - enter)) / 2, 0)
    enter, first_leave = enter - grown, first_leave + grown
    grown = np.where(leave >= second_enter, np.maximum(0, least - (leave - second_enter)) / 2, 0)
    second_enter, leave = second_enter - grown, leave + grown
    leave = np.maximum(leave, enter + least)
    return np.stack([enter, leave, first_leave, second_enter])


def _unprojected(
    vertices: Float[np.ndarray, "v 3"], crop: tuple[float, float, float], columns: int
) -> Float[np.ndarray, "v 3"]:
    """(depth in units of RANGE, row, column) → camera axes."""
    x, y, half = crop
    z = 1 + RANGE * half * vertices[:, 0]
    across = x + half * ((vertices[:, 2] + 0.5) / columns * 2 - 1)
    down = y + half * ((vertices[:, 1] + 0.5) / columns * 2 - 1)
    return np.stack([across * SLOPE * z, -down * SLOPE * z, -z], 1)
