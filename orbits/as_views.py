"""One object, or one sample of a data set, as a views folder with its true cameras."""

from __future__ import annotations

import difflib
import hashlib
import io
import os
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mv3d.core.errors import InputError, UsageError, shown
from mv3d.core.files import sha256
from mv3d.core.outputs import Output
from mv3d.core.records import RunRecord, RunStatus, read_record, run_status
from mv3d.orbits.catalogue import SUFFIXES, CatalogueItem, safe_uid
from mv3d.orbits.config import OrbitConfig, identity
from mv3d.orbits.gate import ANYTHING
from mv3d.orbits.index import PIXELS, read_index
from mv3d.orbits.jobs import decode_frame, render_object
from mv3d.orbits.reading import sample_document
from mv3d.orbits.sample import Sample
from mv3d.orbits.shards import END_OF_TAR, Shard
from mv3d.render.cameras import Orbit
from mv3d.render.load_warnings import LoadWarning
from mv3d.views.folder import VIEW_FILES, write_views
from mv3d.views.views import Views

RECORD = "run.json"


@dataclass(frozen=True)
class ViewsResult:
    """record: the content of run.json. already_done: nothing was computed."""

    out_dir: Path
    record: dict[str, Any]
    already_done: bool = False


def write_orbit_views(
    source: str | os.PathLike[str],
    out_dir: str | os.PathLike[str],
    config: OrbitConfig | None = None,
    *,
    uid: str | None = None,
    overwrite: bool = False,
) -> ViewsResult:
    """What `mv3d orbits views` does: views of a 3D file or, with `uid`, those of a sample of a folder of shards.

    The world is that of the sample: the object centred, its largest side 1, as run.json says under "normalization".
    config: of the rendering of a file; by default 21 views at an elevation of 10 degrees.
    Raises InputError, UsageError, OutputError, and `mv3d.orbits.gate.Rejected` for an object that cannot be seen.
    """
    config = (config or OrbitConfig(views=21, elevation_deg=(10.0, 10.0), gate=ANYTHING)).resolved()
    members: dict[str, memoryview] = {}
    source, out_dir = Path(source), Path(out_dir)
    if source.is_dir():
        members = _sample_of(source, uid)
        settings: dict[str, Any] = {"uid": uid}
        digest = hashlib.sha256(b"".join(members.values())).hexdigest()
    else:
        if uid is not None:
            raise UsageError(f"--uid: expected none beside a file; {source} holds one object")
        if source.suffix.lower() not in SUFFIXES or not source.is_file():
            raise InputError(f"{source}: expected a folder of shards or a {', '.join(SUFFIXES)} file")
        settings, digest = identity(config), sha256(source)
    path = out_dir / RECORD
    if not overwrite:
        status = run_status(path, settings=settings, input_sha256=digest)
        if status is RunStatus.DONE and (record := read_record(path)):
            return ViewsResult(out_dir, record.document(), already_done=True)
    output = Output(out_dir, RECORD, VIEW_FILES, (source,), overwrite)
    with output.opened() as staged:
        views, facts = (
            views_of(members)
            if members
            else read_sample(render_object(CatalogueItem(safe_uid(source.stem), source), config))
        )
        write_views(views, staged)
        record = RunRecord.of(
            "orbits views",
            input=str(source),
            input_sha256=digest,
            details=facts,
            settings=settings,
        )
        record = output.publish(staged, record)
    return ViewsResult(out_dir, record.document())


def read_sample(sample: Sample) -> tuple[Views, dict[str, Any]]:
    """The views of a rendered orbit, and the facts about its object, light and cameras."""
    members: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(sample.fragment + END_OF_TAR)) as tar:
        for member in tar:
            stream = tar.extractfile(member)
            assert stream is not None, "a fragment holds plain files only"
            members[member.name.partition(".")[2]] = stream.read()
    return views_of(members)


def views_of(members: Mapping[str, bytes | memoryview]) -> tuple[Views, dict[str, Any]]:
    """The same of the files of a sample, by what follows its key. Raises InputError where they are damaged."""
    document = sample_document(members)
    try:
        cameras = document["cameras"]
        orbit = Orbit.from_dict(cameras)
        frames = [decode_frame(members[f"{n:03d}.webp"]) for n in range(len(orbit.azimuths_deg))]
        images = np.stack(frames).astype(np.float32) / 255
        facts = {key: document[key] for key in ("faces", "normalization", "environment", "renderer")}
        # Shards of earlier versions have none.
        facts["warnings"] = [LoadWarning(**given).document() for given in document.get("warnings", [])]
        facts["cameras"] = orbit.to_dict()
        return Views(images, orbit.cameras(cameras["w"], cameras["h"]), orbit, orbit.input_view), facts
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"sample: expected frames and cameras of mv3d orbits render ({shown(error)})"
        ) from error


def _sample_of(folder: Path, uid: str | None) -> dict[str, memoryview]:
    index = read_index(folder)
    if index is None or index["kind"] != PIXELS:
        raise InputError(f"{folder}: expected a 3D file, or shards of mv3d orbits render; found neither")
    uids: list[str] = []
    for shard in (Shard(folder / entry["name"]) for entry in index["shards"]):
        for number, place in enumerate(shard.places):
            if place.key == uid:
                return shard.members(number)
            uids.append(place.key)
    if uid is None:
        raise UsageError(
            f"--uid: expected one of {len(uids)} samples, such as {', '.join(uids[:3])}; got none"
        )
    near = difflib.get_close_matches(uid, uids, n=2)
    hint = f"; did you mean {' or '.join(near)}?" if near else f", such as {', '.join(uids[:3])}"
    raise InputError(f"--uid {shown(uid)}: expected one of the {len(uids)} samples of {folder}{hint}")
