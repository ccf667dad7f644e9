"""Training works: a tiny model learns eight orbits by heart."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from training_data import quick

from mv3d.models.loading import load_model_folder
from mv3d.orbits.build import build_shards
from mv3d.orbits.catalogue import CatalogueItem
from mv3d.orbits.config import OrbitConfig
from mv3d.orbits.jobs import cameras_document, encode_frame, object_rng
from mv3d.orbits.sample import Sample
from mv3d.orbits.shards import tar_fragment
from mv3d.orbits.trajectories import static_orbit
from mv3d.training.batches import BatchMaker
from mv3d.training.data import open_samples
from mv3d.training.loop import Denoise
from mv3d.training.run import train
from mv3d.training.validation import clean, psnr, sample_views

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


@pytest.mark.slow
def test_eight_orbits_are_learned_by_heart(tmp_path):
    """Views of the model beat "repeat the input" by at least 6 dB on every one of the eight orbits' average."""
    torch.set_num_threads(2)
    data = balls(tmp_path / "balls")
    config = quick(
        "tiny",
        frames=VIEWS,
        steps=400,
        batch=8,
        micro_batch=8,
        lr=2e-3,
        ema=0.99,
        channels=(64, 64),
        autoencoder_steps=400,
        drop_image=0.0,
        drop_latent=0.0,
        checkpoint_every=100,
        log_every=50,
        validate_every=100,
    )
    result = train(config, data, "", tmp_path / "run", progress=lambda *line: print(line))
    gain = mean_gain(result.files["model"], data, config, tmp_path / "sheet.png")
    print(gain)
    assert gain["made_db"] >= gain["repeated_db"] + 6


def mean_gain(folder: Path, data: Path, config: Any, sheet: Path) -> dict[str, float]:
    """PSNR of what the model makes and of the repeated input, the mean over the eight orbits; the given view left out."""
    from torch.utils.data import default_collate

    from mv3d.training.validation import _sheet

    model = load_model_folder(folder)
    settings = clean(replace(config, micro_batch=1))
    batches = BatchMaker(
        settings,
        scaling_factor=model.vae.config["scaling_factor"],
        device="cpu",
        vae=model.vae,
        image_encoder=model.image_encoder,
    )
    samples = open_samples(data, settings, (32, 32))
    made_db, repeated_db, rows, seen = [], [], [], set()
    for number in range(len(samples)):
        raw = samples.sample(number)
        if raw["uid"] in seen:
            continue
        seen.add(raw["uid"])
        batch = default_collate([raw | {"number": number}])
        truth, made = sample_views(
            Denoise(model.unet), batch, batches, model.vae, steps=20, sampler=model.info.sampler, seed=0
        )
        made_db.append(psnr(made[:-1], truth[:-1]))
        repeated_db.append(psnr(truth[-1:].expand_as(truth[:-1]), truth[:-1]))
        rows += [truth, made]
    assert len(seen) == 8
    _sheet(rows).save(sheet)
    return {"made_db": float(np.mean(made_db)), "repeated_db": float(np.mean(repeated_db))}
