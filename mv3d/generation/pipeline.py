"""One photo → posed views: the model loaded once, then preparation, sampling, decoding and matting per image."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from mv3d.core.devices import pick_device
from mv3d.core.errors import InputError, Mv3dError, UsageError
from mv3d.core.machine import is_out_of_memory
from mv3d.core.progress import Clock, Progress
from mv3d.generation.camera_path import (
    DEFAULT_ELEVATION_DEG,
    angles_rad,
    conditioning_order,
    is_video_model,
    plan_orbit,
    takes_elevation,
)
from mv3d.generation.config import GenerateConfig
from mv3d.generation.consensus import consistent_alpha
from mv3d.generation.preparation import Prepared, prepare_image
from mv3d.models.conditioning import OrbitConditioning
from mv3d.models.encode import decode_frames, embed_image, encode_condition, image_channels
from mv3d.models.folder import ModelInfo
from mv3d.models.loading import ModelComponents, load_model_folder
from mv3d.models.locate import ResolvedModel, resolve
from mv3d.models.lora import merge_loras, parse_lora_argument, read_lora
from mv3d.models.network import MicroConditioning
from mv3d.models.sampling import linear_guidance, sample, triangular_guidance
from mv3d.render.cameras import Orbit
from mv3d.render.trajectories import NAMED
from mv3d.views.elevation import estimate_elevation, hull_recall
from mv3d.views.masks import foreground_alpha
from mv3d.views.views import Views

_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
_TRIAL_STEPS = 8
_TRIAL_ELEVATIONS_DEG = (-10.0, 0.0, 10.0, 20.0, 30.0, 45.0)
_LEAST_COVERAGE = 0.5
_LEAST_ALPHA = 0.04


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A generator ready to run. `offload`: its parts visit `device` one after the other."""

    generator: ModelComponents
    resolved: ResolvedModel
    device: torch.device
    offload: bool = False

    @property
    def info(self) -> ModelInfo:
        return self.generator.info


@dataclass(frozen=True, eq=False)
class Generated:
    """views; prepared: the photo as the model saw it; warnings: whole sentences; seconds: per stage."""

    views: Views
    prepared: Prepared
    warnings: tuple[str, ...]
    seconds: dict[str, float]


def load_model(config: GenerateConfig) -> LoadedModel:
    """Find and load the model, with its adapters merged, where and as the settings say.

    Raises UsageError for a device that is not there, InputError for a model or an adapter that cannot be used.
    """
    device = pick_device(config.device)
    loras = [parse_lora_argument(text) for text in config.lora]
    adapters = [(read_lora(path), weight) for path, weight in loras]
    resolved = resolve(config.model, revision=config.revision)
    with out_of_memory_explained(config, device):
        generator = load_model_folder(resolved.folder)
        if adapters:
            merge_loras(generator.unet, adapters)
        # The original runs its network in half precision and the rest in full.
        _move(generator.unet, dtype=network_dtype(config.dtype, device))
        for part in (generator.vae, generator.image_encoder):
            _move(part, dtype=torch.float32)
        for part in (generator.unet, generator.vae, generator.image_encoder):
            part.requires_grad_(False)
            if config.offload == "none":
                _move(part, device=device)
    return LoadedModel(generator, resolved, device, config.offload == "model")


def _move(part: nn.Module, **where: Any) -> None:
    """As `part.to(...)`, without the warning that diffusers prints for parts with nothing to warn of."""
    nn.Module.to(part, **where)


def network_dtype(name: str, device: torch.device) -> torch.dtype:
    """auto: fp16 on CUDA, fp32 on the CPU."""
    if name == "auto":
        return torch.float16 if device.type == "cuda" else torch.float32
    return _DTYPES[name]


def generate_views(image: str | Path | Image.Image, config: GenerateConfig, model: LoadedModel) -> Views:
    """The views of one photo; what a user should know is issued as Python warnings. Errors as in `generate_orbit`."""
    made = generate_orbit(image, config, model)
    for text in made.warnings:
        warnings.warn(text, stacklevel=2)
    return made.views


