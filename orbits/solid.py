"""The outer solid of a model on a grid: what no line of sight from outside passes through.

Carved from orthographic depth maps, so that open, self-crossing and inside-out meshes have one, too: a cell is empty
where some direction sees past it. Space that no direction reaches counts as solid.
"""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from mv3d.core.errors import InputError, shown
from mv3d.render.raycast import Caster, Hits

SIDE = 1.06
"""Side of the grid's cube: the normalised box of side 1 and a little room around it."""
CELLS = 96
DIRECTIONS = 28
_SLACK = 0.6  # cells by which a surface is thicker towards each direction: a wall without thickness keeps its cells
# Rays a cell's side: the minimum of 3x3 rays then reaches past the neighbouring cell's centre.
_OVERSAMPLING = 1.05
_MOST_CELLS = 1024
_CHUNK = 32_768  # points
_FAR = 2.0  # of the rays' origins from the plane through the middle


@dataclass(frozen=True, eq=False)
class SolidGrid:
    """occupied: (n, n, n) bool by x, y, z. side: of the cube around the origin that the n³ cells fill."""

    occupied: Bool[np.ndarray, "n n n"]
    side: float = SIDE

    @property
    def cell(self) -> float:
        """Side of one cell."""
        return self.side / len(self.occupied)

    @property
    def volume(self) -> float:
        """Of the occupied cells."""
        return int(self.occupied.sum()) * self.cell**3

    def at(self, points: Float[np.ndarray, "*p 3"]) -> Bool[np.ndarray, "*p"]:
        """Whether the cell that holds a point is occupied; not so outside the cube."""
        n = len(self.occupied)
        # One axis at a time: a reduction over an axis of three costs more than all the rest.
        flat = np.zeros(points.shape[:-1], np.int32)
        inside = np.ones(points.shape[:-1], bool)
        for axis in range(3):
            index = cell_of(points[..., axis], n, self.side)
            inside &= (index >= 0) & (index < n)
            np.clip(index, 0, n - 1, out=index)
            flat *= n
            flat += index
        return self.occupied.reshape(-1)[flat] & inside


def view_directions(count: int = DIRECTIONS) -> Float[np.ndarray, "n 3"]:
    """Unit vectors towards the viewer: the six axes, the others a Fibonacci spiral over the sphere. count: 6 or more."""
    spiral = count - 6
    z = 1 - (2 * np.arange(spiral) + 1) / max(spiral, 1)
    angle = np.pi * (1 + 5**0.5) * (np.arange(spiral) + 0.5)
    ring = np.sqrt(1 - z * z)
    around = np.stack([ring * np.cos(angle), ring * np.sin(angle), z], 1)
    return np.concatenate([np.eye(3), -np.eye(3), around])


def carve_solid(
    caster: Caster, *, cells: int = CELLS, side: float = SIDE, directions: int = DIRECTIONS
) -> SolidGrid:
    """The solid of a normalised model (largest side 1, centred at the origin). caster: of
    `mv3d.render.embree.opaque_caster`, or a `RayScene`.

    Each direction's depth map is replaced by its minimum over 3x3 rays, and only cells more than 0.6 of a cell in
    front of it are carved. Cells in which any ray met the surface stay: a wall without thickness, seen from its edge.
    The solid so holds every surface that is seen and lies within two cells of it on the outside, 0.8 in the mean.
    """
    return carved(seen_from_around(caster, cells=cells, side=side, directions=directions), cells, side)


def seen_from_around(
    caster: Caster, *, cells: int = CELLS, side: float = SIDE, directions: int = DIRECTIONS
) -> list[SurfaceSeen]:
    """What `carve_solid` carves from: one orthographic view for each of `view_directions`."""
    return [_depth_map(caster, -towards, cells, side) for towards in view_directions(directions)]


