"""`mv3d eval run`: one model on one set of objects, as one table."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from mv3d.cli.output import StageBars, note, print_result
from mv3d.core.flags import SAID
from mv3d.evaluation.run.config import EvalRunConfig


@dataclass(frozen=True)
class RunCommand:
    """Render a set of objects, give a model one view of each, compare its views with the renders, and write one table:
    the model, the repeated input view, and published figures beside them."""

    source: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="SET")]
    """A folder of .glb, .gltf, .obj, .ply and .stl files, with SOURCES.csv if it has one, or a list (.jsonl, .json, .csv)."""
    out: Annotated[Path | None, SAID] = None
    """Folder for the table. The same command again continues an interrupted one. Default: SET-MODEL-ORBIT."""
    config: Annotated[EvalRunConfig, tyro.conf.arg(name="")] = field(default_factory=EvalRunConfig)
    workers: int = 1
    """Objects rendered at a time."""
    timeout_s: float = 300.0
    """Longest time for rendering one object, seconds."""
    memory_mb: int = 4096
    """Most memory for rendering one object, MB."""
    overwrite: bool = False
    """Replace a table of other settings, and retry the objects that were left out; valid renders and views are kept."""
    json: bool = False
    """Print one JSON object."""


def eval_run(command: RunCommand) -> int:
    """Run `mv3d eval run`. Returns the exit code: 0 even if objects were left out, 1 if all were."""
    from mv3d.evaluation import evaluate_model, summary_lines
    from mv3d.orbits.infrastructure.isolate import Limits

    bars = StageBars()
    try:
        result = evaluate_model(
            command.source,
            command.out,
            command.config,
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
