"""Views from what people have: views folders, nerfstudio and NeRF-synthetic folders, orbit videos, frame folders."""

from __future__ import annotations

import json
import math
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from mv3d.core.errors import InputError, Mv3dWarning, UsageError, shown
from mv3d.core.outputs import unchanged
from mv3d.core.records import read_record
from mv3d.core.settings import with_settings
from mv3d.render.cameras import SV3D_RADIUS, Cameras, Orbit, sv3d_azimuths_deg
from mv3d.render.mesh import Mesh
from mv3d.render.mesh_io import load_mesh
from mv3d.views.elevation import estimate_elevation
from mv3d.views.folder import SOLID_FILE
from mv3d.views.images import (
    ANIMATION_SUFFIXES,
    IMAGE_SUFFIXES,
    MAX_FRAMES,
    MAX_TOTAL_PIXELS,
    numbered_images,
    read_animation,
    read_rgba,
    stack_frames,
    turn_places,
)
from mv3d.views.masks import foreground_alpha
from mv3d.views.reading import OrbitReading
from mv3d.views.views import Views

MIN_VIEWS = 3
_GOOD_RECALL = 0.95  # of silhouettes that are those of one orbit
_MAX_JSON_BYTES = 64_000_000
_DISTORTION = ("k1", "k2", "k3", "k4", "p1", "p2")


def load_views(path: str | os.PathLike[str], reading: OrbitReading | None = None, **settings: Any) -> Views:
    """Posed RGBA views from a file or a folder.

    path: a folder with transforms.json (ours or nerfstudio's) or transforms_train.json (NeRF-synthetic); such a
    file itself; a gif, webp or video of one orbit; a folder of numbered frames of one orbit.
    reading, settings: of an orbit without cameras; the settings are fields of OrbitReading, over those of `reading`.

    Raises InputError for anything that cannot be used, with the reason, UsageError for angles out of range.
    """
    reading = with_settings(reading or OrbitReading(), settings, "load_views")
    path, places = Path(path), None
    photo = path.is_file() and path.suffix.lower() in IMAGE_SUFFIXES
    hint = f"; one photo becomes a mesh with: mv3d make {path}" if photo else ""
    if not path.exists():
        raise InputError(f"{path}: expected a folder of views or an orbit video, found nothing there")
    if path.is_dir():
        for name in ("transforms.json", "transforms_train.json"):
            if (path / name).is_file():
                return _from_transforms(path / name, reading)
        files = numbered_images(path)
        if not files:
            raise InputError(
                f"{path}: expected transforms.json, transforms_train.json or numbered frames, found none of them"
            )
        if len(files) > MAX_FRAMES:
            raise InputError(f"{path}: expected at most {MAX_FRAMES} frames, got {len(files)}; thin them out")
        if len(files) > 1:
            places = turn_places(files)
        frames = stack_frames([read_rgba(file) for file in files], str(path))
    elif path.suffix.lower() == ".json":
        return _from_transforms(path, reading)
    elif path.suffix.lower() in ANIMATION_SUFFIXES:
        frames = read_animation(path)
    else:
        raise InputError(
            f"{path}: expected a folder, a transforms.json, or one of {', '.join(ANIMATION_SUFFIXES)}, got {path.suffix or 'no suffix'}{hint}"
        )
    if len(frames) < MIN_VIEWS:
        raise InputError(f"{path}: expected at least {MIN_VIEWS} views, got {len(frames)}{hint}")
    images = with_alpha(frames)
    _require_foreground(images, path)
    return _from_orbit(images, path, reading, *(places or (range(len(images)), len(images))))


def with_alpha(frames: Float[np.ndarray, "n h w 4"]) -> Float[np.ndarray, "n h w 4"]:
    """The frames' own alpha where any pixel is transparent, else a mask from their uniform background."""
    if (frames[..., 3] < 0.5).any():
        return frames
    return foreground_alpha(frames[..., :3])


