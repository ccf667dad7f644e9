"""`mv3d clips score`: what moves in each clip, what is written in it, how sharp it is. One line a clip in scores.jsonl."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mv3d.clips.config import ScoreConfig, flat
from mv3d.clips.embeddings import caption_of, check_weights, clip_scores
from mv3d.clips.ledger import Ledger
from mv3d.clips.motion import CAMERA_FPS, motion_of
from mv3d.clips.parts import opencv, rapidocr
from mv3d.clips.pictures import fingerprint, sharpness, text_area
from mv3d.clips.video import is_video, pictures_of, probe
from mv3d.clips.work import VideoItem, work_through
from mv3d.core.errors import InputError
from mv3d.core.locking import folder_lock
from mv3d.core.progress import ObjectProgress
from mv3d.orbits.infrastructure.isolate import Limits
from mv3d.orbits.sample import Outcome, Reject, Sample

SCORES, COMMAND = "scores.jsonl", "clips score"
_MOST_GREYS = 2400
"""Frames of a clip that flow is computed of: five minutes."""


@dataclass(frozen=True)
class ScoreResult:
    """entries: lines of scores.jsonl by clip. new: of them, made in this run."""

    path: Path
    entries: dict[str, dict[str, Any]]
    new: int


def score_clips(
    folder: str | os.PathLike[str],
    config: ScoreConfig | None = None,
    *,
    workers: int = 1,
    limits: Limits | None = None,
    overwrite: bool = False,
    progress: ObjectProgress | None = None,
) -> ScoreResult:
    """Score every clip of a folder. The same call goes on where an earlier one ended; changed clips are scored again.

    Raises InputError where there is no clip, OutputError where the folder has scores of other settings, MissingPartError
    without the extra `clips`. A clip that cannot be read costs one line.
    """
    config, folder = config or ScoreConfig(), Path(folder)
    opencv()
    if config.text:
        rapidocr()
    if config.clip is not None:
        check_weights(config.clip, config.aesthetics)
    clips = sorted(p for p in folder.iterdir() if is_video(p)) if folder.is_dir() else []
    if not clips:
        raise InputError(f"{folder}: expected a folder of clips, found no video in it; check the path")
    with folder_lock(folder, (SCORES,)):
        ledger = Ledger(folder / SCORES, COMMAND, flat(config), key="clip", overwrite=overwrite)
        there = {name: entry["bytes"] for name, entry in ledger.entries.items()}
        todo = [VideoItem(p.name, p) for p in clips if there.get(p.name) != p.stat().st_size]

        def keep(item: VideoItem, outcome: Outcome) -> None:
            entry = {"clip": item.uid, "bytes": item.path.stat().st_size}
            if isinstance(outcome, Reject):
                ledger.append(entry | {"reject": outcome.reason, "detail": outcome.detail})
            else:
                ledger.append(entry | dict(outcome.summary))

        old = {p.name for p in clips} - {item.uid for item in todo}
        work_through(
            todo, score_one, config, keep, workers=workers, limits=limits or Limits(),
            done=len(old), rejected=sum("reject" in ledger.entries[name] for name in old), progress=progress,
        )  # fmt: skip
    return ScoreResult(folder / SCORES, {p.name: ledger.entries[p.name] for p in clips}, len(todo))


def score_one(item: VideoItem, config: ScoreConfig) -> Sample:
    """The line of one clip. Runs in a child process."""
    cv2, info = opencv(), probe(item.path)
    fps = float(info.fps)
    step = max(1, round(fps / CAMERA_FPS))
    greys, count = [], 0
    for picture in pictures_of(item.path, config.flow_side):
        if count % step == 0 and len(greys) < _MOST_GREYS:
            greys.append(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY))
        count += 1
    if len(greys) < 2:
        raise InputError(f"{item.path}: expected at least {step + 1} frames, got {count}")
    wanted = sorted({0, count // 2, count - 1})
    chosen = [p for number, p in enumerate(pictures_of(item.path)) if number in wanted]
    motion = motion_of(greys, fps / step)
    summary: dict[str, Any] = {
        "frames": count,
        "fps": fps,
        "seconds": count / fps,
        "width": info.width,
        "height": info.height,
        **{name: _rounded(value) for name, value in vars(motion).items()},
        "text": _rounded(max(text_area(p, config.text_side) for p in chosen)) if config.text else None,
        "sharpness": _rounded(float(np.median([sharpness(p) for p in chosen]))),
        "fingerprint": fingerprint(chosen),
    }
    if config.clip is not None:
        predictor = None if config.aesthetics is None else str(config.aesthetics)
        found = clip_scores(chosen, caption_of(item.path), str(config.clip), predictor)
        # `clip` is the name of the line's clip.
        summary["caption_fit"], summary["aesthetics"] = found["clip"], found["aesthetics"]
    return Sample(b"", summary)


def _rounded(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_rounded(each) for each in value]
    return value if isinstance(value, str) else round(float(value), 6)
