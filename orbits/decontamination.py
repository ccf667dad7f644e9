"""Decontamination: objects that are kept for evaluation must never be trained on, under whatever name they come.

An evaluation list holds, for each object, the sha256 of its file, the hash of its geometry and its shape
signature, so that the same file, a copy saved anew and a turned or scaled copy are all found. The list can be
shared without the objects.

    {"format": "mv3d evaluation list", "version": 1,
     "objects": [{"name": "mug", "sha256": "…", "geometry": "…", "signature": [1.93, …]}, …]}

As CSV the columns are name, sha256, geometry, signature (numbers with spaces between them). sha256 alone, or
geometry alone, is enough for an object.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mv3d.core.errors import InputError, UsageError, shown
from mv3d.core.files import sha256, write_text
from mv3d.orbits.catalogue import csv_text, read_list
from mv3d.orbits.duplicates import SIGNATURE_LENGTH, Fingerprint, fingerprint, same_shape
from mv3d.orbits.gate import Rejected
from mv3d.render.loading import load_model

FORMAT = "mv3d evaluation list"
VERSION = 1


@dataclass(frozen=True)
class EvaluationEntry:
    """One object of an evaluation list. Empty fields are not known."""

    name: str
    sha256: str = ""
    geometry: str = ""
    signature: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not (self.sha256 or self.geometry or self.signature):
            raise InputError(
                f"object {shown(self.name)!r}: expected a sha256, a geometry hash or a signature, got none"
            )
        for name, value in (("sha256", self.sha256), ("geometry", self.geometry)):
            if value and not re.fullmatch(r"[0-9a-f]{16,64}", value):
                raise InputError(
                    f"{name} of {shown(self.name)!r}: expected hexadecimal digits, got {value[:80]!r}"
                )
        if self.signature and (
            len(self.signature) != SIGNATURE_LENGTH or not np.isfinite(self.signature).all()
        ):
            raise InputError(f"signature of {shown(self.name)!r}: expected {SIGNATURE_LENGTH} finite numbers")


class EvaluationList:
    """Refuses the objects of evaluation lists. Holds no more than look-up tables; checks change nothing."""

    def __init__(self, objects: Iterable[EvaluationEntry]) -> None:
        objects = tuple(objects)
        self._files = {entry.sha256: entry.name for entry in objects if entry.sha256}
        self._geometries = {entry.geometry: entry.name for entry in objects if entry.geometry}
        signed = [entry for entry in objects if entry.signature]
        self._names = [entry.name for entry in signed]
        self._signatures = np.array([entry.signature for entry in signed]).reshape(-1, SIGNATURE_LENGTH)

    def check_file(self, file_sha256: str) -> None:
        """Raise Rejected where the file is one of the list: before it is even loaded."""
        if file_sha256 in self._files:
            raise Rejected("evaluation", f"the file of {self._files[file_sha256]}, kept for evaluation")

    def check_model(self, found: Fingerprint) -> None:
        """Raise Rejected where the shape is one of the list."""
        if found.geometry in self._geometries:
            raise Rejected(
                "evaluation", f"the shape of {self._geometries[found.geometry]}, kept for evaluation"
            )
        if len(self._names):
            same = np.flatnonzero(same_shape(self._signatures, np.array(found.signature)))
            if len(same):
                raise Rejected(
                    "evaluation", f"a copy of {self._names[same[0]]}, kept for evaluation, by its signature"
                )


def evaluation_entries(
    source: str | os.PathLike[str], progress: Callable[[str, float], None] | None = None
) -> tuple[EvaluationEntry, ...]:
    """The entries for a folder or a list of objects. Every one of them has to load: InputError otherwise."""
    items = read_list(source)
    entries = []
    for done, item in enumerate(items, 1):
        if item.path is None:
            raise InputError(
                f"{item.uid}: expected a file on this machine, got an address only; fetch it first"
            )
        found = fingerprint(load_model(item.path, root=item.root))
        entries.append(EvaluationEntry(item.uid, sha256(item.path), found.geometry, found.signature))
        if progress:
            progress("evaluation list", done / len(items))
    return tuple(entries)


def write_evaluation_list(path: str | os.PathLike[str], objects: Iterable[EvaluationEntry]) -> None:
    """Write an evaluation list (.json or .csv, by the suffix)."""
    path = Path(path)
    rows = [vars(entry) | {"signature": [round(value, 6) for value in entry.signature]} for entry in objects]
    if path.suffix.lower() == ".json":
        document = {"format": FORMAT, "version": VERSION, "objects": rows}
        write_text(path, json.dumps(document, indent=1) + "\n")
    elif path.suffix.lower() == ".csv":
        rows = [row | {"signature": " ".join(map(str, row["signature"]))} for row in rows]
        write_text(path, csv_text(("name", "sha256", "geometry", "signature"), rows))
    else:
        raise UsageError(f"{path.name}: expected a list ending in .json or .csv, got {path.suffix or 'none'}")


def read_evaluation_list(path: str | os.PathLike[str]) -> EvaluationList:
    """Read an evaluation list. Raises InputError where it is missing, empty or broken: a list that keeps nothing out
    must not look like one."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: expected an evaluation list (.json or .csv), found none; check the path")
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix.lower() == ".csv":
            rows: Any = list(csv.DictReader(io.StringIO(text)))
        else:
            document = json.loads(text)
            rows = document.get("objects") if isinstance(document, dict) else document
            version = document.get("version", VERSION) if isinstance(document, dict) else VERSION
            if version != VERSION:
                raise InputError(f"{path}: expected version {VERSION} of the format, got {shown(version)}")
    except (OSError, ValueError, RecursionError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as an evaluation list ({error})") from error
    if not isinstance(rows, list) or not rows:
        raise InputError(f"{path}: expected at least one object, got none")
    try:
        return EvaluationList([_entry(row) for row in rows])
    except (InputError, ValueError, TypeError, AttributeError, OverflowError) as error:
        raise InputError(f"{path}: {shown(error, 300)}") from error


def _entry(row: Mapping[str, Any]) -> EvaluationEntry:
    signature = row.get("signature") or ()
    numbers = signature.split() if isinstance(signature, str) else signature
    return EvaluationEntry(
        name=str(row.get("name") or "unnamed"),
        sha256=str(row.get("sha256") or "").lower(),
        geometry=str(row.get("geometry") or "").lower(),
        signature=tuple(float(value) for value in numbers),
    )
