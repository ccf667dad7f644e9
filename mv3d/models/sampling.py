"""From noise to latents: the noise schedule, guidance and the loop."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from mv3d.core.errors import UsageError
from mv3d.models.conditioning import OrbitConditioning, joined
from mv3d.models.folder import SamplerDefaults
from mv3d.models.network import MultiViewUNet
from mv3d.models.preconditioning import denoise
from mv3d.models.samplers import SAMPLERS, Denoiser


def karras_sigmas(
    steps: int, *, sigma_min: float = 0.002, sigma_max: float = 700.0, rho: float = 7.0
) -> Float[Tensor, " levels"]:
    """steps + 1 falling noise levels, even in σ^(1/ρ), and zero at the end (Karras et al. 2022, eq. 5); float32."""
    if steps < 1 or not 0 < sigma_min <= sigma_max or rho <= 0 or not math.isfinite(sigma_max):
        raise UsageError(
            "schedule: expected steps ≥ 1, 0 < sigma_min ≤ sigma_max and rho > 0, got "
            f"steps {steps}, sigma_min {sigma_min:g}, sigma_max {sigma_max:g}, rho {rho:g}"
        )
    ramp = torch.linspace(0, 1, steps, dtype=torch.float64)
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    levels = (high + ramp * (low - high)) ** rho
    return torch.cat([levels, levels.new_zeros(1)]).to(torch.float32)


def triangular_guidance(
    num_frames: int, max_scale: float, min_scale: float = 1.0
) -> Float[Tensor, " frames"]:
    """Guidance per frame: min at the first and last, max in the middle, linear between (SV3D, section 3)."""
    triangle = 1 - (2 * linear_guidance(num_frames, 1.0, 0.0) - 1).abs()
    return min_scale + (max_scale - min_scale) * triangle


def linear_guidance(num_frames: int, max_scale: float, min_scale: float = 1.0) -> Float[Tensor, " frames"]:
    """Guidance per frame that rises from min at the first to max at the last (SVD, arXiv 2311.15127, figure 16)."""
    if num_frames < 1:
        raise UsageError(f"guidance: expected at least one frame, got {num_frames}")
    return torch.linspace(min_scale, max_scale, num_frames)


def frame_guidance(defaults: SamplerDefaults, num_frames: int, max_scale: float) -> Float[Tensor, " frames"]:
    """Guidance per frame in the shape that a model's description names."""
    shape = linear_guidance if defaults.guidance_shape == "linear" else triangular_guidance
    return shape(num_frames, max_scale, defaults.guidance_min)


def guided_denoiser(
    unet: MultiViewUNet, conditioning: OrbitConditioning, guidance: Tensor | float, *, batched: bool = True
) -> Denoiser:
    """denoise(x, sigma) for the samplers: x0 without image + guidance·(x0 with - x0 without).

    guidance: one scale or one per frame. sigma: one level, or one per orbit. batched: both branches in one network call (faster, more memory). Where
    guidance is 1 everywhere the second branch is left out.
    """
    scale = torch.as_tensor(guidance, dtype=torch.float32, device=conditioning.cond_latent.device).reshape(-1)
    if len(scale) not in (1, conditioning.frames):
        raise UsageError(f"guidance: expected 1 or {conditioning.frames} scales, got {len(scale)}")
    if bool((scale == 1).all()):
        return lambda x, sigma: denoise(unet, x, sigma, conditioning)
    scale = scale.view(-1, 1, 1, 1)
    bare = conditioning.unconditional()
    both = joined(bare, conditioning)

    def guided(x: Tensor, sigma: Tensor) -> Tensor:
        if batched:
            orbits = x.reshape(-1, *x.shape[-4:])
            sigma = torch.as_tensor(sigma).reshape(-1)
            sigma = sigma.repeat(2) if len(sigma) > 1 else sigma
            without, given = (
                part.reshape(x.shape) for part in denoise(unet, torch.cat([orbits] * 2), sigma, both).chunk(2)
            )
        else:
            without = denoise(unet, x, sigma, bare)
            given = denoise(unet, x, sigma, conditioning)
        return without + scale * (given - without)

    return guided


@torch.no_grad()
def sample(
    unet: MultiViewUNet,
    noise: Float[Tensor, "*batch frames channels height width"],
    conditioning: OrbitConditioning,
    *,
    steps: int = 50,
    sigma_min: float = 0.002,
    sigma_max: float = 700.0,
    rho: float = 7.0,
    guidance: Tensor | float = 1.0,
    sampler: str = "euler",
    batched_guidance: bool = True,
    on_step: Callable[[int], None] | None = None,
) -> Float[Tensor, "*batch frames channels height width"]:
    """Latents of an orbit (scaled by 0.18215), float32.

    noise: unit normal; its values decide the result, so that one generator per orbit makes it independent of the batch.
    guidance: one scale or one per frame (`triangular_guidance`). sampler: euler (the original), heun or dpmpp_2m.
    on_step: called with the number of each finished step. Raises UsageError for settings out of range.
    """
    if sampler not in SAMPLERS:
        raise UsageError(f"sampler: expected one of {', '.join(SAMPLERS)}, got {sampler}")
    sigmas = karras_sigmas(steps, sigma_min=sigma_min, sigma_max=sigma_max, rho=rho).to(noise.device)
    guided = guided_denoiser(unet, conditioning, guidance, batched=batched_guidance)
    x = noise.to(torch.float32) * (1 + sigmas[0] ** 2).sqrt()
    extra = {} if on_step is None else {"on_step": on_step}
    return SAMPLERS[sampler](guided, x, sigmas, **extra)
