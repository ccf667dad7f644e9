"""The network's conditioning for an orbit: the input image and the camera of every frame."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from mv3d.core.errors import UsageError
from mv3d.models.network import MicroConditioning

SVD_FPS_ID = 6.0
SVD_MOTION_BUCKET = 127.0


@dataclass(frozen=True)
class OrbitConditioning:
    """The condition of one orbit, or of a batch of orbits.

    cond_latent: the VAE's mean of the input image, NOT scaled by 0.18215; repeated over the frames.
    image_embedding: CLIP's embedding of the input image. polars_rad: 90° - elevation, absolute. azimuths_rad:
    relative to the input view. Angles of shape (frames,) hold for every orbit of the batch. cond_aug: noise level of
    cond_latent's image, one number or one per orbit. renders: of a 3D prior, one per frame: latents scaled as the noisy
    ones are (by 0.18215), and last the mask in [0, 1]; zeros, or None, where there is no render. fps_id (frames per second - 1) and motion_bucket are inputs of
    networks with SVD's micro-conditioning only. Raises UsageError for shapes that do not fit together.
    """

    cond_latent: Float[Tensor, "batch channels height width"]
    image_embedding: Float[Tensor, "batch tokens context"]
    polars_rad: Float[Tensor, " frames"] | Float[Tensor, "batch frames"]
    azimuths_rad: Float[Tensor, " frames"] | Float[Tensor, "batch frames"]
    cond_aug: float | Float[Tensor, " batch"] = 1e-5
    fps_id: float = SVD_FPS_ID
    motion_bucket: float = SVD_MOTION_BUCKET
    renders: Float[Tensor, "batch frames rendered height width"] | None = None

    def __post_init__(self) -> None:
        if self.cond_latent.ndim != 4 or self.image_embedding.ndim != 3:
            raise UsageError(
                "conditioning: expected cond_latent (batch, channels, height, width) and image_embedding (batch, tokens, "
                f"width), got {tuple(self.cond_latent.shape)} and {tuple(self.image_embedding.shape)}"
            )
        if len(self.image_embedding) != self.batch:
            raise UsageError(
                f"conditioning: expected {self.batch} image embeddings, one per latent, got {len(self.image_embedding)}"
            )
        if self.polars_rad.shape != self.azimuths_rad.shape:
            raise UsageError(
                f"conditioning: expected as many polar angles as azimuths, got {tuple(self.polars_rad.shape)} and "
                f"{tuple(self.azimuths_rad.shape)}"
            )
        if self.polars_rad.ndim == 2 and len(self.polars_rad) != self.batch:
            raise UsageError(
                f"conditioning: expected angles of {self.batch} orbits, got {len(self.polars_rad)}"
            )
        if self.renders is not None:
            _, _, height, width = self.cond_latent.shape
            fits = self.renders.ndim == 5 and self.renders.shape[2] > 1
            shape = (self.batch, self.frames, self.renders.shape[2] if fits else "channels", height, width)
            if tuple(self.renders.shape) != shape:
                raise UsageError(
                    f"conditioning: expected renders ({', '.join(map(str, shape))}), got {tuple(self.renders.shape)}"
                )

    @property
    def batch(self) -> int:
        return len(self.cond_latent)

    @property
    def frames(self) -> int:
        return self.polars_rad.shape[-1]

    def unconditional(self) -> OrbitConditioning:
        """Guidance's other branch: no image, but the same camera and noise level (SV3D), and the same renders.

        Renders say where things are, as the camera does. Without them in this branch, guidance would carry the views
        beyond what the prior says, its errors included (InstructPix2Pix, arXiv 2211.09800, section 3.2, gives each
        condition a scale of its own; that of the renders is 1 here).
        """
        latent, embedding = torch.zeros_like(self.cond_latent), torch.zeros_like(self.image_embedding)
        return replace(self, cond_latent=latent, image_embedding=embedding)

    def to(self, device: torch.device | str) -> OrbitConditioning:
        """The same on another device."""
        tensors = {name: value.to(device) for name, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(self, **tensors)

    def micro_conditioning(self, micro: MicroConditioning) -> Float[Tensor, "batch frames numbers"]:
        """The inputs named by `micro`, in its order, float32. Raises UsageError for a wrong number of cond_aug."""
        shape = (self.batch, self.frames)
        device = self.cond_latent.device

        def per_frame(value: Tensor | float) -> Tensor:
            return torch.as_tensor(value, dtype=torch.float32, device=device).expand(shape)

        cond_aug = torch.as_tensor(self.cond_aug, dtype=torch.float32, device=device).reshape(-1, 1)
        if len(cond_aug) not in (1, self.batch):
            raise UsageError(
                f"conditioning: expected 1 or {self.batch} values of cond_aug, got {len(cond_aug)}"
            )
        values = {
            "fps": per_frame(self.fps_id),
            "motion_bucket": per_frame(self.motion_bucket),
            "cond_aug": cond_aug.expand(shape),
            "elevation": math.pi / 2 - per_frame(self.polars_rad),
            "polar": per_frame(self.polars_rad),
            "azimuth": per_frame(self.azimuths_rad),
        }
        return torch.stack([values[name] for name in micro.names], dim=-1)


def joined(first: OrbitConditioning, second: OrbitConditioning) -> OrbitConditioning:
    """Concatenate two batches of orbits."""
    both = (first, second)
    renders = None
    if first.renders is not None and second.renders is not None:
        renders = torch.cat([first.renders, second.renders])
    elif first.renders is not second.renders:
        raise UsageError("conditioning: expected renders of both batches or of none, got those of one")
    augs = [torch.as_tensor(c.cond_aug, dtype=torch.float32, device=c.cond_latent.device) for c in both]
    return replace(
        first,
        cond_latent=torch.cat([c.cond_latent for c in both]),
        image_embedding=torch.cat([c.image_embedding for c in both]),
        polars_rad=torch.cat([c.polars_rad.expand(c.batch, c.frames) for c in both]),
        azimuths_rad=torch.cat([c.azimuths_rad.expand(c.batch, c.frames) for c in both]),
        renders=renders,
        cond_aug=torch.cat([aug.reshape(-1).expand(c.batch) for c, aug in zip(both, augs, strict=True)]),
    )
