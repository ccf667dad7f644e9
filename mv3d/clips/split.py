"""`mv3d clips split`: videos → clips of one shot each.

The folder afterwards:
    NAME-1a2b3c-000.mp4 …   the clips; 1a2b3c are digits of the hash of the video's path in its folder
    split.jsonl             a line for each video: its clips with their frames, or why there are none
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mv3d.clips.config import SplitConfig, flat
from mv3d.clips.cuts import SIDE, find_boundaries, shots
from mv3d.clips.ledger import Ledger, read_ledger
from mv3d.clips.parts import opencv, scene_detectors
from mv3d.clips.video import Writer, is_video, pictures_of, probe
from mv3d.clips.work import VideoItem, work_through
from mv3d.core.errors import InputError, UsageError
from mv3d.core.files import discard, replace, staging
from mv3d.core.locking import folder_lock
from mv3d.core.outputs import refuse_named
from mv3d.core.progress import ObjectProgress
from mv3d.orbits.infrastructure.isolate import Limits
from mv3d.orbits.sample import Outcome, Reject, Sample

SPLIT, COMMAND = "split.jsonl", "clips split"
_UNSAFE = re.compile(r"[^\w.-]+")
_NUMBER = re.compile(r"-\d{3,}\.mp4$")


@dataclass(frozen=True)
class SplitResult:
    """entries: lines of split.jsonl, in the order of the videos. new: of them, made in this run."""

    out_dir: Path
    entries: tuple[dict[str, Any], ...]
    new: int

    @property
    def clips(self) -> list[Path]:
        return [self.out_dir / clip["name"] for entry in self.entries for clip in entry.get("clips", ())]


def split_videos(
    sources: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    config: SplitConfig | None = None,
    *,
    workers: int = 1,
    limits: Limits | None = None,
    overwrite: bool = False,
    progress: ObjectProgress | None = None,
) -> SplitResult:
    """Cut videos, and all below folders of them, into clips. The same call goes on where an earlier one ended.

    Raises InputError where there is no video, OutputError where `out` holds other videos or clips of other settings,
    MissingPartError without the extra `clips`. A video that cannot be read costs one line.
    """
    config, out = config or SplitConfig(), Path(out)
    opencv()
    scene_detectors()
    videos = find_videos(sources, out)
    with folder_lock(out, (SPLIT,)):
        names = {uid for uid, _ in videos}
        there = [p.name for p in sorted(out.iterdir()) if is_video(p)]
        if (out / SPLIT).exists():
            _, earlier = read_ledger(out / SPLIT, COMMAND, key="uid")
            listed = {clip["name"] for entry in earlier.values() for clip in entry.get("clips", ())}
            refuse_named(out, [n for n in there if n not in listed and _NUMBER.sub("", n) not in names])
            if overwrite:
                discard(out, (SPLIT, *there))
        else:
            refuse_named(out, there)
        ledger = Ledger(out / SPLIT, COMMAND, flat(config), key="uid")
        todo = [(uid, path) for uid, path in videos if not _is_done(ledger.entries.get(uid), path, out)]
        with staging(out) as aside:
            items = [VideoItem(uid, path, aside) for uid, path in todo]

            def keep(item: VideoItem, outcome: Outcome) -> None:
                entry = {"uid": item.uid, "video": str(item.path), "bytes": item.path.stat().st_size}
                if isinstance(outcome, Reject):
                    ledger.append(entry | {"reject": outcome.reason, "detail": outcome.detail})
                    return
                clips = outcome.summary["clips"]
                before = ledger.entries.get(item.uid, {}).get("clips", ())
                for clip in clips:
                    replace(aside / clip["name"], out / clip["name"])
                for old in {c["name"] for c in before} - {c["name"] for c in clips}:
                    (out / old).unlink(missing_ok=True)
                ledger.append(entry | dict(outcome.summary))

            rejected = sum("reject" in ledger.entries[u] for u, _ in videos if u in ledger.entries)
            work_through(
                items, split_one, config, keep, workers=workers, limits=limits or Limits(),
                done=len(videos) - len(todo), rejected=rejected, progress=progress,
            )  # fmt: skip
    entries = tuple(ledger.entries[uid] for uid, _ in videos)
    return SplitResult(out, entries, len(todo))


def find_videos(sources: Sequence[str | os.PathLike[str]], out: Path) -> list[tuple[str, Path]]:
    """(uid, path) of every video. Raises InputError where a source holds none, UsageError where `out` lies in one."""
    if not sources:
        raise UsageError("clips split: expected a video or a folder with some, got none")
    found: dict[str, Path] = {}
    for source in map(Path, sources):
        if out.resolve() == source.resolve() or source.resolve() in out.resolve().parents:
            raise UsageError(f"--out {out}: lies in {source}, whose videos are split; choose another --out")
        paths = [source] if source.is_file() else sorted(p for p in source.rglob("*") if is_video(p))
        if not paths:
            raise InputError(f"{source}: expected a video or a folder with some, found none; check the path")
        for path in paths:
            relative = path.name if path == source else path.relative_to(source).as_posix()
            digest = hashlib.sha256(relative.encode("utf-8", "surrogateescape")).hexdigest()[:6]
            uid = f"{_short(_UNSAFE.sub('_', path.stem)).lstrip('.') or 'video'}-{digest}"
            if found.setdefault(uid, path).resolve() != path.resolve():
                raise InputError(
                    f"{path}: has the name of {found[uid]}, and would write the same clips; rename it"
                )
    return list(found.items())


def _short(name: str) -> str:
    """At most 80 letters, and so many bytes that names of clips fit into a file system's 255."""
    return name[:80].encode("utf-8", "surrogateescape")[:235].decode("utf-8", "ignore")


