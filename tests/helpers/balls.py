"""Orbits of balls with patterns, for tests that learn them. A module of its own: worker processes import it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from mv3d.orbits.build import build_shards
from mv3d.orbits.catalogue import CatalogueItem
from mv3d.orbits.config import OrbitConfig
from mv3d.orbits.jobs import cameras_document, encode_frame, object_rng
from mv3d.orbits.sample import Sample
from mv3d.orbits.shards import tar_fragment
from mv3d.render.trajectories import static_orbit

VIEWS = 4


def ball(item: CatalogueItem, config: OrbitConfig) -> Sample:
    """A ball with a smooth pattern of its own, seen from afar: each view shows another side of the same thing."""
    rng = object_rng(config.seed, item.uid)
    waves, phases = rng.normal(0, 1.6, (3, 3)), rng.uniform(0, 2 * np.pi, 3)
    orbit = static_orbit(config.views, elevation_deg=10.0)
    rows, columns = np.mgrid[: config.size, : config.size]
    up, right = 0.5 - (rows + 0.5) / config.size, (columns + 0.5) / config.size - 0.5
    inside = 0.42**2 - up**2 - right**2
    towards = np.sqrt(np.maximum(inside, 0))
    members: list[tuple[str, bytes]] = []
    document: dict[str, Any] = {
        "uid": item.uid, "title": "", "licence": item.licence, "author": "", "source": "", "faces": 1,
        "environment": {"name": "none"},
        "cameras": cameras_document(orbit, orbit.cameras(config.size, config.size)),
    }  # fmt: skip
    members.append(("json", json.dumps(document).encode()))
    for number, (elevation, azimuth) in enumerate(
        zip(np.radians(orbit.elevations_deg), np.radians(orbit.azimuths_deg), strict=True)
    ):
        back = np.array(
            [np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)]
        )
        side = np.array([-np.sin(azimuth), np.cos(azimuth), 0.0])
        points = right[..., None] * side + up[..., None] * np.cross(back, side) + towards[..., None] * back
        colour = 0.5 + 0.5 * np.sin(points / 0.42 @ waves.T * 1.2 + phases)
        frame = np.zeros((config.size, config.size, 4), np.uint8)
        frame[..., :3] = colour * 255
        frame[..., 3] = np.clip(inside * 60, 0, 1) * 255
        members.append((f"{number:03d}.webp", encode_frame(frame)))
    summary = {key: document[key] for key in ("uid", "licence", "author", "source", "title", "faces")}
    return Sample(tar_fragment(item.uid, members), summary)


def balls(folder: Path, *, size: int = 32) -> Path:
    items = [CatalogueItem(f"ball{index}", licence="CC0-1.0") for index in range(8)]
    config = OrbitConfig(views=VIEWS, size=size, environments=("uniform",), shard_size=8)
    build_shards(items, folder, config, workers=1, work=ball)
    return folder
