"""The folders of an evaluation: per object the truth and the generated views, each complete or absent.

OUT/truth/UID, OUT/generated/UID: views folders with a record of the settings behind them (object.json). Both hold the
truth's cameras, which the model was asked for up to a scale that it cannot know.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mv3d.core.outputs import Output
from mv3d.core.records import RunRecord, RunStatus, read_record, run_status
from mv3d.evaluation.image_sets import ImageSet, image_set
from mv3d.orbits.config import sha256_of_json
from mv3d.orbits.jobs import decode_frame
from mv3d.orbits.sample import Sample
from mv3d.orbits.shards import END_OF_TAR
from mv3d.render.cameras import Orbit
from mv3d.render.trajectories import load_orbit
from mv3d.views.folder import VIEW_FILES, write_views
from mv3d.views.images import read_rgba, stack_frames
from mv3d.views.views import Views

RECORD = "object.json"


def read_sample(sample: Sample) -> tuple[Views, dict[str, Any]]:
    """The views of a rendered orbit, and the facts about its object, light and cameras."""
    members: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(sample.fragment + END_OF_TAR)) as tar:
        for member in tar:
            stream = tar.extractfile(member)
            assert stream is not None, "a fragment holds plain files only"
            members[member.name.partition(".")[2]] = stream.read()
    document = json.loads(members["json"])
    cameras = document["cameras"]
    orbit = Orbit.from_dict(cameras)
    frames = [decode_frame(members[f"{n:03d}.webp"]) for n in range(len(orbit.azimuths_deg))]
    images = np.stack(frames).astype(np.float32) / 255
    facts = {key: document[key] for key in ("faces", "normalization", "environment", "renderer")}
    facts["cameras"] = orbit.to_dict()
    return Views(images, orbit.cameras(cameras["w"], cameras["h"]), orbit, orbit.input_view), facts


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
