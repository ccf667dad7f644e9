"""The texture of a lifted surface: the photo for what it shows, the network's colours for what it hides.

Four tiles of the photo's own frame, one for each surface along a ray. Nothing is unwrapped: a vertex knows its pixel.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from scipy import ndimage

from mv3d.models.prior.depths import DepthMaps, depth_normals, resized, towards_camera, trusted
from mv3d.models.prior.layers import RANGE, SLOPE
from mv3d.models.prior.solid import ENTER, FIRST_LEAVE, SECOND_ENTER, Solid
from mv3d.render.mesh import Mesh
from mv3d.views.morphology import nearest_true

# Cosines between ray and normal: below the first the photo counts for nothing, above the second for all. Near the outline
# a surface turns away and shows sheen; elsewhere, as on a table's top, what is seen at a low angle is the best there is.
_AT_OUTLINE, _ELSEWHERE = (0.2, 0.6), (0.03, 0.15)
_NEAR_OUTLINE = 0.03, 0.06  # of the frame's side: where the first pair rules, and where it ends
_EDGE = 0.015  # of the frame's side: how far the outline itself reaches in
_RIM = 0.02  # of the frame's side: where front and back fade into each other
_SHARED = 0.5  # of the back's colour at the outline


def textured(
    points: Float[np.ndarray, "v 3"],
    faces: Int[np.ndarray, "f 3"],
    solid: Solid,
    maps: DepthMaps,
    size: int,
) -> Mesh:
    """Each face shows the tile of the surface that is nearest to its middle; vertices are split where tiles meet.

    points: camera axes. size: of a tile, in texels.
    """
    x, y, half = solid.crop
    z = -points[:, 2]
    in_image = np.stack([points[:, 0], -points[:, 1]], 1) / (z * SLOPE)[:, None]
    pixel = (in_image - [x, y]) / half * 0.5 + 0.5
    middle, deep = pixel[faces].mean(1), (z[faces].mean(1) - 1) / (RANGE * half)
    columns = len(maps.distance)
    column, row = np.clip((middle * columns).astype(int), 0, columns - 1).T
    off = np.abs(maps.depths[:, row, column] - deep)
    off[[FIRST_LEAVE, SECOND_ENTER]] += np.where(maps.two[row, column], 0.0, np.inf)
    surface = off.argmin(0)
    corner = surface[:, None] * len(points) + faces
    used, split = np.unique(corner, return_inverse=True)
    tile, vertex = used // len(points), used % len(points)
    inset = 0.5 / size
    inner = np.clip(pixel[vertex], inset, 1 - inset)
    uv = (inner + np.stack([tile % 2, tile // 2], 1)) / 2
    texture = np.zeros((2 * size, 2 * size, 3), np.uint8)
    for index, picture in enumerate(surface_colors(solid, maps, size)):
        y, x = (index // 2) * size, (index % 2) * size
        texture[y : y + size, x : x + size] = (picture * 255 + 0.5).astype(np.uint8)
    return Mesh(
        points[vertex], split.reshape(-1, 3).astype(np.int32), uv=uv.astype(np.float32), texture=texture
    )


def surface_colors(solid: Solid, maps: DepthMaps, size: int) -> Float[np.ndarray, "4 t t 3"]:
    """The colours of enter, leave, first_leave and second_enter, each grown beyond its outline.

    In front it is the photo, weighted by the angle between ray and normal: where the surface turns away, a pixel covers
    much of it, and shows sheen rather than colour. What is missing comes from the pixels around that face the camera, and
    at the outline from the back as well, so that both meet in one colour.
    """
    planes = np.concatenate([solid.photo[..., :3] * solid.photo[..., 3:], solid.photo[..., 3:]], -1)
    planes = resized(planes, size)
    sure = planes[..., 3] > 0.95
    if not sure.any():
        sure = planes[..., 3] > 0.5
    photo = np.where(sure[..., None], planes[..., :3] / np.maximum(planes[..., 3:], 1e-3), 0)
    weight = np.where(sure, resized(facing(maps, solid.crop), size), 0)
    around = filled(photo, np.where(sure, np.maximum(weight**4, 1e-6), 0))
    own = weight[..., None] * photo + (1 - weight[..., None]) * around
    valid = nearest_true(trusted(solid))
    hidden = []
    for index in (2, 0, 1):  # leave, first_leave, second_enter
        gate = resized(solid.gates[index][valid], size)[..., None]
        hidden.append(gate * own + (1 - gate) * resized(solid.colors[index][valid], size))
    back = hidden[0]
    # At the outline both sides show one mixture; `width` inside each shows its own.
    ridge = ndimage.maximum_filter(maps.distance, int(2 * _RIM * len(maps.distance)) + 1)
    width = np.clip(ridge, 1, _RIM * len(maps.distance))
    depth_of_rim = resized(np.clip(1 - maps.distance / width, 0, 1), size)[..., None]
    mixed = (1 - _SHARED) * around + _SHARED * back
    front_share = depth_of_rim * (1 - weight[..., None])
    front = own + front_share * (mixed - around)
    back = back + depth_of_rim * (mixed - back)
    return np.clip(np.stack([front, back, *hidden[1:]]), 0, 1)


def facing(maps: DepthMaps, crop: tuple[float, float, float]) -> Float[np.ndarray, "n n"]:
    """How far the photo's pixels are the surface's colour, in [0, 1]: 0 where the ray only grazes it."""
    normals = depth_normals(maps.depths[ENTER], crop)
    cosine = (normals * towards_camera(len(normals), crop)).sum(-1)
    outline, elsewhere = (_ramp(cosine, *limits) for limits in (_AT_OUTLINE, _ELSEWHERE))
    begin, end = (share * len(cosine) for share in _NEAR_OUTLINE)
    away = _ramp(maps.distance, begin, end)
    # The very edge of an outline is turned away, whatever the coarse depths say, and its colour is half the background's.
    ridge = ndimage.maximum_filter(maps.distance, int(2 * _EDGE * len(cosine)) + 1)
    at_edge = _ramp(maps.distance / np.clip(ridge, 1, _EDGE * len(cosine)), 0, 1)
    return at_edge * (away * elsewhere + (1 - away) * outline)


def _ramp(values: Float[np.ndarray, "n n"], low: float, high: float) -> Float[np.ndarray, "n n"]:
    """0 below `low`, 1 above `high`, smooth between."""
    t = np.clip((values - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def filled(
    colors: Float[np.ndarray, "t t 3"], weight: Float[np.ndarray, "t t"]
) -> Float[np.ndarray, "t t 3"]:
    """Colours known to a varying degree, everywhere: each pixel's weighted mean over the smallest neighbourhood that has
    weight enough (the pull-push pyramid of Gortler et al., The Lumigraph, SIGGRAPH 1996). Linear in the colours."""
    import torch  # noqa: PLC0415
    import torch.nn.functional as F  # noqa: PLC0415

    planes = np.concatenate([colors * weight[..., None], weight[..., None]], -1)
    levels = [torch.from_numpy(planes.astype(np.float32)).permute(2, 0, 1)[None]]
    while min(levels[-1].shape[2:]) > 1:
        pulled = 4 * F.avg_pool2d(levels[-1], 2, ceil_mode=True, count_include_pad=False)
        levels.append(pulled / pulled[:, 3:].clamp(min=1))
    made = levels[-1][:, :3] / levels[-1][:, 3:].clamp(min=1e-12)
    for level in reversed(levels[:-1]):
        made = F.interpolate(made, level.shape[2:], mode="bilinear", align_corners=False)
        made = level[:, :3] + (1 - level[:, 3:].clamp(max=1)) * made
    return made[0].permute(1, 2, 0).numpy()
