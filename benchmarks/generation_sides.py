"""The two sides of `generation.py`: ours and diffusers' pipeline with the same random weights, and one measurement of
either. Random weights come from one seed, so that both sides have the same ones."""

from __future__ import annotations

import argparse
import gc
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image

from mv3d.core.machine import peak_memory_bytes
from mv3d.generation.config import GenerateConfig
from mv3d.generation.photo import PreparedPhoto
from mv3d.generation.plan import plan_orbit, sampler_settings
from mv3d.generation.svd import SvdGenerator
from mv3d.generation.views import prepare
from mv3d.models.components import CLIP_VIT_H, VAE_SD, build_image_encoder, build_vae
from mv3d.models.encode import decode_frames
from mv3d.models.folder import ModelInfo, SamplerDefaults
from mv3d.models.loading import ModelComponents
from mv3d.models.network import SVD, NetworkConfig

Who = Literal["mv3d", "diffusers"]
FULL_CHANNELS = (320, 640, 1280, 1280)
SMALL_VAE = VAE_SD | {"block_out_channels": [32, 64, 128, 128]}
SMALL_CLIP = CLIP_VIT_H | {
    "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2,
}  # fmt: skip
GUIDANCE, COND_AUG, FPS = 3.0, 0.02, 7
# The published scheduler of SVD; the levels are ours: 700 to 0.002, rho 7.
SCHEDULER = {
    "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "interpolation_type": "linear",
    "prediction_type": "v_prediction", "sigma_max": 700.0, "sigma_min": 0.002, "steps_offset": 1,
    "timestep_spacing": "leading", "timestep_type": "continuous", "use_karras_sigmas": True,
}  # fmt: skip


@dataclass(frozen=True)
class Setup:
    """size: pixels. chunks: frames decoded at a time, of the table of decoding; the generations take `chunk`."""

    channels: tuple[int, ...]
    size: int
    frames: int
    steps: int
    rounds: int
    chunk: int
    chunks: tuple[int, ...]
    device: str = "cpu"
    fp16: bool = False
    threads: int = 0

    @property
    def full_parts(self) -> bool:
        return self.channels == FULL_CHANNELS

    @property
    def latent(self) -> int:
        return self.size // 8


@dataclass(frozen=True)
class Job:
    """One process. what: generate or decode."""

    setup: Setup
    who: Who
    what: Literal["generate", "decode"] = "generate"
    offload: bool = False
    chunk: int = 7


@dataclass(frozen=True, eq=False)
class Measured:
    """seconds: of the whole. step: seconds, None for decoding. peak_gb: resident memory of the process. device_gb: peak
    of what torch had allocated on the GPU, None without one. frames: (n, side, side, 3), every fourth pixel of every fourth row."""

    seconds: float
    step: float | None
    peak_gb: float
    device_gb: float | None
    frames: np.ndarray


