"""Sheets of views, so that a run can be looked at: for each orbit the truth above, what the network makes of it below."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from torch.utils.data import default_collate

from mv3d.models.components import Autoencoder
from mv3d.models.encode import decode_frames
from mv3d.models.folder import SamplerDefaults
from mv3d.models.samplers import SAMPLERS
from mv3d.models.sampling import karras_sigmas
from mv3d.orbits.dataset import Samples, normalized
from mv3d.training.batches import BatchMaker
from mv3d.training.config import TrainConfig
from mv3d.training.loss import sample_generator
from mv3d.views.metrics import psnr_from_mse

FOLDER = "validation"
SCORES = "scores.jsonl"
_STREAM = 2


@torch.no_grad()
def sample_views(
    model: nn.Module,
    raw: dict[str, Any],
    batches: BatchMaker,
    vae: Autoencoder,
    *,
    steps: int,
    sampler: SamplerDefaults,
    seed: int,
    method: str = "dpmpp_2m",
) -> tuple[Float[Tensor, "frames 3 h w"], Float[Tensor, "frames 3 h w"]]:
    """(truth, generated) views in [0, 1] of one sample, without guidance. The truth has gone through the autoencoder
    where only latents are known. sampler: whose noise levels are taken. method: one of `SAMPLERS`."""
    target, conditioning, _ = batches.make(raw)
    ends = {"sigma_min": sampler.sigma_min, "sigma_max": sampler.sigma_max, "rho": sampler.rho}
    sigmas = karras_sigmas(steps, **ends).to(target.device)
    generator = sample_generator(seed, int(raw["index"][0]), _STREAM)
    start = torch.randn(target.shape, generator=generator).to(target.device) * (1 + sigmas[0] ** 2).sqrt()
    denoiser = lambda x, sigma: model(x, sigma.reshape(1).expand(len(x)), conditioning)  # noqa: E731
    latents = SAMPLERS[method](denoiser, start, sigmas)
    generated = decode_frames(vae, latents[0])[:, :3]
    truth = decode_frames(vae, target[0])[:, :3]
    if "images" in raw:
        truth = normalized(raw["images"][0].to(truth.device)) / 2 + 0.5
    return truth, generated


def clean(config: TrainConfig) -> TrainConfig:
    """The configuration without noise in the input view (e^-11.5 is SV3D's 1e-5) and without dropped conditions."""
    return dataclasses.replace(
        config, cond_mean=-11.5, cond_std=0.0, drop_image=0.0, drop_latent=0.0, drop_render=0.0
    )


class Validator:
    """Writes `validation/00001000.png` and a line of `scores.jsonl` beside it.

    The orbits are the first of the run's own data: the sheet shows what is learned, not how well it carries over.
    """

    def __init__(
        self,
        config: TrainConfig,
        samples: Samples,
        batches: BatchMaker,
        vae: Autoencoder,
        sampler: SamplerDefaults,
        out: Path,
        *,
        main: bool,
        method: str = "dpmpp_2m",
    ) -> None:
        self._batches, self._vae, self._out, self._main = batches, vae, out / FOLDER, main
        self._settings = {"steps": config.validation_steps, "sampler": sampler, "seed": config.seed}
        self._settings["method"] = method
        self._raws = [
            default_collate([samples.sample(i)]) for i in range(min(config.validation_orbits, len(samples)))
        ]

    def __call__(self, model: nn.Module, step: int) -> None:
        rows, scores = [], []
        for raw in self._raws:
            truth, made = sample_views(model, raw, self._batches, self._vae, **self._settings)
            rows += [truth, made]
            scores.append(psnr_from_mse(float(mse_loss(made, truth))))
        if not self._main:
            return
        self._out.mkdir(exist_ok=True)
        _sheet(rows).save(self._out / f"{step:08d}.png")
        with (self._out / SCORES).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"step": step, "psnr_db": float(np.mean(scores))}) + "\n")


def last_score(out: Path) -> float | None:
    """PSNR of the last sheet, in dB."""
    path = out / FOLDER / SCORES
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return float(json.loads(lines[-1])["psnr_db"]) if lines else None


def _sheet(rows: list[Tensor]) -> Image.Image:
    """One row of views for each tensor (frames, 3, h, w) in [0, 1]."""
    picture = torch.cat([torch.cat(list(row.cpu()), dim=2) for row in rows], dim=1)
    return Image.fromarray((picture.clamp(0, 1) * 255).round().byte().movedim(0, -1).contiguous().numpy())
