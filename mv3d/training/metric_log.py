"""The metrics of a run: a JSON object a line, and events for TensorBoard where they are asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mv3d.core.errors import MissingPartError, OutputError
from mv3d.core.files import write_text
from mv3d.core.installing import install_command

LOG = "log.jsonl"


class MetricLogger:
    """Appends to `log.jsonl`. Lines of steps after `after` are of a run that was cut off, and are dropped."""

    def __init__(self, out: Path, *, after: int, main: bool, tensorboard: bool) -> None:
        self._path, self._main, self._events = out / LOG, main, None
        self.last_loss = 0.0
        if not main:
            return
        kept = [line for line in read_log(out) if line["step"] <= after]
        if kept:
            self.last_loss = float(kept[-1]["loss"])
        write_text(self._path, "".join(json.dumps(line) + "\n" for line in kept))
        if tensorboard:
            self._events = summary_writer()(str(out / "tensorboard"), purge_step=after + 1)

    def write(self, line: dict[str, Any]) -> None:
        """line: numbers by name, `step` among them. Raises OutputError where it cannot be written."""
        if not self._main:
            return
        try:
            with self._path.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(line) + "\n")
        except OSError as error:
            raise OutputError(
                f"{self._path}: cannot be written ({error.strerror}); free some space and give the same command again"
            ) from error
        if self._events is not None:
            for name, value in line.items():
                if name != "step":
                    self._events.add_scalar(name, value, line["step"])

    def close(self) -> None:
        if self._events is not None:
            self._events.close()


def summary_writer() -> Any:
    """TensorBoard's writer. Raises MissingPartError with the command that installs it."""
    try:
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 - optional
    except ImportError as error:
        raise MissingPartError(
            f"--tensorboard: tensorboard is not installed; run: {install_command('tensorboard')}"
        ) from error
    return SummaryWriter


def read_log(out: Path) -> list[dict[str, Any]]:
    """The lines of a run; one that was cut off in the middle is left out."""
    lines = []
    if (out / LOG).exists():
        for text in (out / LOG).read_text(encoding="utf-8").splitlines():
            try:
                lines.append(json.loads(text))
            except ValueError:
                continue  # the last line of a run that was cut off
    return lines
