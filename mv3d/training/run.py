"""`mv3d train` as a function: data and a base in, a model folder or an adapter out. The same call again resumes."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mv3d.core.devices import device_name
from mv3d.core.errors import InputError, Mv3dError, OutputError, UsageError
from mv3d.core.files import discard, sha256, staging, to_json, write_text
from mv3d.core.machine import keep_freed_memory, peak_memory_bytes
from mv3d.core.outputs import Output, files_below, refuse_inputs, refuse_named
from mv3d.core.progress import TrainingProgress
from mv3d.core.records import RunRecord, RunStatus, read_record, refuse_other_algorithm, run_status
from mv3d.core.signals import interrupts_held
from mv3d.orbits.index import INDEX
from mv3d.training.config import OF_RENDERS, PriorConfig, TrainConfig, flag
from mv3d.training.distill.config import DistillConfig

if TYPE_CHECKING:
    from accelerate import Accelerator

    from mv3d.models.locate import ResolvedModel
    from mv3d.orbits.dataset import Samples
    from mv3d.training.renders import Priors
    from mv3d.training.stage import StageContext

RECORD = "run.json"
SETTINGS = "settings.json"
PARTS = "parts"
MODEL, LORA, LOG = "model", "lora.safetensors", "log.jsonl"
STATIC = "static"
_FREE = (
    "steps", "static_steps", "micro_batch", "workers", "device", "log_every", "checkpoint_every", "keep_checkpoints",
    "validate_every", "validation_orbits", "validation_steps", "tensorboard", "hang_after_s", "compile", "gradient_checkpointing",
    "renders",
)  # fmt: skip
"""Fields that change no weight of a given step: a run may go on with others."""

_FREE_OF_A_STUDENT = tuple(name for name in _FREE if name != "steps")
"""The same of a student, whose schedule is spread over all steps."""

_FREE_OF_A_PRIOR = tuple(name for name in (*_FREE, "layers") if name != "steps")
"""The same of a prior, whose learning rate falls toward its last step."""

_MOST_PRIORS = 3  # two halves, and the one that goes along
_OURS = ("checkpoints", PARTS, "validation")
_MADE = re.compile(
    r"checkpoints/(\d{8}|\.\d{8}(\.\w+)?\.part)"
    r"/((weights|ema)\.safetensors|optimizer\.pt|checkpoint\.json|\.metadata(\.tmp)?|__\d+_\d+\.distcp)"
    r"|validation/(\d{8}\.png|scores\.jsonl)"
    rf"|{PARTS}/(mv3d\.json|(vae|image_encoder)/[^/]*(config\.json|\.safetensors))"
    rf"|{PARTS}/layers/\.?[\w.-]+/((rgba|layers|cameras)\.npy|uids\.json)"
    rf"|{PARTS}/renders/[0-9a-f]{{2}}/(\.[0-9a-f]{{64}}\.npz\.[0-9a-f]{{8}}\.part|[0-9a-f]{{64}}\.npz)"
)
"""Files of an unfinished run, which no record lists yet. Nothing else in these folders may be removed."""


@dataclass(frozen=True)
class TrainResult:
    """A finished run."""

    out_dir: Path
    files: dict[str, Path]
    """model, or lora, or both."""
    already_done: bool
    report: dict[str, Any]


def stages(config: TrainConfig, *, static: bool) -> list[tuple[str, TrainConfig]]:
    """(name, settings) of the stages of a run: SV3D_p first learns static orbits without a camera (SV3D, section 3)."""
    last = [("", replace(config, static_steps=0))]
    if not static or not config.static_steps:
        return last
    first = replace(config, vector="sv3d_u", steps=config.static_steps, static_steps=0)
    return [(STATIC, first), *last]


def plan(
    config: TrainConfig, data: Path, base: str, out: Path, static_data: Path | None = None
) -> dict[str, Any]:
    """The resolved plan of `train`; computes and writes nothing. Raises as `train` does for wrong settings."""
    _check_request(config, data, base, static_data)
    config = _locally_taught(config, base) if isinstance(config, DistillConfig) else config
    listed = []
    for name, stage in stages(config, static=static_data is not None):
        row = {
            "stage": name or "main",
            "data": str(static_data if name and static_data else data),
            "base": base,
            "out": str(out / name),
            "orbits": stage.steps * stage.batch,
            "images": stage.steps * stage.batch * stage.frames,
            "settings": _settings(stage),
        }
        listed.append(row)
        base = f"{out / name}/model"
    return {"stages": listed}


def train(
    config: TrainConfig,
    data: str | os.PathLike[str],
    base: str,
    out: str | os.PathLike[str],
    *,
    static_data: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    progress: TrainingProgress | None = None,
) -> TrainResult:
    """Train and write the result into `out`; a finished run of the same request is returned as it is.

    base: a model folder, a name or a hub id. Without one a new network gets an autoencoder that is trained first.
    static_data: the orbits of SV3D_p's first stage. After an interruption the same call resumes from the last whole
    checkpoint. Raises UsageError for settings that make no sense, InputError for data or a base that cannot be used,
    OutputError where `out` holds another run.
    """
    data, out = Path(data), Path(out)
    first = None if static_data is None else Path(static_data)
    _check_request(config, data, base, first)
    *static, (_, last) = stages(config, static=first is not None)
    with ExitStack() as held:
        for name, stage in static:
            assert first is not None, "the first stage has data of its own"
            made = _train_stage(stage, first, base, out / name, held, overwrite=overwrite, progress=progress)
            base = str(made.files["model"])
        return _train_stage(last, data, base, out, held, overwrite=overwrite, progress=progress)


def _train_stage(
    config: TrainConfig,
    data: Path,
    base: str,
    out: Path,
    held: ExitStack,
    *,
    overwrite: bool,
    progress: TrainingProgress | None,
) -> TrainResult:
    """Train one stage. held: takes the lock of `out`."""
    # torch and the networks load here, not for a wrong setting.
    from mv3d.training.loop import make_accelerator, require_parts, train_loop  # noqa: PLC0415
    from mv3d.training.results import Provenance  # noqa: PLC0415

    begun = time.time()
    config, found = _resolved(config, base)
    priors = _priors(config)
    models = ((found.folder,) if found else ()) + (priors.folders if priors else ())
    prepared = _opened(config, data, found, priors)
    digest = data_sha256(data)
    settings = _settings(config, priors) | {"base": base}
    if not overwrite:
        if run_status(out / RECORD, settings=settings, input_sha256=digest) is RunStatus.DONE:
            return _finished(out)
        refuse_other_algorithm(out / RECORD)
    keep_freed_memory()
    accelerator = make_accelerator(config)
    config.accumulation(accelerator.num_processes)
    require_parts(config, accelerator.device)
    output = Output(
        out,
        RECORD,
        (MODEL, LORA),
        (data, *models),
        overwrite,
        resumes=True,
        settings=settings,
        input_sha256=digest,
        others=(SETTINGS, LOG),
    )
    fresh = False
    if accelerator.is_main_process:
        held.enter_context(output.claimed())
        fresh = _open_run(output, config, settings, digest)
    accelerator.wait_for_everyone()
    record = RunRecord.of(
        "distill" if isinstance(config, DistillConfig) else "train",
        input=str(data),
        input_sha256=digest,
        details={"arguments": sys.argv, "seed": config.seed},
        settings=settings,
        device=str(accelerator.device),
        device_name=device_name(accelerator.device),
    )
    try:
        if config.network == "none":
            return _train_parts(config, data, record, output, accelerator, progress)
        context = prepared(out, accelerator, progress)
    except Mv3dError:
        if fresh:  # the run could not begin: nothing stays behind
            (out / SETTINGS).unlink(missing_ok=True)
            shutil.rmtree(out / PARTS, ignore_errors=True)
        raise
    with interrupts_held() as interrupt:
        state = train_loop(
            config,
            context.objective,
            context.samples,
            out,
            accelerator=accelerator,
            validate=context.validate,
            progress=_of_stage(progress, "train"),
            interrupt=interrupt,
        )
    if accelerator.is_main_process:
        samples = context.samples
        metrics = {"training loss": state.last_loss} | context.scores(out)
        revision = found.revision if found else ""
        shown = f"{data.name}, {len(samples)} {samples.format.name}"
        digests = priors.digests if priors else ()
        provenance = Provenance(base, revision, shown, samples.licences, metrics, (*models, data), digests)
        report = {
            "processes": accelerator.num_processes,
            "device": str(accelerator.device),
            "resumed_from": state.resumed_from,
            "seconds": time.time() - begun,
            "seconds_per_step": state.seconds_per_step,
            "data_wait_share": state.data_wait_share,
            "checkpoint_stall_seconds": state.checkpoint_stall_seconds,
            "peak_memory_bytes": peak_memory_bytes(),
            "metrics": metrics,
        }
        led = {"prior": priors.recorded()} if priors else {}
        record = _reported(record, report, model={"base": base, "revision": revision, **led})
        with staging(out) as staged:
            context.write(state.weights, provenance, staged)
            output.publish(staged, record)
    accelerator.wait_for_everyone()
    return replace(_finished(out), already_done=False)


def _opened(
    config: TrainConfig, data: Path, base: ResolvedModel | None, priors: Priors | None
) -> Callable[[Path, Accelerator, TrainingProgress | None], StageContext]:
    """Check the data before anything is written; what then makes the stage, in the run's folder."""
    if isinstance(config, PriorConfig):
        from mv3d.training.prior.layer_store import geometry_shards  # noqa: PLC0415 - as above
        from mv3d.training.prior.stage import prepare_prior  # noqa: PLC0415

        shards = geometry_shards(data)
        return lambda out, accelerator, progress: prepare_prior(
            config, shards, base, out, accelerator, _of_stage(progress, "layers")
        )
    from mv3d.training.stage import prepare  # noqa: PLC0415 - as above

    samples = _samples(config, data, base)
    if priors is not None:
        from mv3d.training.renders import check_lifted  # noqa: PLC0415 - as above

        check_lifted(samples)
    return lambda out, accelerator, progress: prepare(
        config, samples, base, out, accelerator, _of_stage(progress, "image encoder"), priors=priors
    )


