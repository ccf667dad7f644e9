"""The prior's coarse depths → depths on the finer grid of the surface, up to the photo's own outline."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage, special

from mv3d.core.errors import InputError
from mv3d.models.prior.layers import RANGE, SLOPE
from mv3d.models.prior.solid import ENTER, FIRST_LEAVE, LEAVE, SECOND_ENTER, Solid
from mv3d.views.morphology import distance_to_false, nearest_true

_WHOLLY_INSIDE = 0.85  # alpha of a network pixel whose depth can be trusted
_STEP = 0.12  # depth between neighbours that may be an edge, in units of RANGE
_STEEPER = 2.5  # than the slope on both sides of it: an edge, not a slope
_BLUR = 0.6  # pixels: an outline of whole pixels gets a slope, and a line of one pixel stays
_SPREAD = float(np.hypot(_BLUR, 12**-0.5))  # of the blur and of the pixel itself
_SMOOTHING = 0.5  # network pixels
_LEAST_WALL = 0.5  # of the thickness at the first of these
_TRUSTED = 1.5, 3.0  # distances from the outline, in network pixels, where depths are read to close the rim


@dataclass(frozen=True, eq=False)
class DepthMaps:
    """On n x n columns. depths: (4, n, n) as in `Solid`, grown beyond the outline. two: where there are two layers.
    distance: (n, n) from the photo's outline in columns, positive inside."""

    depths: Float[np.ndarray, "4 n n"]
    two: Bool[np.ndarray, "n n"]
    distance: Float[np.ndarray, "n n"]


def depth_maps(solid: Solid, columns: int) -> DepthMaps:
    """A solid's depths on the grid. Raises InputError where no pixel of the photo is inside the object."""
    side = solid.depths.shape[1]
    valid = trusted(solid)
    depths = np.stack([enlarged(cleaned(depth, valid), columns) for depth in solid.depths])
    two = enlarged(cleaned(solid.two, valid), columns) > 0.5
    distance = outline_distance(resized(solid.photo[..., 3], columns))
    depths = _closed_rim(depths, two, distance, columns / side)
    smooth = [smoothed(depth, columns / side) for depth in depths]
    return DepthMaps(np.stack(smooth), two, distance)


def trusted(solid: Solid) -> Bool[np.ndarray, "s s"]:
    """The network's pixels that are wholly inside the object. Raises InputError where there is none, not even half."""
    alpha = resized(solid.photo[..., 3], solid.depths.shape[1])
    for least in (_WHOLLY_INSIDE, 0.5):
        if (valid := alpha > least).any():
            return valid
    raise InputError("photo: the object is too thin to be lifted; crop the photo around it")


def outline_distance(alpha: Float[np.ndarray, "n n"]) -> Float[np.ndarray, "n n"]:
    """Distance from the outline in pixels, positive inside, to a fraction of a pixel near it.

    A straight edge blurred by a Gaussian of deviation s has alpha Phi(d / s) at the distance d: near the outline that is
    turned around, elsewhere the nearest pixel of the other side counts.
    """
    inside = alpha > 0.5
    distance = distance_to_false(inside) - distance_to_false(~inside)
    coarse = distance - 0.5 * np.sign(distance)
    soft = ndimage.gaussian_filter(alpha, _BLUR)
    fine = _SPREAD * special.ndtri(np.clip(soft, 0.01, 0.99))
    return np.where(np.abs(distance) <= 1.5, fine, coarse).astype(np.float32)


def cleaned(values: Float[np.ndarray, "s s"], valid: Bool[np.ndarray, "s s"]) -> Float[np.ndarray, "s s"]:
    """The median of the valid neighbours (3 × 3), grown outward from the valid pixels."""
    padded = np.pad(np.where(valid, values, np.nan), 1, constant_values=np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3)).reshape(*values.shape, 9)
    clean = np.where(valid, values, 0.0)
    clean[valid] = np.nanmedian(windows[valid], axis=1)
    rows, columns = nearest_true(valid)
    return clean[rows, columns].astype(np.float32)


def enlarged(values: Float[np.ndarray, "s s"], size: int) -> Float[np.ndarray, "n n"]:
    """Bilinear, but nearest across edges, where a ramp between two depths would be a curtain."""
    smooth = resized(values, size)
    place = np.minimum((np.arange(size) + 0.5) * len(values) / size, len(values) - 1).astype(int)
    nearest = values[place][:, place]
    return np.where(edges(values)[place][:, place], nearest, smooth).astype(np.float32)


def edges(values: Float[np.ndarray, "s s"]) -> Bool[np.ndarray, "s s"]:
    """The pixels on both sides of a jump: a step that is high, and much higher than those before and after it. A steep
    slope, such as a ball's near its outline, is none."""
    found = np.zeros(values.shape, bool)
    for axis in (0, 1):
        step = np.abs(np.diff(np.moveaxis(values, axis, 0), axis=0))
        beside = np.pad(step, ((1, 1), (0, 0)))
        jump = (step > _STEP) & (step > _STEEPER * np.maximum(beside[:-2], beside[2:]))
        along = np.moveaxis(found, axis, 0)
        along[:-1] |= jump
        along[1:] |= jump
    return found


