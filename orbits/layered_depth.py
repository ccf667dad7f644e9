"""Layered depth: where the rays of a camera enter and leave a solid.

Four depths a pixel describe what one picture cannot show: the visible surface, how thick it is there, and what lies
behind the first gap. They are the targets of a single-photo 3D prior.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

from mv3d.orbits.solid import SolidGrid
from mv3d.render.cameras import Cameras

SAMPLES = 128
NEAR, FAR = 0.66, 1.34
GAP = 3
_INSET = 1.0  # cells by which a carved solid is too thick along a ray: the median on spheres and tori
_THINNEST = 0.003  # least thickness of a layer, in distances of the camera
_CHUNK = 16_384


def layered_depth(
    solid: SolidGrid,
    cameras: Cameras,
    view: int,
    depth: Float[np.ndarray, "h w"],
    *,
    samples: int = SAMPLES,
    near: float = NEAR,
    far: float = FAR,
    gap: int = GAP,
) -> Float[np.ndarray, "4 h w"]:
    """(4, h, w) float32 depths along the optical axis of one view: enter, first leave, second enter, last leave.

    depth: of the visible surface in world lengths, as `mv3d.orbits.geometry.read_geometry` gives it; 0 or infinity
    where nothing is. It is the first layer's entry, unchanged. The other depths come from `samples` equal steps
    between near and far, in distances of the camera from the origin. Gaps of fewer than `gap` samples are closed.
    Pixels without a surface hold 0; a pixel with one layer holds 0 in the last two. Where there are more than two
    layers, the first and the last are given.
    """
    height, width = depth.shape
    small = cameras.resized(width, height)
    distance = float(np.linalg.norm(small.centers[view]))
    ahead = -small.c2w[view, :3, 2]
    origins, directions = small.rays(view)
    directions /= (directions @ ahead)[:, None]  # one length along the axis each
    step = (far - near) * distance / (samples - 1)
    stops = near * distance + step * np.arange(samples)
    flat = np.where(np.isfinite(depth), depth, 0).reshape(-1).astype(np.float64)
    layers = np.zeros((4, height * width), np.float32)
    seen = np.flatnonzero(flat > 0)
    for begin in range(0, len(seen), _CHUNK):
        rays = seen[begin : begin + _CHUNK]
        # Axis by axis: an inner loop over three coordinates costs more than the sums.
        points = np.empty((3, len(rays), samples), np.float32)
        for axis, place in enumerate(points):
            place[:] = directions[rays, axis, None] * stops + origins[0, axis]
        occupied = solid.at(np.moveaxis(points, 0, -1))
        # What lies before the surface is its shell.
        first = np.searchsorted(stops, flat[rays]).clip(max=samples - 1)
        occupied &= np.arange(samples) >= first[:, None]
        occupied[np.arange(len(rays)), first] = True
        starts, ends = _first_and_last_run(closed(occupied, gap))
        inset = _INSET * solid.cell
        edge = near * distance - step / 2  # of sample 0
        thinnest = _THINNEST * distance
        leave = np.maximum(edge + ends * step - inset, flat[rays, None] + thinnest)
        enter = np.minimum(edge + starts[:, 1] * step + inset, leave[:, 1] - thinnest)
        two = starts[:, 1] > starts[:, 0]
        layers[0, rays] = flat[rays]
        layers[1, rays] = leave[:, 0]
        layers[2, rays] = np.where(two, np.maximum(enter, leave[:, 0]), 0)
        layers[3, rays] = np.where(two, leave[:, 1], 0)
    return layers.reshape(4, height, width)


def closed(occupied: Bool[np.ndarray, "r s"], gap: int) -> Bool[np.ndarray, "r s"]:
    """With gaps of fewer than `gap` samples between two occupied ones filled."""
    filled = occupied.copy()
    for size in range(1, gap):
        between = occupied[:, : -size - 1] & occupied[:, size + 1 :]
        for offset in range(1, size + 1):
            filled[:, offset : offset + between.shape[1]] |= between
    return filled


def _first_and_last_run(occupied: Bool[np.ndarray, "r s"]) -> tuple[np.ndarray, np.ndarray]:
    """(r, 2) first samples and (r, 2) samples past the end of the first and the last run of each row, which has one."""
    padded = np.pad(occupied, ((0, 0), (1, 1)))
    start, end = padded[:, 1:] & ~padded[:, :-1], padded[:, :-1] & ~padded[:, 1:]
    last = occupied.shape[1]
    return tuple(  # pyright: ignore[reportReturnType]
        np.stack([edge.argmax(1), last - edge[:, ::-1].argmax(1)], 1) for edge in (start, end)
    )
