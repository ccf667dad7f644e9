"""Orbits painted instead of rendered, for tests of what comes after."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from mv3d.orbits.catalogue import CatalogueItem
from mv3d.orbits.config import OrbitConfig
from mv3d.orbits.jobs import cameras_document, encode_frame, object_rng
from mv3d.orbits.sample import Sample
from mv3d.orbits.shards import tar_fragment
from mv3d.render.trajectories import dynamic_orbit


def painted(item: CatalogueItem, config: OrbitConfig) -> Sample:
    """A disc with a soft rim on nothing; red is the object, green the frame."""
    rng = object_rng(config.seed, item.uid)
    orbit = dynamic_orbit(config.views, rng, elevation_deg=10.0)
    ys, xs = np.mgrid[: config.size, : config.size] / config.size - 0.5
    alpha = np.clip((0.4 - np.hypot(xs, ys)) * config.size / 4, 0, 1)
    members: list[tuple[str, bytes]] = []
    document: dict[str, Any] = {
        "uid": item.uid,
        "title": item.title,
        "licence": item.licence,
        "author": item.author,
        "source": item.source,
        "faces": 1,
        "environment": {"name": "none"},
        "cameras": cameras_document(orbit, orbit.cameras(config.size, config.size)),
    }
    members.append(("json", json.dumps(document).encode()))
    red = int(rng.integers(256))
    for number in range(config.views):
        frame = np.zeros((config.size, config.size, 4), np.uint8)
        frame[..., 0], frame[..., 1], frame[..., 3] = red, number * 9 % 256, alpha * 255
        frame[: config.size // 2, :, 2] = 200
        members.append((f"{number:03d}.webp", encode_frame(frame)))
    summary = {key: document[key] for key in ("uid", "licence", "author", "source", "title", "faces")}
    return Sample(tar_fragment(item.uid, members), summary)
