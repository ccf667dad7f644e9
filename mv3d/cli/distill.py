"""`mv3d distill`: a multi-view model -> a student that samples in 1, 2 or 4 steps."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from mv3d.cli.groups import parsed
from mv3d.cli.output import show
from mv3d.cli.train import accelerate_config, carry_out
from mv3d.training.distill.config import DistillConfig

_HELP = """Distil a multi-view model into a student of 1, 2 or 4 steps, the teacher's guidance baked in.

mv3d distill --data latents/ --teacher sv3d_p --student-steps 2 --out student/

mv3d distill --data latents/ --teacher sv3d_p --student-steps 1 --adversarial --out one/

mv3d generate chair.png --model student/model

The same command again goes on where it was cut off. Checkpoints, log and result are those of mv3d train."""


@dataclass(frozen=True)
class DistillCommand:
    """The flags of `mv3d distill`."""

    data: Path
    """Orbit shards (rendered or encoded) or a folder of video clips, of the kind that the teacher was trained on."""
    teacher: str
    """A model folder, a name of `mv3d models list`, or a hub id. Not a 3D prior, which samples nothing."""
    out: Path = Path("distill")
    """Where the run lives: log, checkpoints, sheets, result."""
    config: tyro.conf.OmitArgPrefixes[DistillConfig] = field(default_factory=DistillConfig)
    print_config: Annotated[Literal["ddp", "fsdp"] | None, tyro.conf.arg(help_behavior_hint="")] = None
    """Alone: print the path of a configuration of accelerate, and stop."""
    dry_run: bool = False
    """Print the resolved plan and stop."""
    overwrite: bool = False
    """Replace another run in --out."""
    json: bool = False
    """Print one JSON object."""


def distill(arguments: list[str]) -> int:
    """Run the command; the exit code."""
    if "--print-config" in arguments:
        show(str(accelerate_config("".join(arguments[arguments.index("--print-config") + 1 :][:1]))))
        return 0
    return run(parsed(DistillCommand, arguments, program="mv3d distill", description=_HELP))


def run(command: DistillCommand) -> int:
    """Distil as parsed; the exit code."""
    return carry_out(
        command.config,
        command.data,
        command.teacher,
        command.out,
        dry_run=command.dry_run,
        overwrite=command.overwrite,
        as_json=command.json,
    )
