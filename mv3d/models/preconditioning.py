"""EDM preconditioning of a network that predicts v, with data of unit variance: one function for training and sampling.

Karras et al. 2022 (arXiv 2206.00364), table 1, with the scalings of SVD (arXiv 2311.15127, appendix D.2).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from mv3d.core.errors import UsageError
from mv3d.models.conditioning import OrbitConditioning
from mv3d.models.network import MultiViewUNet


class Scalings(NamedTuple):
    """denoised = c_skip·x + c_out·network(c_in·x, c_noise)."""

    c_skip: Tensor
    c_out: Tensor
    c_in: Tensor
    c_noise: Tensor


def scalings(sigma: Float[Tensor, " *any"]) -> Scalings:
    """c_skip = 1/(σ²+1), c_out = -σ/√(σ²+1), c_in = 1/√(σ²+1), c_noise = ¼ ln σ."""
    total = sigma**2 + 1
    return Scalings(1 / total, -sigma * total.rsqrt(), total.rsqrt(), 0.25 * sigma.log())


def loss_weight(sigma: Float[Tensor, " *any"]) -> Float[Tensor, " *any"]:
    """(1 + σ²)/σ²: the weight that makes the loss on `denoised` a plain loss on the network's output."""
    return (1 + sigma**2) / sigma**2


def denoise(
    unet: MultiViewUNet,
    x: Float[Tensor, "*batch frames channels height width"],
    sigma: Float[Tensor, " batch"] | float,
    conditioning: OrbitConditioning,
) -> Float[Tensor, "*batch frames channels height width"]:
    """The estimate of the clean latents, with the condition and without guidance; float32, differentiable.

    x: scaled clean latents + sigma·noise; without the batch axis for one orbit. sigma: one level per orbit, shared by
    all its frames: levels that differ between frames would let the network read a noisy frame off a clean neighbour.
    """
    single = x.ndim == 4
    latents = (x[None] if single else x).to(torch.float32)
    inputs, factors = _inputs(unet, latents, sigma, conditioning)
    output = unet(*inputs, return_dict=False)[0]
    denoised = factors.c_skip * latents + factors.c_out * output.to(torch.float32)
    return denoised[0] if single else denoised


def encoder_features(
    unet: MultiViewUNet,
    x: Float[Tensor, "batch frames channels height width"],
    sigma: Float[Tensor, " batch"] | float,
    conditioning: OrbitConditioning,
) -> list[Float[Tensor, "batch frames features h w"]]:
    """What the first half of the network sees in noisy latents, after each of its blocks. Arguments as in `denoise`."""
    inputs, _ = _inputs(unet, x.to(torch.float32), sigma, conditioning)
    return unet.encoder_features(*inputs)


def _inputs(
    unet: MultiViewUNet, latents: Tensor, sigma: Tensor | float, conditioning: OrbitConditioning
) -> tuple[tuple[Tensor, Tensor, Tensor, Tensor], Scalings]:
    """The network's arguments, and the scalings in the shape of a batch of latents."""
    _check(latents, conditioning)
    batch, frames = latents.shape[:2]
    level = torch.as_tensor(sigma, dtype=torch.float32, device=latents.device).reshape(-1)
    if len(level) not in (1, batch):
        raise UsageError(f"denoise: expected one sigma per orbit ({batch}), got {len(level)}")
    found = scalings(level.expand(batch))
    factors = Scalings(*(factor.view(-1, 1, 1, 1, 1) for factor in found))
    concat = conditioning.cond_latent.to(torch.float32)[:, None].expand(-1, frames, -1, -1, -1)
    parts = [factors.c_in * latents, concat]
    if conditioning.renders is not None:
        parts.append(conditioning.renders.to(torch.float32))
    inputs = (
        torch.cat(parts, dim=2).to(unet.dtype),
        found.c_noise,
        conditioning.image_embedding.to(unet.dtype),
        conditioning.micro_conditioning(unet.micro),
    )
    return inputs, factors


def _check(x: Tensor, conditioning: OrbitConditioning) -> None:
    if x.ndim != 5:
        raise UsageError(
            f"denoise: expected latents (frames, channels, height, width) or with a batch axis, got {x.ndim} axes"
        )
    if len(x) != conditioning.batch or x.shape[1] != conditioning.frames:
        raise UsageError(
            f"denoise: expected latents of {conditioning.batch} × {conditioning.frames} frames as in the conditioning, "
            f"got {len(x)} × {x.shape[1]}"
        )
    if x.shape[-2:] != conditioning.cond_latent.shape[-2:]:
        raise UsageError(
            f"denoise: expected latents of the size of cond_latent {tuple(conditioning.cond_latent.shape[-2:])}, got "
            f"{tuple(x.shape[-2:])}"
        )
