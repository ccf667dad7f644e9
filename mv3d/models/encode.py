"""Pixels → image embedding, conditioning latent, target latents and those of renders; latents → frames."""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl_temporal_decoder import AutoencoderKLTemporalDecoder
from jaxtyping import Float
from kornia.geometry.transform import resize
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d
from transformers import CLIPVisionModelWithProjection

from mv3d.core.errors import UsageError
from mv3d.models.components import Autoencoder

# OpenAI's CLIP normalisation, which OpenCLIP keeps (Radford et al. 2021).
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


def image_channels(vae: Autoencoder) -> int:
    """3, or 4 for an autoencoder of pictures with alpha."""
    return int(vae.config.get("in_channels", 3))


@torch.no_grad()
def embed_image(
    encoder: CLIPVisionModelWithProjection, image: Float[Tensor, "batch channels height width"]
) -> Float[Tensor, "batch 1 context"]:
    """CLIP's embedding of images in [0, 1], float32. A fourth channel is ignored."""
    embeds = encoder(pixel_values=clip_input(encoder, image[:, :3]).to(encoder.dtype)).image_embeds
    return embeds.to(torch.float32)[:, None]


def clip_input(
    encoder: CLIPVisionModelWithProjection, image: Float[Tensor, "batch 3 height width"]
) -> Float[Tensor, "batch 3 side side"]:
    """Images in [0, 1] → the encoder's input, float32."""
    return clip_normalized(clip_resized(image.to(torch.float32), encoder.config.image_size))


def clip_resized(
    image: Float[Tensor, "batch 3 height width"], side: Any
) -> Float[Tensor, "batch 3 side side"]:
    """Images resized as in SVD's training: antialiased bicubic interpolation with aligned corners."""
    return resize(image, (side, side), interpolation="bicubic", align_corners=True, antialias=True)


def clip_normalized(images: Float[Tensor, "batch 3 h w"]) -> Float[Tensor, "batch 3 h w"]:
    """Images in [0, 1] less CLIP's mean, over its standard deviation, per channel."""
    mean, std = (torch.tensor(v, device=images.device).view(1, 3, 1, 1) for v in (CLIP_MEAN, CLIP_STD))
    return (images - mean) / std


@torch.no_grad()
def encode_condition(
    vae: Autoencoder,
    image: Float[Tensor, "batch channels height width"],
    *,
    cond_aug: float = 0.0,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "batch 4 h w"]:
    """The conditioning latent of images in [0, 1], float32: the posterior's mean, NOT scaled.

    cond_aug: standard deviation of noise added to the image in [-1, 1]. generator: of that noise, on the CPU.
    Raises UsageError for noise without a generator.
    """
    pixels = image.to(torch.float32) * 2 - 1
    if cond_aug > 0:
        if generator is None:
            raise UsageError("encode_condition: expected a generator for the noise, got none")
        pixels = pixels + cond_aug * torch.randn(pixels.shape, generator=generator).to(pixels.device)
    return encode_pixels(vae, pixels, chunk=len(pixels))


@torch.no_grad()
def encode_pixels(
    vae: Autoencoder, pixels: Float[Tensor, "frames channels height width"], *, chunk: int = 8
) -> Float[Tensor, "frames c h w"]:
    """The mean of the posterior of pictures in [-1, 1], NOT scaled, float32; `chunk` of them at a time."""
    parts = (part.to(vae.dtype) for part in pixels.split(_positive(chunk)))
    return torch.cat([vae.encode(part, return_dict=False)[0].mode().to(torch.float32) for part in parts])


@torch.no_grad()
def encode_frames(
    vae: Autoencoder, frames: Float[Tensor, "frames channels height width"], *, chunk: int = 8
) -> Float[Tensor, "frames 4 h w"]:
    """Frames in [0, 1] → the scaled latents that the network learns to denoise, float32. chunk: frames at a time."""
    return encode_pixels(vae, frames.to(torch.float32) * 2 - 1, chunk=chunk) * vae.config["scaling_factor"]


@torch.no_grad()
def encode_renders(
    vae: Autoencoder,
    renders: Float[Tensor, "frames height width 4"],
    background: Float[Tensor, " 3"] | float = 1.0,
    *,
    chunk: int = 8,
) -> Float[Tensor, "frames rendered h w"]:
    """Renders of a solid (straight alpha, [0, 1]) → what `OrbitConditioning.renders` holds of one orbit, float32: the
    scaled latents of the renders on the background, and the mask. Zeros where nothing is opaque: that is no render.
    """
    renders = renders.to(torch.float32).movedim(-1, -3)
    colors, alpha = renders[:, :3], renders[:, 3:]
    color = torch.as_tensor(background, dtype=torch.float32, device=renders.device).view(-1, 1, 1)
    pictures = torch.cat([colors * alpha + color * (1 - alpha), alpha], 1)
    latents = encode_frames(vae, pictures[:, : image_channels(vae)], chunk=chunk)
    mask = adaptive_avg_pool2d(alpha, (latents.shape[-2], latents.shape[-1]))
    return torch.cat([latents, mask], 1) * alpha.any()


@torch.no_grad()
def decode_frames(
    vae: Autoencoder, latents: Float[Tensor, "frames 4 h w"], *, chunk: int = 8
) -> Float[Tensor, "frames channels height width"]:
    """Frames in [0, 1], float32, of scaled latents, `chunk` of them at a time: fewer need less memory.

    A temporal decoder smooths over the frames of one chunk, so that its result depends a little on `chunk`. Computed in
    the precision of the decoder (`decoding_parts`).
    """
    temporal, decoded = isinstance(vae, AutoencoderKLTemporalDecoder), []
    dtype = next((next(part.parameters()).dtype for part in decoding_parts(vae)), vae.dtype)
    for part in (latents / vae.config["scaling_factor"]).to(dtype).split(_positive(chunk)):
        extra: dict[str, Any] = {"num_frames": len(part)} if temporal else {}
        decoded.append(vae.decode(part, return_dict=False, **extra)[0].to(torch.float32))
    return (torch.cat(decoded) / 2 + 0.5).clamp(0, 1)


def decoding_parts(vae: Autoencoder) -> list[nn.Module]:
    """The parts of an autoencoder that only decoding runs through, which may have a precision of their own.

    None of an autoencoder of patches, which is one linear map.
    """
    parts = [getattr(vae, name, None) for name in ("post_quant_conv", "decoder")]
    return [part for part in parts if isinstance(part, nn.Module)]


def _positive(chunk: int) -> int:
    if chunk < 1:
        raise UsageError(f"--decode-chunk: expected at least 1, got {chunk}")
    return chunk
