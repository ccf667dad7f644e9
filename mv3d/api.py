"""The Python API: a photo in, views out; views or a path in, a mesh or files out."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from PIL import Image

from mv3d.core.errors import UsageError
from mv3d.core.progress import Clock, Progress
from mv3d.core.settings import with_settings
from mv3d.generation.config import GenerateConfig
from mv3d.recon.centring import moved_mesh, moved_views, origin_of
from mv3d.recon.config import ReconConfig
from mv3d.recon.pipeline import ReconResult, run
from mv3d.recon.products import default_out_dir, input_sha256
from mv3d.recon.representation import METHODS
from mv3d.render.mesh import Mesh
from mv3d.views.readers import load_views
from mv3d.views.reading import OrbitReading
from mv3d.views.views import Views


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
    written. Raises UsageError for settings out of range and for a method without a mesh, InputError where the views
    cannot be used.
    """
    config = with_settings(config or ReconConfig(), settings, "reconstruct").resolved()
    reconstructor = METHODS[config.method](config)
    views = source if isinstance(source, Views) else load_views(source)
    origin = origin_of(views.cameras)
    near = moved_views(views, -origin)
    mesh = reconstructor.fit(near, Clock()).to_mesh() if reconstructor.makes_mesh else None
    if mesh is None:
        raise UsageError(
            f"reconstruct: method {config.method} makes no mesh; use reconstruct_to for its files"
        )
    return moved_mesh(mesh, origin)


def reconstruct_to(
    source: str | os.PathLike[str],
    out_dir: str | os.PathLike[str] | None = None,
    config: ReconConfig | None = None,
    *,
    reading: OrbitReading | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> ReconResult:
    """What `mv3d recon` does: read, reconstruct, write. A finished result of the same request is returned as it is.

    out_dir: by default the folder of the views itself; for a file, `<name>_recon` in the present folder.
    reading: of an orbit without cameras. Raises UsageError, InputError, OutputError.
    """
    source, reading = Path(source), reading or OrbitReading()
    out = default_out_dir(source) if out_dir is None else Path(out_dir)
    return run(
        config or ReconConfig(),
        lambda: load_views(source, reading),
        out,
        overwrite=overwrite,
        progress=progress,
        source=str(source),
        input_sha256=f"{input_sha256(source)}:{reading}" if source.exists() else None,
    )
