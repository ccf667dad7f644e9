"""The loss of a batch of orbits, and its random numbers.

Every sample of a run has a number; what is drawn for it is a function of the seed and that number alone. So neither the
count of processes, nor the micro-batch, nor an interruption changes a loss.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mv3d.models.conditioning import OrbitConditioning
from mv3d.models.preconditioning import loss_weight
from mv3d.training.config import TrainConfig

Denoiser = Callable[[Tensor, Tensor, OrbitConditioning], Tensor]
PIXEL_NOISE = 1


@dataclass(frozen=True)
class NoiseSample:
    """The random numbers of a batch of orbits.

    sigma: noise level of each orbit, ONE for all its frames: with levels of their own the network reads a noisy frame
    off a cleaner neighbour and learns nothing (SVD, appendix D). cond_aug: noise level of the input view.
    """

    sigma: Float[Tensor, " batch"]
    noise: Float[Tensor, "batch frames channels height width"]
    cond_aug: Float[Tensor, " batch"]
    cond_noise: Float[Tensor, "batch channels height width"]
    keep_image: Bool[Tensor, " batch"]
    keep_latent: Bool[Tensor, " batch"]
    keep_render: Bool[Tensor, " batch"]

    def to(self, device: torch.device | str) -> NoiseSample:
        """The same on another device."""
        return NoiseSample(*(getattr(self, name).to(device) for name in self.__dataclass_fields__))


def sample_generator(seed: int, number: int, stream: int = 0) -> torch.Generator:
    """The random numbers of sample `number`, on the CPU; streams are independent of each other."""
    state = np.random.SeedSequence([seed, number, stream]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))


def sample_noise(
    config: TrainConfig, numbers: Sequence[int], shape: tuple[int, int, int, int]
) -> NoiseSample:
    """Noise and dropout of the samples with these numbers. shape: (frames, channels, height, width) of the latents."""
    rows = []
    for number in numbers:
        g = sample_generator(config.seed, number)
        normal, uniform = torch.randn(2, generator=g), torch.rand(2, generator=g)
        noise, cond_noise = torch.randn(shape, generator=g), torch.randn(shape[1:], generator=g)
        rows.append((normal, uniform, noise, cond_noise, torch.rand(1, generator=g)))
    normal, uniform, noise, cond_noise, last = (torch.stack(column) for column in zip(*rows, strict=True))
    return NoiseSample(
        sigma=(config.p_mean + config.p_std * normal[:, 0]).exp(),
        noise=noise,
        cond_aug=(config.cond_mean + config.cond_std * normal[:, 1]).exp(),
        cond_noise=cond_noise,
        keep_image=uniform[:, 0] >= config.drop_image,
        keep_latent=uniform[:, 1] >= config.drop_latent,
        keep_render=last[:, 0] >= config.drop_render,
    )


def with_dropout(conditioning: OrbitConditioning, noise: NoiseSample) -> OrbitConditioning:
    """Zeros where the image embedding, the latent or the renders are dropped, each by itself; the camera always stays
    (SV3D)."""
    renders = conditioning.renders
    if renders is not None:
        renders = renders * noise.keep_render.view(-1, 1, 1, 1, 1)
    return replace(
        conditioning,
        cond_latent=conditioning.cond_latent * noise.keep_latent.view(-1, 1, 1, 1),
        image_embedding=conditioning.image_embedding * noise.keep_image.view(-1, 1, 1),
        renders=renders,
    )


def frame_weights(
    azimuths_rad: Float[Tensor, "batch frames"], near_weight: float
) -> Float[Tensor, "batch frames"]:
    """Weights of the frames, of mean 1: `near_weight` at the input view to 1 behind the object, as (1 - cos a)/2.

    SV3D lowers the weight of frames near the input view and does not say how; the curve is ours.
    """
    weight = near_weight + (1 - near_weight) * (1 - azimuths_rad.cos()) / 2
    mean = weight.mean(dim=1, keepdim=True)
    return torch.where(mean > 0, weight / mean.clamp(min=1e-12), torch.ones_like(weight))


def orbit_loss(
    denoiser: Denoiser,
    target: Float[Tensor, "batch frames channels height width"],
    conditioning: OrbitConditioning,
    noise: NoiseSample,
    weights: Float[Tensor, "batch frames"] | None = None,
) -> Float[Tensor, " batch"]:
    """(1 + σ²)/σ²·‖denoised - target‖², the mean over each orbit (Karras et al. 2022, eq. 2; weight of SVD, D.2).

    target: clean latents, scaled (·0.18215). denoiser: `mv3d.models.denoise` with its network. weights: of the frames.
    """
    noisy = target + noise.sigma.view(-1, 1, 1, 1, 1) * noise.noise
    denoised = denoiser(noisy, noise.sigma, with_dropout(conditioning, noise))
    error = (denoised.float() - target).square().mean(dim=(2, 3, 4))
    if weights is not None:
        error = error * weights
    return loss_weight(noise.sigma) * error.mean(dim=1)