def generate_orbit(
    image: str | Path | Image.Image | Prepared,
    config: GenerateConfig,
    model: LoadedModel,
    *,
    progress: Progress | None = None,
) -> Generated:
    """Prepare one photo, generate its views and cut them out.

    The same photo, settings and seed give the same views, whatever was generated before.
    Raises InputError for a photo that cannot be used, UsageError for views that the model cannot make, Mv3dError where
    the device has too little memory (the message says which flag to try).
    """
    info, vector = model.info, model.generator.unet.micro
    clock = Clock(progress)
    width, height = info.resolution, info.height or info.resolution
    orbit = plan_views(config, info, vector)
    with clock.stage("prepare"):
        prepared = image if isinstance(image, Prepared) else prepare(image, config, info)
    notes = list(prepared.warnings)
    with out_of_memory_explained(config, model.device):
        if config.elevation == "auto" and takes_elevation(vector):
            with clock.stage("elevation") as tick:
                found = find_elevation(prepared, config, model, tick)
            if found is None:
                notes.append(
                    f"--elevation auto: no elevation fits; {DEFAULT_ELEVATION_DEG:g} degrees are taken"
                )
            orbit = _plan(config, model, DEFAULT_ELEVATION_DEG if found is None else found)
        frames = sample_frames(prepared, orbit, config, model, clock)
    with clock.stage("cut out"):
        if info.consistent_alpha and frames.shape[-1] == 4:
            frames, note = _agreed(frames, prepared, orbit, model.device)
            notes += [note] if note else []
        images, uncut = matted(frames, alpha_threshold=info.alpha_threshold)
    if uncut:
        notes.append(
            f"views {', '.join(map(str, uncut))}: the background is not uniform; they are left without transparency"
        )
    if (
        not takes_elevation(vector)
        and not is_video_model(vector)
        and not isinstance(config.elevation, float | int)
    ):
        orbit, note = _measured(images, orbit, skip=uncut)
        notes += [note] if note else []
    if is_video_model(vector):
        notes.append(
            f"the model ({info.kind}) takes no camera: the camera of its views is not known, transforms.json has the "
            "photo's for all"
        )
    assert orbit.input_view is not None  # plan_orbit always says which
    images[orbit.input_view] = prepared.rgba
    views = Views(images, orbit.cameras(width, height), orbit, orbit.input_view)
    return Generated(views, prepared, tuple(notes), clock.seconds)


def prepare(image: str | Path | Image.Image, config: GenerateConfig, info: ModelInfo) -> Prepared:
    """The photo as a model wants it."""
    return prepare_image(
        image,
        width=info.resolution,
        height=info.height,
        foreground_ratio=config.foreground_ratio,
        matting=config.matting,
    )


def _plan(config: GenerateConfig, model: LoadedModel, elevation_deg: float) -> Orbit:
    return plan_views(config, model.info, model.generator.unet.micro, elevation_deg)


def plan_views(
    config: GenerateConfig, info: ModelInfo, vector: MicroConditioning, elevation_deg: float | None = None
) -> Orbit:
    """The orbit that the settings ask a model for; elevation_deg where it was found by trial. Errors as `plan_orbit`."""
    if config.elevation is not None and config.trajectory not in NAMED:
        raise UsageError(
            f"--elevation: expected none beside --trajectory {config.trajectory}: the file has its own elevations"
        )
    if elevation_deg is None:
        elevation_deg = (
            DEFAULT_ELEVATION_DEG if config.elevation in (None, "auto") else float(config.elevation)
        )
    return plan_orbit(
        info,
        vector,
        views=config.views,
        trajectory=config.trajectory,
        elevation_deg=elevation_deg,
        seed=config.seed,
    )


def sample_frames(
    prepared: Prepared, orbit: Orbit, config: GenerateConfig, model: LoadedModel, clock: Clock
) -> Float[np.ndarray, "n h w channels"]:
    """The views of one photo on white, in the orbit's order, as the model makes them; with alpha where it makes it."""
    order = conditioning_order(orbit, model.generator.unet.micro)
    with clock.stage("encode"):
        conditioning, noise = encode_orbits([prepared], orbit, order, [config.seed], model)
    with clock.stage("sample") as tick:
        latents = sample_latents(noise, conditioning, config, model, tick)[0]
    with clock.stage("decode") as tick:
        decoded = _decode(latents, config, model, tick)
    frames = np.empty((len(order), *decoded.shape[2:], decoded.shape[1]), np.float32)
    frames[order] = decoded.permute(0, 2, 3, 1).numpy()
    return frames


