"""A VAE and an image encoder for encoding shards."""

from __future__ import annotations

from pathlib import Path

import torch


def save_networks(folder: Path) -> tuple[Path, Path]:
    """A VAE and an image encoder, tiny and random."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    torch.manual_seed(0)
    AutoencoderKL(
        block_out_channels=(4, 4, 4, 4),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        norm_num_groups=2,
        latent_channels=4,
    ).save_pretrained(folder / "vae")
    config = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=28,
        patch_size=14,
        projection_dim=6,
    )
    CLIPVisionModelWithProjection(config).save_pretrained(folder / "clip")
    return folder / "vae", folder / "clip"
