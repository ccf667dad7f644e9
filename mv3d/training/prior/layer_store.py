"""Shards with geometry → arrays that are mapped into memory: frames, and the layered depth of every view.

One folder a shard, named by its hash, so that runs on the same data may share them:

shard-000000-0123456789ab/
  rgba.npy      (n, v, s, s, 4) uint8, straight alpha
  layers.npy    (n, v, 4, d, d) uint8, `layered_depth` of each view in steps; 0 where there is none
  cameras.npy   (n, v, 3) float32: elevation and azimuth in degrees, distance
  uids.json
"""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from mv3d.core.errors import InputError, shown
from mv3d.core.files import atomic_path
from mv3d.models.prior.layers import RANGE
from mv3d.orbits.geometry import read_geometry
from mv3d.orbits.index import INDEX, PIXELS, read_index
from mv3d.orbits.jobs import decode_frame
from mv3d.orbits.layered_depth import layered_depth
from mv3d.orbits.reading import sample_document
from mv3d.orbits.shards import Shard
from mv3d.render.cameras import SV3D_FOV_DEG, orbit_cameras

FOLDER = "layers"
FILES = re.compile(r"[\w.-]+-[0-9a-f]{12}/((rgba|layers|cameras)\.npy|uids\.json)")
"""Files of a store, relative to its folder."""
_STEPS = 254  # of the depths that are kept, 1 to 255
_MADE_HERE = "give shards of: mv3d orbits render --geometry --trajectory random"


@dataclass(frozen=True)
class GeometryShards:
    """A data set that a prior can be trained on. shards: (path, sha256) of those that are there."""

    folder: Path
    shards: tuple[tuple[Path, str], ...]
    views: int
    size: int
    elevations_deg: tuple[float, float]
    """Range of the cameras."""
    licences: dict[str, int]


def geometry_shards(folder: Path) -> GeometryShards:
    """Check a data set by its index. Raises InputError where it has no geometry, one view, or other cameras."""
    index = read_index(folder)
    if index is None or index.get("kind") != PIXELS:
        raise InputError(f"--data {folder}: expected {INDEX} of mv3d orbits render, found none; {_MADE_HERE}")
    config = index.get("config", {})
    if not config.get("geometry"):
        raise InputError(f"--data {folder}: expected geometry beside the views, found none; {_MADE_HERE}")
    if config.get("fov_deg") != SV3D_FOV_DEG:
        raise InputError(
            f"--data {folder}: expected a field of view of {SV3D_FOV_DEG} degrees, as photos are framed, got "
            f"{shown(config.get('fov_deg'))}; render with --fov {SV3D_FOV_DEG}"
        )
    if not isinstance(views := config.get("views"), int) or views < 2:
        raise InputError(
            f"--data {folder}: expected 2 views or more of an object, got {shown(views)}; {_MADE_HERE}"
        )
    found = []
    for shard in index["shards"]:
        path = folder / shard["name"]
        if path.is_file() and path.stat().st_size == shard["bytes"]:
            found.append((path, str(shard["sha256"])))
        else:
            warnings.warn(f"{folder}: left out: {shard['name']}: missing or cut off", stacklevel=2)
    if not found:
        raise InputError(f"--data {folder}: expected at least one shard that can be read, found none")
    return GeometryShards(
        folder, tuple(found), views, int(config["size"]), _elevations(config), dict(index["licences"])
    )


def _elevations(config: dict[str, Any]) -> tuple[float, float]:
    try:
        low, high = map(float, config["elevation_deg"])
    except (KeyError, TypeError, ValueError):
        low = high = float("nan")
    return (low, high) if -90 <= low <= high <= 90 else (-89.0, 89.0)


def build_store(
    data: GeometryShards,
    folder: Path,
    *,
    workers: int = 0,
    progress: Callable[[int, int, dict[str, float]], None] | None = None,
) -> list[Path]:
    """Make the arrays of the shards that have none yet; the folders in the order of the shards.

    workers: processes. A folder appears when it is whole: a run that was cut off goes on with the next shard. Raises
    InputError where no sample of a shard can be used, OutputError where the disk is full.
    """
    jobs = [(path, folder / f"{path.stem}-{digest[:12]}", data.views) for path, digest in data.shards]
    missing = [job for job in jobs if not job[1].is_dir()]
    folder.mkdir(parents=True, exist_ok=True)
    with _mapped(min(workers, len(missing))) as mapped:
        for done, _ in enumerate(mapped(_build, missing), 1):
            if progress:
                progress(done, len(missing), {})
    return [target for _, target, _ in jobs]


@contextmanager
def _mapped(workers: int) -> Iterator[Callable[..., Iterator[None]]]:
    if workers < 2:
        yield map
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        yield pool.map


def _build(job: tuple[Path, Path, int]) -> None:
    path, target, views = job
    shard, kept = Shard(path), []
    for number in range(len(shard)):
        try:
            kept.append(_arrays(shard.members(number), views))
        except InputError as error:
            warnings.warn(f"sample {number} of {path.name} left out: {error}", stacklevel=2)
    shapes = {(sample.rgba.shape, sample.layers.shape) for sample in kept}
    if len(shapes) != 1:
        what = "a sample with geometry, found none" if not kept else "views of one size, got several"
        raise InputError(f"{path}: expected {what}; {_MADE_HERE}")
    with atomic_path(target, hint="free some space, or give another folder as --layers") as part:
        part.mkdir()
        for name in ("rgba", "layers", "cameras"):
            np.save(part / f"{name}.npy", np.stack([getattr(sample, name) for sample in kept]))
        (part / "uids.json").write_text(json.dumps([sample.uid for sample in kept]), encoding="utf-8")


