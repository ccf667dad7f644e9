"""Random latents in the form that `mv3d orbits encode` writes: what is timed does not look at the numbers."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mv3d.core.files import to_json
from mv3d.core.records import SCHEMA
from mv3d.orbits.config import sha256_of_json
from mv3d.orbits.index import LATENTS
from mv3d.orbits.sample import Sample
from mv3d.orbits.shards import tar_fragment, write_pieces, write_shard
from mv3d.render.cameras import sv3d_azimuths_deg

CONTEXT = 1024
"""Numbers of an image embedding."""


def latent_shards(folder: Path, *, orbits: int, frames: int, side: int) -> Path:
    """A new folder with one shard of `orbits` orbits of `frames` frames, latents of `side`²."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    angles = {"elevations_deg": [10.0] * frames, "azimuths_deg": sv3d_azimuths_deg(frames).tolist()}

    def samples() -> Iterator[Sample]:
        for number in range(orbits):
            head = {"uid": f"o{number}", "licence": "CC0-1.0", **angles}
            head["backgrounds"] = {"white": [255] * 3, "color": [1, 2, 3]}
            files = [("json", json.dumps(head).encode())]
            for name in ("white", "color"):
                for what, shape in (("latents", (frames, 4, side, side)), ("embeddings", (frames, CONTEXT))):
                    buffer = io.BytesIO()
                    np.save(buffer, rng.standard_normal(shape, np.float32).astype(np.float16))
                    files.append((f"{what}.{name}.npy", buffer.getvalue()))
            yield Sample(tar_fragment(f"o{number}", files), {"uid": f"o{number}", "licence": "CC0-1.0"})

    record = write_shard(folder / "shard-000000.tar", samples(), scratch=folder)
    shard = {"name": record["shard"], "samples": orbits, "bytes": record["bytes"], "sha256": record["sha256"]}
    index = {
        "schema": SCHEMA, "kind": LATENTS, "finished": True, "shards": [shard], "samples": orbits, "objects": orbits,
        "rejected": {}, "licences": {}, "config": {}, "identity_sha256": sha256_of_json(shard),
    }  # fmt: skip
    write_pieces(folder / "index.json", [to_json(index).encode()])
    return folder
