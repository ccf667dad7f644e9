"""The three components of a model, built from their config.json: network, autoencoder, image encoder."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from typing import Any, get_args

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.autoencoders.autoencoder_kl_temporal_decoder import AutoencoderKLTemporalDecoder
from huggingface_hub.errors import StrictDataclassError
from torch import nn
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from mv3d.core.errors import InputError, shown
from mv3d.models.network import SVD, MultiViewUNet
from mv3d.models.patches import PatchAutoencoder

Autoencoder = AutoencoderKL | AutoencoderKLTemporalDecoder | PatchAutoencoder
VAE_SD: dict[str, Any] = {
    "_class_name": "AutoencoderKLTemporalDecoder",
    "block_out_channels": [128, 256, 512, 512],
    "layers_per_block": 2,
    "latent_channels": 4,
    "sample_size": 768,
    "scaling_factor": 0.18215,
}
"""The autoencoder of Stable Diffusion, whose latents SVD and SV3D use."""
CLIP_VIT_H: dict[str, Any] = {
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 16,
    "image_size": 224,
    "patch_size": 14,
    "projection_dim": 1024,
    "hidden_act": "gelu",
}
"""OpenCLIP's ViT-H/14."""
_MOST_LAYERS = 256
_LARGEST = 2**20  # of any other number in a config.json
# What torch, diffusers and transformers raise for a configuration that makes no sense.
_NO_NETWORK = (
    StrictDataclassError, ValueError, TypeError, LookupError, AttributeError, AssertionError, ArithmeticError, RuntimeError
)  # fmt: skip
_NOTES = ("_class_name", "_diffusers_version", "_name_or_path", "_use_default_values")


def build_unet(config: dict[str, Any]) -> tuple[MultiViewUNet, dict[str, Any]]:
    """The network of a config.json (ours, or diffusers' of SVD), and the config to write.

    Raises InputError where the config describes no network of this family.
    """
    kind = config.get("_class_name")
    if kind not in ("MultiViewUNet", "UNetSpatioTemporalConditionModel"):
        raise InputError(f"unet/config.json: expected a network of Stable Video Diffusion, got {shown(kind)}")
    given = _known(config, MultiViewUNet, "unet")
    if "vector_names" not in given:
        width = given.get("projection_class_embeddings_input_dim", 768)
        each = given.get("addition_time_embed_dim", 256)
        if not isinstance(each, int) or width != len(SVD.names) * each:
            raise InputError(
                f"unet/config.json: expected projection_class_embeddings_input_dim of {len(SVD.names)} times "
                f"addition_time_embed_dim (fps, motion bucket and noise), got {shown(width)} and {shown(each)}"
            )
        given |= {"vector_names": SVD.names, "vector_widths": (each,) * len(SVD.names)}
    arguments: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in given.items()}
    return _made(MultiViewUNet, "unet", arguments), written_config("MultiViewUNet", given)


def build_vae(config: dict[str, Any]) -> tuple[Autoencoder, dict[str, Any]]:
    """The autoencoder of a config.json, and the config to write. Raises InputError for an unknown one."""
    classes = {kind.__name__: kind for kind in get_args(Autoencoder)}
    kind = config.get("_class_name")
    if not isinstance(kind, str) or kind not in classes:
        raise InputError(f"vae/config.json: expected one of {', '.join(classes)}, got {shown(kind)}")
    given = _known(config, classes[kind], "vae")
    channels = given.get("block_out_channels", ())
    if not isinstance(channels, list | tuple):
        raise InputError(f"vae/config.json: expected a list block_out_channels, got {shown(channels)}")
    if kind != "PatchAutoencoder":
        given.setdefault("down_block_types", ["DownEncoderBlock2D"] * len(channels))
    if kind == "AutoencoderKL":
        given.setdefault("up_block_types", ["UpDecoderBlock2D"] * len(channels))
    return _made(classes[kind], "vae", given), written_config(kind, given)


def latent_factor(config: dict[str, Any]) -> int:
    """Pixels along a side of one latent, from an autoencoder's config.json."""
    if config.get("_class_name") == "PatchAutoencoder":
        return int(config.get("patch_size", 16))
    return 2 ** (len(config.get("block_out_channels", (0,))) - 1)


def build_image_encoder(config: dict[str, Any]) -> tuple[CLIPVisionModelWithProjection, dict[str, Any]]:
    """The image encoder of a config.json, and the config to write. Raises InputError for another model type."""
    if config.get("model_type", "clip_vision_model") != "clip_vision_model":
        raise InputError(
            f"image_encoder/config.json: expected model_type clip_vision_model, got {shown(config['model_type'])}"
        )
    _check_sizes(config, "image_encoder")
    given = {key: value for key, value in config.items() if not key.startswith("_")}
    full = _made(CLIPVisionConfig, "image_encoder", given)
    written = {key: getattr(full, key) for key in (*CLIP_VIT_H, "num_channels", "layer_norm_eps")}
    encoder = _made(CLIPVisionModelWithProjection, "image_encoder", {"config": full})
    return encoder, {"model_type": "clip_vision_model"} | written


def materialise_buffers(module: nn.Module) -> None:
    """Create the position index of an image encoder built on the meta device: the one buffer that files do not hold."""
    for name, buffer in list(module.named_buffers()):
        if not buffer.is_meta:
            continue
        owner, _, leaf = name.rpartition(".")
        if leaf != "position_ids":
            raise InputError(f"{type(module).__name__}: cannot make the buffer {name}")
        module.get_submodule(owner).register_buffer(
            leaf, torch.arange(buffer.shape[-1]).expand(buffer.shape), persistent=False
        )


def _known(config: dict[str, Any], kind: type, what: str) -> dict[str, Any]:
    """The arguments in a config.json. Raises InputError for one that the class does not take."""
    takes = inspect.signature(kind.__init__).parameters
    given = {key: value for key, value in config.items() if key not in _NOTES}
    for key in given:
        if key not in takes:
            raise InputError(f"{what}/config.json: unknown field {shown(key)}")
    _check_sizes(given, what)
    return given


def _check_sizes(config: dict[str, Any], what: str) -> None:
    """Raises InputError for sizes whose network would take hours or all memory to build."""
    for key, value in config.items():
        most = _MOST_LAYERS if "layers" in key else _LARGEST
        numbers = value if isinstance(value, list) else [value]
        if len(numbers) > _MOST_LAYERS:
            raise InputError(
                f"{what}/config.json: {shown(key)}: expected at most {_MOST_LAYERS} entries, got {len(numbers)}"
            )
        for number in numbers:
            if isinstance(number, int | float) and not abs(number) <= most:
                raise InputError(
                    f"{what}/config.json: {shown(key)}: expected numbers up to {most}, got {shown(number)}"
                )


def _made(kind: Callable[..., Any], what: str, arguments: dict[str, Any]) -> Any:
    """Build a component. Raises InputError with the library's objection to its configuration."""
    try:
        return kind(**arguments)
    except _NO_NETWORK as error:
        raise InputError(
            f"{what}/config.json: does not describe a network that can be built ({shown(error, 300)})"
        ) from error


def written_config(kind: str, given: dict[str, Any]) -> dict[str, Any]:
    """The config.json of a class with these arguments."""
    return json.loads(json.dumps({"_class_name": kind} | given))
