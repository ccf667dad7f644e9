"""`mv3d clips`: from videos to the clips that are worth training on."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from mv3d.cli.groups import Command, run_group
from mv3d.cli.orbits_flags import LimitFlags
from mv3d.cli.output import FEW, ObjectsBar, note, print_result
from mv3d.clips.config import ScoreConfig, SelectConfig, SplitConfig
from mv3d.core.flags import SAID


@dataclass(frozen=True)
class SplitCommand:
    """Cut videos into clips of one shot each; fades and dissolves belong to none."""

    sources: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="VIDEO|FOLDER…"), SAID]
    """Videos, or folders with videos in them and below."""
    out: Path
    """Folder for the clips. The same command again goes on where the last one ended."""
    config: tyro.conf.OmitArgPrefixes[SplitConfig] = field(default_factory=SplitConfig)
    workers: Annotated[int | None, SAID] = None
    """Videos at a time. Default: as many as there are processors."""
    limits: Annotated[LimitFlags, tyro.conf.arg(name="")] = field(default_factory=LimitFlags)
    overwrite: bool = False
    """Split again what was split with other settings."""
    json: bool = False
    """Print one JSON object."""


@dataclass(frozen=True)
class ScoreCommand:
    """Measure every clip of a folder: motion of camera and things, written text, sharpness, a fingerprint."""

    clips: tyro.conf.Positional[Path]
    """A folder of clips; scores.jsonl is written into it. The same command again goes on where the last one ended."""
    config: tyro.conf.OmitArgPrefixes[ScoreConfig] = field(default_factory=ScoreConfig)
    workers: Annotated[int | None, SAID] = None
    """Clips at a time. Default: as many as there are processors."""
    limits: Annotated[LimitFlags, tyro.conf.arg(name="")] = field(default_factory=LimitFlags)
    overwrite: bool = False
    """Score again what was scored with other settings."""
    json: bool = False
    """Print one JSON object."""


@dataclass(frozen=True)
class SelectCommand:
    """Put the clips that pass all filters into a folder of their own, for mv3d train --preset lora."""

    clips: tyro.conf.Positional[Path]
    """A folder of `mv3d clips score`."""
    out: Path
    """Folder for the selection: links where the disk allows, copies elsewhere."""
    config: tyro.conf.OmitArgPrefixes[SelectConfig] = field(default_factory=SelectConfig)
    overwrite: bool = False
    """Replace a selection with other settings."""
    json: bool = False
    """Print one JSON object."""


@dataclass(frozen=True)
class InfoCommand:
    """Print quantiles and histograms of the scores, what each threshold would drop, and what a selection would keep."""

    clips: tyro.conf.Positional[Path]
    """A folder of `mv3d clips score`."""
    sheets: Path | None = None
    """Folder for contact sheets of what each threshold drops."""
    config: tyro.conf.OmitArgPrefixes[SelectConfig] = field(default_factory=SelectConfig)
    json: bool = False
    """Print one JSON object."""


def split(command: SplitCommand) -> int:
    """Run `mv3d clips split`; the exit code: 1 where no video could be read."""
    from mv3d.clips.split import SPLIT, split_videos
    from mv3d.orbits.infrastructure.isolate import Limits

    with closing(ObjectsBar()) as bar:
        result = split_videos(
            command.sources,
            command.out,
            command.config,
            workers=command.workers if command.workers is not None else (os.cpu_count() or 1),
            limits=Limits(**vars(command.limits)),
            overwrite=command.overwrite,
            progress=bar,
        )
    found = f"{len(result.clips)} clips of {len(result.entries)} videos, {result.new} of them new"
    document = {"out": str(command.out), "new": result.new, "videos": list(result.entries)}
    code = _noted(found, result.entries, "video", command.out / SPLIT)
    print_result([str(path) for path in result.clips], document, as_json=command.json)
    return code


def score(command: ScoreCommand) -> int:
    """Run `mv3d clips score`; the exit code: 1 where no clip could be read."""
    from mv3d.clips.score import score_clips
    from mv3d.orbits.infrastructure.isolate import Limits

    with closing(ObjectsBar()) as bar:
        result = score_clips(
            command.clips,
            command.config,
            workers=command.workers if command.workers is not None else (os.cpu_count() or 1),
            limits=Limits(**vars(command.limits)),
            overwrite=command.overwrite,
            progress=bar,
        )
    entries = list(result.entries.values())
    document = {"scores": str(result.path), "new": result.new, "clips": entries}
    code = _noted(f"{len(entries)} clips, {result.new} of them new", entries, "clip", result.path)
    print_result([str(result.path)], document, as_json=command.json)
    return code


def select(command: SelectCommand) -> int:
    """Run `mv3d clips select`; the exit code: 1 where nothing is left."""
    from mv3d.clips.select import write_selection

    selection = write_selection(command.clips, command.out, command.config, overwrite=command.overwrite)
    for name, count in selection.funnel:
        limit = selection.thresholds.get(name)
        note(f"{count:>8} after {name}" + ("" if limit is None else f" ({limit:.4g})"))
    document = {
        "out": str(command.out),
        "funnel": [list(row) for row in selection.funnel],
        "thresholds": dict(selection.thresholds),
        "kept": list(selection.kept),
        "dropped": [vars(line) for line in selection.dropped],
    }
    print_result([str(command.out / name) for name in selection.kept], document, as_json=command.json)
    return 0 if selection.kept else 1


def info(command: InfoCommand) -> int:
    """Run `mv3d clips info`; the exit code."""
    from mv3d.clips.info import info_lines, inspect_clips, sheets
    from mv3d.core.files import atomic_path

    found = inspect_clips(command.clips, command.config)
    document = dict(found.document)
    if command.sheets is not None:
        command.sheets.mkdir(parents=True, exist_ok=True)
        document["sheets"] = []
        for name, sheet in sheets(command.clips, found).items():
            path = command.sheets / f"{name}.png"
            with atomic_path(path, hint="choose another --sheets") as part:
                sheet.save(part, "PNG")
            document["sheets"].append(str(path))
            note(str(path))
    print_result(info_lines(found), document, as_json=command.json)
    return 0


def _noted(found: str, entries: Sequence[Mapping[str, Any]], named: str, where: Path) -> int:
    """Say what was found, and the first of what was rejected; the exit code: 1 where all was.

    named: the field of an entry that names it. where: the file that lists them all.
    """
    lost = [entry for entry in entries if "reject" in entry]
    note(f"{found}; {len(lost)} rejected" + (f", see {where}" if lost else ""))
    for entry in lost[:FEW]:
        note(f"rejected: {entry[named]}: {entry['detail']}")
    if len(lost) > FEW:
        note(f"rejected: {len(lost) - FEW} more")
    return 1 if len(lost) == len(entries) else 0


COMMANDS: dict[str, Command] = {
    "split": (SplitCommand, split, "videos -> clips of one shot each"),
    "score": (ScoreCommand, score, "clips -> motion, text, sharpness, fingerprints"),
    "select": (SelectCommand, select, "scored clips -> a folder of those that pass, for training"),
    "info": (InfoCommand, info, "quantiles, histograms, sheets of what thresholds drop"),
}


def clips(arguments: list[str]) -> int:
    """Run one of the commands above; the exit code."""
    return run_group("clips", "Curation of video clips, from videos to a training set.", COMMANDS, arguments)