def _from_orbit(
    images: Float[np.ndarray, "n h w 4"],
    path: Path,
    reading: OrbitReading,
    places: Sequence[int],
    turn: int,
) -> Views:
    """places: of the frames, among the `turn` even steps of one turn."""
    count, height, width = images.shape[:3]
    elevation_deg, fov_deg = reading.elevation_deg, reading.fov_deg
    azimuths, others = (
        sv3d_azimuths_deg(turn, sign * reading.azimuth_sign)[list(places)] for sign in (1, -1)
    )
    if turn != count:
        missing = [str(place + 1) for place in range(turn) if place not in places]
        warnings.warn(
            f"{path}: {len(missing)} of {turn} frames missing by their numbers (place {', '.join(missing[:5])}"
            f"{', …' if len(missing) > 5 else ''}); the others keep their places in the turn",
            Mv3dWarning,
            stacklevel=3,
        )
    if elevation_deg is None:
        found = estimate_elevation(images[..., 3], azimuths, radius=SV3D_RADIUS, fov_deg=fov_deg)
        if found.recall < _GOOD_RECALL:
            other = estimate_elevation(images[..., 3], others, radius=SV3D_RADIUS, fov_deg=fov_deg)
            if other.recall > max(_GOOD_RECALL, found.recall + 0.02):
                raise InputError(
                    f"{path}: the silhouettes fit an orbit in the other direction better ({other.recall:.1%} against "
                    f"{found.recall:.1%} covered); use --azimuth-sign {-reading.azimuth_sign}"
                )
        elevation_deg = found.elevation_deg
    orbit = Orbit((float(elevation_deg),) * count, tuple(azimuths.tolist()), SV3D_RADIUS, fov_deg, count - 1)
    return Views(images, orbit.cameras(width, height), orbit, count - 1)


def _from_transforms(path: Path, reading: OrbitReading) -> Views:
    if reading != OrbitReading():
        given = ", ".join(reading.changed())
        raise UsageError(f"{given}: expected only with an orbit without cameras; {path} has its own")
    document = _read_json(path)
    frames = document.get("frames")
    if not isinstance(frames, list) or not all(isinstance(frame, dict) for frame in frames):
        raise InputError(f'{path}: expected "frames": a list of objects with file_path and transform_matrix')
    if len(frames) < MIN_VIEWS:
        raise InputError(f"{path}: expected at least {MIN_VIEWS} views, got {len(frames)}")
    if len(frames) > MAX_FRAMES:
        raise InputError(f"{path}: expected at most {MAX_FRAMES} views, got {len(frames)}; thin them out")
    root = path.parent
    with_mask = [frame for frame in frames if frame.get("mask_path")]
    if with_mask and len(with_mask) != len(frames):
        raise InputError(
            f"{path}: expected mask_path in all frames or in none, got it in {len(with_mask)} of {len(frames)}"
        )
    images, poses, intrinsics = [], [], []
    for index, frame in enumerate(frames):
        image = read_rgba(_inside(root, frame.get("file_path"), path, index))
        if images and image.shape != images[0].shape:
            raise InputError(
                f"{path}: frame {index}: expected {images[0].shape[1]}x{images[0].shape[0]} as the first image, got "
                f"{image.shape[1]}x{image.shape[0]}; resize them to one size"
            )
        if (len(images) + 1) * image.shape[0] * image.shape[1] > MAX_TOTAL_PIXELS:
            raise InputError(
                f"{path}: expected at most {MAX_TOTAL_PIXELS} pixels in all views, got more; scale them down"
            )
        if with_mask:
            mask = read_rgba(_inside(root, frame["mask_path"], path, index))
            if mask.shape != image.shape:
                raise InputError(
                    f"{path}: frame {index}: expected a mask of {image.shape[1]}x{image.shape[0]}, got "
                    f"{mask.shape[1]}x{mask.shape[0]}"
                )
            image[..., 3] *= mask[..., :3].max(-1)
        images.append(image)
        poses.append(_pose(frame, path, index))
        intrinsics.append(_intrinsics({**document, **frame}, image.shape[1], image.shape[0], path, index))
    stacked = np.stack(images)
    height, width = stacked.shape[1:3]
    focal_x, focal_y, center_x, center_y = np.array(intrinsics).T
    try:
        cameras = Cameras(np.stack(poses), focal_x, focal_y, center_x, center_y, width, height)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    orbit = _orbit(document.get("orbit"), len(frames), path)
    images = with_alpha(stacked)
    _require_foreground(images, path)
    return Views(images, cameras, orbit, orbit.input_view if orbit else None, _solid(path))


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
        document = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: expected JSON, got something cut off or damaged ({error})") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    if not isinstance(document, dict):
        raise InputError(f"{path}: expected a JSON object with frames, got {type(document).__name__}")
    return document


