"""Small coloured files of objects, and what a rendered sample of one holds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import trimesh

from mv3d.orbits.jobs import decode_frame
from mv3d.orbits.sample import Sample
from mv3d.orbits.shards import END_OF_TAR, Shard


def colourful(solid: trimesh.Trimesh, path: Path) -> Path:
    """Vertex colours by position."""
    colors = (127.5 + 127.5 * np.sin(5 * solid.vertices + [0, 1, 2])).astype(np.uint8)
    solid.visual.vertex_colors = np.concatenate([colors, np.full((len(colors), 1), 255, np.uint8)], 1)
    solid.export(path)
    return path


def unpack(sample: Sample, tmp_path: Path) -> tuple[dict, np.ndarray]:
    path = tmp_path / "one.tar"
    path.write_bytes(sample.fragment + END_OF_TAR)
    members = Shard(path).members(0)
    frames = [decode_frame(members[name]) for name in sorted(members) if name.endswith("webp")]
    return json.loads(bytes(members["json"])), np.stack(frames)