def _resolved(config: TrainConfig, base: str) -> tuple[TrainConfig, ResolvedModel | None]:
    """The base, and the settings with what a teacher decides."""
    from mv3d.models.locate import resolve  # noqa: PLC0415 - as above

    found = resolve(base) if base else None
    if found is not None and isinstance(config, DistillConfig):
        from mv3d.training.distill.teacher import with_teacher  # noqa: PLC0415 - as above

        return with_teacher(config, found), found
    return config, found


def _locally_taught(config: DistillConfig, base: str) -> DistillConfig:
    from mv3d.training.distill.teacher import with_local_teacher  # noqa: PLC0415 - as above

    return with_local_teacher(config, base)


def _priors(config: TrainConfig) -> Priors | None:
    if not config.prior:
        return None
    from mv3d.training.renders import open_priors  # noqa: PLC0415 - as above

    return open_priors(config)


def _settings(config: TrainConfig, priors: Priors | None = None) -> dict[str, Any]:
    """The settings as JSON values, those of renders only where there are some: without, they decide nothing.

    priors: stand by their hashes.
    """
    left_out = () if config.prior else OF_RENDERS
    kept = {name: value for name, value in dataclasses.asdict(config).items() if name not in left_out}
    return kept | ({"prior": list(priors.digests)} if priors else {})