def _inside(root: Path, name: Any, path: Path, index: int) -> Path:
    """The file that a frame names, refused where it leads out of the folder, by .. or by a link."""
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


def _pose(frame: dict[str, Any], path: Path, index: int) -> Float[np.ndarray, "4 4"]:
    try:
        pose = np.array(frame["transform_matrix"], np.float64)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise InputError(
            f"{path}: frame {index}: expected transform_matrix as 4x4 numbers, got none"
        ) from error
    if pose.shape == (3, 4):
        pose = np.vstack([pose, [0, 0, 0, 1]])
    if pose.shape != (4, 4):
        raise InputError(f"{path}: frame {index}: expected transform_matrix of shape 4x4, got {pose.shape}")
    return pose


def _intrinsics(
    values: dict[str, Any], width: int, height: int, path: Path, index: int
) -> tuple[float, float, float, float]:
    """fl_x, fl_y, cx, cy for the image as it is on disk; values are the frame's own over the shared ones."""
    where = f"{path}: frame {index}"
    model = values.get("camera_model", "PINHOLE")
    if model not in ("PINHOLE", "OPENCV", "SIMPLE_PINHOLE", "PERSPECTIVE", "SIMPLE_RADIAL", "RADIAL"):
        raise InputError(
            f"{where}: expected a perspective camera_model, got {shown(model)}; undistort the images first"
        )
    try:
        bent = [key for key in _DISTORTION if abs(float(values.get(key) or 0)) > 1e-6]
        if bent:
            raise InputError(
                f"{where}: lens distortion ({', '.join(bent)}) is not supported; undistort the images first"
            )
        own_width, own_height = float(values.get("w") or width), float(values.get("h") or height)
        focal_x, focal_y = _focal(values, "x", own_width), _focal(values, "y", own_height)
        if focal_x is None:
            raise InputError(f"{where}: expected fl_x or camera_angle_x, got neither; add the intrinsics")
        focal_y = focal_x if focal_y is None else focal_y
        center_x, center_y = float(values.get("cx", own_width / 2)), float(values.get("cy", own_height / 2))
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{where}: expected intrinsics as numbers ({shown(error)})") from error
    if not (0 < own_width < math.inf and 0 < own_height < math.inf):
        raise InputError(f"{where}: expected w and h in pixels, got {own_width:g}x{own_height:g}")
    scale_x, scale_y = width / own_width, height / own_height
    if not abs(width * own_height - height * own_width) <= 0.02 * height * own_width:
        raise InputError(
            f"{where}: expected an image of {own_width:g}x{own_height:g} or a scaled copy, got {width}x{height}"
        )
    return focal_x * scale_x, focal_y * scale_y, center_x * scale_x, center_y * scale_y


def _focal(values: dict[str, Any], axis: str, size: float) -> float | None:
    if values.get(f"fl_{axis}") is not None:
        return float(values[f"fl_{axis}"])
    angle = values.get(f"camera_angle_{axis}")
    return None if angle is None else 0.5 * size / np.tan(float(angle) / 2)


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


def _require_foreground(images: Float[np.ndarray, "n h w 4"], path: Path) -> None:
    for index, image in enumerate(images):
        if not (image[..., 3] > 0.5).any():
            raise InputError(
                f"{path}: view {index} is fully transparent; expected an object in every view; remove the view"
            )
