"""From layered depth to a textured mesh, in the photo's own frustum.

The grid is the frustum itself: columns are pixels, samples along them are depths. A vertex therefore knows its pixel,
and the texture is the photo for what it shows and the network's colours for what it hides. Nothing is unwrapped.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import ndimage
from skimage.measure import marching_cubes

from mv3d.core.errors import InputError
from mv3d.models.prior.layers import RANGE, SLOPE
from mv3d.recon.surface import clean_field, decimate, smooth
from mv3d.render.cameras import Cameras
from mv3d.render.mesh import Mesh
from mv3d.views.morphology import distance_to_false, nearest_true

ENTER, LEAVE, FIRST_LEAVE, SECOND_ENTER = range(4)
_WHOLLY_INSIDE = 0.85  # alpha of a network pixel whose depth can be trusted
_STEP = 0.12  # depth between neighbours that is an edge, in units of RANGE
_DEEPEST = (
    2.5  # of the grid, in units of RANGE: a stick seen end-on is several times as deep as its picture is wide
)
_MOST_SAMPLES = 150


@dataclass(frozen=True)
class SurfaceConfig:
    """columns: pixels of the grid along a side. step: between the grid's depths, in units of RANGE, at least. faces: of the mesh,
    about. texture_size: pixels of one of the four tiles. smoothing: rounds of Taubin's filter on the depths of the
    vertices, which follow the network's coarser pixels in steps; their places in the photo stay."""

    columns: int = 192
    step: float = 0.02
    faces: int = 40_000
    texture_size: int = 256
    smoothing: int = 20


@dataclass(frozen=True, eq=False)
class Solid:
    """What the prior says of one photo, at the network's resolution (s) beside the photo (p).

    depths: (4, s, s) float32, enter, leave, first_leave, second_enter, in units of RANGE around the centre.
    two: (s, s) in [0, 1], probability of a second layer. colors: (3, s, s, 3) in [0, 1] of first_leave, second_enter
    and leave. gates: (3, s, s) in [0, 1], how far the photo's own pixel is that colour instead.
    photo: (p, p, 4) float32 straight alpha, framed as the network saw it.
    crop: centre x and y (down) and half side of that frame in the camera's image, which reaches from -1 to 1; depths
    scale with the half side, as a nearer camera would show them. elevation_deg: of the camera.
    """

    depths: Float[np.ndarray, "4 s s"]
    two: Float[np.ndarray, "s s"]
    colors: Float[np.ndarray, "3 s s 3"]
    gates: Float[np.ndarray, "3 s s"]
    photo: Float[np.ndarray, "p p 4"]
    crop: tuple[float, float, float] = (0.0, 0.0, 1.0)
    elevation_deg: float = 0.0


def solid_mesh(solid: Solid, config: SurfaceConfig | None = None) -> Mesh:
    """The solid's surface in camera axes (OpenGL), the camera at the origin, the object's centre at (0, 0, -1).

    Raises InputError where no pixel of the photo is wholly inside the object.
    """
    config = config or SurfaceConfig()
    field, (nearest, step), depths, two = _field(solid, config)
    cleaned = clean_field(-field)
    vertices, faces, _, _ = marching_cubes(cleaned, 0.0, gradient_direction="descent")
    faces = faces[:, ::-1]  # (sample, row, column) is a left-handed frame
    vertices -= 1  # of the border that clean_field adds
    faces = np.ascontiguousarray(faces, np.int32)
    if config.smoothing:
        vertices[:, :1] = smooth(vertices[:, :1], faces, rounds=config.smoothing)
    vertices[:, 0] = vertices[:, 0] * step + nearest
    points = _unprojected(vertices, solid.crop, config.columns)
    points, faces = decimate(points.astype(np.float32), faces, config.faces, quick=True)
    return _textured(points, faces, solid, depths, two, config)


def placed(mesh: Mesh, camera: Cameras, radius: float) -> Mesh:
    """A mesh of `solid_mesh` in the world of the photo's camera, which looks at the origin from `radius`."""
    rotation, center = camera.c2w[0, :3, :3], camera.c2w[0, :3, 3]
    vertices = (mesh.vertices.astype(np.float64) * radius) @ rotation.T + center
    normals = None if mesh.normals is None else (mesh.normals @ rotation.T).astype(np.float32)
    return Mesh(vertices.astype(np.float32), mesh.faces, normals, mesh.uv, mesh.texture, mesh.vertex_colors)


