"""Ellipsoids in closed form as samples with geometry, for tests of what learns from them."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
from PIL import Image

from mv3d.orbits.build import build_shards
from mv3d.orbits.catalogue import CatalogueItem
from mv3d.orbits.config import OrbitConfig
from mv3d.orbits.geometry import SOLID
from mv3d.orbits.jobs import cameras_document, encode_frame, object_rng
from mv3d.orbits.sample import Sample
from mv3d.orbits.shards import tar_fragment
from mv3d.orbits.solid import SolidGrid, pack_solid
from mv3d.render.cameras import Cameras, Orbit

DISTANCE, CELLS = 2.0, 48


def axes_of(uid: str) -> np.ndarray:
    """Half axes; the largest is .5."""
    axes = object_rng(0, uid).uniform(0.25, 0.5, 3)
    return axes / axes.max() * 0.5


def color_at(points: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """A smooth colour of each point of the surface."""
    return 0.5 + 0.35 * points / axes


def crossings(cameras: Cameras, view: int, axes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(depth of entry, depth of exit, (h, w, 3) entry); NaN where a ray misses."""
    origins, directions = cameras.rays(view)
    o, d = origins / axes, directions / axes
    a, b, c = (d * d).sum(1), (o * d).sum(1), (o * o).sum(1) - 1
    with np.errstate(invalid="ignore"):
        root = np.sqrt(b * b - a * c)
    near, far = (-b - root) / a, (-b + root) / a
    along = directions @ -cameras.c2w[view, :3, 2]
    shape = cameras.height, cameras.width
    entry = origins + directions * near[:, None]
    return (near * along).reshape(shape), (far * along).reshape(shape), entry.reshape(*shape, 3)


def ellipsoid(item: CatalogueItem, config: OrbitConfig) -> Sample:
    """What `render_object` would make of one."""
    rng, axes = object_rng(config.seed, item.uid), axes_of(item.uid)
    elevations, azimuths = rng.uniform(-10, 60, config.views), rng.uniform(0, 360, config.views)
    orbit = Orbit(tuple(elevations), tuple(azimuths), DISTANCE, config.fov_deg)
    side = config.depth_size or config.size
    scale = 4 / 65535
    members: list[tuple[str, bytes]] = []
    for view in range(config.views):
        near, _, entry = crossings(orbit.cameras(config.size, config.size), view, axes)
        frame = np.zeros((config.size, config.size, 4), np.uint8)
        hit = np.isfinite(near)
        frame[hit, :3] = np.round(color_at(entry[hit], axes) * 255)
        frame[hit, 3] = 255
        members.append((f"{view:03d}.webp", encode_frame(frame)))
        if config.geometry:
            depth = crossings(orbit.cameras(side, side), view, axes)[0]
            stream = io.BytesIO()
            steps = np.where(np.isfinite(depth), np.round(np.nan_to_num(depth) / scale), 0).astype(np.uint16)
            Image.fromarray(steps).save(stream, "PNG")
            members.append((f"{view:03d}.depth.png", stream.getvalue()))
    document = {"uid": item.uid, "licence": item.licence, "author": "", "source": "", "title": "", "faces": 1}
    summary = dict(document)
    document |= {"cameras": cameras_document(orbit, orbit.cameras(config.size, config.size))}
    if config.geometry:
        at = ((np.arange(CELLS) + 0.5) / CELLS - 0.5) * 1.06
        x, y, z = np.meshgrid(at, at, at, indexing="ij")
        # A cell too thick, as carved solids are.
        grown = axes + 1.06 / CELLS
        inside = (x / grown[0]) ** 2 + (y / grown[1]) ** 2 + (z / grown[2]) ** 2 < 1
        members.append((SOLID, pack_solid(SolidGrid(inside))))
        document |= {"depth": {"scale": scale, "w": side, "h": side}, "solid": {"cells": CELLS, "side": 1.06}}
    return Sample(tar_fragment(item.uid, [("json", json.dumps(document).encode()), *members]), summary)


def save_ellipsoids(
    folder: Path,
    *,
    objects: int = 6,
    first: int = 0,
    views: int = 4,
    size: int = 64,
    geometry: bool = True,
    fov_deg: float = 33.8,
) -> Path:
    """Shards of them. The depth maps have half the side of the pictures."""
    items = [CatalogueItem(f"e{first + index}", licence="CC0-1.0") for index in range(objects)]
    config = OrbitConfig(
        views=views, size=size, environments=("uniform",), shard_size=4, trajectory="random", fov_deg=fov_deg,
        elevation_deg=(-10, 60), **{"geometry": True, "depth_size": size // 2} if geometry else {},
    )  # fmt: skip
    build_shards(items, folder, config, workers=1, work=ellipsoid)
    return folder
