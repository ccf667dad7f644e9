"""A request and a model's description → one frozen plan, checked before any weights are loaded."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mv3d.core.devices import pick_device
from mv3d.core.errors import InputError, UsageError
from mv3d.core.files import sha256
from mv3d.generation.config import GenerateConfig
from mv3d.models.folder import PRIOR, ModelInfo, has_prior, model_sha256, read_info
from mv3d.models.locate import ResolvedModel, parse_lora_argument, resolve
from mv3d.render.cameras import SV3D_RADIUS, Orbit, sine_orbit
from mv3d.render.trajectories import LIMIT_DEG, NAMED, dynamic_orbit, load_orbit, static_orbit

if TYPE_CHECKING:
    import torch

DEFAULT_ELEVATION_DEG = 10.0
"""The default of SV3D's own scripts for a photo of unknown elevation."""
_DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}


@dataclass(frozen=True)
class SamplerSettings:
    """How a generator samples one photo. guidance: the largest scale over the orbit. decode_chunk: views decoded at a
    time."""

    steps: int
    sampler: str
    guidance: float
    seed: int = 0
    decode_chunk: int = 7


@dataclass(frozen=True)
class GenerationPlan:
    """Everything that is decided before weights are loaded. config: the request; its elevation is `auto` where none was
    given and the model's 3D prior sees it. adapters: files with their weights. orbit: at the default elevation where that
    is found later, on the photo, by trial or on the views."""

    config: GenerateConfig
    model: ResolvedModel
    info: ModelInfo
    adapters: tuple[tuple[Path, float], ...]
    device: torch.device
    orbit: Orbit
    sampling: SamplerSettings

    def with_config(self, config: GenerateConfig) -> GenerationPlan:
        """The same loaded model, asked for other views."""
        config = _with_elevation(config, self.model, self.info)
        orbit, sampling = plan_orbit(config, self.info), sampler_settings(config, self.info)
        return replace(self, config=config, orbit=orbit, sampling=sampling)

    @property
    def dtype(self) -> str:
        """The network's precision by torch's name. auto: float16 on CUDA, as in the original, float32 on the CPU."""
        auto = "fp16" if self.device.type == "cuda" else "fp32"
        return _DTYPES[auto if self.config.dtype == "auto" else self.config.dtype]

    @property
    def decode_dtype(self) -> str:
        """The decoder's precision by torch's name. auto: float16 on CUDA beside a network in half precision."""
        auto = "fp16" if self.device.type == "cuda" and self.dtype != _DTYPES["fp32"] else "fp32"
        return _DTYPES[auto if self.config.decode_dtype == "auto" else self.config.decode_dtype]


def plan_generation(config: GenerateConfig) -> GenerationPlan:
    """Find the model and check what it is asked for. Loads torch only after the model is found.

    Raises UsageError for a device that is not there and for views that the model cannot make, InputError for a model
    or an adapter that cannot be found.
    """
    model = resolve(config.model, revision=config.revision)
    info = read_info(model.folder)
    config = _with_elevation(config, model, info)
    orbit = plan_orbit(config, info)
    view_size(config, info)
    if config.lora and info.kind == PRIOR:
        raise UsageError(
            f"--lora: expected none: the model ({info.kind}) has no network that an adapter fits"
        )
    adapters = tuple(map(_adapter, config.lora))
    return GenerationPlan(
        config, model, info, adapters, pick_device(config.device), orbit, sampler_settings(config, info)
    )


