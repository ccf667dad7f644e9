"""A model folder in memory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import CLIPVisionModelWithProjection

from mv3d.models.components import (
    Autoencoder,
    build_image_encoder,
    build_unet,
    build_vae,
    materialise_buffers,
)
from mv3d.models.folder import ModelInfo, read_config, read_info, weights_path
from mv3d.models.network import MultiViewUNet
from mv3d.models.weights import load_state


@dataclass(frozen=True)
class ModelComponents:
    """The networks of a model, on the CPU, for inference."""

    unet: MultiViewUNet
    vae: Autoencoder
    image_encoder: CLIPVisionModelWithProjection
    info: ModelInfo
    folder: Path


def load_model_folder(folder: str | Path, *, dtype: torch.dtype | None = None) -> ModelComponents:
    """Load all parts of a model folder. dtype: of the weights; by default as stored.

    Raises InputError that names what is wrong: no model there, a cut-off file, a pickle, other keys, NaN.
    """
    folder = Path(folder)
    info = read_info(folder)
    unet = load_unet(folder, dtype=dtype)
    with torch.device("meta"):
        vae, _ = build_vae(read_config(folder / "vae"))
        encoder, _ = build_image_encoder(read_config(folder / "image_encoder"))
    load_state(vae, weights_path(folder, "vae"), what="this autoencoder", dtype=dtype)
    load_state(encoder, weights_path(folder, "image_encoder"), what="this image encoder", dtype=dtype)
    materialise_buffers(encoder)
    return ModelComponents(unet, vae.eval(), encoder.eval(), info, folder)


def load_unet(folder: str | Path, *, dtype: torch.dtype | None = None) -> MultiViewUNet:
    """The network of a model folder alone, for training from cached latents. Errors as in `load_model_folder`."""
    folder = Path(folder)
    with torch.device("meta"):
        unet, _ = build_unet(read_config(folder / "unet"))
    load_state(unet, weights_path(folder, "unet"), what="this network", dtype=dtype)
    return unet.eval()
