"""`mv3d generate`: photos to views folders with records, one photo's failure apart from the others'."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from mv3d.core.devices import device_name, pick_device
from mv3d.core.errors import InputError, Mv3dError
from mv3d.core.files import publish, remove, sha256, staging
from mv3d.core.machine import peak_memory_bytes
from mv3d.core.progress import Progress
from mv3d.core.records import (
    RunRecord,
    RunStatus,
    read_record,
    refuse_other_results,
    run_status,
    write_record,
)
from mv3d.generation.config import GenerateConfig
from mv3d.generation.pipeline import Generated, LoadedModel, generate_orbit, load_model, plan_views, prepare
from mv3d.generation.preparation import Prepared
from mv3d.models.folder import COMPONENTS, INFO_FILE, ModelInfo, read_config, read_info, weights_path
from mv3d.models.locate import ResolvedModel, resolve
from mv3d.models.lora import parse_lora_argument
from mv3d.models.network import SVD, MicroConditioning
from mv3d.recon.products import recon_products
from mv3d.render.trajectories import NAMED
from mv3d.views.folder import write_views
from mv3d.views.images import IMAGE_SUFFIXES

RECORD = "run.json"
_OUTPUTS = ("transforms.json", "images", "input.png", "contact.png", "orbit.mp4")


@dataclass(frozen=True)
class GenerateResult:
    """What became of one photo: the folder and its record, or the error. already_done: nothing was computed.
    removed: what recon had made of the views that were replaced."""

    image: Path
    out_dir: Path
    record: dict[str, Any] = field(default_factory=dict)
    already_done: bool = False
    error: Mv3dError | None = None
    removed: tuple[str, ...] = ()


def generate_to(
    images: Sequence[str | Path],
    out_dir: str | Path,
    config: GenerateConfig | None = None,
    *,
    overwrite: bool = False,
    progress: Callable[[str], Progress] | None = None,
    on_result: Callable[[GenerateResult], None] | None = None,
) -> list[GenerateResult]:
    """What `mv3d generate` does: views folders of photos and of folders of photos.

    One photo is written into `out_dir` itself; several, or a folder's, each into `out_dir/NAME`. A finished result of
    the same request is left as it is, another one is replaced only with `overwrite`, and with it the mesh that recon
    made of those views in the same folder. A photo that cannot be used is
    reported in its result and does not stop the others; what concerns all of them (model, device, settings) is raised.
    progress: of a photo's name, its stages' progress. on_result: called after each photo.
    """
    config = config or GenerateConfig()
    pick_device(config.device)
    jobs = plan_jobs([Path(image) for image in images], Path(out_dir))
    run = _Run(config)
    results = []
    with _no_empty_folder(Path(out_dir)):
        for image, folder in jobs:
            result = _one(run, image, folder, overwrite, progress(image.name) if progress else None)
            results.append(result)
            if on_result:
                on_result(result)
    return results


def _one(run: _Run, image: Path, folder: Path, overwrite: bool, tell: Progress | None) -> GenerateResult:
    """One photo; what is wrong with it is in the result, what is wrong with the model is raised."""
    try:
        result = run.finished_or_refused(image, folder, overwrite)
        if result is not None:
            return result
        prepared = run.prepared(image, tell)
    except Mv3dError as error:
        return GenerateResult(image, folder, error=error)
    run.load(tell)
    try:
        return run.write(image, prepared, folder, tell)
    except Mv3dError as error:
        return GenerateResult(image, folder, error=error)


@contextmanager
def _no_empty_folder(out_dir: Path) -> Iterator[None]:
    """Where nothing came of any photo, the folder for all of them does not stay behind."""
    made = not out_dir.exists()
    try:
        yield
    finally:
        if made and out_dir.is_dir() and not any(out_dir.iterdir()):
            out_dir.rmdir()


def plan_jobs(images: Sequence[Path], out_dir: Path) -> list[tuple[Path, Path]]:
    """Each photo with the folder of its views. Photos of the same name get -2, -3, ..., in order.

    Raises InputError for a folder without images, and where nothing is given.
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
    files = sorted(
        p
        for p in folder.iterdir()
        if p.is_file() and p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".")
    )
    if not files:
        raise InputError(
            f"{folder}: expected a folder of images ({', '.join(IMAGE_SUFFIXES)}), found none in it"
        )
    return files


