"""`mv3d train`: orbit shards or video clips -> a model or an adapter."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, make_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from mv3d.cli.groups import parsed
from mv3d.cli.output import note, print_result, show
from mv3d.core.errors import UsageError
from mv3d.training.config import TrainConfig, preset

_USUAL = "svd_mv"
_HELP = """Train the generator, or adapters of it.

mv3d train --data latents/ --base svd_xt --preset svd_mv --out run/

mv3d train --data dynamic/ --static-data static/ --base svd_xt --preset sv3d_p --out run/

mv3d train --data clips/ --base svd_xt --preset lora --out zoom/

mv3d train --data geometry/ --encoder efficientnet_lite0.whl --preset prior --out prior/

accelerate launch --config_file "$(mv3d train --print-config fsdp)" -m mv3d train ...

The same command again goes on where it was cut off. The defaults below are those of --preset."""


@dataclass(frozen=True)
class TrainCommand:
    """The flags of `mv3d train`."""

    data: Path
    """Orbit shards (rendered or encoded), or a folder of video clips."""
    base: str = ""
    """A model folder, a name of `mv3d models list`, or a hub id. tiny needs none."""
    out: Path = Path("train")
    """Where the run lives: log, checkpoints, sheets, result."""
    static_data: Path | None = None
    """Static orbits of sv3d_p's first stage."""
    config: tyro.conf.OmitArgPrefixes[TrainConfig] = field(default_factory=TrainConfig)
    print_config: Annotated[Literal["ddp", "fsdp"] | None, tyro.conf.arg(help_behavior_hint="")] = None
    """Alone: print the path of a configuration of accelerate, and stop."""
    dry_run: bool = False
    """Print the resolved plan and stop."""
    overwrite: bool = False
    """Replace another run in --out."""
    json: bool = False
    """Print one JSON object."""


def train(arguments: list[str]) -> int:
    """Run the command; the exit code."""
    if "--print-config" in arguments:
        show(str(accelerate_config("".join(arguments[arguments.index("--print-config") + 1 :][:1]))))
        return 0
    return run(parsed(with_preset(TrainCommand), arguments, program="mv3d train", description=_HELP))


def run(command: TrainCommand) -> int:
    """Train as parsed; the exit code."""
    return carry_out(
        command.config,
        command.data,
        command.base,
        command.out,
        command.static_data,
        dry_run=command.dry_run,
        overwrite=command.overwrite,
        as_json=command.json,
    )


def carry_out(
    config: TrainConfig,
    data: Path,
    base: str,
    out: Path,
    static_data: Path | None = None,
    *,
    dry_run: bool,
    overwrite: bool,
    as_json: bool,
) -> int:
    """Train, or print the plan; the exit code."""
    from mv3d.training.run import plan, train

    if dry_run:
        document = plan(config, data, base, out, static_data)
        print_result([json.dumps(document, indent=2)], document, as_json=as_json)
        return 0
    lines = _Lines(config.device)
    if lines.main:
        note(f"reading {data}" + ("" if base else "; without --base the encoders are trained first"))
    result = train(config, data, base, out, static_data=static_data, overwrite=overwrite, progress=lines)
    _leave_group()
    if result.already_done:
        note("done already: the same data and settings; use --overwrite to train again")
    document: dict[str, Any] = {
        "files": {name: str(path) for name, path in result.files.items()},
        "already_done": result.already_done,
        "report": result.report,
    }
    if lines.main:
        print_result([str(path) for path in result.files.values()], document, as_json=as_json)
    return 0


def _leave_group() -> None:
    """Leave the group of processes, as torch.distributed asks before the program ends."""
    import torch.distributed as group

    if group.is_available() and group.is_initialized():
        group.destroy_process_group()


def accelerate_config(name: str) -> Path:
    """The path of a shipped configuration of accelerate: ddp or fsdp."""
    folder = Path(__file__).parents[1] / "training"
    names = sorted(path.stem for path in folder.glob("*.yaml"))
    if name not in names:
        raise UsageError(f"--print-config: expected one of {', '.join(names)}, got {name or 'nothing'}")
    return folder / f"{name}.yaml"


def _asked(arguments: list[str], name: str) -> str | None:
    """The value of a flag that decides the defaults of others, so that it is read before them."""
    for place, argument in enumerate(arguments):
        if argument == name and place + 1 < len(arguments):
            return arguments[place + 1]
        if argument.startswith(f"{name}="):
            return argument.partition("=")[2]
    return None


def with_preset(command: type) -> Callable[[list[str]], type]:
    """The kind of `command`, a dataclass with a field `config`, that starts from the settings of the preset asked for."""

    def kind(arguments: list[str]) -> type:
        batch = _asked(arguments, "--batch") or ""
        alone = _asked(arguments, "--micro-batch") is _asked(arguments, "--micro_batch") is None
        changes = {"batch": int(batch)} if alone and batch.isdecimal() and int(batch) else {}
        chosen = preset(_asked(arguments, "--preset") or _USUAL, **changes)
        config = ("config", tyro.conf.OmitArgPrefixes[type(chosen)], chosen)
        return make_dataclass("Preset", [config], bases=(command,), frozen=True)

    return kind


class _Lines:
    """A line now and then on stderr, with what is left."""

    def __init__(self, device: str) -> None:
        import os
        import time

        self._clock, self._device = time.monotonic, device
        self.main = int(os.environ.get("RANK", "0")) == 0
        self._stage, self._begun, self._first, self._last = "", 0.0, 0, 0.0

    def __call__(self, stage: str, done: int, total: int, line: dict[str, float]) -> None:
        now = self._clock()
        begins = "objects" in line
        if begins or stage != self._stage:
            self._stage, self._begun, self._first = stage, now, done
        if begins:
            from mv3d.core.devices import pick_device

            note(
                f"training begins: step {done} of {total}, batch {line['batch']:.0f}, {line['objects']:.0f} objects, "
                f"{pick_device(self._device)}"
            )
            return
        if now - self._last < (1 if sys.stderr.isatty() else 10) and done != total:
            return
        self._last = now
        rate = (now - self._begun) / max(done - self._first, 1)
        numbers = ", ".join(
            f"{name} {line[name]:.4g}" for name in ("loss", "encoder_loss", "data_wait_share") if name in line
        )
        left = f", about {rate * (total - done) / 60:.0f} min left" if done > self._first else ""
        note(f"{stage} {done}/{total}: {numbers}{left}")