def _samples(config: TrainConfig, data: Path, base: ResolvedModel | None) -> Samples:
    from mv3d.training.data import open_samples  # noqa: PLC0415 - as above

    return open_samples(data, config, _clip_size(config, base.folder if base else None))


def _train_parts(
    config: TrainConfig,
    data: Path,
    record: RunRecord,
    output: Output,
    accelerator: Accelerator,
    progress: TrainingProgress | None,
) -> TrainResult:
    """Train the frozen parts alone: a model folder without a network, as a base for `tiny` and to encode its data."""
    from mv3d.training.autoencoder import prepare_parts  # noqa: PLC0415 - as above

    begun = time.time()
    if accelerator.is_main_process:
        with staging(output.folder) as staged:
            on_step, device = _of_stage(progress, "image encoder"), accelerator.device
            samples = _samples(config, data, None)
            score = prepare_parts(config, samples, staged / MODEL, device=device, progress=on_step)
            report = {"seconds": time.time() - begun, "peak_memory_bytes": peak_memory_bytes()}
            report |= {"metrics": {"restored PSNR, dB": score}}
            output.publish(staged, _reported(record, report))
    accelerator.wait_for_everyone()
    return replace(_finished(output.folder), already_done=False)


def _of_stage(
    progress: TrainingProgress | None, stage: str
) -> Callable[[int, int, dict[str, float]], None] | None:
    if progress is None:
        return None
    return lambda done, total, line: progress(stage, done, total, line)


def _reported(record: RunRecord, report: dict[str, Any], **details: Any) -> RunRecord:
    """The record with what the run measured."""
    return replace(
        record,
        details={**record.details, **details, "report": report},
        seconds={"total": round(report["seconds"], 3)},
        peak_memory_bytes=report["peak_memory_bytes"],
    )


def data_sha256(data: Path) -> str:
    """The hash of a data set: that of its index, which names the hash of every shard; of clips, their names and sizes."""
    if (data / INDEX).is_file():
        return sha256(data / INDEX)
    listed = [(p.name, p.stat().st_size) for p in sorted(data.iterdir()) if p.is_file()]
    return hashlib.sha256(json.dumps(listed).encode()).hexdigest()


