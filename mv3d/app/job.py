"""One job of the server: a value, and its file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

from mv3d.core.files import to_json, write_text

Kind = Literal["photo", "views"]
State = Literal["queued", "running", "done", "failed", "cancelled"]
ENDED: tuple[State, ...] = ("done", "failed", "cancelled")
JOB_FILE = "job.json"
SCHEMA = 1


@dataclass(frozen=True)
class Job:
    """What is known of a job. Times are Unix seconds.

    settings: as `checked_settings` makes them. title: what the sender's file was called; it is shown, and never a path.
    device: the one whose turn it waits for. stage, progress: what is done now, and its share from 0 to 1.
    error: one sentence. warnings: whole sentences. starts: how often its process was started.
    """

    id: str
    kind: Kind
    created: float
    settings: Mapping[str, Any] = field(default_factory=dict)
    title: str = ""
    device: str = "cpu"
    state: State = "queued"
    stage: str = ""
    progress: float = 0.0
    error: str | None = None
    warnings: tuple[str, ...] = ()
    starts: int = 0
    started: float | None = None
    ended: float | None = None

    def document(self) -> dict[str, Any]:
        """The job as JSON values."""
        return asdict(self) | {"settings": dict(self.settings), "warnings": list(self.warnings)}


_KINDS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("id", "kind", "title", "device", "state", "stage"), (str,)),
    **dict.fromkeys(("created", "progress"), (int, float)),
    **dict.fromkeys(("started", "ended"), (int, float, type(None))),
    "settings": (dict,), "error": (str, type(None)), "warnings": (list,), "starts": (int,),
}  # fmt: skip


def write_job(folder: Path, job: Job) -> None:
    """Write job.json atomically. Raises OutputError."""
    write_text(folder / JOB_FILE, to_json({"schema": SCHEMA, **job.document()}))


def read_job(folder: Path) -> Job | None:
    """The job of a folder, or None where job.json is absent, damaged or of another id than the folder."""
    try:
        document = json.loads((folder / JOB_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        return None
    names = [each.name for each in fields(Job)]
    if not all(name in document and isinstance(document[name], _KINDS[name]) for name in names):
        return None
    if document["kind"] not in get_args(Kind) or document["state"] not in get_args(State):
        return None
    if document["id"] != folder.name or not all(isinstance(text, str) for text in document["warnings"]):
        return None
    values: dict[str, Any] = {name: document[name] for name in names}
    values["warnings"] = tuple(values["warnings"])
    return Job(**values)
