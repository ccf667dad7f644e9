"""The SVD family (SVD, SVD-MV, SV3D and networks trained from them): encode the photo, denoise an orbit, decode it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from mv3d.core.errors import Mv3dError, Mv3dWarning, shown
from mv3d.core.progress import Clock, Progress
from mv3d.generation.generator import Frames, OnFrame
from mv3d.generation.photo import PreparedPhoto
from mv3d.generation.plan import GenerationPlan, SamplerSettings
from mv3d.generation.prior import Lifter
from mv3d.generation.renders import Guidance, guided_by, load_guide
from mv3d.models.conditioning import OrbitConditioning
from mv3d.models.encode import decode_frames, decoding_parts, embed_image, encode_condition, image_channels
from mv3d.models.folder import ModelInfo
from mv3d.models.loading import ModelComponents, load_model_folder
from mv3d.models.lora import merge_loras, read_lora
from mv3d.models.sampling import frame_guidance, sample
from mv3d.render.cameras import Orbit


@dataclass(frozen=True, eq=False)
class SvdGenerator:
    """A `MultiViewGenerator`. offload: the components visit `device` one after the other. lifter: the prior that leads a
    network which takes renders."""

    components: ModelComponents
    info: ModelInfo
    device: torch.device
    offload: bool = False
    lifter: Lifter | None = None

    def generate(
        self,
        photo: PreparedPhoto,
        orbit: Orbit,
        settings: SamplerSettings,
        on_progress: Progress | None = None,
        on_frame: OnFrame | None = None,
    ) -> Frames:
        """As in `MultiViewGenerator`. Raises Mv3dError where the network's output is not finite."""
        clock = Clock(on_progress)
        order = network_order(orbit, self.info)
        led = Guidance()
        if self.components.unet.render_channels:
            with clock.stage("lift"):
                led = guided_by(self.lifter, photo, orbit)
        with clock.stage("encode"):
            conditioning, noise = self.encode([photo], orbit, order, [settings.seed])
            with self._on_device(self.components.vae):
                renders = led.encoded(self.components.vae, order, self.device, settings.decode_chunk)
            conditioning = replace(conditioning, renders=renders)
        with clock.stage("sample") as on_share:
            latents = self.sample(noise, conditioning, settings, on_share)[0]

        def told(place: int, pixels: Float[Tensor, "channels height width"]) -> None:
            if on_frame:
                on_frame(order[place], len(order), pixels.movedim(0, -1).numpy())

        with clock.stage("decode") as on_share:
            decoded = self._decode(latents, settings.decode_chunk, on_share, told)
        frames = np.empty((len(order), *decoded.shape[2:], decoded.shape[1]), np.float32)
        frames[order] = decoded.permute(0, 2, 3, 1).numpy()
        cameras, notes = orbit.cameras(frames.shape[2], frames.shape[1]), (led.note,) if led.note else ()
        return Frames(frames, cameras, clock.seconds, notes, led.solid)

    def encode(
        self, photos: Sequence[PreparedPhoto], orbit: Orbit, order: list[int], seeds: Sequence[int]
    ) -> tuple[OrbitConditioning, Float[Tensor, "batch frames channels h w"]]:
        """The condition of a batch of photos, and the unit normal noise to start from.

        order: as `network_order` gives it. Every photo has a random generator of its own, on the CPU: its noise depends
        on its seed alone, not on the batch or the device.
        """
        parts, aug = self.components, self.info.sampler.cond_aug
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        channels = image_channels(parts.vae)
        pictures = [torch.from_numpy(photo.on_white(alpha=channels == 4)).movedim(-1, 0) for photo in photos]
        pixels = torch.stack(pictures).to(self.device)
        with self._on_device(parts.image_encoder):
            embedding = embed_image(parts.image_encoder, pixels)
        with self._on_device(parts.vae):
            latents = [
                encode_condition(parts.vae, image[None], cond_aug=aug, generator=generator)
                for image, generator in zip(pixels, generators, strict=True)
            ]
        cond_latent = torch.cat(latents)
        shape = (len(order), parts.unet.config["out_channels"], *cond_latent.shape[-2:])
        noise = torch.stack([torch.randn(shape, generator=generator) for generator in generators])
        polars, azimuths = angles_rad(orbit, order)
        conditioning = OrbitConditioning(
            cond_latent, embedding, polars.to(self.device), azimuths.to(self.device), cond_aug=aug
        )
        return conditioning, noise.to(self.device)

    def sample(
        self,
        noise: Float[Tensor, "batch frames channels h w"],
        conditioning: OrbitConditioning,
        settings: SamplerSettings,
        on_share: Callable[[float], None],
    ) -> Float[Tensor, "batch frames channels h w"]:
        """Denoise. Raises Mv3dError where the network's output leaves the range of its type."""
        unet, defaults = self.components.unet, self.info.sampler
        with self._on_device(unet):
            latents = sample(
                unet,
                noise,
                conditioning,
                steps=settings.steps,
                sigma_min=defaults.sigma_min,
                sigma_max=defaults.sigma_max,
                rho=defaults.rho,
                guidance=frame_guidance(defaults, noise.shape[1], settings.guidance),
                sampler=settings.sampler,
                batched_guidance=not self.offload,
                on_step=lambda step: on_share((step + 1) / settings.steps),
            )
        if not bool(torch.isfinite(latents).all()):
            name = str(unet.dtype).removeprefix("torch.")
            raise Mv3dError(
                f"the network gave numbers that are not finite in {name}; try --dtype bf16 or fp32"
            )
        return latents

    def _decode(
        self,
        latents: Float[Tensor, "frames channels h w"],
        chunk: int,
        on_share: Callable[[float], None],
        on_pixels: Callable[[int, Float[Tensor, "channels height width"]], None],
    ) -> Float[Tensor, "frames channels height width"]:
        """Decode on the device, collect on the CPU: the device holds one chunk of pixels at a time."""
        vae, parts, done = self.components.vae, [], 0
        with self._on_device(vae):
            for part in latents.split(chunk):
                parts.append(decode_frames(vae, part, chunk=chunk).cpu())
                for offset, pixels in enumerate(parts[-1]):
                    on_pixels(done + offset, pixels)
                done += len(part)
                on_share(done / len(latents))
        return torch.cat(parts)

    @contextmanager
    def _on_device(self, part: nn.Module) -> Iterator[None]:
        """Keep a component on the device inside the block; with offloading it returns to the CPU afterwards."""
        if not self.offload:
            yield
            return
        _move(part, device=self.device)
        try:
            yield
        finally:
            _move(part, device="cpu")
            if self.device.type == "cuda":
                torch.cuda.empty_cache()