class _Run:
    """Several photos with one model, which is hashed once and loaded when the first photo needs it.

    Raises at once what needs no weights: an unknown model, views that it cannot make.
    """

    def __init__(self, config: GenerateConfig) -> None:
        self.config = config
        self.resolved: ResolvedModel = resolve(config.model, revision=config.revision)
        self.info: ModelInfo = read_info(self.resolved.folder)
        plan_views(config, self.info, read_vector(self.resolved.folder))
        self.settings = settings(config, self.resolved, self.info)
        self.model: LoadedModel | None = None
        self.seconds: dict[str, float] = {}

    def finished_or_refused(self, image: Path, out_dir: Path, overwrite: bool) -> GenerateResult | None:
        """The earlier result of the same request, or None where there is work to do and a place for it."""
        if not image.is_file():
            raise InputError(f"{image}: expected an image, found no such file")
        if not overwrite:
            path = out_dir / RECORD
            status = run_status(path, settings=self.settings, input_sha256=sha256(image))
            if status is RunStatus.DONE and (record := read_record(path)):
                return GenerateResult(image, out_dir, record.document(), already_done=True)
            refuse_other_results(path, (*_OUTPUTS, RECORD))
        with staging(out_dir):  # tells now, not after minutes, that the place cannot be written
            return None

    def prepared(self, image: Path, progress: Progress | None) -> Prepared:
        with self._timed("prepare", progress):
            return prepare(image, self.config, self.info)

    def load(self, progress: Progress | None) -> None:
        if self.model is not None:
            return
        with self._timed("load", progress):
            self.model = load_model(self.config)

    def write(
        self, image: Path, prepared: Prepared, out_dir: Path, progress: Progress | None
    ) -> GenerateResult:
        assert self.model is not None
        if self.model.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.model.device)
        with staging(out_dir) as aside:
            made = generate_orbit(prepared, self.config, self.model, progress=progress)
            with self._timed("write", progress):
                write_views(made.views, aside)
            seconds = {**made.seconds, **self.seconds}
            self.seconds = {}
            record = self._record(image, sha256(image), made, seconds, aside)
            write_record(aside / RECORD, record)
            outdated = recon_products(out_dir)
            for name in outdated:
                remove(out_dir / name)
            publish(aside, out_dir, last=RECORD)
        return GenerateResult(image, out_dir, record.document(), removed=tuple(outdated))

    @contextmanager
    def _timed(self, stage: str, progress: Progress | None) -> Iterator[None]:
        if progress:
            progress(stage, 0.0)
        start = time.perf_counter()
        yield
        self.seconds[stage] = round(time.perf_counter() - start, 3)

    def _record(
        self, image: Path, digest: str, made: Generated, seconds: dict[str, float], aside: Path
    ) -> RunRecord:
        assert self.model is not None
        views, device = made.views, self.model.device
        details = {
            "matting": made.prepared.matting,
            "views": len(views),
            "image_size": [views.cameras.width, views.cameras.height],
            "elevation_deg": None
            if views.orbit is None or views.input_view is None
            else views.orbit.elevations_deg[views.input_view],
            "seed": self.config.seed,
            "model": {"name": self.config.model, **self.settings["model"]},
            "dtype": str(self.model.generator.unet.dtype).removeprefix("torch."),
            "warnings": list(made.warnings),
            "peak_device_memory_bytes": torch.cuda.max_memory_allocated(device)
            if device.type == "cuda"
            else None,
        }
        return RunRecord.of(
            "generate",
            input=str(image),
            input_sha256=digest,
            details=details,
            settings=self.settings,
            device=str(device),
            device_name=device_name(device),
            seconds={**seconds, "total": round(sum(seconds.values()), 3)},
            peak_memory_bytes=peak_memory_bytes(),
            outputs={p.name: sha256(p) for p in sorted(aside.iterdir())},
        )


def settings(config: GenerateConfig, resolved: ResolvedModel, info: ModelInfo) -> dict[str, Any]:
    """Every setting with the model's defaults filled in; files by their hashes, so that an edited one counts as new."""
    defaults = info.sampler
    filled: dict[str, Any] = {
        "steps": config.steps or defaults.steps,
        "sampler": config.sampler or defaults.sampler,
        "guidance": defaults.guidance_max if config.guidance is None else config.guidance,
        "lora": [_lora_settings(text) for text in config.lora],
        "model": {
            "kind": info.kind,
            "revision": resolved.revision or info.revision,
            "sha256": model_sha256(resolved.folder),
        },
    }
    if config.trajectory not in NAMED and Path(config.trajectory).is_file():
        filled["trajectory_sha256"] = sha256(Path(config.trajectory))
    kept = {key: value for key, value in asdict(config).items() if key not in ("model", "revision")}
    return kept | filled


def read_vector(folder: Path) -> MicroConditioning:
    """The numbers that a model's network takes, without loading it."""
    config = read_config(folder / "unet")
    names, widths = config.get("vector_names", SVD.names), config.get("vector_widths", SVD.widths)
    return MicroConditioning(tuple(names), tuple(widths))


def _lora_settings(text: str) -> dict[str, Any]:
    path, weight = parse_lora_argument(text)
    if not path.is_file():
        raise InputError(f"--lora {text}: expected FILE or FILE:WEIGHT, found no file {path}")
    return {"file": path.name, "weight": weight, "sha256": sha256(path)}


def model_sha256(folder: Path) -> str:
    """Of a model's description, configurations and weights; its card does not count."""
    digest = hashlib.sha256()
    for path in _model_files(folder):
        if not path.is_file():
            raise InputError(f"{folder}: expected {path.relative_to(folder)} in the model, found none")
        digest.update(f"{path.relative_to(folder)}\0{sha256(path)}".encode())
    return digest.hexdigest()


def _model_files(folder: Path) -> Iterator[Path]:
    yield folder / INFO_FILE
    for name in COMPONENTS:
        yield folder / name / "config.json"
        yield weights_path(folder, name)