def encode_orbits(
    photos: Sequence[Prepared], orbit: Orbit, order: list[int], seeds: Sequence[int], model: LoadedModel
) -> tuple[OrbitConditioning, Float[Tensor, "batch frames 4 h w"]]:
    """What the network is told of a batch of photos, and the noise it starts from.

    Every photo has its own generator, on the CPU: its noise depends on its seed alone, not on the batch or the device.
    """
    parts = model.generator
    aug = parts.info.sampler.cond_aug
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    channels = image_channels(parts.vae)
    pictures = [torch.from_numpy(photo.on_white(alpha=channels == 4)).movedim(-1, 0) for photo in photos]
    pixels = torch.stack(pictures).to(model.device)
    with on_device(parts.image_encoder, model):
        embedding = embed_image(parts.image_encoder, pixels)
    with on_device(parts.vae, model):
        latents = [
            encode_condition(parts.vae, image[None], cond_aug=aug, generator=generator)
            for image, generator in zip(pixels, generators, strict=True)
        ]
    cond_latent = torch.cat(latents)
    shape = (len(order), parts.unet.config["out_channels"], *cond_latent.shape[-2:])
    noise = torch.stack([torch.randn(shape, generator=generator) for generator in generators])
    polars, azimuths = angles_rad(orbit, order)
    conditioning = OrbitConditioning(
        cond_latent, embedding, polars.to(model.device), azimuths.to(model.device), cond_aug=aug
    )
    return conditioning, noise.to(model.device)


def sample_latents(
    noise: Float[Tensor, "batch frames 4 h w"],
    conditioning: OrbitConditioning,
    config: GenerateConfig,
    model: LoadedModel,
    tick: Callable[[float], None],
) -> Float[Tensor, "batch frames 4 h w"]:
    """Denoise. Raises Mv3dError where the network's numbers leave the range of its type."""
    defaults = model.info.sampler
    steps = config.steps or defaults.steps
    top = defaults.guidance_max if config.guidance is None else config.guidance
    shape = linear_guidance if defaults.guidance_shape == "linear" else triangular_guidance
    with on_device(model.generator.unet, model):
        latents = sample(
            model.generator.unet,
            noise,
            conditioning,
            steps=steps,
            sigma_min=defaults.sigma_min,
            sigma_max=defaults.sigma_max,
            rho=defaults.rho,
            guidance=shape(noise.shape[1], top, defaults.guidance_min),
            sampler=config.sampler or defaults.sampler,
            batched_guidance=not model.offload,
            on_step=lambda step: tick((step + 1) / steps),
        )
    if not bool(torch.isfinite(latents).all()):
        name = str(model.generator.unet.dtype).removeprefix("torch.")
        raise Mv3dError(f"the network gave numbers that are not finite in {name}; try --dtype bf16 or fp32")
    return latents


def _decode(
    latents: Float[Tensor, "frames 4 h w"],
    config: GenerateConfig,
    model: LoadedModel,
    tick: Callable[[float], None],
) -> Float[Tensor, "frames channels height width"]:
    """On the CPU; one chunk after the other, so that the device holds one chunk of pixels at a time."""
    vae, parts, done = model.generator.vae, [], 0
    with on_device(vae, model):
        for part in latents.split(config.decode_chunk):
            parts.append(decode_frames(vae, part, chunk=config.decode_chunk).cpu())
            done += len(part)
            tick(done / len(latents))
    return torch.cat(parts)


def matted(
    frames: Float[np.ndarray, "n h w channels"], *, alpha_threshold: float = 0.5
) -> tuple[Float[np.ndarray, "n h w 4"], list[int]]:
    """Views on white → RGBA, and the numbers of those whose background could not be told: their alpha is 1.

    Where the model made the alpha, only the white is taken out of the colours.
    """
    if frames.shape[-1] == 4:
        return without_white(frames, alpha_threshold), []
    images, uncut = [], []
    for index, frame in enumerate(frames):
        try:
            images.append(foreground_alpha(frame[None])[0])
        except InputError:
            images.append(np.concatenate([frame, np.ones((*frame.shape[:2], 1), np.float32)], -1))
            uncut.append(index)
    return np.stack(images), uncut


def _agreed(
    frames: Float[np.ndarray, "n h w 4"], prepared: Prepared, orbit: Orbit, device: torch.device
) -> tuple[Float[np.ndarray, "n h w 4"], str]:
    """The frames with alphas that one solid can have cast, the photo's among them; a sentence where there is none."""
    alphas = frames[..., 3].clip(0, 1)
    if orbit.input_view is not None:
        alphas[orbit.input_view] = prepared.rgba[..., 3]
    try:
        agreed = consistent_alpha(alphas, orbit.cameras(frames.shape[2], frames.shape[1]), device=device)
    except InputError as error:
        return frames, f"the views' alphas could not be made consistent ({error})"
    return np.concatenate([frames[..., :3], agreed[..., None]], -1), ""


