"""A model folder with random weights that runs in milliseconds."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers.models.autoencoders.autoencoder_kl_temporal_decoder import AutoencoderKLTemporalDecoder
from safetensors.torch import save_file
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from mv3d.models.folder import ModelInfo, SamplerDefaults, camera_support, write_info
from mv3d.models.network import MicroConditioning, NetworkConfig

FRAMES, SIDE = 5, 32


def write_model(
    folder: Path,
    micro: MicroConditioning,
    *,
    kind: str = "tiny",
    seed: int = 0,
    resolution: int = SIDE,
    height: int | None = None,
    cond_aug: float = 1e-5,
) -> Path:
    """A whole model: network, autoencoder (latents of half the side), image encoder, description."""
    torch.manual_seed(seed)
    network = NetworkConfig(
        micro, (32, 32), (True, False), (2, 2), layers_per_block=1, transformer_depth=(1, 1), context_dim=24,
        num_frames=FRAMES, sample_size=resolution // 2,
    )  # fmt: skip
    clip = {
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2,
        "image_size": 16, "patch_size": 8, "projection_dim": 24,
    }  # fmt: skip
    vae = AutoencoderKLTemporalDecoder(
        block_out_channels=(32, 32), down_block_types=("DownEncoderBlock2D",) * 2, layers_per_block=1
    )
    parts = {
        "unet": (network.build(), {"_class_name": "MultiViewUNet"} | network.diffusers_config()),
        "vae": (vae, {"_class_name": "AutoencoderKLTemporalDecoder"} | dict(vae.config)),
        "image_encoder": (CLIPVisionModelWithProjection(CLIPVisionConfig(**clip)), clip),
    }
    for name, (module, config) in parts.items():
        (folder / name).mkdir(parents=True)
        kept = {k: v for k, v in config.items() if k == "_class_name" or not k.startswith("_")}
        (folder / name / "config.json").write_text(json.dumps(kept))
        file = "model.safetensors" if name == "image_encoder" else "diffusion_pytorch_model.safetensors"
        save_file({k: v.contiguous() for k, v in module.state_dict().items()}, folder / name / file)
    sampler = SamplerDefaults(steps=3, cond_aug=cond_aug)
    write_info(
        folder, ModelInfo(kind, FRAMES, resolution, height, sampler=sampler, **camera_support(micro.names))
    )
    return folder
