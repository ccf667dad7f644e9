"""The Python API: a photo in, views or a mesh out; views or a path in, a mesh or files out."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from PIL import Image

from mv3d.core.errors import Mv3dWarning, UsageError
from mv3d.core.locking import mend
from mv3d.core.outputs import Output
from mv3d.core.progress import Clock, Progress
from mv3d.core.settings import with_settings, with_shared_settings
from mv3d.generation.config import GenerateConfig, LiftConfig, PhotoQuality, instant_settings
from mv3d.generation.places import make_folder, require_photo
from mv3d.recon.centring import moved_mesh, moved_views, origin_of
from mv3d.recon.config import ReconConfig
from mv3d.recon.doubts import fitted, judged
from mv3d.recon.pipeline import ReconResult, planned_outputs, run
from mv3d.recon.places import RECORD, default_out_dir
from mv3d.recon.products import input_sha256
from mv3d.recon.representation import METHODS, Reconstructor
from mv3d.render.mesh import Mesh
from mv3d.views.readers import load_views, read_views
from mv3d.views.reading import OrbitReading
from mv3d.views.views import Views

if TYPE_CHECKING:
    from mv3d.generation.batch import GenerateResult
    from mv3d.generation.generator import OnFrame


def generate(
    image: str | os.PathLike[str] | Image.Image, config: GenerateConfig | None = None, **settings: Any
) -> Views:
    """Posed views of the object in one photo: `mv3d.generate("chair.png", views=21, seed=0)`.

    settings: fields of GenerateConfig; they override `config`. Warnings are issued as Python warnings.
    For several photos load the model once: `mv3d.generation.load_model`, then `generate_views`.
    Raises UsageError for settings out of range or a device that is not there, InputError for a photo or a model that
    cannot be used.
    """
    from mv3d.generation.views import generate_views, load_model  # noqa: PLC0415 - loads diffusers and transformers

    config = with_settings(config or GenerateConfig(), settings, "generate")
    return generate_views(image, config, load_model(config))


def reconstruct(
    source: Views | str | os.PathLike[str], config: ReconConfig | None = None, **settings: Any
) -> Mesh:
    """A textured mesh of posed views, or of what `load_views` reads: `mv3d.reconstruct("out/", quality="draft")`.

    settings: fields of ReconConfig, over those of `config`. The mesh lies in the world of the views; nothing is
    written. What is doubtful about it, above all a mesh that does not fit its views, is issued as Mv3dWarning;
    `reconstruct_to` has it as `fits` and `report["warnings"]` of its result. Raises UsageError for settings out of range and for a method without a mesh, InputError where the views
    cannot be used.
    """
    reconstructor = _mesh_method(with_settings(config or ReconConfig(), settings, "reconstruct"))
    views = source if isinstance(source, Views) else load_views(source)
    origin = origin_of(views.cameras)
    near = moved_views(views, -origin)
    made = fitted(reconstructor, near, Clock())
    mesh = made.to_mesh()
    assert mesh is not None, "the method makes meshes"
    for text in judged(near, made):
        warnings.warn(text, Mv3dWarning, stacklevel=2)
    return moved_mesh(mesh, origin)


def lift(
    image: str | os.PathLike[str] | Image.Image, config: LiftConfig | None = None, **settings: Any
) -> Mesh:
    """A textured mesh of one photo straight from the model's 3D prior, in seconds: `mv3d.lift("chair.png")`.

    settings: fields of LiftConfig; they override `config`. The mesh lies in the world of views that `generate` makes at
    the same elevation; nothing is written. Warnings are issued as Python warnings.
    Raises UsageError for settings out of range, InputError for a photo that cannot be used and a model without a prior.
    """
    from mv3d.generation.lifting import lift_photo_to_mesh, plan_lift  # noqa: PLC0415 - loads torch

    config = with_settings(config or LiftConfig(), settings, "lift")
    made = lift_photo_to_mesh(image, config, plan_lift(config), Clock())
    for text in made.warnings:
        warnings.warn(text, stacklevel=2)
    return made.mesh


def make(image: str | os.PathLike[str] | Image.Image, **settings: Any) -> Mesh:
    """A textured mesh of the object in one photo: `mv3d.make("chair.png", seed=0, quality="draft")`.

    settings: fields of GenerateConfig and of ReconConfig. `device` and `seed` go to both, `trajectory` is that of the
    views. quality="instant" is the mesh of `lift`. Nothing is written. Errors as in `generate` and `reconstruct`.
    """
    if settings.get("quality") == "instant":
        return lift(image, **instant_settings(settings, "quality instant"))
    if (quality := settings.get("quality", ReconConfig.quality)) not in get_args(PhotoQuality):
        raise UsageError(f"quality: expected one of {', '.join(get_args(PhotoQuality))}, got {quality}")
    for_views = GenerateConfig(trajectory=settings.pop("trajectory", GenerateConfig.trajectory))
    for_views, for_mesh = with_shared_settings((for_views, ReconConfig()), settings, "make")
    _mesh_method(for_mesh)  # fails now, not after the views are made
    return reconstruct(generate(image, for_views), for_mesh)


def _mesh_method(config: ReconConfig) -> Reconstructor:
    method = METHODS[config.method](config.resolved())
    if not method.makes_mesh or config.method == "splats":
        raise UsageError(f"method {config.method} makes no mesh; use reconstruct_to for its files")
    return method


def reconstruct_to(
    source: str | os.PathLike[str],
    out_dir: str | os.PathLike[str] | None = None,
    config: ReconConfig | None = None,
    *,
    reading: OrbitReading | None = None,
    overwrite: bool = False,
    keep_finished: bool = False,
    progress: Progress | None = None,
) -> ReconResult:
    """What `mv3d recon` does: read, reconstruct, write. A finished result of the same request is returned as it is.

    out_dir: by default the folder of the views itself; for a file, `<name>_recon` in the present folder.
    reading: of an orbit without cameras. keep_finished: also with `overwrite`. Raises UsageError, InputError, OutputError.
    """
    source, reading = Path(source), reading or OrbitReading()
    mend(source, source.parent)
    out = default_out_dir(source) if out_dir is None else Path(out_dir)
    return run(
        config or ReconConfig(),
        lambda: read_views(source, reading),  # its warnings are in the report
        out,
        overwrite=overwrite,
        keep_finished=keep_finished,
        progress=progress,
        source=str(source),
        input_sha256=f"{input_sha256(source)}:{reading}" if source.exists() else None,
    )


def make_to(
    image: str | os.PathLike[str],
    out_dir: str | os.PathLike[str] | None = None,
    for_views: GenerateConfig | None = None,
    for_mesh: ReconConfig | None = None,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
    on_views: Callable[[GenerateResult], None] | None = None,
    on_frame: OnFrame | None = None,
) -> tuple[GenerateResult, ReconResult]:
    """What `mv3d make` does: the views and then the mesh of one photo, written as `generate_to` and `reconstruct_to` do.

    What is finished stays: with another config for the mesh, the views do. Results of other settings are replaced with
    `overwrite` only. out_dir: by default `out/<name of the photo>`. on_views: called before the mesh is begun.
    on_frame: with each frame of the views, before it is cut out.
    Raises UsageError, InputError, OutputError.
    """
    from mv3d.generation.batch import generate_to  # noqa: PLC0415 - loads diffusers and transformers

    image = Path(image)
    require_photo(image)
    out = make_folder(image, None if out_dir is None else Path(out_dir))
    mesh_config = (for_mesh or ReconConfig()).resolved()
    names = planned_outputs(mesh_config, METHODS[mesh_config.method](mesh_config).makes_mesh)
    Output(out, RECORD, names, (image,)).refuse_foreign()  # before the views are made, not after it
    (views,) = generate_to(
        [image],
        out,
        for_views,
        overwrite=overwrite,
        keep_finished=True,
        progress=lambda _: progress,
        on_result=on_views,
        on_frame=on_frame,
    )
    if views.error is not None:
        raise views.error
    mesh = reconstruct_to(out, out, for_mesh, overwrite=overwrite, keep_finished=True, progress=progress)
    return views, mesh