def carved(maps: list[SurfaceSeen], cells: int, side: float = SIDE) -> SolidGrid:
    """The solid that these views leave, as `carve_solid` says."""
    slack = np.float32(_SLACK * side / cells)
    centres = (((np.arange(cells) + 0.5) / cells - 0.5) * side).astype(np.float32)
    occupied = np.zeros((cells, cells, cells), bool)
    thick = max(1, _CHUNK // cells**2)  # slabs whose arrays stay in the cache
    for begin in range(0, cells, thick):
        slab = occupied[begin : begin + thick].reshape(-1)
        points = np.stack(np.meshgrid(centres[begin : begin + thick], centres, centres, indexing="ij"), -1)
        points = points.reshape(-1, 3)
        left = np.arange(len(points))
        for depth_map in maps:
            kept = np.flatnonzero(depth_map.reached(points, slack))
            if len(kept) < len(points):
                left, points = left.take(kept), points.take(kept, 0)
        slab[left] = True
    for depth_map in maps:
        occupied[tuple(cell_of(depth_map.met, cells, side).clip(0, cells - 1).T)] = True
    return SolidGrid(occupied, side)


@dataclass(frozen=True, eq=False)
class SurfaceSeen:
    """A model from one direction. frame: (3, 3) columns along the rows, along the columns and ahead. surface: (r, r)
    distances ahead of the origin, infinite where nothing is. scale: rays a length. met: (m, 3) points where rays met the
    surface. hits: of these m rays."""

    frame: Float[np.ndarray, "3 3"]
    surface: Float[np.ndarray, "r r"]
    scale: float
    met: Float[np.ndarray, "m 3"]
    hits: Hits

    def reached(self, points: Float[np.ndarray, "p 3"], slack: np.float32) -> Bool[np.ndarray, " p"]:
        """Whether points lie on the surface or behind it, or before it by no more than the slack."""
        rays = len(self.surface)
        placed = points @ self.frame
        pixel = (placed[:, :2] * np.float32(self.scale) + np.float32(rays / 2)).astype(np.int32)
        np.clip(pixel, 0, rays - 1, out=pixel)
        return placed[:, 2] + slack >= self.surface.take(pixel[:, 0] * rays + pixel[:, 1])


def _depth_map(caster: Caster, ahead: Float[np.ndarray, " 3"], cells: int, side: float) -> SurfaceSeen:
    """Orthographic, the minimum of 3x3 rays at each place."""
    from scipy.ndimage import minimum_filter  # noqa: PLC0415 - slow to import

    reach = side * 3**0.5 / 2  # of the cube's corners
    rays = int(np.ceil(2 * reach / (side / cells) * _OVERSAMPLING))
    first = np.cross(ahead, [0.0, 0.0, 1.0] if abs(ahead[2]) < 0.9 else [1.0, 0.0, 0.0])
    first /= np.linalg.norm(first)
    frame = np.stack([first, np.cross(ahead, first), ahead], 1)
    across = ((np.arange(rays) + 0.5) / rays * 2 - 1) * reach
    places = np.stack([*np.meshgrid(across, across, indexing="ij"), np.full((rays, rays), -_FAR)], -1)
    origins = (places.reshape(-1, 3) @ frame.T).astype(np.float32)
    hits = caster.first_hits(origins, np.broadcast_to(ahead.astype(np.float32), origins.shape))
    met = np.flatnonzero(hits.face >= 0)
    points = origins[met] + hits.distance[met, None] * ahead.astype(np.float32)
    surface = minimum_filter(hits.distance.reshape(rays, rays), 3, mode="nearest") - np.float32(_FAR)
    seen = Hits(hits.face[met], hits.u[met], hits.v[met], hits.distance[met], hits.back[met])
    return SurfaceSeen(frame.astype(np.float32), surface, rays / (2 * reach), points, seen)


def cell_of(points: Float[np.ndarray, "*p 3"], cells: int, side: float) -> Int[np.ndarray, "*p 3"]:
    """The indices of the cells that hold points; beyond 0 to cells - 1 outside the cube."""
    return np.floor(points * (cells / side) + cells / 2).astype(np.int32)


def pack_solid(solid: SolidGrid) -> bytes:
    """As an .npz file: `bits` (numpy.packbits of the cells in C order), `cells`, `side`."""
    buffer, bits = io.BytesIO(), np.packbits(solid.occupied)
    np.savez_compressed(buffer, bits=bits, cells=np.int32(len(solid.occupied)), side=np.float64(solid.side))
    return buffer.getvalue()


def unpack_solid(content: bytes | memoryview) -> SolidGrid:
    """The inverse of `pack_solid`. Raises InputError."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > _MOST_CELLS**3 // 8 + 4096:
                raise InputError(f"solid: expected at most {_MOST_CELLS} cells along a side")
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            bits, cells, side = arrays["bits"], int(arrays["cells"]), float(arrays["side"])
        if not (1 <= cells <= _MOST_CELLS and 0 < side < np.inf and len(bits) == -(-(cells**3) // 8)):
            raise InputError(f"solid: expected the bits of {cells} cells along a side, got {bits.shape}")
        occupied = np.unpackbits(bits, count=cells**3).astype(bool).reshape(cells, cells, cells)
    except (OSError, ValueError, KeyError, TypeError, EOFError, RuntimeError, zipfile.BadZipFile) as error:
        raise InputError(f"solid: cannot be read ({shown(error)})") from error
    return SolidGrid(occupied, side)
