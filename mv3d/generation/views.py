"""One photo → posed RGBA views, with whatever generator the model names."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from PIL import Image

from mv3d.core.errors import Mv3dError
from mv3d.core.machine import is_out_of_memory
from mv3d.core.progress import Clock, Progress
from mv3d.generation.config import GenerateConfig
from mv3d.generation.elevation import (
    ElevationEstimate,
    ElevationTrial,
    find_elevation,
    measure_elevation,
)
from mv3d.generation.generator import MultiViewGenerator, OnFrame, load_generator
from mv3d.generation.matting import apply_matting, with_consistent_alpha
from mv3d.generation.photo import PreparedPhoto, prepare_image
from mv3d.generation.plan import GenerationPlan, nearest_elevation, plan_generation, plan_orbit, view_size
from mv3d.models.folder import PRIOR, ModelInfo, has_prior
from mv3d.render.cameras import Orbit
from mv3d.views.views import Views

_WHOLE = 0.98  # of the frame's half side: how far a whole object may reach
_SMALLEST = 0.4  # share of the frame that a photo is made to fill at least


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A generator ready to run, with the plan it was loaded for."""

    plan: GenerationPlan
    generator: MultiViewGenerator

    @property
    def info(self) -> ModelInfo:
        return self.plan.info


@dataclass(frozen=True, eq=False)
class Generated:
    """photo: as the model saw it. warnings: whole sentences. seconds: by stage. trial: how the elevation was found, where
    it was neither given nor fixed."""

    views: Views
    photo: PreparedPhoto
    warnings: tuple[str, ...]
    seconds: dict[str, float]
    trial: ElevationTrial | ElevationEstimate | None = None


def load_model(config: GenerateConfig | str | os.PathLike[str]) -> LoadedModel:
    """Find and load a model, with its adapters merged, where and as the settings say.

    config: settings, or a model by name, hub id or folder with all settings at their defaults.
    Raises UsageError for a device that is not there, InputError for a model or an adapter that cannot be used.
    """
    config = config if isinstance(config, GenerateConfig) else GenerateConfig(model=os.fspath(config))
    return load_planned(plan_generation(config))


def load_planned(plan: GenerationPlan) -> LoadedModel:
    """The model of a plan. Raises InputError for a model or an adapter that cannot be used."""
    with out_of_memory_explained(plan.config, plan.device):
        return LoadedModel(plan, load_generator(plan))


def generate_views(
    image: str | os.PathLike[str] | Image.Image, config: GenerateConfig, model: LoadedModel
) -> Views:
    """The views of one photo; what a user should know is issued as Python warnings. Errors as in `generate_orbit`."""
    made = generate_orbit(image, config, model)
    for text in made.warnings:
        warnings.warn(text, stacklevel=2)
    return made.views


def generate_orbit(
    image: str | os.PathLike[str] | Image.Image | PreparedPhoto,
    config: GenerateConfig,
    model: LoadedModel,
    *,
    progress: Progress | None = None,
) -> Generated:
    """Prepare one photo, generate its views and cut them out, with settings that may differ from the loaded ones.

    The same photo, settings and seed give the same views, whatever was generated before.
    Raises InputError for a photo that cannot be used, UsageError for views that the model cannot make, Mv3dError where
    the device has too little memory (the message says which flag to try).
    """
    plan, clock = model.plan.with_config(config), Clock(progress)
    if isinstance(image, PreparedPhoto):
        return make_views(image, plan, model.generator, clock)
    with clock.stage("prepare"):
        photo = prepare(image, config, plan.info)
    return make_views(photo, plan, model.generator, clock, image=image)


def prepare(
    image: str | os.PathLike[str] | Image.Image, config: GenerateConfig, info: ModelInfo
) -> PreparedPhoto:
    """The photo as a model wants it. Errors as in `prepare_image` and `view_size`."""
    width, height = view_size(config, info)
    return prepare_image(
        image,
        width=width,
        height=height,
        foreground_ratio=config.foreground_ratio,
        matting=config.matting,
    )


