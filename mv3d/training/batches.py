"""From samples as the loader stacks them to the arguments of the loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import CLIPVisionModelWithProjection

from mv3d.models.components import Autoencoder
from mv3d.models.conditioning import OrbitConditioning
from mv3d.models.encode import embed_image, encode_pixels, encode_renders, image_channels
from mv3d.orbits.dataset import normalized
from mv3d.training.config import TrainConfig
from mv3d.training.loss import PIXEL_NOISE, NoiseSample, sample_generator, sample_noise


@dataclass(frozen=True, eq=False)
class BatchMaker:
    """Targets, conditioning and noise on the device, from cached latents or from pixels.

    The input view is the last frame of an orbit and the first one of a clip. Its noise is put on the pixels, before the
    autoencoder (SVD, appendix D.4); where only latents are cached, on the latent, in units of the latents' deviation.
    """

    config: TrainConfig
    scaling_factor: float
    device: torch.device | str
    vae: Autoencoder | None = None
    image_encoder: CLIPVisionModelWithProjection | None = None
    input_frame: int = -1

    @torch.no_grad()
    def make(self, raw: dict[str, Any]) -> tuple[Tensor, OrbitConditioning, NoiseSample]:
        """raw: samples as `DataLoader` stacks them, with their numbers in the run."""
        return self._from_latents(raw) if "latents" in raw else self._from_pixels(raw)

    def _from_latents(self, raw: dict[str, Any]) -> tuple[Tensor, OrbitConditioning, NoiseSample]:
        latents = raw["latents"].to(self.device, non_blocking=True).float()
        noise = self._sample_noise(raw, latents)
        added = noise.cond_aug.view(-1, 1, 1, 1) * noise.cond_noise / self.scaling_factor
        embedding = raw["image_embedding"].to(self.device, non_blocking=True).float()[:, None]
        conditioning = self._conditioning(raw, latents[:, self.input_frame] + added, embedding, noise)
        return latents * self.scaling_factor, conditioning, noise

    def _from_pixels(self, raw: dict[str, Any]) -> tuple[Tensor, OrbitConditioning, NoiseSample]:
        vae, encoder = self.vae, self.image_encoder
        if vae is None or encoder is None:
            raise ValueError("pixels need an autoencoder and an image encoder")
        pixels = normalized(raw["images"].to(self.device, non_blocking=True), channels=image_channels(vae))
        targets = torch.stack([encode_pixels(vae, frames) for frames in pixels]) * self.scaling_factor
        noise = self._sample_noise(raw, targets)
        inputs = pixels[:, self.input_frame]
        latents = [
            encode_pixels(vae, self._noised(image[None], float(level), int(number)))
            for image, level, number in zip(inputs, noise.cond_aug, raw["index"], strict=True)
        ]
        embedding = embed_image(encoder, inputs / 2 + 0.5)
        return targets, self._conditioning(raw, torch.cat(latents), embedding, noise), noise

    def _noised(self, pixels: Tensor, level: float, number: int) -> Tensor:
        generator = sample_generator(self.config.seed, number, PIXEL_NOISE)
        return pixels + level * torch.randn(pixels.shape, generator=generator).to(pixels.device)

    def _sample_noise(self, raw: dict[str, Any], latents: Tensor) -> NoiseSample:
        _, frames, channels, height, width = latents.shape
        numbers = [int(number) for number in raw["index"]]
        return sample_noise(self.config, numbers, (frames, channels, height, width)).to(self.device)

    def _conditioning(
        self, raw: dict[str, Any], latent: Tensor, embedding: Tensor, noise: NoiseSample
    ) -> OrbitConditioning:
        return OrbitConditioning(
            cond_latent=latent,
            image_embedding=embedding,
            polars_rad=torch.deg2rad(90 - raw["elevations_deg"].to(self.device)),
            azimuths_rad=torch.deg2rad(raw["azimuths_deg"].to(self.device)),
            cond_aug=noise.cond_aug,
            renders=self._renders(raw),
        )

    def _renders(self, raw: dict[str, Any]) -> Tensor | None:
        if "renders" not in raw or self.vae is None:
            return None
        vae, pairs = self.vae, zip(raw["renders"], raw["background"].to(self.device), strict=True)
        return torch.stack(
            [encode_renders(vae, seen.to(self.device).float() / 255, color) for seen, color in pairs]
        )
