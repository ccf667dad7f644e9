"""`mv3d generate`'s path beside diffusers' own `StableVideoDiffusionPipeline`, with the same network.

    python benchmarks/generation.py [--quick | --small] [--out generation.json]
    python benchmarks/generation.py --device cuda --channels 320 640 1280 1280 --size 576 --fp16    the full size

Random weights (from one seed, the same for both), SVD's vector, the same photo, seed, noise levels, frames and guidance. Every
measurement is a process of its own, so that its peak memory is its own; rounds alternate, a figure is the median over the
rounds. A step: the median of the seconds between the ends of two steps. A generation: from the photo to frames in
memory, everything loaded and warm (one generation of two steps comes first). Decoding alone: by how many frames go at a time.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from part import (
    Chart,
    Part,
    Series,
    Table,
    describe_machine,
    part_parser,
    rounded,
    scale_of,
    versions_of,
    write_part,
)
from PIL import Image

from mv3d.core.errors import UsageError
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


SETUPS = {
    "quick": Setup((32, 64, 64), 64, 8, 4, 1, 4, (8,)),
    "small": Setup((64, 128, 128, 128), 128, 21, 8, 6, 7, (1, 7, 21)),
    "full": Setup((64, 128, 256, 256), 256, 21, 25, 6, 7, (1, 3, 7, 21)),
}


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


def in_own_process(job: Job) -> Measured:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(run_job, job).result()


def variants(setup: Setup) -> list[Job]:
    """The generations that are compared: with and without offloading where there is a GPU."""
    offloads = (False, True) if setup.device.startswith("cuda") else (False,)
    return [
        Job(setup, who, "generate", offload, setup.chunk)
        for offload in offloads
        for who in ("mv3d", "diffusers")
    ]


def alternating(jobs: list[Job], rounds: int, run: Callable[[Job], Measured]) -> dict[Job, list[Measured]]:
    """Every job once a round, in the other order every second round."""
    found: dict[Job, list[Measured]] = {job: [] for job in jobs}
    for number in range(rounds):
        for job in jobs if number % 2 == 0 else jobs[::-1]:
            found[job].append(run(job))
            last = found[job][-1]
            step = "" if last.step is None else f"{last.step:.3f} s a step, "
            print(
                f"round {number}: {name_of(job)}, {job.chunk} decoded at a time: {step}{last.seconds:.2f} s, "
                f"{last.peak_gb:.2f} GB",
                flush=True,
            )
    return found


def name_of(job: Job) -> str:
    if job.what == "decode":
        return "mv3d, decoding" if job.who == "mv3d" else "diffusers, decoding"
    names = {
        ("mv3d", False): "mv3d",
        ("mv3d", True): "mv3d, --offload model",
        ("diffusers", False): "diffusers' pipeline",
        ("diffusers", True): "diffusers' pipeline, enable_model_cpu_offload",
    }
    return names[job.who, job.offload]


def median_of(found: list[Measured], name: str) -> float | None:
    values = [getattr(m, name) for m in found]
    return None if values[0] is None else rounded(statistics.median(values))


def table_of(caption: str, found: dict[Job, list[Measured]]) -> Table:
    columns = ("", "frames decoded at a time", "s per step", "s in all", "peak memory GB", "GPU memory GB")
    rows = tuple(
        (
            name_of(job),
            job.chunk,
            *(median_of(got, name) for name in ("step", "seconds", "peak_gb", "device_gb")),
        )
        for job, got in found.items()
    )
    return Table(caption, columns, rows)


def differences(found: dict[Job, list[Measured]]) -> dict[Job, tuple[float, float]]:
    """Largest and mean difference of each variant's frames from the first one's, in the first round, of 255."""
    pictures = {job: got[0].frames for job, got in found.items()}
    first = next(iter(pictures.values()))
    gaps = {job: np.abs(picture - first) * 255 for job, picture in pictures.items()}
    return {job: (float(gap.max()), float(gap.mean())) for job, gap in gaps.items()}


def difference_text(found: dict[Job, list[Measured]], *, fp16: bool) -> str:
    """Of every variant but the first."""
    first, *others = differences(found).items()
    told = "; ".join(f"{name_of(job)} {largest:.2g}, {mean:.2g}" for job, (largest, mean) in others)
    why = (
        " In half precision the pipeline's autoencoder decodes in it as well, ours in single, and a random network makes "
        "much of what is rounded."
        if fp16
        else ""
    )
    return f"Frames of the same seed, largest and mean difference from those of {name_of(first[0])}, of 255: {told}.{why}"


def counted(rounds: int) -> str:
    return f"{rounds} round{'s' if rounds != 1 else ''}"


def ratio_text(found: dict[Job, list[Measured]]) -> str:
    """Ours by theirs, the median over the rounds of the ratio within a round, and how far the rounds lie apart."""
    ours, theirs = (
        next(got for job, got in found.items() if job.who == who and not job.offload)
        for who in ("mv3d", "diffusers")
    )

    def told(name: str) -> str:
        ratios = [getattr(a, name) / getattr(b, name) for a, b in zip(ours, theirs, strict=True)]
        return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"

    return (
        f"mv3d by diffusers, median (lowest to highest) over {counted(len(ours))} of the ratio within a round: "
        f"{told('step')} of the seconds of a step, {told('seconds')} of those of a generation, {told('peak_gb')} of the "
        "peak memory."
    )


def measure(setup: Setup) -> tuple[tuple[str, ...], tuple[Table, ...], tuple[Chart, ...]]:
    """Text, tables and charts."""
    made = alternating(variants(setup), setup.rounds, in_own_process)
    decode_jobs = [
        Job(setup, who, "decode", chunk=chunk) for chunk in setup.chunks for who in ("mv3d", "diffusers")
    ]
    decoded = alternating(decode_jobs, 1, in_own_process)
    size = f"{setup.frames} frames of {setup.size}² pixels ({setup.latent}² latents), {setup.steps} steps"
    weights = sum(p.numel() for p in _shape_only(setup)) / 1e6
    text = [
        f"{size}; a network of SVD's form with channels {', '.join(map(str, setup.channels))} ({weights:.0f} million "
        f"weights) and guidance 1 to {GUIDANCE:g} in one call of two branches; random weights, the same for both; "
        f"{'half' if setup.fp16 else 'single'} precision on {setup.device}. Peak memory is that of the process, libraries included.",
        ratio_text(made),
        difference_text(made, fp16=setup.fp16),
    ]
    if not setup.device.startswith("cuda"):
        text.append(
            "Offloading (`--offload model`, `enable_model_cpu_offload`) needs a CUDA device and was not measured here; "
            "`--device cuda` measures both."
        )
    tables = (
        table_of(f"One generation, median of {counted(setup.rounds)}", made),
        table_of("Decoding alone, in a process that holds nothing but the autoencoder", decoded),
    )
    series = tuple(
        Series(
            who,
            tuple(
                (float(job.chunk), float(got[0].device_gb or got[0].peak_gb))
                for job, got in decoded.items()
                if job.who == who
            ),
        )
        for who in ("mv3d", "diffusers")
    )
    chart = Chart(
        "generation-decoding", "Memory of decoding", "frames decoded at a time", "peak memory, GB", series
    )
    return tuple(text), tables, (chart,)


def _shape_only(setup: Setup) -> Iterator[torch.Tensor]:
    with torch.device("meta"):
        return network_of(setup).build().parameters()


def setup_of(options: argparse.Namespace) -> Setup:
    """The scale's, with what was asked for instead. Raises UsageError for a size that the network cannot have."""
    setup = SETUPS[scale_of(options)]
    given = {
        "channels": tuple(options.channels) if options.channels else None,
        "size": options.size, "frames": options.frames, "steps": options.steps, "rounds": options.rounds,
        "chunk": options.decode_chunk,
    }  # fmt: skip
    setup = replace(setup, **{key: value for key, value in given.items() if value is not None})
    factor = 8 * 2 ** (len(setup.channels) - 1)
    if setup.size % factor:
        raise UsageError(
            f"--size: expected a multiple of {factor} for {len(setup.channels)} levels, got {setup.size}"
        )
    chunks = tuple(sorted({min(chunk, setup.frames) for chunk in setup.chunks}))
    return replace(setup, chunks=chunks, device=options.device, fp16=options.fp16, threads=options.threads)


def main() -> None:
    parser = part_parser(__doc__)
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    parser.add_argument("--channels", type=int, nargs="+", default=None)
    parser.add_argument("--size", type=int, default=None, help="side of the frames in pixels")
    parser.add_argument("--frames", type=int, default=None)
    parser.add_argument("--steps", type=int, default=None)
    parser.add_argument("--rounds", type=int, default=None)
    parser.add_argument("--decode-chunk", type=int, default=None)
    parser.add_argument("--fp16", action="store_true")
    parser.add_argument("--threads", type=int, default=0, help="of torch; by default its own choice")
    options = parser.parse_args()
    begun = time.perf_counter()
    text, tables, charts = measure(setup_of(options))
    part = Part(
        "generation",
        "Generation beside diffusers' pipeline",
        describe_machine(),
        versions_of("mv3d", "torch", "diffusers", "transformers"),
        round(time.perf_counter() - begun, 1),
        text,
        tables,
        charts,
    )
    print("\n".join(part.text))
    if options.out:
        write_part(part, options.out)


if __name__ == "__main__":
    main()
