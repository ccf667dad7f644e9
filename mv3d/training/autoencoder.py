"""The frozen parts of a model that has no base: a small autoencoder and a small image encoder, both trained here.

The image encoder learns to tell a thumbnail of the picture and the camera's elevation: what the network can use of it
without reading the latent of the input view, which says all the rest.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d
from transformers import CLIPVisionModelWithProjection

from mv3d.errors import InputError
from mv3d.models.components import build_image_encoder, build_vae
from mv3d.models.encode import clip_input
from mv3d.models.folder import COMPONENTS, ModelInfo, write_info
from mv3d.orbits.dataset import normalized
from mv3d.runs import to_json
from mv3d.training.config import TrainConfig
from mv3d.training.data import Samples
from mv3d.training.loss import sample_generator

_VAE: dict[str, Any] = {
    "_class_name": "AutoencoderKL",
    "layers_per_block": 1,
    "norm_num_groups": 8,
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
_LR, _KL, _STREAM = 2e-3, 1e-6, 3
_ORBITS_PER_STEP, _FRAMES_PER_ORBIT = 4, 4
_CROP = 64  # pixels: a convolution learns from parts of pictures as well, and sees more of them in the time
_THUMBNAIL = 8  # pixels
_ENCODER_LR, _ENCODER_STREAM = 1e-3, 4


def prepare_parts(
    config: TrainConfig,
    samples: Samples,
    folder: Path,
    *,
    device: torch.device | str,
    progress: Callable[[int, int, dict[str, float]], None] | None = None,
) -> float:
    """Train and write `vae/`, `image_encoder/` and `mv3d.json` into `folder`, aside first. Returns `restored_psnr`."""
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
        vae, vae_config = build_vae(vae_settings(config))
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
    error = restored_psnr(vae, samples, step=config.autoencoder_steps, seed=config.seed)
    fit_image_encoder(encoder.to(device), samples, steps=config.autoencoder_steps, seed=config.seed)
    aside = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(aside, ignore_errors=True)
    for name, module, written in (
        ("vae", vae.cpu(), vae_config),
        ("image_encoder", encoder.cpu(), encoder_config),
    ):
        (aside / name).mkdir(parents=True)
        state = {key: value.detach().contiguous() for key, value in module.state_dict().items()}
        save_file(state, aside / name / COMPONENTS[name], metadata={"format": "pt"})
        (aside / name / "config.json").write_text(to_json(written), encoding="utf-8")
    write_info(aside, ModelInfo("tiny", config.frames, int(size[0]), licence="unknown"))
    os.replace(aside, folder)
    return error


def vae_settings(config: TrainConfig) -> dict[str, Any]:
    """The autoencoder's config.json."""
    return _VAE | {
        "block_out_channels": list(config.autoencoder_channels),
        "latent_channels": config.latent_channels,
    }


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
        images = _cropped(_labelled(samples, step, generator)[0], generator).to(device)
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
            vae.encode(_labelled(samples, i, generator)[0].to(device), return_dict=False)[0].mean
            for i in range(8)
        ]
    vae.eval()
    return float(1 / torch.cat(means).std().clamp(min=1e-6))


@torch.no_grad()
def restored_psnr(vae: AutoencoderKL, samples: Samples, *, step: int, seed: int) -> float:
    """dB over all pixels of some pictures of the data, encoded and decoded without noise. step: one not trained on."""
    generator, device = sample_generator(seed, step, _STREAM), next(vae.parameters()).device
    errors = []
    for number in range(step, step + 8):
        images = _labelled(samples, number, generator)[0].to(device)
        restored = vae.decode(vae.encode(images, return_dict=False)[0].mean, return_dict=False)[0]  # pyright: ignore[reportArgumentType]
        errors.append(((restored.clamp(-1, 1) - images) / 2).square().mean())
    return float(-10 * torch.stack(errors).mean().clamp(min=1e-10).log10())


def fit_image_encoder(
    encoder: CLIPVisionModelWithProjection, samples: Samples, *, steps: int, seed: int
) -> None:
    """Train in place: from the embedding, one linear layer has to tell an 8 × 8 thumbnail and the elevation.

    Embeddings have unit deviation at the end, as the network's other inputs do.
    """
    device = next(encoder.parameters()).device
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = torch.nn.Linear(encoder.config.projection_dim, 3 * _THUMBNAIL**2 + 1).to(device)
    optimizer = torch.optim.AdamW([*encoder.train().parameters(), *head.parameters()], lr=_ENCODER_LR)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _ENCODER_LR, total_steps=steps, pct_start=0.1)
    for step in range(steps):
        images, elevations_deg = _labelled(samples, step, sample_generator(seed, step, _ENCODER_STREAM))
        images, elevations_deg = images.to(device) / 2 + 0.5, elevations_deg.to(device)
        told = head(encoder(pixel_values=clip_input(encoder, images)).image_embeds)
        thumbnail = adaptive_avg_pool2d(images, _THUMBNAIL).flatten(1)
        loss = (told[:, :-1] - thumbnail).square().mean()
        loss = loss + 0.1 * (told[:, -1] - elevations_deg / 30).square().mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    encoder.eval()
    with torch.no_grad():
        generator = sample_generator(seed, steps, _ENCODER_STREAM)
        seen = torch.cat([_labelled(samples, i, generator)[0] for i in range(8)]).to(device) / 2 + 0.5
        deviation = encoder(pixel_values=clip_input(encoder, seen)).image_embeds.std()
        encoder.visual_projection.weight /= deviation.clamp(min=1e-6)


def _labelled(
    samples: Samples, step: int, generator: torch.Generator
) -> tuple[Float[Tensor, "n 3 h w"], Float[Tensor, " n"]]:
    """(frames in [-1, 1], their elevations in degrees): a few of each of a few samples."""
    images, elevations_deg = [], []
    for number in range(step * _ORBITS_PER_STEP, (step + 1) * _ORBITS_PER_STEP):
        sample = samples.sample(number)
        picked = torch.randperm(len(sample["images"]), generator=generator)[:_FRAMES_PER_ORBIT]
        images.append(normalized(sample["images"][picked]))
        elevations_deg.append(sample["elevations_deg"][picked])
    return torch.cat(images), torch.cat(elevations_deg)


def _cropped(images: Float[Tensor, "n 3 h w"], generator: torch.Generator) -> Float[Tensor, "n 3 side side"]:
    """One random square of every picture; pictures no larger than it as they are."""
    height, width = images.shape[-2:]
    side = min(height, width, _CROP)
    tops = torch.randint(height - side + 1, (len(images),), generator=generator).tolist()
    lefts = torch.randint(width - side + 1, (len(images),), generator=generator).tolist()
    return torch.stack(
        [
            image[:, top : top + side, left : left + side]
            for image, top, left in zip(images, tops, lefts, strict=True)
        ]
    )
