"""The frozen parts of a model that has no base: a small autoencoder, trained here, and a random image encoder.

An image encoder with random weights still gives every picture a direction of its own; what the picture shows comes
through the latent of the input view.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from safetensors.torch import save_file
from transformers import CLIPVisionModelWithProjection

from mv3d.errors import InputError
from mv3d.models.components import build_image_encoder, build_vae
from mv3d.models.folder import COMPONENTS, ModelInfo, write_info
from mv3d.orbits.dataset import normalized
from mv3d.runs import to_json
from mv3d.training.config import TrainConfig
from mv3d.training.data import Samples
from mv3d.training.loss import sample_generator

FACTOR = 4
_VAE: dict[str, Any] = {
    "_class_name": "AutoencoderKL",
    "block_out_channels": [32, 64, 64],
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "latent_channels": 4,
    "mid_block_add_attention": False,
}
_ENCODER: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 32,
    "patch_size": 8,
    "projection_dim": 128,
    "hidden_act": "gelu",
}
_LR, _KL, _FRAMES_PER_STEP, _STREAM = 2e-3, 1e-6, 16, 3


def prepare_parts(
    config: TrainConfig,
    samples: Samples,
    folder: Path,
    *,
    device: torch.device | str,
    progress: Callable[[int, int, dict[str, float]], None] | None = None,
) -> None:
    """Train and write `vae/`, `image_encoder/` and `mv3d.json` into `folder`, aside first."""
    if samples.kind == "latents":
        raise InputError(
            "--data: cached latents need the model that made them; give its folder as --base, or give rendered shards"
        )
    size = samples.sample(0)["images"].shape[1:3]
    if size[0] != size[1]:
        raise InputError(
            f"--data: expected square pictures to train an autoencoder, got {size[1]} × {size[0]}"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        vae, vae_config = build_vae(dict(_VAE))
        encoder, encoder_config = build_image_encoder({"model_type": "clip_vision_model"} | _ENCODER)
    if not isinstance(vae, AutoencoderKL) or not isinstance(encoder, CLIPVisionModelWithProjection):
        raise TypeError("expected an AutoencoderKL and a CLIP image encoder")
    vae_config["scaling_factor"] = fit_autoencoder(
        vae.to(device),  # pyright: ignore[reportArgumentType]
        samples,
        steps=config.autoencoder_steps,
        seed=config.seed,
        progress=progress,
    )
    aside = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(aside, ignore_errors=True)
    for name, module, written in (("vae", vae.cpu(), vae_config), ("image_encoder", encoder, encoder_config)):
        (aside / name).mkdir(parents=True)
        state = {key: value.detach().contiguous() for key, value in module.state_dict().items()}
        save_file(state, aside / name / COMPONENTS[name], metadata={"format": "pt"})
        (aside / name / "config.json").write_text(to_json(written), encoding="utf-8")
    write_info(aside, ModelInfo("tiny", config.frames, int(size[0]), licence="unknown"))
    os.replace(aside, folder)


def fit_autoencoder(
    vae: AutoencoderKL,
    samples: Samples,
    *,
    steps: int,
    seed: int,
    progress: Callable[[int, int, dict[str, float]], None] | None = None,
) -> float:
    """Train on frames of the samples, in place. Returns the factor that gives latents of unit deviation.

    Loss: squared and absolute error, and a little Kullback-Leibler divergence (Rombach et al. 2022, section 3.1).
    """
    device = next(vae.parameters()).device
    optimizer = torch.optim.AdamW(vae.train().parameters(), lr=_LR, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _LR, total_steps=steps, pct_start=0.1)
    for step in range(steps):
        generator = sample_generator(seed, step, _STREAM)
        images = _frames(samples, step, generator).to(device)
        posterior = vae.encode(images, return_dict=False)[0]
        noise = torch.randn(posterior.mean.shape, generator=generator).to(device)
        restored = vae.decode(posterior.mean + posterior.std * noise, return_dict=False)[0]  # pyright: ignore[reportArgumentType]
        error = (restored - images).square().mean() + 0.1 * (restored - images).abs().mean()
        loss = error + _KL * posterior.kl().mean() / posterior.mean[0].numel()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if progress:
            progress(step + 1, steps, {"autoencoder_loss": float(loss.detach())})
    with torch.no_grad():
        generator = sample_generator(seed, steps, _STREAM)
        means = [
            vae.encode(_frames(samples, i, generator).to(device), return_dict=False)[0].mean
            for i in range(min(len(samples), 8))
        ]
    vae.eval()
    return float(1 / torch.cat(means).std().clamp(min=1e-6))


def _frames(samples: Samples, number: int, generator: torch.Generator) -> torch.Tensor:
    """Some frames of a sample, (n, 3, h, w) float32 in [-1, 1]."""
    images = samples.sample(number)["images"]
    picked = torch.randperm(len(images), generator=generator)[:_FRAMES_PER_STEP]
    return normalized(images[picked])
