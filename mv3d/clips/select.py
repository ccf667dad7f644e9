"""`mv3d clips select`: which scored clips to keep, and a folder of them that `mv3d train --preset lora` reads.

The folder afterwards:
    *.mp4            the clips: links to the same files where the disk allows, copies elsewhere
    dropped.jsonl    clip, filter, value and threshold of what went
    selection.json   settings, thresholds, the count after each filter, and the clips by name
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mv3d.clips.config import FILTERS, SelectConfig, flat
from mv3d.clips.ledger import read_ledger
from mv3d.clips.pictures import distances
from mv3d.clips.score import COMMAND as SCORED_BY
from mv3d.clips.score import SCORES
from mv3d.clips.video import is_video
from mv3d.core.errors import InputError, OutputError, UsageError
from mv3d.core.files import atomic_path, to_json, write_text
from mv3d.core.locking import folder_lock
from mv3d.core.outputs import refuse_named

SELECTION, DROPPED = "selection.json", "dropped.jsonl"
_SCHEMA = 1
_COMMAND = "clips select"


@dataclass(frozen=True)
class Dropped:
    """value: the clip's score, or for a copy the clip that it is like. threshold: what it was held against."""

    clip: str
    filter: str
    value: float | str | None
    threshold: float | str | None


@dataclass(frozen=True)
class Selection:
    """kept: names. thresholds: the value of each filter that was applied. funnel: (filter, clips left after it)."""

    kept: tuple[str, ...]
    dropped: tuple[Dropped, ...]
    thresholds: Mapping[str, float]
    funnel: tuple[tuple[str, int], ...]


def read_scores(folder: Path) -> dict[str, dict[str, Any]]:
    """Lines of scores.jsonl of the clips that are in the folder. Raises InputError."""
    _, entries = read_ledger(folder / SCORES, SCORED_BY, key="clip")
    there = {name: entry for name, entry in sorted(entries.items()) if (folder / name).is_file()}
    if not there:
        raise InputError(f"{folder}: expected scored clips, found none; run mv3d {SCORED_BY} first")
    return there


def values_of(scores: Mapping[str, Mapping[str, Any]], name: str) -> dict[str, float]:
    """The score that a filter looks at, by clip; clips without it are left out."""
    key = FILTERS[name].score
    return {clip: float(entry[key]) for clip, entry in scores.items() if entry.get(key) is not None}


def threshold_at(values: Mapping[str, float], share: float, *, least: bool) -> float:
    """The value at which the worst `share` of all clips ends: the quantile, without interpolation."""
    ordered = np.sort(np.array(list(values.values())))
    ordered = ordered if least else ordered[::-1]
    return float(ordered[int(share * len(ordered))])


def select(scores: Mapping[str, Mapping[str, Any]], config: SelectConfig) -> Selection:
    """Apply the filters; shares are of all clips that could be read, whatever other filters drop.

    Raises UsageError where a filter is asked for by value and the clips have no such score.
    """
    dropped = [
        Dropped(clip, "readable", entry["reject"], None)
        for clip, entry in scores.items()
        if "reject" in entry
    ]
    left = {clip: entry for clip, entry in scores.items() if "reject" not in entry}
    whole, thresholds, funnel = dict(left), {}, [("scored", len(scores)), ("readable", len(left))]
    for name, asked in config.thresholds().items():
        values = values_of(whole, name)
        if asked.share is None and asked.value is None:
            continue
        if len(values) < len(whole):
            if asked.value is not None:
                raise UsageError(
                    f"--{name}: {len(whole) - len(values)} clips have no such score; score them with it"
                )
            continue
        if not values:
            continue
        least = FILTERS[name].least
        limit = (
            asked.value if asked.value is not None else threshold_at(values, asked.share or 0.0, least=least)
        )
        thresholds[name] = limit
        bad = [clip for clip in left if (values[clip] < limit if least else values[clip] > limit)]
        dropped += [Dropped(clip, name, values[clip], limit) for clip in bad]
        for clip in bad:
            del left[clip]
        funnel.append((name, len(left)))
    if config.kinds:
        for clip in [clip for clip, entry in left.items() if entry["kind"] not in config.kinds]:
            dropped.append(Dropped(clip, "kinds", str(left.pop(clip)["kind"]), " ".join(config.kinds)))
        funnel.append(("kinds", len(left)))
    if config.duplicates >= 0:
        for clip, first in copies(left, config.duplicates).items():
            del left[clip]
            dropped.append(Dropped(clip, "duplicates", first, config.duplicates))
        funnel.append(("duplicates", len(left)))
    return Selection(tuple(sorted(left)), tuple(dropped), thresholds, tuple(funnel))


