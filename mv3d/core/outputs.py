"""Output folders: one process at a time writes one; only what its record lists is ever replaced, an input never."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mv3d.core.errors import OutputError
from mv3d.core.files import publish, sha256, staging
from mv3d.core.locking import folder_lock, mend
from mv3d.core.records import RunRecord, read_record, refuse_other_results, write_record


@dataclass(frozen=True)
class Output:
    """The place of one run's results.

    record: name of the record's file. names: files and folders that the run may write. inputs: of the run.
    resumes: earlier results that nobody changed may be replaced without `overwrite`, as by a run that goes on.
    command: whose earlier results are ours under any names; by default those that have one of `names`.
    settings, input_sha256: of the run, for the message where another one's results are in the way.
    """

    folder: Path
    record: str
    names: tuple[str, ...]
    inputs: tuple[Path, ...] = ()
    overwrite: bool = False
    resumes: bool = False
    command: str = ""
    settings: Mapping[str, Any] | None = None
    input_sha256: str | None = None
    others: tuple[str, ...] = ()
    """Files that the run writes whole or not at all beside its results."""

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Hold the folder.

        Raises OutputError where another process holds it, and where an input, a file that the record does not list or,
        without `overwrite`, an earlier result is in the way.
        """
        with folder_lock(self.folder, (*self.names, self.record, *self.others)):
            changed = self._refuse_foreign(self.names)
            if not self.overwrite:
                there = changed if self.resumes else (*self.names, self.record)
                refuse_other_results(
                    self.folder / self.record,
                    there,
                    settings=self.settings,
                    input_sha256=self.input_sha256,
                )
            yield

    @contextmanager
    def opened(self) -> Iterator[Path]:
        """`claimed`, with a staging folder for `publish`."""
        with self.claimed(), staging(self.folder) as staged:
            yield staged

    def refuse_foreign(self) -> None:
        """Raise OutputError as `claimed` does for an input and a file that the record does not list."""
        mend(self.folder)
        self._refuse_foreign(self.names)

    def publish(
        self, staged: Path, record: RunRecord, *, last: str = "", outdated: Iterable[str] = ()
    ) -> RunRecord:
        """Move all of `staged`, the folder of `opened`, to its place with its record, which lists it. Returns that record.

        Outputs of the earlier record that are not made again go, unless somebody changed them. The earlier result stays as
        it is, or the new one is there: Ctrl-C and SIGTERM wait, and where the process dies in between, the next one that
        claims or reads the folder goes on.
        last: a file to move last of all, by default the record. outdated: further files that go.
        """
        found = sorted(staged.iterdir())
        contents = {p.name: {f: sha256(p / f) for f in files_below(p)} for p in found if p.is_dir()}
        record = replace(record, outputs={p.name: sha256(p) for p in found}, contents=contents or None)
        self._refuse_foreign(record.outputs)
        earlier = read_record(self.folder / self.record) or RunRecord()
        stale = [name for name in unchanged(self.folder, earlier) if name not in record.outputs]
        write_record(staged / self.record, record)
        publish(
            staged,
            self.folder,
            last=last or self.record,
            stale=(*outdated, *stale, *([last] if last else [])),
        )
        return record

    def _refuse_foreign(self, names: Iterable[str]) -> list[str]:
        """Refuse inputs and files of other origin. Returns our files that were changed since."""
        earlier = read_record(self.folder / self.record) or RunRecord()
        names = (*names, self.record)
        refuse_inputs(self.folder, (*names, *earlier.outputs), self.inputs)
        ours = not earlier.outputs.keys().isdisjoint(names)  # not of another command
        ours = ours or earlier.command == self.command != ""
        listed = dict(earlier.outputs) if ours else {}
        for folder, files in (earlier.contents or {}).items() if ours else ():
            listed |= {f"{folder}/{file}": digest for file, digest in files.items()}
        foreign, changed = [], []
        for name in names:
            path = self.folder / name
            if (name == self.record and ours) or not os.path.lexists(path):
                continue
            files = [name]
            if path.is_dir() and not path.is_symlink():
                files = [] if listed.get(name) == sha256(path) else [f"{name}/{f}" for f in files_below(path)]
            foreign += [file for file in files if file not in listed or (self.folder / file).is_symlink()]
            changed += [file for file in files if sha256(self.folder / file) != listed.get(file)]
        refuse_named(self.folder, foreign)
        return changed


def unchanged(folder: Path, record: RunRecord) -> list[str]:
    """The outputs that stand beside their record in `folder`, as it says."""
    return [
        name
        for name, digest in record.outputs.items()
        if Path(name).name == name and (folder / name).exists() and sha256(folder / name) == digest
    ]


def files_below(folder: Path) -> list[str]:
    """Paths relative to a folder of all files and links in it."""
    found = (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    return sorted(path.relative_to(folder).as_posix() for path in found)


def refuse_named(folder: Path, foreign: list[str]) -> None:
    """Raise OutputError for files of other origin, if there are any."""
    if foreign:
        more = f" and {len(foreign) - 5} more" if len(foreign) > 5 else ""
        records = (read_record(path) for path in sorted(folder.glob("*.json")))
        makers = {r.command for r in records if r is not None and not r.outputs.keys().isdisjoint(foreign)}
        named = " and ".join(sorted(f"mv3d {m}" if m.islower() else m for m in makers - {""}))
        made = f", made by {named}" if named else ""
        raise OutputError(
            f"{folder}: holds {', '.join(foreign[:5])}{more}{made}, which no record of this command lists; choose another "
            "--out, or move them"
        )


def refuse_inputs(folder: Path, names: Iterable[str], inputs: Iterable[Path]) -> None:
    """Raise OutputError where an input is, or lies in, one of the results `names`."""
    places = [Path(os.path.realpath(folder / name)) for name in names]
    for path in inputs:
        real = Path(os.path.realpath(path))
        if any(place == real or place in real.parents for place in places):
            raise OutputError(
                f"{path}: is an input, and lies where this command writes; choose another --out, or move it"
            )
