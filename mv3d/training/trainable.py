"""The network of a run, and which of its weights are trained."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from mv3d.core.errors import InputError, UsageError
from mv3d.models.adapt import with_micro_conditioning, with_render_conditioning
from mv3d.models.components import latent_factor
from mv3d.models.folder import ModelInfo, SamplerDefaults, camera_support, read_config, read_info
from mv3d.models.loading import load_unet
from mv3d.models.lora import camera_modules, inject_lora, temporal_attention_modules
from mv3d.models.network import SV3D_P, SV3D_U, SVD_MV, MultiViewUNet, NetworkConfig
from mv3d.training.config import TrainConfig

VECTORS = {"svd_mv": SVD_MV, "sv3d_u": SV3D_U, "sv3d_p": SV3D_P}
_CHANNELS_PER_HEAD = 32


@dataclass(frozen=True)
class TrainableModel:
    """The network to train and the facts about its model folder."""

    unet: MultiViewUNet
    info: ModelInfo
    """The record of the resulting model."""
    folder: Path
    """Where the autoencoder and the image encoder lie."""
    scaling_factor: float
    latent_factor: int
    """Pixels along a side of one latent."""
    adapted: bool
    """Whether the network takes another camera conditioning than its base."""


def build_trainable(
    config: TrainConfig, folder: Path, *, base: str, revision: str = "", half_frozen: bool = False
) -> TrainableModel:
    """The network to train, with gradients where the configuration asks for them. base: its name, for the record.

    half_frozen: keep frozen weights in bfloat16, where that is what is computed in.
    """
    info = read_info(folder)
    vae = read_config(folder / "vae")
    factor = latent_factor(vae)
    if config.network == "new":
        unet, adapted = _new_network(config, folder, info.resolution // factor), False
        sampler = SamplerDefaults(steps=25, sampler="dpmpp_2m", sigma_max=80.0, guidance_max=1.0)
        info = replace(info, kind="tiny", sampler=sampler)
    else:
        unet = load_unet(folder, dtype=torch.float32)
        vector = unet.micro if config.vector == "keep" else VECTORS[config.vector]
        adapted = vector != unet.micro
        if adapted:
            unet = with_micro_conditioning(unet, vector)
            info = replace(info, kind=config.vector, sampler=SamplerDefaults(), height=None)
    if config.prior:
        unet = with_render_conditioning(unet)
    elif unet.render_channels:
        raise UsageError(
            f"--prior: expected the 3D prior whose renders the base {base} takes, got none; give {base} itself, or two "
            "halves"
        )
    unet.register_to_config(num_frames=config.frames)
    info = replace(
        info, num_frames=config.frames, base=base, revision=revision, **camera_support(unet.micro.names)
    )
    _choose_trained(unet, config)
    if half_frozen:
        # They need no more precision than what is computed in; what is trained stays float32.
        for parameter in unet.parameters():
            if not parameter.requires_grad:
                parameter.data = parameter.data.to(torch.bfloat16)
    if config.gradient_checkpointing:
        unet.enable_gradient_checkpointing()
    return TrainableModel(unet, info, folder, float(vae.get("scaling_factor", 0.18215)), factor, adapted)


def _choose_trained(unet: MultiViewUNet, config: TrainConfig) -> None:
    """Leave gradients where they are wanted, put adapters in, in place."""
    if config.trained == "lora":
        names = temporal_attention_modules(unet) + camera_modules(unet)
        generator = torch.Generator().manual_seed(config.seed)
        inject_lora(unet, names, rank=config.rank, alpha=config.alpha, generator=generator)
        return
    for name, parameter in unet.named_parameters():
        # SVD's additions to the image model, and the layers that read the camera and the renders.
        names = ("temporal", "time_mixer", "time_pos_embed", "add_embedding", "conv_in_render")
        temporal = any(part in name for part in names)
        # Attention over a single image token is constant: no gradient ever comes to its queries and keys, and weight
        # decay would shrink them for nothing.
        unused = ".attn2.to_q." in name or ".attn2.to_k." in name
        parameter.requires_grad_((config.trained == "all" or temporal) and not unused)


def _new_network(config: TrainConfig, folder: Path, sample_size: int) -> MultiViewUNet:
    if config.vector == "keep":
        raise UsageError("--vector: expected svd_mv, sv3d_u or sv3d_p for a network from scratch, got keep")
    levels = len(config.channels)
    latent_channels = int(read_config(folder / "vae").get("latent_channels", 4))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return NetworkConfig(
            micro=VECTORS[config.vector],
            block_out_channels=config.channels,
            attention=(True,) * levels,
            heads=tuple(max(1, channels // _CHANNELS_PER_HEAD) for channels in config.channels),
            layers_per_block=1,
            transformer_depth=(1,) * levels,
            in_channels=2 * latent_channels,
            out_channels=latent_channels,
            context_dim=int(read_config(folder / "image_encoder").get("projection_dim", 0)),
            num_frames=config.frames,
            sample_size=sample_size,
        ).build()


def check_data_size(model: TrainableModel, size: tuple[int, int]) -> None:
    """Raises InputError where the autoencoder or the network cannot take pictures of this (width, height)."""
    factor = 2 ** (len(model.unet.config["block_out_channels"]) - 1) * model.latent_factor
    if any(side % factor for side in size):
        raise InputError(
            f"--data: expected pictures with sides that {factor} divides, got {size[0]} × {size[1]}"
        )
