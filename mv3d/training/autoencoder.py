"""The frozen parts of a model that has no base: an autoencoder of patches and a small image encoder, both made here.

The image encoder learns to predict a thumbnail of the picture and the camera's elevation: the network sees the rest in
the latent of the input view.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, mse_loss
from transformers import CLIPVisionModelWithProjection

from mv3d.core.errors import InputError
from mv3d.core.files import atomic_path, to_json
from mv3d.models.components import build_image_encoder, build_vae
from mv3d.models.encode import clip_input
from mv3d.models.folder import COMPONENTS, ModelInfo, write_info
from mv3d.models.patches import PatchAutoencoder
from mv3d.orbits.dataset import Samples, normalized
from mv3d.training.config import TrainConfig
from mv3d.training.loss import sample_generator
from mv3d.views.metrics import psnr_from_mse

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
_SAMPLES = 256  # orbits whose patches are looked at
_ORBITS_PER_STEP, _FRAMES_PER_ORBIT = 4, 4
_THUMBNAIL = 8  # pixels
_LR, _STREAM = 1e-3, 3


def prepare_parts(
    config: TrainConfig,
    samples: Samples,
    folder: Path,
    *,
    device: torch.device | str,
    progress: Callable[[int, int, dict[str, float]], None] | None = None,
) -> float:
    """Train and write `vae/`, `image_encoder/` and `mv3d.json` into `folder`, which appears whole or not at all. Returns `restored_psnr`."""
    if samples.format.latents:
        raise InputError(
            "--data: cached latents need the model that made them; give its folder as --base, or give rendered shards"
        )
    height, width = samples.sample(0)["images"].shape[1:3]
    if height != width:
        raise InputError(f"--data: expected square pictures to train an autoencoder, got {width} × {height}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        encoder, encoder_config = build_image_encoder({"model_type": "clip_vision_model"} | _ENCODER)
    vae, vae_config = build_vae(
        {
            "_class_name": "PatchAutoencoder",
            "patch_size": config.patch,
            "latent_channels": config.latent_channels,
            "scaling_factor": 1.0,
            "in_channels": 4 if samples.format.alpha else 3,
        }
    )
    assert isinstance(vae, PatchAutoencoder)
    vae.fit(pictures(samples, range(_SAMPLES // _ORBITS_PER_STEP), config.seed))
    error = restored_psnr(vae, pictures(samples, range(1000, 1008), config.seed))
    encoder.to(device)  # pyright: ignore[reportArgumentType]
    fit_image_encoder(encoder, samples, steps=config.encoder_steps, seed=config.seed, progress=progress)
    parts = (("vae", vae, vae_config), ("image_encoder", encoder.cpu(), encoder_config))
    with atomic_path(folder) as part:
        for name, module, written in parts:
            (part / name).mkdir(parents=True)
            state = {key: value.detach().contiguous() for key, value in module.state_dict().items()}
            save_file(state, part / name / COMPONENTS[name], metadata={"format": "pt"})
            (part / name / "config.json").write_text(to_json(written), encoding="utf-8")
        write_info(part, ModelInfo("tiny", config.frames, int(width), licence="unknown"))
    return error


@torch.no_grad()
def restored_psnr(vae: PatchAutoencoder, images: Float[Tensor, "n channels h w"]) -> float:
    """dB over the colours of pictures in [-1, 1], encoded and decoded."""
    restored = vae.decode(vae.encode(images)[0].mode())[0].clamp(-1, 1)
    return psnr_from_mse(float(mse_loss(restored[:, :3] / 2, images[:, :3] / 2)))


def pictures(samples: Samples, steps: range, seed: int) -> Float[Tensor, "n channels h w"]:
    """Frames in [-1, 1] of some samples, with alpha where they have it."""
    return torch.cat([_labelled(samples, step, sample_generator(seed, step, _STREAM))[0] for step in steps])


def fit_image_encoder(
    encoder: CLIPVisionModelWithProjection,
    samples: Samples,
    *,
    steps: int,
    seed: int,
    progress: Callable[[int, int, dict[str, float]], None] | None = None,
) -> None:
    """Train in place: one linear layer has to predict an 8 × 8 thumbnail and the elevation from the embedding.

    Embeddings have unit deviation at the end, as the network's other inputs do.
    """
    device = next(encoder.parameters()).device
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = torch.nn.Linear(encoder.config.projection_dim, 3 * _THUMBNAIL**2 + 1).to(device)
    optimizer = torch.optim.AdamW([*encoder.train().parameters(), *head.parameters()], lr=_LR)
    # With ten steps the warm-up, a tenth of them, would end at step 0, and the schedule would divide by its length.
    total = 11 if steps == 10 else steps
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _LR, total_steps=total, pct_start=0.1)
    for step in range(steps):
        images, elevations_deg = _labelled(samples, step, sample_generator(seed, step, _STREAM))
        images, elevations_deg = images[:, :3].to(device) / 2 + 0.5, elevations_deg.to(device)
        predicted = head(encoder(pixel_values=clip_input(encoder, images)).image_embeds)
        thumbnail = adaptive_avg_pool2d(images, _THUMBNAIL).flatten(1)
        loss = (predicted[:, :-1] - thumbnail).square().mean()
        loss = loss + 0.1 * (predicted[:, -1] - elevations_deg / 30).square().mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if progress:
            progress(step + 1, steps, {"encoder_loss": float(loss.detach())})
    encoder.eval()
    with torch.no_grad():
        seen = pictures(samples, range(8), seed)[:, :3].to(device) / 2 + 0.5
        deviation = encoder(pixel_values=clip_input(encoder, seen)).image_embeds.std()
        encoder.visual_projection.weight /= deviation.clamp(min=1e-6)


def _labelled(
    samples: Samples, step: int, generator: torch.Generator
) -> tuple[Float[Tensor, "n channels h w"], Float[Tensor, " n"]]:
    """(frames in [-1, 1], their elevations in degrees): a few of each of a few samples."""
    images, elevations_deg = [], []
    for number in range(step * _ORBITS_PER_STEP, (step + 1) * _ORBITS_PER_STEP):
        sample = samples.sample(number)
        picked = torch.randperm(len(sample["images"]), generator=generator)[:_FRAMES_PER_ORBIT]
        images.append(normalized(sample["images"][picked], channels=4))
        elevations_deg.append(sample["elevations_deg"][picked])
    return torch.cat(images), torch.cat(elevations_deg)
