"""`mv3d lift`: one photo → a textured mesh straight from the 3D prior, with a record."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from mv3d.core.devices import device_name
from mv3d.core.files import sha256
from mv3d.core.machine import peak_memory_bytes
from mv3d.core.outputs import Output
from mv3d.core.progress import Clock, Progress
from mv3d.core.records import RunRecord, RunStatus, read_record, run_status
from mv3d.generation.config import LiftConfig
from mv3d.generation.elevation import ElevationEstimate
from mv3d.generation.photo import PreparedPhoto, prepare_image
from mv3d.generation.places import RECORD, lift_folder, require_photo
from mv3d.generation.plan import GenerationPlan, plan_generation
from mv3d.generation.prior import load_lifter
from mv3d.models.folder import model_sha256
from mv3d.models.prior.surface import SurfaceConfig
from mv3d.recon.doubts import too_many_faces
from mv3d.recon.pipeline import PREVIEW, ReconResult, planned_outputs, title_of, write_mesh
from mv3d.render.cameras import SV3D_RADIUS, Orbit
from mv3d.render.mesh import Mesh
from mv3d.render.writers import check_writers
from mv3d.views.views import Views

_LEAST_IOU = 0.9


@dataclass(frozen=True, eq=False)
class Lifted:
    """mesh: in the world of `photo`, the one view. elevation: as the prior sees it, also where another was asked for.
    warnings: whole sentences."""

    mesh: Mesh
    photo: Views
    matting: str
    elevation: ElevationEstimate
    warnings: tuple[str, ...]


def plan_lift(config: LiftConfig) -> GenerationPlan:
    """Find the model. Raises UsageError for a device that is not there, InputError for a model that cannot be found."""
    return plan_generation(config.for_photo())


def lift_photo_to_mesh(
    image: str | os.PathLike[str] | Image.Image, config: LiftConfig, plan: GenerationPlan, clock: Clock
) -> Lifted:
    """The solid in one photo as a mesh. clock: collects the seconds of each stage.

    Raises InputError for a photo that cannot be used and for a model without a prior.
    """
    tile = config.texture_size // 2
    with clock.stage("prepare"):
        photo = prepare_image(
            image, width=tile, foreground_ratio=config.foreground_ratio, matting=config.matting
        )
    with clock.stage("load"):
        lifter = load_lifter(plan)
    with clock.stage("lift"):
        given = None if isinstance(config.elevation, str) else Orbit((config.elevation,), (0.0,), SV3D_RADIUS)
        faces = config.for_mesh().faces
        assert faces is not None, "resolved settings have a number"
        mesh, estimate = lifter.lift(
            photo,
            None if given is None else given.cameras(tile, tile),
            SV3D_RADIUS,
            SurfaceConfig(faces=faces, texture_size=tile),
        )
    return Lifted(mesh, _view_of(photo, given, estimate), photo.matting, estimate, photo.warnings)


def lift_to(
    image: str | os.PathLike[str],
    out_dir: str | os.PathLike[str] | None = None,
    config: LiftConfig | None = None,
    *,
    plan: GenerationPlan | None = None,
    overwrite: bool = False,
    keep_finished: bool = False,
    progress: Progress | None = None,
) -> ReconResult:
    """Write the mesh of one photo, its turntable, eight of its frames as preview.png, and run.json, as `mv3d lift` does.

    A finished result of the same request is returned as it is. out_dir: by default `out/<name of the photo>-lift`.
    plan: of `plan_lift`, where it is made already. keep_finished: also with `overwrite`. Raises UsageError, InputError,
    OutputError.
    """
    image, config = Path(image), config or LiftConfig()
    require_photo(image)
    out = lift_folder(image, None if out_dir is None else Path(out_dir))
    clock, plan, for_mesh = Clock(progress), plan or plan_lift(config), config.for_mesh()
    digest, settings = sha256(image), recorded(config, plan)
    if (keep_finished or not overwrite) and (done := _finished(out, settings, digest)):
        return done
    check_writers(for_mesh.formats)
    names = (*planned_outputs(for_mesh, makes_mesh=True), PREVIEW)
    output = Output(
        out,
        RECORD,
        names,
        (image, plan.model.folder),
        overwrite,
        command="lift",
        settings=settings,
        input_sha256=digest,
    )
    with output.opened() as staged:
        made = lift_photo_to_mesh(image, config, plan, clock)
        measured = write_mesh(
            for_mesh,
            made.photo,
            made.mesh,
            staged,
            clock,
            turning=config.turntable,
            still=True,
            title=title_of(image),
        )
        orbit = made.photo.orbit
        details = {
            "matting": made.matting,
            "elevation_deg": None if orbit is None else orbit.elevations_deg[0],
            "elevation_estimate": made.elevation.details(),
            **{name: value for name, value in measured.items() if "least" not in name},
            "model": {"name": config.model, **settings["model"]},
            "warnings": [*made.warnings, *_doubts(measured), *too_many_faces(for_mesh, measured)],
        }
        record = RunRecord.of(
            "lift",
            input=str(image),
            input_sha256=digest,
            details=details,
            settings=settings,
            device=str(plan.device),
            device_name=device_name(plan.device),
            seconds=clock.with_total(),
            peak_memory_bytes=peak_memory_bytes(),
        )
        record = output.publish(staged, record)
    files = {name: out / name for name in sorted((*record.outputs, RECORD))}
    return ReconResult(files, record.document(), made=made.mesh)


def recorded(config: LiftConfig, plan: GenerationPlan) -> dict[str, Any]:
    """Every setting that decides the files, as JSON values. Reads the whole model to hash it."""
    model = {
        "kind": plan.info.kind,
        "revision": plan.model.revision or plan.info.revision,
        "sha256": model_sha256(plan.model.folder),
    }
    return config.recorded() | {"model": model}


def _finished(out: Path, settings: dict[str, Any], digest: str) -> ReconResult | None:
    record = read_record(out / RECORD)
    done = run_status(out / RECORD, settings=settings, input_sha256=digest) is RunStatus.DONE
    if record is None or not done:
        return None
    return ReconResult(
        {name: out / name for name in (*record.outputs, RECORD)}, record.document(), already_done=True
    )


def _view_of(photo: PreparedPhoto, given: Orbit | None, estimate: ElevationEstimate) -> Views:
    elevation_deg = estimate.elevation_deg if given is None else given.elevations_deg[0]
    orbit = Orbit((elevation_deg,), (0.0,), SV3D_RADIUS, input_view=0)
    height, width = photo.rgba.shape[:2]
    return Views(photo.rgba[None], orbit.cameras(width, height), orbit, 0)


def _doubts(measured: dict[str, Any]) -> list[str]:
    """Whole sentences, without a full stop."""
    found = []
    if measured["iou_mean"] < _LEAST_IOU:
        found.append(
            f"the mesh does not fit the photo: silhouette IoU {measured['iou_mean']:.2f}, expected {_LEAST_IOU} or more"
        )
    if measured["shells"] > 1:
        found.append(
            f"the mesh is in {measured['shells']} pieces: thin parts are cut, or the object has several"
        )
    return found
