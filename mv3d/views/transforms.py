"""transforms.json as nerfstudio, instant-ngp and mv3d write it, and transforms_train.json of NeRF-synthetic."""

from __future__ import annotations

import json
import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from mv3d.core.errors import InputError, shown
from mv3d.core.outputs import unchanged
from mv3d.core.records import read_record
from mv3d.render.cameras import Orbit
from mv3d.render.mesh import Mesh
from mv3d.render.mesh_io import load_mesh
from mv3d.views.folder import SOLID_FILE
from mv3d.views.images import stored_size
from mv3d.views.lens import CAMERA_MODELS, Lens
from mv3d.views.posed import PosedFrame, check_count, read_posed
from mv3d.views.views import Views

TRANSFORMS = ("transforms.json", "transforms_train.json")
OTHER_NAMES = {"PERSPECTIVE": "OPENCV", "FISHEYE": "OPENCV_FISHEYE"}
"""Names that camera_model has in other writers' files."""
_MAX_JSON_BYTES = 64_000_000
_COEFFICIENTS = ("k1", "k2", "k3", "k4", "k5", "k6", "p1", "p2")
_NERFSTUDIO = ("k1", "k2", "k3", "k4", "p1", "p2")  # the order of its distortion_params


def read_transforms(path: Path) -> Views:
    """The views of such a file. Raises InputError for anything in it that cannot be used."""
    document = _read_json(path)
    frames = document.get("frames")
    if not isinstance(frames, list) or not all(isinstance(frame, dict) for frame in frames):
        raise InputError(f'{path}: expected "frames": a list of objects with file_path and transform_matrix')
    check_count(path, len(frames))
    root = path.parent
    with_mask = [frame for frame in frames if frame.get("mask_path")]
    if with_mask and len(with_mask) != len(frames):
        raise InputError(
            f"{path}: expected mask_path in all frames or in none, got it in {len(with_mask)} of {len(frames)}"
        )
    posed = []
    for index, frame in enumerate(frames):
        image = file_inside(root, frame.get("file_path"), path, index)
        mask = file_inside(root, frame["mask_path"], path, index) if with_mask else None
        where = f"{path}: frame {index}"
        lens = _lens({**document, **frame}, stored_size(image)[:2], where)
        posed.append(PosedFrame(image, mask, _pose(frame, where), lens, where))
    orbit = _orbit(document.get("orbit"), len(frames), path)
    views = read_posed(posed, path, root, made_here=orbit is not None)
    return replace(views, orbit=orbit, input_view=orbit.input_view if orbit else None, solid=_solid(path))


def _solid(path: Path) -> Mesh | None:
    """The prior.glb that was made with these very views, by the record beside them."""
    folder = path.parent
    record = read_record(folder / "run.json") if (folder / SOLID_FILE).is_file() else None
    if record is None or not {path.name, SOLID_FILE} <= set(unchanged(folder, record)):
        return None
    return load_mesh(folder / SOLID_FILE)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _MAX_JSON_BYTES:
            raise InputError(
                f"{path}: expected a camera file below {_MAX_JSON_BYTES} bytes, got {path.stat().st_size}"
            )
        document = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: expected JSON, got something cut off or damaged ({error})") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    if not isinstance(document, dict):
        raise InputError(f"{path}: expected a JSON object with frames, got {type(document).__name__}")
    return document


def file_inside(root: Path, name: Any, path: Path, index: int) -> Path:
    """The file that a frame names, with slashes of either kind, refused where it leads out of the folder, by .. or by a
    link."""
    if isinstance(name, str) and "\\" in name and not os.path.exists(root / name):
        name = name.replace("\\", "/")
    if not isinstance(name, str) or not Path(name).name or "\0" in name:
        raise InputError(f"{path}: frame {index}: expected a file_path, got {shown(repr(name))}")
    target = root / name
    if not target.suffix:
        target = target.with_name(target.name + ".png")  # NeRF-synthetic leaves the suffix out
    try:
        inside = not Path(name).is_absolute() and target.resolve().is_relative_to(root.resolve())
        there = inside and target.is_file()
    except (OSError, ValueError):  # too long for the file system, or no text
        inside, there = True, False
    if there:
        return target
    if inside:
        raise InputError(
            f"{path}: frame {index}: {shown(name)} does not exist; restore it or remove the frame"
        )
    raise InputError(
        f"{path}: frame {index}: expected a file inside {root}, got {shown(name)}; copy the images into the folder"
    )


