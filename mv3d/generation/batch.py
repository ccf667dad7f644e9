"""`mv3d generate`: photos → views folders with records. One photo's failure does not stop the others."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from mv3d.core.devices import device_name
from mv3d.core.errors import InputError, Mv3dError, Mv3dWarning
from mv3d.core.files import sha256
from mv3d.core.machine import peak_memory_bytes
from mv3d.core.outputs import Output, refuse_inputs
from mv3d.core.progress import Clock, Progress
from mv3d.core.records import RunRecord, RunStatus, read_record, run_status
from mv3d.generation.config import GenerateConfig
from mv3d.generation.elevation import ElevationEstimate, ElevationTrial
from mv3d.generation.generator import OnFrame
from mv3d.generation.places import RECORD
from mv3d.generation.plan import GenerationPlan, plan_generation, recorded_settings
from mv3d.generation.views import Generated, LoadedModel, load_planned, make_views, prepare
from mv3d.models.folder import has_prior
from mv3d.recon.products import recon_products
from mv3d.views.folder import SOLID_FILE, VIEW_FILES, write_views
from mv3d.views.images import image_files, image_suffixes, require_image, skipped_sentence


@dataclass(frozen=True)
class GenerateResult:
    """The result for one photo: the folder and its record, or the error. already_done: nothing was computed.
    removed: files that recon had made of the replaced views. elevation: how it was found, where it was not given."""

    image: Path
    out_dir: Path
    record: dict[str, Any] = field(default_factory=dict)
    already_done: bool = False
    error: Mv3dError | None = None
    removed: tuple[str, ...] = ()
    elevation: ElevationTrial | ElevationEstimate | None = None


def generate_to(
    images: Sequence[str | os.PathLike[str]],
    out_dir: str | os.PathLike[str],
    request: GenerateConfig | GenerationPlan | None = None,
    *,
    overwrite: bool = False,
    keep_finished: bool = False,
    progress: Callable[[str], Progress | None] | None = None,
    on_result: Callable[[GenerateResult], None] | None = None,
    on_frame: OnFrame | None = None,
) -> list[GenerateResult]:
    """Write views folders of photos and of folders of photos, as `mv3d generate` does.

    One photo is written into `out_dir` itself; several, or a folder's, each into `out_dir/NAME`. A finished result of
    the same request is left as it is. Another one is replaced only with `overwrite`, together with the mesh that recon
    made of its views in the same folder. A photo that cannot be used is reported in its result and does not stop the
    others; errors of the model, the device or the settings are raised.
    keep_finished: also with `overwrite`, a finished result of this request stays.
    progress: gives the progress of a photo's stages by the photo's name. on_result: called after each photo.
    on_frame: with each frame of a photo, before it is cut out.
    """
    plan = request if isinstance(request, GenerationPlan) else plan_generation(request or GenerateConfig())
    jobs = plan_jobs([Path(image) for image in images], Path(out_dir))
    run = _Run(plan, overwrite, keep_finished)
    results = []
    for image, folder in jobs:
        result = _one(run, image, folder, progress(image.name) if progress else None, on_frame)
        results.append(result)
        if on_result:
            on_result(result)
    return results


def _one(
    run: _Run, image: Path, folder: Path, progress: Progress | None, on_frame: OnFrame | None
) -> GenerateResult:
    """One photo. An error of the photo is in the result, an error of the model is raised."""
    clock = Clock(progress)
    try:
        require_image(image)
        digest = sha256(image)
        if result := run.finished(image, digest, folder):
            return result
        output = Output(
            folder,
            RECORD,
            run.names,
            (image, *run.inputs),
            run.overwrite,
            settings=run.settings,
            input_sha256=digest,
        )
        with output.opened() as staged:
            refuse_inputs(folder, recon_products(folder), output.inputs)
            with clock.stage("prepare"):
                photo = prepare(image, run.plan.config, run.plan.info)
            model = run.loaded(clock)
            made = make_views(photo, model.plan, model.generator, clock, image=image, on_frame=on_frame)
            return run.write(made, image, digest, staged, output, clock)
    except Mv3dError as error:
        if error is run.model_error:
            raise
        return GenerateResult(image, folder, error=error)


def plan_jobs(images: Sequence[Path], out_dir: Path) -> list[tuple[Path, Path]]:
    """Each photo with the folder for its views. Photos of the same name get -2, -3, ..., in order.

    What a folder holds that is not read is issued as Mv3dWarning. Raises InputError for a folder without images and for
    an empty list.
    """
    found: list[Path] = []
    for path in images:
        found += _images_in(path) if path.is_dir() else [path]
    if not found:
        raise InputError("expected an image, got none")
    if len(images) == 1 and not images[0].is_dir():
        return [(found[0], out_dir)]
    jobs, taken = [], set()
    for path in found:
        name, number = path.stem, 1
        while name.lower() in taken:
            number += 1
            name = f"{path.stem}-{number}"
        taken.add(name.lower())
        jobs.append((path, out_dir / name))
    return jobs


def _images_in(folder: Path) -> list[Path]:
    files, skipped = image_files(folder), skipped_sentence(folder)
    if not files:
        raise InputError(
            f"{folder}: expected a folder of images ({', '.join(image_suffixes())}), found none in it"
            + (f"; {skipped}" if skipped else "")
        )
    if skipped:
        warnings.warn(f"{folder}: {skipped}", Mv3dWarning, stacklevel=4)
    return files


class _Run:
    """Several photos with one model, which is hashed once and loaded for the first photo that needs it."""

    def __init__(self, plan: GenerationPlan, overwrite: bool, keep_finished: bool) -> None:
        self.plan, self.overwrite, self.keep_finished = plan, overwrite, keep_finished
        self.settings = recorded_settings(plan)
        adapters = [path for path, _ in plan.adapters]
        self.inputs = (plan.model.folder, *adapters, Path(plan.config.trajectory))
        self.names = (*VIEW_FILES, SOLID_FILE) if has_prior(plan.model.folder) else VIEW_FILES
        self.model_error: Mv3dError | None = None
        self._model: LoadedModel | None = None

    def finished(self, image: Path, digest: str, out_dir: Path) -> GenerateResult | None:
        """The earlier result of the same request, or None if there is work to do."""
        if self.overwrite and not self.keep_finished:
            return None
        status = run_status(out_dir / RECORD, settings=self.settings, input_sha256=digest)
        if status is RunStatus.DONE and (record := read_record(out_dir / RECORD)):
            return GenerateResult(image, out_dir, record.document(), already_done=True)
        return None

    def loaded(self, clock: Clock) -> LoadedModel:
        if self._model is None:
            try:
                with clock.stage("load"):
                    self._model = load_planned(self.plan)
            except Mv3dError as error:
                self.model_error = error
                raise
        if self.plan.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.plan.device)
        return self._model

    def write(
        self, made: Generated, image: Path, digest: str, staged: Path, output: Output, clock: Clock
    ) -> GenerateResult:
        with clock.stage("write"):
            write_views(made.views, staged)
        outdated = tuple(recon_products(output.folder))
        record = self._record(made, image, digest, clock)
        record = output.publish(staged, record, outdated=outdated)
        return GenerateResult(image, output.folder, record.document(), removed=outdated, elevation=made.trial)

    def _record(self, made: Generated, image: Path, digest: str, clock: Clock) -> RunRecord:
        plan, views, device = self.plan, made.views, self.plan.device
        cuda = device.type == "cuda"
        details = {
            "matting": made.photo.matting,
            "views": len(views),
            "image_size": [views.cameras.width, views.cameras.height],
            "elevation_deg": None
            if views.orbit is None or views.input_view is None
            else views.orbit.elevations_deg[views.input_view],
            "elevation_trial": made.trial.details() if isinstance(made.trial, ElevationTrial) else None,
            "elevation_estimate": made.trial.details() if isinstance(made.trial, ElevationEstimate) else None,
            "seed": plan.config.seed,
            "model": {"name": plan.config.model, **self.settings["model"]},
            "dtype": plan.dtype,
            "warnings": list(made.warnings),
            "peak_device_memory_bytes": torch.cuda.max_memory_allocated(device) if cuda else None,
        }
        return RunRecord.of(
            "generate",
            input=str(image),
            input_sha256=digest,
            details=details,
            settings=self.settings,
            device=str(device),
            device_name=device_name(device),
            seconds=clock.with_total(),
            peak_memory_bytes=peak_memory_bytes(),
        )
