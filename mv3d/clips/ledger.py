"""A file of JSON lines that a run may leave at any moment: one line for each item that is done, settings in the first."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mv3d.core.errors import InputError, OutputError
from mv3d.core.files import write_text

SCHEMA = 1


class Ledger:
    """Lines by their `key`; the latest of a key counts.

    Raises OutputError where the file is of another command, or of other settings and `overwrite` is not set.
    """

    def __init__(
        self, path: Path, command: str, settings: Mapping[str, Any], *, key: str, overwrite: bool = False
    ) -> None:
        self.path, self._key = path, key
        head = {"schema": SCHEMA, "command": command, "settings": json.loads(json.dumps(settings))}
        self.entries: dict[str, dict[str, Any]] = {}
        if path.exists():
            there, self.entries = read_ledger(path, command, key=key)
            if there["settings"] != head["settings"]:
                if not overwrite:
                    before, now = there["settings"], head["settings"]
                    names = [name for name in now if before.get(name) != now[name]]
                    flags = ", ".join(f"--{name.replace('_', '-')}" for name in names)
                    raise OutputError(
                        f"{path}: was made with another {flags or 'setting'}; use --overwrite to make it again"
                    )
                self.entries = {}
            elif overwrite:
                self.entries = {}
        lines = [head, *self.entries.values()]
        write_text(path, "".join(f"{json.dumps(line)}\n" for line in lines))  # mends a torn last line

    def append(self, entry: Mapping[str, Any]) -> None:
        """Add a line, whole or not at all. Raises OutputError for a full disk."""
        data = json.dumps(entry, allow_nan=False).encode() + b"\n"
        try:
            with self.path.open("ab", buffering=0) as stream:
                start = stream.tell()
                if stream.write(data) != len(data):
                    stream.truncate(start)
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise OutputError(
                f"{self.path}: cannot be written ({error.strerror}); free some space"
            ) from error
        self.entries[str(entry[self._key])] = dict(entry)


def read_ledger(path: Path, command: str, *, key: str) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """The first line, and the others by their key. A last line that was cut off is left out.

    Raises InputError where there is no such file, or where it is of another command.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); run mv3d {command} first") from error
    lines = data[: data.rfind(b"\n") + 1].splitlines()
    head: Any = None
    entries: dict[str, dict[str, Any]] = {}
    for number, line in enumerate(lines, 1):
        try:
            document = json.loads(line)
            if number == 1:
                head = document
            else:
                entries[str(document[key])] = document
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise InputError(f"{path}: line {number} is none of mv3d {command}; remove it") from error
    if (
        not isinstance(head, dict)
        or head.get("command") != command
        or not isinstance(head.get("settings"), dict)
    ):
        raise InputError(f"{path}: expected the lines of mv3d {command}, got others; move the file")
    return head, entries