def resized(values: np.ndarray, size: int) -> np.ndarray:
    """(s, s[, c]) → (size, size[, c]): area means when it gets smaller, bilinear when larger."""
    import torch  # noqa: PLC0415 - the surface alone needs none

    given = torch.from_numpy(np.ascontiguousarray(values, np.float32))
    planes = given[None, None] if values.ndim == 2 else given.permute(2, 0, 1)[None]
    smaller = size <= len(values)
    made = torch.nn.functional.interpolate(
        planes, (size, size), mode="area" if smaller else "bilinear", align_corners=None if smaller else False
    )[0]
    return made[0].numpy() if values.ndim == 2 else made.permute(1, 2, 0).numpy()


def smoothed(depth: Float[np.ndarray, "n n"], scale: float) -> Float[np.ndarray, "n n"]:
    """Without the facets of the interpolation between network pixels, which are `scale` columns wide; jumps stay."""
    kept = ndimage.binary_dilation(edges(depth), iterations=max(1, round(scale)))
    return np.where(kept, depth, ndimage.gaussian_filter(depth, _SMOOTHING * scale))


def _closed_rim(
    depths: Float[np.ndarray, "4 n n"],
    two: Bool[np.ndarray, "n n"],
    distance: Float[np.ndarray, "n n"],
    scale: float,
) -> Float[np.ndarray, "4 n n"]:
    """Front and back brought together toward the outline as far as they were on their way to each other.

    The network's pixel at the outline is half outside, so the last depths that can be trusted lie 1.5 pixels inside. Near a
    smooth outline the square of the half thickness is linear in the distance (a circle's chord): it is continued from
    there, down to half the thickness: the network sees too little of it near the outline.
    A box seen from the front has a constant thickness and keeps its wall. What is thinner than that has round edges.
    scale: columns a network pixel.
    """
    first, second = (share * scale for share in _TRUSTED)
    reach = int(np.ceil(second))
    ridge = ndimage.maximum_filter(distance, 2 * reach + 1)
    rim = (distance < first) & ~two
    soft = ndimage.gaussian_filter(np.clip(distance, -reach, 2 * reach), 1.0)
    rows, columns = np.nonzero(rim)
    down, across = (np.asarray(slope)[rim] for slope in np.gradient(soft))
    length = np.maximum(np.hypot(down, across), 1e-6)
    at, widest = distance[rim], np.maximum(ridge[rim], 0.5)
    squared, middles = [], []
    for inside in (first, second):
        move = (np.minimum(inside, widest) - at) / length
        place = tuple(
            np.clip(np.rint(start + move * slope), 0, len(distance) - 1).astype(int)
            for start, slope in ((rows, down), (columns, across))
        )
        enter, leave = depths[ENTER][place], depths[LEAVE][place]
        squared.append(np.square((leave - enter) / 2))
        middles.append((enter + leave) / 2)
    (near, far), share = squared, np.clip((first - at) / (second - first), 0, None)
    half = np.sqrt(np.clip(near - share * np.maximum(far - near, 0), _LEAST_WALL**2 * near, near))
    t = np.clip(at / widest, 0, 1)
    half = np.where(widest <= first, np.sqrt(near * (1 - (1 - t) ** 4)), half)
    closed = depths.copy()
    closed[ENTER][rim], closed[LEAVE][rim] = middles[0] - half, middles[0] + half
    # In order again after the medians: layers that pass each other would leave nothing of a thin part.
    closed[FIRST_LEAVE] = np.clip(closed[FIRST_LEAVE], closed[ENTER], closed[LEAVE])
    closed[SECOND_ENTER] = np.clip(closed[SECOND_ENTER], closed[FIRST_LEAVE], closed[LEAVE])
    return closed


def depth_normals(
    depth: Float[np.ndarray, "n n"], crop: tuple[float, float, float] = (0.0, 0.0, 1.0)
) -> Float[np.ndarray, "n n 3"]:
    """Unit normals of a depth map (units of RANGE, in the frame `crop`) in camera axes, towards the camera.

    Of the differences on both sides of a pixel the smaller one counts, so that a jump has no normal of its own.
    """
    x, y, half = crop
    at = ((np.arange(len(depth)) + 0.5) / len(depth) * 2 - 1) * half
    z = 1 + RANGE * half * depth.astype(np.float64)
    across, down = np.meshgrid((at + x) * SLOPE, (at + y) * SLOPE)
    pitch = 2 * half * SLOPE / len(depth)
    zx, zy = _slope(z, 1) / pitch, _slope(z, 0) / pitch
    # The gradient of Z - z(X / Z, Y / Z), Y down, turned to the camera and into its axes.
    normals = np.stack([zx / z, -zy / z, 1 + (across * zx + down * zy) / z], -1)
    return (normals / np.linalg.norm(normals, axis=-1, keepdims=True)).astype(np.float32)


def towards_camera(size: int, crop: tuple[float, float, float]) -> Float[np.ndarray, "n n 3"]:
    """Unit vectors from what a frame's pixels show to the camera, in its axes."""
    x, y, half = crop
    at = ((np.arange(size) + 0.5) / size * 2 - 1) * half
    across, down = np.meshgrid((at + x) * SLOPE, (at + y) * SLOPE)
    rays = np.stack([-across, down, np.ones_like(across)], -1)
    return (rays / np.linalg.norm(rays, axis=-1, keepdims=True)).astype(np.float32)


def _slope(values: Float[np.ndarray, "n n"], axis: int) -> Float[np.ndarray, "n n"]:
    """The smaller one of the differences to both neighbours, a pixel."""
    along = np.moveaxis(values, axis, 0)
    step = np.pad(np.diff(along, axis=0), ((1, 1), (0, 0)), mode="edge")
    before, after = step[:-1], step[1:]
    return np.moveaxis(np.where(np.abs(before) < np.abs(after), before, after), 0, axis)