def sampler_settings(config: GenerateConfig, info: ModelInfo) -> SamplerSettings:
    """The request with the model's defaults filled in. Raises UsageError for settings of a model that samples nothing, and
    for others than its own of a student, which was distilled to them."""
    if info.kind == PRIOR:
        for name, value in (
            ("steps", config.steps),
            ("sampler", config.sampler),
            ("guidance", config.guidance),
        ):
            if value is not None:
                raise UsageError(
                    f"--{name}: expected none: the model ({info.kind}) renders a solid, nothing is sampled"
                )
    defaults = info.sampler
    if info.distilled_steps is not None:
        for name, value, own in (
            ("steps", config.steps, defaults.steps),
            ("sampler", config.sampler, defaults.sampler),
            ("guidance", config.guidance, defaults.guidance_max),
        ):
            if value is not None and value != own:
                raise UsageError(
                    f"--{name}: expected {own}, or none: the model is a student of {info.distilled_steps} steps, distilled "
                    f"to its own noise levels with its teacher's guidance, got {value}; use the teacher ({info.base}) for others"
                )
    return SamplerSettings(
        config.steps or defaults.steps,
        config.sampler or defaults.sampler,
        defaults.guidance_max if config.guidance is None else config.guidance,
        config.seed,
        config.decode_chunk,
    )


def view_size(config: GenerateConfig, info: ModelInfo) -> tuple[int, int]:
    """(width, height) of the views in pixels. Raises UsageError for another size than that of a multi-view network."""
    if config.size is None:
        return info.size
    if info.kind != PRIOR and (config.size, config.size) != info.size:
        raise UsageError(
            f"--size: expected {'x'.join(map(str, info.size))}, as the model ({info.kind}) was trained for, got "
            f"{config.size}; any size is for a model that is a 3D prior"
        )
    return config.size, config.size


def plan_orbit(config: GenerateConfig, info: ModelInfo, elevation_deg: float | None = None) -> Orbit:
    """The orbit to generate: `input_view` is the photo's, at azimuth 0; radius and field of view are the model's.

    elevation_deg: of the photo, by default the request's; a trajectory file has its own.
    Raises UsageError for more views than the model was trained for, a trajectory that it cannot follow and an elevation
    beyond its range; InputError for a file that is no orbit.
    """
    trajectory, from_file = config.trajectory, config.trajectory not in NAMED
    if from_file and config.elevation is not None:
        raise UsageError(
            f"--elevation: expected none beside --trajectory {trajectory}: the file has its own elevations"
        )
    if elevation_deg is None:
        given = config.elevation
        elevation_deg = DEFAULT_ELEVATION_DEG if given is None or given == "auto" else float(given)
    orbit = load_orbit(trajectory) if from_file else None
    count = config.views or (len(orbit.azimuths_deg) if orbit else info.num_frames)
    if count > info.most_views:
        raise UsageError(
            f"--views: expected at most {info.most_views}, as many as the model was trained for, got {count}"
        )
    if info.camera != "orbit" and trajectory != "static":
        takes = "no camera" if info.camera == "none" else "no azimuths"
        raise UsageError(
            f"--trajectory: expected static, got {trajectory}: the model ({info.kind}) takes {takes}; use one that "
            "takes a camera per view, such as sv3d_p"
        )
    if info.camera == "none":
        return Orbit((elevation_deg,) * count, (0.0,) * count, SV3D_RADIUS, info.fov_deg, 0)
    if info.camera == "fixed turn" and count != info.num_frames:
        raise UsageError(
            f"--views: expected {info.num_frames}, got {count}: the model takes no azimuths, its views are always "
            f"{info.num_frames} even steps of one turn"
        )
    if orbit is None:
        orbit = replace(_named(trajectory, count, elevation_deg, config.seed), fov_deg=info.fov_deg)
    elif len(orbit.azimuths_deg) != count:
        raise UsageError(
            f"--views: expected {len(orbit.azimuths_deg)}, as many as {trajectory} has, got {count}"
        )
    else:
        photo = orbit.input_view if orbit.input_view is not None else count - 1
        # The world turns so that the photo is at azimuth 0; scale is free.
        azimuths = tuple((a - orbit.azimuths_deg[photo]) % 360.0 for a in orbit.azimuths_deg)
        orbit = Orbit(orbit.elevations_deg, azimuths, SV3D_RADIUS, info.fov_deg, photo)
    if info.kind == PRIOR:
        return orbit  # its solid is rendered from anywhere
    low, high = info.elevations_deg
    if info.takes_elevation and not all(low <= e <= high for e in orbit.elevations_deg):
        flag = "--elevation" if trajectory == "static" else f"--trajectory {trajectory}"
        hint = "" if trajectory == "static" or from_file else f" around {elevation_deg:g} (--elevation)"
        raise UsageError(
            f"{flag}: the model takes elevations of {low:g} to {high:g} degrees, got "
            f"{min(orbit.elevations_deg):.0f} to {max(orbit.elevations_deg):.0f}{hint}"
            + ("" if trajectory == "static" else "; use --trajectory static, or a file of elevations within")
        )
    return orbit


