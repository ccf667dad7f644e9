"""Records of runs: what was made, of what, by which version, and whether it is still current."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from enum import Enum
from pathlib import Path
from typing import Any

from mv3d.core.errors import OutputError, shown
from mv3d.core.files import sha256, to_json, write_text
from mv3d.core.locking import mend
from mv3d.core.machine import library_versions

SCHEMA = 1
ALGORITHMS = {
    "generate": 2, "recon": 2, "train": 1, "orbits render": 2, "orbits views": 2, "eval run": 1,
    "models convert": 1, "distill": 1, "Views.save": 1, "Views.to_colmap": 1, "Views.to_nerfstudio": 1, "lift": 2,
}  # fmt: skip
"""Version of what each command computes. Raise it when the same request gives another result."""


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """The record of one run. Fields that are None do not apply to it and are not written.

    details: values of this command alone; in the file they stand beside the others.
    """

    command: str = ""
    algorithm: int = 1
    """Entry of ALGORITHMS that made the result; 1 for records from before there were entries."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Versions of mv3d, Python and libraries."""
    input: str | None = None
    input_sha256: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] | None = None
    device: str | None = None
    device_name: str | None = None
    seconds: Mapping[str, float] | None = None
    """By stage."""
    peak_memory_bytes: int | None = None
    outputs: Mapping[str, str] = field(default_factory=dict)
    """sha256 by file or folder name, relative to the record."""
    contents: Mapping[str, Mapping[str, str]] | None = None
    """sha256 of the files in those outputs that are folders."""

    @classmethod
    def of(cls, command: str, **values: Any) -> RunRecord:
        """A record of this version of mv3d. Raises KeyError for a command without an algorithm version."""
        return cls(command=command, algorithm=ALGORITHMS[command], versions=library_versions(), **values)

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> RunRecord | None:
        """The inverse of `document`; None for values of other types."""
        given = {key: value for key, value in document.items() if key != "schema"}
        if isinstance(given.get("command"), list):  # mv3d 0.1.0 wrote the arguments of `train` there
            given["command"] = "train"
        values = {key: given.pop(key) for key in _KINDS if key in given}
        values = {key: value for key, value in values.items() if value is not None}
        if not all(isinstance(value, _KINDS[key]) for key, value in values.items()):
            return None
        return cls(**values, details=given)

    def document(self) -> dict[str, Any]:
        """The content of the file, as `to_json` takes it."""
        values = {"schema": SCHEMA}
        for each in fields(self):
            value = getattr(self, each.name)
            values |= value if each.name == "details" else {} if value is None else {each.name: value}
        return values

    @property
    def is_current(self) -> bool:
        """Whether this version of mv3d computes the same result. True for commands that it does not know."""
        return self.algorithm == ALGORITHMS.get(self.command, self.algorithm)


_KINDS: dict[str, type] = {
    **dict.fromkeys(("command", "input", "input_sha256", "device", "device_name"), str),
    **dict.fromkeys(("versions", "settings", "seconds", "outputs", "contents"), dict),
    **dict.fromkeys(("algorithm", "peak_memory_bytes"), int),
}


class RunStatus(Enum):
    """What a folder holds, seen from a request."""

    ABSENT = "no record of a run"
    DONE = "the result of this request"
    OTHER_REQUEST = "other settings, other input, or changed since"
    OTHER_ALGORITHM = "the result of this request by another algorithm version"


def read_document(path: Path) -> dict[str, Any] | None:
    """A JSON object of our schema, or None where there is none that can be read."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) and document.get("schema") == SCHEMA else None


def read_record(path: Path) -> RunRecord | None:
    """The record of an earlier run, or None where there is none that can be read."""
    document = read_document(path)
    return None if document is None else RunRecord.from_document(document)


def write_record(path: Path, record: RunRecord) -> None:
    """Write a record atomically. Raises OutputError."""
    write_text(path, to_json(record.document()))


def run_status(path: Path, *, settings: Mapping[str, Any], input_sha256: str) -> RunStatus:
    """Compare the record at `path`, and the outputs beside it, with a request.

    What a process left that was killed while it moved them is put right before.
    """
    mend(path.parent)
    record = read_record(path)
    if record is None:
        return RunStatus.ABSENT
    if record.input_sha256 != input_sha256 or record.settings != json.loads(json.dumps(settings)):
        return RunStatus.OTHER_REQUEST
    if not record.is_current:
        return RunStatus.OTHER_ALGORITHM
    whole = record.outputs and all(
        (path.parent / name).exists() and sha256(path.parent / name) == digest
        for name, digest in record.outputs.items()
    )
    return RunStatus.DONE if whole else RunStatus.OTHER_REQUEST


def refuse_other_algorithm(path: Path) -> None:
    """Raise OutputError where the record at `path` is of another algorithm version."""
    record = read_record(path)
    if record is not None and not record.is_current:
        raise OutputError(
            f"{path.parent}: holds a result of mv3d {record.versions.get('mv3d', '0.1.0')} (algorithm version "
            f"{record.algorithm} of {record.command}, now {ALGORITHMS[record.command]}); use --overwrite to make it again, "
            "or choose another --out"
        )


def refuse_other_results(
    path: Path,
    names: Iterable[str],
    *,
    settings: Mapping[str, Any] | None = None,
    input_sha256: str | None = None,
) -> None:
    """Raise OutputError where files of these names stand beside the place of a record, with what tells the two runs apart.

    settings, input_sha256: of the request.
    """
    there = [name for name in dict.fromkeys(names) if (path.parent / name).exists()]
    if there:
        refuse_other_algorithm(path)
        record = read_record(path)
        apart = () if record is None else differences(record, settings or {}, input_sha256)
        more = [f"and {len(apart) - _TOLD} more"] if len(apart) > _TOLD else []
        why = "; ".join([*apart[:_TOLD], *more]) or RunStatus.OTHER_REQUEST.value
        raise OutputError(
            f"{path.parent}: holds {', '.join(there)} of another run ({why}); "
            "use --overwrite to replace, or choose another --out"
        )


def refuse_other_request(path: Path, settings: Mapping[str, Any], input_sha256: str | None = None) -> None:
    """Raise OutputError where the record at `path` is of a finished run with other settings or another input.

    For a check before anything is loaded: settings may be some of the request's.
    """
    mend(path.parent)
    record = read_record(path)
    if record is None or record.settings is None or not differences(record, settings, input_sha256):
        return
    refuse_other_results(path, (*record.outputs, path.name), settings=settings, input_sha256=input_sha256)


_TOLD = 4  # differences in one message


def differences(
    record: RunRecord, settings: Mapping[str, Any], input_sha256: str | None = None
) -> tuple[str, ...]:
    """How a request differs from a recorded run, in words: `quality: draft there, standard now`. Settings that the record
    does not have are left out."""
    earlier, found = record.settings or {}, []
    if None not in (record.input_sha256, input_sha256) and record.input_sha256 != input_sha256:
        found.append("another input")
    for name, value in json.loads(json.dumps(dict(settings))).items():
        if name in earlier and earlier[name] != value:
            plain = not any(isinstance(each, dict | list) for each in (value, earlier[name]))
            told = f"{_told(earlier[name])} there, {_told(value)} now" if plain else "another"
            found.append(f"{name}: {told}")
    return tuple(found)


def _told(value: Any) -> str:
    return "default" if value is None else shown(value, 40)
