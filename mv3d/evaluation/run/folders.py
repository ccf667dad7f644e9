"""The folders of an evaluation: per object the truth and the generated views, each complete or absent.

OUT/truth/UID, OUT/generated/UID: views folders with a record of the settings behind them (object.json). Both hold the
truth's cameras, which the model was asked for up to a scale that it cannot know.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mv3d.core.outputs import Output
from mv3d.core.records import RunRecord, RunStatus, read_record, run_status
from mv3d.evaluation.image_sets import ImageSet, image_set
from mv3d.orbits.config import sha256_of_json
from mv3d.render.trajectories import load_orbit
from mv3d.views.folder import VIEW_FILES, write_views
from mv3d.views.images import read_rgba, stack_frames
from mv3d.views.views import Views

RECORD = "object.json"


def write_object(
    views: Views,
    target: Path,
    *,
    overwrite: bool,
    command: str,
    settings: Mapping[str, Any],
    input_sha256: str,
    seconds: Mapping[str, float] | None = None,
    **details: Any,
) -> None:
    """A views folder with its record. Raises OutputError, also where files of other origin are in the way or, without
    `overwrite`, changed ones."""
    output = Output(target, RECORD, VIEW_FILES, overwrite=overwrite, resumes=True)
    with output.opened() as folder:
        write_views(views, folder)
        record = RunRecord.of(
            command, input_sha256=input_sha256, details=details, settings=settings, seconds=seconds
        )
        output.publish(folder, record)


def is_current(folder: Path, *, settings: Mapping[str, Any], input_sha256: str) -> bool:
    """True if the folder is the complete result of these settings and this input."""
    status = run_status(folder / RECORD, settings=settings, input_sha256=input_sha256)
    return status is RunStatus.DONE


def facts_of(folder: Path) -> Mapping[str, Any]:
    """The details of the record; empty if there is none."""
    record = read_record(folder / RECORD)
    return {} if record is None else record.details


def views_digest(folder: Path) -> str:
    """The hash of a folder's images and cameras, from its record; "" if there is none."""
    record = read_record(folder / RECORD)
    outputs = {} if record is None else record.outputs
    return sha256_of_json([outputs["images"], outputs["transforms.json"]]) if outputs else ""


def read_pictures(folder: Path) -> ImageSet:
    """Read a folder of `write_object`. Raises InputError if it is damaged.

    Unlike `read_image_set` this accepts empty views: a model that generates one scores badly, it is not left out.
    """
    orbit = load_orbit(folder / "transforms.json")
    files = [folder / "images" / f"{index:03d}.png" for index in range(len(orbit.azimuths_deg))]
    images = stack_frames([read_rgba(file) for file in files], str(folder))
    cameras = orbit.cameras(images.shape[2], images.shape[1])
    return image_set(Views(images, cameras, orbit, orbit.input_view), with_alpha=True)
