"""Views from what people have: folders with cameras of nerfstudio, COLMAP and others, orbit videos, frame folders."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from mv3d.core.errors import InputError, Mv3dWarning, UsageError
from mv3d.core.locking import mend
from mv3d.core.settings import with_settings
from mv3d.render.cameras import SV3D_RADIUS, Orbit, sv3d_azimuths_deg
from mv3d.views.colmap import find_model, posed_frames, read_model
from mv3d.views.cutouts import with_alpha
from mv3d.views.elevation import estimate_elevation
from mv3d.views.images import (
    MAX_FRAMES,
    numbered_images,
    photo_hint,
    read_animation,
    read_rgba,
    require_views,
    skipped_sentence,
    stack_frames,
    turn_places,
)
from mv3d.views.mask_files import masks_of, read_mask, without_inversion, without_masks
from mv3d.views.object_world import in_object_world
from mv3d.views.posed import MIN_VIEWS, read_posed, require_foreground
from mv3d.views.reading import OrbitReading
from mv3d.views.transforms import TRANSFORMS, read_transforms
from mv3d.views.views import Views

_GOOD_RECALL = 0.95  # of silhouettes that are those of one orbit
FRAME_FOLDER = "images"
"""Frames without cameras may lie in it, with masks beside it."""


def load_views(path: str | os.PathLike[str], reading: OrbitReading | None = None, **settings: Any) -> Views:
    """Posed RGBA views from a file or a folder, straight, upright, cut out; what is doubtful is issued as Mv3dWarning.

    path: a folder with transforms.json (ours, nerfstudio's, instant-ngp's) or transforms_train.json (NeRF-synthetic);
    such a file itself; a folder with a COLMAP model (sparse/0) and images/; a gif, webp or video of one orbit; a folder
    of numbered frames of one orbit. Masks may stand beside the images (docs/what-mv3d-reads.md).
    reading, settings: of an orbit without cameras; the settings are fields of OrbitReading, over those of `reading`.

    Raises InputError for anything that cannot be used, with the reason, UsageError for angles out of range.
    """
    views = read_views(path, with_settings(reading or OrbitReading(), settings, "load_views"))
    for text in views.warnings:
        warnings.warn(text, Mv3dWarning, stacklevel=2)
    return views


def read_views(path: str | os.PathLike[str], reading: OrbitReading | None = None) -> Views:
    """`load_views`, but what is doubtful is only in the views' `warnings`."""
    path, reading = Path(path), reading or OrbitReading()
    mend(path, path.parent)
    require_views(path)
    if path.is_dir():
        for name in TRANSFORMS:
            if (path / name).is_file():
                return _posed(path / name, reading)
        return _posed(path, reading) if find_model(path) else _from_frames(path, reading)
    if path.suffix.lower() == ".json":
        return _posed(path, reading)
    frames, told = read_animation(path), []
    if len(frames) < MIN_VIEWS:
        raise InputError(f"{path}: expected at least {MIN_VIEWS} views, got {len(frames)}{photo_hint(path)}")
    images = with_alpha(frames, told)
    return _from_orbit(images, path, reading, range(len(images)), len(images), told)


def _posed(path: Path, reading: OrbitReading) -> Views:
    if reading != OrbitReading():
        given = ", ".join(reading.changed())
        raise UsageError(f"{given}: expected only with an orbit without cameras; {path} has its own")
    if path.is_file():
        return read_transforms(path)
    folder = find_model(path)
    assert folder is not None, "looked for before"
    model = read_model(folder)
    return in_object_world(read_posed(posed_frames(model, folder, path), folder, path), model.points)


def _from_frames(path: Path, reading: OrbitReading) -> Views:
    """A folder of numbered frames, or one with these in images/."""
    files, folder = without_masks(numbered_images(path)), path
    if not files and (path / FRAME_FOLDER).is_dir():
        folder = path / FRAME_FOLDER
        files = without_masks(numbered_images(folder))
    told = [f"{folder}: {text}"] if (text := skipped_sentence(folder)) else []
    if not files:
        raise InputError(
            f"{path}: expected {', '.join(TRANSFORMS)}, a COLMAP model in sparse/0, or numbered frames, found none of them"
            + (f" ({told[0]})" if told else "")
        )
    if len(files) > MAX_FRAMES:
        raise InputError(f"{path}: expected at most {MAX_FRAMES} frames, got {len(files)}; thin them out")
    places, turn = turn_places(files) if len(files) > 1 else (range(1), 1)
    frames = stack_frames([read_rgba(file, told=told) for file in files], str(path))
    if len(frames) < MIN_VIEWS:
        raise InputError(f"{path}: expected at least {MIN_VIEWS} views, got {len(frames)}")
    masks = masks_of(files, path)
    if masks is not None:
        alphas = stack_frames([read_mask(mask, upright=True)[..., None] for mask in masks], f"{path}: masks")
        if alphas.shape[1:3] != frames.shape[1:3]:
            raise InputError(
                f"{path}: expected masks of {frames.shape[2]}x{frames.shape[1]}, got {alphas.shape[2]}x{alphas.shape[1]}"
            )
        frames[..., 3] *= without_inversion(alphas[..., 0], f"{path}: the masks", told)
    images = with_alpha(frames, told)
    return _from_orbit(images, path, reading, places, turn, told)


def _from_orbit(
    images: Float[np.ndarray, "n h w 4"],
    path: Path,
    reading: OrbitReading,
    places: Sequence[int],
    turn: int,
    told: list[str],
) -> Views:
    """places: of the frames, among the `turn` even steps of one turn."""
    require_foreground(images, path)
    count, height, width = images.shape[:3]
    elevation_deg, fov_deg = reading.elevation_deg, reading.fov_deg
    azimuths, others = (
        sv3d_azimuths_deg(turn, sign * reading.azimuth_sign)[list(places)] for sign in (1, -1)
    )
    if turn != count:
        missing = [str(place + 1) for place in range(turn) if place not in places]
        told.append(
            f"{path}: {len(missing)} of {turn} frames missing by their numbers (place {', '.join(missing[:5])}"
            f"{', …' if len(missing) > 5 else ''}); the others keep their places in the turn"
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
    return Views(images, orbit.cameras(width, height), orbit, count - 1, warnings=tuple(told))