def split_one(item: VideoItem, config: SplitConfig) -> Sample:
    """Find the shots of a video and write them into the item's staging folder. Runs in a child process."""
    assert item.staging is not None, "clips are put aside first"
    info = probe(item.path)
    fps = float(info.fps)
    boundaries, frames = find_boundaries(
        pictures_of(item.path, SIDE), fps, detectors=config.detectors, votes=config.votes
    )
    if not frames:
        raise InputError(f"{item.path}: expected a video, got no frame")
    spans = shots(
        boundaries,
        frames,
        least=max(1, round(config.min_seconds * fps)),
        most=max(1, round(config.max_seconds * fps)),
    )
    clips = []
    for name, start, end in _written(item, config, spans):
        clips.append(
            {"name": name, "first": start, "end": end, "bytes": (item.staging / name).stat().st_size}
        )
    summary = {
        "fps": fps,
        "frames": frames,
        "boundaries": [[b.last, b.first] for b in boundaries],
        "clips": clips,
    }
    return Sample(b"", summary)


def _written(
    item: VideoItem, config: SplitConfig, spans: list[tuple[int, int]]
) -> list[tuple[str, int, int]]:
    """Write all clips in one pass over the video; (name, first frame, end)."""
    assert item.staging is not None
    info, made, waiting = probe(item.path), [], list(enumerate(spans))
    writer: Writer | None = None
    try:
        for number, picture in enumerate(pictures_of(item.path, config.short_side)):
            if not waiting:
                break
            index, (start, end) = waiting[0]
            if not start <= number < end:
                continue
            name = f"{item.uid}-{index:03d}.mp4"
            if writer is None:
                height, width = picture.shape[:2]
                writer = Writer(item.staging / name, width=width, height=height, fps=info.fps, crf=config.crf)
            writer.write(np.asarray(picture))
            if number == end - 1:
                writer.close()
                writer = None
                made.append((name, start, end))
                waiting.pop(0)
    finally:
        if writer is not None:
            writer.abandon()
    return made


def _is_done(entry: dict[str, Any] | None, path: Path, out: Path) -> bool:
    if entry is None or entry["bytes"] != path.stat().st_size:
        return False
    return all(
        (out / clip["name"]).is_file() and (out / clip["name"]).stat().st_size == clip["bytes"]
        for clip in entry.get("clips", ())
    )