def network_of(setup: Setup) -> NetworkConfig:
    """SVD's network in this size: transformers in all levels but the last, heads of 64 channels."""
    levels = len(setup.channels)
    return NetworkConfig(
        micro=SVD,
        block_out_channels=setup.channels,
        attention=(True,) * (levels - 1) + (False,),
        heads=tuple(max(1, channels // 64) for channels in setup.channels),
        transformer_depth=(1,) * levels,
        context_dim=CLIP_VIT_H["projection_dim"],
        num_frames=setup.frames,
        sample_size=setup.latent,
    )


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Initial weights from one seed, whatever was drawn before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def vae_of(setup: Setup) -> Any:
    with seeded(1):
        return build_vae(VAE_SD if setup.full_parts else SMALL_VAE)[0].eval().requires_grad_(False)


def image_encoder_of(setup: Setup) -> Any:
    with seeded(2):
        built = build_image_encoder(CLIP_VIT_H if setup.full_parts else SMALL_CLIP)[0]
    return built.eval().requires_grad_(False)


def unet_of(setup: Setup) -> Any:
    with seeded(3):
        return network_of(setup).build().eval().requires_grad_(False)


def photo_of(size: int) -> Image.Image:
    """A cut-out of coloured stripes."""
    y, x = (np.mgrid[:size, :size] + 0.5) / size * 2 - 1
    inside = (x**2 + 0.7 * y**2 < 0.6) & (np.hypot(x + 0.1, y - 0.2) > 0.2)
    colors = np.stack([0.5 + 0.4 * np.sin(9 * x), 0.5 + 0.4 * np.sin(7 * y), 0.5 + 0.4 * x * y, inside], -1)
    return Image.fromarray((colors * 255).astype(np.uint8), "RGBA")


def framed_photo(size: int) -> PreparedPhoto:
    """Framed as a generation frames it, on white, and rounded to 8 bits as the pipeline takes a picture: half a step of 255
    more or less in the photo comes out of a random network a hundred times as large."""
    prepared = prepare(photo_of(size), GenerateConfig(), ModelInfo("svd", 1, size))
    white = np.floor(prepared.on_white() * 255 + 0.5) / 255
    opaque = np.concatenate([white, np.ones_like(white[..., :1])], -1)
    return replace(prepared, rgba=opaque.astype(np.float32))


def our_model(setup: Setup, offload: bool) -> SvdGenerator:
    """As `load_svd` leaves it: the network in its type, the other parts in full precision."""
    sampler = SamplerDefaults(
        steps=setup.steps, guidance_max=GUIDANCE, guidance_shape="linear", cond_aug=COND_AUG
    )
    info = ModelInfo("svd", setup.frames, setup.size, camera="none", takes_elevation=False, sampler=sampler)
    device = torch.device(setup.device)
    unet = unet_of(setup)
    unet = unet.half() if setup.fp16 else unet
    parts = ModelComponents(unet, vae_of(setup), image_encoder_of(setup), info, Path("random"))
    if not offload:
        for part in (parts.unet, parts.vae, parts.image_encoder):
            torch.nn.Module.to(part, device=device)
    return SvdGenerator(parts, info, device, offload)


def our_generation(job: Job, on_step: Callable[[], None]) -> Callable[[int], np.ndarray]:
    """steps → frames (n, h, w, 3), from the photo on."""
    model = our_model(job.setup, job.offload)

    def generate(steps: int) -> np.ndarray:
        config = GenerateConfig(steps=steps, decode_chunk=job.chunk)
        prepared = framed_photo(job.setup.size)
        orbit = plan_orbit(config, model.info)

        def progress(stage: str, share: float) -> None:
            # The stage itself says 0 at its start and 1 once more at its end.
            if stage == "sample" and share > 0 and len(seen) < steps:
                seen.append(share)
                on_step()

        seen: list[float] = []
        return model.generate(prepared, orbit, sampler_settings(config, model.info), progress).images

    return generate


def their_pipeline(setup: Setup, offload: bool) -> Any:
    """diffusers' pipeline with the weights of ours."""
    from diffusers.models.unets.unet_spatio_temporal_condition import UNetSpatioTemporalConditionModel
    from diffusers.pipelines.stable_video_diffusion.pipeline_stable_video_diffusion import (
        StableVideoDiffusionPipeline,
    )
    from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
    from transformers import CLIPImageProcessor

    settings = network_of(setup).diffusers_config()
    for ours in ("vector_names", "vector_widths", "mid_transformer_layers"):
        del settings[ours]
    with torch.device("meta"):
        unet = UNetSpatioTemporalConditionModel(**settings)  # pyright: ignore[reportArgumentType]
    unet.load_state_dict(unet_of(setup).state_dict(), assign=True)
    pipe = StableVideoDiffusionPipeline(
        vae_of(setup),
        image_encoder_of(setup),
        unet.eval().requires_grad_(False),
        EulerDiscreteScheduler(**SCHEDULER),
        CLIPImageProcessor(),
    )
    pipe.set_progress_bar_config(disable=True)
    if setup.fp16:
        pipe.to(torch.float16)
    if offload:
        pipe.enable_model_cpu_offload()
    else:
        pipe.to(setup.device)
    return pipe


def their_generation(job: Job, on_step: Callable[[], None]) -> Callable[[int], np.ndarray]:
    """steps → frames (n, h, w, 3), from the photo on; the photo is framed as ours."""
    pipe, setup = their_pipeline(job.setup, job.offload), job.setup

    def ended(_pipe: Any, _step: int, _time: Any, _tensors: dict[str, Any]) -> dict[str, Any]:
        on_step()
        return {}

    def generate(steps: int) -> np.ndarray:
        white = framed_photo(setup.size).on_white()
        made = pipe(
            Image.fromarray((white * 255 + 0.5).astype(np.uint8)),
            height=setup.size,
            width=setup.size,
            num_frames=setup.frames,
            num_inference_steps=steps,
            max_guidance_scale=GUIDANCE,
            fps=FPS,
            noise_aug_strength=COND_AUG,
            decode_chunk_size=job.chunk,
            generator=torch.Generator().manual_seed(0),
            output_type="np",
            callback_on_step_end=ended,
        )
        return made.frames[0]

    return generate


@torch.no_grad()
def decoding(job: Job) -> Callable[[], np.ndarray]:
    """Random latents → frames, as each side decodes them; the autoencoder alone is loaded."""
    setup = job.setup
    device = torch.device(setup.device)
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(setup.frames, 4, setup.latent, setup.latent, generator=generator).to(device)
    vae = vae_of(setup).to(device)
    if job.who == "mv3d":

        def ours() -> np.ndarray:
            parts = [decode_frames(vae, part, chunk=job.chunk).cpu() for part in latents.split(job.chunk)]
            return torch.cat(parts).movedim(1, -1).numpy()

        return ours
    from diffusers.pipelines.stable_video_diffusion.pipeline_stable_video_diffusion import (
        StableVideoDiffusionPipeline,
    )
    from diffusers.video_processor import VideoProcessor

    # The method and the processing behind it read no other part of the pipeline.
    holder = argparse.Namespace(vae=vae.half() if setup.fp16 else vae)
    processor = VideoProcessor(do_resize=True, vae_scale_factor=8)

    @torch.no_grad()
    def theirs() -> np.ndarray:
        frames = StableVideoDiffusionPipeline.decode_latents(
            holder,  # pyright: ignore[reportArgumentType] - all that it takes of a pipeline
            latents[None].to(holder.vae.dtype),
            setup.frames,
            job.chunk,  # pyright: ignore[reportArgumentType]
        )
        return np.asarray(processor.postprocess_video(frames, output_type="np"))[0]

    return theirs


def run_job(job: Job) -> Measured:
    """Build, warm up, measure; called in a process of its own."""
    setup = job.setup
    if setup.threads:
        torch.set_num_threads(setup.threads)
    cuda = setup.device.startswith("cuda")

    def now() -> float:
        if cuda:
            torch.cuda.synchronize()
        return time.perf_counter()

    ends: list[float] = []
    if job.what == "decode":
        decode = decoding(job)
        gc.collect()
        decode()
        begun = now()
        frames = decode()
    else:
        make = our_generation if job.who == "mv3d" else their_generation
        generate = make(job, lambda: ends.append(now()))
        generate(2)
        gc.collect()
        ends.clear()
        begun = now()
        frames = generate(setup.steps)
    seconds = now() - begun
    step = statistics.median(np.diff(ends)) if len(ends) > 1 else None
    device_gb = torch.cuda.max_memory_allocated() / 1e9 if cuda else None
    return Measured(
        seconds, None if step is None else float(step), peak_memory_bytes() / 1e9, device_gb,
        frames[:, ::4, ::4].copy(),
    )  # fmt: skip