def _pose(frame: dict[str, Any], where: str) -> Float[np.ndarray, "4 4"]:
    try:
        pose = np.array(frame["transform_matrix"], np.float64)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{where}: expected transform_matrix as 4x4 numbers, got none") from error
    if pose.shape == (3, 4):
        pose = np.vstack([pose, [0, 0, 0, 1]])
    if pose.shape != (4, 4):
        raise InputError(f"{where}: expected transform_matrix of shape 4x4, got {pose.shape}")
    return pose


def _lens(values: dict[str, Any], size: tuple[int, int], where: str) -> Lens:
    """values: of the frame over the shared ones. size: of the image on disk, where no w and h are given."""
    model = values.get("camera_model", "OPENCV")
    model = OTHER_NAMES.get(model, model) if isinstance(model, str) else model
    if values.get("is_fisheye"):  # instant-ngp
        model = "OPENCV_FISHEYE"
    if model not in CAMERA_MODELS:
        raise InputError(
            f"{where}: expected a camera_model of {', '.join(CAMERA_MODELS)}, got {shown(model)}; undistort the images first"
        )
    try:
        width, height = float(values.get("w") or size[0]), float(values.get("h") or size[1])
        focal_x, focal_y = _focal(values, "x", width), _focal(values, "y", height)
        if focal_x is None:
            raise InputError(f"{where}: expected fl_x or camera_angle_x, got neither; add the intrinsics")
        numbers = {
            "fl_x": focal_x,
            "fl_y": focal_x if focal_y is None else focal_y,
            "cx": float(values.get("cx", width / 2)),
            "cy": float(values.get("cy", height / 2)),
        }
        if values.get("distortion_params") is not None:
            numbers |= dict(zip(_NERFSTUDIO, map(float, values["distortion_params"]), strict=False))
        numbers |= {name: float(values[name]) for name in _COEFFICIENTS if values.get(name) is not None}
    except (TypeError, ValueError, OverflowError, ZeroDivisionError) as error:
        raise InputError(f"{where}: expected intrinsics as numbers ({shown(error)})") from error
    if not (0 < width < math.inf and 0 < height < math.inf):
        raise InputError(f"{where}: expected w and h in pixels, got {width:g}x{height:g}")
    return checked_lens(model, numbers, width, height, where)


def checked_lens(model: str, numbers: dict[str, float], width: float, height: float, where: str) -> Lens:
    """`Lens.of`. Raises InputError for numbers that are no lens's."""
    lens = Lens.of(model, numbers, width, height)
    if not (
        0 < lens.fl_x < math.inf and 0 < lens.fl_y < math.inf and all(map(math.isfinite, numbers.values()))
    ):
        raise InputError(
            f"{where}: expected finite intrinsics and positive focal lengths, got {lens.fl_x:g}, {lens.fl_y:g}"
        )
    return lens


def _focal(values: dict[str, Any], axis: str, size: float) -> float | None:
    if values.get(f"fl_{axis}") is not None:
        return float(values[f"fl_{axis}"])
    angle = values.get(f"camera_angle_{axis}")
    return None if angle is None else 0.5 * size / math.tan(float(angle) / 2)


def _orbit(block: Any, count: int, path: Path) -> Orbit | None:
    if block is None:
        return None
    try:
        orbit = Orbit.from_dict(block)
    except InputError as error:
        raise InputError(f"{path}: {error}; remove the block if unsure") from error
    if len(orbit.azimuths_deg) != count:
        raise InputError(
            f"{path}: orbit: expected {count} angles, got {len(orbit.azimuths_deg)}; remove the block if unsure"
        )
    return orbit