def _field(
    solid: Solid, config: SurfaceConfig
) -> tuple[
    Float[np.ndarray, "d n n"], tuple[float, float], Float[np.ndarray, "4 n n"], Bool[np.ndarray, "n n"]
]:
    """The signed depth, positive inside, on the frustum's grid; depth of its first sample and step; the depths and the
    second layer that it was made of."""
    size = config.columns
    alpha = _resized(solid.photo[..., 3], size)
    side = solid.depths.shape[1]
    valid = _resized(solid.photo[..., 3], side) > _WHOLLY_INSIDE
    if not valid.any():
        valid = _resized(solid.photo[..., 3], side) > 0.5
    if not valid.any():
        raise InputError("photo: the object is too thin to be lifted; crop the photo around it")
    depths = np.stack([_enlarged(_cleaned(depth, valid), size) for depth in solid.depths])
    two = _enlarged(_cleaned(solid.two, valid), size) > 0.5
    inside = alpha > 0.5
    nearest, farthest = float(depths[ENTER][inside].min()), float(depths[LEAVE][inside].max())
    nearest, farthest = max(-_DEEPEST, nearest), min(_DEEPEST, farthest)
    step = max(config.step, (farthest - nearest) / _MOST_SAMPLES)
    depths = _thickened(depths, 1.3 * step)
    distance = distance_to_false(inside) - distance_to_false(~inside)
    edge = np.abs(distance) <= 1
    distance = np.where(edge, 2 * (alpha - 0.5), distance - 0.5 * np.sign(distance))
    lateral = distance * (2 * SLOPE / size / RANGE)
    nearest -= 2 * step
    at = np.arange(nearest, farthest + 3 * step, step).astype(np.float32)[:, None, None]
    signed = np.minimum(at - depths[ENTER], depths[LEAVE] - at)
    gap = np.minimum(at - depths[FIRST_LEAVE], depths[SECOND_ENTER] - at)
    signed = np.where(two, np.minimum(signed, -gap), signed)
    field = np.minimum(signed, lateral.astype(np.float32))
    field[[0, -1]] = np.minimum(field[[0, -1]], -1e-3)
    field[:, [0, -1]] = np.minimum(field[:, [0, -1]], -1e-3)
    field[:, :, [0, -1]] = np.minimum(field[:, :, [0, -1]], -1e-3)
    if not (field > 0).any():
        raise InputError("photo: the prior found no solid in it; give a photo of one object")
    return field, (nearest, step), depths, two


def _thickened(depths: Float[np.ndarray, "4 n n"], least: float) -> Float[np.ndarray, "4 n n"]:
    """Layers at least so thick, about their middles: a thinner wall falls between two samples and is torn."""
    enter, leave, first_leave, second_enter = depths
    grown = np.where(first_leave >= enter, np.maximum(0, least - (first_leave - enter)) / 2, 0)
    enter, first_leave = enter - grown, first_leave + grown
    grown = np.where(leave >= second_enter, np.maximum(0, least - (leave - second_enter)) / 2, 0)
    second_enter, leave = second_enter - grown, leave + grown
    leave = np.maximum(leave, enter + least)
    return np.stack([enter, leave, first_leave, second_enter])


def _cleaned(values: Float[np.ndarray, "s s"], valid: Bool[np.ndarray, "s s"]) -> Float[np.ndarray, "s s"]:
    """The median of the valid neighbours (3 × 3), grown outward from the valid pixels."""
    padded = np.pad(np.where(valid, values, np.nan), 1, constant_values=np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3)).reshape(*values.shape, 9)
    clean = np.where(valid, values, 0.0)
    clean[valid] = np.nanmedian(windows[valid], axis=1)
    rows, columns = nearest_true(valid)
    return clean[rows, columns].astype(np.float32)


def _enlarged(values: Float[np.ndarray, "s s"], size: int) -> Float[np.ndarray, "n n"]:
    """Bilinear, but nearest across edges, where a ramp between two depths would be a curtain."""
    smooth = _resized(values, size)
    place = np.minimum((np.arange(size) + 0.5) * len(values) / size, len(values) - 1).astype(int)
    nearest = values[place][:, place]
    spread = ndimage.maximum_filter(values, 3) - ndimage.minimum_filter(values, 3)
    return np.where(spread[place][:, place] > _STEP, nearest, smooth).astype(np.float32)


