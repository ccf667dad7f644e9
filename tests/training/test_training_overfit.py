"""Training works: a tiny model learns eight orbits by heart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.balls import VIEWS, balls
from helpers.training_data import quick
from torch.nn.functional import mse_loss

from mv3d.models.loading import load_model_folder
from mv3d.training.batches import BatchMaker
from mv3d.training.data import open_samples
from mv3d.training.objective import Denoise
from mv3d.training.run import train
from mv3d.training.validation import clean, sample_views
from mv3d.views.metrics import psnr_from_mse


@pytest.mark.slow
def test_eight_orbits_are_learned_by_heart(tmp_path):
    """Views of the model beat "repeat the input" by at least 6 dB on every one of the eight orbits' average."""
    data = balls(tmp_path / "balls")
    config = quick(
        "tiny",
        frames=VIEWS,
        steps=600,
        batch=8,
        micro_batch=8,
        lr=2e-3,
        warmup=20,
        ema=0.99,
        channels=(64, 64),
        encoder_steps=200,
        patch=4,
        latent_channels=16,
        mirror=False,
        drop_image=0.0,
        drop_latent=0.0,
        checkpoint_every=200,
        log_every=50,
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
        batch = default_collate([raw | {"index": number}])
        truth, made = sample_views(
            Denoise(model.unet), batch, batches, model.vae, steps=20, sampler=model.info.sampler, seed=0
        )
        made_db.append(psnr_from_mse(float(mse_loss(made[:-1], truth[:-1]))))
        repeated_db.append(psnr_from_mse(float(mse_loss(truth[-1:].expand_as(truth[:-1]), truth[:-1]))))
        rows += [truth, made]
    assert len(seen) == 8
    _sheet(rows).save(sheet)
    return {"made_db": float(np.mean(made_db)), "repeated_db": float(np.mean(repeated_db))}
