"""An autoencoder without a network: the principal components of square patches.

Small models are trained on few pictures in little time, and there a convolutional autoencoder is what limits them:
three minutes on two cores bring one to 17 dB, and the components of 16 × 16 patches, which take seconds, to 29.6 dB with
48 numbers a patch (128² pictures of rendered objects, held out). They are nearly an isometry, too: what the diffusion
model minimises is the error in pixels.

With four channels the pictures carry their alpha. A small model's views are blurred, and the colours of a blurred object
on white do not show its outline: a pale object has none. The expected alpha does, where it crosses one half.
"""

from __future__ import annotations

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from diffusers.models.modeling_utils import ModelMixin
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import conv2d, conv_transpose2d, pixel_unshuffle

from mv3d.core.errors import UsageError

_NO_NOISE = -30.0  # ln of the variance
_WHITENING = 0.5
"""Latents are divided by the deviation of their component to this power: 0 leaves the brightness of a patch to drown
all else, 1 gives noise the weight of shapes."""


class PatchAutoencoder(ModelMixin, ConfigMixin):
    """The interface of diffusers' `AutoencoderKL`; a posterior without variance. `fit` sets the weights."""

    @register_to_config
    def __init__(
        self,
        patch_size: int = 16,
        latent_channels: int = 48,
        scaling_factor: float = 1.0,
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        if in_channels not in (3, 4):
            raise ValueError(f"expected 3 channels, or 4 with alpha, got {in_channels}")
        most = in_channels * patch_size**2
        if not 0 < latent_channels <= most:
            raise ValueError(
                f"expected 1 to {most} latent channels of patches of {patch_size}, got {latent_channels}"
            )
        shape = (latent_channels, in_channels, patch_size, patch_size)
        self.analysis = nn.Parameter(torch.zeros(shape), requires_grad=False)
        self.offset = nn.Parameter(torch.zeros(latent_channels), requires_grad=False)
        self.synthesis = nn.Parameter(torch.zeros(shape), requires_grad=False)
        self.mean = nn.Parameter(torch.zeros(shape[1:]), requires_grad=False)

    def encode(
        self, x: Float[Tensor, "n channels height width"], return_dict: bool = False
    ) -> tuple[DiagonalGaussianDistribution]:
        """The posterior of pictures in [-1, 1], sides multiples of the patch's; its mode has shape (n, c, h, w)."""
        latents = conv2d(x, self.analysis, self.offset, stride=self.analysis.shape[-1])
        parameters = torch.cat([latents, torch.full_like(latents, _NO_NOISE)], dim=1)
        return (DiagonalGaussianDistribution(parameters, deterministic=True),)

    def decode(self, z: Float[Tensor, "n c h w"], return_dict: bool = False) -> tuple[Tensor]:
        """Pictures around [-1, 1]."""
        pictures = conv_transpose2d(z, self.synthesis, stride=self.synthesis.shape[-1])
        return (pictures + self.mean.repeat(1, *z.shape[-2:]),)

    @torch.no_grad()
    def fit(self, pictures: Float[Tensor, "n channels height width"]) -> None:
        """Set the weights to the first principal components of the patches of pictures in [-1, 1].

        Latents then have a mean of 0 and, over all channels together, a deviation of 1.
        """
        channels, _, side, _ = self.analysis.shape
        if any(length % side for length in pictures.shape[-2:]):
            raise UsageError(
                f"--patch: expected one that divides pictures of {pictures.shape[-1]} × {pictures.shape[-2]}, got {side}"
            )
        patches = pixel_unshuffle(pictures.double(), side).movedim(1, -1).reshape(-1, self.mean.numel())
        mean = patches.mean(0)
        variances, components = torch.linalg.eigh((patches - mean).T @ (patches - mean) / len(patches))
        basis = components.flip(1)[:, :channels].T
        deviations = variances.flip(0)[:channels].clamp(min=1e-12).sqrt()
        scales = deviations**_WHITENING
        scales = scales * ((deviations / scales).square().mean().sqrt())
        self.analysis.copy_((basis / scales[:, None]).view_as(self.analysis))
        self.offset.copy_(-(basis / scales[:, None]) @ mean)
        self.synthesis.copy_((basis * scales[:, None]).view_as(self.synthesis))
        self.mean.copy_(mean.view_as(self.mean))
