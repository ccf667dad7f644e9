"""`mv3d eval run`: one model on one set of objects, as one table."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Literal

import tyro

from mv3d.cli.output import StageBars, note, print_result


@dataclass(frozen=True)
class RunCommand:
    """Render a set of objects, give a model one view of each, compare what it makes of it with the renders, and write
    one table: the model, the input view repeated, and published figures beside them."""

    source: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="SET")]
    """A folder of .glb, .gltf, .obj, .ply and .stl files, with SOURCES.csv where it has one, or a list (.jsonl, .json, .csv)."""
    model: str = "default"
    """default, sv3d_u, sv3d_p, a hub id (owner/name), or a model folder."""
    orbit: Literal["static", "dynamic"] = "static"
    """static: one elevation, equal steps. dynamic: SV3D's random smooth path, another for each object."""
    out: Path | None = None
    """Folder for the table. The same command again goes on where the last one ended. Default: SET-MODEL-ORBIT."""
    revision: str | None = None
    """Of a hub id: a commit, tag or branch."""
    lora: Annotated[tuple[str, ...], tyro.conf.arg(metavar="FILE[:WEIGHT]"), tyro.conf.UseAppendAction] = ()
    """An adapter, with its weight (default 1). Give the flag several times to mix several."""
    elevation: Annotated[float, tyro.conf.arg(metavar="DEG")] = 10.0
    """Degrees up; of a dynamic orbit the mean."""
    views: int | None = None
    """How many. Default: as many as the model was trained for."""
    environment: Annotated[str, tyro.conf.arg(metavar="NAME|FILE")] = "studio_softbox"
    """The light: uniform, a built-in one, or a .hdr or .exr file; turned for each object, by seed and uid."""
    samples: int = 4
    """Camera samples a pixel of the truth."""
    size: Annotated[int | None, tyro.conf.arg(metavar="PIXELS")] = None
    """Compare at this side. Default: the model's resolution, at which the truth is rendered."""
    baseline: bool = True
    """Beside the model, the input view repeated: a figure means little without it."""
    steps: int | None = None
    """Noise levels of the sampler. Default: the model's."""
    sampler: Literal["euler", "heun", "dpmpp_2m"] | None = None
    """Default: the model's."""
    guidance: Annotated[float | None, tyro.conf.arg(metavar="MAX")] = None
    """Largest guidance. Default: the model's."""
    seed: int = 0
    """Of paths, lights, the model's noise and the bootstrap."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    dtype: Literal["auto", "fp32", "fp16", "bf16"] = "auto"
    """Of the network. auto: fp16 on CUDA, fp32 on the CPU."""
    offload: Literal["none", "model"] = "none"
    """model: only the part at work is on the GPU; less memory, a little slower."""
    decode_chunk: int = 7
    """Views decoded at a time: fewer need less memory."""
    lpips: Literal["auto", "yes", "no"] = "auto"
    """auto: where its published weights are on this machine. yes: or end with exit code 3."""
    lpips_weights: Annotated[Path | None, tyro.conf.arg(metavar="FILE|FOLDER")] = None
    """As in mv3d eval views."""
    clip_s: Literal["auto", "yes", "no"] = "auto"
    """auto: where the model is in the hub's cache. yes: fetch it, or end with exit code 3."""
    clip_model: Annotated[str | None, tyro.conf.arg(metavar="FOLDER|HUB_ID")] = None
    """As in mv3d eval views."""
    resamples: int = 2000
    """Of the bootstrap over objects."""
    workers: int = 1
    """Objects rendered at a time."""
    timeout_s: float = 300.0
    """Longest time for rendering one object, seconds."""
    memory_mb: int = 4096
    """Most memory for rendering one object, MB."""
    overwrite: bool = False
    """Replace a table of other settings, and try again what was left out; what is still right is kept."""
    json: bool = False
    """Print one JSON object."""


def eval_run(command: RunCommand) -> int:
    """Run `mv3d eval run`; the exit code: 0 also where objects were left out, 1 where all were."""
    from mv3d.evaluation import EvalRunConfig, evaluate_model, summary_lines
    from mv3d.orbits.infrastructure.isolate import Limits

    config = EvalRunConfig(**{f.name: getattr(command, f.name) for f in fields(EvalRunConfig)})
    bars = StageBars()
    try:
        result = evaluate_model(
            command.source,
            command.out,
            config,
            workers=command.workers,
            limits=Limits(timeout_s=command.timeout_s, memory_mb=command.memory_mb),
            overwrite=command.overwrite,
            progress=bars,
        )
    finally:
        bars.close()
    table = result.table
    if result.already_done:
        note(
            f"{result.out_dir}: done already: the same objects and settings; use --overwrite to make it again"
        )
    for text in table["warnings"]:
        note(f"warning: {text}")
    for text in table["missing"].values():
        note(text)
    for reject in table["rejects"]:
        note(f"left out: {reject['uid']}: {reject['stage']}: {reject['reason']}: {reject['detail']}")
    note(
        f"{table['compared']} of {table['objects']} objects compared, {table['left_out']} left out; "
        f"see {result.out_dir / 'table.md'}"
    )
    document = {"out": str(result.out_dir), "already_done": result.already_done, **table}
    print_result(summary_lines(table), document, as_json=command.json)
    return 0 if table["compared"] else 1