def without_white(
    frames: Float[np.ndarray, "n h w 4"], alpha_threshold: float = 0.5
) -> Float[np.ndarray, "n h w 4"]:
    """Colours on white beside their alpha → straight alpha: over white it gives the same picture again, but for what
    no colour could show. Alpha below 4 % is none.

    Alpha is scaled so that the threshold becomes one half. A blurred view's alpha is a probability, and the mask that
    overlaps best with an uncertain truth is not where that exceeds one half, but less: half of the overlap (as F1
    score) that can be reached (Lipton et al. 2014, "Optimal thresholding of classifiers to maximize F1 measure").
    """
    scaled = (frames[..., 3:] * (0.5 / alpha_threshold)).clip(0, 1)
    alpha = np.where(frames[..., 3:] < _LEAST_ALPHA, 0, scaled)
    colors = np.clip(1 - (1 - frames[..., :3]) / np.maximum(alpha, _LEAST_ALPHA), 0, 1)
    return np.concatenate([colors, alpha], -1).astype(np.float32)


def find_elevation(
    prepared: Prepared, config: GenerateConfig, model: LoadedModel, tick: Callable[[float], None]
) -> float | None:
    """The photo's elevation in degrees by trial: the model makes a quick static orbit (8 steps) at each of a few
    elevations, and the one whose silhouettes fit together best under its own cameras is taken; None where none does.

    A wrong elevation contradicts the photo, and the views with it.
    """
    quick = replace(config, steps=_TRIAL_STEPS, sampler="dpmpp_2m", trajectory="static")
    low, high = model.info.elevations_deg
    candidates = [e for e in _TRIAL_ELEVATIONS_DEG if low <= e <= high] or [0.5 * (low + high)]
    scores: dict[float, float] = {}
    for number, elevation_deg in enumerate(candidates):
        orbit = _plan(quick, model, elevation_deg)
        share = (number + 1) / len(candidates)
        frames = sample_frames(prepared, orbit, quick, model, Clock())
        images, uncut = matted(frames, alpha_threshold=model.info.alpha_threshold)
        images[orbit.input_view] = prepared.rgba
        if not set(uncut) - {orbit.input_view}:
            size = (images.shape[2], images.shape[1])
            scores[elevation_deg] = hull_recall(images[..., 3], orbit.cameras(*size))
        tick(share)
    best = max(scores, key=lambda e: scores[e], default=None)
    return best if best is not None and scores[best] >= _LEAST_COVERAGE else None


def _measured(images: Float[np.ndarray, "n h w 4"], orbit: Orbit, *, skip: list[int]) -> tuple[Orbit, str]:
    """The orbit at the elevation that its silhouettes have, for a model that chooses it by itself."""
    keep = [i for i in range(len(images)) if i not in skip]
    try:
        if len(keep) < 3:
            raise InputError("too few views could be cut out")
        azimuths = np.asarray(orbit.azimuths_deg)[keep]
        found = estimate_elevation(images[keep][..., 3], azimuths, radius=orbit.radius, fov_deg=orbit.fov_deg)
    except InputError as error:
        return orbit, (
            f"the elevation of the views could not be measured ({error}); their cameras have "
            f"{orbit.elevations_deg[0]:g} degrees, set another with --elevation"
        )
    return replace(orbit, elevations_deg=(round(found.elevation_deg, 2),) * len(images)), ""


@contextmanager
def on_device(part: nn.Module, model: LoadedModel) -> Iterator[None]:
    """The part is on the model's device inside, and with offloading back on the CPU after it."""
    if not model.offload:
        yield
        return
    _move(part, device=model.device)
    try:
        yield
    finally:
        _move(part, device="cpu")
        if model.device.type == "cuda":
            torch.cuda.empty_cache()


@contextmanager
def out_of_memory_explained(config: GenerateConfig, device: torch.device) -> Iterator[None]:
    """Say which flags to try."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        cuda = device.type == "cuda"
        ways = ["--offload model"] if cuda and config.offload == "none" else []
        ways += ["--decode-chunk 1"] if config.decode_chunk > 1 else []
        ways += ["--dtype fp16"] if cuda and config.dtype == "fp32" else []
        ways += ["fewer --views", "a smaller model"]
        raise Mv3dError(f"out of memory on {device}; try {', then '.join(ways)}") from error