@dataclass(frozen=True, eq=False)
class ObjectViews:
    """One object as it is kept; see the head of this module."""

    uid: str
    rgba: UInt8[np.ndarray, "v s s 4"]
    layers: UInt8[np.ndarray, "v 4 d d"]
    cameras: Float[np.ndarray, "v 3"]


def _arrays(members: dict[str, memoryview], views: int) -> ObjectViews:
    """Raises InputError for a sample without geometry or with other cameras."""
    document = sample_document(members)
    geometry = read_geometry(document, members)
    try:
        cameras, uid = document["cameras"], str(document["uid"])
        radius, fov = float(cameras["radius"]), float(cameras["fov_deg"])
        angles = np.array([cameras["elevations_deg"], cameras["azimuths_deg"]], np.float64)
        frames = [decode_frame(members[f"{view:03d}.webp"]) for view in range(views)]
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise InputError(f"expected {views} views with cameras ({shown(error)})") from error
    if angles.shape != (2, views) or fov != SV3D_FOV_DEG or not np.isfinite(angles).all() or not radius > 0:
        raise InputError(f"expected {views} cameras of {SV3D_FOV_DEG} degrees, got others")
    if len({frame.shape for frame in frames}) != 1 or geometry.depth.shape[1] != geometry.depth.shape[2]:
        raise InputError("expected square views of one size, got others")
    if not all((frame[..., 3] > 127).any() for frame in frames):
        raise InputError("expected the object in every view, found an empty one")
    height, width = geometry.depth.shape[1:]
    orbit = orbit_cameras(
        angles[0], angles[1], radius=radius, fov_deg=SV3D_FOV_DEG, width=width, height=height
    )
    layers = [layered_depth(geometry.solid, orbit, view, geometry.depth[view]) for view in range(views)]
    placed = np.column_stack([*angles, np.full(views, radius)]).astype(np.float32)
    return ObjectViews(uid, np.stack(frames), quantized(np.stack(layers), radius), placed)


def quantized(layers: Float[np.ndarray, "*b"], distance: float) -> UInt8[np.ndarray, "*b"]:
    """World lengths along the axis → 1 to 255 within `RANGE` of the distance; 0 stays. A step is .0027 distances."""
    steps = (layers / distance - (1 - RANGE)) / (2 * RANGE) * _STEPS + 1
    return np.where(layers > 0, np.clip(np.round(steps), 1, 255), 0).astype(np.uint8)


def dequantized(steps: UInt8[np.ndarray, "*b"]) -> Float[np.ndarray, "*b"]:
    """The inverse of `quantized`, as multiples of the distance; what 0 becomes means nothing."""
    relative = (steps.astype(np.float32) - 1) * (2 * RANGE / _STEPS) + (1 - RANGE)
    return relative.astype(np.float32)


class LayerStore:
    """The arrays of several folders as one sequence of objects. Raises InputError where a folder cannot be read."""

    _OPEN = 200  # folders; each holds two file descriptors

    def __init__(self, folders: list[Path]) -> None:
        self.folders = folders
        self.uids: list[str] = []
        self._places: list[tuple[int, int]] = []
        for number, folder in enumerate(folders):
            try:
                uids = json.loads((folder / "uids.json").read_text(encoding="utf-8"))
            except (OSError, ValueError) as error:
                raise InputError(f"{folder}: cannot be read ({shown(error)}); remove it") from error
            self.uids += [str(uid) for uid in uids]
            self._places += [(number, row) for row in range(len(uids))]
        self._open: dict[int, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}

    def __len__(self) -> int:
        return len(self._places)

    def object(self, number: int) -> ObjectViews:
        """Raises InputError where its arrays are damaged."""
        folder, row = self._places[number]
        arrays = self._open.pop(folder, None) or self._opened(self.folders[folder])
        self._open[folder] = arrays  # the latest one last
        while len(self._open) > self._OPEN:
            self._open.pop(next(iter(self._open)))
        rgba, layers, cameras = (np.array(array[row]) for array in arrays)
        return ObjectViews(self.uids[number], rgba, layers, cameras)

    @staticmethod
    def _opened(folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        try:
            rgba, layers, cameras = (
                np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
                for name in ("rgba", "layers", "cameras")
            )
        except (OSError, ValueError, EOFError) as error:
            raise InputError(f"{folder}: cannot be read ({shown(error)}); remove it") from error
        return rgba, layers, cameras

    def __getstate__(self) -> dict[str, Any]:
        # Memory maps stay with their process; another one opens its own.
        return {**self.__dict__, "_open": {}}


def store_folder(out: Path, layers: str | os.PathLike[str], parts: str) -> Path:
    """Where the arrays of a run lie: in the folder that was asked for, or in the run's own."""
    return Path(layers) if layers else out / parts / FOLDER
