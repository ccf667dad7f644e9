"""Base colours of a solid's surface cells, for what learns a colour at points and not in pictures."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from mv3d.orbits.solid import SolidGrid, SurfaceSeen, cell_of
from mv3d.render.model import Model


def surface_cells(occupied: Bool[np.ndarray, "n n n"]) -> Int[np.ndarray, "m 3"]:
    """Indices of the occupied cells that share a face with an empty one, or with the cube's border, in C order."""
    padded = np.pad(occupied, 1)
    inner = padded[1:-1, 1:-1, 1:-1].copy()
    for axis in range(3):
        for shift in (-1, 1):
            inner &= np.roll(padded, shift, axis)[1:-1, 1:-1, 1:-1]
    return np.argwhere(occupied & ~inner)


def color_surface(model: Model, solid: SolidGrid, seen: list[SurfaceSeen]) -> UInt8[np.ndarray, "m 3"]:
    """sRGB base colours, without light, of `surface_cells`.

    The mean, as light, of the colours that the views' rays met in a cell; in a cell that none met, that of the nearest one
    that some did: the solid's surface lies up to two cells outside the model's. 0 for a solid that no ray met.
    seen: what the solid was carved from.
    """
    from scipy.spatial import KDTree  # noqa: PLC0415 - slow to import

    from mv3d.core.colors import encode_srgb  # noqa: PLC0415
    from mv3d.render.ray_shading import base_colors  # noqa: PLC0415 - readers of samples need no renderer
    from mv3d.render.surface import Points, Surface  # noqa: PLC0415

    count, surface = len(solid.occupied), Surface(model)
    sums: Float[np.ndarray, "4 c"] = np.zeros((4, count**3))
    for view in seen:
        hits = view.hits
        footprint = np.full(len(hits.face), solid.cell, np.float32)
        colors = base_colors(surface, Points(hits.face, hits.u, hits.v, hits.back, footprint))[:3]
        place = cell_of(view.met, count, solid.side).clip(0, count - 1) @ [count * count, count, 1]
        for channel, values in enumerate((*colors, np.ones(len(place)))):
            sums[channel] += np.bincount(place, values, count**3)
    known, wanted = np.flatnonzero(sums[3]), surface_cells(solid.occupied)
    if not len(known):
        return np.zeros((len(wanted), 3), np.uint8)
    places = np.stack(np.unravel_index(known, (count, count, count)), 1)
    nearest = known[KDTree(places).query(wanted)[1]]
    mean = (sums[:3, nearest] / sums[3, nearest]).T
    return (np.clip(encode_srgb(mean.astype(np.float32)), 0, 1) * 255 + 0.5).astype(np.uint8)