def copies(scores: Mapping[str, Mapping[str, Any]], share: float) -> dict[str, str]:
    """Clips like another one, with that one's name: the larger picture stays, then the longer clip, then the first name."""
    order = sorted(scores, key=lambda c: (-scores[c]["width"] * scores[c]["height"], -scores[c]["frames"], c))
    kept: list[str] = []
    prints: list[str] = []
    found: dict[str, str] = {}
    for clip in order:
        mine = str(scores[clip]["fingerprint"])
        gaps = distances(prints, mine) if prints else np.ones(1)
        if gaps.min() <= share:
            found[clip] = kept[int(gaps.argmin())]
        else:
            kept.append(clip)
            prints.append(mine)
    return found


def write_selection(
    folder: str | os.PathLike[str],
    out: str | os.PathLike[str],
    config: SelectConfig | None = None,
    *,
    overwrite: bool = False,
) -> Selection:
    """Select among the scored clips of a folder and put the kept ones into `out`.

    The same call again goes on where an earlier one ended. Raises InputError without scores, OutputError where `out` holds
    another selection and `overwrite` is not set, or clips that no selection lists.
    """
    folder, out, config = Path(folder), Path(out), config or SelectConfig()
    if folder.resolve() == out.resolve():
        raise UsageError(f"--out {out}: is the folder of the clips themselves; choose another --out")
    selection = select(read_scores(folder), config)
    document = {
        "schema": _SCHEMA,
        "command": _COMMAND,
        "clips_from": str(folder),
        "settings": flat(config),
        "thresholds": dict(selection.thresholds),
        "funnel": [list(row) for row in selection.funnel],
        "clips": list(selection.kept),
    }
    with folder_lock(out, (SELECTION, DROPPED)):
        earlier = _earlier(out / SELECTION)
        before = earlier.get("clips", [])
        refuse_named(out, sorted({p.name for p in out.iterdir() if is_video(p)} - set(before)))
        if (
            earlier
            and not overwrite
            and any(earlier.get(k) != document[k] for k in ("settings", "clips_from"))
        ):
            raise OutputError(
                f"{out}: holds a selection with other settings; use --overwrite to replace it, or choose another --out"
            )
        # Until the end it lists both selections, so that a run that is killed leaves nothing that is nobody's.
        both = sorted({*before, *selection.kept})
        write_text(out / SELECTION, to_json(document | {"finished": False, "clips": both}))
        for name in set(before) - set(selection.kept):
            (out / name).unlink(missing_ok=True)
        for name in selection.kept:
            _link(folder / name, out / name)
        lines = [json.dumps(vars(line)) for line in selection.dropped]
        write_text(out / DROPPED, "".join(f"{line}\n" for line in lines))
        write_text(out / SELECTION, to_json(document | {"finished": True}))
    return selection


def _earlier(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        document = None
    if not isinstance(document, dict) or document.get("command") != _COMMAND:
        raise OutputError(f"{path}: is none of mv3d {_COMMAND}; move it, or choose another --out")
    return document


def _link(source: Path, target: Path) -> None:
    if target.exists() and (
        os.path.samefile(source, target) or target.stat().st_size == source.stat().st_size
    ):
        return
    with atomic_path(target) as part:
        try:
            os.link(source, part)
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EPERM, errno.ENOTSUP, errno.EMLINK):
                raise
            shutil.copy2(source, part)
