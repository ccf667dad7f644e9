"""The Python API: a photo in, views out; views or a path in, a mesh or files out."""

from __future__ import annotations

import difflib
import os
import tempfile
import time
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from PIL import Image

from mv3d.core.errors import UsageError
from mv3d.core.progress import Progress
from mv3d.core.records import refuse_other_results
from mv3d.generation.config import GenerateConfig
from mv3d.recon.config import ReconConfig
from mv3d.recon.pipeline import RECORD, ReconResult, finished, planned_outputs, run
from mv3d.recon.products import default_out_dir, input_sha256
from mv3d.render.cameras import SV3D_FOV_DEG
from mv3d.render.mesh import Mesh
from mv3d.views.readers import load_views
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

    config = replace(config or GenerateConfig(), **checked_settings(settings))
    return generate_views(image, config, load_model(config))


def checked_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings, all of them fields of GenerateConfig. Raises UsageError that suggests names for an unknown one."""
    known = [f.name for f in fields(GenerateConfig)]
    for name in settings:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=2)
            hint = (
                f"; did you mean {' or '.join(near)}?" if near else f": expected some of {', '.join(known)}"
            )
            raise UsageError(f"generate: unknown setting {name}{hint}")
    return settings


def reconstruct(source: Views | str | Path, config: ReconConfig | None = None) -> Mesh:
    """A textured mesh of posed views, or of whatever `load_views` reads, in the world of the views.

    Raises InputError where the views cannot be used.
    """
    config = config or ReconConfig()
    if config.method != "mesh":
        raise UsageError(
            f"reconstruct: expected method mesh, got {config.method}; use reconstruct_to for its files"
        )
    views = source if isinstance(source, Views) else load_views(source)
    with tempfile.TemporaryDirectory() as folder:
        mesh = run(replace(config, formats=("glb",)), views, Path(folder) / "out").mesh
    if mesh is None:
        raise UsageError("reconstruct: no mesh was made")
    return mesh


def reconstruct_to(
    source: str | Path,
    out_dir: str | Path | None = None,
    config: ReconConfig | None = None,
    *,
    elevation_deg: float | None = None,
    fov_deg: float = SV3D_FOV_DEG,
    azimuth_sign: int = 1,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> ReconResult:
    """What `mv3d recon` does: read, reconstruct, write. A finished result of the same request is returned as it is.

    out_dir: by default the folder of the views itself; for a file, `<name>_recon` in the present folder.
    """
    config = (config or ReconConfig()).resolved()
    source = Path(source)
    out = default_out_dir(source) if out_dir is None else Path(out_dir)
    digest = None
    if source.exists():
        digest = f"{input_sha256(source)}:{elevation_deg}:{fov_deg:g}:{azimuth_sign}"
        if not overwrite:
            earlier = finished(config, out, digest)
            if earlier is not None:
                return earlier
            refuse_other_results(out / RECORD, planned_outputs(config))
    start = time.perf_counter()
    if progress:
        progress("load", 0.0)
    views = load_views(source, elevation_deg=elevation_deg, fov_deg=fov_deg, azimuth_sign=azimuth_sign)
    if progress:
        progress("load", 1.0)
    return run(
        config,
        views,
        out,
        overwrite=overwrite,
        progress=progress,
        source=str(source),
        input_sha256=digest,
        load_seconds=time.perf_counter() - start,
    )