def nearest_elevation(config: GenerateConfig, info: ModelInfo, elevation_deg: float) -> float:
    """The photo's elevation nearest to an estimated one with which the model can follow the request's trajectory.

    It may still be beyond the model's range where the trajectory rises and falls more than that: see `plan_orbit`.
    """
    if info.kind == PRIOR:
        return elevation_deg
    low, high = info.elevations_deg
    path = np.asarray(
        _named(config.trajectory, config.views or info.num_frames, 0.0, config.seed).elevations_deg
    )
    low, high = math.ceil(100 * (low - path.min())) / 100, math.floor(100 * (high - path.max())) / 100
    return float(np.clip(elevation_deg, low, high))


def recorded_settings(plan: GenerationPlan) -> dict[str, Any]:
    """Every setting that decides the views, as JSON values. Files count by their hashes, so that an edited one is new.

    Reads the whole model to hash it.
    """
    config, sampling = plan.config, plan.sampling
    rendered = plan.info.kind == PRIOR
    filled: dict[str, Any] = {
        "steps": None if rendered else sampling.steps,
        "sampler": None if rendered else sampling.sampler,
        "guidance": None if rendered else sampling.guidance,
        "lora": [{"file": p.name, "weight": weight, "sha256": sha256(p)} for p, weight in plan.adapters],
        "model": {
            "kind": plan.info.kind,
            "revision": plan.model.revision or plan.info.revision,
            "sha256": model_sha256(plan.model.folder),
        },
    }
    if config.trajectory not in NAMED:
        filled["trajectory_sha256"] = sha256(Path(config.trajectory))
    if rendered:
        filled["size"] = view_size(config, plan.info)[0]
    return config.recorded() | filled


def _with_elevation(config: GenerateConfig, model: ResolvedModel, info: ModelInfo) -> GenerateConfig:
    """The request with `auto` for its elevation where it names none and a 3D prior in the model sees it for nothing."""
    unsaid = config.elevation is None and config.trajectory in NAMED
    if unsaid and info.takes_elevation and has_prior(model.folder):
        return replace(config, elevation="auto")
    return config


def _adapter(text: str) -> tuple[Path, float]:
    path, weight = parse_lora_argument(text)
    if not path.is_file():
        raise InputError(f"--lora {text}: expected FILE or FILE:WEIGHT, found no file {path}")
    return path, weight


def _named(name: str, count: int, elevation_deg: float, seed: int) -> Orbit:
    if name == "static":
        return static_orbit(count, elevation_deg)
    if name == "sine":
        orbit = sine_orbit(count)
        static_orbit(count, elevation_deg)  # the same bounds
    else:
        orbit = dynamic_orbit(
            count,
            np.random.default_rng(seed),
            elevation_deg=elevation_deg,
            variant="release" if name.endswith("release") else "paper",
        )
    # The last view is the photo: the whole path moves so that it has the photo's elevation.
    moved = np.asarray(orbit.elevations_deg) + elevation_deg - orbit.elevations_deg[-1]
    top = LIMIT_DEG - 1e-3
    return replace(orbit, elevations_deg=tuple(np.clip(moved, -top, top).tolist()), input_view=count - 1)
