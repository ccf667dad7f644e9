"""From what the loader yields to what the loss takes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import CLIPVisionModelWithProjection

from mv3d.models.components import Autoencoder
from mv3d.models.conditioning import OrbitConditioning
from mv3d.models.encode import embed_image, encode_condition, encode_frames, image_channels
from mv3d.orbits.dataset import normalized
from mv3d.training.config import TrainConfig
from mv3d.training.loss import PIXEL_NOISE, Draws, draw, sample_generator


class BatchMaker:
    """Targets, conditions and draws on the device, from cached latents or from pixels.

    The input view is the last frame of an orbit and the first one of a clip. Its noise is put on the pixels, before the
    autoencoder (SVD, appendix D.4); where only latents are cached, on the latent, in units of the latents' deviation.
    """

    def __init__(
        self,
        config: TrainConfig,
        *,
        scaling_factor: float,
        device: torch.device | str,
        vae: Autoencoder | None = None,
        image_encoder: CLIPVisionModelWithProjection | None = None,
        input_frame: int = -1,
    ) -> None:
        self._config, self._scaling, self._device = config, scaling_factor, device
        self._vae, self._encoder, self._input = vae, image_encoder, input_frame

    @torch.no_grad()
    def make(self, raw: dict[str, Any]) -> tuple[Tensor, OrbitConditioning, Draws]:
        """raw: samples as `DataLoader` stacks them, with their numbers in the run."""
        return self._from_latents(raw) if "latents" in raw else self._from_pixels(raw)

    def _from_latents(self, raw: dict[str, Any]) -> tuple[Tensor, OrbitConditioning, Draws]:
        latents = raw["latents"].to(self._device, non_blocking=True).float()
        draws = self._draw(raw, tuple(latents.shape[1:]))
        noise = draws.cond_aug.view(-1, 1, 1, 1) * draws.cond_noise / self._scaling
        embedding = raw["image_embedding"].to(self._device, non_blocking=True).float()[:, None]
        conditioning = self._conditioning(raw, latents[:, self._input] + noise, embedding, draws)
        return latents * self._scaling, conditioning, draws

    def _from_pixels(self, raw: dict[str, Any]) -> tuple[Tensor, OrbitConditioning, Draws]:
        vae, encoder = self._vae, self._encoder
        if vae is None or encoder is None:
            raise ValueError("pixels need an autoencoder and an image encoder")
        channels = image_channels(vae)
        images = normalized(raw["images"].to(self._device, non_blocking=True), channels=channels) / 2 + 0.5
        targets = torch.stack([encode_frames(vae, frames) for frames in images])
        draws = self._draw(raw, tuple(targets.shape[1:]))
        inputs = images[:, self._input]
        cond = [
            encode_condition(
                vae,
                image[None],
                cond_aug=float(level),
                generator=sample_generator(self._config.seed, int(number), PIXEL_NOISE),
            )
            for image, level, number in zip(inputs, draws.cond_aug, raw["number"], strict=True)
        ]
        return targets, self._conditioning(raw, torch.cat(cond), embed_image(encoder, inputs), draws), draws

    def _draw(self, raw: dict[str, Any], shape: tuple[int, ...]) -> Draws:
        frames, channels, height, width = shape
        numbers = [int(number) for number in raw["number"]]
        return draw(self._config, numbers, (frames, channels, height, width)).to(self._device)

    def _conditioning(
        self, raw: dict[str, Any], latent: Tensor, embedding: Tensor, draws: Draws
    ) -> OrbitConditioning:
        return OrbitConditioning(
            cond_latent=latent,
            image_embedding=embedding,
            polars_rad=torch.deg2rad(90 - raw["elevations_deg"].to(self._device)),
            azimuths_rad=torch.deg2rad(raw["azimuths_deg"].to(self._device)),
            cond_aug=draws.cond_aug,
        )
