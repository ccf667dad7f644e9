"""Where rays go: the camera's, the samples of a pixel, and the pixels that need all of them."""

from __future__ import annotations

from functools import reduce

import numpy as np
from jaxtyping import Bool, Float, Int

from mv3d.render.cameras import Cameras
from mv3d.render.model import Model
from mv3d.render.raycast import Hits, RayScene
from mv3d.render.surface import Channels, Surface

RAYS = 1 << 19  # rays cast at a time, which bounds the memory
_NEIGHBOURS = (  # of pixels beside each other, and below each other
    ((slice(None), slice(None, -1)), (slice(None), slice(1, None))),
    ((slice(None, -1), slice(None)), (slice(1, None), slice(None))),
)
CONTRAST = 0.08  # of neighbouring pixels, about sRGB, above which all samples are taken


def sample_offsets(samples: int, seed: int) -> Float[np.ndarray, "s 2"]:
    """Places of the samples in a pixel, (0, 1)²: the centre, a rotated grid of four, or a lattice of the golden
    ratio with one sample a column; shifted on the torus by the seed (0: not shifted)."""
    if samples == 1:
        return np.array([[0.5, 0.5]])
    if samples == 4:
        places = np.array([[0.375, 0.125], [0.875, 0.375], [0.125, 0.625], [0.625, 0.875]])
    else:
        index = np.arange(samples)
        places = np.stack([(index + 0.5) / samples, (0.5 + index * 0.6180339887498949) % 1], 1)
    if seed:
        places = (places + np.random.default_rng(seed).random(2)) % 1
    return places


class CameraRays:
    """One camera's rays; their directions have depth 1, so a distance is the depth along the optical axis."""

    def __init__(self, cameras: Cameras, view: int) -> None:
        self.center = cameras.centers[view].astype(np.float32)
        rotation = cameras.c2w[view, :3, :3]
        self._x = (rotation[:, 0] / cameras.fl_x[view]).astype(np.float32)
        self._y = (-rotation[:, 1] / cameras.fl_y[view]).astype(np.float32)
        corner = -rotation[:, 2] - rotation[:, 0] * cameras.cx[view] / cameras.fl_x[view]
        self._corner = (corner + rotation[:, 1] * cameras.cy[view] / cameras.fl_y[view]).astype(np.float32)
        self.pixel = np.float32(1 / np.sqrt(cameras.fl_x[view] * cameras.fl_y[view]))

    def directions(self, x: np.ndarray, y: np.ndarray) -> Float[np.ndarray, "r 3"]:
        result = np.empty((len(x), 3), np.float32)
        for axis in range(3):
            result[:, axis] = x * self._x[axis]
            result[:, axis] += y * self._y[axis]
            result[:, axis] += self._corner[axis]
        return result

    def trace(self, scene: RayScene, directions: np.ndarray) -> Hits:
        origins = np.empty_like(directions)
        origins[:] = self.center
        if len(directions) <= RAYS:
            return scene.first_hits(origins, directions)
        parts = [
            scene.first_hits(origins[start : start + RAYS], directions[start : start + RAYS])
            for start in range(0, len(directions), RAYS)
        ]
        columns = zip(*(vars(part).values() for part in parts), strict=True)
        return Hits(*(np.concatenate(column) for column in columns))


def window_of(model: Model, cameras: Cameras, view: int) -> tuple[int, int, int, int]:
    """Rows and columns (top, bottom, left, right) outside which nothing of the model can be seen."""
    low, high = model.vertices.min(0).astype(np.float64), model.vertices.max(0).astype(np.float64)
    corners = np.array(np.meshgrid(*zip(low, high, strict=True), indexing="ij")).reshape(3, -1).T
    xy, depth = cameras.project(corners, view)
    if depth.min() <= 1e-6 * np.abs(depth).max():
        return 0, cameras.height, 0, cameras.width
    if len(model.vertices) < 1_000_000:
        xy, _ = cameras.project(model.vertices, view)
    left, top = np.floor(np.clip(xy.min(0) - 1, 0, [cameras.width, cameras.height])).astype(int)
    right, bottom = np.ceil(np.clip(xy.max(0) + 1, 0, [cameras.width, cameras.height])).astype(int)
    return int(top), int(bottom), int(left), int(right)


def find_edges(
    surface: Surface,
    faces: Int[np.ndarray, "r c"],
    hit: np.ndarray,
    face: np.ndarray,
    distance: np.ndarray,
    normal: Channels,
    facing: np.ndarray,
    pixel: np.float32,
) -> Bool[np.ndarray, " p"]:
    """Pixels between whose centres and a neighbour's the surface does not go on smoothly."""
    rows, columns = faces.shape
    edge = np.zeros((rows, columns), bool)
    covered = faces >= 0

    def grid(values: np.ndarray) -> np.ndarray:
        image = np.zeros(rows * columns, values.dtype)
        image[hit] = values
        return image.reshape(rows, columns)

    depth = grid(distance)
    # How much the depth changes from pixel to pixel on this slope.
    slope = distance * pixel * (np.sqrt(1 / np.maximum(facing, np.float32(0.02)) ** 2 - 1) * 2 + 1)
    step = grid(slope)
    axes = [grid(axis) for axis in normal]
    material = grid(surface.material[face] + 1)
    several = len(surface.model.materials) > 1
    for a, b in _NEIGHBOURS:
        broken = axes[0][a] * axes[0][b]
        broken += axes[1][a] * axes[1][b]
        broken += axes[2][a] * axes[2][b]
        differ = broken < 0.95
        differ |= np.abs(depth[a] - depth[b]) > np.maximum(step[a], step[b])
        if several:
            differ |= material[a] != material[b]
        differ &= faces[a] != faces[b]
        differ &= covered[a] | covered[b]
        edge[a] |= differ
        edge[b] |= differ
    for a, b in (
        ((slice(None, -1), slice(None, -1)), (slice(1, None), slice(1, None))),
        ((slice(None, -1), slice(1, None)), (slice(1, None), slice(None, -1))),
    ):
        differ = covered[a] != covered[b]
        edge[a] |= differ
        edge[b] |= differ
    return edge.reshape(-1)


def find_contrast(
    color: Float[np.ndarray, "c p"], pixels: Int[np.ndarray, " n"], shape: tuple[int, int]
) -> Int[np.ndarray, " k"]:
    """Those of the pixels whose linear colour (of all pixels) differs from that of a neighbour among them."""
    inner = np.zeros(shape, bool)
    inner.reshape(-1)[pixels] = True
    found = np.zeros(shape, bool)
    # Square roots are close enough to sRGB.
    planes = [np.sqrt(np.clip(color[channel], 0, 1)).reshape(shape) for channel in range(3)]
    for a, b in _NEIGHBOURS:
        differ = inner[a] & inner[b]
        differ &= reduce(np.logical_or, (np.abs(plane[a] - plane[b]) > CONTRAST for plane in planes))
        found[a] |= differ
        found[b] |= differ
    return np.flatnonzero(found)