def _check_request(config: TrainConfig, data: Path, base: str, static_data: Path | None) -> None:
    for name, folder in (("--data", data), ("--static-data", static_data)):
        if folder is not None and not folder.is_dir():
            raise InputError(
                f"{name} {folder}: expected a folder of orbit shards or of video clips, got none"
            )
    name = f"--preset {config.preset}"
    if base and config.network == "none":
        raise UsageError(f"--base: expected none for {name}, got {base}")
    if isinstance(config, PriorConfig):
        from mv3d.training.prior.stage import check_start  # noqa: PLC0415 - as in _train_stage

        check_start(config, base)
    if isinstance(config, DistillConfig):
        if not base:
            raise UsageError("--teacher: expected a multi-view model, got none; see mv3d models list")
        _locally_taught(config, base)
    _check_prior(config)
    if not base and config.network == "base":
        raise UsageError(f"--base: expected a model to start from for {name}, got none; see mv3d models list")
    if config.trained == "lora" and config.network != "base":
        raise UsageError(f"--trained lora: expected a base with weights, not {name}")
    if static_data is None:
        return
    if not config.static_steps:
        raise UsageError("--static-data: expected --static-steps above 0 for a first stage, got 0")
    if config.trained == "lora":
        raise UsageError("--static-data: a first stage trains weights, not adapters; train two runs instead")
    if config.network != "base":
        raise UsageError(
            f"--static-data: expected a preset with a base, got {config.preset}; train two runs instead"
        )


def _check_prior(config: TrainConfig) -> None:
    usual = type(config)()
    if not config.prior:
        for name in OF_RENDERS:
            if getattr(config, name) != getattr(usual, name):
                raise UsageError(f"{flag(name)}: expected none without --prior, got {getattr(config, name)}")
        return
    if len(config.prior.split(",")) > _MOST_PRIORS:
        raise UsageError(f"--prior: expected one to {_MOST_PRIORS} models, got {config.prior}")
    if config.trained == "lora":
        raise UsageError(
            "--prior: expected none with adapters, which have no weights for renders; use --trained temporal or all"
        )
    if config.network == "none":
        raise UsageError(f"--prior: expected none for --preset {config.preset}, which trains no network")


def _clip_size(config: TrainConfig, base: Path | None) -> tuple[int, int]:
    """(width, height) of clips."""
    from mv3d.models.folder import read_info  # noqa: PLC0415 - as above

    if config.resolution is not None or base is None:
        side = config.resolution or 64
        return side, side
    return read_info(base).size


def _open_run(output: Output, config: TrainConfig, settings: dict[str, Any], digest: str) -> bool:
    """Write the settings into the folder, or compare them with those of the run in it; whether there was none."""
    out = output.folder
    fresh = not (out / SETTINGS).exists()
    free = _free(config)
    kept = {k: v for k, v in settings.items() if k not in free}
    wanted = json.loads(json.dumps({"base": settings["base"], "data": digest} | kept))
    try:
        there = json.loads((out / SETTINGS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        there = {}
    ours = isinstance(there, dict) and not wanted.keys().isdisjoint(there)
    refuse_inputs(out, (*_OURS, SETTINGS, LOG), output.inputs)
    work = [f"{name}/{file}" for name in _OURS for file in files_below(out / name)]
    foreign = [name for name in work if not (ours and _MADE.fullmatch(name))]
    foreign += [name for name in (SETTINGS, LOG) if (out / name).exists() and not ours]
    refuse_named(out, foreign)
    if output.overwrite:
        discard(out, (*_OURS, LOG))
    elif ours:
        # Where the settings name no network, the preset, which they do name, stood for it.
        there = {"network": config.network} | there
        changed = [key for key in wanted if there.get(key) != wanted[key]]
        if changed:
            base = "teacher" if isinstance(config, DistillConfig) else "base"
            flags = ", ".join(flag(base if key == "base" else key) for key in changed)
            raise OutputError(
                f"{out}: holds a run with another {flags}; choose another --out, or use --overwrite to replace it"
            )
    elif any(p.name != STATIC and not p.name.startswith(".") for p in out.iterdir()):
        raise OutputError(f"{out}: holds something else; choose another --out")
    write_text(out / SETTINGS, to_json(wanted))
    return fresh


def _free(config: TrainConfig) -> tuple[str, ...]:
    if isinstance(config, DistillConfig):
        return _FREE_OF_A_STUDENT
    return _FREE_OF_A_PRIOR if isinstance(config, PriorConfig) else _FREE


def _finished(out: Path) -> TrainResult:
    record = read_record(out / RECORD)
    if record is None:
        raise InputError(f"{out / RECORD}: expected the record of a finished run, found none")
    files = {Path(name).stem: out / name for name in record.outputs}
    return TrainResult(out, files, True, record.details.get("report", {}))