def make_views(
    photo: PreparedPhoto,
    plan: GenerationPlan,
    generator: MultiViewGenerator,
    clock: Clock,
    *,
    image: str | os.PathLike[str] | Image.Image | None = None,
    on_frame: OnFrame | None = None,
) -> Generated:
    """The views of a prepared photo, as planned. clock: collects the seconds of each stage.

    image: what the photo was prepared from. Given, a solid that would reach past the frame in a view is framed smaller
    in all of them. on_frame: gets each frame as the generator makes it, before it is cut out.
    Raises Mv3dError where the device has too little memory; other errors are the generator's.
    """
    info, config, orbit = plan.info, plan.config, plan.orbit
    notes, trial = list(photo.warnings), None
    if config.offload != "none" and plan.device.type != "cuda":
        notes.append(
            f"offload {config.offload}: of no use on {plan.device.type}, where all parts share one memory"
        )
    with out_of_memory_explained(config, plan.device):
        if config.elevation == "auto" and info.takes_elevation:
            with clock.stage("elevation") as on_share:
                trial = _elevation(photo, plan, generator, on_share)
            notes += [] if trial.found else [str(trial)]
            elevation_deg = trial.elevation_deg
            if isinstance(trial, ElevationEstimate):
                elevation_deg = nearest_elevation(config, info, elevation_deg)
            if elevation_deg != trial.elevation_deg:
                notes.append(
                    f"elevation: the 3D prior sees {trial.elevation_deg:g} degrees, the model can follow the trajectory "
                    f"from {elevation_deg:g}, which is taken"
                )
            orbit = plan_orbit(config, info, elevation_deg)
        if image is not None and info.kind == PRIOR:
            photo = _within_frame(photo, image, plan, generator, orbit)
        made = generator.generate(photo, orbit, plan.sampling, clock.progress, on_frame=on_frame)
    clock.seconds.update(made.seconds)
    notes += made.warnings
    frames, cameras, input_view = made.images, made.cameras, orbit.input_view
    assert input_view is not None  # plan_orbit always says which
    with clock.stage("cut out"):
        if info.consistent_alpha and info.kind != PRIOR and frames.shape[-1] == 4:
            alpha = photo.rgba[..., 3]
            frames, note = with_consistent_alpha(frames, cameras, alpha, input_view, plan.device)
            notes += [note] if note else []
        images, failed_views = apply_matting(frames, alpha_threshold=info.alpha_threshold)
    if failed_views:
        notes.append(
            f"views {', '.join(map(str, failed_views))}: the background is not uniform; they are left without "
            "transparency"
        )
    if info.camera != "none" and not info.takes_elevation and not isinstance(config.elevation, float | int):
        orbit, note = measure_elevation(images, orbit, skip=failed_views)
        cameras = orbit.cameras(cameras.width, cameras.height)
        notes += [note] if note else []
    if info.camera == "none":
        notes.append(
            f"the model ({info.kind}) takes no camera: the camera of its views is not known, transforms.json has the "
            "photo's for all"
        )
    images[input_view] = photo.rgba
    views = Views(images, cameras, orbit, input_view, made.solid)
    return Generated(views, photo, tuple(notes), clock.seconds, trial)


def _within_frame(
    photo: PreparedPhoto,
    image: str | os.PathLike[str] | Image.Image,
    plan: GenerationPlan,
    generator: MultiViewGenerator,
    orbit: Orbit,
) -> PreparedPhoto:
    """The photo, framed smaller where the solid in it would reach past the frame in a view."""
    from mv3d.generation.prior import PriorGenerator  # noqa: PLC0415 - only where there is one

    assert isinstance(generator, PriorGenerator)
    reach = generator.lifter.reach(photo, orbit)
    if reach <= _WHOLE:
        return photo
    asked = plan.config.foreground_ratio
    ratio = min(asked, max(_SMALLEST, asked * _WHOLE / reach))
    return prepare(image, replace(plan.config, foreground_ratio=ratio), plan.info)


def _elevation(
    photo: PreparedPhoto,
    plan: GenerationPlan,
    generator: MultiViewGenerator,
    on_share: Callable[[float], None],
) -> ElevationTrial | ElevationEstimate:
    if not has_prior(plan.model.folder):
        return find_elevation(photo, plan, generator, on_share)
    from mv3d.generation.prior import Lifter, load_lifter  # noqa: PLC0415 - only where there is one

    # A generator with a lifter keeps what it sees now, and makes the views of it.
    lifter = getattr(generator, "lifter", None)
    return (lifter if isinstance(lifter, Lifter) else load_lifter(plan)).elevation(photo)


@contextmanager
def out_of_memory_explained(config: GenerateConfig, device: torch.device) -> Iterator[None]:
    """Turn an out-of-memory error into an Mv3dError that says which flags to try."""
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
