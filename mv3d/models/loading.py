"""A model folder in memory."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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


def load_model_folder(folder: str | os.PathLike[str], *, dtype: torch.dtype | None = None) -> ModelComponents:
    """Load all parts of a model folder. dtype: of the weights; by default as stored.

    Raises InputError that names what is wrong: no model there, a cut-off file, a pickle, other keys, NaN.
    """
    folder = Path(folder)
    info, unet = read_info(folder), load_unet(folder, dtype=dtype)
    return ModelComponents(unet, load_vae(folder, dtype), load_image_encoder(folder, dtype), info, folder)


def load_unet(folder: str | os.PathLike[str], *, dtype: torch.dtype | None = None) -> MultiViewUNet:
    """The network of a model folder alone, for training from cached latents. Errors as in `load_model_folder`."""
    return _loaded(Path(folder), "unet", build_unet, "this network", dtype)


def load_vae(folder: Path, dtype: torch.dtype | None = None) -> Autoencoder:
    """The autoencoder of a model folder alone. Errors as in `load_model_folder`."""
    return _loaded(folder, "vae", build_vae, "this autoencoder", dtype)


def load_image_encoder(folder: Path, dtype: torch.dtype | None = None) -> CLIPVisionModelWithProjection:
    """The image encoder of a model folder alone. Errors as in `load_model_folder`."""
    return _loaded(folder, "image_encoder", build_image_encoder, "this image encoder", dtype)


def _loaded(
    folder: Path, component: str, build: Callable[..., tuple[Any, Any]], what: str, dtype: torch.dtype | None
) -> Any:
    with torch.device("meta"):
        module, _ = build(read_config(folder / component))
    load_state(module, weights_path(folder, component), what=what, dtype=dtype)
    materialise_buffers(module)
    return module.eval()