def _resized(values: np.ndarray, size: int) -> np.ndarray:
    """(s, s[, c]) → (size, size[, c]): area means when it gets smaller, bilinear when larger."""
    import torch  # noqa: PLC0415 - the surface alone needs none

    given = torch.from_numpy(np.ascontiguousarray(values, np.float32))
    planes = given[None, None] if values.ndim == 2 else given.permute(2, 0, 1)[None]
    smaller = size <= len(values)
    made = torch.nn.functional.interpolate(
        planes, (size, size), mode="area" if smaller else "bilinear", align_corners=None if smaller else False
    )[0]
    return made[0].numpy() if values.ndim == 2 else made.permute(1, 2, 0).numpy()


def _unprojected(
    vertices: Float[np.ndarray, "v 3"], crop: tuple[float, float, float], columns: int
) -> Float[np.ndarray, "v 3"]:
    """(depth in units of RANGE, row, column) → camera axes."""
    x, y, half = crop
    z = 1 + RANGE * half * vertices[:, 0]
    across = x + half * ((vertices[:, 2] + 0.5) / columns * 2 - 1)
    down = y + half * ((vertices[:, 1] + 0.5) / columns * 2 - 1)
    return np.stack([across * SLOPE * z, -down * SLOPE * z, -z], 1)


def _textured(
    points: Float[np.ndarray, "v 3"],
    faces: Int[np.ndarray, "f 3"],
    solid: Solid,
    depths: Float[np.ndarray, "4 n n"],
    two: Bool[np.ndarray, "n n"],
    config: SurfaceConfig,
) -> Mesh:
    """Each face shows the tile of the surface that is nearest to its middle; vertices are split where tiles meet."""
    x, y, half = solid.crop
    z = -points[:, 2]
    in_image = np.stack([points[:, 0], -points[:, 1]], 1) / (z * SLOPE)[:, None]
    pixel = (in_image - [x, y]) / half * 0.5 + 0.5
    middle, deep = pixel[faces].mean(1), (z[faces].mean(1) - 1) / (RANGE * half)
    column, row = np.clip((middle * config.columns).astype(int), 0, config.columns - 1).T
    off = np.abs(depths[:, row, column] - deep)
    off[[FIRST_LEAVE, SECOND_ENTER]] += np.where(two[row, column], 0.0, np.inf)
    surface = off.argmin(0)
    corner = surface[:, None] * len(points) + faces
    used, split = np.unique(corner, return_inverse=True)
    tile, vertex = used // len(points), used % len(points)
    inset = 0.5 / config.texture_size
    inner = np.clip(pixel[vertex], inset, 1 - inset)
    uv = (inner + np.stack([tile % 2, tile // 2], 1)) / 2
    texture = np.zeros((2 * config.texture_size, 2 * config.texture_size, 3), np.uint8)
    for index, picture in enumerate(_tiles(solid, config.texture_size)):
        y, x = (index // 2) * config.texture_size, (index % 2) * config.texture_size
        texture[y : y + config.texture_size, x : x + config.texture_size] = (picture * 255 + 0.5).astype(
            np.uint8
        )
    return Mesh(
        points[vertex], split.reshape(-1, 3).astype(np.int32), uv=uv.astype(np.float32), texture=texture
    )


def _tiles(solid: Solid, size: int) -> list[Float[np.ndarray, "t t 3"]]:
    """The photo, then the colours of leave, first_leave and second_enter, each grown beyond its outline."""
    photo = _resized(
        np.concatenate([solid.photo[..., :3] * solid.photo[..., 3:], solid.photo[..., 3:]], -1), size
    )
    sure = photo[..., 3] > 0.95
    if not sure.any():
        sure = photo[..., 3] > 0.5
    own = np.where(sure[..., None], photo[..., :3] / np.maximum(photo[..., 3:], 1e-3), 0)[nearest_true(sure)]
    valid = _resized(solid.photo[..., 3], solid.two.shape[0]) > _WHOLLY_INSIDE
    grown = nearest_true(valid if valid.any() else np.ones_like(valid))
    hidden = []
    for index in (2, 0, 1):
        color = _resized(solid.colors[index][grown], size)
        gate = _resized(solid.gates[index][grown], size)[..., None]
        hidden.append(gate * own + (1 - gate) * color)
    return [np.clip(tile, 0, 1) for tile in (own, *hidden)]