def load_svd(plan: GenerationPlan) -> SvdGenerator:
    """Load a model folder, merge the adapters, and put it where and as the plan says.

    Raises InputError for a model or an adapter that cannot be used.
    """
    adapters = [(read_lora(path), weight) for path, weight in plan.adapters]
    components = load_model_folder(plan.model.folder)
    if adapters:
        merge_loras(components.unet, adapters)
    for (path, _), (adapter, _) in zip(plan.adapters, adapters, strict=True):
        trained_at = adapter.metadata.get("resolution", list(plan.info.size))
        if trained_at != list(plan.info.size):
            warnings.warn(
                f"{path}: trained on views of {shown(trained_at)} pixels, the model makes {list(plan.info.size)}",
                Mv3dWarning,
                stacklevel=2,
            )
    # The original runs its network in half precision and the rest in full. Encoding a photo overflows half precision
    # with SVD's autoencoder; decoding does not, and the decoder's activations are most of what a GPU has to hold.
    _move(components.unet, dtype=getattr(torch, plan.dtype))
    for part in (components.vae, components.image_encoder):
        _move(part, dtype=torch.float32)
    for part in decoding_parts(components.vae):
        _move(part, dtype=getattr(torch, plan.decode_dtype))
    offload = plan.config.offload == "model"
    for part in (components.unet, components.vae, components.image_encoder):
        part.requires_grad_(False)
        if not offload:
            _move(part, device=plan.device)
    guide = load_guide(plan, components.unet)
    return SvdGenerator(components, plan.info, plan.device, offload, guide)


def network_order(orbit: Orbit, info: ModelInfo) -> list[int]:
    """The orbit's views in the order in which the network makes them.

    SV3D was trained with the photo last, so the turn is kept and rolled. A video model has the photo first.
    """
    count = len(orbit.azimuths_deg)
    if info.camera == "none" or orbit.input_view is None:
        return list(range(count))
    return [(orbit.input_view + 1 + i) % count for i in range(count)]


def angles_rad(orbit: Orbit, order: list[int]) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """Polar angles (90° - elevation, absolute) and azimuths relative to the photo in [0, 2π), in radians, float32."""
    elevations = np.asarray(orbit.elevations_deg)[order]
    azimuths = np.asarray(orbit.azimuths_deg)[order]
    zero = orbit.azimuths_deg[orbit.input_view] if orbit.input_view is not None else azimuths[-1]
    polars = torch.tensor(np.radians(90.0 - elevations), dtype=torch.float32)
    return polars, torch.tensor(np.radians((azimuths - zero) % 360.0), dtype=torch.float32)


def _move(part: nn.Module, **where: Any) -> None:
    """As `part.to(...)`, without a warning of diffusers that does not apply here."""
    nn.Module.to(part, **where)
